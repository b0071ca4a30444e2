/**
 * The log as one node sees it: entries behind its base in memory, of which a prefix is stable (durable on this disk) and a prefix
 * is committed. The two prefixes are independent: a follower may learn of a commit before its own save ends. What lies at or
 * before the base is in a snapshot; a tail of what the snapshot covers stays, for followers that are a little behind.
 *
 *   base | firstIndex .. snapshotIndex .. lastIndex covered by the newest snapshot | not
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
  #entries: Entry[]
  /** The last entry that was compacted away, {0, 0} when none was. Its term is kept, so that an Append can start behind it. */
  #base: EntryId
  /** The base came with a snapshot from a leader, and the disk still holds the log of before. */
  #unsavedBase: EntryId | null = null
  /** What the newest snapshot on this disk covers. Never below the base, or there would be a gap (rule 8). */
  #snapshotIndex: Index
  #payloadBytes = 0
  /** The newest configuration at or before the base, then those in the log, ascending; the last one is in force. */
  #configurations: ConfigurationAt[] = []
  #stableIndex: Index
  #commitIndex: Index
  #appliedIndex: Index

  constructor(recovered: {
    base: EntryId
    entries: readonly Entry[]
    commitIndex: Index
    /** What the recovered state is of; null: it is empty, and the log reaches back to the first entry. */
    snapshot?: { readonly id: EntryId; readonly configuration: ConfigurationAt } | null
  }) {
    const { base, snapshot = null } = recovered
    this.#base = base
    this.#entries = [...recovered.entries]
    const configuration = snapshot?.configuration ?? null
    if (configuration !== null && configuration.index <= base.index) {
      this.#configurations.push(configuration)
    }
    this.#entries.forEach((entry, position) => {
      invariant(entry.index === base.index + 1 + position, 'recovered entries have a gap')
      this.#payloadBytes += entry.payload.length
      this.#noteConfiguration(entry)
    })
    this.#stableIndex = this.lastIndex
    this.#snapshotIndex = snapshot?.id.index ?? 0
    // What a snapshot covers is committed, whatever the hint on disk says.
    this.#commitIndex = Math.max(recovered.commitIndex, this.#snapshotIndex)
    this.#appliedIndex = this.#snapshotIndex
    invariant(this.#snapshotIndex >= base.index, 'the log begins behind the snapshot')
    invariant(snapshot === null || this.matches(snapshot.id), 'the log does not know the snapshot')
    invariant(
      this.#commitIndex >= base.index && this.#commitIndex <= this.lastIndex,
      'the recovered commit index lies outside the log',
    )
  }

  /** The last entry before the log. */
  get base(): EntryId {
    return this.#base
  }

  /** The base is not durable yet: the next save carries it, and makes the disk forget the log of before. */
  get unsavedBase(): EntryId | null {
    return this.#unsavedBase
  }

  /** Up to here the newest snapshot on this disk covers everything. 0: there is none. */
  get snapshotIndex(): Index {
    return this.#snapshotIndex
  }

  /** Of all entries in memory. */
  get payloadBytes(): number {
    return this.#payloadBytes
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

  /** Everything up to here is durable on this node's disk. Below the base only while that is not. */
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
    this.#payloadBytes += entry.payload.length
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
    for (const entry of this.#entries.splice(from - this.firstIndex)) {
      this.#payloadBytes -= entry.payload.length
    }
    this.#stableIndex = Math.min(this.#stableIndex, from - 1)
    while ((this.#configurations.at(-1)?.index ?? 0) >= from) this.#configurations.pop()
  }

  /** A snapshot of the state as of `index` is durable on this disk. */
  noteSnapshot(index: Index): void {
    invariant(index >= this.#snapshotIndex, 'a snapshot older than the one before')
    invariant(index <= this.#appliedIndex, 'a snapshot of what was not applied')
    // Followers may have committed past what this disk holds: after a crash there would be a gap behind the snapshot (HAZARDS).
    invariant(index <= this.#stableIndex, 'a snapshot past the durable log')
    this.#snapshotIndex = index
  }

  /** Forgets the prefix up to `index`, which a durable snapshot covers. */
  compactTo(index: Index): void {
    if (index <= this.#base.index) return
    invariant(index <= this.#snapshotIndex, 'compacted beyond the snapshot')
    this.#base = { term: this.termAt(index) as Term, index }
    const kept = this.#entries.findIndex((entry) => entry.index > index)
    const forgotten = this.#entries.splice(0, kept === -1 ? this.#entries.length : kept)
    for (const { payload } of forgotten) this.#payloadBytes -= payload.length
    const newest = this.configurationAt(index)
    this.#configurations = this.#configurations.filter((one) => one.index >= (newest?.index ?? 0))
  }

  /**
   * Starts anew behind a snapshot of a leader, whose last entry this log does not hold: whatever is here is older or in conflict
   * with what is committed (paper, section 7).
   */
  reset(id: EntryId, configuration: ConfigurationAt): void {
    invariant(id.index > this.#commitIndex, 'a snapshot of what is committed here already')
    invariant(configuration.index <= id.index, 'a snapshot carries a later configuration')
    // Promises that wait for entries of the old log wait for the snapshot now, which holds what they stand for.
    this.#stableIndex = Math.min(this.#stableIndex, id.index - 1)
    this.#entries = []
    this.#payloadBytes = 0
    this.#base = id
    this.#unsavedBase = id
    this.#configurations = [configuration]
    this.#snapshotIndex = id.index
    this.#commitIndex = id.index
    this.#appliedIndex = id.index
  }

  /**
   * A save of `entries`, behind `base` when it carried one, ended. The stable mark advances only where (index, term) still match:
   * what was rewritten meanwhile is not durable (HAZARDS).
   */
  stabilise(entries: readonly Entry[], base: EntryId | null = null): void {
    if (this.#unsavedBase !== null) {
      if (base?.index !== this.#unsavedBase.index) {
        return mark('log: a save ends after a snapshot took the place of the log')
      }
      this.#unsavedBase = null
      this.#stableIndex = base.index
    }
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
