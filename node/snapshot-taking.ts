/**
 * Writes a snapshot of the applied state, piece by piece, while applying goes on: the state is captured copy-on-write in one turn,
 * and each piece is made only when the one before is at the disk. Beside the save lane, so that no write waits for it.
 */

import type { Captured } from './capture.ts'
import { mark } from './raft/marks.ts'
import type { Index } from './raft/types.ts'
import { metaOf } from './snapshot-parts.ts'
import type { SnapshotInfo, SnapshotStorage, SnapshotWriter } from './storage/snapshots.ts'
import type { StorageError } from './storage/storage.ts'

export interface TakingParts {
  readonly storage: SnapshotStorage
  readonly clusterId: string
  /** The log of this node is durable up to here. */
  readonly durableIndex: () => Index
  /** The file is whole and durable; `captured` is what it holds. */
  readonly taken: (info: SnapshotInfo, captured: Captured) => void
  readonly failed: (error: StorageError) => void
}

interface Taking {
  readonly index: Index
  readonly captured: Captured
  readonly writer: SnapshotWriter
  readonly pieces: Iterator<Uint8Array>
  bytes: number
  /** Every piece is written; the file is not finished before the log of this node is durable up to its index. */
  complete: boolean
}

export class SnapshotTaking {
  readonly #parts: TakingParts
  #taking: Taking | null = null

  constructor(parts: TakingParts) {
    this.#parts = parts
  }

  get underWay(): { readonly index: Index; readonly bytes: number } | null {
    return this.#taking
  }

  start(captured: Captured): void {
    const { storage, clusterId } = this.#parts
    const taking: Taking = {
      index: captured.id.index,
      captured,
      writer: storage.write(metaOf(clusterId, captured)),
      pieces: captured.pieces()[Symbol.iterator](),
      bytes: 0,
      complete: false,
    }
    this.#taking = taking
    this.#next(taking)
  }

  /** Once a turn: what waits for the log to become durable may have waited long enough. */
  step(): void {
    if (this.#taking?.complete === true) this.#finish(this.#taking)
  }

  /** Idempotent. */
  abort(): void {
    this.#taking?.writer.abort()
    this.#taking = null
  }

  #next(taking: Taking): void {
    const { value, done } = taking.pieces.next()
    if (done === true) {
      taking.complete = true
      return this.#finish(taking)
    }
    taking.writer.append(value, (error) => {
      if (this.#taking !== taking) return
      if (error !== null) return this.#fail(error)
      taking.bytes += value.length
      this.#next(taking)
    })
  }

  /** HAZARDS: followers may commit past the leader's durable log; a crash would leave a gap behind the snapshot. */
  #finish(taking: Taking): void {
    if (taking.index > this.#parts.durableIndex()) return mark('snapshots: one waits for the log')
    taking.complete = false
    taking.writer.finish((error, info) => {
      if (this.#taking !== taking) return
      if (error !== null || info === null) return this.#fail(error as StorageError)
      this.#taking = null
      this.#parts.taken(info, taking.captured)
    })
  }

  #fail(error: StorageError): void {
    mark('snapshots: one could not be written')
    this.abort()
    this.#parts.failed(error)
  }
}
