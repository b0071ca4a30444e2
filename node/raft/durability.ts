/**
 * What this node has on disk and what it still owes the disk: the hard state, the one save in flight, and the promises that
 * wait for it. The only place that knows whether a {term, vote} or an index is durable.
 */
import { invariant } from './assert.ts'
import type { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import type { Outgoing } from './messages.ts'
import type { SaveBatch } from './ready.ts'
import { SaveGate } from './save-gate.ts'
import type { HardState, Index, PeerId, Term } from './types.ts'

export class Durability {
  readonly #log: RaftLog
  readonly #electionTicks: number
  readonly #saveBytesMax: number
  readonly #gate = new SaveGate()
  #term: Term
  #vote: PeerId | null
  /** Rises with every change of {term, vote}; compared with what is on disk. */
  #version = 0
  #durableVersion = 0
  #durableCommit: Index
  #saving: { readonly batch: SaveBatch; readonly version: number } | null = null
  /** Ticks since the save in flight was handed out. */
  #savingTicks = 0
  /** Above 0 since a save found no room; the save is offered again when it has counted down to 1. */
  #fullTicks = 0

  constructor(parts: {
    hardState: HardState | null
    log: RaftLog
    electionTicks: number
    saveBytesMax: number
  }) {
    this.#log = parts.log
    this.#electionTicks = parts.electionTicks
    this.#saveBytesMax = parts.saveBytesMax
    this.#term = parts.hardState?.term ?? 0
    this.#vote = parts.hardState?.vote ?? null
    this.#durableCommit = parts.log.commitIndex
    invariant(parts.log.lastTerm <= this.#term, 'the log holds a term later than the hard state')
  }

  get term(): Term {
    return this.#term
  }

  get vote(): PeerId | null {
    return this.#vote
  }

  /** The present {term, vote} is on disk. */
  get durable(): boolean {
    return this.#version === this.#durableVersion
  }

  /** A save takes longer than an election timeout. */
  get stuck(): boolean {
    return this.#savingTicks >= this.#electionTicks
  }

  /** The disk had no room for the last save, and nothing was saved since. */
  get full(): boolean {
    return this.#fullTicks > 0
  }

  tick(): void {
    if (this.#saving !== null) this.#savingTicks++
    if (this.#fullTicks > 1) this.#fullTicks--
  }

  change(term: Term, vote: PeerId | null): void {
    invariant(term >= this.#term, 'terms never fall')
    invariant(term > this.#term || this.#vote === null, 'one vote a term')
    // Promises of an older term are void: the log they speak of may be rewritten before it was ever saved.
    if (term > this.#term) {
      if (this.#gate.size > 0) mark('durability: promises of an older term are dropped')
      this.#gate.clear()
    }
    this.#term = term
    this.#vote = vote
    this.#version++
  }

  /** Holds a promise until the present {term, vote} and `index` are durable; `release` hands it out. */
  hold(outgoing: Outgoing, index: Index): void {
    this.#gate.hold(outgoing, { hardVersion: this.#version, index })
  }

  release(): Outgoing[] {
    return this.#gate.release({ hardVersion: this.#durableVersion, index: this.#log.stableIndex })
  }

  /** The next save, or null: nothing to save, one in flight, or no room lately. */
  take(): SaveBatch | null {
    if (this.#saving !== null || this.#fullTicks > 1) return null
    const base = this.#log.unsavedBase
    const from = (base?.index ?? this.#log.stableIndex) + 1
    const to = this.#log.lastIndex
    if (from > to && this.durable && base === null) return null
    const entries = from > to ? [] : this.#log.slice(from, to, this.#saveBytesMax)
    const savedTo = entries.at(-1)?.index ?? from - 1
    if (savedTo < to) mark('durability: a batch is cut to its size')
    const commit = Math.max(this.#durableCommit, Math.min(this.#log.commitIndex, savedTo))
    const hardState = { term: this.#term, vote: this.#vote, commit }
    const batch = base === null ? { hardState, entries } : { hardState, entries, base }
    this.#saving = { batch, version: this.#version }
    this.#savingTicks = 0
    return batch
  }

  saved(): void {
    invariant(this.#saving !== null, 'no save is in flight')
    const { batch, version } = this.#saving
    this.#saving = null
    this.#savingTicks = 0
    this.#fullTicks = 0
    this.#durableVersion = version
    this.#durableCommit = batch.hardState.commit
    this.#log.stabilise(batch.entries, batch.base)
  }

  /** The save in flight found no room; nothing of it counts. */
  failed(): void {
    invariant(this.#saving !== null, 'no save is in flight')
    this.#saving = null
    this.#savingTicks = 0
    this.#fullTicks = this.#electionTicks
  }
}
