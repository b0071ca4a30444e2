/** Mixed versions: when the level rises, that it never falls, and what older peers are told. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeCommand } from '../../client/protocol.ts'
import {
  beyondThisBuild,
  FEATURE_LEVEL,
  featureLevelOf,
  framesFor,
  hasLogTime,
  mayBeAppended,
  nextFeatureLevel,
  raiseFeatureLevel,
} from '../../node/feature-level.ts'
import { nextRecord } from '../../node/raft/change.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
} from '../../node/raft/configuration.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import type { ConfigurationRecord } from '../../node/raft/types.ts'
import { peerIdOf } from '../../node/raft/types.ts'
import type { PeerFrame } from '../../node/transport/transport.ts'
import { configurationOf } from '../support/raft-cluster.ts'

const levels = suite('feature levels')

function recordOf(featureLevel?: number): ConfigurationRecord {
  const record = {
    clusterId: 'c'.repeat(32),
    foundingSet: [],
    settings: {},
    configuration: configurationOf(3),
  }
  return featureLevel === undefined ? record : { ...record, featureLevel }
}

levels('a record without a level has the first one', () => {
  assert.is(featureLevelOf(null), 1)
  assert.is(featureLevelOf(recordOf()), 1)
  assert.is(featureLevelOf(recordOf(7)), 7)
})

levels('the level rises to what every member supports, and only when every member says so', () => {
  const table: readonly (readonly [
    number | undefined,
    readonly (number | null)[],
    number | null,
  ])[] = [
    [undefined, [2, 2, 2], 2],
    [undefined, [3, 2, 4], 2],
    [undefined, [2, 2, 1], null],
    [undefined, [2, 2, null], null],
    [2, [2, 2, 2], null],
    [2, [3, 4, 3], 3],
    [3, [2, 2, 2], null],
  ]
  for (const [present, supported, next] of table) {
    const found = nextFeatureLevel(
      recordOf(present),
      ({ memberId }) => supported[memberId - 1] ?? null,
    )
    assert.is(found, next, JSON.stringify([present, supported]))
  }
})

levels('a change of the configuration never lowers it, and every other change keeps it', () => {
  const raised = nextRecord(recordOf(), [{ type: 'featureLevel', level: 2 }], 'raised')
  assert.ok(raised.ok)
  assert.is(raised.record.featureLevel, 2)
  assert.equal(raised.record.configuration.votersOutgoing, [], 'it is no joint change')
  for (const level of [1, 2]) {
    const lowered = nextRecord(raised.record, [{ type: 'featureLevel', level }], 'lowered')
    assert.is(lowered.ok, false)
  }
  const later = nextRecord(raised.record, [{ type: 'settings', settings: { expect: 5 } }], 'later')
  assert.ok(later.ok)
  assert.is(later.record.featureLevel, 2)
  assert.equal(decodeConfigurationRecord(encodeConfigurationRecord(later.record))?.featureLevel, 2)
})

levels('a build that is too old for the cluster says so', () => {
  assert.is(beyondThisBuild(null), null)
  assert.is(beyondThisBuild(recordOf(FEATURE_LEVEL)), null)
  const said = beyondThisBuild(recordOf(FEATURE_LEVEL + 1)) ?? ''
  assert.match(said, `feature level ${FEATURE_LEVEL + 1}`)
  assert.match(said, `up to ${FEATURE_LEVEL}`)
})

levels('only a leader whose term has committed raises it, once everybody is linked', () => {
  const asked: unknown[] = []
  const record = recordOf()
  const [self] = record.configuration.members.map(peerIdOf) as [string]
  const raft = {
    self,
    role: 'leader' as 'leader' | 'follower',
    termCommitted: true,
    changeConfiguration: (_ticket: number, changes: unknown) => asked.push(changes),
  }
  const linked = { linkTo: () => ({ hello: { featureLevel: 2 } }) }
  const raise = (links: Parameters<typeof raiseFeatureLevel>[1], committed = record): void =>
    raiseFeatureLevel({ committed, raft }, links)
  raise({ linkTo: () => null })
  raise({ linkTo: () => ({ hello: { featureLevel: 1 } }) })
  raise(linked, recordOf(FEATURE_LEVEL))
  const { configuration } = record
  raise(linked, { ...record, configuration: { ...configuration, votersOutgoing: [1] } })
  raft.role = 'follower'
  raise(linked)
  raft.role = 'leader'
  raft.termCommitted = false
  raise(linked)
  assert.equal(asked, [])
  raft.termCommitted = true
  raise(linked)
  assert.equal(asked, [[{ type: 'featureLevel', level: 2 }]])
})

levels('what older members would make something else of waits', () => {
  const operation = new Uint8Array(100)
  const numbers = { session: 0, sequence: 0, firstOutstanding: 0 }
  const keyed = encodeCommand({ kind: 'keyed', ...numbers, operation })
  const plain = encodeCommand({ kind: 'operation', ...numbers, operation })
  assert.equal([mayBeAppended(plain, null), mayBeAppended(keyed, null)], [true, false])
  assert.equal([mayBeAppended(plain, recordOf(2)), mayBeAppended(keyed, recordOf(2))], [true, true])
  assert.equal([hasLogTime(recordOf()), hasLogTime(recordOf(2))], [false, true])
})

const body = new Uint8Array(0)
const OLD: readonly PeerFrame[] = [
  { type: 'founding', body },
  { type: 'forward', requestId: 1, operation: 'command', body },
  { type: 'forward', requestId: 1, operation: 'readIndex', body },
  { type: 'forwardReply', requestId: 1, outcome: 'done', index: 1, body },
  { type: 'leaderView', term: 1, body },
  { type: 'raft', message: { type: 'heartbeat', term: 1, commit: 0, readRound: 0 } },
]
const NEW: readonly PeerFrame[] = [
  { type: 'forward', requestId: 1, operation: 'change', body },
  { type: 'removed' },
  { type: 'reach', term: 1, body: new Uint8Array(0) },
  { type: 'snapshotPull', checksum: '', offset: 0, lengthBytes: 1 },
  { type: 'snapshotChunk', checksum: '', offset: 0, bytes: body },
  { type: 'stateHash', index: 1, hashVersion: 1, hash: '0'.repeat(16) },
  {
    type: 'raft',
    message: {
      type: 'installSnapshot',
      term: 1,
      lastIncludedIndex: 1,
      lastIncludedTerm: 1,
      sizeBytes: 1,
      checksum: '',
    },
  },
]

levels('an older peer gets no frame that it would drop the link for', () => {
  assert.equal(framesFor(1, [...OLD, ...NEW]), OLD)
  const all = [...OLD, ...NEW]
  assert.is(framesFor(FEATURE_LEVEL, all), all, 'a peer of today gets everything, at no cost')
})

levels('a refused pre-vote says to an older peer only that it is refused', () => {
  const answer = (leaderAlive: boolean): RaftMessage => ({
    type: 'preVoteResponse',
    term: 1,
    askedTerm: 1,
    granted: false,
    leaderAlive,
  })
  const frames: PeerFrame[] = [{ type: 'raft', message: answer(true) }]
  assert.equal(framesFor(1, frames), [{ type: 'raft', message: answer(false) }])
  assert.equal(frames, [{ type: 'raft', message: answer(true) }], 'for others it is as it was')
})

levels.run()
