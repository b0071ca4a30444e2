// timeout: 300 s
/**
 * One consensus core and authenticated peers that keep no rule at all. They can stop it (an InvariantError ends the process, which is
 * better than a node that lies), in the ways that are listed here and in no other; anything else that is thrown is a bug.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CALLS, type Hostile, HostileWorld, MESSAGES, type Step } from './hostile-world.ts'
import { holds } from './runs.ts'

interface Stop {
  /** Part of what is thrown, or of what the world says. */
  readonly says: string
  readonly by: string
  /** The shortest way there. */
  readonly steps: readonly Step[]
}

function hear(type: Hostile['type'], fields: Partial<Hostile> = {}, more = false): Step {
  const rest = { from: 0, term: 1, index: 0, other: 0, flag: false, entries: [] }
  return { step: 'hear', message: { type, ...rest, ...fields }, more }
}

/** How one buggy or hostile peer alone can stop a node. */
const STOPS: readonly Stop[] = [
  {
    says: 'two leaders in one term',
    by: 'anybody sends a heartbeat or an Append in the present term while another one leads',
    steps: [hear('heartbeat'), hear('append', { from: 38 })],
  },
  {
    says: 'one leader a term',
    by: 'the same, in the turn in which the link to the leader has closed',
    steps: [
      hear('heartbeat'),
      { step: 'call', call: 'close link', which: 1, more: true },
      hear('append', { from: 38 }),
    ],
  },
  {
    says: 'terms in a log never fall',
    by: 'an Append that begins before the commit index with terms lower than what is committed there',
    steps: [
      hear('heartbeat', { index: 1 }),
      hear('append', {
        entries: [
          { rise: 0, kind: 0 },
          { rise: 0, kind: 0 },
        ],
      }),
    ],
  },
]

const distance = fc.oneof(
  { weight: 12, arbitrary: fc.nat(3) },
  { weight: 1, arbitrary: fc.nat(10) },
)

/** The last kind is a configuration that is none. */
const kind = fc.nat(5)

const message: fc.Arbitrary<Hostile> = fc.record({
  type: fc.constantFrom(...MESSAGES),
  from: fc.nat(39),
  term: distance,
  index: distance,
  other: distance,
  flag: fc.nat(3).map((dice) => dice > 0),
  entries: fc.array(fc.record({ rise: fc.nat(1), kind }), { maxLength: 4 }),
})

const more = fc.nat(3).map((dice) => dice === 0)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ step: fc.constant('hear' as const), message, more }) },
  {
    weight: 2,
    arbitrary: fc.record({
      step: fc.constant('call' as const),
      call: fc.constantFrom(...CALLS),
      which: fc.nat(4),
      more,
    }),
  },
)

const hostile = suite('peers that keep no rule')

hostile('stop a core in known ways only, and never do worse', () => {
  const stops = new Map<string, number>()
  let ran = 0
  holds(
    fc.property(fc.nat(), fc.array(step, { maxLength: 80, size: 'max' }), (seed, steps) => {
      const world = new HostileWorld(seed)
      for (const one of steps) {
        ran++
        const stop = world.run(one)
        if (stop === null) continue
        stops.set(stop, (stops.get(stop) ?? 0) + 1)
        return
      }
    }),
    8000,
  )
  const kinds = STOPS.map(({ says }) => {
    const counts = [...stops].filter(([stop]) => stop.includes(says)).map(([, count]) => count)
    return `${counts.reduce((sum, count) => sum + count, 0)} x ${says}`
  })
  console.log(`${ran} steps; ${kinds.join(', ')}`)
  const unknown = [...stops.keys()].filter((stop) => !STOPS.some(({ says }) => stop.includes(says)))
  assert.equal(unknown, [])
})

for (const { says, by, steps } of STOPS) {
  hostile(`"${says}": ${by}`, () => {
    const world = new HostileWorld(1)
    const stops = steps.flatMap((one) => world.run(one) ?? [])
    assert.ok(stops.at(-1)?.includes(says), `it is mended: remove it from the list. ${stops}`)
  })
}

/** Each was one message, or few, that stopped a core. */
const REFUSED: readonly { readonly what: string; readonly steps: readonly Step[] }[] = [
  {
    what: 'a configuration entry whose payload is none',
    steps: [hear('append', { term: 2, flag: true, entries: [{ rise: 1, kind: 5 }] })],
  },
  {
    what: 'the term 2^53 - 1, after which the next campaign had one that nobody reads',
    steps: [hear('heartbeatResponse', { term: 7 }), hear('heartbeat'), hear('timeoutNow')],
  },
]

for (const { what, steps } of REFUSED) {
  hostile(`refused: ${what}`, () => {
    const world = new HostileWorld(1)
    for (const one of steps) assert.is(world.run(one), null)
    assert.ok(world.raft.term <= 3)
  })
}

hostile.run()
