/**
 * What every machine has promised to keep: the log as its disk confirmed it, batch by batch. It watches the production log from
 * outside, and knows after each restart what must have come back.
 */
import { equalBytes } from '../../client/bytes.ts'
import type { Entry, HardState, Index, PeerId, Term } from '../../node/raft/types.ts'
import type { LogStorage, Save } from '../../node/storage/storage.ts'
import { wrong } from './failure.ts'

export class DurableLog {
  readonly #name: string
  hardState: HardState | null = null
  #entries: Entry[] = []
  /**
   * Handed to the disk since the last confirmation: at most one of them may be there. One that found no room may lie whole where
   * the next one was to be written (docs/wal.md); nobody was told of it, so that nothing depends on it.
   */
  #doubts: Save[] = []

  constructor(name: string) {
    this.#name = name
  }

  get lastIndex(): Index {
    return this.#entries.length
  }

  termAt(index: Index): Term | undefined {
    return this.#entries[index - 1]?.term
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
        this.#doubts.push({ hardState: batch.hardState, entries: [...batch.entries] })
        log.save(batch, (error) => {
          if (error === null) {
            this.#write(batch)
            this.#doubts = []
          }
          done(error)
        })
      },
      compact: (to) => log.compact(to),
      close: (done) => log.close(done),
    }
  }

  #checkRecovered({ recovered }: LogStorage): void {
    const { hardState, entries } = recovered
    const confirmed = { hardState: this.hardState, entries: this.#entries }
    for (const doubt of [null, ...this.#doubts]) {
      this.hardState = confirmed.hardState
      this.#entries = [...confirmed.entries]
      if (doubt !== null) this.#write(doubt)
      if (!this.#is(hardState, entries)) continue
      this.#doubts = []
      return
    }
    this.hardState = confirmed.hardState
    this.#entries = confirmed.entries
    const has = `${entries.length} entries, ${describe(hardState)}`
    const must = `${this.#entries.length} entries, ${describe(this.hardState)}`
    wrong(
      'recovery',
      `the log of ${this.#name} came back with ${has}; its disk had confirmed ${must}`,
    )
  }

  #is(hardState: HardState | null, entries: readonly Entry[]): boolean {
    const own = this.hardState
    if (own?.term !== hardState?.term || own?.vote !== hardState?.vote) return false
    if (own?.commit !== hardState?.commit || entries.length !== this.#entries.length) return false
    return entries.every((entry, at) => {
      const kept = this.#entries[at] as Entry
      return (
        entry.index === kept.index &&
        entry.term === kept.term &&
        entry.kind === kept.kind &&
        equalBytes(entry.payload, kept.payload)
      )
    })
  }

  #write({ hardState, entries }: Save): void {
    if (hardState !== null) this.hardState = hardState
    const [first] = entries
    if (first === undefined) return
    this.#entries.length = first.index - 1
    for (const entry of entries) this.#entries.push(entry)
  }
}

function describe(hardState: HardState | null): string {
  if (hardState === null) return 'no hard state'
  const { term, vote, commit } = hardState
  return `term ${term}, vote ${vote?.slice(0, 8) ?? 'none'}, commit ${commit}`
}
