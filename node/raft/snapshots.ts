/**
 * What the core knows of snapshots: the newest one on this node's disk, which a leader offers to a follower that is behind the log,
 * and the offers that the driver shall answer by fetching one (paper, section 7; thesis 5). The bytes never pass here.
 */
import type { ConfigurationAt, RaftLog } from './log.ts'
import { mark } from './marks.ts'
import type { InstallSnapshot } from './messages.ts'
import type { EntryId, Index, PeerId } from './types.ts'

/** A snapshot that lies complete and durable on this node's disk. */
export interface SnapshotAt {
  /** The last entry it covers. */
  readonly id: EntryId
  /** The configuration as of `id`, never a later one: those come from the log (HAZARDS, Membership). */
  readonly configuration: ConfigurationAt
  /** Of the file. */
  readonly sizeBytes: number
  /** Of the file, 64 lower-case hex digits. */
  readonly checksum: string
}

/** A leader has no entries any more that continue this node's log, but a snapshot. */
export interface SnapshotOffer {
  readonly from: PeerId
  readonly id: EntryId
  readonly sizeBytes: number
  readonly checksum: string
}

export class Snapshots {
  readonly #log: RaftLog
  #newest: SnapshotAt | null
  #offer: SnapshotOffer | null = null

  constructor(log: RaftLog, newest: SnapshotAt | null) {
    this.#log = log
    this.#newest = newest
  }

  get newest(): SnapshotAt | null {
    return this.#newest
  }

  /** A snapshot of the state that was applied here is complete and durable. */
  saved(snapshot: SnapshotAt): void {
    this.#log.noteSnapshot(snapshot.id.index)
    this.#newest = snapshot
  }

  /**
   * Returns up to where this node's log is known to agree when the offer is of no use, so that it can be answered with that. Null:
   * the driver shall fetch it. The newest offer alone counts.
   */
  consider(from: PeerId, message: InstallSnapshot): Index | null {
    const { lastIncludedIndex, lastIncludedTerm, sizeBytes, checksum } = message
    const id = { term: lastIncludedTerm, index: lastIncludedIndex }
    if (id.index <= this.#log.commitIndex) {
      mark('snapshots: an offer of what is committed here already')
      return this.#log.commitIndex
    }
    if (this.#isHeld(id)) {
      mark('snapshots: an offer of what the log holds')
      this.#log.commitTo(id.index)
      return id.index
    }
    this.#offer = { from, id, sizeBytes, checksum }
    return null
  }

  /** False: the log has gone on by itself meanwhile, and the snapshot tells it nothing. True: it starts behind it now. */
  install(snapshot: SnapshotAt): boolean {
    const { id } = snapshot
    this.#offer = null
    if (id.index <= this.#log.commitIndex || this.#isHeld(id)) {
      mark('snapshots: the log has overtaken the snapshot that was fetched')
      return false
    }
    this.#log.reset(id, snapshot.configuration)
    this.#newest = snapshot
    return true
  }

  /**
   * Paper, figure 13, rule 6: what a snapshot covers is committed, and a log that holds its last entry agrees up to there. What
   * follows in it may have been acknowledged, and must stay.
   */
  #isHeld(id: EntryId): boolean {
    return this.#log.matches(id)
  }

  takeOffers(): SnapshotOffer[] {
    const offers = this.#offer === null ? [] : [this.#offer]
    this.#offer = null
    return offers
  }
}
