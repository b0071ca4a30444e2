/**
 * The log as one node sees it: entries since the last snapshot in memory, of which a prefix is stable (durable on this
 * disk) and a prefix is committed. The two prefixes are independent: a follower may learn of a commit before its own save ends.
 *
 *   firstIndex .. stableIndex | .. lastIndex        stable | unstable
 *   firstIndex .. appliedIndex .. commitIndex | ..  committed | not yet
 */
import { invariant } from './assert.ts'
import { decodeConfigurationRecord } from './configuration.ts'
import { mark } from './marks.ts'
import type { ConfigurationRecord, Entry, EntryId, Index, Term } from './types.ts'

/** A configuration and the entry that brought it. Index 0 stands for "none yet". */
export interface ConfigurationAt {
  readonly index: Index
  readonly record: ConfigurationRecord
}

export class RaftLog {
  /** #entries[i] has index #base.index + 1 + i. */
  readonly #entries: Entry[]
  /** The last entry that was compacted away, {0, 0} when none was. */
  readonly #base: EntryId
  /** Configuration entries in the log, ascending; the last one is in force whether committed or not. */
  readonly #configurations: ConfigurationAt[] = []
  #stableIndex: Index
  #commitIndex: Index
  #appliedIndex: Index

  constructor(recovered: { base: EntryId; entries: readonly Entry[]; commitIndex: Index }) {
    this.#base = recovered.base
    this.#entries = [...recovered.entries]
    this.#entries.forEach((entry, position) => {
      invariant(entry.index === this.#base.index + 1 + position, 'recovered entries have a gap')
      this.#noteConfiguration(entry)
    })
    this.#stableIndex = this.lastIndex
    this.#commitIndex = recovered.commitIndex
    this.#appliedIndex = this.#base.index
    invariant(
      this.#commitIndex >= this.#base.index && this.#commitIndex <= this.lastIndex,
      'the recovered commit index lies outside the log',
    )
  }

  get firstIndex(): Index {
    return this.#base.index + 1
  }

  get lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  get lastTerm(): Term {
    return this.#entries.at(-1)?.term ?? this.#base.term
  }

  /** Everything up to here is durable on this node's disk. */
  get stableIndex(): Index {
    return this.#stableIndex
  }

  get commitIndex(): Index {
    return this.#commitIndex
  }

  /** Everything up to here was handed to the state machine. Never beyond commitIndex. */
  get appliedIndex(): Index {
    return this.#appliedIndex
  }

  /** The configuration in force: the newest in the log, from the moment it is appended. */
  get configuration(): ConfigurationAt | null {
    return this.#configurations.at(-1) ?? null
  }

  /** The newest configuration at or before `index`, for a snapshot there and for what is committed. */
  configurationAt(index: Index): ConfigurationAt | null {
    for (let i = this.#configurations.length - 1; i >= 0; i--) {
      const found = this.#configurations[i] as ConfigurationAt
      if (found.index <= index) return found
    }
    return null
  }

  /** Undefined where the log does not reach. The base has its term, so that an Append can start behind it. */
  termAt(index: Index): Term | undefined {
    if (index === this.#base.index) return this.#base.term
    return this.#entries[index - this.firstIndex]?.term
  }

  entryAt(index: Index): Entry | undefined {
    return this.#entries[index - this.firstIndex]
  }

  matches(id: EntryId): boolean {
    return this.termAt(id.index) === id.term
  }

  /** Paper 5.4.1: compares the terms of the last entries, then the lengths. */
  isUpToDate(lastTerm: Term, lastIndex: Index): boolean {
    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex)
  }

  /** Entries from..to inclusive, cut so that their payloads stay within `bytesMax`, but never to none. */
  slice(from: Index, to: Index, bytesMax: number): Entry[] {
    invariant(from >= this.firstIndex && to <= this.lastIndex, 'slice outside the log')
    const start = from - this.firstIndex
    let end = start
    let bytes = 0
    while (end <= to - this.firstIndex) {
      bytes += (this.#entries[end] as Entry).payload.length
      if (bytes > bytesMax && end > start) break
      end++
    }
    return this.#entries.slice(start, end)
  }

  /** Appends at the end: what a leader does with its own entries. */
  append(entry: Entry): void {
    invariant(entry.index === this.lastIndex + 1, 'append leaves a gap')
    invariant(entry.term >= this.lastTerm, 'terms in a log never fall')
    this.#entries.push(entry)
    this.#noteConfiguration(entry)
  }

  /**
   * What a follower does with a leader's entries, whose predecessor it has already matched: skips what it has, removes a
   * conflicting suffix (paper 5.3), appends the rest. Returns the index up to which the two logs now agree.
   */
  merge(entries: readonly Entry[], prevIndex: Index): Index {
    const last = entries.at(-1)?.index ?? prevIndex
    const firstNew = entries.findIndex((entry) => !this.matches(entry))
    if (firstNew === -1) return last
    const conflict = entries[firstNew] as Entry
    if (conflict.index <= this.lastIndex) this.#truncate(conflict.index)
    for (let i = firstNew; i < entries.length; i++) this.append(entries[i] as Entry)
    return last
  }

  #truncate(from: Index): void {
    invariant(from > this.#commitIndex, 'a committed entry would be truncated')
    mark('log: a suffix is truncated')
    if (from <= this.#stableIndex) mark('log: a stable suffix is truncated')
    this.#entries.length = from - this.firstIndex
    this.#stableIndex = Math.min(this.#stableIndex, from - 1)
    while ((this.#configurations.at(-1)?.index ?? 0) >= from) this.#configurations.pop()
  }

  /**
   * A save of `entries` ended. The stable mark advances only where (index, term) still match: what was rewritten
   * meanwhile is not durable (HAZARDS).
   */
  stabilise(entries: readonly Entry[]): void {
    for (let i = entries.length - 1; i >= 0; i--) {
      const entry = entries[i] as Entry
      if (!this.matches(entry)) {
        mark('log: a save ends after its entries were rewritten')
        continue
      }
      this.#stableIndex = Math.max(this.#stableIndex, entry.index)
      return
    }
  }

  commitTo(index: Index): void {
    invariant(index <= this.lastIndex, 'commit beyond the end of the log')
    if (index > this.#commitIndex) this.#commitIndex = index
  }

  /** Committed entries that were not yet applied, at most `countMax`; they count as applied from here on. */
  takeCommitted(countMax: number): Entry[] {
    const to = Math.min(this.#commitIndex, this.#appliedIndex + countMax)
    const start = this.#appliedIndex + 1 - this.firstIndex
    const taken = this.#entries.slice(start, to + 1 - this.firstIndex)
    this.#appliedIndex = to
    return taken
  }

  /**
   * Conflict back-up (paper 5.3, last paragraphs): the largest index not past `index` whose term is at most `term`. A log
   * that holds a later term there cannot match, so whole terms are skipped at a time.
   */
  lastIndexNotAfter(index: Index, term: Term): Index {
    let found = Math.min(index, this.lastIndex)
    while (found > this.#base.index && (this.termAt(found) as Term) > term) found--
    return found
  }

  #noteConfiguration(entry: Entry): void {
    if (entry.kind !== 'configuration') return
    const record = decodeConfigurationRecord(entry.payload)
    invariant(record !== null, `entry ${entry.index} is no valid configuration`)
    this.#configurations.push({ index: entry.index, record })
  }
}
