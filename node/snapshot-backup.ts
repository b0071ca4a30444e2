/**
 * Backups on demand: whoever wants one waits for the next snapshot that holds what was applied when it asked, and reads that file.
 * Part of the runtime. A backup is a snapshot like any other: one file format, one path that writes it.
 */
import { type ErrorBody, errorBody } from '../client/protocol.ts'
import { LIMITS } from './config.ts'
import type { Index } from './raft/types.ts'
import type { Backup, Service } from './service.ts'
import type { SnapshotInfo, SnapshotReader, SnapshotStorage } from './storage/snapshots.ts'
import { StorageError } from './storage/storage.ts'

interface Waiting {
  readonly index: Index
  readonly answer: (backup: Backup | ErrorBody) => void
}

/** Each holds a file open while it is read. */
const WAITING_MAX = 8

export class Backups {
  readonly #storage: SnapshotStorage
  #waiting: Waiting[] = []

  constructor(storage: SnapshotStorage) {
    this.#storage = storage
  }

  /** A snapshot is wanted for this index or a later one. */
  get wanted(): boolean {
    return this.#waiting.length > 0
  }

  /** Returns what gives it up. */
  want(index: Index, answer: (backup: Backup | ErrorBody) => void): () => void {
    if (this.#waiting.length >= WAITING_MAX) {
      answer(errorBody('overloaded', 'too many backups are being made'))
      return () => {}
    }
    const waiting = { index, answer }
    this.#waiting.push(waiting)
    return () => {
      this.#waiting = this.#waiting.filter((one) => one !== waiting)
    }
  }

  /** This one is whole and durable. */
  taken(info: SnapshotInfo): void {
    const served = this.#waiting.filter(({ index }) => index <= info.index)
    this.#waiting = this.#waiting.filter(({ index }) => index > info.index)
    for (const { answer } of served) answer(this.#backupOf(info))
  }

  failed(error: ErrorBody): void {
    for (const { answer } of this.#waiting.splice(0)) answer(error)
  }

  #backupOf(info: SnapshotInfo): Backup | ErrorBody {
    let reader: SnapshotReader
    try {
      reader = this.#storage.open(info)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      return errorBody('internal', error.message)
    }
    const { clusterId, index, term, sizeBytes, checksum } = info
    return {
      info: { clusterId, index, term, sizeBytes, checksum },
      read: (offset, length, done) => {
        reader.read(offset, length, (error, bytes) => done(error === null ? bytes : null))
      },
      close: () => reader.close(),
    }
  }
}

const NO_QUERY = new Uint8Array(0)

/** What was acknowledged before the call is in the backup: a linearizable read says from which index on. Returns what gives it up. */
export function backupAfterRead(
  request: Service['request'],
  begin: () => () => void,
  answer: (backup: Backup | ErrorBody) => void,
): () => void {
  const read = { type: 'query', query: NO_QUERY, consistency: 'linearizable' } as const
  let giveUp = request({ ...read, timeoutMs: LIMITS.requestTimeoutMs }, (given) => {
    // The empty query asks for nothing, and the machine says so: what counts is that its index is applied here.
    if (given.ok || given.error.code === 'bad-request') giveUp = begin()
    else answer(given.error)
  })
  return () => giveUp()
}
