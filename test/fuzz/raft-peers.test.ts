// timeout: 300 s
/**
 * One consensus core and any peers. Those that keep the rules of the paper, in whatever order and however oddly, must never make it
 * throw or break a promise. Those that keep none may stop it, in ways that are listed here, and must not do worse.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { GHOST_ACTS, GhostWorld, REAL_CALLS, type Turn } from './ghost-world.ts'
import { holds } from './runs.ts'

const which = fc.oneof({ weight: 3, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(79) })

const turn: fc.Arbitrary<Turn> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      turn: fc.constant('deliver' as const),
      which,
      keep: fc.nat(6).map((dice) => dice === 0),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      turn: fc.constant('real' as const),
      call: fc.constantFrom(...REAL_CALLS),
      which,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      turn: fc.constant('ghost' as const),
      act: fc.constantFrom(...GHOST_ACTS),
      which,
    }),
  },
)

/** Peace and elections, so that there is something to spoil. */
const phrase: fc.Arbitrary<Turn> = fc.oneof(
  fc.record({ turn: fc.constant('settle' as const), rounds: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ turn: fc.constant('elect' as const), which }),
  fc.record({ turn: fc.constant('rule' as const) }),
)

const turns = fc.array(fc.oneof({ weight: 8, arbitrary: turn }, { weight: 1, arbitrary: phrase }), {
  maxLength: 150,
  size: 'max',
})

const peers = suite('peers that keep the rules')

peers('never make a core throw, and are never betrayed by it', () => {
  const sum = { led: 0, committed: 0, reads: 0, restarts: 0, truncated: 0 }
  holds(
    fc.property(fc.constantFrom(2, 3, 3, 5), fc.nat(), turns, (size, seed, all) => {
      const world = new GhostWorld(size, seed)
      for (const one of all) world.run(one)
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += world.seen[key]
    }),
    6000,
  )
  console.log(JSON.stringify(sum))
  for (const [what, count] of Object.entries(sum)) assert.ok(count > 0, what)
})

peers.run()
