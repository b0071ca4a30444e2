/**
 * What the rest of the node sees of storage. The write-ahead log (wal.ts) and the memory log (memory.ts)
 * both implement LogStorage and pass the same contract suite.
 */
import type { Entry, EntryId, HardState, Index } from '../raft/types.ts'

/**
 * One batch: durable as a whole or not at all. `entries` are consecutive; if the first one's index is not
 * past the end of the log, everything from that index on is replaced (truncation is implied by overwriting).
 */
export interface Save {
  readonly hardState: HardState | null
  readonly entries: readonly Entry[]
  /**
   * Present when a snapshot takes the place of the log: every entry is forgotten, the log starts behind `base`, and `entries`
   * go on from there. The snapshot must be durable before. Never behind the base the log already has.
   */
  readonly base?: EntryId
}

/** What was found on disk at start. `entries` are consecutive and start at `firstIndex`, which is `base.index + 1`. */
export interface Recovered {
  /** Null when nothing was ever saved. */
  readonly hardState: HardState | null
  /** The entry before the first one; {0, 0} when the log reaches back to index 1. Beyond 0 only a snapshot can go before it. */
  readonly base: EntryId
  readonly firstIndex: Index
  readonly entries: readonly Entry[]
  /** True when a torn last batch was cut; worth a log line, not an alarm. */
  readonly tornTailCut: boolean
}

/**
 * Exactly one save is in flight at a time: calling `save` again before `done` is a bug (assertion).
 * `done(null)` means the batch is durable. A failed write before the fsync leaves the log as it was and may be
 * retried when there is room (`disk-full`); a failed fsync is fatal and never retried (`io`).
 */
export interface LogStorage {
  readonly recovered: Recovered
  save(batch: Save, done: (error: StorageError | null) => void): void
  /**
   * Entries at or below `to` may be forgotten, because a durable snapshot has them. Returns at once; the work is done beside the
   * saves, and may leave any part of these entries. `to` is at most the last durable index, and committed. A failure is
   * what the next save fails with (`io`), unless there was no room for it: then a later call tries again.
   */
  compact(to: Index): void
  /** Idempotent. Waits for the save in flight. */
  close(done: () => void): void
}

export type StorageErrorCode =
  /** No room. Nothing of the batch counts; the log is as before. */
  | 'disk-full'
  /** fsync or another I/O call failed. The process must end. */
  | 'io'
  /** A bad record before the last batch: file and offset are in the message. */
  | 'corrupt-log'
  /** The identity is bound but the log is missing, empty, or of another storageId. */
  | 'storage-lost'
  /** A snapshot file is not what it says, or none goes with the log. */
  | 'corrupt-snapshot'
  /** Another live process holds the directory. */
  | 'locked'

/** `path` and `offset` (bytes) name the place when there is one. */
export class StorageError extends Error {
  override readonly name = 'StorageError'
  readonly code: StorageErrorCode
  readonly path: string | null
  readonly offset: number | null

  constructor(
    code: StorageErrorCode,
    message: string,
    place: { path?: string; offset?: number; cause?: unknown } = {},
  ) {
    super(message, place.cause === undefined ? undefined : { cause: place.cause })
    this.code = code
    this.path = place.path ?? null
    this.offset = place.offset ?? null
  }
}
