// timeout: 300 s
/**
 * The check of the checks, bounded: the table of planted bugs is sound, and a few of them are found here. All of them are hunted by
 * `npm run sim:planted`, which .ci/run does with a time for each.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { huntAll, plant, row } from './planted.ts'
import { PLANTED_BUGS } from './planted-bugs.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Of different kinds, and quick to find: a promise, an election, a read, a session, a disk. */
const HERE = [
  'promises leave before they are saved',
  'a candidate with an older log gets votes',
  'a read does not wait until its index is applied',
  'replies are forgotten while the client still needs them',
  'the log calls a batch durable before the fsync has ended',
]
const SECONDS = 60

const table = suite('the table of planted bugs')

table('has at least twenty, each with a name of its own', () => {
  assert.ok(PLANTED_BUGS.length >= 20)
  assert.is(new Set(PLANTED_BUGS.map(({ name }) => name)).size, PLANTED_BUGS.length)
})

table('each text stands in its file exactly once, and is changed', () => {
  for (const bug of PLANTED_BUGS) {
    const source = readFileSync(join(ROOT, bug.file), 'utf8')
    assert.is.not(plant(bug, source), source, bug.name)
  }
})

table('a text that is not there, or there twice, is an error', () => {
  const bug = { name: 'x', file: 'f', find: 'a', replace: 'b', breaks: 'r' }
  assert.is(plant(bug, 'cad'), 'cbd')
  assert.throws(() => plant(bug, 'c'), /0 times/)
  assert.throws(() => plant(bug, 'aa'), /2 times/)
})

table('production has no word of planted bugs', () => {
  for (const { file } of PLANTED_BUGS) {
    assert.not.match(readFileSync(join(ROOT, file), 'utf8'), /planted bug/i)
  }
})

const found = suite('planted bugs')

found('a few of each kind are found in a copy of the tree', async () => {
  const bugs = PLANTED_BUGS.filter(({ name }) => HERE.includes(name))
  assert.is(bugs.length, HERE.length)
  const hunts = await huntAll(bugs, {
    seconds: SECONDS,
    from: 1,
    told: (hunt) => console.log(row(hunt)),
  })
  assert.equal(
    hunts.filter((hunt) => hunt.found === null).map((hunt) => hunt.bug.name),
    [],
  )
})

table.run()
found.run()
