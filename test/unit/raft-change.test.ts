/** The next configuration for every change of the members, as a table, and what is refused. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ConfChange, isJoint, leaveJoint, nextRecord } from '../../node/raft/change.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
  MEMBERS_MAX,
  RECORD_BYTES_MAX,
} from '../../node/raft/configuration.ts'
import type { ConfigurationRecord, Member } from '../../node/raft/types.ts'
import { CONFIGURATION_BYTES_MAX } from '../../node/storage/snapshot-format.ts'
import { configurationOf } from '../support/raft-cluster.ts'

const change = suite('raft change')

function recordOf(voters: number, learners: number): ConfigurationRecord {
  const configuration = configurationOf(voters, learners)
  return { clusterId: 'c'.repeat(32), foundingSet: [], settings: { maxVoters: 5 }, configuration }
}

function newcomer(id: number): Omit<Member, 'memberId'> {
  const { nodeKey, storageId, name, urls } = configurationOf(40).members[id - 1] as Member
  return { nodeKey, storageId, name, urls }
}

/** `voters|outgoing|learners` of a record. */
function shape({ configuration }: ConfigurationRecord): string {
  const { voters, votersOutgoing, learners } = configuration
  return [voters, votersOutgoing, learners].map((ids) => ids.join(' ')).join('|')
}

const ROWS: readonly [string, [number, number], ConfChange[], string, string][] = [
  ['a learner enters', [3, 0], [{ type: 'add', member: newcomer(9) }], '1 2 3||4', '1 2 3||4'],
  ['a learner goes', [3, 1], [{ type: 'remove', memberId: 4 }], '1 2 3||', '1 2 3||'],
  [
    'a learner becomes a voter',
    [3, 1],
    [{ type: 'promote', memberId: 4 }],
    '1 2 3 4|1 2 3|',
    '1 2 3 4||',
  ],
  [
    'two at once',
    [3, 2],
    [
      { type: 'promote', memberId: 4 },
      { type: 'promote', memberId: 5 },
    ],
    '1 2 3 4 5|1 2 3|',
    '1 2 3 4 5||',
  ],
  ['a voter goes', [3, 0], [{ type: 'remove', memberId: 2 }], '1 3|1 2 3|', '1 3||'],
  ['a voter becomes a learner', [3, 0], [{ type: 'demote', memberId: 2 }], '1 3|1 2 3|2', '1 3||2'],
  [
    'a swap',
    [3, 1],
    [{ type: 'replace', memberId: 1, with: 4, keep: true }],
    '2 3 4|1 2 3|1',
    '2 3 4||1',
  ],
  [
    'a swap for good',
    [3, 1],
    [{ type: 'replace', memberId: 1, with: 4, keep: false }],
    '2 3 4|1 2 3|',
    '2 3 4||',
  ],
  ['settings', [1, 0], [{ type: 'settings', settings: { maxVoters: 7 } }], '1||', '1||'],
]

for (const [name, [voters, learners], changes, entered, left] of ROWS) {
  change(name, () => {
    const before = recordOf(voters, learners)
    const next = nextRecord(before, changes, 'because')
    assert.ok(next.ok, JSON.stringify(next))
    assert.is(shape(next.record), entered)
    assert.equal(
      decodeConfigurationRecord(encodeConfigurationRecord(next.record))?.configuration,
      next.record.configuration,
    )
    const after = isJoint(next.record.configuration) ? leaveJoint(next.record) : next.record
    assert.is(shape(after), left)
    assert.ok(decodeConfigurationRecord(encodeConfigurationRecord(after)) !== null)
    const ids = after.configuration.members.map(({ memberId }) => memberId)
    assert.equal(
      ids,
      [...after.configuration.voters, ...after.configuration.learners].sort((a, b) => a - b),
    )
  })
}

const REFUSED: readonly [string, ConfChange[], string][] = [
  ['nothing', [], 'bad-request'],
  ['an unknown member', [{ type: 'promote', memberId: 77 }], 'not-found'],
  ['a voter is promoted', [{ type: 'promote', memberId: 1 }], 'bad-request'],
  ['a learner is demoted', [{ type: 'demote', memberId: 4 }], 'bad-request'],
  ['a learner is replaced', [{ type: 'replace', memberId: 4, with: 4, keep: true }], 'bad-request'],
  ['who is a member enters', [{ type: 'add', member: newcomer(2) }], 'bad-request'],
  [
    'the last voters go',
    [1, 2, 3].map((memberId) => ({ type: 'remove', memberId })),
    'bad-request',
  ],
]

change('refused: with what the member is, not with what it is not', () => {
  for (const [type, memberId, message] of [
    ['promote', 2, 'member 2 has a vote already'],
    ['demote', 4, 'member 4 is a stand-by and has no vote'],
  ] as const) {
    const next = nextRecord(recordOf(3, 1), [{ type, memberId }], '')
    assert.is(!next.ok && next.message, message)
  }
})

for (const [name, changes, code] of REFUSED) {
  change(`refused: ${name}`, () => {
    const next = nextRecord(recordOf(3, 1), changes, '')
    assert.not(next.ok)
    assert.is((next as { code: string }).code, code)
  })
}

change('nobody enters while a joint configuration is in force', () => {
  const joint = nextRecord(recordOf(3, 1), [{ type: 'promote', memberId: 4 }], '')
  assert.ok(joint.ok)
  assert.not(nextRecord(joint.record, [{ type: 'add', member: newcomer(9) }], '').ok)
})

change('a memberId is never handed out twice', () => {
  const added = nextRecord(recordOf(3, 0), [{ type: 'add', member: newcomer(9) }], '')
  assert.ok(added.ok)
  const gone = nextRecord(added.record, [{ type: 'remove', memberId: 4 }], '')
  assert.ok(gone.ok)
  const again = nextRecord(gone.record, [{ type: 'add', member: newcomer(9) }], '')
  assert.ok(again.ok)
  assert.equal(again.record.configuration.learners, [5])
  assert.equal(gone.record.removed, [newcomer(9).storageId])
})

change('who enters again is no longer among the removed', () => {
  const before = { ...recordOf(3, 0), removed: [newcomer(9).storageId, newcomer(8).storageId] }
  const added = nextRecord(before, [{ type: 'add', member: newcomer(9) }], '')
  assert.ok(added.ok)
  assert.equal(added.record.removed, [newcomer(8).storageId])
  const both = nextRecord(added.record, [{ type: 'add', member: newcomer(8) }], '')
  assert.ok(both.ok)
  assert.is(both.record.removed, undefined)
})

change('what nobody could read is refused: every node would stop at it', () => {
  const member = newcomer(9)
  const wrong: ConfChange[] = [
    { type: 'add', member: { ...member, name: 'x'.repeat(65) } },
    { type: 'add', member: { ...member, nodeKey: 'not a key' } },
    { type: 'add', member: { ...member, urls: ['x'.repeat(513)] } },
    { type: 'settings', settings: { maxVoters: Number.NaN } },
  ]
  for (const one of wrong) {
    const next = nextRecord(recordOf(3, 1), [one], '')
    assert.is(!next.ok && next.code, 'bad-request', JSON.stringify(one))
  }
})

change('a removed voter is remembered only when the joint configuration is left', () => {
  const joint = nextRecord(recordOf(3, 0), [{ type: 'remove', memberId: 2 }], '')
  assert.ok(joint.ok)
  assert.is(joint.record.removed, undefined)
  assert.equal(leaveJoint(joint.record).removed, [newcomer(2).storageId])
})

change('the table of members has an end', () => {
  let record = recordOf(1, 0)
  for (let id = 2; id <= MEMBERS_MAX + 1; id++) {
    const member = { ...newcomer(2), storageId: String(id).padStart(32, '0') }
    const next = nextRecord(record, [{ type: 'add', member }], '')
    assert.is(next.ok, id <= MEMBERS_MAX)
    if (next.ok) record = next.record
  }
})

change('the reason is kept as printable ASCII', () => {
  const next = nextRecord(
    recordOf(3, 1),
    [{ type: 'remove', memberId: 4 }],
    `ä\n${'x'.repeat(300)}`,
  )
  assert.ok(next.ok)
  assert.is(next.record.reason?.slice(0, 4), '??xx')
  assert.is(next.record.reason?.length, 200)
})

change(
  'what fits into no snapshot is not appended, and leaving the joint adds less than there is room',
  () => {
    let record = recordOf(3, 0)
    for (let n = 0; ; n++) {
      const settings = { [`setting ${n}`]: 'x'.repeat(50_000) }
      const next = nextRecord(record, [{ type: 'settings', settings }], '')
      if (!next.ok) {
        assert.is(next.code, 'bad-request')
        break
      }
      record = next.record
      assert.ok(encodeConfigurationRecord(record).length <= RECORD_BYTES_MAX)
    }
    assert.ok(encodeConfigurationRecord(record).length > RECORD_BYTES_MAX - 51_000)
    // A member that is noted as removed takes less than it took as a member.
    assert.ok(RECORD_BYTES_MAX + 64 * 40 < CONFIGURATION_BYTES_MAX)
  },
)

change.run()
