/**
 * The snapshot files of a data directory (docs/snapshots.md): `<index>-<sha-256>.snapshot` is whole and durable, `<sha-256>.part` is
 * being received, `writing-<n>` is being written. It must never give a file its name before all of it is durable.
 */
import { mark } from '../raft/marks.ts'
import type { Disk } from './disk.ts'
import {
  decodeSnapshotHeader,
  decodeSnapshotTrailer,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_TRAILER_BYTES,
  snapshotHeaderBytes,
} from './snapshot-format.ts'
import { corrupt, readSnapshot } from './snapshot-read.ts'
import { Receiving } from './snapshot-receiving.ts'
import { Writing } from './snapshot-writing.ts'
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
import type { StorageError } from './storage.ts'

/** The folder in a data directory. */
export const SNAPSHOT_FOLDER = 'snapshots'
const WHOLE = /^(\d{16})-([0-9a-f]{64})\.snapshot$/
const PARTIAL = /^([0-9a-f]{64})\.part$/
const UNFINISHED = /^writing-\d+(\.tmp)?$|\.part\.tmp$/
/** A node keeps one or two. */
const FOUND_MAX = 100

export interface SnapshotFolderOptions {
  readonly disk: Disk
  /** `<data>/snapshots`; made if it is not there. */
  readonly directory: string
}

/**
 * Throws StorageError `io` or `disk-full`. Files that are not whole are left out, not refused: which one is needed is known to the
 * log alone.
 */
export function openSnapshots({ disk, directory }: SnapshotFolderOptions): SnapshotStorage {
  disk.makeDirectory(directory)
  const names = disk.list(directory)
  for (const name of names) if (UNFINISHED.test(name)) disk.remove(`${directory}/${name}`)
  const found = names
    .filter((name) => WHOLE.test(name))
    .reverse()
    .slice(0, FOUND_MAX)
    .flatMap((name) => infoOf(disk, directory, name) ?? [])
  // The newest may have got its name, and the process been killed before that was durable. The log will forget what it holds.
  if (found.length > 0) disk.syncDirectory(directory)
  return new Folder(disk, directory, found)
}

/** By header and trailer; the state between them is verified when it is loaded. */
function infoOf(disk: Disk, directory: string, name: string): SnapshotInfo | null {
  const [, index, checksum] = WHOLE.exec(name) ?? []
  const path = `${directory}/${name}`
  const meta = metaOf(disk, path)
  if (typeof meta === 'string' || meta.index !== Number(index) || checksum === undefined) {
    mark('snapshots: a damaged file is left out')
    return null
  }
  return snapshotInfo(meta, disk.stat(path)?.sizeBytes ?? 0, checksum)
}

function metaOf(disk: Disk, path: string): SnapshotMeta | string {
  const fixed = disk.readPart(path, 0, SNAPSHOT_HEADER_BYTES)
  if (fixed === null) return 'it has vanished'
  const length = snapshotHeaderBytes(fixed)
  if (typeof length === 'string') return length
  const header = decodeSnapshotHeader(disk.readPart(path, 0, length) ?? fixed)
  if (typeof header === 'string') return header
  const sizeBytes = disk.stat(path)?.sizeBytes ?? 0
  const trailerAt = sizeBytes - SNAPSHOT_TRAILER_BYTES
  if (trailerAt < header.end) return 'it ends too early'
  const last = disk.readPart(path, trailerAt, SNAPSHOT_TRAILER_BYTES)
  const trailer = decodeSnapshotTrailer(last ?? new Uint8Array(0))
  if (typeof trailer === 'string') return trailer
  return trailer.sizeBytes === sizeBytes ? header.meta : 'its trailer belongs to another file'
}

class Folder implements SnapshotStorage {
  readonly found: readonly SnapshotInfo[]
  readonly newest: SnapshotInfo | null
  readonly #disk: Disk
  readonly #directory: string
  #writing: Writing | null = null
  #writings = 0
  /** Partial files that this process receives or has received, by checksum. */
  readonly #receiving = new Map<string, Receiving>()
  /** Changes of names, one at a time: what is being removed never meets a new file of that name. */
  readonly #changes: ((next: () => void) => void)[] = []
  #isChanging = false
  /** Paths of files that are getting their names: they may be there before whoever wrote them knows it. */
  readonly #coming = new Set<string>()

  constructor(disk: Disk, directory: string, found: readonly SnapshotInfo[]) {
    this.#disk = disk
    this.#directory = directory
    this.found = found
    this.newest = found[0] ?? null
  }

  write(meta: SnapshotMeta): SnapshotWriter {
    if (this.#writing !== null) throw new Error('bug: a snapshot is being written already')
    const path = `${this.#directory}/writing-${++this.#writings}`
    const writing: Writing = new Writing(this.#disk, meta, {
      path,
      ended: () => {
        if (this.#writing === writing) this.#writing = null
      },
      discard: () => this.#discard(path),
      keep: (info, done) => this.#move(path, this.#pathOf(info), done),
    })
    this.#writing = writing
    return writing
  }

  load(info: SnapshotInfo, sink: SnapshotSink): () => void {
    const path = this.#pathOf(info)
    return readSnapshot(this.#disk, path, {
      piece: (bytes) => sink.piece(bytes),
      done: (error, content) => {
        const isAnother = content !== null && content.checksum !== info.checksum
        sink.done(isAnother ? corrupt(path, 'it has another checksum') : error)
      },
    })
  }

  open(info: SnapshotInfo): SnapshotReader {
    const reader = this.#disk.reader(this.#pathOf(info))
    return {
      read: (offset, length, done) => {
        if (length > SNAPSHOT_READ_BYTES_MAX) throw new Error(`bug: a read of ${length} bytes`)
        reader.read(offset, length, done)
      },
      close: () => reader.close(),
    }
  }

  receive(offer: SnapshotOffer): SnapshotReceiver {
    const { checksum } = offer
    const known = this.#receiving.get(checksum)
    if (known?.isTaken === true) throw new Error('bug: it is being received already')
    if (known?.isOf(offer) === true) return known.take()
    for (const [other, receiving] of this.#receiving) {
      // Nobody receives it now, and its file is open still.
      if (receiving.isBusy) continue
      receiving.forget()
      this.#receiving.delete(other)
    }
    const path = `${this.#directory}/${checksum}.part`
    const receiving: Receiving = new Receiving(this.#disk, offer, {
      path,
      meta: () => metaOf(this.#disk, path),
      dropped: () => {
        if (this.#receiving.get(checksum) === receiving) this.#receiving.delete(checksum)
      },
      keep: (info, done) => this.#move(path, this.#pathOf(info), done),
    })
    this.#receiving.set(checksum, receiving)
    return receiving.take()
  }

  keepOnly(infos: readonly SnapshotOffer[]): void {
    const kept = new Set(infos.map(({ checksum }) => checksum))
    for (const name of this.#disk.list(this.#directory)) {
      const path = `${this.#directory}/${name}`
      const whole = WHOLE.exec(name)?.[2]
      if (whole !== undefined && !kept.has(whole) && !this.#coming.has(path)) this.#discard(path)
      const partial = PARTIAL.exec(name)?.[1]
      if (partial !== undefined && !kept.has(partial)) this.#removePartial(partial)
    }
  }

  /** At once, so that nobody can begin to continue it meanwhile. */
  #removePartial(checksum: string): void {
    const receiving = this.#receiving.get(checksum)
    if (receiving?.isBusy === true) return
    receiving?.forget()
    this.#receiving.delete(checksum)
    this.#disk.remove(`${this.#directory}/${checksum}.part`)
  }

  #pathOf({ index, checksum }: SnapshotOffer): string {
    return `${this.#directory}/${String(index).padStart(16, '0')}-${checksum}.snapshot`
  }

  /** A file that cannot be removed is met again by the next `keepOnly`, or by the next start. */
  #discard(path: string): void {
    this.#change((next) => this.#disk.discard(path, next))
  }

  #move(from: string, to: string, done: (error: StorageError | null) => void): void {
    this.#coming.add(to)
    this.#change((next) => {
      this.#disk.move(from, to, (error) => {
        this.#coming.delete(to)
        next()
        done(error)
      })
    })
  }

  #change(change: (next: () => void) => void): void {
    this.#changes.push(change)
    if (this.#isChanging) return
    this.#isChanging = true
    const next = () => {
      const first = this.#changes.shift()
      if (first === undefined) this.#isChanging = false
      else first(next)
    }
    this.#disk.soon(next)
  }
}
