// timeout: 300 s
/** Every decoder of the product against the same laws: valid input, noise, damage, and announced sizes (laws.ts). */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DECODERS } from './decoders.ts'
import { announcedSizes, comparable, damagedFor, examine, noiseFor } from './laws.ts'
import { examined } from './open-findings.ts'
import { holds } from './runs.ts'

const RUNS = 150

const valid = suite('valid input')
const noise = suite('noise')
const damage = suite('damaged input')
const sizes = suite('announced sizes')

for (const row of DECODERS) {
  valid(row.name, () => {
    holds(
      fc.property(row.values, (value) => {
        const shown = row.shown ?? ((one: unknown) => one)
        const outcome = examine(row, row.encode(value))
        assert.ok(outcome.ok, 'a valid value is refused')
        if (outcome.ok) assert.is(comparable(shown(outcome.value)), comparable(shown(value)))
      }),
      RUNS,
    )
  })

  noise(row.name, () => {
    holds(
      fc.property(noiseFor(row), (input) => examined(row, input)),
      2 * RUNS,
    )
  })

  damage(row.name, () => {
    holds(
      fc.property(damagedFor(row), (input) => examined(row, input)),
      2 * RUNS,
    )
  })

  if (row.kind !== 'bytes') continue
  sizes(row.name, () => {
    holds(
      fc.property(row.values, (value) => announcedSizes(row, row.encode(value))),
      RUNS / 30,
    )
  })
}

valid.run()
noise.run()
damage.run()
sizes.run()
