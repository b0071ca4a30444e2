// timeout: 300 s
/** Decoders of JSON: every value of a valid tree in turn becomes each of a list of hostile ones. And what is known to be broken. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DECODERS } from './decoders.ts'
import { everyDamaged, examine } from './laws.ts'
import { examined, OPEN_FINDINGS } from './open-findings.ts'
import { holds } from './runs.ts'

const RUNS = 2

const trees = suite('every place of a tree')

for (const row of DECODERS) {
  if (row.kind !== 'json' && row.inner !== 'json') continue
  trees(row.name, () => {
    holds(
      fc.property(row.values, (value) => {
        everyDamaged(row, row.encode(value), (input) => examined(row, input))
      }),
      RUNS,
    )
  })
}

const open = suite('open findings')

for (const { row: name, what, example, matches } of OPEN_FINDINGS) {
  open(`${name}: ${what}`, () => {
    const row = DECODERS.find((one) => one.name === name)
    assert.ok(row !== undefined)
    let failure: unknown = null
    try {
      examine(row, example)
    } catch (error) {
      failure = error
    }
    const isBroken = failure instanceof Error && matches(failure, example)
    assert.ok(isBroken, 'it is mended: remove it from open-findings.ts')
  })
}

trees('every finding names a decoder', () => {
  const names = DECODERS.map((row) => row.name)
  for (const { row } of OPEN_FINDINGS) assert.ok(names.includes(row), row)
})

trees.run()
if (OPEN_FINDINGS.length > 0) open.run()
