/** Rule 16 on the real rules of founding. The walks through every interleaving, and the bugs planted in them, are in test/unit/founding-*.test.ts. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { World, WorldError } from '../support/founding-world.ts'

const founding = suite('rule 16: one cluster a topic')

founding(
  '16: at most one clusterId per topic for up to 2N-1 candidates: N = 2 and 3 in cruel worlds that turn kind',
  () => {
    let crashes = 0
    for (let seed = 1; seed <= 40; seed++) {
      const expect = 2 + (seed % 2)
      const severity = 0.2 + (seed % 5) / 5
      const world = new World({ seed, expect, candidates: 2 * expect - 1, severity })
      world.run(20_000)
      world.beKind()
      assert.ok(
        world.run(140_000, () => world.allBound() !== null),
        `seed ${seed}: somebody is left outside`,
      )
      assert.is(world.founded.size, 1, `seed ${seed}`)
      crashes += world.crashes
    }
    assert.ok(crashes > 40, `${crashes} crashes`)
  },
)

/** Three nodes found a cluster; one of them is killed at `atMs`. Returns how long it all took. */
function foundWithKill(seed: number, victim: number, atMs: number): number {
  const world = new World({ seed, expect: 3, candidates: 3 })
  world.run(atMs)
  world.crash(victim)
  world.beKind()
  const what = `seed ${seed}: n${victim + 1} killed at ${atMs} ms`
  try {
    assert.ok(
      world.run(atMs + 60_000, () => world.allBound() !== null),
      what,
    )
  } catch (error) {
    if (error instanceof WorldError) throw new Error(`${what}: ${error.message}`)
    throw error
  }
  assert.equal([...world.founded.keys()], [world.allBound()], what)
  // Founders all start from the very same entry.
  const first = new Set(world.machines.map(({ log }) => log?.entry1))
  assert.equal([...first], [...world.founded.values()], what)
  return world.nowMs
}

founding('16: kill at every step resumes', () => {
  let longest = 0
  for (let seed = 1; seed <= 2; seed++) {
    for (let victim = 0; victim < 3; victim++) {
      // From before anybody is linked until all are bound.
      for (let atMs = 50; atMs <= 5_000; atMs += 50) {
        longest = Math.max(longest, foundWithKill(seed, victim, atMs) - atMs)
      }
    }
  }
  assert.ok(longest > 2_000, 'some had to begin again')
})

founding.run()
