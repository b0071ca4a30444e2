/**
 * A log on a disk in memory and the plainest idea of what it must hold: a list of entries and a hard state. Saves fail for want of
 * room, the power goes in the middle of them, and after each restart the log is what was acknowledged, or that and one batch
 * that was not.
 */
import * as assert from 'uvu/assert'
import { dumpLog } from '../../node/storage/dump.ts'
import type { LogStorage, Save, StorageError } from '../../node/storage/storage.ts'
import { openWal } from '../../node/storage/wal.ts'
import {
  difference,
  EMPTY_LOG,
  type LogImage,
  lastOf,
  withBatch,
  withCompact,
} from '../support/log-image.ts'
import { MemoryDisk } from './memory-disk.ts'

export const DIRECTORY = '/d/wal'
export const STORAGE_ID = '00112233445566778899aabbccddeeff'
const SECTOR_BYTES = 512
/** The smallest there is: a header block and 4 KiB of records. */
const SEGMENT_BYTES = 8192

export function open(disk: MemoryDisk, create: boolean): LogStorage {
  return openWal({
    disk,
    directory: DIRECTORY,
    storageId: STORAGE_ID,
    segmentBytes: SEGMENT_BYTES,
    create,
  })
}

/** A save as somebody might ask for it; the world makes it fit the log. */
export interface Step {
  /** How many entries before the end are written again. */
  readonly back: number
  readonly sizes: readonly number[]
  readonly rise: boolean
  readonly vote: string | null
  readonly what: 'saved' | 'no room' | 'power cut' | 'fsync fails'
  /** How much of the log is compacted before the save, in percent; more than 100: nothing. */
  readonly compact: number
  /** So far ahead lies the base that takes the place of the log; 0: none. */
  readonly ahead: number
  /** For a failure: how much reaches the file. For a power cut: after how many callbacks. */
  readonly after: number
  /** One bit a sector: whether it reached the disk. */
  readonly sectors: number
}

export class WalWorld {
  #disk = new MemoryDisk()
  #log: LogStorage
  /** What was acknowledged. */
  #held: LogImage = EMPTY_LOG
  /** Batches that nobody was told are saved since then, one of which may be there all the same. */
  #maybe: Save[] = []
  #term = 1
  restarts = 0
  survived = 0
  compacted = 0

  constructor() {
    this.#log = open(this.#disk, true)
  }

  run(step: Step): void {
    this.#compact(step.compact)
    const batch = this.#batchOf(step)
    const before = this.#disk.copy()
    const written: { path: string; position: number; bytes: Uint8Array }[] = []
    this.#disk.onWrite = (path, position, bytes) => written.push({ path, position, bytes })
    if (step.what === 'no room') this.#disk.fault = { code: 'disk-full', reaches: step.after * 37 }
    if (step.what === 'fsync fails') this.#disk.fault = { code: 'io', reaches: step.after * 37 }
    const ends: (StorageError | null)[] = []
    this.#log.save(batch, (error) => ends.push(error))
    this.#disk.settle(step.what === 'power cut' ? step.after % 6 : undefined)
    // A batch that is acknowledged stands where a failed one might have been found.
    if (ends[0] !== null) this.#maybe.push(batch)
    else this.#acknowledge(batch)
    if (step.what === 'power cut') this.#powerCut(before, written, step.sectors, ends.length > 0)
    if (step.what === 'power cut' || step.what === 'fsync fails') this.restart()
  }

  /** The process ends, and the next one reads the log. */
  restart(): void {
    this.restarts++
    this.#disk = this.#disk.copy()
    const isBlank = this.#held === EMPTY_LOG
    this.#log = open(this.#disk, isBlank)
    const { recovered } = this.#log
    const survivor = this.#maybe.find(
      (batch) => difference(withBatch(this.#held, batch), recovered) === null,
    )
    if (survivor !== undefined && difference(this.#held, recovered) !== null) {
      this.#acknowledge(survivor)
      this.survived++
    }
    assert.is(difference(this.#held, recovered), null, 'the log is not what was acknowledged')
    if (recovered.base.index > this.#held.base.index) this.compacted++
    this.#maybe = []
    // What a save without room has left in an earlier segment may lie there; it is no record of any batch.
    for (const line of dumpLog(this.#disk, DIRECTORY)) {
      if (line.type === 'damage') assert.is(line.sequence, null, `damage is left: ${line.fault}`)
    }
  }

  #acknowledge(batch: Save): void {
    this.#held = withBatch(this.#held, batch)
    this.#maybe = []
  }

  /** Up to some entry that no batch rewrites, one that may still be found included: what is compacted was committed. */
  #compact(percent: number): void {
    const { base, compacted } = this.#held
    const floor = Math.max(base.index, compacted)
    const rewritten = this.#maybe.map(({ entries }) => (entries[0]?.index ?? Infinity) - 1)
    const room = Math.min(lastOf(this.#held).index, ...rewritten) - floor
    if (percent > 100 || room <= 0) return
    const to = floor + Math.ceil((room * percent) / 100)
    this.#log.compact(to)
    this.#held = withCompact(this.#held, to)
  }

  #batchOf({ back, sizes, rise, vote, ahead }: Step): Save {
    const { compacted, base: old } = this.#held
    if (rise) this.#term++
    const last = lastOf(this.#held).index
    const base = ahead === 0 ? undefined : { term: this.#term, index: last + ahead }
    const floor = Math.max(old.index, compacted)
    const first = base === undefined ? Math.max(floor, last - (back % 4)) + 1 : base.index + 1
    const made = sizes.map((size, at) => ({
      term: this.#term,
      index: first + at,
      kind: 'command' as const,
      payload: new Uint8Array(size).fill(this.#term & 0xff),
    }))
    const hardState = vote === null ? null : { term: this.#term, vote, commit: 0 }
    // A batch of nothing is no batch.
    if (base !== undefined) return { hardState, entries: made, base }
    if (made.length === 0 && hardState === null) return this.#batchOf({ ...EMPTY, vote: 'n' })
    return { hardState, entries: made }
  }

  /** Of the sectors of the last write those remain as they were whose bit is not set. */
  #powerCut(
    before: MemoryDisk,
    written: readonly { path: string; position: number; bytes: Uint8Array }[],
    sectors: number,
    isSynced: boolean,
  ): void {
    const last = written.at(-1)
    if (last === undefined || isSynced) return
    const now = this.#disk.files.get(last.path)
    const old = before.files.get(last.path) ?? new Uint8Array(now?.length ?? 0)
    if (now === undefined) return
    const end = last.position + last.bytes.length
    for (let at = last.position - (last.position % SECTOR_BYTES); at < end; at += SECTOR_BYTES) {
      const isKept = (sectors >> ((at / SECTOR_BYTES) % 31)) & 1
      if (isKept === 0) now.set(old.subarray(at, at + SECTOR_BYTES), at)
    }
  }
}

const EMPTY: Step = {
  back: 0,
  sizes: [],
  rise: false,
  vote: null,
  what: 'saved',
  compact: 101,
  ahead: 0,
  after: 0,
  sectors: 0,
}
