/**
 * The autopilot's rules as a table: a situation, what is proposed in it, and why. Then what must hold in any situation: quorum
 * safety, odd targets, the limit, and an end.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type AutopilotInput, decide } from '../../node/autopilot.ts'
import { type ConfChange, nextRecord } from '../../node/raft/change.ts'
import { majority } from '../../node/raft/quorum.ts'
import type { MemberId } from '../../node/raft/types.ts'
import { type More, shown, situation, storageIdOf } from '../support/autopilot-situations.ts'

const autopilot = suite('autopilot')

/** Situation, what is proposed (autopilot-situations.ts explains both notations), the reason, and what is unusual. */
type Row = readonly [string, string, string, More?]

const at = (maxVoters: number): More => ({ settings: { maxVoters } })
const APPROVE: More = { settings: { admit: 'approve' } }

function check(rows: readonly Row[]): void {
  for (const [text, changes, reason, more] of rows) {
    const advice = decide(situation(text, more))
    const where = `${text}  ${JSON.stringify(more ?? {})}`
    assert.is(shown(advice), changes, where)
    if (changes !== '') assert.match(advice.decision?.reason ?? '', reason, where)
    else assert.is(advice.decision, null, where)
  }
}

autopilot('nothing is proposed where nothing is wrong', () => {
  check([
    ['1* 2 3', '', ''],
    ['1*', '', ''],
    ['1* 2 3 4 5', '', ''],
    // One stand-by would make an even number.
    ['1* 2 3 | 4', '', ''],
    ['1* | 2', '', ''],
    // 20 nodes: the rest listens.
    ['1* 2 3 4 5 | 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20', '', ''],
    // More voters than an odd number within the limit has are not wanted.
    ['1* 2 3 | 4 5', '', '', at(3)],
    ['1* 2 3 | 4 5', '', '', at(4)],
  ])
})

autopilot('nothing begins while something else is under way', () => {
  check([
    ['1* 2 3 | 4 5 | a', '', '', { busy: true }],
    ['1* 2 3 4 5 | 6 | a', '', '', { outgoing: '1 2 3' }],
    ['1* 2x 3 | 4', '', '', { busy: true }],
  ])
})

autopilot('who knows the topic is admitted as a learner', () => {
  check([
    ['1* 2 3 | | a', '+a', 'admitted: 00000449'],
    ['1* 2 3 | | a b c', '+a +b +c', 'admitted: 00000449, 0000044a, 0000044b'],
    ['1* | | a', '+a', 'admitted'],
    // A silent voter is no reason to wait: learners count nowhere.
    ['1* 2 3- | | a', '+a', 'admitted'],
    // So that the reason can name them.
    ['1* 2 3 | | a b c d e f g h i j', '+a +b +c +d +e +f +g +h', 'admitted'],
    // Admission comes before growth, so that nobody waits for a vote to be given.
    ['1* 2 3 | 4 5 | a', '+a', 'admitted'],
    ['1* 2 3 | | a', '', '', APPROVE],
  ])
})

autopilot('who must not come in', () => {
  check([
    ['1* 2 3 | | a!', '', ''],
    // A copied directory under another key.
    ['1* 2 3 | | a#2', '', ''],
    // The key of a member that is alive: a clone.
    ['1* 2 3 | | a=2', '', ''],
    ['1* 2 3 | | a=1', '', ''],
    // The same key, the member is silent: its new self.
    ['1* 2 3- | | a=3', '+a', 'admitted: 00000003'],
    // Two with one key: nobody can tell which is right.
    ['1* 2 3- | | a=3 b=3', '', ''],
    ['1* 2 3 | | a! b', '+b', 'admitted: 0000044a'],
  ])
})

autopilot('voters grow from odd to odd, in one change', () => {
  check([
    ['1* 2 3 | 4 5', '^4 ^5', '5 voters bear more losses: members 4, 5 may vote'],
    ['1* 2 3 | 4 5 6', '^4 ^5', '5 voters'],
    ['1* | 2 3', '^2 ^3', '3 voters'],
    ['1* | 2 3 4 5', '^2 ^3', '3 voters'],
    ['1* 2 3 4 5 | 6 7', '^6 ^7', '7 voters', at(7)],
    ['1* 2 3 4 5 | 6 7', '^6 ^7', '7 voters', at(8)],
    // One of them is not fit, so neither votes.
    ['1* 2 3 | 4 5<', '', ''],
    ['1* 2 3 | 4 5+', '', ''],
    ['1* 2 3 | 4 5-', '', ''],
    ['1* 2 3 | 4 5x', '-5', 'lost their disks: member 5'],
    ['1* 2 3 | 4 5?', '', ''],
    ['1* 2 3 | 4 5< 6', '^4 ^6', '5 voters'],
    // A voter that is silent for a while hinders nothing: two more make up for it.
    ['1* 2 3- | 4 5', '^4 ^5', '5 voters'],
    // One machine does not get two votes.
    ['1* 2 3- | 4 5=3', '', ''],
    ['1* 2 3 | 4 5=4', '', ''],
  ])
})

autopilot(
  'an even number becomes odd as soon as somebody can vote; nobody loses a vote because another left',
  () => {
    check([
      ['1* 2', '', ''],
      ['1* 2 3 4', '', ''],
      ['1* 2 | 3', '^3', '3 voters bear more losses: member 3 may vote'],
      ['1* 2 3 4 | 5', '^5', '5 voters'],
      ['1* 2 3 4 | 5 6', '^5', '5 voters'],
      // Before the silent one is swapped: the number stays even otherwise.
      ['1* 2 3 4-- | 5', '^5', '5 voters'],
      ['1* 2 3 4 | 5<', '', ''],
      // Both of two are needed, and one is silent: the change could never be made.
      ['1* 2- | 3', '', ''],
    ])
  },
)

autopilot(
  "a voter out of everybody's reach is swapped for a stand-by and stays as a learner",
  () => {
    check([
      ['1* 2 3- | 4', '', ''],
      [
        '1* 2 3-- | 4',
        '4>3',
        "member 3 is out of everybody's reach for 600 s: member 4 votes in its place",
      ],
      // A new leader has not waited yet, whatever the one before had seen.
      ['1* 2 3- | 4', '', '', { settings: { replaceAfterMs: 1_200_000 } }],
      // Badly connected is not dead.
      ['1* 2 3--~ | 4', '', ''],
      // Without a stand-by nothing is removed on time alone.
      ['1* 2 3--', '', ''],
      ['1* 2 3-- | 4-', '', ''],
      ['1* 2 3-- | 4<', '', ''],
      ['1* 2 3-- | 4+', '', ''],
      // One after the other.
      ['1* 2 3 4-- 5-- | 6 7', '6>4', 'member 4'],
      ['1* 2 3 5-- 6 | 4-- 7', '7>5', 'member 5'],
      // Repair before growth, and before the newcomers.
      ['1* 2 3-- | 4 5 | a', '4>3', 'member 3'],
      // A learner that is gone costs nothing and is nobody's business.
      ['1* 2 3 | 4--', '', ''],
      // No majority answers: nothing can be proposed.
      ['1* 2-- 3-- | 4 5', '', ''],
      ['1* 2 3-- | 4', '4>3', 'member 3', APPROVE],
    ])
  },
)

autopilot('a voter that lost its disk is swapped at once, by its own new self if it can', () => {
  check([
    ['1* 2 3x | 4=3', '4>>3', 'member 3 lost its disk: member 4 votes in its place'],
    ['1* 2 3x | 4 5=3', '5>>3', 'member 5'],
    ['1* 2 3x | 4 5<=3', '4>>3', 'member 4'],
    ['1* 2 3x | 4', '4>>3', 'member 4'],
    ['1* 2 3x', '', ''],
    ['1* 2 3x | | a=3', '+a', 'admitted: 00000003'],
    ['1* 2 3x | 4+=3', '', ''],
    ['1* 2 3x | 4<=3', '', ''],
    // Before the one that is only silent.
    ['1* 2 3 4-- 5x | 6 7', '6>>5', 'member 5'],
    // Its own new self does not take the place of another.
    ['1* 2 3 4x 5-- | 6<=4', '', ''],
    // What is left of the old self goes.
    ['1* 2 3 | 4x 5=4', '-4', 'lost their disks: member 4'],
    ['1* 2 3 | 4x 5x', '-4 -5', 'lost their disks: members 4, 5'],
    ['1* 2x 3x | 4=2 5=3', '', ''],
  ])
})

autopilot(
  "a lower limit takes votes away: the silent first, then the newest, never the leader's",
  () => {
    check([
      ['1* 2 3 4 5', 'v5 v4', 'at most 3 may vote: stand-by from now on: members 5, 4', at(3)],
      ['1 2 3 4 5*', 'v4 v3', 'at most 3', at(3)],
      ['1* 2- 3 4 5', 'v2 v5', 'at most 3', at(3)],
      ['1* 2- 3- 4 5', 'v3 v2', 'at most 3', at(3)],
      ['1* 2 3 4 5', 'v5 v4', 'at most 3', at(4)],
      ['1* 2 3 4', 'v4', 'at most 3', at(3)],
      ['1 2* 3', 'v3 v1', 'at most 1 may vote', at(1)],
      ['1 2*', 'v1', 'at most 1 may vote', at(2)],
    ])
  },
)

const alarmsOf = (text: string, more?: More): string[] =>
  decide(situation(text, more)).alarms.map(({ kind, detail }) => `${kind}: ${detail}`)

autopilot('what an operator should look at', () => {
  assert.equal(alarmsOf('1* 2 3'), [])
  assert.equal(alarmsOf('1* 2'), [
    'even-voters: 2 voters need 2 of them alive: start another node, which will vote',
  ])
  assert.equal(alarmsOf('1* 2 3--'), [
    'voter-unreachable: out of reach: member 3; start another node to take its place, or remove it with: raft-p2p members remove <id>',
  ])
  assert.equal(alarmsOf('1* 2 3--~'), [
    'voter-unreachable: out of reach: member 3; other members still reach it: the network of the leader is in doubt',
  ])
  // What is being mended is no alarm.
  for (const text of ['1* 2 | 3', '1* 2 3-- | 4', '1* 2 3x | 4']) assert.equal(alarmsOf(text), [])
  assert.equal(alarmsOf('1* 2 3x'), [
    'voter-lost: member 3 lost the disk; a stand-by that has caught up is needed',
  ])
  assert.equal(alarmsOf('1* 2 3 | | a b', APPROVE), [
    'applicants-waiting: 00000449, 0000044a: let them in with: raft-p2p members add <key>',
  ])
  assert.equal(alarmsOf('1* 2 3 | | a! b=2'), [
    'not-admitted: 00000449 was removed; it enters again with: raft-p2p rejoin, 00000002 has the key of member 2, which is alive',
  ])
  const many = Array.from({ length: 61 }, (_, i) => i + 4).join(' ')
  assert.is(shown(decide(situation(`1* 2 3 | ${many} | a`, at(3)))), '')
  assert.match(
    alarmsOf(`1* 2 3 | ${many} | a`, at(3))[0] ?? '',
    /^not-admitted: there are 64 members/,
  )
})

// --- in any situation -------------------------------------------------------------------------------------------

const memberMarks = fc.constantFrom('', '', '', '', '-', '--', '--~', 'x', '+', '<', '?')
const member = fc.record({ marks: memberMarks, keyOf: fc.option(fc.integer({ min: 1, max: 12 })) })
const anyCluster = fc.record({
  voters: fc.array(memberMarks, { minLength: 0, maxLength: 8 }),
  learners: fc.array(member, { maxLength: 6 }),
  applicants: fc.array(fc.option(fc.integer({ min: 1, max: 12 })), { maxLength: 4 }),
  maxVoters: fc.integer({ min: 1, max: 9 }),
})

type AnyCluster = typeof anyCluster extends fc.Arbitrary<infer T> ? T : never

function textOf({ voters, learners, applicants }: AnyCluster): string {
  const first = voters.length + 2
  const key = (of: number | null): string => (of === null || of >= first ? '' : `=${of}`)
  return [
    ['1*', ...voters.map((marks, i) => `${i + 2}${marks}`)],
    learners.map(({ marks, keyOf }, i) => `${first + i}${marks}${key(keyOf)}`),
    applicants.map((of, i) => `${String.fromCharCode(97 + i)}${key(of)}`),
  ]
    .map((part) => part.join(' '))
    .join(' | ')
}

function aliveIn(input: AutopilotInput): Set<MemberId> {
  const alive = input.sights.filter(
    ({ silentMs, storageLost }) => !storageLost && silentMs < input.settings.patienceMs,
  )
  return new Set([input.selfId, ...alive.map(({ memberId }) => memberId)])
}

/** Throws unless the change is one that may be proposed; the situation after it. */
function proceed(input: AutopilotInput, changes: readonly ConfChange[]): AutopilotInput {
  const { record, settings } = input
  const before = record.configuration.voters
  const next = nextRecord(record, changes, '')
  if (!next.ok) throw new Error(`not a possible change: ${next.message}`)
  const after = next.record.configuration.voters
  const votersChange = after.length !== before.length || after.some((id) => !before.includes(id))
  if (votersChange) {
    const alive = aliveIn(input)
    for (const voters of [before, after]) {
      const living = voters.filter((id) => alive.has(id)).length
      assert.ok(living >= majority(voters.length), 'a majority can carry it')
    }
    if (after.length !== before.length) assert.is(after.length % 2, 1, 'an odd target')
    if (after.length > before.length)
      assert.ok(after.length <= settings.maxVoters, 'within the limit')
    if (after.length < before.length)
      assert.ok(before.length > settings.maxVoters || before.length % 2 === 0)
    assert.ok(after.includes(input.selfId), 'the leader stays')
    const keys = after.map(
      (id) => next.record.configuration.members.find((one) => one.memberId === id)?.nodeKey,
    )
    const keysBefore = before.map(
      (id) => record.configuration.members.find((one) => one.memberId === id)?.nodeKey,
    )
    if (new Set(keysBefore).size === keysBefore.length) {
      assert.is(new Set(keys).size, keys.length, 'no machine votes twice')
    }
  }
  const configuration = { ...next.record.configuration, votersOutgoing: [] }
  const members = configuration.members.filter(({ memberId }) =>
    [...configuration.voters, ...configuration.learners].includes(memberId),
  )
  const known = new Set(members.map(({ storageId }) => storageId))
  const fresh = members.filter(
    ({ memberId }) => !input.record.configuration.members.some((one) => one.memberId === memberId),
  )
  return {
    ...input,
    record: { ...next.record, configuration: { ...configuration, members } },
    applicants: input.applicants.filter(({ storageId }) => !known.has(storageId)),
    // Whoever came in is alive and catches up.
    sights: [
      ...input.sights,
      ...fresh.map(({ memberId }) => ({
        memberId,
        lag: 0,
        aliveMs: settings.stableMs,
        silentMs: 0,
        reachable: true,
        storageLost: false,
      })),
    ],
  }
}

autopilot(
  'any situation: each proposal can be carried, is odd, within the limit, and there is an end',
  () => {
    let proposals = 0
    fc.assert(
      fc.property(anyCluster, (cluster) => {
        let input = situation(textOf(cluster), { settings: { maxVoters: cluster.maxVoters } })
        for (let step = 0; step < 40; step++) {
          const { decision } = decide(input)
          if (decision === null) return
          assert.ok(/^[\x20-\x7e]{1,200}$/.test(decision.reason), decision.reason)
          assert.ok(decision.changes.length > 0)
          input = proceed(input, decision.changes)
          proposals++
        }
        throw new Error(`no end: ${textOf(cluster)}`)
      }),
      { numRuns: 3000, seed: 1 },
    )
    assert.ok(proposals > 3000, `only ${proposals} proposals were judged`)
  },
)

autopilot(
  'random sequences: members die, come back and leave, others come; every proposal can be carried',
  () => {
    const event = fc.record({
      what: fc.constantFrom('die', 'overdue', 'lose', 'revive', 'come', 'limit', 'nothing'),
      whom: fc.nat(30),
    })
    let proposals = 0
    fc.assert(
      fc.property(fc.array(event, { minLength: 5, maxLength: 40 }), (events) => {
        let input = situation('1* 2 3')
        let next = 0
        for (const { what, whom } of events) {
          input = happen(input, what, whom, next++)
          for (let step = 0; ; step++) {
            assert.ok(step < 20, 'an end')
            const { decision } = decide(input)
            if (decision === null) break
            input = proceed(input, decision.changes)
            proposals++
          }
        }
      }),
      { numRuns: 500, seed: 2 },
    )
    assert.ok(proposals > 1000, `only ${proposals} proposals were judged`)
  },
)

function happen(input: AutopilotInput, what: string, whom: number, serial: number): AutopilotInput {
  const { settings, record } = input
  if (what === 'come') {
    const name = String(1000 + serial)
    const urls: string[] = []
    const newcomer = {
      nodeKey: storageIdOf(name).padEnd(64, '0'),
      storageId: storageIdOf(name),
      name,
      urls,
      waitingMs: 0,
    }
    return { ...input, applicants: [...input.applicants, newcomer] }
  }
  if (what === 'limit') {
    return { ...input, settings: { ...settings, maxVoters: 1 + (whom % 7) } }
  }
  const others = record.configuration.members.filter(({ memberId }) => memberId !== input.selfId)
  const victim = others[whom % Math.max(1, others.length)]
  if (victim === undefined || what === 'nothing') return input
  const silentMs =
    {
      die: settings.patienceMs,
      overdue: settings.replaceAfterMs,
      lose: settings.patienceMs,
      revive: 0,
    }[what] ?? 0
  const sight = {
    memberId: victim.memberId,
    lag: 0,
    aliveMs: what === 'revive' ? settings.stableMs : 0,
    silentMs,
    reachable: what !== 'overdue',
    storageLost: what === 'lose',
  }
  const rest = input.sights.filter(({ memberId }) => memberId !== victim.memberId)
  return { ...input, sights: [...rest, sight] }
}

autopilot.run()
