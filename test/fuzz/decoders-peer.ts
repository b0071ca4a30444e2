/** The decoders of what other nodes send: entries, configurations, frames, hellos, founding, the leader's view. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { Alarms } from '../../node/alarms.ts'
import { decodeReach, encodeReach } from '../../node/autopilot-driver.ts'
import {
  type ChangeAnswer,
  type ChangeRequest,
  decodeChangeAnswer,
  decodeChangeRequest,
  encodeChangeAnswer,
  encodeChangeRequest,
} from '../../node/change-request.ts'
import {
  blankRecord,
  entry1Bytes,
  type Founder,
  type FoundingMessage,
  type FoundingRecord,
  foundersOf,
  type Offer,
  parseFoundingMessage,
  parseFoundingRecord,
} from '../../node/founding/record.ts'
import { FoundingDriver, type FoundingDriverParts } from '../../node/founding-driver.ts'
import { isLeaderView, type LeaderView } from '../../node/leader-view.ts'
import { PeerBook } from '../../node/peer-book.ts'
import { decodeAsciiJson, encodeAsciiJson } from '../../node/raft/ascii-json.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
  isHex,
} from '../../node/raft/configuration.ts'
import {
  entryBytes,
  readEntry,
  readU64,
  writeEntry,
  writeU64,
} from '../../node/raft/entry-codec.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import { type ConfigurationRecord, type Entry, peerIdOf } from '../../node/raft/types.ts'
import {
  type Batch,
  decodeBatch,
  encodeBatch,
  FRAMES_MAX,
  MalformedFrame,
} from '../../node/transport/codec.ts'
import { decodeHello, encodeHello, isProof, peerUrl } from '../../node/transport/hello.ts'
import type { Hello, Link } from '../../node/transport/transport.ts'
import {
  append,
  changeAnswer,
  changeRequest,
  clusterId,
  configurationRecord,
  entries,
  founder,
  foundingMessage,
  foundingRecord,
  hex,
  offer,
  printableName,
  storageId,
  u64,
  url,
  urls,
  wireFrame,
} from './arbitraries.ts'
import { type AnyRow, guard, orNull, row, throwing } from './rows.ts'

const ENCODER = new TextEncoder()
const json = (value: unknown): Uint8Array => ENCODER.encode(JSON.stringify(value))
const view = (all: Uint8Array): DataView => new DataView(all.buffer, all.byteOffset, all.byteLength)

// --- entries and configurations -----------------------------------------------------------------------------------------

/** As many entries as there are, one behind the other; the rest must be none. */
function readAll(input: Uint8Array): Entry[] | null {
  const found: Entry[] = []
  for (let at = 0; at < input.length; ) {
    const read = readEntry(view(input), input, at, input.length)
    if (read === null) return null
    assert.is(read.next, at + entryBytes(read.entry))
    found.push(read.entry)
    at = read.next
  }
  return found
}

function writeAll(all: readonly Entry[]): Uint8Array {
  const made = new Uint8Array(all.reduce((sum, entry) => sum + entryBytes(entry), 0))
  let at = 0
  for (const entry of all) at = writeEntry(view(made), made, at, entry)
  assert.is(at, made.length)
  return made
}

/** Fields that a later version may add are kept as they came, and mean nothing to this one. */
function knownFields({ clusterId: id, foundingSet, settings, configuration }: ConfigurationRecord) {
  const { voters, votersOutgoing, learners, members, nextMemberId } = configuration
  const shown = members.map(({ memberId, nodeKey, storageId: disk, name, urls: all }) => {
    return { memberId, nodeKey, disk, name, all }
  })
  return { id, foundingSet, settings, voters, votersOutgoing, learners, shown, nextMemberId }
}

function configurationIsSound({ configuration }: ConfigurationRecord): void {
  const { voters, votersOutgoing, learners, members, nextMemberId } = configuration
  const ids = members.map((member) => member.memberId)
  assert.is(new Set(ids).size, ids.length)
  for (const half of [voters, votersOutgoing, learners]) {
    assert.is(new Set(half).size, half.length, 'a member counts twice in one half')
  }
  const disks = members.map((member) => peerIdOf(member))
  assert.is(new Set(disks).size, disks.length, 'one disk is two members')
  for (const id of [...voters, ...votersOutgoing, ...learners]) {
    assert.ok(ids.includes(id) && id < nextMemberId, `member ${id} is named and not there`)
  }
}

const ENTRIES: readonly AnyRow[] = [
  row<Uint8Array, Entry[]>({
    name: 'entries',
    covers: ['node/raft/entry-codec.ts#readEntry'],
    kind: 'bytes',
    values: entries,
    encode: writeAll,
    decode: orNull(readAll),
    again: 'bytes',
  }),
  row<Uint8Array, number>({
    name: 'u64',
    covers: ['node/raft/entry-codec.ts#readU64'],
    kind: 'bytes',
    values: u64,
    encode: (value) => {
      const made = new Uint8Array(8)
      writeU64(view(made), 0, value)
      return made
    },
    decode: orNull((input) => (input.length === 8 ? readU64(view(input), 0) : null)),
    sound: (value) => assert.ok(Number.isSafeInteger(value)),
    again: 'bytes',
    noise: fc.uint8Array({ minLength: 8, maxLength: 8 }),
  }),
  row<Uint8Array, ConfigurationRecord>({
    name: 'configuration record',
    covers: ['node/raft/configuration.ts#decodeConfigurationRecord'],
    kind: 'bytes',
    inner: 'json',
    values: configurationRecord,
    encode: encodeConfigurationRecord,
    decode: orNull(decodeConfigurationRecord),
    shown: knownFields,
    sound: configurationIsSound,
  }),
  row<Uint8Array, unknown>({
    name: 'ASCII JSON',
    covers: ['node/raft/ascii-json.ts#decodeAsciiJson'],
    kind: 'bytes',
    inner: 'json',
    values: fc.jsonValue(),
    encode: encodeAsciiJson,
    decode: (input) => {
      const value = decodeAsciiJson(input)
      return value === undefined ? { ok: false } : { ok: true, value }
    },
    // Numbers beyond JSON are read and cannot be written.
    again: 'no',
  }),
  row<unknown, unknown>({
    name: 'hex digits',
    covers: ['node/raft/configuration.ts#isHex'],
    kind: 'json',
    values: hex(16),
    encode: (text) => text,
    decode: guard((value) => isHex(value, 16)),
    noise: fc.string({ unit: fc.constantFrom(...'0fagF\n'), minLength: 15, maxLength: 17 }),
    sound: (text) => assert.match(text as string, /^[0-9a-f]{16}$/),
  }),
]

// --- links --------------------------------------------------------------------------------------------------------------

const hello: fc.Arbitrary<Hello> = fc.record({
  nodeKey: fc.constant('ab'.repeat(32)),
  storageId,
  bootId: hex(16),
  bootCounter: u64,
  clusterId: fc.option(clusterId),
  name: printableName,
  featureLevel: fc.integer({ min: 1, max: 1000 }),
  urls,
})

/** A founding driver whose disk and links do nothing; the refusal of a message is a link that it closes. */
function foundingDriver(closed: string[]): FoundingDriver {
  const self = { nodeKey: '11'.repeat(32), storageId: '22'.repeat(16), name: 'n', urls: () => [] }
  const parts: Partial<FoundingDriverParts> = {
    transport: {
      disconnect: (_link: Link, reason: string) => closed.push(reason),
    } as unknown as FoundingDriverParts['transport'],
    peers: new PeerBook([]),
    alarms: new Alarms({ announce: () => {}, now: () => new Date(0) }),
    options: {
      self,
      bootId: '33'.repeat(8),
      record: blankRecord,
      expect: 3,
      founders: null,
      mayFound: true,
      inviteClusterId: null,
      settings: {},
      random: () => 0,
      randomId: () => '44'.repeat(16),
    },
  }
  return new FoundingDriver(parts as FoundingDriverParts)
}

function receivesFounding(body: Uint8Array): 'taken' | null {
  const closed: string[] = []
  const driver = foundingDriver(closed)
  const from = '55'.repeat(32)
  driver.linkUp(from, {
    nodeKey: from,
    storageId: '66'.repeat(16),
    bootId: '77'.repeat(8),
    bootCounter: 1,
    clusterId: null,
    name: 'peer',
    featureLevel: 1,
    urls: [],
  })
  driver.receive({ hello: { nodeKey: from } } as unknown as Link, body)
  return closed.length === 0 ? 'taken' : null
}

/** The core appends what it gets: entries without a gap, of terms that neither fall nor pass the leader's. */
function messageIsSound(message: RaftMessage): void {
  if (message.type !== 'append') return
  let before = { index: message.prevIndex, term: message.prevTerm }
  for (const entry of message.entries) {
    assert.ok(
      entry.index === before.index + 1 && entry.term >= before.term,
      'an entry out of order',
    )
    assert.ok(entry.term <= message.term, 'an entry of a later term than its leader')
    before = entry
  }
}

const memberIds = fc.array(fc.integer({ min: 1, max: 99 }), { maxLength: 5 })

const LINKS: readonly AnyRow[] = [
  row<Uint8Array, Batch>({
    name: 'batch of frames',
    covers: [
      'node/transport/codec.ts#decodeBatch',
      'node/transport/raft-codec.ts#readRaft',
      'node/transport/body-reader.ts#BodyReader',
    ],
    kind: 'bytes',
    values: fc.record({
      clusterId: fc.option(clusterId),
      frames: fc.array(wireFrame, { maxLength: 6 }),
    }),
    encode: ({ clusterId: id, frames }) => encodeBatch(id, frames),
    decode: throwing(decodeBatch, MalformedFrame),
    sound: ({ frames }) => {
      assert.ok(frames.length <= FRAMES_MAX)
      for (const frame of frames) if (frame.type === 'raft') messageIsSound(frame.message)
    },
    noise: fc
      .tuple(fc.nat(48), fc.uint8Array({ maxLength: 120 }))
      .map(([type, body]) => new Uint8Array([1, ...new Array(16).fill(7), type, 0, 0, 0, ...body])),
    again: 'bytes',
  }),
  row<Uint8Array, Batch>({
    name: 'Append of a leader',
    covers: ['node/transport/codec.ts#decodeBatch'],
    kind: 'bytes',
    values: append.map((message) => ({ clusterId: null, frames: [{ type: 'raft', message }] })),
    encode: ({ frames }) => encodeBatch(null, frames),
    decode: throwing(decodeBatch, MalformedFrame),
    sound: ({ frames }) => {
      for (const frame of frames) if (frame.type === 'raft') messageIsSound(frame.message)
    },
    again: 'no',
  }),
  row<Uint8Array, Hello>({
    name: 'hello',
    covers: ['node/transport/hello.ts#decodeHello', 'node/raft/configuration.ts#isFeatureLevel'],
    kind: 'bytes',
    inner: 'json',
    values: hello,
    encode: encodeHello,
    decode: orNull((body) => decodeHello(body, 'ab'.repeat(32))),
    sound: ({ name, urls: all }) => {
      assert.ok(name.length <= 64 && !/\p{Cc}/u.test(name), 'a name fit for a terminal')
      assert.ok(all.length <= 16 && all.every((one) => one.length <= 512))
    },
  }),
  row<string, string>({
    name: 'address of a peer',
    covers: ['node/transport/hello.ts#peerUrl'],
    kind: 'text',
    values: url.map((text) => peerUrl(text) as string),
    encode: (text) => text,
    decode: orNull(peerUrl),
    sound: (text) => assert.match(text, /^wss?:\/\/[^/?#@]+(\/[^?#]*[^/?#])?$/),
    noise: fc.webUrl({
      validSchemes: ['ws', 'wss', 'WS', 'http'],
      withFragments: true,
      withQueryParameters: true,
      authoritySettings: { withPort: true, withUserInfo: true, withIPv6: true },
    }),
  }),
  row<Uint8Array, Uint8Array>({
    name: 'proof',
    covers: ['node/transport/hello.ts#isProof'],
    kind: 'bytes',
    values: fc.constant(new Uint8Array(32).fill(9)),
    encode: (proof) => proof,
    decode: guard((given) => isProof(given, new Uint8Array(32).fill(9))),
    again: 'bytes',
  }),
  row<unknown, LeaderView>({
    name: 'view of the leader',
    covers: ['node/leader-view.ts#isLeaderView', 'node/leader-view.ts#isMemberIds'],
    kind: 'json',
    values: fc.record(
      {
        commitIndex: u64,
        lastIndex: u64,
        members: fc.array(fc.record({ memberId: u64, matchIndex: u64, alive: fc.boolean() }), {
          maxLength: 4,
        }),
        missing: memberIds,
      },
      { requiredKeys: ['commitIndex', 'lastIndex', 'members'], noNullPrototype: true },
    ),
    encode: (value) => value,
    decode: guard<unknown>(isLeaderView) as (input: unknown) => { ok: true; value: LeaderView },
  }),
  row<Uint8Array, number[]>({
    name: 'members that a follower reaches',
    covers: ['node/autopilot-driver.ts#decodeReach'],
    kind: 'bytes',
    inner: 'json',
    values: memberIds,
    encode: encodeReach,
    decode: orNull(decodeReach),
    sound: (ids) => assert.ok(ids.length <= 64 && ids.every((id) => Number.isSafeInteger(id))),
  }),
  row<Uint8Array, ChangeRequest>({
    name: 'request for a change of the members',
    covers: [
      'node/change-request.ts#decodeChangeRequest',
      'node/change-request.ts#parseChangeRequest',
    ],
    kind: 'bytes',
    inner: 'json',
    values: changeRequest,
    encode: encodeChangeRequest,
    decode: orNull(decodeChangeRequest),
  }),
  row<Uint8Array, ChangeAnswer>({
    name: 'answer to a change of the members',
    covers: ['node/change-request.ts#decodeChangeAnswer'],
    kind: 'bytes',
    inner: 'json',
    values: changeAnswer,
    encode: encodeChangeAnswer,
    decode: (input) => ({ ok: true, value: decodeChangeAnswer(input) }),
  }),
]

// --- founding -------------------------------------------------------------------------------------------------------------

/** What the rules rely on without looking again. */
function recordIsSound({ floor, pledge, bound }: FoundingRecord): void {
  if (pledge !== null) {
    const keys = foundersOf(pledge).map((founder) => founder.nodeKey)
    assert.equal(keys, [...new Set(keys)].sort(), 'founders in order, each once')
    assert.is(keys[0], pledge.proposer)
    assert.ok(pledge.round >= 1 && pledge.round <= floor)
  }
  if (bound?.how === 'founded') assert.is(bound.clusterId, pledge?.clusterId)
}

/** Right in everything but the order of the founders, some of whom may have one key. */
function unordered([id, founders]: [string, Founder[]]): Uint8Array {
  const listed = founders.flatMap((one, at) => (at % 2 === 0 ? [one] : [one, { ...one }]))
  const members = listed.map((one, at) => ({ memberId: at + 1, ...one }))
  const voters = members.map(({ memberId }) => memberId)
  const nextMemberId = members.length + 1
  return encodeConfigurationRecord({
    clusterId: id,
    foundingSet: members.map((member) => member.nodeKey),
    settings: {},
    configuration: { voters, votersOutgoing: [], learners: [], members, nextMemberId },
  })
}

/** The offer that a record would hold with this entry; whoever offers it names what stands in it. */
function offerOf(entry1: Uint8Array): Offer | null {
  const { clusterId: id, foundingSet } = (decodeAsciiJson(entry1) ?? {}) as Record<string, unknown>
  const pledge = {
    proposer: Array.isArray(foundingSet) ? foundingSet[0] : null,
    round: 3,
    clusterId: id,
    entry1: Buffer.from(entry1).toString('hex'),
  }
  return parseFoundingRecord({ seq: 1, floor: 3, pledge, bound: null })?.pledge ?? null
}

const FOUNDING: readonly AnyRow[] = [
  row<unknown, FoundingMessage>({
    name: 'founding message',
    covers: ['node/founding/record.ts#parseFoundingMessage'],
    kind: 'json',
    values: foundingMessage,
    encode: (message) => JSON.parse(JSON.stringify(message)) as unknown,
    decode: orNull(parseFoundingMessage),
    sound: ({ records, self }) => {
      for (const { record } of records) recordIsSound(record)
      assert.is(records[0]?.nodeKey, self.nodeKey)
    },
  }),
  row<unknown, FoundingRecord>({
    name: 'founding record',
    covers: ['node/founding/record.ts#parseFoundingRecord'],
    kind: 'json',
    values: foundingRecord,
    encode: (record) => JSON.parse(JSON.stringify(record)) as unknown,
    decode: orNull(parseFoundingRecord),
    sound: recordIsSound,
  }),
  row<Uint8Array, Offer>({
    name: 'entry 1 of an offer',
    covers: ['node/founding/record.ts#parseFoundingRecord'],
    kind: 'bytes',
    inner: 'json',
    values: offer,
    encode: entry1Bytes,
    decode: orNull(offerOf),
    noise: fc.tuple(clusterId, fc.array(founder, { minLength: 1, maxLength: 3 })).map(unordered),
    shown: foundersOf,
    sound: (pledge) => recordIsSound({ seq: 1, floor: pledge.round, pledge, bound: null }),
  }),
  row<Uint8Array, unknown>({
    name: 'founding message on a link',
    covers: ['node/founding-driver.ts'],
    kind: 'bytes',
    inner: 'json',
    values: foundingMessage,
    encode: json,
    decode: orNull(receivesFounding),
    shown: () => 'taken',
    again: 'no',
  }),
]

export const PEER_DECODERS: readonly AnyRow[] = [...ENTRIES, ...LINKS, ...FOUNDING]
