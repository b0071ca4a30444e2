/**
 * Prints a log directory for people: every header, record and entry with its place, however damaged. Reads only: it
 * must never repair anything, and needs no identity (the storageId is taken from each segment's own header).
 */
import { ENTRY_HEADER_BYTES } from '../raft/entry-codec.ts'
import type { EntryId } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import {
  decodeRecord,
  decodeSegmentHeader,
  endOfContent,
  type LogRecord,
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentNumber,
  storageSeed,
} from './segment.ts'

export type DumpLine =
  | {
      readonly type: 'segment'
      readonly file: string
      readonly offset: 0
      readonly number: number
      readonly version: number
      readonly storageId: string
      readonly preallocatedBytes: number
      readonly fileBytes: number
    }
  | {
      readonly type: 'record'
      readonly file: string
      readonly offset: number
      readonly bytes: number
      readonly sequence: number
      readonly checksum: string
      readonly term: number | null
      readonly vote: string | null
      readonly commit: number | null
      /** Of the first batch of a segment: the last entry before it, `index.term`. */
      readonly start: string | null
      /** Of a batch that forgets all entries before: the entry behind which the log begins, `index.term`. */
      readonly base: string | null
      readonly entries: number
    }
  | {
      readonly type: 'entry'
      readonly file: string
      readonly offset: number
      readonly term: number
      readonly index: number
      readonly kind: string
      readonly payloadBytes: number
      /** The first 64 bytes, base64. */
      readonly payloadStart: string
    }
  | {
      readonly type: 'damage'
      readonly file: string
      readonly offset: number
      readonly fault: string
      /** What the record's header says, when the header itself is whole. */
      readonly sequence: number | null
    }
  | {
      /** Bytes that belong to no record: what a torn batch has left. */
      readonly type: 'rest'
      readonly file: string
      readonly offset: number
      readonly bytes: number
    }

const PAYLOAD_SHOWN_BYTES = 64
const RECORD_MAGIC_BYTES = Uint8Array.of(0x52, 0x50, 0x32, 0x42)

/** `directory`: a node's data directory, or the `wal` folder in it. */
export function* dumpLog(disk: Disk, directory: string): Iterable<DumpLine> {
  const inner = `${directory}/wal`
  const place = disk.stat(inner)?.kind === 'directory' ? inner : directory
  const chain: Chain = { sequence: null, checksum: null }
  for (const name of disk.list(place)) {
    if (segmentNumber(name) !== null) yield* dumpSegment(disk, `${place}/${name}`, chain)
  }
}

interface Chain {
  sequence: number | null
  checksum: number | null
}

function* dumpSegment(disk: Disk, file: string, chain: Chain): Iterable<DumpLine> {
  const bytes = disk.read(file)
  if (bytes === null) return
  const header = decodeSegmentHeader(bytes)
  if (typeof header === 'string') {
    yield { type: 'damage', file, offset: 0, fault: header, sequence: null }
    return
  }
  const { number, version, storageId, sizeBytes } = header
  const fileBytes = bytes.length
  yield {
    type: 'segment',
    file,
    offset: 0,
    number,
    version,
    storageId,
    preallocatedBytes: sizeBytes,
    fileBytes,
  }
  if (fileBytes < sizeBytes) {
    const fault = `the file has lost its end, ${sizeBytes} bytes are expected`
    yield { type: 'damage', file, offset: fileBytes, fault, sequence: null }
  }
  yield* dumpRecords(file, bytes, storageSeed(storageId), chain)
}

function* dumpRecords(
  file: string,
  bytes: Uint8Array,
  seed: number,
  chain: Chain,
): Iterable<DumpLine> {
  const contentEnd = endOfContent(bytes, SEGMENT_HEADER_BYTES)
  let at = SEGMENT_HEADER_BYTES
  while (at < contentEnd) {
    const decoded = decodeRecord(bytes, at, seed)
    if (decoded.ok) {
      yield* dumpRecord(file, bytes.byteOffset, decoded.record, chain)
      at = decoded.record.end
      continue
    }
    const sequence = decoded.header?.sequence ?? null
    const next = nextWholeRecord(bytes, at + 1, seed)
    if (next !== null || !isErased(bytes, at)) {
      yield { type: 'damage', file, offset: at, fault: decoded.fault, sequence }
    }
    if (next === null) {
      yield { type: 'rest', file, offset: at, bytes: contentEnd - at }
      return
    }
    yield { type: 'rest', file, offset: at, bytes: next - at }
    at = next
  }
}

function* dumpRecord(
  file: string,
  /** Where the file's bytes start in their buffer: payloads are views of it. */
  base: number,
  record: LogRecord,
  chain: Chain,
): Iterable<DumpLine> {
  const { sequence, hardState, entries, at, end } = record
  const expected = chain.sequence === null ? sequence : chain.sequence + 1
  const linked = chain.checksum === null || chain.checksum === record.previous
  if (sequence !== expected || !linked) {
    const fault = `does not continue batch ${chain.sequence}`
    yield { type: 'damage', file, offset: at, fault, sequence }
  }
  chain.sequence = sequence
  chain.checksum = record.checksum
  yield {
    type: 'record',
    file,
    offset: at,
    bytes: end - at,
    sequence,
    checksum: record.checksum.toString(16).padStart(8, '0'),
    term: hardState?.term ?? null,
    vote: hardState?.vote ?? null,
    commit: hardState?.commit ?? null,
    start: shownId(record.start),
    base: shownId(record.base),
    entries: entries.length,
  }
  for (const entry of entries) {
    const { term, index, kind, payload } = entry
    const shown = payload.subarray(0, PAYLOAD_SHOWN_BYTES)
    yield {
      type: 'entry',
      file,
      offset: payload.byteOffset - base - ENTRY_HEADER_BYTES,
      term,
      index,
      kind,
      payloadBytes: payload.length,
      payloadStart: Buffer.from(shown).toString('base64'),
    }
  }
}

/** A batch that found no room is given up by erasing its header (wal.ts): what lies behind it is no damage. */
function isErased(bytes: Uint8Array, at: number): boolean {
  return bytes.subarray(at, at + RECORD_HEADER_BYTES).every((byte) => byte === 0)
}

function nextWholeRecord(bytes: Uint8Array, from: number, seed: number): number | null {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = text.indexOf(RECORD_MAGIC_BYTES, from)
  while (at !== -1 && !decodeRecord(bytes, at, seed).ok)
    at = text.indexOf(RECORD_MAGIC_BYTES, at + 1)
  return at === -1 ? null : at
}

function shownId(id: EntryId | null): string | null {
  return id === null ? null : `${id.index}.${id.term}`
}
