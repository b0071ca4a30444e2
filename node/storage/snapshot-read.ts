/** Reads a snapshot file from its start to its end and verifies it, a little at a time, so that other work has its turn. */
import { createHash } from 'node:crypto'
import { mark } from '../raft/marks.ts'
import type { Disk, DiskReader } from './disk.ts'
import { PIECE_BYTES_MAX, SnapshotReading } from './snapshot-format.ts'
import type { SnapshotMeta } from './snapshots.ts'
import { StorageError } from './storage.ts'

/** One read, and the pieces in it, between two turns of other work: about a millisecond of checksums, and what the pieces cost. */
const SLICE_BYTES = 128 * 1024

export interface SnapshotContent {
  readonly meta: SnapshotMeta
  /** SHA-256 of the file. */
  readonly checksum: string
}

/** `done` once, with an error or with what was read. Returns a function that cancels. Nothing is called inside the call. */
export function readSnapshot(
  disk: Disk,
  path: string,
  sink: {
    piece(bytes: Uint8Array): void
    done(error: StorageError | null, content: SnapshotContent | null): void
  },
): () => void {
  let reader: DiskReader | null = null
  let isWanted = true
  const end = (error: StorageError | null, content: SnapshotContent | null) => {
    isWanted = false
    reader?.close()
    sink.done(error, content)
  }
  const sizeBytes = disk.stat(path)?.sizeBytes ?? 0
  const reading = new SnapshotReading(sizeBytes)
  const hash = createHash('sha256')
  const read = (open: DiskReader, at: number): void => {
    const wanted = Math.min(Math.max(SLICE_BYTES, reading.wantedBytes), PIECE_BYTES_MAX)
    open.read(at, wanted, (error, bytes) => {
      if (!isWanted) return
      if (error !== null || bytes === null) return end(error, null)
      hash.update(bytes)
      const fault =
        bytes.length === 0
          ? 'it ends too early'
          : reading.push(bytes, (piece) => {
              if (isWanted) sink.piece(piece)
            })
      if (!isWanted) return
      if (fault !== null) return end(corrupt(path, fault), null)
      const { meta, isWhole } = reading
      if (isWhole && meta !== null) return end(null, { meta, checksum: hash.digest('hex') })
      read(open, at + bytes.length)
    })
  }
  try {
    reader = disk.reader(path)
    read(reader, 0)
  } catch (failure) {
    if (!(failure instanceof StorageError)) throw failure
    disk.soon(() => {
      if (isWanted) end(failure, null)
    })
  }
  return () => {
    if (isWanted) reader?.close()
    isWanted = false
  }
}

export function corrupt(path: string, what: string): StorageError {
  mark('snapshots: a damaged snapshot is refused')
  return new StorageError('corrupt-snapshot', `The snapshot ${path} is damaged: ${what}.`, { path })
}
