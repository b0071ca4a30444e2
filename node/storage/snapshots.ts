/**
 * What the rest of the node sees of snapshot files. The folder on disk (snapshot-folder.ts) and the store in memory (memory.ts) both
 * implement SnapshotStorage and pass the same contract suite. Callbacks only, and none is called inside the call that got it.
 */
import type { EntryId, Index, Term } from '../raft/types.ts'
import { type Recovered, StorageError } from './storage.ts'

/** A writer or a receiver takes no more before it has written: a bound on memory that no caller should ever meet. */
export const UNWRITTEN_BYTES_MAX = 32 << 20
/** One read of a file that is being sent. */
export const SNAPSHOT_READ_BYTES_MAX = 1 << 20

/** Everything but the state itself. */
export interface SnapshotMeta {
  /** 32 lower-case hex digits. */
  readonly clusterId: string
  readonly index: Index
  readonly term: Term
  /** The newest configuration entry at or before `index`, as it is encoded in the log. */
  readonly configuration: { readonly index: Index; readonly payload: Uint8Array }
}

/** What names a snapshot file before any byte of it is here. */
export interface SnapshotOffer {
  readonly clusterId: string
  readonly index: Index
  readonly term: Term
  readonly sizeBytes: number
  /** SHA-256 of the file, 64 lower-case hex digits. */
  readonly checksum: string
}

export interface SnapshotInfo extends SnapshotMeta, SnapshotOffer {}

/** What names a whole file. */
export function snapshotInfo(
  meta: SnapshotMeta,
  sizeBytes: number,
  checksum: string,
): SnapshotInfo {
  const { clusterId, index, term, configuration } = meta
  return { clusterId, index, term, configuration, sizeBytes, checksum }
}

export interface SnapshotStorage {
  /** At open: the newest file that is complete by its header and trailer. Whether it goes with the log says `snapshotFor`. */
  readonly newest: SnapshotInfo | null
  /** At open: all of them, the newest first. */
  readonly found: readonly SnapshotInfo[]
  /** One at a time: a second one before the first has ended is a bug (assertion). */
  write(meta: SnapshotMeta): SnapshotWriter
  /**
   * Reads the state back and verifies it: `piece` for each piece in order, then `done` once. What the pieces said may be believed
   * only after `done(null)`; `corrupt-snapshot` or `io` otherwise. Other work has its turn between reads. The bytes may be
   * kept. Returns a function that cancels: nothing is called after it.
   */
  load(info: SnapshotInfo, sink: SnapshotSink): () => void
  /** The raw bytes of the file, for sending; throws `io` when it is gone. They can be read until `close`, also when `keepOnly` has removed the file. */
  open(info: SnapshotInfo): SnapshotReader
  /** Continues what an earlier receiver has got of the file with this checksum; throws `io`. One at a time for each checksum. */
  receive(offer: SnapshotOffer): SnapshotReceiver
  /** Removes all other files, and what was received of others. Files being written or received are left alone. */
  keepOnly(infos: readonly SnapshotOffer[]): void
}

export interface SnapshotSink {
  piece(bytes: Uint8Array): void
  done(error: StorageError | null): void
}

/** `done` is called in the order of the calls. After a failure every further call fails with the same error, and nothing is left on disk. */
export interface SnapshotWriter {
  /** A piece keeps its boundaries: `load` gives back the same. 1 byte to 16 MiB; not to be changed any more. `done` when there is room for more. */
  append(piece: Uint8Array, done: (error: StorageError | null) => void): void
  /** The file is there, durable and whole, or not at all. */
  finish(done: (error: StorageError | null, info: SnapshotInfo | null) => void): void
  /** Idempotent; removes what was written. No `done` is called any more. Nothing after `finish` has succeeded. */
  abort(): void
}

export interface SnapshotReader {
  /** Fewer bytes at the end of the file, none behind it. `length`: at most 1 MiB. */
  read(
    offset: number,
    length: number,
    done: (error: StorageError | null, bytes: Uint8Array | null) => void,
  ): void
  /** Idempotent. Reads under way end. */
  close(): void
}

export interface SnapshotReceiver {
  /** The offset of the next byte that is wanted. */
  readonly position: number
  /**
   * Takes the bytes at `position`, and a copy of them. `done` when there is room for more; a failure may show only at a later call. What
   * survives a crash says the `position` of the next receiver. `corrupt-snapshot`: more than the offer's size.
   */
  write(bytes: Uint8Array, done: (error: StorageError | null) => void): void
  /**
   * Checks size, checksum, and that the file is a snapshot of the offered entry; then it is there durably, as if written here, and
   * `info` is what its header says. `corrupt-snapshot` removes what was received.
   */
  finish(done: (error: StorageError | null, info: SnapshotInfo | null) => void): void
  /** Idempotent; keeps what was received. No `done` is called any more. */
  close(): void
}

/**
 * The snapshot that goes with a recovered log, null when it needs none and has none. One that is newer than the log was received,
 * and the batch with its base did not come to it: it does not count. Throws `corrupt-snapshot` when the log
 * starts behind an entry that no snapshot reaches.
 */
export function snapshotFor(
  recovered: Pick<Recovered, 'base' | 'entries'>,
  found: readonly SnapshotInfo[],
  clusterId: string,
): SnapshotInfo | null {
  const { base, entries } = recovered
  for (const info of found) {
    const own = info.index === base.index ? base : entries[info.index - base.index - 1]
    if (info.clusterId === clusterId && info.index > 0 && own?.term === info.term) return info
  }
  if (base.index === 0) return null
  throw new StorageError(
    'corrupt-snapshot',
    `The log starts behind entry ${describe(base)}, and no snapshot here reaches it. The state of this node is lost: ` +
      '`raft-p2p rejoin` archives what is here and enters again as a new member.',
  )
}

function describe({ term, index }: EntryId): string {
  return `${index} of term ${term}`
}
