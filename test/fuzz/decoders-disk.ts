/** The decoders of what lies on a disk: segments and records of the log, and the small files of a data directory. */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import type { EntryId } from '../../node/raft/types.ts'
import { crc32 } from '../../node/storage/crc.ts'
import { type Endpoint, readEndpoint, readTopic, writeTopic } from '../../node/storage/directory.ts'
import { type IdentityRecord, openIdentity, readIdentity } from '../../node/storage/identity.ts'
import {
  decodeRecord,
  decodeRecordHeader,
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  endOfContent,
  findLaterRecord,
  type LogRecord,
  RECORD_HEADER_BYTES,
  RECORD_TRAILER_BYTES,
  type RecordHeader,
  recordBytes,
  type SegmentHeader,
  storageSeed,
} from '../../node/storage/segment.ts'
import { type Save, StorageError } from '../../node/storage/storage.ts'
import { openStretchCache } from '../../node/topic-cache.ts'
import {
  clusterId,
  configuration,
  entries,
  foundingRecord,
  hardState,
  hex,
  storageId,
  u32,
  u64,
  url,
} from './arbitraries.ts'
import { MemoryDisk } from './memory-disk.ts'
import { joined } from './mutations.ts'
import { type AnyRow, always, orNull, row } from './rows.ts'

const ENCODER = new TextEncoder()
const SEGMENT = 'node/storage/segment.ts'
const SEED = storageSeed('00112233445566778899aabbccddeeff')
const END_MAGIC = 0x52503245

const view = (all: Uint8Array): DataView => new DataView(all.buffer, all.byteOffset, all.byteLength)

// --- the log --------------------------------------------------------------------------------------------------------

interface Batch extends Save {
  readonly start: EntryId | null
  readonly sequence: number
  readonly previous: number
}

const entryId: fc.Arbitrary<EntryId> = fc.record({ term: u64, index: u64 })

export const batch: fc.Arbitrary<Batch> = fc.record(
  {
    hardState: fc.option(hardState),
    entries,
    sequence: u64,
    previous: u32,
    start: fc.option(entryId),
    base: entryId,
  },
  { requiredKeys: ['hardState', 'entries', 'sequence', 'previous', 'start'] },
)

function writeRecord({ sequence, previous, start, ...save }: Batch): Uint8Array {
  const made = new Uint8Array(recordBytes(save, start))
  encodeRecord(made, save, { seed: SEED, sequence, previous, start })
  return made
}

function batchOf(record: LogRecord): Batch {
  const { hardState: state, entries: all, sequence, previous, start, base } = record
  const read = { hardState: state, entries: all, sequence, previous, start }
  return base === null ? read : { ...read, base }
}

/** A record whose checksums fit, whatever its fields say. */
export function resealedRecord(bytes: Uint8Array): Uint8Array {
  if (bytes.length < RECORD_HEADER_BYTES) return bytes
  const made = Uint8Array.from(bytes)
  view(made).setUint32(28, crc32(made.subarray(0, 28), SEED))
  const end = RECORD_HEADER_BYTES + view(made).getUint32(20)
  if (end + 8 > made.length) return made
  view(made).setUint32(end, crc32(made.subarray(0, end), SEED))
  view(made).setUint32(end + 4, END_MAGIC)
  return made
}

const orFault = <Value>(value: Value | string) =>
  typeof value === 'string' ? { ok: false as const } : { ok: true as const, value }

/** Pieces of logs among zeros, as an unfinished segment holds them. */
const pieces = fc
  .array(
    fc.oneof(
      batch.map(writeRecord),
      batch.map((one) => writeRecord(one).slice(0, 40)),
      fc.nat(60).map((length) => new Uint8Array(length)),
      fc.constant(ENCODER.encode('RP2BRP2BRP2')),
    ),
    { maxLength: 5 },
  )
  .map(joined)

/** What was read is all that stands in the body, and nothing of what stands behind it. */
function recordIsSound(record: LogRecord, input: Uint8Array): void {
  assert.ok(record.end <= input.length)
  assert.is(
    recordBytes(batchOf(record), record.start),
    record.end - record.at,
    'more was read than stands there',
  )
  const vote = record.hardState?.vote ?? ''
  // The decoder takes a vote that is no ASCII; nobody writes one.
  if (/[^\0-\x7f]/.test(vote)) return
  const [start, end] = [RECORD_HEADER_BYTES, record.end - RECORD_TRAILER_BYTES]
  const again = writeRecord(batchOf(record)).subarray(start, -RECORD_TRAILER_BYTES)
  assert.ok(
    Buffer.compare(again, input.subarray(start, end)) === 0,
    'the body holds something else',
  )
}

const LOG: readonly AnyRow[] = [
  row<Uint8Array, SegmentHeader>({
    name: 'segment header',
    covers: [`${SEGMENT}#decodeSegmentHeader`],
    kind: 'bytes',
    values: fc.record({ version: fc.constantFrom(1, 2), storageId, number: u64, sizeBytes: u64 }),
    encode: encodeSegmentHeader,
    decode: (input) => orFault(decodeSegmentHeader(input)),
    reseal: (bytes) => {
      const made = Uint8Array.from(bytes)
      if (made.length >= 64) view(made).setUint32(60, crc32(made.subarray(0, 60)))
      return made
    },
  }),
  row<Uint8Array, RecordHeader>({
    name: 'record header',
    covers: [`${SEGMENT}#decodeRecordHeader`],
    kind: 'bytes',
    values: batch.map((one) => decodeRecordHeader(writeRecord(one), 0, SEED) as RecordHeader),
    encode: ({ sequence, previous, hasHardState, hasStart, hasBase, bodyBytes, entryCount }) => {
      const made = writeRecord({ ...AFTER_FIVE, sequence, previous })
      view(made).setUint8(5, Number(hasHardState) + 2 * Number(hasStart) + 4 * Number(hasBase))
      view(made).setUint32(20, bodyBytes)
      view(made).setUint32(24, entryCount)
      return resealedRecord(made)
    },
    decode: (input) => orFault(decodeRecordHeader(input, 0, SEED)),
    reseal: resealedRecord,
  }),
  row<Uint8Array, Batch>({
    name: 'record',
    covers: [`${SEGMENT}#decodeRecord`],
    kind: 'bytes',
    values: batch,
    encode: writeRecord,
    decode: (input) => {
      const decoded = decodeRecord(input, 0, SEED)
      if (!decoded.ok) return { ok: false }
      recordIsSound(decoded.record, input)
      return { ok: true, value: batchOf(decoded.record) }
    },
    reseal: resealedRecord,
    noise: pieces,
    // A vote that is no ASCII passes the checksum only if somebody made that too; the encoder takes none.
    again: 'no',
  }),
  row<Uint8Array, number>({
    name: 'a later record',
    covers: [`${SEGMENT}#findLaterRecord`],
    kind: 'bytes',
    values: fc.nat(100),
    encode: (at) => joined([new Uint8Array(at), writeRecord(AFTER_FIVE)]),
    decode: orNull((input) => findLaterRecord(input, 0, SEED, 5)),
    sound: (at, input) => {
      const header = decodeRecordHeader(input, at, SEED)
      assert.ok(typeof header !== 'string' && header.sequence > 5)
    },
    again: 'no',
    reseal: resealedRecord,
    noise: pieces,
  }),
  row<Uint8Array, number>({
    name: 'end of content',
    covers: [`${SEGMENT}#endOfContent`],
    kind: 'bytes',
    values: fc.nat(300),
    encode: (length) => joined([new Uint8Array(length).fill(7), new Uint8Array(40)]),
    decode: always((input) => endOfContent(input, 0)),
    sound: (end, input) => {
      assert.is(end, input.findLastIndex((byte) => byte !== 0) + 1)
    },
    again: 'no',
    noise: pieces,
    // It compares with a block of zeros.
    bufferBytesMax: 1 << 16,
  }),
]

const AFTER_FIVE: Batch = {
  hardState: null,
  entries: [],
  sequence: 6,
  previous: 1,
  start: null,
}

// --- the files of a data directory ------------------------------------------------------------------------------------

function diskWith(path: string, bytes: Uint8Array): MemoryDisk {
  const disk = new MemoryDisk()
  disk.files.set(path, bytes)
  return disk
}

const IDENTITY = '/d/identity.json'

/** As the node itself writes it, by changing an identity that is there. */
function identityFile(change: Partial<IdentityRecord>): Uint8Array {
  const disk = new MemoryDisk()
  const identity = openIdentity(disk, '/d', {
    makeKeyPair: () => ({
      publicKey: new Uint8Array(32).fill(1),
      secretKey: new Uint8Array([...new Array(32).fill(2), ...new Array(32).fill(1)]),
    }),
    makeStorageId: () => new Uint8Array(16).fill(3),
  })
  identity.update(change)
  return disk.read(IDENTITY) as Uint8Array
}

type Changed = Pick<IdentityRecord, 'name' | 'founding' | 'members' | 'clusterId' | 'memberId'>

const changed: fc.Arbitrary<Changed> = fc.record({
  name: fc.string({ unit: 'binary', minLength: 1, maxLength: 32 }),
  founding: foundingRecord,
  members: configuration.map(({ members }) => members),
  clusterId: fc.option(clusterId),
  memberId: fc.option(fc.integer({ min: 1, max: 1000 })),
})

function changedOf({ name, founding, members, clusterId: id, memberId }: IdentityRecord): Changed {
  return { name, founding, members, clusterId: id, memberId }
}

/** The checksum that fits what stands in the file. */
function resealedIdentity(bytes: Uint8Array): Uint8Array {
  try {
    const { checksum: _, ...content } = JSON.parse(new TextDecoder().decode(bytes)) as object & {
      checksum?: unknown
    }
    const digest = createHash('sha256').update(JSON.stringify(content)).digest('hex')
    return ENCODER.encode(JSON.stringify({ ...content, checksum: digest.slice(0, 32) }))
  } catch {
    return bytes
  }
}

/** Both ways to read a file of the directory refuse it alike. */
function identityIn(input: Uint8Array) {
  try {
    const value = readIdentity(diskWith(IDENTITY, input), '/d')
    assert.ok(value !== null)
    return { ok: true as const, value: changedOf(value) }
  } catch (error) {
    if (error instanceof StorageError && error.code === 'storage-lost')
      return { ok: false as const }
    throw error
  }
}

const phrase = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 })

/**
 * What the cache gives for a phrase, and for the first one of the file. Who asks checks the length of the key; whatever the file
 * holds, a new phrase is remembered.
 */
function cachedKeys(input: Uint8Array): string[] {
  const disk = diskWith('/r/raft-p2p/stretched-topics.json', input)
  const cache = openStretchCache(disk, '/r')
  const asked = ['p', phraseIn(input)]
  const found = asked.flatMap((one) => cache.get(one) ?? [])
  cache.set('another', new Uint8Array(32).fill(4))
  assert.equal(cache.get('another'), new Uint8Array(32).fill(4))
  return found.map((key) => Buffer.from(key).toString('hex'))
}

function phraseIn(input: Uint8Array): string {
  try {
    return String(JSON.parse(new TextDecoder().decode(input))[0][0])
  } catch {
    return ''
  }
}

const FILES: readonly AnyRow[] = [
  row<Uint8Array, Changed>({
    name: 'identity file',
    covers: ['node/storage/identity.ts#readIdentity', 'node/storage/identity.ts#openIdentity'],
    kind: 'bytes',
    inner: 'json',
    values: changed,
    encode: identityFile,
    decode: identityIn,
    reseal: resealedIdentity,
    sound: ({ name, members }) => {
      assert.ok(name.length >= 1 && name.length <= 64 && members.length <= 64)
    },
  }),
  row<Uint8Array, Endpoint>({
    name: 'endpoint file',
    covers: ['node/storage/directory.ts#readEndpoint'],
    kind: 'bytes',
    inner: 'json',
    values: fc.oneof(
      fc.record({ url, nodeKey: hex(64), pid: fc.nat() }),
      fc.record({ url, nodeKey: hex(64), pid: fc.nat(), adminToken: fc.string() }),
    ),
    encode: (endpoint) => ENCODER.encode(`${JSON.stringify(endpoint)}\n`),
    decode: orNull((input) => readEndpoint(diskWith('/d/endpoint.json', input), '/d')),
    sound: ({ pid }) => assert.ok(Number.isSafeInteger(pid)),
  }),
  row<Uint8Array, string>({
    name: 'topic file',
    covers: ['node/storage/directory.ts#readTopic'],
    kind: 'bytes',
    values: phrase,
    encode: (topic) => {
      const disk = new MemoryDisk()
      writeTopic(disk, '/d', topic)
      return disk.read('/d/topic') as Uint8Array
    },
    decode: orNull((input) => readTopic(diskWith('/d/topic', input), '/d')),
    // A byte order mark is not part of it.
    shown: (topic) => topic.replace(/^\ufeff/, ''),
  }),
  row<Uint8Array, string[]>({
    name: 'cache of stretched phrases',
    covers: ['node/topic-cache.ts#openStretchCache'],
    kind: 'bytes',
    inner: 'json',
    values: hex(64).map((key) => [key]),
    encode: ([key]) => ENCODER.encode(JSON.stringify([['p', key]])),
    decode: always(cachedKeys),
    shown: (keys) => keys[0] ?? null,
    again: 'no',
  }),
]

export const DISK_DECODERS: readonly AnyRow[] = [...LOG, ...FILES]
