/**
 * A disk that forgets what was not synced. It keeps two truths: what the system shows (the page cache) and, sector by sector, what
 * would be left if the power went now. A killed process loses neither; a power cut takes any subset of the unsynced sectors back, and of
 * the names that a process had changed and not synced when it died. A failed fsync leaves its sectors marked clean, so that no later fsync saves them (docs/wal.md, assumption 4). Who decides about
 * delays and failures is outside: `DiskFate`.
 */
import type { Disk, DiskFile, DiskReader, FileStat } from '../storage/disk.ts'
import { StorageError } from '../storage/storage.ts'
import type { Dice } from './dice.ts'

export const SECTOR_BYTES = 512
/** How soon an operation fails that fails. */
const FAILURE_US = 100

/** What happens to the next operation. `full` and `io`: it fails so; else it takes so many microseconds. */
export type Fate = 'full' | 'io' | number

export interface DiskFate {
  /** A write with its fdatasync, or the making of a file, in the background. */
  background(bytes: number): Fate
  /** An operation that returns when it is done. Its time is not simulated. */
  immediate(bytes: number): Fate
  /** The process may die here, before or after the effect of an operation; false: it is dead, and nothing happens any more. */
  boundary(name: string): boolean
  /** Runs `run` later in the time of the process, unless it has died by then. */
  later(delayUs: number, run: () => void): void
}

/** A sector whose new content is not durable. */
interface Unsynced {
  readonly durable: Uint8Array
  /** An fsync of it has failed: the system believes that it is clean. */
  lost: boolean
}

class StoredFile {
  bytes: Uint8Array
  readonly unsynced = new Map<number, Unsynced>()
  /** The size that is durable; beyond it nothing is sure to survive a power cut. */
  durableSize: number

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.durableSize = bytes.length
  }

  write(position: number, bytes: Uint8Array): void {
    const end = position + bytes.length
    this.#grow(end)
    if (bytes.length === 0) return
    const last = Math.floor((end - 1) / SECTOR_BYTES)
    for (let sector = Math.floor(position / SECTOR_BYTES); sector <= last; sector++) {
      const known = this.unsynced.get(sector)
      if (known !== undefined) known.lost = false
      else {
        const from = sector * SECTOR_BYTES
        const durable = this.bytes.slice(from, from + SECTOR_BYTES)
        this.unsynced.set(sector, { durable, lost: false })
      }
    }
    this.bytes.set(bytes, position)
  }

  /** A write and its fdatasync in one: nothing in between is seen by anybody. */
  writeDurably(position: number, buffers: readonly Uint8Array[]): void {
    if (this.unsynced.size > 0) {
      this.writeAll(position, buffers)
      return this.sync()
    }
    this.#grow(position + sizeOf(buffers))
    this.durableSize = this.bytes.length
    let at = position
    for (const buffer of buffers) {
      this.bytes.set(buffer, at)
      at += buffer.length
    }
  }

  /** At most `count` bytes of them. */
  writeAll(position: number, buffers: readonly Uint8Array[], count = sizeOf(buffers)): void {
    let left = count
    for (const buffer of buffers) {
      this.write(position + count - left, buffer.subarray(0, left))
      left -= Math.min(left, buffer.length)
    }
  }

  #grow(size: number): void {
    if (size <= this.bytes.length) return
    const grown = new Uint8Array(size)
    grown.set(this.bytes)
    this.bytes = grown
  }

  sync(): void {
    for (const [sector, { lost }] of this.unsynced) if (!lost) this.unsynced.delete(sector)
    this.durableSize = this.bytes.length
  }

  syncFailed(): void {
    for (const unsynced of this.unsynced.values()) unsynced.lost = true
  }

  /** `keeps`: whether a sector that was not synced has reached the disk all the same; `keepsSize`: whether a new size has. */
  powerCut(keeps: (sector: number) => boolean, keepsSize: () => boolean): void {
    for (const [sector, { durable }] of this.unsynced) {
      if (!keeps(sector)) this.bytes.set(durable, sector * SECTOR_BYTES)
    }
    this.unsynced.clear()
    const hasGrown = this.bytes.length > this.durableSize
    if (hasGrown && !keepsSize()) this.bytes = this.bytes.slice(0, this.durableSize)
    this.durableSize = this.bytes.length
  }
}

/** What the process was doing in the background, so that its death can leave it half done. */
interface Running {
  /** Undoes what a process that dies now has not handed to the system any more. */
  readonly abandon: () => void
}

/** A change of names in a directory that was not synced since: a power cut may undo it. */
interface Renaming {
  readonly directory: string
  readonly undo: () => void
}

export class SimDisk implements Disk {
  readonly #files = new Map<string, StoredFile>()
  readonly #directories = new Set<string>()
  readonly #dice: Dice
  readonly #running = new Set<Running>()
  /** In order. Left by processes that died; what ends in time is durable. */
  #renamings: Renaming[] = []
  /** Of the present process; a disk without one is only looked at. */
  #fate: DiskFate | null = null

  constructor(dice: Dice) {
    this.#dice = dice
  }

  // --- for whoever owns the machine ---------------------------------------------------------------------------------

  /** A process starts to use the disk. */
  attach(fate: DiskFate): void {
    this.#fate = fate
  }

  /** The process is gone: what it had under way is left as it is. With `powerCut` the page cache is gone too. */
  detach(how: 'killed' | 'powerCut'): void {
    this.#fate = null
    for (const running of this.#running) running.abandon()
    this.#running.clear()
    if (how === 'killed') return
    for (const { undo } of this.#renamings.reverse()) if (this.#dice.below(2) === 0) undo()
    this.#renamings = []
    for (const file of this.#files.values()) {
      const mode = this.#dice.below(4)
      file.powerCut(
        () => (mode === 0 ? false : mode === 1 ? true : this.#dice.below(2) === 0),
        () => this.#dice.below(2) === 0,
      )
    }
  }

  /** Bytes of a file as the system shows them; changing them is bit rot. Null when there is none. */
  rot(path: string): Uint8Array | null {
    return this.#files.get(path)?.bytes ?? null
  }

  truncate(path: string, sizeBytes: number): void {
    const file = this.#files.get(path)
    if (file === undefined) return
    file.bytes = file.bytes.slice(0, sizeBytes)
    file.durableSize = file.bytes.length
    file.unsynced.clear()
  }

  /** Everything of this disk on another one: what a restored or copied machine image holds. */
  copyTo(other: SimDisk): void {
    for (const [path, file] of this.#files) {
      other.#files.set(path, new StoredFile(file.bytes.slice()))
    }
    for (const path of this.#directories) other.#directories.add(path)
  }

  paths(): string[] {
    return [...this.#files.keys()].sort()
  }

  erase(prefix: string): void {
    for (const path of this.#files.keys()) if (path.startsWith(prefix)) this.#files.delete(path)
    this.#renamings = this.#renamings.filter(({ directory }) => !`${directory}/`.startsWith(prefix))
  }

  // --- Disk: looking ------------------------------------------------------------------------------------------------

  stat(path: string): FileStat | null {
    const file = this.#files.get(path)
    if (file !== undefined) return { kind: 'file', sizeBytes: file.bytes.length }
    return this.#directories.has(path) ? { kind: 'directory', sizeBytes: 0 } : null
  }

  read(path: string): Uint8Array | null {
    return this.#files.get(path)?.bytes.slice() ?? null
  }

  readPart(path: string, position: number, length: number): Uint8Array | null {
    return this.#files.get(path)?.bytes.slice(position, position + length) ?? null
  }

  list(path: string): string[] {
    const names = new Set<string>()
    for (const known of [...this.#files.keys(), ...this.#directories]) {
      if (known.startsWith(`${path}/`))
        names.add(known.slice(path.length + 1).split('/')[0] as string)
    }
    return [...names].sort()
  }

  // --- Disk: changing, at once --------------------------------------------------------------------------------------

  makeDirectory(path: string): void {
    this.#now('make directory', path, 0, () => {
      if (this.#directories.has(path)) return
      this.#directories.add(path)
      this.#synced(parentOf(path))
    })
  }

  syncDirectory(path: string): void {
    this.#now('sync directory', path, 0, () => this.#synced(path))
  }

  replace(path: string, bytes: Uint8Array): void {
    this.#now('replace', path, bytes.length, () => {
      // A copy even of a Buffer, whose slice() is none.
      this.#files.set(path, new StoredFile(Uint8Array.from(bytes)))
      this.#synced(parentOf(path))
    })
  }

  overwrite(path: string, position: number, bytes: Uint8Array): void {
    const file = this.#file(path)
    if (!this.#boundary(`before overwrite ${path}`)) return
    const fate = this.#fate?.immediate(bytes.length) ?? 0
    if (fate === 'full') throw failure('full', path)
    file.write(position, bytes)
    // Dead in the middle of it: any subset of the sectors, should the power go too.
    if (!this.#boundary(`in overwrite ${path}`)) return
    if (fate === 'io') {
      file.syncFailed()
      throw failure('io', path)
    }
    file.sync()
    this.#boundary(`after overwrite ${path}`)
  }

  rename(from: string, to: string): void {
    this.#now('rename', from, 0, () => {
      for (const [path, file] of [...this.#files]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue
        this.#files.delete(path)
        this.#files.set(to + path.slice(from.length), file)
      }
      for (const path of [...this.#directories]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue
        this.#directories.delete(path)
        this.#directories.add(to + path.slice(from.length))
      }
      this.#synced(parentOf(from))
      this.#synced(parentOf(to))
      this.#forget(from)
    })
  }

  remove(path: string): void {
    if (!this.#boundary(`before remove ${path}`)) return
    for (const known of this.paths()) {
      if (known !== path && !known.startsWith(`${path}/`)) continue
      this.#files.delete(known)
      // A directory may be half gone.
      if (!this.#boundary(`in remove ${path}`)) return
    }
    this.#directories.delete(path)
    this.#synced(parentOf(path))
    this.#forget(path)
  }

  // --- Disk: in the background --------------------------------------------------------------------------------------

  allocate(
    path: string,
    head: Uint8Array,
    sizeBytes: number,
    done: (error: StorageError | null, file: DiskFile | null) => void,
  ): void {
    const bytes = new Uint8Array(sizeBytes)
    bytes.set(head)
    this.#background(`allocate ${path}`, path, sizeBytes, {
      abandon: () => {
        const left = this.#dice.below(3)
        if (left === 1) this.#files.set(`${path}.tmp`, new StoredFile(bytes))
        if (left !== 2) return
        this.#files.set(path, new StoredFile(bytes))
        this.#changed(path, () => this.#takeBack(path, `${path}.tmp`))
      },
      ended: (error) => {
        if (error !== null) return done(error, null)
        this.#files.set(path, new StoredFile(bytes))
        this.#synced(parentOf(path))
        done(null, this.open(path))
      },
    })
  }

  open(path: string): DiskFile {
    this.#file(path)
    return {
      path,
      write: (buffers, position, done) => this.#write(path, buffers, position, done),
      close: (done) => this.soon(done),
    }
  }

  reader(path: string): DiskReader {
    const file = this.#file(path)
    return {
      read: (position, length, done) => {
        this.#background(`read ${path}`, path, length, {
          abandon: () => {},
          ended: (error) => {
            // Reading needs no room.
            if (error !== null && error.code !== 'disk-full') return done(error, null)
            done(null, file.bytes.slice(position, position + length))
          },
        })
      },
      close: () => {},
    }
  }

  move(from: string, to: string, done: (error: StorageError | null) => void): void {
    this.#file(from)
    const effect = () => {
      const file = this.#files.get(from)
      if (file === undefined) return
      this.#files.delete(from)
      this.#files.set(to, file)
    }
    const maybe = () => {
      const before = this.#files.get(to)
      effect()
      this.#changed(to, () => {
        this.#takeBack(to, from)
        if (before !== undefined) this.#files.set(to, before)
      })
    }
    this.#onceOrNot(`move ${from}`, to, { effect, maybe }, done)
  }

  discard(path: string, done: (error: StorageError | null) => void): void {
    const effect = () => this.#files.delete(path)
    const maybe = () => {
      const file = this.#files.get(path)
      effect()
      if (file !== undefined) this.#changed(path, () => this.#files.set(path, file))
    }
    this.#onceOrNot(`discard ${path}`, path, { effect, maybe }, done)
  }

  soon(callback: () => void): void {
    this.#fate?.later(0, callback)
  }

  #write(
    path: string,
    buffers: readonly Uint8Array[],
    position: number,
    done: (error: StorageError | null) => void,
  ): void {
    const file = this.#file(path)
    // Not copied: whoever changes them before the end of the write finds that on its disk.
    const size = sizeOf(buffers)
    const reached = (): number => (this.#dice.below(3) === 0 ? size : this.#dice.below(size + 1))
    this.#background(`write ${path}`, path, size, {
      // A process that dies has handed over all of it, or a part, or nothing.
      abandon: () => file.writeAll(position, buffers, reached()),
      ended: (error) => {
        if (error === null) {
          file.writeDurably(position, buffers)
          return done(null)
        }
        file.writeAll(position, buffers, error.code === 'disk-full' ? reached() : size)
        if (error.code === 'io') file.syncFailed()
        done(error)
      },
    })
  }

  /** A change of names: after a crash or a failed sync it has happened, or it has not. `maybe`: so that a power cut may undo it. */
  #onceOrNot(
    name: string,
    path: string,
    change: { readonly effect: () => void; readonly maybe: () => void },
    done: (error: StorageError | null) => void,
  ): void {
    const maybe = () => {
      if (this.#dice.below(2) === 0) change.maybe()
    }
    this.#background(name, path, 0, {
      abandon: maybe,
      ended: (error) => {
        if (error === null) {
          change.effect()
          this.#synced(parentOf(path))
        } else if (error.code === 'io') maybe()
        done(error)
      },
    })
  }

  #background(
    name: string,
    path: string,
    bytes: number,
    work: Running & { readonly ended: (error: StorageError | null) => void },
  ): void {
    const fate = this.#fate
    if (fate === null || !this.#boundary(`before ${name}`)) return
    const what = fate.background(bytes)
    this.#running.add(work)
    fate.later(typeof what === 'number' ? what : FAILURE_US, () => {
      this.#running.delete(work)
      work.ended(typeof what === 'number' ? null : failure(what, path))
    })
    this.#boundary(`in ${name}`)
  }

  #now(name: string, path: string, bytes: number, effect: () => void): void {
    if (!this.#boundary(`before ${name} ${path}`)) return
    const fate = this.#fate?.immediate(bytes) ?? 0
    if (typeof fate !== 'number') throw failure(fate, path)
    effect()
    this.#boundary(`after ${name} ${path}`)
  }

  #boundary(name: string): boolean {
    return this.#fate?.boundary(name) ?? false
  }

  #changed(path: string, undo: () => void): void {
    this.#renamings.push({ directory: parentOf(path), undo })
  }

  /** An fsync of the directory. */
  #synced(directory: string): void {
    if (this.#renamings.length === 0) return
    this.#renamings = this.#renamings.filter((renaming) => renaming.directory !== directory)
  }

  /** Nothing is where it was. */
  #forget(path: string): void {
    this.#renamings = this.#renamings.filter(
      ({ directory }) => !`${directory}/`.startsWith(`${path}/`),
    )
  }

  #takeBack(to: string, from: string): void {
    const file = this.#files.get(to)
    if (file === undefined) return
    this.#files.delete(to)
    this.#files.set(from, file)
  }

  #file(path: string): StoredFile {
    const file = this.#files.get(path)
    if (file === undefined) throw new StorageError('io', `no file ${path}`, { path })
    return file
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}

function sizeOf(buffers: readonly Uint8Array[]): number {
  let size = 0
  for (const buffer of buffers) size += buffer.length
  return size
}

function failure(what: 'full' | 'io', path: string): StorageError {
  return what === 'full'
    ? new StorageError('disk-full', `No room on the disk for ${path}.`, { path })
    : new StorageError('io', `fdatasync of ${path} failed.`, { path })
}
