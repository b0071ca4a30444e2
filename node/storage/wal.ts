/**
 * The write-ahead log: LogStorage over preallocated segments, one write and one fdatasync a batch. Driven by callbacks
 * alone, so that the simulator can stand in for disk and time. It must never report a batch durable before its fsync,
 * never retry a failed one, and never let a batch that failed for want of room be read back later than one that did not.
 */

import { mark } from '../raft/marks.ts'
import type { EntryId, HardState, Index } from '../raft/types.ts'
import { checkSave } from './checks.ts'
import type { Disk, DiskFile } from './disk.ts'
import { type RecoveredLog, recoverLog, type SegmentPlace } from './recovery.ts'
import {
  encodeRecord,
  encodeSegmentHeader,
  FORMAT_VERSION,
  RECORD_BODY_BYTES_MAX,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  segmentName,
  storageSeed,
} from './segment.ts'
import type { LogStorage, Recovered, Save, StorageError } from './storage.ts'

export const SEGMENT_BYTES_DEFAULT = 16 << 20
const SEGMENT_BYTES_MIN = 2 * SEGMENT_HEADER_BYTES
/** The next segment is made when this part of the present one is used: early enough to be ready, and idle nodes make none. */
const PREALLOCATE_AT = 1 / 4
/** Batches up to this size share one buffer; a larger one gets its own, which is not kept. */
const KEPT_BUFFER_BYTES = 1 << 20

export interface WalOptions {
  readonly disk: Disk
  /** Holds the segments and nothing else. */
  readonly directory: string
  /** 32 lower-case hex digits, as in the identity. */
  readonly storageId: string
  /** Size of a segment, at least 8 KiB; default 16 MiB. Only new segments are concerned. */
  readonly segmentBytes?: number
}

/**
 * Opens a log and recovers it; throws StorageError `corrupt-log`, `storage-lost`, `disk-full` or `io`. A log without a
 * single batch is `storage-lost` unless `create` says that the identity is blank and nothing can have been saved.
 */
export function openWal(options: WalOptions & { readonly create?: boolean }): LogStorage {
  const { disk, directory, storageId } = options
  const mayBeEmpty = options.create === true
  const recovered = recoverLog(disk, directory, { storageId, mayBeEmpty })
  if (mayBeEmpty) disk.makeDirectory(directory)
  return new Wal(options, recovered)
}

/**
 * Starts an empty log and removes what an earlier attempt has left (FOUNDING F6). The caller's identity must not be bound
 * yet: it saves the founding batch, waits for `done`, and only then binds.
 */
export function createWal(options: WalOptions): LogStorage {
  options.disk.remove(options.directory)
  return openWal({ ...options, create: true })
}

interface Segment extends SegmentPlace {
  readonly file: DiskFile
  /** Where the next batch goes. */
  position: number
  lastIndex: Index
}

interface PendingSave {
  readonly batch: Save
  readonly bytes: Uint8Array
  readonly checksum: number
  /** It does not go behind the last batch, but is the first one of the next segment. */
  readonly startsSegment: boolean
  readonly done: (error: StorageError | null) => void
}

class Wal implements LogStorage {
  readonly recovered: Recovered
  readonly #disk: Disk
  readonly #directory: string
  readonly #storageId: string
  readonly #segmentBytes: number
  readonly #seed: number
  #kept = new Uint8Array(1 << 12)

  /** Full segments, the oldest first. */
  readonly #old: SegmentPlace[]
  #active: Segment | null
  /** Preallocated and empty, the next one first. */
  readonly #spares: Segment[]
  #preparing = false
  /** There was no room for the next segment: it is tried again only when a batch needs it, not at every save. */
  #noRoomAhead = false
  /** The number of the newest segment that exists or is being made. */
  #newest: number

  /** Sequence and checksum of the last durable batch. */
  #sequence: number
  #previous: number
  /** The last durable entry; the base when there is none behind it. Invariant: `#floor` <= `#last.index`. */
  #last: EntryId
  /** Everything up to here may be forgotten. */
  #floor: Index
  /** What a new segment repeats, so that it can be read without those before. */
  #hardState: HardState | null

  #pending: PendingSave | null = null
  /** True while the pending save is at the disk, false while it waits for a segment. */
  #writing = false
  /** Where a batch that failed for want of room may have left bytes. */
  #leftover: { readonly segment: Segment; readonly position: number } | null = null
  #isDiscarding = false
  #fatal: StorageError | null = null
  #closing = false
  #closed = false
  readonly #closeWaiters: (() => void)[] = []

  constructor(options: WalOptions, recovered: RecoveredLog) {
    this.#disk = options.disk
    this.#directory = options.directory
    this.#storageId = options.storageId
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES_DEFAULT
    if (!Number.isSafeInteger(this.#segmentBytes) || this.#segmentBytes < SEGMENT_BYTES_MIN) {
      throw new RangeError(`segmentBytes must be an integer of at least ${SEGMENT_BYTES_MIN}`)
    }
    this.#seed = storageSeed(options.storageId)
    const { hardState, base, firstIndex, entries, tornTailCut, active, spares } = recovered
    this.recovered = { hardState, base, firstIndex, entries, tornTailCut }
    this.#old = [...recovered.old]
    this.#active = active === null ? null : this.#opened(active, active.position)
    this.#spares = spares.map((spare) => this.#opened(spare, SEGMENT_HEADER_BYTES))
    this.#newest = (spares.at(-1) ?? active)?.number ?? 0
    this.#sequence = recovered.sequence
    this.#previous = recovered.previous
    const last = entries.at(-1) ?? base
    this.#last = { term: last.term, index: last.index }
    this.#floor = base.index
    this.#hardState = hardState
  }

  save(batch: Save, done: (error: StorageError | null) => void): void {
    if (this.#closing) throw new Error('bug: save after close')
    if (this.#pending !== null) throw new Error('bug: a save is in flight already')
    checkSave(batch, { floor: this.#floor, lastIndex: this.#last.index })
    const active = this.#active
    const startsSegment = active === null || !this.#fits(batch, active)
    this.#pending = { batch, startsSegment, done, ...this.#encoded(batch, startsSegment) }
    if (this.#fatal !== null) this.#finishSoon(this.#fatal)
    else if (isEmpty(batch)) this.#finishSoon(null)
    else this.#place(this.#pending)
  }

  compact(to: Index): void {
    if (to > this.#last.index) throw new Error(`bug: compact to ${to} of ${this.#last.index}`)
    this.#floor = Math.max(this.#floor, to)
    this.#discardNext()
  }

  close(done: () => void): void {
    if (this.#closed && this.#closeWaiters.length === 0) return this.#disk.soon(done)
    this.#closeWaiters.push(done)
    this.#closing = true
    this.#closeWhenIdle()
  }

  #fits(batch: Save, active: Segment): boolean {
    // Version 1 knows no base: a program that reads no more than that must not take it for a torn batch.
    if (batch.base !== undefined && active.version === 1) return false
    return active.position + recordBytes(batch, null) <= active.sizeBytes
  }

  #encoded(batch: Save, startsSegment: boolean): { bytes: Uint8Array; checksum: number } {
    const start = startsSegment ? this.#last : null
    const hardState = batch.hardState ?? (startsSegment ? this.#hardState : null)
    const { entries, base } = batch
    const full = base === undefined ? { hardState, entries } : { hardState, entries, base }
    const bytes = this.#buffer(recordBytes(full, start))
    const checksum = encodeRecord(bytes, full, {
      seed: this.#seed,
      sequence: this.#sequence + 1,
      previous: this.#previous,
      start,
    })
    return { bytes, checksum }
  }

  #buffer(sizeBytes: number): Uint8Array {
    if (sizeBytes > RECORD_BODY_BYTES_MAX) throw new Error(`bug: a batch of ${sizeBytes} bytes`)
    if (sizeBytes > KEPT_BUFFER_BYTES) return new Uint8Array(sizeBytes)
    if (sizeBytes > this.#kept.length) this.#kept = new Uint8Array(2 * sizeBytes)
    return this.#kept.subarray(0, sizeBytes)
  }

  /** Finds the segment for the batch: the present one when it fits, else the next, which may have to be made first. */
  #place(pending: PendingSave): void {
    const active = this.#active
    if (active !== null && !pending.startsSegment) return this.#write(pending, active)
    const [spare] = this.#spares
    // A batch that is larger than a segment makes the file of the next one grow.
    if (spare === undefined) mark('wal: a batch waits for its segment')
    if (spare !== undefined) this.#write(pending, spare)
    // Otherwise the end of the preparation comes back here.
    else if (!this.#preparing) this.#prepare()
  }

  #prepare(): void {
    const number = this.#newest + 1
    const path = `${this.#directory}/${segmentName(number)}`
    const sizeBytes = this.#segmentBytes
    const version = FORMAT_VERSION
    const head = encodeSegmentHeader({ version, storageId: this.#storageId, number, sizeBytes })
    this.#preparing = true
    this.#disk.allocate(path, head, sizeBytes, (error, file) => {
      this.#preparing = false
      if (file !== null) {
        this.#newest = number
        this.#noRoomAhead = false
        const position = SEGMENT_HEADER_BYTES
        this.#spares.push({ path, number, version, sizeBytes, file, position, lastIndex: 0 })
      } else if (error?.code === 'disk-full') {
        mark('wal: no room for the next segment')
        this.#noRoomAhead = true
      } else {
        this.#fatal ??= error
      }
      this.#prepared(error)
    })
  }

  /** A save may have been waiting for the segment; when there is none, want of room concerns that save alone. */
  #prepared(error: StorageError | null): void {
    const pending = this.#pending
    const waiting = pending !== null && !this.#writing
    if (waiting && error !== null) this.#finish(error)
    else if (waiting) this.#place(pending)
    if (this.#closing) this.#closeWhenIdle()
  }

  #write(pending: PendingSave, segment: Segment): void {
    this.#writing = true
    const leftover = this.#leftover
    if (
      leftover !== null &&
      (leftover.segment !== segment || leftover.position !== segment.position)
    ) {
      return this.#erase(leftover, pending, segment)
    }
    segment.file.write([pending.bytes], segment.position, (error) => {
      this.#writing = false
      if (error === null) {
        this.#leftover = null
        this.#advance(pending, segment)
      } else if (error.code === 'disk-full') {
        mark('wal: a batch finds no room')
        this.#leftover = { segment, position: segment.position }
      } else {
        this.#fatal ??= error
      }
      this.#finish(error)
    })
  }

  /**
   * A batch that failed for want of room may lie whole on the disk after all, when its end is zeros or was written. Were
   * the next batch, which has the same sequence, put elsewhere, recovery could take the old one for it. So its header goes
   * first.
   */
  #erase(
    leftover: { readonly segment: Segment; readonly position: number },
    pending: PendingSave,
    segment: Segment,
  ): void {
    mark('wal: what a failed batch left is erased')
    const zeros = new Uint8Array(RECORD_HEADER_BYTES)
    leftover.segment.file.write([zeros], leftover.position, (error) => {
      if (error === null) {
        this.#leftover = null
        return this.#write(pending, segment)
      }
      this.#writing = false
      if (error.code !== 'disk-full') this.#fatal ??= error
      this.#finish(error)
    })
  }

  #advance(pending: PendingSave, segment: Segment): void {
    const { batch, bytes, checksum } = pending
    segment.position += bytes.length
    this.#sequence++
    this.#previous = checksum
    this.#hardState = batch.hardState ?? this.#hardState
    if (segment !== this.#active) this.#take(segment)
    if (batch.base !== undefined) this.#forget(batch.base, segment)
    const last = batch.entries.at(-1)
    if (last !== undefined) {
      this.#last = { term: last.term, index: last.index }
      segment.lastIndex = Math.max(segment.lastIndex, last.index)
    }
    if (batch.base !== undefined) this.#discardNext()
    const roomBytes = segment.sizeBytes - SEGMENT_HEADER_BYTES
    const late = segment.position - SEGMENT_HEADER_BYTES >= roomBytes * PREALLOCATE_AT
    const idle = !this.#preparing && !this.#noRoomAhead && !this.#closing
    if (late && idle && this.#spares.length === 0) this.#prepare()
  }

  #take(segment: Segment): void {
    const full = this.#active
    this.#active = segment
    this.#spares.shift()
    if (full === null) return
    mark('wal: the next segment is taken')
    full.file.close(() => {})
    const { path, number, version, sizeBytes, lastIndex } = full
    this.#old.push({ path, number, version, sizeBytes, lastIndex })
  }

  /** Nothing before this base, which is durable now, is needed any more. */
  #forget(base: EntryId, segment: Segment): void {
    mark('wal: a base takes the place of the log')
    this.#last = { ...base }
    this.#floor = base.index
    segment.lastIndex = 0
    for (const [i, old] of this.#old.entries()) this.#old[i] = { ...old, lastIndex: 0 }
  }

  /** One segment after the other, the oldest first: a crash in between leaves no hole. */
  #discardNext(): void {
    const [oldest] = this.#old
    if (this.#isDiscarding || this.#closing || this.#fatal !== null) return
    if (oldest === undefined || !this.#isCompacted(oldest)) return
    mark('wal: a segment is removed')
    this.#isDiscarding = true
    this.#disk.discard(oldest.path, (error) => {
      this.#isDiscarding = false
      if (error === null) {
        this.#old.shift()
        this.#discardNext()
      } else if (error.code !== 'disk-full') this.#fatal ??= error
      if (this.#closing) this.#closeWhenIdle()
    })
  }

  /** Segments of version 1 do not say where they begin: they can go only when all of them can, and one of version 2 follows. */
  #isCompacted(oldest: SegmentPlace): boolean {
    if (oldest.version > 1) return oldest.lastIndex <= this.#floor
    return (
      this.#active?.version !== 1 &&
      this.#old.every(({ version, lastIndex }) => version > 1 || lastIndex <= this.#floor)
    )
  }

  /** Nothing of this save goes to the disk, and it waits for no segment. */
  #finishSoon(error: StorageError | null): void {
    this.#writing = true
    this.#disk.soon(() => {
      this.#writing = false
      this.#finish(error)
    })
  }

  #finish(error: StorageError | null): void {
    const pending = this.#pending
    if (pending === null) throw new Error('bug: a save ended twice')
    this.#pending = null
    pending.done(error)
    if (this.#closing) this.#closeWhenIdle()
  }

  #closeWhenIdle(): void {
    if (this.#pending !== null || this.#preparing || this.#isDiscarding || this.#closed) return
    this.#closed = true
    const files = [...this.#spares, ...(this.#active === null ? [] : [this.#active])]
    let open = files.length
    const closedOne = () => {
      if (--open > 0) return
      for (const waiter of this.#closeWaiters.splice(0)) waiter()
    }
    if (open === 0) return this.#disk.soon(closedOne)
    for (const segment of files) segment.file.close(closedOne)
  }

  #opened(place: SegmentPlace, position: number): Segment {
    const { path, number, version, sizeBytes, lastIndex } = place
    const file = this.#disk.open(path)
    return { path, number, version, sizeBytes, file, position, lastIndex }
  }
}

function isEmpty({ hardState, entries, base }: Save): boolean {
  return hardState === null && entries.length === 0 && base === undefined
}
