/**
 * Snapshots that are kept in memory, as the bytes the files would have: for tests, and for a node that is told to live in memory.
 * It passes the same contract suite as the folder on disk; `files` is what a restart would find.
 */
import { createHash } from 'node:crypto'
import {
  encodePieceHeader,
  encodeSnapshotHeader,
  encodeSnapshotTrailer,
  SNAPSHOT_TRAILER_BYTES,
  SnapshotReading,
} from './snapshot-format.ts'
import {
  SNAPSHOT_READ_BYTES_MAX,
  type SnapshotInfo,
  type SnapshotMeta,
  type SnapshotOffer,
  type SnapshotReader,
  type SnapshotReceiver,
  type SnapshotSink,
  type SnapshotStorage,
  type SnapshotWriter,
  snapshotInfo,
} from './snapshots.ts'
import { StorageError } from './storage.ts'

/** By checksum. A restart hands the same maps to the next MemorySnapshots. */
export interface MemoryFiles {
  readonly whole: Map<string, { readonly info: SnapshotInfo; readonly bytes: Uint8Array }>
  readonly received: Map<string, Uint8Array>
}

export class MemorySnapshots implements SnapshotStorage {
  readonly files: MemoryFiles
  readonly newest: SnapshotInfo | null
  readonly found: readonly SnapshotInfo[]
  readonly #soon: (callback: () => void) => void
  #isWriting = false
  readonly #receiving = new Set<string>()

  constructor(
    options: { readonly files?: MemoryFiles; readonly soon?: (callback: () => void) => void } = {},
  ) {
    this.files = options.files ?? { whole: new Map(), received: new Map() }
    this.#soon = options.soon ?? queueMicrotask
    this.found = [...this.files.whole.values()]
      .map(({ info }) => info)
      .sort((a, b) => b.index - a.index)
    this.newest = this.found[0] ?? null
  }

  write(meta: SnapshotMeta): SnapshotWriter {
    if (this.#isWriting) throw new Error('bug: a snapshot is being written already')
    this.#isWriting = true
    const header = encodeSnapshotHeader(meta)
    const parts: Uint8Array[] = [header.bytes]
    let { checksum } = header
    let pieces = 0
    let isOpen = true
    const answer = (run: () => void) => this.#soon(() => isOpen && run())
    return {
      append: (piece, done) => {
        if (!isOpen) throw new Error('bug: append to a snapshot that has ended')
        const head = encodePieceHeader(piece, checksum)
        checksum = head.checksum
        pieces++
        parts.push(head.bytes, Uint8Array.from(piece))
        answer(() => done(null))
      },
      finish: (done) => {
        if (!isOpen) throw new Error('bug: finish of a snapshot that has ended')
        answer(() => {
          const sizeBytes = parts.reduce((sum, part) => sum + part.length, SNAPSHOT_TRAILER_BYTES)
          parts.push(encodeSnapshotTrailer({ pieces, sizeBytes, previous: checksum }))
          isOpen = this.#isWriting = false
          done(null, this.#keep(meta, joined(parts)))
        })
      },
      abort: () => {
        if (isOpen) this.#isWriting = isOpen = false
      },
    }
  }

  load(info: SnapshotInfo, sink: SnapshotSink): () => void {
    const bytes = this.files.whole.get(info.checksum)?.bytes
    let isWanted = true
    const end = (error: StorageError | null) =>
      this.#soon(() => {
        if (!isWanted) return
        isWanted = false
        sink.done(error)
      })
    if (bytes === undefined) end(new StorageError('io', 'There is no such snapshot.'))
    else {
      const reading = new SnapshotReading(bytes.length)
      const step = (at: number): void => {
        if (!isWanted) return
        const chunk = bytes.slice(at, at + SNAPSHOT_READ_BYTES_MAX)
        const fault = reading.push(chunk, (piece) => isWanted && sink.piece(piece))
        if (fault !== null) return end(corrupt(fault))
        if (reading.isWhole) return end(null)
        this.#soon(() => step(at + chunk.length))
      }
      this.#soon(() => step(0))
    }
    return () => {
      isWanted = false
    }
  }

  open(info: SnapshotInfo): SnapshotReader {
    const bytes = this.files.whole.get(info.checksum)?.bytes
    if (bytes === undefined) throw new StorageError('io', 'There is no such snapshot.')
    let isOpen = true
    return {
      read: (offset, length, done) => {
        if (!isOpen) throw new Error('bug: read after close')
        if (length > SNAPSHOT_READ_BYTES_MAX) throw new Error(`bug: a read of ${length} bytes`)
        this.#soon(() => done(null, bytes.slice(offset, offset + length)))
      },
      close: () => {
        isOpen = false
      },
    }
  }

  receive(offer: SnapshotOffer): SnapshotReceiver {
    const { checksum, sizeBytes } = offer
    if (this.#receiving.has(checksum)) throw new Error('bug: it is being received already')
    this.#receiving.add(checksum)
    let bytes = this.files.received.get(checksum) ?? new Uint8Array(0)
    let isOpen = true
    const close = () => {
      if (isOpen) this.#receiving.delete(checksum)
      isOpen = false
    }
    const answer = (run: () => void) => this.#soon(() => isOpen && run())
    return {
      get position() {
        return bytes.length
      },
      write: (more, done) => {
        if (!isOpen) throw new Error('bug: write after close')
        if (bytes.length + more.length > sizeBytes) {
          return answer(() => done(corrupt('more bytes came than were offered')))
        }
        bytes = joined([bytes, more])
        this.files.received.set(checksum, bytes)
        answer(() => done(null))
      },
      finish: (done) => {
        answer(() => {
          close()
          this.files.received.delete(checksum)
          const meta = metaOf(bytes, offer)
          if (typeof meta === 'string') done(corrupt(meta), null)
          else done(null, this.#keep(meta, bytes))
        })
      },
      close,
    }
  }

  keepOnly(infos: readonly SnapshotOffer[]): void {
    const kept = new Set(infos.map(({ checksum }) => checksum))
    const { whole, received } = this.files
    for (const checksum of whole.keys()) if (!kept.has(checksum)) whole.delete(checksum)
    for (const checksum of received.keys()) {
      if (!kept.has(checksum) && !this.#receiving.has(checksum)) received.delete(checksum)
    }
  }

  #keep(meta: SnapshotMeta, bytes: Uint8Array): SnapshotInfo {
    const info = snapshotInfo(meta, bytes.length, sha256(bytes))
    this.files.whole.set(info.checksum, { info, bytes })
    return info
  }
}

function metaOf(bytes: Uint8Array, offer: SnapshotOffer): SnapshotMeta | string {
  if (bytes.length !== offer.sizeBytes) return `${bytes.length} bytes came, not ${offer.sizeBytes}`
  if (sha256(bytes) !== offer.checksum) return 'it has another checksum'
  const reading = new SnapshotReading(bytes.length)
  const fault = reading.push(bytes, () => {})
  if (fault !== null) return fault
  const { meta } = reading
  if (meta === null || !reading.isWhole) return 'it ends too early'
  const isOffered =
    meta.clusterId === offer.clusterId && meta.index === offer.index && meta.term === offer.term
  return isOffered ? meta : 'it is of another entry than was offered'
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function corrupt(what: string): StorageError {
  return new StorageError('corrupt-snapshot', `The snapshot is damaged: ${what}.`)
}

/** Not a Buffer: a slice of one is a view. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}
