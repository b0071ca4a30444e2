/**
 * What storage asks of a disk, so that the simulator can put a cruel one in its place. Each operation states what
 * survives a crash in the middle of it; nothing else may be relied on. Implementations throw or hand over StorageError
 * only: `disk-full` when there was no room (ENOSPC, EDQUOT) while writing, `io` for everything else. No room that shows
 * only in an fsync is `io`: what the earlier writes became is unknown then.
 */
import type { StorageError } from './storage.ts'

export interface FileStat {
  readonly kind: 'file' | 'directory' | 'other'
  readonly sizeBytes: number
}

/** A file open for the log: written in place, never moved. One write at a time. */
export interface DiskFile {
  readonly path: string
  /**
   * Writes the buffers one behind the other at `position`, then makes them durable (fdatasync). Never calls `done` before
   * it returns. A crash before `done(null)` leaves any subset of the sectors written. `disk-full`: a prefix may have been
   * written, nothing was synced. `io`: unknown, and never to be retried. The buffers must not change before `done`.
   */
  write(
    buffers: readonly Uint8Array[],
    position: number,
    done: (error: StorageError | null) => void,
  ): void
  /** Never fails: what had to be durable is durable already. */
  close(done: () => void): void
}

/** A file open for reading. It can be read until `close`, also when it was removed meanwhile. */
export interface DiskReader {
  /** In the background; fewer bytes at the end of the file, none behind it. The buffer is the caller's own. */
  read(
    position: number,
    length: number,
    done: (error: StorageError | null, bytes: Uint8Array | null) => void,
  ): void
  /** Idempotent; a read under way ends. */
  close(): void
}

export interface Disk {
  /** Null when there is nothing at `path`. */
  stat(path: string): FileStat | null
  /** The whole file; null when there is none. */
  read(path: string): Uint8Array | null
  /** A part of a file: fewer bytes at its end, null when there is none. For headers; long files have a reader. */
  readPart(path: string, position: number, length: number): Uint8Array | null
  /** The names in a directory, sorted; empty when there is no directory. */
  list(path: string): string[]
  /** With its parents, mode 0700, durable. One that exists is fine. */
  makeDirectory(path: string): void
  /** Makes the names in a directory durable, those that an operation cut short by a crash has left. */
  syncDirectory(path: string): void
  /** Atomic and durable, mode 0600: after a crash the old content or the new one, whole. */
  replace(path: string, bytes: Uint8Array): void
  /** Overwrites bytes in place and makes them durable. A crash leaves any subset of the sectors written. */
  overwrite(path: string, position: number, bytes: Uint8Array): void
  /** Atomic and durable. */
  rename(from: string, to: string): void
  /** A file, or a directory with all it holds; nothing there is fine. Durable; a directory may be half gone after a crash. */
  remove(path: string): void
  /**
   * Makes a file of `head` followed by zeros up to `sizeBytes`, mode 0600, and opens it. All or nothing: after a crash or
   * an error the file is there whole and durable, or not at all (save for a `<path>.tmp`). Does its work beside the
   * writes of other files. Never calls `done` before it returns.
   */
  allocate(
    path: string,
    head: Uint8Array,
    sizeBytes: number,
    done: (error: StorageError | null, file: DiskFile | null) => void,
  ): void
  /** Opens a file that exists for writing in place. */
  open(path: string): DiskFile
  /** Opens a file that exists for reading. */
  reader(path: string): DiskReader
  /** `rename` of a file, in the background: atomic, and durable at `done(null)`. Never calls `done` before it returns. */
  move(from: string, to: string, done: (error: StorageError | null) => void): void
  /** `remove` of a file, in the background: gone for good at `done(null)`. Never calls `done` before it returns. */
  discard(path: string, done: (error: StorageError | null) => void): void
  /** Runs `callback` in a later turn, so that no answer is given inside the question. */
  soon(callback: () => void): void
}

/** What only a real machine needs: the directory lock's file operations. The simulator has no use for them. */
export interface HostDisk extends Disk {
  /** Fails when there is something at `path`. Not durable: nothing that must survive a crash is made this way. */
  makeEphemeralDirectory(path: string): void
  /**
   * Renames a directory onto one that is absent or empty, in one atomic step. `occupied`: the target holds something.
   * `vanished`: `from` is gone.
   */
  moveOntoEmpty(from: string, to: string): 'moved' | 'occupied' | 'vanished'
  /** Removes one file and nothing else; one that is gone is fine. Not durable. */
  unlink(path: string): void
  makeSymlink(target: string, path: string): void
}
