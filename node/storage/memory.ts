/**
 * A LogStorage that keeps nothing: for tests, and for a node that is told to live in memory. It passes the same contract
 * suite as the log on disk; `stored` is what a restart would find.
 */
import type { Entry, HardState } from '../raft/types.ts'
import type { LogStorage, Recovered, Save, StorageError } from './storage.ts'

export interface MemoryLogOptions {
  /** What an earlier log has stored; default nothing. */
  readonly recovered?: Recovered
  /** Runs a callback in a later turn; default queueMicrotask. */
  readonly soon?: (callback: () => void) => void
}

const NOTHING: Recovered = { hardState: null, firstIndex: 1, entries: [], tornTailCut: false }

export class MemoryLog implements LogStorage {
  readonly recovered: Recovered
  readonly #soon: (callback: () => void) => void
  #hardState: HardState | null
  #firstIndex: number
  #entries: Entry[]
  #saving = false
  #closing = false
  readonly #closeWaiters: (() => void)[] = []

  constructor(options: MemoryLogOptions = {}) {
    this.recovered = options.recovered ?? NOTHING
    this.#soon = options.soon ?? queueMicrotask
    this.#hardState = this.recovered.hardState
    this.#firstIndex = this.recovered.firstIndex
    this.#entries = [...this.recovered.entries]
  }

  save(batch: Save, done: (error: StorageError | null) => void): void {
    if (this.#closing) throw new Error('bug: save after close')
    if (this.#saving) throw new Error('bug: a save is in flight already')
    this.#check(batch)
    this.#saving = true
    // The batch is copied now: its author may reuse its buffers once `done` has been called.
    const entries = batch.entries.map((entry) => ({ ...entry, payload: entry.payload.slice() }))
    this.#soon(() => {
      this.#apply(batch.hardState, entries)
      this.#saving = false
      done(null)
      for (const waiter of this.#closeWaiters.splice(0)) waiter()
    })
  }

  close(done: () => void): void {
    this.#closing = true
    if (this.#saving) this.#closeWaiters.push(done)
    else this.#soon(done)
  }

  /** What is durable now. */
  stored(): Recovered {
    return {
      hardState: this.#hardState,
      firstIndex: this.#firstIndex,
      entries: [...this.#entries],
      tornTailCut: false,
    }
  }

  #check(batch: Save): void {
    const [first] = batch.entries
    if (first === undefined) return
    batch.entries.forEach((entry, i) => {
      if (entry.index !== first.index + i) throw new Error('bug: entries are not consecutive')
    })
    const kept = first.index - this.#firstIndex
    if (this.#entries.length > 0 && (kept < 0 || kept > this.#entries.length)) {
      throw new Error(`bug: entry ${first.index} does not touch the log`)
    }
  }

  #apply(hardState: HardState | null, entries: Entry[]): void {
    if (hardState !== null) this.#hardState = { ...hardState }
    const [first] = entries
    if (first === undefined) return
    if (this.#entries.length === 0) this.#firstIndex = first.index
    this.#entries.length = first.index - this.#firstIndex
    for (const entry of entries) this.#entries.push(entry)
  }
}
