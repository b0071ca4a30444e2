/** A snapshot that is being written: header, pieces and trailer behind each other, and the checksum of all of it on the way. */
import { createHash, type Hash } from 'node:crypto'
import { mark } from '../raft/marks.ts'
import type { Disk } from './disk.ts'
import { GrowingFile } from './growing-file.ts'
import {
  encodePieceHeader,
  encodeSnapshotHeader,
  encodeSnapshotTrailer,
  SNAPSHOT_TRAILER_BYTES,
} from './snapshot-format.ts'
import {
  type SnapshotInfo,
  type SnapshotMeta,
  type SnapshotWriter,
  snapshotInfo,
} from './snapshots.ts'
import type { StorageError } from './storage.ts'

type Done = (error: StorageError | null) => void
type Finished = (error: StorageError | null, info: SnapshotInfo | null) => void

/** What the folder does for it. */
export interface WritingPlace {
  readonly path: string
  /** Another one may be written. */
  readonly ended: () => void
  readonly discard: () => void
  /** Gives the file its name. */
  readonly keep: (info: SnapshotInfo, done: Done) => void
}

export class Writing implements SnapshotWriter {
  readonly #disk: Disk
  readonly #meta: SnapshotMeta
  readonly #place: WritingPlace
  readonly #file: GrowingFile
  readonly #hash: Hash = createHash('sha256')
  #sizeBytes: number
  #checksum: number
  #pieces = 0
  /** More may be asked of it. */
  #isOpen = true
  #isAborted = false
  #isKept = false
  #error: StorageError | null = null
  #finished: Finished | null = null

  constructor(disk: Disk, meta: SnapshotMeta, place: WritingPlace) {
    const { bytes, checksum } = encodeSnapshotHeader(meta)
    this.#disk = disk
    this.#meta = meta
    this.#place = place
    this.#hash.update(bytes)
    this.#sizeBytes = bytes.length
    this.#checksum = checksum
    this.#file = new GrowingFile(disk, place.path, { head: bytes })
  }

  append(piece: Uint8Array, done: Done): void {
    if (!this.#isOpen) throw new Error('bug: append to a snapshot that has ended')
    const { bytes, checksum } = encodePieceHeader(piece, this.#checksum)
    if (this.#error !== null) return this.#later(() => done(this.#error))
    this.#checksum = checksum
    this.#pieces++
    this.#add([bytes, piece], done)
  }

  finish(done: Finished): void {
    if (!this.#isOpen) throw new Error('bug: finish of a snapshot that has ended')
    this.#isOpen = false
    if (this.#error !== null) return this.#later(() => done(this.#error, null))
    this.#finished = done
    const sizeBytes = this.#sizeBytes + SNAPSHOT_TRAILER_BYTES
    const trailer = { pieces: this.#pieces, sizeBytes, previous: this.#checksum }
    this.#add([encodeSnapshotTrailer(trailer)], () => {})
    const info = snapshotInfo(this.#meta, sizeBytes, this.#hash.digest('hex'))
    this.#file.flush((error) => {
      if (error !== null) this.#fail(error)
      else this.#file.close(() => this.#keep(info))
    })
  }

  abort(): void {
    this.#isOpen = false
    if (this.#isAborted) return
    this.#isAborted = true
    // It gets its name all the same, and goes with the others that are not kept. The next one need not wait for that.
    if (this.#isKept) this.#place.ended()
    else if (this.#error === null) this.#giveUp()
  }

  #keep(info: SnapshotInfo): void {
    if (this.#isAborted) return
    this.#isKept = true
    this.#place.keep(info, (error) => {
      if (error !== null) return this.#fail(error)
      if (this.#isAborted) return
      this.#place.ended()
      this.#finished?.(null, info)
    })
  }

  #add(parts: readonly Uint8Array[], done: Done): void {
    for (const part of parts) {
      this.#hash.update(part)
      this.#sizeBytes += part.length
    }
    this.#file.append(parts, (error) => {
      if (this.#isAborted) return
      if (error !== null) this.#fail(error)
      done(error)
    })
  }

  #fail(error: StorageError): void {
    if (this.#error !== null) return
    mark('snapshots: a snapshot could not be written')
    this.#error = error
    this.#giveUp()
    // Behind the answers to the pieces that failed with it.
    this.#later(() => this.#finished?.(error, null))
  }

  /** What was written goes at once: it may hold the room that is missing. */
  #giveUp(): void {
    this.#place.ended()
    this.#file.close(() => this.#place.discard())
  }

  #later(answer: () => void): void {
    this.#disk.soon(() => {
      if (!this.#isAborted) answer()
    })
  }
}
