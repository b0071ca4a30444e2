/** Quorums of up to four replicas in every joint configuration, with every vote and every index: by definition, and by overlap. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { agreedIndex, type Quorum, type VoteResult, voteResult } from '../../node/raft/quorum.ts'
import { Tracker } from '../../node/raft/tracker.ts'
import { type Configuration, peerIdOf } from '../../node/raft/types.ts'
import { configuration } from './arbitraries.ts'
import { holds } from './runs.ts'

const NAMES = ['a', 'b', 'c', 'd']
const SETS = Array.from({ length: 1 << NAMES.length }, (_, bits) =>
  NAMES.filter((_name, at) => (bits >> at) & 1),
)
const JOINT: readonly Quorum[] = SETS.slice(1).flatMap((incoming) =>
  SETS.map((outgoing) => ({ incoming, outgoing })),
)

/** Every way to give each of the four one of `values`. */
function* assignments<T>(values: readonly T[]): Generator<ReadonlyMap<string, T>> {
  const count = values.length ** NAMES.length
  for (let number = 0; number < count; number++) {
    yield new Map(
      NAMES.map((name, at) => [
        name,
        values[Math.floor(number / values.length ** at) % values.length] as T,
      ]),
    )
  }
}

/** More than half of each half, written down once more. */
function hasBoth({ incoming, outgoing }: Quorum, granted: ReadonlySet<string>): boolean {
  return [incoming, outgoing].every(
    (half) =>
      half.length === 0 || half.filter((name) => granted.has(name)).length * 2 > half.length,
  )
}

const quorum = suite('quorums of four, all of them')

quorum('won and lost are what no further vote can change', () => {
  let checked = 0
  for (const joint of JOINT) {
    const winning = SETS.map((granted) => hasBoth(joint, new Set(granted)))
    for (const votes of assignments([true, false, undefined])) {
      // Every completion of the votes that are still out.
      const ends = SETS.map((granted, at) => ({ granted, won: winning[at] as boolean })).filter(
        ({ granted }) =>
          NAMES.every(
            (name) => votes.get(name) === undefined || votes.get(name) === granted.includes(name),
          ),
      )
      const expected: VoteResult = ends.every(({ won }) => won)
        ? 'won'
        : ends.some(({ won }) => won)
          ? 'pending'
          : 'lost'
      assert.is(
        voteResult(joint, (name) => votes.get(name)),
        expected,
      )
      checked++
    }
  }
  console.log(`${checked} elections`)
})

quorum('the agreed index is the highest that a quorum has reached', () => {
  for (const joint of JOINT) {
    for (const reached of assignments([0, 1, 2, 5])) {
      const at = (index: number) =>
        new Set(NAMES.filter((name) => (reached.get(name) ?? 0) >= index))
      const expected = [5, 4, 3, 2, 1, 0].find((index) => hasBoth(joint, at(index)))
      assert.is(
        agreedIndex(joint, (name) => reached.get(name) ?? 0),
        expected,
      )
    }
  }
})

quorum('two quorums of one configuration, or of two neighbouring ones, share a replica', () => {
  const wins = (joint: Quorum, granted: readonly string[]): boolean =>
    voteResult(joint, (name) => granted.includes(name)) === 'won'
  for (const joint of JOINT) {
    const { incoming, outgoing } = joint
    const next = { incoming, outgoing: [] }
    const before = { incoming: outgoing, outgoing: [] }
    for (const one of SETS.filter((granted) => wins(joint, granted))) {
      for (const other of [joint, next, ...(outgoing.length === 0 ? [] : [before])]) {
        for (const two of SETS.filter((granted) => wins(other, granted))) {
          assert.ok(
            one.some((name) => two.includes(name)),
            `${one} and ${two} elect two leaders`,
          )
        }
      }
    }
  }
})

const tracker = suite('who counts')

/** The pair names a replica: two members with one pair would be one replica that counts twice. */
const distinct = configuration.filter(
  ({ members }) => new Set(members.map(peerIdOf)).size === members.length,
)

tracker('is what the configuration says, learners apart', () => {
  holds(
    fc.property(distinct, fc.nat(4), (one: Configuration, which) => {
      const ids = one.members.map((member) => peerIdOf(member))
      const self = ids[which % ids.length] as string
      const tracked = new Tracker(self)
      tracked.use(one)
      const voting = one.members
        .filter(({ memberId }) => [...one.voters, ...one.votersOutgoing].includes(memberId))
        .map((member) => peerIdOf(member))
      assert.equal([...tracked.voters].sort(), [...voting].sort())
      assert.is(tracked.selfIsVoter, voting.includes(self))
      assert.equal([...tracked.peers].sort(), ids.filter((id) => id !== self).sort())
      tracked.track({ lastIndex: 4, window: { messagesMax: 1, bytesMax: 1 }, keep: false })
      assert.equal([...tracked.progress.keys()].sort(), [...tracked.peers].sort())
      // Nobody has answered: only who is alone has a quorum of its own.
      const alone = voting.length === 1 && voting[0] === self
      assert.is(tracked.quorumEchoed(1), alone)
      assert.is(tracked.votes(new Map([[self, true]])), alone ? 'won' : 'pending')
      tracked.use(null)
      assert.is(tracked.votes(new Map(ids.map((id) => [id, true]))), 'lost')
    }),
    500,
  )
})

quorum.run()
tracker.run()
