/**
 * Puts the batches of the segments together, in order, and refuses what does not continue what was read before. It knows nothing of
 * files but their names for messages. Payloads are copied out of the segment, so that its buffer can go.
 */
import { mark } from '../raft/marks.ts'
import type { Entry, EntryId, HardState, Index } from '../raft/types.ts'
import {
  decodeRecord,
  type LogRecord,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment.ts'
import { StorageError } from './storage.ts'

export interface SegmentRead {
  /** Behind the last record that was read. */
  readonly at: number
  readonly last: LogRecord | null
  /** The highest index of any entry in the segment that a later base has not forgotten; 0 for none. */
  readonly lastIndex: Index
}

export class Replay {
  hardState: HardState | null = null
  sequence = 0
  previous: number
  #base: EntryId = { term: 0, index: 0 }
  #entries: Entry[] = []
  /** The index of the first of `#entries`. */
  #firstIndex: Index = 1
  /**
   * The last entry before the first segment that is still there, null when no segment was removed. Everything up to it was
   * compacted, so it may be missing here: the batches that follow may have rewritten some of it before it was committed.
   */
  #compacted: EntryId | null = null
  #begun = false
  #baseIn: string | null = null
  readonly #seed: number

  constructor(seed: number) {
    this.#seed = seed
    this.previous = seed
  }

  get begun(): boolean {
    return this.#begun
  }

  /** The segment that holds the newest base: what stands before it is forgotten. Null when there is no base. */
  get baseIn(): string | null {
    return this.#baseIn
  }

  /** The last entry before the first segment. */
  get compacted(): EntryId | null {
    return this.#compacted
  }

  /** Applies the records of one segment up to the first that is not whole, or not the next one. */
  segment(path: string, bytes: Uint8Array, header: SegmentHeader): SegmentRead {
    if (!this.#begun && header.number > 1) this.#beginAt(path, bytes)
    this.#begun = true
    let at = SEGMENT_HEADER_BYTES
    let last: LogRecord | null = null
    let lastIndex = 0
    for (;;) {
      const decoded = decodeRecord(bytes, at, this.#seed)
      const found: RecordHeader | null = decoded.ok ? decoded.record : decoded.header
      if (found?.sequence !== this.sequence + 1) break
      if (found.previous !== this.previous) {
        throw corrupt(path, at, `batch ${found.sequence} does not continue the batch before it`)
      }
      if (!decoded.ok) break
      const { record } = decoded
      this.#checkStart(path, record, header.version > 1 && last === null)
      this.#apply(path, record)
      if (record.base !== null) lastIndex = 0
      lastIndex = Math.max(lastIndex, record.entries.at(-1)?.index ?? 0)
      last = record
      at = record.end
    }
    return { at, last, lastIndex }
  }

  /** What the log holds; everything has been read. */
  result(lastPath: string): { base: EntryId; entries: Entry[] } {
    const compacted = this.#compacted
    if (compacted === null || this.#firstIndex > compacted.index) {
      return { base: this.#base, entries: this.#entries }
    }
    // Some of what was compacted was rewritten by batches that are still there. Its last entry was committed when the segments before
    // were removed, so it is here.
    mark('recovery: what was compacted had been rewritten before')
    const position = compacted.index - this.#firstIndex
    const own = this.#entries[position]
    if (own === undefined) {
      throw corrupt(
        lastPath,
        0,
        `the log ends before entry ${compacted.index}, which was compacted`,
      )
    }
    const base = { term: own.term, index: own.index }
    return { base, entries: this.#entries.slice(position + 1) }
  }

  /** The segments before were removed. That was done when this segment's first batch was durable, so it must be whole. */
  #beginAt(path: string, bytes: Uint8Array): void {
    const at = SEGMENT_HEADER_BYTES
    const decoded = decodeRecord(bytes, at, this.#seed)
    if (!decoded.ok || decoded.record.start === null) {
      throw corrupt(path, at, 'the log begins here, and its first batch is not whole')
    }
    const { sequence, previous, start } = decoded.record
    this.sequence = sequence - 1
    this.previous = previous
    this.#base = this.#compacted = start
    this.#firstIndex = start.index + 1
  }

  /** The checksum holds, so these are mistakes of whoever wrote the batch, and not to be guessed about. */
  #checkStart(path: string, { start, at, sequence }: LogRecord, isWanted: boolean): void {
    if ((start !== null) !== isWanted) {
      throw corrupt(
        path,
        at,
        `batch ${sequence} ${isWanted ? 'does not say' : 'says'} where it begins`,
      )
    }
    if (start === null) return
    const own = this.#entries.at(-1) ?? this.#base
    if (start.term !== own.term || start.index !== own.index) {
      throw corrupt(path, at, `batch ${sequence} begins behind another entry than ${own.index}`)
    }
  }

  #apply(path: string, record: LogRecord): void {
    if (record.base !== null) {
      mark('recovery: a base is read')
      this.#base = record.base
      this.#firstIndex = record.base.index + 1
      this.#entries = []
      this.#compacted = null
      this.#baseIn = path
    }
    const [first] = record.entries
    if (first !== undefined) {
      if (this.#compacted !== null && first.index < this.#firstIndex) {
        this.#firstIndex = first.index
        this.#entries = []
      }
      const kept = first.index - this.#firstIndex
      if (kept < 0 || kept > this.#entries.length) {
        throw corrupt(path, record.at, `batch ${record.sequence} leaves a gap in the log`)
      }
      this.#entries.length = kept
      for (const entry of record.entries) {
        const { term, index, kind, payload } = entry
        this.#entries.push({ term, index, kind, payload: payload.slice() })
      }
    }
    if (record.hardState !== null) this.hardState = record.hardState
    this.sequence = record.sequence
    this.previous = record.checksum
  }
}

export function corrupt(path: string, offset: number, what: string): StorageError {
  mark('recovery: a damaged log is refused')
  return new StorageError(
    'corrupt-log',
    `The log is damaged at byte ${offset} of ${path}: ${what}. Acknowledged entries may be lost, so this node does not ` +
      'start. `raft-p2p wal dump` shows the file; `raft-p2p rejoin` archives it and enters again as a new member.',
    { path, offset },
  )
}
