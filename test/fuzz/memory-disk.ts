/**
 * A disk in memory for one test: files are byte arrays that anybody may damage, a write is seen at once, callbacks run when `settle`
 * is called. It never fails unless it is told to.
 */
import type { DiskFile, DiskReader, FileStat, HostDisk } from '../../node/storage/disk.ts'
import { StorageError } from '../../node/storage/storage.ts'

export class MemoryDisk implements HostDisk {
  readonly files = new Map<string, Uint8Array>()
  readonly #directories = new Set<string>()
  readonly #waiting: (() => void)[] = []
  /** The next write or allocation in the background fails so, after `reaches` bytes. */
  fault: { readonly code: 'disk-full' | 'io'; readonly reaches: number } | null = null
  /** Sees each write before it happens: what a power cut in the middle of it would meet. */
  onWrite: ((path: string, position: number, bytes: Uint8Array) => void) | null = null

  copy(): MemoryDisk {
    const other = new MemoryDisk()
    for (const [path, bytes] of this.files) other.files.set(path, bytes.slice())
    for (const path of this.#directories) other.#directories.add(path)
    return other
  }

  /** Runs callbacks until there are none, or until so many have run. */
  settle(callbacksMax = Number.POSITIVE_INFINITY): void {
    for (let ran = 0; ran < callbacksMax; ran++) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      next()
    }
  }

  stat(path: string): FileStat | null {
    const bytes = this.files.get(path)
    if (bytes !== undefined) return { kind: 'file', sizeBytes: bytes.length }
    return this.#directories.has(path) ? { kind: 'directory', sizeBytes: 0 } : null
  }

  read(path: string): Uint8Array | null {
    return this.files.get(path)?.slice() ?? null
  }

  readPart(path: string, position: number, length: number): Uint8Array | null {
    return this.files.get(path)?.slice(position, position + length) ?? null
  }

  list(path: string): string[] {
    const names = [...this.files.keys(), ...this.#directories]
      .filter((known) => known.startsWith(`${path}/`))
      .map((known) => known.slice(path.length + 1).split('/')[0] as string)
    return [...new Set(names)].sort()
  }

  makeDirectory(path: string): void {
    this.#directories.add(path)
  }

  syncDirectory(): void {}

  replace(path: string, bytes: Uint8Array): void {
    this.files.set(path, bytes.slice())
  }

  overwrite(path: string, position: number, bytes: Uint8Array): void {
    const before = this.#file(path)
    const after = new Uint8Array(Math.max(before.length, position + bytes.length))
    after.set(before)
    after.set(bytes, position)
    this.files.set(path, after)
  }

  rename(from: string, to: string): void {
    for (const [path, bytes] of [...this.files]) {
      if (path !== from && !path.startsWith(`${from}/`)) continue
      this.files.delete(path)
      this.files.set(to + path.slice(from.length), bytes)
    }
  }

  remove(path: string): void {
    for (const known of [...this.files.keys(), ...this.#directories]) {
      if (known !== path && !known.startsWith(`${path}/`)) continue
      this.files.delete(known)
      this.#directories.delete(known)
    }
  }

  allocate(
    path: string,
    head: Uint8Array,
    sizeBytes: number,
    done: (error: StorageError | null, file: DiskFile | null) => void,
  ): void {
    const fault = this.#takeFault()
    this.soon(() => {
      if (fault !== null) return done(new StorageError(fault.code, 'injected', { path }), null)
      const bytes = new Uint8Array(sizeBytes)
      bytes.set(head)
      this.files.set(path, bytes)
      done(null, this.open(path))
    })
  }

  open(path: string): DiskFile {
    this.#file(path)
    return {
      path,
      close: (done) => this.soon(done),
      write: (buffers, position, done) => {
        const fault = this.#takeFault()
        const bytes = new Uint8Array(Buffer.concat(buffers))
        this.onWrite?.(path, position, bytes)
        this.overwrite(path, position, bytes.subarray(0, fault?.reaches ?? bytes.length))
        const error = fault === null ? null : new StorageError(fault.code, 'injected', { path })
        this.soon(() => done(error))
      },
    }
  }

  reader(path: string): DiskReader {
    const bytes = this.#file(path)
    return {
      read: (position, length, done) => {
        const fault = this.#takeFault()
        this.soon(() => {
          if (fault !== null) done(new StorageError('io', 'injected', { path }), null)
          else done(null, (this.files.get(path) ?? bytes).slice(position, position + length))
        })
      },
      close: () => {},
    }
  }

  move(from: string, to: string, done: (error: StorageError | null) => void): void {
    this.#change(from, () => this.rename(from, to), done)
  }

  discard(path: string, done: (error: StorageError | null) => void): void {
    this.#change(path, () => this.remove(path), done)
  }

  #change(path: string, effect: () => void, done: (error: StorageError | null) => void): void {
    const fault = this.#takeFault()
    this.soon(() => {
      if (fault === null) effect()
      done(fault === null ? null : new StorageError(fault.code, 'injected', { path }))
    })
  }

  soon(callback: () => void): void {
    this.#waiting.push(callback)
  }

  makeEphemeralDirectory(path: string): void {
    this.#directories.add(path)
  }

  moveOntoEmpty(): 'moved' {
    return 'moved'
  }

  unlink(path: string): void {
    this.files.delete(path)
  }

  makeSymlink(): void {}

  #takeFault(): MemoryDisk['fault'] {
    const { fault } = this
    this.fault = null
    return fault
  }

  #file(path: string): Uint8Array {
    const bytes = this.files.get(path)
    if (bytes === undefined) throw new StorageError('io', `no file ${path}`, { path })
    return bytes
  }
}
