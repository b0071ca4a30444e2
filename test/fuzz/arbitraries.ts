/** Valid values of the product's own types, for the tables of decoders and for the sequences. */
import fc from 'fast-check'
import { ERROR_CODES } from '../../client/protocol.ts'
import type { ChangeAnswer, ChangeRequest } from '../../node/change-request.ts'
import {
  blankRecord,
  type Founder,
  type FoundingMessage,
  type FoundingRecord,
  foundersOf,
  type KnownRecord,
  makeOffer,
  type Offer,
  type Settings,
} from '../../node/founding/record.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Entry,
  type EntryId,
  type HardState,
  type Member,
  TERM_MAX,
} from '../../node/raft/types.ts'
import type { ControlFrame, WireFrame } from '../../node/transport/codec.ts'
import type { PeerFrame } from '../../node/transport/transport.ts'

export const u32 = fc.oneof(fc.nat(20), fc.nat(0xffff_ffff))
export const u64 = fc.oneof(fc.nat(20), fc.maxSafeNat())
export const bytes = fc.uint8Array({ maxLength: 40 })

export function hex(digits: number): fc.Arbitrary<string> {
  return fc
    .uint8Array({ minLength: digits / 2, maxLength: digits / 2 })
    .map((all) => Buffer.from(all).toString('hex'))
}

export const nodeKey = hex(64)
export const storageId = hex(32)
/** Zeros stand for "blank" on the wire. */
export const clusterId = hex(32).filter((id) => !/^0*$/.test(id))

/** Up to 64 UTF-16 units. */
export const name = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 32 }),
  fc.string({ unit: 'grapheme-ascii', minLength: 60, maxLength: 64 }),
)
export const printableName = name.map((text) => text.replace(/\p{Cc}/gu, '?'))

export const url = fc
  .record({
    scheme: fc.constantFrom('ws', 'wss'),
    host: fc.oneof(fc.ipV4(), fc.domain(), fc.constant('[::1]'), fc.constant('localhost')),
    port: fc.option(fc.integer({ min: 1, max: 65_535 })),
    path: fc.constantFrom('', '/a', '/a/b%20c', '/%2f'),
  })
  .map(({ scheme, host, port, path }) => `${scheme}://${host}${port ? `:${port}` : ''}${path}`)

export const urls = fc.array(url, { maxLength: 4 })

// --- members and founding -------------------------------------------------------------------------------------------

export const founder: fc.Arbitrary<Founder> = fc.record({ nodeKey, storageId, name, urls })

/** Different keys, as founders have. */
export const founders = fc.uniqueArray(founder, {
  selector: (one) => one.nodeKey,
  minLength: 1,
  maxLength: 5,
})

export const settings: fc.Arbitrary<Settings> = fc.dictionary(
  fc.string({ maxLength: 12 }).filter((key) => key !== '__proto__'),
  fc.oneof(fc.integer(), fc.boolean(), fc.string({ maxLength: 12 })),
  { maxKeys: 4, noNullPrototype: true },
)

/** Every member in exactly the lists that a change can put it into. */
export const configuration: fc.Arbitrary<Configuration> = fc
  .record({
    founders,
    places: fc.array(fc.nat(3), { minLength: 5, maxLength: 5 }),
    more: fc.nat(3),
  })
  .map(({ founders: all, places, more }) => {
    const members: Member[] = all.map((one, at) => ({ memberId: at + 1, ...one }))
    // 0: voter, 1: voter of both halves, 2: outgoing voter, 3: learner. The first one votes.
    const listed = (wanted: number[]): number[] =>
      members.map((one) => one.memberId).filter((id) => wanted.includes(id > 1 ? place(id) : 0))
    const place = (id: number): number => places[id - 1] as number
    return {
      voters: listed([0, 1]),
      votersOutgoing: listed([1, 2]),
      learners: listed([3]),
      members,
      nextMemberId: members.length + 1 + more,
    }
  })

export const configurationRecord: fc.Arbitrary<ConfigurationRecord> = fc.record({
  clusterId,
  foundingSet: fc.array(nodeKey, { maxLength: 4 }),
  settings,
  configuration,
})

export const offer: fc.Arbitrary<Offer> = fc
  .record({ round: fc.integer({ min: 1, max: 0xffff_ffff }), clusterId, founders, settings })
  .map(makeOffer)

export const foundingRecord: fc.Arbitrary<FoundingRecord> = fc
  .record({
    seq: u64,
    floor: u32,
    pledge: fc.option(offer),
    how: fc.constantFrom('none', 'founded', 'joined'),
    joined: clusterId,
    foundingSet: fc.array(nodeKey, { maxLength: 4 }),
  })
  .map(({ seq, floor, pledge, how, joined, foundingSet }) => {
    const least = { seq, floor: Math.max(floor, pledge?.round ?? 0), pledge, bound: null }
    if (how === 'none' || (how === 'founded' && pledge === null)) return least
    if (how === 'joined' || pledge === null) {
      return { ...least, bound: { clusterId: joined, foundingSet, how: 'joined' } }
    }
    const keys = foundersOf(pledge).map((one) => one.nodeKey)
    return {
      ...least,
      bound: { clusterId: pledge.clusterId, foundingSet: keys, how: 'founded' as const },
    }
  })

const knownRecord: fc.Arbitrary<KnownRecord> = fc.record({
  nodeKey,
  storageId,
  record: foundingRecord,
})

export const foundingMessage: fc.Arbitrary<FoundingMessage> = fc
  .record({
    own: fc.oneof(fc.constant(blankRecord), foundingRecord),
    others: fc.array(knownRecord, { maxLength: 3 }),
    mayFound: fc.boolean(),
    expect: fc.integer({ min: 1, max: 64 }),
    foundersHash: fc.option(hex(16)),
    settings,
    linkedTo: fc.array(nodeKey, { maxLength: 4 }),
    bootId: hex(16),
    self: founder,
  })
  .map(({ own, others, ...rest }) => {
    const { nodeKey: key, storageId: id } = rest.self
    return { ...rest, records: [{ nodeKey: key, storageId: id, record: own }, ...others] }
  })

// --- the log --------------------------------------------------------------------------------------------------------

export const entryKind = fc.constantFrom('command', 'configuration', 'noop', 'time')

/** Entries that follow `before` as a log may hold them: no gap, terms that never fall. */
export function entriesAfter(before: EntryId, maxLength = 8): fc.Arbitrary<Entry[]> {
  const what = fc.oneof(
    {
      weight: 7,
      arbitrary: fc.record({
        kind: fc.constantFrom('command' as const, 'noop' as const, 'time' as const),
        payload: bytes,
      }),
    },
    {
      weight: 1,
      arbitrary: configurationRecord.map((record) => ({
        kind: 'configuration' as const,
        payload: encodeConfigurationRecord(record),
      })),
    },
  )
  const step = fc.record({ rise: fc.nat(2), what })
  return fc.array(step, { maxLength }).map((steps) => {
    let { term } = before
    return steps.map(({ rise, what: { kind, payload } }, at) => {
      term += rise
      return { term, index: before.index + 1 + at, kind, payload }
    })
  })
}

const before: fc.Arbitrary<EntryId> = fc.record({ term: fc.nat(2 ** 40), index: fc.nat(2 ** 48) })

export const entries = before.chain((id) => entriesAfter(id))

export const hardState: fc.Arbitrary<HardState> = fc.record({
  term: u64,
  vote: fc.option(fc.string({ minLength: 1, maxLength: 255, unit: 'grapheme-ascii' })),
  commit: u64,
})

// --- frames ---------------------------------------------------------------------------------------------------------

/** Later ones no decoder takes. */
const term = fc.oneof(fc.nat(20), fc.nat(TERM_MAX), fc.constant(TERM_MAX))

/** What a leader could send. */
export const append = before
  .chain((id) => fc.record({ id: fc.constant(id), entries: entriesAfter(id, 12), lead: fc.nat(5) }))
  .chain(({ id, entries: all, lead }) =>
    fc.record({
      type: fc.constant('append' as const),
      term: fc.constant((all.at(-1)?.term ?? id.term) + lead),
      prevIndex: fc.constant(id.index),
      prevTerm: fc.constant(id.term),
      entries: fc.constant(all),
      commit: u64,
    }),
  )

/** Any message that the wire can carry, valid or not for its receiver. */
export const raftMessage: fc.Arbitrary<RaftMessage> = fc.oneof(
  fc.record({ type: fc.constant('preVote' as const), term, lastIndex: u64, lastTerm: u64 }),
  fc
    .record({ term, askedTerm: u64, answer: fc.constantFrom('granted', 'refused', 'leader-alive') })
    .map(({ answer, ...terms }) => ({
      type: 'preVoteResponse' as const,
      ...terms,
      granted: answer === 'granted',
      leaderAlive: answer === 'leader-alive',
    })),
  fc.record({
    type: fc.constant('requestVote' as const),
    term,
    lastIndex: u64,
    lastTerm: u64,
    transfer: fc.boolean(),
  }),
  fc.record({ type: fc.constant('voteResponse' as const), term, granted: fc.boolean() }),
  { weight: 3, arbitrary: append },
  fc.record({
    type: fc.constant('appendResponse' as const),
    term,
    accepted: fc.constant(true as const),
    matchIndex: u64,
  }),
  fc.record({
    type: fc.constant('appendResponse' as const),
    term,
    accepted: fc.constant(false as const),
    rejectedIndex: u64,
    hintIndex: u64,
    hintTerm: u64,
  }),
  fc.record({ type: fc.constant('heartbeat' as const), term, commit: u64, readRound: u64 }),
  fc.record({ type: fc.constant('heartbeatResponse' as const), term, readRound: u64 }),
  fc.record({ type: fc.constantFrom('timeoutNow' as const, 'resigned' as const), term }),
  fc
    .record({ older: term, newer: term, lastIncludedIndex: u64, sizeBytes: u64, checksum: hex(64) })
    .map(({ older, newer, ...rest }) => ({
      type: 'installSnapshot' as const,
      term: Math.max(older, newer),
      lastIncludedTerm: Math.min(older, newer),
      ...rest,
    })),
)

/** What the transport hands up besides consensus. */
export const requestFrame: fc.Arbitrary<PeerFrame> = fc.oneof(
  fc.record({
    type: fc.constant('forward' as const),
    requestId: u64,
    operation: fc.constantFrom('command' as const, 'readIndex' as const, 'change' as const),
    body: bytes,
  }),
  fc.record({
    type: fc.constant('forwardReply' as const),
    requestId: u64,
    outcome: fc.constantFrom(
      'done' as const,
      'not-leader' as const,
      'overloaded' as const,
      'disk-full' as const,
      'closing' as const,
      'bad-request' as const,
    ),
    index: u64,
    body: bytes,
  }),
  fc.record({ type: fc.constant('leaderView' as const), term, body: bytes }),
  fc.record({ type: fc.constant('reach' as const), term, body: bytes }),
  fc.record({ type: fc.constant('removed' as const) }),
  fc.record({
    type: fc.constant('snapshotPull' as const),
    checksum: hex(64),
    offset: u64,
    lengthBytes: u32,
  }),
  fc.record({
    type: fc.constant('snapshotChunk' as const),
    checksum: hex(64),
    offset: u64,
    bytes: bytes,
  }),
  fc.record({
    type: fc.constant('stateHash' as const),
    index: u64,
    hashVersion: fc.oneof(fc.constant(1), u32),
    hash: hex(16),
  }),
)

const controlFrame: fc.Arbitrary<ControlFrame> = fc.oneof(
  fc.record({ type: fc.constant('proof' as const), mac: bytes }),
  fc.record({ type: fc.constant('hello' as const), body: bytes }),
  fc.record({ type: fc.constantFrom('ping' as const, 'pong' as const), nonce: u32 }),
  fc.record({
    type: fc.constant('goodbye' as const),
    reason: fc.constantFrom(
      'wrong-topic' as const,
      'wrong-key' as const,
      'wrong-cluster' as const,
      'handshake-timeout' as const,
      'malformed' as const,
      'clone' as const,
      'version' as const,
    ),
  }),
)

export const wireFrame: fc.Arbitrary<WireFrame> = fc.oneof(
  { weight: 3, arbitrary: raftMessage.map((message) => ({ type: 'raft' as const, message })) },
  { weight: 1, arbitrary: requestFrame },
  { weight: 1, arbitrary: controlFrame },
  { weight: 1, arbitrary: bytes.map((body) => ({ type: 'founding' as const, body })) },
)

// --- changes of the members -----------------------------------------------------------------------------------------------

const memberName = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' })
const memberIds = fc.array(fc.integer({ min: 1, max: 99 }), { maxLength: 4 })
const options = {
  dryRun: fc.boolean(),
  ifConfig: u32,
  reason: fc.string({ maxLength: 20 }),
}

export const changeRequest: fc.Arbitrary<ChangeRequest> = fc.oneof(
  fc.record(
    {
      verb: fc.constantFrom(
        'add' as const,
        'remove' as const,
        'promote' as const,
        'demote' as const,
      ),
      id: memberName,
      ...options,
    },
    { requiredKeys: ['verb', 'id'] },
  ),
  fc.record(
    { verb: fc.constant('replace' as const), id: memberName, with: memberName, ...options },
    { requiredKeys: ['verb', 'id'] },
  ),
  fc.record(
    {
      verb: fc.constant('settings' as const),
      settings: fc.dictionary(fc.string({ maxLength: 9 }), fc.oneof(u32, fc.boolean(), memberName)),
      ...options,
    },
    { requiredKeys: ['verb', 'settings'] },
  ),
)

export const changeAnswer: fc.Arbitrary<ChangeAnswer> = fc.oneof(
  fc.record({
    ok: fc.constant(true as const),
    report: fc.record({
      configIndex: u32,
      changes: fc.array(fc.string({ maxLength: 20 }), { maxLength: 3 }),
      dryRun: fc.boolean(),
      voters: memberIds,
      learners: memberIds,
    }),
  }),
  fc.record({
    ok: fc.constant(false as const),
    error: fc.record({
      code: fc.constantFrom(...ERROR_CODES),
      message: fc.string({ maxLength: 20 }),
      retriable: fc.boolean(),
      maybeApplied: fc.boolean(),
    }),
  }),
)
