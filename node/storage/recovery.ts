/**
 * Reads a log directory back: replays the batches in order, cuts a torn last batch, and refuses everything else that is
 * wrong. It must never cut a batch that another batch follows, and it changes nothing on disk before it has decided.
 */

import { mark } from '../raft/marks.ts'
import type { Entry, HardState } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import {
  decodeRecord,
  decodeSegmentHeader,
  endOfContent,
  findLaterRecord,
  type LogRecord,
  SEGMENT_HEADER_BYTES,
  segmentName,
  segmentNumber,
  storageSeed,
} from './segment.ts'
import { type Recovered, StorageError } from './storage.ts'

export interface SegmentPlace {
  readonly path: string
  readonly number: number
  /** The file's size; more than what was preallocated when one batch was larger than a segment. */
  readonly sizeBytes: number
}

export interface RecoveredLog extends Recovered {
  /** How many batches were read. */
  readonly sequence: number
  /** The checksum of the last one. */
  readonly previous: number
  /** The segment the next batch goes to, and where in it; null when there is no segment yet. */
  readonly active: (SegmentPlace & { readonly position: number }) | null
  /** Preallocated segments behind it, holding no batch. */
  readonly spares: readonly SegmentPlace[]
}

interface Tail {
  readonly segment: number
  readonly at: number
  readonly last: LogRecord | null
}

/** Bytes to put over [at, at + bytes.length) of a segment before the log may be used. */
interface Repair {
  readonly path: string
  readonly at: number
  readonly bytes: Uint8Array
  /** False when it only writes the last batch again. */
  readonly cuts: boolean
}

/** `mayBeEmpty`: the identity is blank, so that a log without a batch is no loss. */
export function recoverLog(
  disk: Disk,
  directory: string,
  expected: { readonly storageId: string; readonly mayBeEmpty: boolean },
): RecoveredLog {
  const { storageId, mayBeEmpty } = expected
  const seed = storageSeed(storageId)
  const segments = listSegments(disk, directory)
  const replay = new Replay(seed)
  let tail: Tail | null = null
  let repairs: Repair[] = []
  const sizes: number[] = []
  for (const [position, path] of segments.entries()) {
    const bytes = loadSegment(disk, path, position + 1, storageId)
    sizes.push(bytes.length)
    const read = replay.segment(path, bytes)
    if (read.last !== null || tail === null) {
      tail = { segment: position, ...read }
      repairs = []
    }
    if (findLaterRecord(bytes, read.at, seed, replay.sequence + 1) !== null) {
      throw corrupt(
        segments[tail.segment] ?? path,
        tail.at,
        `batch ${replay.sequence + 1} is damaged and later batches follow it`,
      )
    }
    const repair = repairOf(path, bytes, read.at, tail.segment === position ? tail.last : null)
    if (repair !== null) repairs.push(repair)
  }
  if (replay.sequence === 0 && !mayBeEmpty) throw lost(directory)
  if (repairs.some((repair) => repair.cuts)) mark('recovery: a torn batch is cut')
  for (const repair of repairs) disk.overwrite(repair.path, repair.at, repair.bytes)
  removeUnfinished(disk, directory)
  // The newest segment may have been renamed to its name, and the process killed before that was durable.
  if (segments.length > 0) disk.syncDirectory(directory)
  const places = segments.map((path, i) => ({ path, number: i + 1, sizeBytes: sizes[i] ?? 0 }))
  const active = tail === null ? undefined : places[tail.segment]
  return {
    hardState: replay.hardState,
    base: { term: 0, index: 0 },
    firstIndex: replay.firstIndex,
    entries: replay.entries,
    tornTailCut: repairs.some((repair) => repair.cuts),
    sequence: replay.sequence,
    previous: replay.previous,
    active: active === undefined || tail === null ? null : { ...active, position: tail.at },
    spares: tail === null ? [] : places.slice(tail.segment + 1),
  }
}

/**
 * Puts the batches of the segments together. Payloads are copied out of the segment, so that its buffer can go.
 */
class Replay {
  hardState: HardState | null = null
  firstIndex = 1
  readonly entries: Entry[] = []
  sequence = 0
  previous: number
  readonly #seed: number

  constructor(seed: number) {
    this.#seed = seed
    this.previous = seed
  }

  /** Applies the records of one segment up to the first that is not whole, or not the next one. */
  segment(path: string, bytes: Uint8Array): { at: number; last: LogRecord | null } {
    let at = SEGMENT_HEADER_BYTES
    let last: LogRecord | null = null
    for (;;) {
      const decoded = decodeRecord(bytes, at, this.#seed)
      const header = decoded.ok ? decoded.record : decoded.header
      if (header?.sequence !== this.sequence + 1) break
      if (header.previous !== this.previous) {
        throw corrupt(path, at, `batch ${header.sequence} does not continue the batch before it`)
      }
      if (!decoded.ok) break
      this.#apply(path, decoded.record)
      last = decoded.record
      at = last.end
    }
    return { at, last }
  }

  #apply(path: string, record: LogRecord): void {
    const [first] = record.entries
    if (first !== undefined) {
      const kept = first.index - this.firstIndex
      if (kept < 0 || kept > this.entries.length) {
        throw corrupt(path, record.at, `batch ${record.sequence} leaves a gap in the log`)
      }
      this.entries.length = kept
      for (const entry of record.entries) {
        this.entries.push({ ...entry, payload: Uint8Array.from(entry.payload) })
      }
    }
    if (record.hardState !== null) this.hardState = record.hardState
    this.sequence = record.sequence
    this.previous = record.checksum
  }
}

/** Segment paths in order. Their numbers must be 1, 2, 3 ..: no operation leaves a hole. */
export function listSegments(disk: Disk, directory: string): string[] {
  const names = disk.list(directory).filter((name) => segmentNumber(name) !== null)
  for (const [position, name] of names.entries()) {
    const wanted = segmentName(position + 1)
    if (name !== wanted) throw corrupt(`${directory}/${wanted}`, 0, 'the segment is missing')
  }
  return names.map((name) => `${directory}/${name}`)
}

function loadSegment(disk: Disk, path: string, number: number, storageId: string): Uint8Array {
  const bytes = disk.read(path)
  if (bytes === null) throw corrupt(path, 0, 'the segment has vanished')
  const header = decodeSegmentHeader(bytes)
  // A segment gets its name only when it is whole and durable, so nothing here can be a torn write.
  if (typeof header === 'string') throw corrupt(path, 0, header)
  if (header.storageId !== storageId) {
    throw new StorageError(
      'storage-lost',
      `${path} belongs to storage ${header.storageId}, this node's identity to ${storageId}. The log of this node is ` +
        'lost: `raft-p2p rejoin` archives what is here and enters again as a new member.',
      { path, offset: 16 },
    )
  }
  if (header.number !== number) throw corrupt(path, 32, `its header says segment ${header.number}`)
  if (bytes.length < header.sizeBytes) {
    throw corrupt(path, bytes.length, `it has lost its end, ${header.sizeBytes} bytes are expected`)
  }
  return bytes
}

/**
 * The last batch may be in the page cache only, and the page may even be marked clean after a failed fsync: it is written
 * again, and synced, before anything is built on it. What lies behind it becomes zeros.
 */
function repairOf(
  path: string,
  bytes: Uint8Array,
  at: number,
  last: LogRecord | null,
): Repair | null {
  const end = endOfContent(bytes, at)
  const start = last?.at ?? at
  if (end === start) return null
  const repaired = Uint8Array.from(bytes.subarray(start, end))
  repaired.fill(0, at - start)
  return { path, at: start, bytes: repaired, cuts: end > at }
}

/** A segment that was being preallocated when the process ended. */
function removeUnfinished(disk: Disk, directory: string): void {
  for (const name of disk.list(directory)) {
    if (!name.endsWith('.wal.tmp')) continue
    mark('recovery: an unfinished segment is removed')
    disk.remove(`${directory}/${name}`)
  }
}

function lost(directory: string): StorageError {
  mark('recovery: a lost log is refused')
  return new StorageError(
    'storage-lost',
    `The log in ${directory} is missing or empty, but this node belongs to a cluster. It must not vote again: bring ` +
      'the disk back, or enter as a new member with `raft-p2p rejoin`.',
    { path: directory },
  )
}

function corrupt(path: string, offset: number, what: string): StorageError {
  mark('recovery: a damaged log is refused')
  return new StorageError(
    'corrupt-log',
    `The log is damaged at byte ${offset} of ${path}: ${what}. Acknowledged entries may be lost, so this node does not ` +
      'start. `raft-p2p wal dump` shows the file; `raft-p2p rejoin` archives it and enters again as a new member.',
    { path, offset },
  )
}
