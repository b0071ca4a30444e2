/**
 * A file that grows at its end. Small parts are gathered into writes of about half a MiB, one at a time and each synced: many syncs of
 * a little data do not hold up the log's own as one large sync at the end would. Callbacks only.
 */
import type { Disk, DiskFile } from './disk.ts'
import { UNWRITTEN_BYTES_MAX } from './snapshots.ts'
import type { StorageError } from './storage.ts'

/** A write takes parts until it has so many bytes. */
const GATHERED_BYTES = 512 * 1024
/**
 * What one write can have at most when no part is larger than `GATHERED_BYTES`: after a crash only so much at the end of the file is in
 * doubt, because every write before the last was synced.
 */
export const IN_DOUBT_BYTES = 2 * GATHERED_BYTES

type Done = (error: StorageError | null) => void

export class GrowingFile {
  readonly #disk: Disk
  #file: DiskFile | null = null
  /** Where the next write goes. */
  #position: number
  #parts: Uint8Array[] = []
  /** Of the parts, and of the write under way. */
  #unwrittenBytes = 0
  #isBusy = true
  /** Waiting for room for more. */
  readonly #waiters: Done[] = []
  /** Waiting until everything is at the disk. */
  readonly #flushers: Done[] = []
  #error: StorageError | null = null
  #closing: 'no' | 'waits' | 'closed' = 'no'
  readonly #closers: (() => void)[] = []

  /** Makes a file of `head`, in place of one that may be there, or goes on in one that is there (throws `io` if it is not). */
  constructor(
    disk: Disk,
    path: string,
    from: { readonly head: Uint8Array } | { readonly at: number },
  ) {
    this.#disk = disk
    if ('head' in from) {
      this.#position = from.head.length
      disk.allocate(path, from.head, from.head.length, (error, file) => {
        this.#file = file
        this.#ended(error)
      })
      return
    }
    this.#position = from.at
    this.#file = disk.open(path)
    disk.soon(() => this.#ended(null))
  }

  /** The parts must not change any more. `done` when there is room for more, in a later turn; a failure may show only then. */
  append(parts: readonly Uint8Array[], done: Done): void {
    if (this.#closing !== 'no') throw new Error('bug: append after close')
    this.#waiters.push(done)
    if (this.#error === null) {
      for (const part of parts) this.#unwrittenBytes += part.length
      if (this.#unwrittenBytes > UNWRITTEN_BYTES_MAX) throw new Error('bug: too much is unwritten')
      this.#parts.push(...parts)
      this.#write(GATHERED_BYTES)
    }
    if (this.#hasRoom) this.#disk.soon(() => this.#answer(this.#waiters))
  }

  /** `done` when all of it is durable, in a later turn. */
  flush(done: Done): void {
    if (this.#closing !== 'no') throw new Error('bug: flush after close')
    this.#flushers.push(done)
    this.#disk.soon(() => this.#next())
  }

  /** What waits to be written is dropped, no `done` is called any more; `closed` in a later turn, when nothing is written. */
  close(closed: () => void = () => {}): void {
    this.#closers.push(closed)
    this.#parts = []
    this.#waiters.length = this.#flushers.length = 0
    if (this.#closing === 'closed') this.#disk.soon(() => this.#tellClosed())
    else if (this.#closing === 'no') {
      this.#closing = 'waits'
      if (!this.#isBusy) this.#close()
    }
  }

  get #hasRoom(): boolean {
    return this.#error !== null || this.#unwrittenBytes < GATHERED_BYTES
  }

  #write(bytesMin: number): void {
    const file = this.#file
    if (this.#isBusy || file === null || this.#error !== null) return
    if (this.#unwrittenBytes < bytesMin) return
    const taken: Uint8Array[] = []
    let size = 0
    for (const part of this.#parts) {
      if (size >= GATHERED_BYTES) break
      taken.push(part)
      size += part.length
    }
    this.#parts.splice(0, taken.length)
    this.#isBusy = true
    file.write(taken, this.#position, (error) => {
      this.#unwrittenBytes -= size
      this.#position += size
      this.#ended(error)
    })
  }

  #ended(error: StorageError | null): void {
    this.#isBusy = false
    this.#error ??= error
    if (this.#closing === 'waits') this.#close()
    else this.#next()
  }

  #next(): void {
    if (this.#closing !== 'no') return
    if (this.#error !== null) this.#parts = []
    this.#write(this.#flushers.length > 0 ? 1 : GATHERED_BYTES)
    if (this.#hasRoom) this.#answer(this.#waiters)
    const isWritten = !this.#isBusy && this.#parts.length === 0
    if (this.#error !== null || isWritten) this.#answer(this.#flushers)
  }

  /** Who is told may close the file; all who waited are told all the same. */
  #answer(waiting: Done[]): void {
    for (const done of waiting.splice(0)) done(this.#error)
  }

  #close(): void {
    this.#closing = 'closed'
    if (this.#file === null) this.#disk.soon(() => this.#tellClosed())
    else this.#file.close(() => this.#tellClosed())
  }

  #tellClosed(): void {
    for (const closed of this.#closers.splice(0)) closed()
  }
}
