/**
 * A log that keeps nothing: for tests, and for a node that is told to live in memory. It passes the same contract suite as the
 * one on disk; `stored` is what a restart would find.
 */
import type { Entry, EntryId, HardState, Index } from '../raft/types.ts'
import { checkSave } from './checks.ts'
import type { LogStorage, Recovered, Save, StorageError } from './storage.ts'

export interface MemoryLogOptions {
  /** What an earlier log has stored; default nothing. */
  readonly recovered?: Recovered
  /** Runs a callback in a later turn; default queueMicrotask. */
  readonly soon?: (callback: () => void) => void
}

const NOTHING: Recovered = {
  hardState: null,
  base: { term: 0, index: 0 },
  firstIndex: 1,
  entries: [],
  tornTailCut: false,
}

export class MemoryLog implements LogStorage {
  readonly recovered: Recovered
  readonly #soon: (callback: () => void) => void
  #hardState: HardState | null
  #base: EntryId
  #entries: Entry[]
  #saving = false
  #closing = false
  readonly #closeWaiters: (() => void)[] = []

  constructor(options: MemoryLogOptions = {}) {
    this.recovered = options.recovered ?? NOTHING
    this.#soon = options.soon ?? queueMicrotask
    this.#hardState = this.recovered.hardState
    this.#base = this.recovered.base
    this.#entries = [...this.recovered.entries]
  }

  save(batch: Save, done: (error: StorageError | null) => void): void {
    if (this.#closing) throw new Error('bug: save after close')
    if (this.#saving) throw new Error('bug: a save is in flight already')
    checkSave(batch, { floor: this.#base.index, lastIndex: this.#lastIndex })
    this.#saving = true
    // The batch is copied now: its author may reuse its buffers once `done` has been called.
    const entries = batch.entries.map((entry) => ({
      ...entry,
      payload: Uint8Array.from(entry.payload),
    }))
    this.#soon(() => {
      this.#apply({ ...batch, entries })
      this.#saving = false
      done(null)
      for (const waiter of this.#closeWaiters.splice(0)) waiter()
    })
  }

  compact(to: Index): void {
    if (to > this.#lastIndex) throw new Error('bug: compact beyond the log')
    const last = this.#entries[to - this.#base.index - 1]
    if (last === undefined) return
    this.#entries = this.#entries.slice(to - this.#base.index)
    this.#base = { term: last.term, index: last.index }
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
      base: this.#base,
      firstIndex: this.#base.index + 1,
      entries: [...this.#entries],
      tornTailCut: false,
    }
  }

  get #lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  #apply({ hardState, entries, base }: Save): void {
    if (hardState !== null) this.#hardState = { ...hardState }
    if (base !== undefined) {
      this.#base = { ...base }
      this.#entries = []
    }
    const [first] = entries
    if (first === undefined) return
    // The log may have been compacted up to an entry that this batch rewrites only if it was committed: never.
    this.#entries.length = first.index - this.#base.index - 1
    for (const entry of entries) this.#entries.push(entry)
  }
}
