/**
 * A snapshot file that comes from another node, in whatever steps: links break, and the process may end. What was received stays until it
 * is whole, or proves to be something else than was offered.
 */
import { createHash, type Hash } from 'node:crypto'
import { mark } from '../raft/marks.ts'
import type { Disk } from './disk.ts'
import { GrowingFile, IN_DOUBT_BYTES } from './growing-file.ts'
import { corrupt, readSnapshot, type SnapshotContent } from './snapshot-read.ts'
import {
  type SnapshotInfo,
  type SnapshotMeta,
  type SnapshotOffer,
  type SnapshotReceiver,
  snapshotInfo,
} from './snapshots.ts'
import type { StorageError } from './storage.ts'

/** What comes in larger parts is divided, so that only `IN_DOUBT_BYTES` are in doubt after a crash. */
const PART_BYTES_MAX = 256 * 1024
const EMPTY = new Uint8Array(0)

type Done = (error: StorageError | null) => void
type Finished = (error: StorageError | null, info: SnapshotInfo | null) => void

/** What the folder does for it. */
export interface ReceivingPlace {
  readonly path: string
  /** By header and trailer; a sentence fragment when it is no snapshot. */
  readonly meta: () => SnapshotMeta | string
  /** It is not to be continued: whole, refused or failed. */
  readonly dropped: () => void
  /** Gives the file its name. */
  readonly keep: (info: SnapshotInfo, done: Done) => void
}

/** One partial file, for as long as this process knows it; receivers come and go. */
export class Receiving {
  readonly #disk: Disk
  readonly #offer: SnapshotOffer
  readonly #place: ReceivingPlace
  readonly #file: GrowingFile
  #position: number
  /** Null when an earlier process has received the beginning: then all is read back at the end. */
  readonly #hash: Hash | null
  #isTaken = false
  #isDropped = false
  /** Waiting for the end; null before somebody asks for it. */
  #finishers: Finished[] | null = null
  #error: StorageError | null = null

  /** Throws `io` when what is there cannot be opened. */
  constructor(disk: Disk, offer: SnapshotOffer, place: ReceivingPlace) {
    this.#disk = disk
    this.#offer = offer
    this.#place = place
    const there = disk.stat(place.path)?.sizeBytes ?? 0
    this.#position = there > offer.sizeBytes ? 0 : Math.max(0, there - IN_DOUBT_BYTES)
    const isNew = this.#position === 0
    if (!isNew) mark('snapshots: an earlier process has received a part')
    this.#hash = isNew ? createHash('sha256') : null
    this.#file = new GrowingFile(disk, place.path, isNew ? { head: EMPTY } : { at: this.#position })
  }

  /** A receiver uses it, or it is being given its name: nobody may remove it. */
  get isBusy(): boolean {
    return !this.#isDropped && (this.#isTaken || this.#finishers !== null)
  }

  get isTaken(): boolean {
    return this.#isTaken && !this.#isDropped
  }

  /** Whether this is what is offered, and can be continued. */
  isOf({ sizeBytes, index, term, clusterId }: SnapshotOffer): boolean {
    const own = this.#offer
    const isSame = own.sizeBytes === sizeBytes && own.index === index && own.term === term
    return isSame && own.clusterId === clusterId && !this.#isDropped
  }

  /** Its file is not used any more; what was received stays on disk. */
  forget(): void {
    this.#isDropped = true
    this.#file.close()
  }

  /** One at a time. */
  take(): SnapshotReceiver {
    this.#isTaken = true
    let isMine = true
    const own = this
    return {
      get position() {
        return own.#position
      },
      write: (bytes, done) => {
        if (!isMine) throw new Error('bug: write to a receiver that was closed')
        this.#write(bytes, (error) => isMine && done(error))
      },
      finish: (done) => {
        if (!isMine) throw new Error('bug: finish of a receiver that was closed')
        this.#finish((error, info) => isMine && done(error, info))
      },
      close: () => {
        if (isMine) this.#release()
        isMine = false
      },
    }
  }

  #release(): void {
    this.#isTaken = false
    // What waits to be gathered is written too.
    if (!this.#isDropped && this.#finishers === null) this.#file.flush(() => {})
  }

  #write(bytes: Uint8Array, done: Done): void {
    if (this.#finishers !== null) throw new Error('bug: write after finish')
    const error = this.#error
    if (error !== null) return this.#disk.soon(() => done(error))
    if (this.#position + bytes.length > this.#offer.sizeBytes) {
      const refusal = corrupt(this.#place.path, 'more bytes came than were offered')
      return this.#disk.soon(() => done(refusal))
    }
    this.#position += bytes.length
    this.#hash?.update(bytes)
    const copy = Uint8Array.from(bytes)
    const parts: Uint8Array[] = []
    for (let at = 0; at < copy.length; at += PART_BYTES_MAX) {
      parts.push(copy.subarray(at, at + PART_BYTES_MAX))
    }
    this.#file.append(parts, (failure) => {
      if (failure !== null) this.#fail(failure)
      done(failure)
    })
  }

  #finish(done: Finished): void {
    const error = this.#error
    if (error !== null) return this.#disk.soon(() => done(error, null))
    if (this.#finishers !== null) {
      this.#finishers.push(done)
      return
    }
    this.#finishers = [done]
    this.#file.flush((failure) => {
      if (failure !== null) this.#fail(failure)
      else this.#file.close(() => this.#verify())
    })
  }

  #verify(): void {
    const { sizeBytes } = this.#offer
    if (this.#position !== sizeBytes) {
      return this.#refuse(`${this.#position} bytes came, not ${sizeBytes}`)
    }
    if (this.#hash === null) {
      readSnapshot(this.#disk, this.#place.path, {
        piece: () => {},
        done: (error, content) => {
          if (content !== null) this.#judge(content)
          else if (error?.code === 'corrupt-snapshot') this.#refuse(error.message)
          else if (error !== null) this.#fail(error)
        },
      })
      return
    }
    const checksum = this.#hash.digest('hex')
    const meta = this.#place.meta()
    if (typeof meta === 'string') this.#refuse(meta)
    else this.#judge({ meta, checksum })
  }

  #judge({ meta, checksum }: SnapshotContent): void {
    const { clusterId, index, term, sizeBytes } = this.#offer
    if (checksum !== this.#offer.checksum) return this.#refuse('it has another checksum')
    if (meta.clusterId !== clusterId || meta.index !== index || meta.term !== term) {
      return this.#refuse('it is of another entry than was offered')
    }
    const info = snapshotInfo(meta, sizeBytes, checksum)
    this.#place.keep(info, (error) => {
      if (error !== null) return this.#fail(error)
      this.#end(null, info)
    })
  }

  #refuse(what: string): void {
    const error = corrupt(this.#place.path, what)
    try {
      this.#disk.remove(this.#place.path)
    } catch {
      // The next one refuses it again.
    }
    this.#fail(error)
  }

  #fail(error: StorageError): void {
    if (this.#error !== null) return
    this.#error = error
    this.#file.close()
    this.#end(error, null)
  }

  #end(error: StorageError | null, info: SnapshotInfo | null): void {
    this.#isDropped = true
    this.#place.dropped()
    // In a later turn, behind the answers to what failed with it.
    const finishers = this.#finishers ?? []
    this.#disk.soon(() => {
      for (const done of finishers) done(error, info)
    })
  }
}
