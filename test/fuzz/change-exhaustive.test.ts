/**
 * What comes after a configuration: every small one, and every change of it (paper, section 6). Quorums of neighbours share a
 * replica, ids are never handed out twice, a joint configuration can always be left, and every node can read what is made.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ConfChange, isJoint, leaveJoint, nextRecord } from '../../node/raft/change.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
  MEMBERS_MAX,
  REASON_CHARS_MAX,
  REMOVED_MAX,
} from '../../node/raft/configuration.ts'
import { voteResult } from '../../node/raft/quorum.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Member,
  type MemberId,
  peerIdOf,
} from '../../node/raft/types.ts'
import { wrongStep } from '../support/membership-judge.ts'
import { configurationOf, memberIdentity } from '../support/raft-cluster.ts'
import { holds } from './runs.ts'

const IDS = [1, 2, 3, 4]

function recordOf(voters: readonly MemberId[], learners: readonly MemberId[]): ConfigurationRecord {
  const ids = [...voters, ...learners]
  const members = configurationOf(IDS.length).members.filter((one) => ids.includes(one.memberId))
  const configuration = { voters, votersOutgoing: [], learners, members, nextMemberId: 5 }
  return { clusterId: 'c'.repeat(32), foundingSet: [], settings: {}, configuration }
}

/** Every configuration of up to four members: each a voter, a learner, or not there. */
const RECORDS = Array.from({ length: 3 ** IDS.length }, (_, number) => {
  const partOf = (at: number) => Math.floor(number / 3 ** at) % 3
  return recordOf(
    IDS.filter((_id, at) => partOf(at) === 1),
    IDS.filter((_id, at) => partOf(at) === 2),
  )
}).filter(({ configuration }) => configuration.voters.length > 0)

function newcomer(id: number): Omit<Member, 'memberId'> {
  return { ...memberIdentity(id), name: `n${id}`, urls: [] }
}

/** Every single change that anybody could name, sensible or not. 5 is the id that the next one gets, 6 nobody. */
const CHANGES: readonly ConfChange[] = [
  { type: 'add', member: newcomer(1) },
  { type: 'add', member: newcomer(9) },
  { type: 'settings', settings: { maxVoters: 5 } },
  ...[...IDS, 5, 6].flatMap((memberId): ConfChange[] => [
    { type: 'promote', memberId },
    { type: 'demote', memberId },
    { type: 'remove', memberId },
    ...IDS.flatMap((other): ConfChange[] => [
      { type: 'replace', memberId, with: other, keep: true },
      { type: 'replace', memberId, with: other, keep: false },
    ]),
  ]),
]

/** All sets of members that win an election, as bits of their ids. */
function winning({ members, voters, votersOutgoing }: Configuration): number[] {
  const peers = (ids: readonly MemberId[]) =>
    ids.map((id) => peerIdOf(members.find(({ memberId }) => memberId === id) as Member))
  const quorum = { incoming: peers(voters), outgoing: peers(votersOutgoing) }
  const all = members.map((member) => ({ bit: 1 << member.memberId, peer: peerIdOf(member) }))
  const sets: number[] = []
  for (let bits = 0; bits < 1 << 8; bits += 2) {
    const granted = new Set(all.filter(({ bit }) => (bits & bit) !== 0).map(({ peer }) => peer))
    if (voteResult(quorum, (peer) => granted.has(peer)) === 'won') sets.push(bits)
  }
  return sets
}

const wins = new Map<string, number[]>()

function minimalWins(configuration: Configuration): number[] {
  const { voters, votersOutgoing } = configuration
  const key = `${voters}|${votersOutgoing}`
  const known = wins.get(key)
  if (known !== undefined) return known
  const sets = winning(configuration)
  const minimal = sets.filter(
    (one) => !sets.some((other) => other !== one && (other & one) === other),
  )
  wins.set(key, minimal)
  return minimal
}

function overlap(one: Configuration, other: Configuration): void {
  for (const a of minimalWins(one)) {
    for (const b of minimalWins(other)) {
      assert.ok((a & b) !== 0, `${JSON.stringify([one, other])}: ${a} and ${b} decide apart`)
    }
  }
}

/** What must be so of every record that is made from another one. */
function judge(before: ConfigurationRecord, after: ConfigurationRecord): void {
  const [was, is] = [before.configuration, after.configuration]
  assert.equal(decodeConfigurationRecord(encodeConfigurationRecord(after)), {
    format: 1,
    ...after,
  })
  assert.is(wrongStep(was, is), null)
  assert.ok(is.voters.length > 0)
  const named = new Set([...is.voters, ...is.votersOutgoing, ...is.learners])
  assert.equal(
    is.members.map(({ memberId }) => memberId),
    [...named].sort((a, b) => a - b),
    'every member has a part, and none is there twice',
  )
  for (const member of is.members) {
    const known = was.members.find(({ memberId }) => memberId === member.memberId)
    if (known === undefined) assert.ok(member.memberId >= was.nextMemberId, 'an id of before')
    else assert.equal(known, member)
    assert.ok(member.memberId < is.nextMemberId)
  }
  const present = is.members.map(({ storageId }) => storageId)
  for (const { storageId } of was.members) {
    assert.ok(present.includes(storageId) || after.removed?.includes(storageId), 'forgotten')
  }
  assert.not.ok(after.removed?.some((storageId) => present.includes(storageId)))
}

const changes = suite('every change of every configuration of four')

changes('one or two at a time: what is made is a step of joint consensus, and can be left', () => {
  let made = 0
  const lists = [[], ...CHANGES.map((one) => [one])]
  for (const record of RECORDS) {
    for (const first of lists) {
      for (const second of lists) {
        const both = [...first, ...second]
        const next = nextRecord(record, both, 'r')
        if (!next.ok) continue
        made++
        judge(record, next.record)
        const { voters, votersOutgoing } = next.record.configuration
        const isSame = `${voters}` === `${record.configuration.voters}`
        assert.is(isJoint(next.record.configuration), !isSame)
        assert.equal(votersOutgoing, isSame ? [] : record.configuration.voters)
        if (isSame) continue
        const left = leaveJoint(next.record)
        judge(next.record, left)
        assert.equal(left.configuration.voters, voters)
        // Old and joint, joint and new; never is it said of old and new, which is why there is a joint one.
        overlap(record.configuration, next.record.configuration)
        overlap(next.record.configuration, left.configuration)
        assert.not.ok(nextRecord(next.record, both, '').ok, 'another change during a joint one')
        assert.ok(nextRecord(left, [{ type: 'settings', settings: {} }], '').ok)
      }
    }
  }
  console.log(`${made} changes of ${RECORDS.length} configurations`)
  assert.ok(made > 8000, `${made}`)
})

changes(
  'old and new alone may decide apart: without the joint step there would be two leaders',
  () => {
    let apart = 0
    for (const record of RECORDS) {
      for (const one of CHANGES) {
        for (const two of CHANGES) {
          const next = nextRecord(record, [one, two], '')
          if (!next.ok || !isJoint(next.record.configuration)) continue
          const left = leaveJoint(next.record).configuration
          const old = minimalWins(record.configuration)
          if (old.some((a) => minimalWins(left).some((b) => (a & b) === 0))) apart++
        }
      }
    }
    assert.ok(apart > 100, `${apart}`)
  },
)

const walks = suite('long walks through configurations')

const step = fc.oneof(
  fc.record({ type: fc.constant('add' as const), member: fc.nat(90).map(newcomer) }),
  fc.record({
    type: fc.constantFrom('promote' as const, 'demote' as const, 'remove' as const),
    memberId: fc.nat(40),
  }),
  fc.record({
    type: fc.constant('replace' as const),
    memberId: fc.nat(20),
    with: fc.nat(20),
    keep: fc.boolean(),
  }),
)

walks('no id comes back, and every record can be read, however long it goes on', () => {
  holds(
    fc.property(
      fc.array(fc.tuple(fc.array(step, { maxLength: 3 }), fc.string()), { maxLength: 120 }),
      (steps) => {
        let record = recordOf([1, 2, 3], [])
        const everyone = new Map<MemberId, string>()
        const gone = new Set<MemberId>()
        for (const [list, reason] of steps) {
          const next = nextRecord(record, list, reason)
          if (!next.ok) continue
          const made = isJoint(next.record.configuration)
            ? [next.record, leaveJoint(next.record)]
            : [next.record]
          for (const one of made) {
            judge(record, one)
            record = one
            const { members } = record.configuration
            for (const member of members) {
              const peer = peerIdOf(member)
              assert.is(everyone.get(member.memberId) ?? peer, peer)
              assert.not.ok(gone.has(member.memberId), `${member.memberId} comes back`)
              everyone.set(member.memberId, peer)
            }
            for (const id of everyone.keys()) {
              if (!members.some(({ memberId }) => memberId === id)) gone.add(id)
            }
            assert.ok(members.length <= MEMBERS_MAX)
            assert.ok((record.removed?.length ?? 0) <= REMOVED_MAX)
            assert.ok((record.reason?.length ?? 0) <= REASON_CHARS_MAX)
          }
        }
      },
    ),
    200,
  )
})

walks('the list of the removed keeps the newest', () => {
  let record = recordOf([1], [])
  for (let i = 0; i < REMOVED_MAX + 10; i++) {
    const added = nextRecord(record, [{ type: 'add', member: newcomer(100 + i) }], '')
    assert.ok(added.ok)
    const { nextMemberId } = record.configuration
    const removed = nextRecord(added.record, [{ type: 'remove', memberId: nextMemberId }], '')
    assert.ok(removed.ok)
    record = removed.record
  }
  assert.is(record.removed?.length, REMOVED_MAX)
  assert.is(record.removed?.at(-1), newcomer(100 + REMOVED_MAX + 9).storageId)
  assert.is(record.configuration.nextMemberId, 5 + REMOVED_MAX + 10)
})

changes.run()
walks.run()
