/**
 * Reads a log directory back: replays the batches in order, cuts a torn last batch, and refuses everything else that is
 * wrong. It must never cut a batch that another batch follows, and it changes nothing on disk before it has decided.
 */

import { mark } from '../raft/marks.ts'
import type { Index } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import { corrupt, Replay } from './replay.ts'
import {
  decodeSegmentHeader,
  endOfContent,
  findLaterRecord,
  type LogRecord,
  type SegmentHeader,
  segmentName,
  segmentNumber,
  storageSeed,
} from './segment.ts'
import { type Recovered, StorageError } from './storage.ts'

export interface SegmentPlace {
  readonly path: string
  readonly number: number
  /** Of its format. */
  readonly version: number
  /** The file's size; more than what was preallocated when one batch was larger than a segment. */
  readonly sizeBytes: number
  /** The highest index of any entry in it that is still needed; 0 for none. */
  readonly lastIndex: Index
}

export interface RecoveredLog extends Recovered {
  /** The number of the last batch. */
  readonly sequence: number
  /** The checksum of the last one. */
  readonly previous: number
  /** Full segments, the oldest first: they go when all their entries are compacted. */
  readonly old: readonly SegmentPlace[]
  /** The segment the next batch goes to, and where in it; null when there is no batch yet. */
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
  const replay = new Replay(storageSeed(storageId))
  const read = readSegments(disk, directory, storageId, replay)
  const { places, tail, repairs } = read
  const lastPath = places.at(-1)?.path ?? directory
  if (!replay.begun && places.length > 0) {
    throw corrupt(`${directory}/${segmentName(1)}`, 0, 'the segment is missing')
  }
  const { base, entries } = replay.result(lastPath)
  if (replay.sequence === 0 && !mayBeEmpty) throw lost(directory)
  if (repairs.some((repair) => repair.cuts)) mark('recovery: a torn batch is cut')
  for (const repair of repairs) disk.overwrite(repair.path, repair.at, repair.bytes)
  removeUnfinished(disk, directory)
  // The newest segment may have been renamed to its name, and the process killed before that was durable.
  if (places.length > 0) disk.syncDirectory(directory)
  const used = tail === null || replay.sequence === 0 ? -1 : tail.segment
  const active = places[used]
  return {
    hardState: replay.hardState,
    base,
    firstIndex: base.index + 1,
    entries,
    tornTailCut: repairs.some((repair) => repair.cuts),
    sequence: replay.sequence,
    previous: replay.previous,
    old: needed(places.slice(0, Math.max(0, used)), replay),
    active: active === undefined || tail === null ? null : { position: tail.at, ...active },
    spares: usableSpares(disk, places.slice(used + 1)),
  }
}

function readSegments(
  disk: Disk,
  directory: string,
  storageId: string,
  replay: Replay,
): { places: SegmentPlace[]; tail: Tail | null; repairs: Repair[] } {
  const seed = storageSeed(storageId)
  const places: SegmentPlace[] = []
  let tail: Tail | null = null
  let repairs: Repair[] = []
  for (const [position, { path, number }] of listSegments(disk, directory).entries()) {
    const { bytes, header } = loadSegment(disk, path, number, storageId)
    const place = { path, number, version: header.version, sizeBytes: bytes.length, lastIndex: 0 }
    if (!replay.begun && number > 1 && header.version === 1) {
      // Nothing says where it begins. It stands here because all segments of its version were to go, and the process ended
      // in the middle; what follows them says where the log begins.
      mark('recovery: segments of version 1 were not all removed')
      places.push(place)
      continue
    }
    const read = replay.segment(path, bytes, header)
    places.push({ ...place, lastIndex: read.lastIndex })
    if (read.last !== null || tail === null) {
      tail = { segment: position, at: read.at, last: read.last }
      repairs = []
    }
    if (findLaterRecord(bytes, read.at, seed, replay.sequence + 1) !== null) {
      throw corrupt(
        places[tail.segment]?.path ?? path,
        tail.at,
        `batch ${replay.sequence + 1} is damaged and later batches follow it`,
      )
    }
    const repair = repairOf(path, bytes, read.at, tail.segment === position ? tail.last : null)
    if (repair !== null) repairs.push(repair)
  }
  return { places, tail, repairs }
}

/** Of the full segments, how much of each is still needed: nothing of those before a base. */
function needed(old: readonly SegmentPlace[], replay: Replay): SegmentPlace[] {
  const base = old.findIndex(({ path }) => path === replay.baseIn)
  const forgotten = base === -1 && replay.baseIn !== null ? old.length : base
  return old.map((place, position) => {
    if (position < forgotten) return { ...place, lastIndex: 0 }
    // Skipped above; they may go when what follows them may.
    const isSkipped = replay.compacted !== null && place.version === 1
    return isSkipped ? { ...place, lastIndex: replay.compacted?.index ?? 0 } : place
  })
}

/** An empty segment of an older version cannot take batches of this one. They are made anew; the last one goes first, so that there is no hole. */
function usableSpares(disk: Disk, spares: readonly SegmentPlace[]): SegmentPlace[] {
  const first = spares.findIndex(({ version }) => version === 1)
  if (first === -1) return [...spares]
  mark('recovery: an empty segment of version 1 is removed')
  for (const { path } of spares.slice(first).reverse()) disk.remove(path)
  return spares.slice(0, first)
}

interface Named {
  readonly path: string
  readonly number: number
}

/** In order. The numbers must follow each other: segments are made at the end and removed at the beginning, one by one. */
export function listSegments(disk: Disk, directory: string): Named[] {
  const found: Named[] = []
  for (const name of disk.list(directory)) {
    const number = segmentNumber(name)
    if (number === null) continue
    const wanted = (found.at(-1)?.number ?? number - 1) + 1
    if (number !== wanted || number === 0) {
      throw corrupt(`${directory}/${segmentName(wanted)}`, 0, 'the segment is missing')
    }
    found.push({ path: `${directory}/${name}`, number })
  }
  return found
}

function loadSegment(
  disk: Disk,
  path: string,
  number: number,
  storageId: string,
): { bytes: Uint8Array; header: SegmentHeader } {
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
  return { bytes, header }
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
