/**
 * The bytes of a log segment: its header and its records (docs/wal.md draws them). Knows nothing of files. The decoder takes
 * any bytes at all: it checks magic, version, lengths and checksums one by one, and allocates nothing it has not bounded.
 */
import { entryBytes, readEntry, readU64, writeEntry, writeU64 } from '../raft/entry-codec.ts'
import type { Entry, EntryId, HardState } from '../raft/types.ts'
import { crc32 } from './crc.ts'
import { hexBytes, hexText } from './hex.ts'
import type { Save } from './storage.ts'

/** In version 1 no batch says where its segment begins, so that all segments before it must be there. */
export const FORMAT_VERSION = 2
/** A block of its own, never written again once the segment has its name: no torn record can hurt it. */
export const SEGMENT_HEADER_BYTES = 4096
export const RECORD_HEADER_BYTES = 32
export const RECORD_TRAILER_BYTES = 8
/** No batch comes near it; it keeps every length far inside an u32. */
export const RECORD_BODY_BYTES_MAX = 1 << 30

const SEGMENT_MAGIC = 0x52503257_414c0d0an // "RP2WAL\r\n"
const RECORD_MAGIC = 0x52503242 // "RP2B"
const END_MAGIC = 0x52503245 // "RP2E"
const KIND_BATCH = 1
const FLAG_HARD_STATE = 1
const FLAG_START = 2
const FLAG_BASE = 4
const FLAGS = FLAG_HARD_STATE | FLAG_START | FLAG_BASE
const HEADER_CHECKED_BYTES = 60
const VOTE_CHARS_MAX = 255
const HARD_STATE_FIXED_BYTES = 8 + 8 + 1
const ID_BYTES = 8 + 8

export interface SegmentHeader {
  /** 1 or 2. */
  readonly version: number
  readonly storageId: string
  readonly number: number
  /** What the file was preallocated to. A file that is shorter has lost its end. */
  readonly sizeBytes: number
}

export interface RecordHeader {
  /** 1, 2, 3 .. over all segments: the number of the batch. */
  readonly sequence: number
  /** The checksum of the record before; of the storageId for the first. */
  readonly previous: number
  readonly hasHardState: boolean
  readonly hasStart: boolean
  readonly hasBase: boolean
  readonly bodyBytes: number
  readonly entryCount: number
}

export interface LogRecord extends RecordHeader {
  readonly at: number
  /** The offset behind the record. */
  readonly end: number
  readonly checksum: number
  /**
   * The last entry of the log when this batch was written, {0, 0} for none. Stands in the first batch of each segment, together with
   * the hard state: with them a log can be read without the segments before.
   */
  readonly start: EntryId | null
  /** All entries before are forgotten, the log starts behind this one. */
  readonly base: EntryId | null
  readonly hardState: HardState | null
  /** Payloads are views of the input. */
  readonly entries: readonly Entry[]
}

export type RecordFault =
  | 'zeros'
  | 'no magic'
  | 'bad header checksum'
  | 'unknown kind'
  | 'bad length'
  | 'bad checksum'
  | 'bad body'

export type Decoded =
  | { readonly ok: true; readonly record: LogRecord }
  | { readonly ok: false; readonly fault: RecordFault; readonly header: RecordHeader | null }

export function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.wal`
}

/** Null when it is not the name of a segment. */
export function segmentNumber(name: string): number | null {
  return /^\d{10}\.wal$/.test(name) ? Number(name.slice(0, 10)) : null
}

/**
 * Every checksum of a record starts from this one, so that the bytes of another node's log, stored here as somebody's
 * value, are never taken for a record.
 */
export function storageSeed(storageId: string): number {
  return crc32(hexBytes(storageId))
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, SEGMENT_MAGIC)
  view.setUint16(8, header.version)
  bytes.set(hexBytes(header.storageId), 16)
  writeU64(view, 32, header.number)
  writeU64(view, 40, header.sizeBytes)
  view.setUint32(HEADER_CHECKED_BYTES, crc32(bytes.subarray(0, HEADER_CHECKED_BYTES)))
  return bytes
}

/** A sentence fragment that says what is wrong when it is no header of this format. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | string {
  if (bytes.length < SEGMENT_HEADER_BYTES) return `the file has only ${bytes.length} bytes`
  const view = viewOf(bytes)
  if (view.getBigUint64(0) !== SEGMENT_MAGIC) return 'it does not start like a log segment'
  const checked = crc32(bytes.subarray(0, HEADER_CHECKED_BYTES))
  if (view.getUint32(HEADER_CHECKED_BYTES) !== checked) return 'its header fails the checksum'
  const version = view.getUint16(8)
  if (version < 1 || version > FORMAT_VERSION) {
    return `its format version is ${version}, this program knows up to ${FORMAT_VERSION}`
  }
  if (!isZero(bytes, HEADER_CHECKED_BYTES + 4, SEGMENT_HEADER_BYTES)) {
    return 'the padding of its header is not zero'
  }
  const number = readU64(view, 32)
  const sizeBytes = readU64(view, 40)
  if (number === null || sizeBytes === null) return 'its header holds an impossible number'
  return { version, storageId: hexText(bytes.subarray(16, 32)), number, sizeBytes }
}

/** `start`: of the first batch of a segment. */
export function recordBytes(batch: Save, start: EntryId | null): number {
  let size = RECORD_HEADER_BYTES + RECORD_TRAILER_BYTES
  if (start !== null) size += ID_BYTES
  if (batch.base !== undefined) size += ID_BYTES
  if (batch.hardState !== null) {
    size += HARD_STATE_FIXED_BYTES + (batch.hardState.vote?.length ?? 0)
  }
  for (const entry of batch.entries) size += entryBytes(entry)
  return size
}

/** What ties a record to the one before it, and to the log without it. */
export interface Chain {
  readonly seed: number
  readonly sequence: number
  readonly previous: number
  readonly start: EntryId | null
}

/** Writes the record at the start of `into` (at least `recordBytes(batch, start)` long) and returns its checksum. */
export function encodeRecord(into: Uint8Array, batch: Save, chain: Chain): number {
  const view = viewOf(into)
  let at = RECORD_HEADER_BYTES
  if (chain.start !== null) at = writeId(view, at, chain.start)
  if (batch.base !== undefined) at = writeId(view, at, batch.base)
  if (batch.hardState !== null) at = writeHardState(view, at, batch.hardState)
  for (const entry of batch.entries) at = writeEntry(view, into, at, entry)
  view.setUint32(0, RECORD_MAGIC)
  view.setUint8(4, KIND_BATCH)
  view.setUint8(5, flagsOf(batch, chain.start))
  view.setUint16(6, 0)
  writeU64(view, 8, chain.sequence)
  view.setUint32(16, chain.previous)
  view.setUint32(20, at - RECORD_HEADER_BYTES)
  view.setUint32(24, batch.entries.length)
  view.setUint32(28, crc32(into.subarray(0, 28), chain.seed))
  const checksum = crc32(into.subarray(0, at), chain.seed)
  view.setUint32(at, checksum)
  // Never zero: a record whose last sectors are still zeros is never whole.
  view.setUint32(at + 4, END_MAGIC)
  return checksum
}

function flagsOf({ hardState, base }: Save, start: EntryId | null): number {
  return (
    (hardState === null ? 0 : FLAG_HARD_STATE) |
    (start === null ? 0 : FLAG_START) |
    (base === undefined ? 0 : FLAG_BASE)
  )
}

function writeId(view: DataView, at: number, { term, index }: EntryId): number {
  writeU64(view, at, term)
  writeU64(view, at + 8, index)
  return at + ID_BYTES
}

function writeHardState(view: DataView, at: number, hardState: HardState): number {
  const vote = hardState.vote ?? ''
  if (hardState.vote === '' || vote.length > VOTE_CHARS_MAX) {
    throw new Error(`bug: a vote must have 1 to ${VOTE_CHARS_MAX} characters`)
  }
  writeU64(view, at, hardState.term)
  writeU64(view, at + 8, hardState.commit)
  view.setUint8(at + 16, vote.length)
  for (let i = 0; i < vote.length; i++) {
    const code = vote.charCodeAt(i)
    if (code > 0x7f) throw new Error('bug: a vote must be ASCII')
    view.setUint8(at + HARD_STATE_FIXED_BYTES + i, code)
  }
  return at + HARD_STATE_FIXED_BYTES + vote.length
}

/**
 * Only what the header's own checksum vouches for. Such a header at the right place proves that the batch before it was
 * durable, whatever has become of the rest of the record: one batch is written only after the fsync of the one before.
 */
export function decodeRecordHeader(
  bytes: Uint8Array,
  at: number,
  seed: number,
): RecordHeader | RecordFault {
  if (bytes.length - at < RECORD_HEADER_BYTES) return 'no magic'
  const view = viewOf(bytes)
  const magic = view.getUint32(at)
  if (magic !== RECORD_MAGIC) return magic === 0 ? 'zeros' : 'no magic'
  if (view.getUint32(at + 28) !== crc32(bytes.subarray(at, at + 28), seed)) {
    return 'bad header checksum'
  }
  const flags = view.getUint8(at + 5)
  const sequence = readU64(view, at + 8)
  if (view.getUint8(at + 4) !== KIND_BATCH || (flags & ~FLAGS) !== 0 || sequence === null) {
    return 'unknown kind'
  }
  return {
    sequence,
    previous: view.getUint32(at + 16),
    hasHardState: (flags & FLAG_HARD_STATE) !== 0,
    hasStart: (flags & FLAG_START) !== 0,
    hasBase: (flags & FLAG_BASE) !== 0,
    bodyBytes: view.getUint32(at + 20),
    entryCount: view.getUint32(at + 24),
  }
}

export function decodeRecord(bytes: Uint8Array, at: number, seed: number): Decoded {
  const header = decodeRecordHeader(bytes, at, seed)
  if (typeof header === 'string') return { ok: false, fault: header, header: null }
  const bodyAt = at + RECORD_HEADER_BYTES
  if (header.bodyBytes > bytes.length - bodyAt - RECORD_TRAILER_BYTES) {
    return { ok: false, fault: 'bad length', header }
  }
  const bodyEnd = bodyAt + header.bodyBytes
  const view = viewOf(bytes)
  const checksum = crc32(bytes.subarray(at, bodyEnd), seed)
  if (view.getUint32(bodyEnd) !== checksum || view.getUint32(bodyEnd + 4) !== END_MAGIC) {
    return { ok: false, fault: 'bad checksum', header }
  }
  const body = decodeBody(view, bytes, bodyAt, bodyEnd, header)
  if (body === null) return { ok: false, fault: 'bad body', header }
  const end = bodyEnd + RECORD_TRAILER_BYTES
  // Each field by name: objects made by spreading others and adding to them have a hidden class of their own each.
  const { sequence, previous, hasHardState, hasStart, hasBase, bodyBytes, entryCount } = header
  const { start, base, hardState, entries } = body
  return {
    ok: true,
    record: {
      sequence,
      previous,
      hasHardState,
      hasStart,
      hasBase,
      bodyBytes,
      entryCount,
      start,
      base,
      hardState,
      entries,
      at,
      end,
      checksum,
    },
  }
}

type Body = Pick<LogRecord, 'start' | 'base' | 'hardState' | 'entries'>

function decodeBody(
  view: DataView,
  bytes: Uint8Array,
  from: number,
  end: number,
  header: RecordHeader,
): Body | null {
  const idsEnd = from + (Number(header.hasStart) + Number(header.hasBase)) * ID_BYTES
  if (idsEnd > end) return null
  const start = header.hasStart ? readId(view, from) : null
  const base = header.hasBase ? readId(view, idsEnd - ID_BYTES) : null
  if ((header.hasStart && start === null) || (header.hasBase && base === null)) return null
  const state = header.hasHardState ? readHardState(view, bytes, idsEnd, end) : null
  if (header.hasHardState && state === null) return null
  const entries = readEntries(view, bytes, state?.next ?? idsEnd, end)
  if (entries?.length !== header.entryCount) return null
  return { start, base, hardState: state?.hardState ?? null, entries }
}

function readId(view: DataView, at: number): EntryId | null {
  const term = readU64(view, at)
  const index = readU64(view, at + 8)
  return term === null || index === null ? null : { term, index }
}

function readHardState(
  view: DataView,
  bytes: Uint8Array,
  at: number,
  end: number,
): { hardState: HardState; next: number } | null {
  if (end - at < HARD_STATE_FIXED_BYTES) return null
  const voteAt = at + HARD_STATE_FIXED_BYTES
  const voteEnd = voteAt + view.getUint8(at + 16)
  const term = readU64(view, at)
  const commit = readU64(view, at + 8)
  if (voteEnd > end || term === null || commit === null) return null
  const vote = Buffer.from(bytes.buffer, bytes.byteOffset + voteAt, voteEnd - voteAt).toString(
    'latin1',
  )
  return { hardState: { term, vote: vote === '' ? null : vote, commit }, next: voteEnd }
}

function readEntries(view: DataView, bytes: Uint8Array, from: number, end: number): Entry[] | null {
  const entries: Entry[] = []
  for (let at = from; at < end; ) {
    const read = readEntry(view, bytes, at, end)
    const last = entries[entries.length - 1]
    if (read === null || (last !== undefined && read.entry.index !== last.index + 1)) return null
    entries.push(read.entry)
    at = read.next
  }
  return entries
}

/** The offset at or behind `from` of a record header that checks and has a sequence above `sequence`; null when there is none. */
export function findLaterRecord(
  bytes: Uint8Array,
  from: number,
  seed: number,
  sequence: number,
): number | null {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const magic = Uint8Array.of(0x52, 0x50, 0x32, 0x42)
  for (let at = text.indexOf(magic, from); at !== -1; at = text.indexOf(magic, at + 1)) {
    const header = decodeRecordHeader(bytes, at, seed)
    if (typeof header !== 'string' && header.sequence > sequence) return at
  }
  return null
}

/** The offset behind the last byte that is not zero, at least `from`. */
export function endOfContent(bytes: Uint8Array, from: number): number {
  let end = bytes.length
  for (let block = ZEROS.length; block >= ZEROS_MIN; block >>= 4) {
    while (end > from && isZero(bytes, Math.max(from, end - block), end)) {
      end = Math.max(from, end - block)
    }
  }
  while (end > from && bytes[end - 1] === 0) end--
  return end
}

const ZEROS = new Uint8Array(1 << 16)
/** Below it, looking at each byte is as fast. */
const ZEROS_MIN = 256

/** At most as many bytes as ZEROS has. */
function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  return Buffer.compare(bytes.subarray(from, to), ZEROS.subarray(0, to - from)) === 0
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
