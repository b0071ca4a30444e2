/**
 * What every machine has promised to keep: the log as its disk confirmed it, batch by batch. It watches the production log from
 * outside, and knows after each restart what must have come back.
 */
import { equalBytes } from '../../client/bytes.ts'
import type { Entry, EntryId, HardState, Index, PeerId, Term } from '../../node/raft/types.ts'
import type { LogStorage, Save } from '../../node/storage/storage.ts'
import { wrong } from './failure.ts'

const NONE: EntryId = { term: 0, index: 0 }

export class DurableLog {
  readonly #name: string
  hardState: HardState | null = null
  /** A snapshot stands for everything up to here. */
  #base: EntryId = NONE
  #entries: Entry[] = []
  /** The log was told that what lies at or before it may go: any part of it may come back after a restart. */
  #compactedTo: Index = 0
  /**
   * Handed to the disk since the last confirmation: at most one of them may be there. One that found no room may lie whole where
   * the next one was to be written (docs/wal.md); nobody was told of it, so that nothing depends on it.
   */
  #doubts: Save[] = []

  constructor(name: string) {
    this.#name = name
  }

  get lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  /** This disk has the entry at `index`, of that term, in its log or in the snapshot before it, which holds what is committed. */
  holds(index: Index, term: Term | undefined): boolean {
    if (index < this.#base.index) return true
    const own = index === this.#base.index ? this.#base : this.#entryAt(index)
    return own !== undefined && own.term === term
  }

  #entryAt(index: Index): Entry | undefined {
    return this.#entries[index - this.#base.index - 1]
  }

  /** This machine's disk holds a vote for `candidate` in `term`, or has moved past that term. */
  hasVote(term: Term, candidate: PeerId): boolean {
    const held = this.hardState
    if (held === null) return false
    return held.term > term || (held.term === term && held.vote === candidate)
  }

  /** The disk was taken away. */
  forget(): void {
    this.hardState = null
    this.#base = NONE
    this.#compactedTo = 0
    this.#entries = []
    this.#doubts = []
  }

  /** Wraps a log that was just opened; checks that it holds what it must. */
  watch(how: 'create' | 'open', log: LogStorage): LogStorage {
    if (how === 'create') this.forget()
    else this.#checkRecovered(log)
    return {
      recovered: log.recovered,
      save: (batch, done) => {
        this.#doubts.push({ ...batch, entries: [...batch.entries] })
        log.save(batch, (error) => {
          if (error === null) {
            this.#write(batch)
            this.#doubts = []
          }
          done(error)
        })
      },
      compact: (to) => {
        this.#compactedTo = Math.max(this.#compactedTo, to)
        log.compact(to)
      },
      close: (done) => log.close(done),
    }
  }

  #checkRecovered({ recovered }: LogStorage): void {
    const { hardState, entries, base } = recovered
    const confirmed = { hardState: this.hardState, base: this.#base, entries: this.#entries }
    const restoreConfirmed = (): void => {
      this.hardState = confirmed.hardState
      this.#base = confirmed.base
      this.#entries = [...confirmed.entries]
    }
    for (const doubt of [null, ...this.#doubts]) {
      restoreConfirmed()
      if (doubt !== null) this.#write(doubt)
      if (!this.#is(recovered)) continue
      this.#doubts = []
      this.#entries = [...entries]
      this.#base = base
      return
    }
    restoreConfirmed()
    const has = `${entries.length} entries behind ${base.index}, ${describe(hardState)}`
    const must = `${this.#entries.length} entries behind ${this.#base.index}, ${describe(this.hardState)}`
    wrong(
      'recovery',
      `the log of ${this.#name} came back with ${has}; its disk had confirmed ${must}`,
    )
  }

  #is({ hardState, base, entries }: LogStorage['recovered']): boolean {
    const own = this.hardState
    if (own?.term !== hardState?.term || own?.vote !== hardState?.vote) return false
    if (own?.commit !== hardState?.commit) return false
    const mayBegin = base.index === this.#base.index || base.index <= this.#compactedTo
    if (!mayBegin || base.index < this.#base.index || !this.holds(base.index, base.term)) {
      return false
    }
    if (base.index + entries.length !== this.lastIndex) return false
    return entries.every((entry) => {
      const kept = this.#entryAt(entry.index)
      return (
        kept !== undefined &&
        entry.index === kept.index &&
        entry.term === kept.term &&
        entry.kind === kept.kind &&
        equalBytes(entry.payload, kept.payload)
      )
    })
  }

  #write({ hardState, entries, base }: Save): void {
    if (hardState !== null) this.hardState = hardState
    if (base !== undefined) {
      this.#base = base
      this.#entries = []
    }
    const [first] = entries
    if (first === undefined) return
    this.#entries.length = first.index - 1 - this.#base.index
    for (const entry of entries) this.#entries.push(entry)
  }
}

function describe(hardState: HardState | null): string {
  if (hardState === null) return 'no hard state'
  const { term, vote, commit } = hardState
  return `term ${term}, vote ${vote?.slice(0, 8) ?? 'none'}, commit ${commit}`
}
