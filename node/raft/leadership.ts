/**
 * What a node does while it leads, for exactly one term: the object is made when an election is won and dropped when the
 * leadership ends, so that nothing of it (progress, read rounds, a transfer) can outlive its term.
 */

import { invariant } from './assert.ts'
import type { ConfChange } from './change.ts'
import { isJoint } from './change.ts'
import type { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import type { AppendResponse, HeartbeatResponse, RaftMessage } from './messages.ts'
import type { Progress, WindowLimits } from './progress.ts'
import { type ReadReady, ReadRounds } from './read-rounds.ts'
import type { RaftEvent, ResignReason } from './ready.ts'
import {
  busy,
  type ChangeOptions,
  type ChangeOutcome,
  type PlannedChange,
  Reconfiguration,
} from './reconfiguration.ts'
import type { SnapshotAt } from './snapshots.ts'
import type { Tracker } from './tracker.ts'
import type { Entry, EntryId, EntryKind, Index, PeerId, Term } from './types.ts'

export interface LeadershipOptions {
  readonly electionTicks: number
  readonly heartbeatTicks: number
  readonly window: WindowLimits
  /** Payload bytes of one Append. */
  readonly appendBytesMax: number
  /** Payload bytes appended here but not yet committed; beyond it proposals are refused. */
  readonly uncommittedBytesMax: number
}

export type ProposeResult =
  | { readonly ok: true; readonly id: EntryId }
  | { readonly ok: false; readonly reason: 'not-leader' | 'overloaded' | 'transferring' }

/** Denials in a row after which a follower is believed to have lost entries. */
const LOST_COUNT = 3
const NO_PAYLOAD = new Uint8Array(0)

export class Leadership {
  readonly #options: LeadershipOptions
  readonly #term: Term
  readonly #log: RaftLog
  readonly #tracker: Tracker
  readonly #send: (to: PeerId, message: RaftMessage) => void
  readonly #note: (event: RaftEvent) => void
  readonly #snapshot: () => SnapshotAt | null
  readonly #reads = new ReadRounds()
  readonly #changes: Reconfiguration
  /** The first index of this term: commits by counting and reads wait for it (paper 5.4.2, thesis 6.4). */
  readonly #noopIndex: Index
  #readsReady: ReadReady[] = []
  #heartbeatElapsed = 0
  /** Ticks since this leader last appended anything. */
  #quietTicks = 0
  /** Ticks since the quorum was last checked. */
  #checkElapsed = 0
  #uncommittedBytes = 0
  #transfer: { readonly target: PeerId; elapsed: number; sent: boolean } | null = null

  constructor(parts: {
    options: LeadershipOptions
    term: Term
    log: RaftLog
    tracker: Tracker
    send: (to: PeerId, message: RaftMessage) => void
    note: (event: RaftEvent) => void
    /** The newest one on this node's disk. */
    snapshot: () => SnapshotAt | null
  }) {
    this.#options = parts.options
    this.#term = parts.term
    this.#log = parts.log
    this.#tracker = parts.tracker
    this.#send = parts.send
    this.#note = parts.note
    this.#changes = new Reconfiguration({
      log: this.#log,
      tracker: this.#tracker,
      electionTicks: this.#options.electionTicks,
      append: (payload) => this.#append('configuration', payload),
    })
    this.#snapshot = parts.snapshot
    this.#tracker.track({
      lastIndex: this.#log.lastIndex,
      window: this.#options.window,
      keep: false,
    })
    // Entries of earlier terms commit only through one of this term (paper 5.4.2, figure 8).
    this.#noopIndex = this.#append('noop', NO_PAYLOAD).index
    this.#broadcastHeartbeat()
  }

  /** An entry of this term is committed, so that reads and membership changes may start. */
  get termCommitted(): boolean {
    return this.#log.commitIndex >= this.#noopIndex
  }

  /**
   * Its own removal, or its change to a learner, is committed: it has led without counting itself up to here, and leads no
   * further (paper, section 6).
   */
  get isOver(): boolean {
    const present = this.#log.configuration
    // A learner that had to lead does so until its log is safe with an entry of its term.
    if (present === null || this.#tracker.selfIsVoter || !this.termCommitted) return false
    return present.index <= this.#log.commitIndex && !isJoint(present.record.configuration)
  }

  /** Returns why this leadership must end, or null. */
  tick(): ResignReason | null {
    if (this.#transfer !== null && ++this.#transfer.elapsed >= this.#options.electionTicks) {
      mark('leadership: a transfer ends without a successor')
      this.#transfer = null
    }
    this.#changes.tick()
    for (const progress of this.#tracker.progress.values()) progress.tick()
    if (++this.#checkElapsed >= this.#options.electionTicks) {
      this.#checkElapsed = 0
      if (!this.#tracker.quorumActive()) return 'no-quorum'
      for (const progress of this.#tracker.progress.values()) progress.active = false
    }
    this.#quietTicks++
    if (++this.#heartbeatElapsed >= this.#heartbeatTicks) this.#broadcastHeartbeat()
    return null
  }

  /**
   * With nothing written for an election timeout every second heartbeat is left out, as long as four still fit into the shortest
   * election timeout: two idle machines sleep longer, and no follower notices. Reads bring their own heartbeats.
   */
  get #heartbeatTicks(): number {
    const { electionTicks, heartbeatTicks } = this.#options
    const isQuiet = this.#quietTicks >= electionTicks && electionTicks >= 8 * heartbeatTicks
    return isQuiet ? 2 * heartbeatTicks : heartbeatTicks
  }

  /** Configurations have a door of their own, `changeConfiguration`, which knows when one may be appended. */
  propose(kind: Exclude<EntryKind, 'configuration'>, payload: Uint8Array): ProposeResult {
    if (this.#transfer !== null) {
      mark('leadership: a proposal during a transfer')
      return { ok: false, reason: 'transferring' }
    }
    if (this.#uncommittedBytes > this.#options.uncommittedBytesMax) {
      mark('leadership: too much is not committed')
      return { ok: false, reason: 'overloaded' }
    }
    return { ok: true, id: this.#append(kind, payload) }
  }

  /** What the change would lead to, without making it. */
  planChange(changes: readonly ConfChange[], options: ChangeOptions): PlannedChange {
    if (this.#transfer !== null) return busy('leadership is being handed over')
    // Rule 5: what an earlier leader left open is not known to be settled before that.
    if (!this.termCommitted) return busy('this leader has not committed an entry of its term yet')
    return this.#changes.plan(changes, options)
  }

  /** The answer, under this ticket, is among the outcomes within an election timeout. */
  changeConfiguration(
    ticket: number,
    changes: readonly ConfChange[],
    options: ChangeOptions,
  ): ChangeOutcome | null {
    const planned = this.planChange(changes, options)
    if (!planned.ok) return { ticket, result: planned }
    this.#changes.start(ticket, planned.record)
    return null
  }

  takeOutcomes(): ChangeOutcome[] {
    return this.#changes.takeOutcomes()
  }

  get asksForChange(): boolean {
    return this.#changes.asking
  }

  readIndex(requestId: number): void {
    this.#reads.add(requestId)
  }

  transferTo(target: PeerId): boolean {
    if (!this.#tracker.voters.includes(target) || !this.#tracker.progress.has(target)) return false
    if (this.#changes.asking) {
      mark('leadership: a transfer during a change')
      return false
    }
    this.#transfer = { target, elapsed: 0, sent: false }
    this.#tryTransfer()
    return true
  }

  onAppendResponse(from: PeerId, message: AppendResponse): void {
    const progress = this.#heardFrom(from)
    if (progress === null) return
    if (!message.accepted) {
      const retryIndex = this.#log.lastIndexNotAfter(message.hintIndex, message.hintTerm)
      progress.rejected(message.rejectedIndex, retryIndex)
      if (progress.lostCount === LOST_COUNT) this.#noteLost(from)
      return
    }
    if (message.matchIndex > this.#log.lastIndex) return
    this.#changes.acknowledged(from)
    if (!progress.accepted(message.matchIndex)) return
    this.advanceCommit()
    if (this.#transfer?.target === from) this.#tryTransfer()
  }

  onHeartbeatResponse(from: PeerId, message: HeartbeatResponse): void {
    const progress = this.#heardFrom(from)
    if (progress === null) return
    progress.echoed(this.#log.lastIndex)
    if (message.readRound > progress.readRound && message.readRound <= this.#reads.round) {
      progress.readRound = message.readRound
      this.#confirmReads()
    }
  }

  /** HAZARDS, Membership: an older copy of a disk was put back. It may have voted, and what it acknowledged is gone. */
  #noteLost(peer: PeerId): void {
    mark('leadership: a follower has lost what it acknowledged')
    this.#note({ type: 'member.regressed', term: this.#term, member: peer })
  }

  /** The link to a follower broke: what was in flight is lost, so that the next Append must ask where it stands. */
  linkClosed(peer: PeerId): void {
    const progress = this.#tracker.progress.get(peer)
    progress?.becomeProbe(progress.state === 'probe' ? progress.nextIndex : progress.matchIndex + 1)
  }

  /** Paper 5.4.2: only an entry of the current term commits by counting; everything before it follows. */
  advanceCommit(): void {
    const agreed = this.#tracker.agreed(this.#log.stableIndex)
    if (agreed <= this.#log.commitIndex || this.#log.termAt(agreed) !== this.#term) return
    this.#log.commitTo(agreed)
  }

  /** Once a turn: starts a read round if one is due and sends every follower what it may have. */
  sendDue(): void {
    this.#startReadRound()
    this.#changes.settle(this.termCommitted && this.#transfer === null)
    for (const [peer, progress] of this.#tracker.progress) this.#replicate(peer, progress)
  }

  noteCommitted(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.term === this.#term) this.#uncommittedBytes -= entry.payload.length
    }
  }

  takeReads(): ReadReady[] {
    const ready = this.#readsReady
    this.#readsReady = []
    return ready
  }

  /** Pending reads die with the leadership, whatever comes next (HAZARDS, Reads). Returns those left without an answer. */
  end(): { readonly reads: number[]; readonly outcomes: ChangeOutcome[] } {
    this.#tracker.progress.clear()
    const outcomes = this.#changes.end()
    const reads = [...this.takeReads().map((read) => read.requestId), ...this.#reads.abandon()]
    return { reads, outcomes }
  }

  #heardFrom(peer: PeerId): Progress | null {
    const progress = this.#tracker.progress.get(peer)
    if (progress === undefined) return null
    progress.active = true
    progress.silentTicks = 0
    return progress
  }

  #append(kind: EntryKind, payload: Uint8Array): EntryId {
    const term = this.#term
    const index = this.#log.lastIndex + 1
    this.#log.append({ term, index, kind, payload })
    this.#uncommittedBytes += payload.length
    this.#quietTicks = 0
    if (kind === 'configuration') {
      // In force from the moment it is appended (paper, section 6).
      const before = new Map(this.#tracker.progress)
      this.#tracker.use(this.#log.configuration?.record.configuration ?? null)
      const { lastIndex } = this.#log
      this.#tracker.track({ lastIndex, window: this.#options.window, keep: true })
      this.#changes.entered(before, index)
      // Those who have echoed already may be a quorum now, and will not be heard to do it again.
      this.#confirmReads()
    }
    return { term, index }
  }

  #broadcastHeartbeat(): void {
    this.#heartbeatElapsed = 0
    for (const [peer, progress] of this.#tracker.progress) {
      this.#send(peer, {
        type: 'heartbeat',
        term: this.#term,
        commit: Math.min(progress.matchIndex, this.#log.commitIndex),
        readRound: this.#reads.round,
      })
    }
  }

  #replicate(peer: PeerId, progress: Progress): void {
    if (progress.state !== 'snapshot' && progress.nextIndex < this.#log.firstIndex) {
      mark('leadership: a follower is behind the log')
      progress.becomeSnapshot()
    }
    if (progress.state === 'snapshot') {
      if (!progress.paused) this.#offerSnapshot(peer, progress)
      return
    }
    if (progress.state === 'probe') {
      if (!progress.paused) this.#sendAppend(peer, progress)
      return
    }
    while (!progress.paused && progress.nextIndex <= this.#log.lastIndex) {
      this.#sendAppend(peer, progress)
    }
    // A follower that has everything still wants to hear of the commit: its reads and its clients wait for it.
    if (progress.nextIndex <= this.#log.lastIndex) mark('leadership: a window is full')
    const known = Math.min(this.#log.commitIndex, progress.nextIndex - 1)
    if (progress.askAgain) mark('leadership: a follower is asked where it stands')
    if (progress.commitSent < known || progress.askAgain) this.#sendAppend(peer, progress)
  }

  #sendAppend(peer: PeerId, progress: Progress): void {
    const prevIndex = progress.nextIndex - 1
    const prevTerm = this.#log.termAt(prevIndex) as Term
    const entries =
      progress.paused || prevIndex >= this.#log.lastIndex
        ? []
        : this.#log.slice(prevIndex + 1, this.#log.lastIndex, this.#options.appendBytesMax)
    const commit = this.#log.commitIndex
    this.#send(peer, { type: 'append', term: this.#term, prevIndex, prevTerm, entries, commit })
    const lastIndex = prevIndex + entries.length
    let bytes = 0
    for (const entry of entries) bytes += entry.payload.length
    progress.sent({ lastIndex, count: entries.length, bytes, commit: Math.min(commit, lastIndex) })
  }

  /** Over, and somebody else is a voter with the whole log: it is told to campaign at once. */
  handOver(): boolean {
    const best = this.#tracker.furthestVoter()
    if (best === null) return false
    if (this.#tracker.progress.get(best)?.matchIndex !== this.#log.lastIndex) return false
    this.#send(best, { type: 'timeoutNow', term: this.#term })
    return true
  }

  /** Repeated with each echo until the follower answers: an offer may be lost, and a newer snapshot may take its place. */
  #offerSnapshot(peer: PeerId, progress: Progress): void {
    const snapshot = this.#snapshot()
    invariant(snapshot !== null, 'the log was compacted without a snapshot')
    const { id, sizeBytes, checksum } = snapshot
    this.#send(peer, {
      type: 'installSnapshot',
      term: this.#term,
      lastIncludedIndex: id.index,
      lastIncludedTerm: id.term,
      sizeBytes,
      checksum,
    })
    progress.offered()
  }

  #tryTransfer(): void {
    const transfer = this.#transfer
    if (transfer === null || transfer.sent) return
    const progress = this.#tracker.progress.get(transfer.target)
    if (progress?.matchIndex !== this.#log.lastIndex) return
    transfer.sent = true
    this.#send(transfer.target, { type: 'timeoutNow', term: this.#term })
  }

  #startReadRound(): void {
    if (this.#reads.underWay || this.#reads.waitingCount === 0 || !this.termCommitted) return
    this.#reads.start(this.#log.commitIndex)
    this.#broadcastHeartbeat()
    this.#confirmReads()
  }

  #confirmReads(): void {
    if (!this.#reads.underWay || !this.#tracker.quorumEchoed(this.#reads.round)) return
    this.#readsReady.push(...this.#reads.confirm())
    this.#startReadRound()
  }
}
