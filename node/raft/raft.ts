/**
 * The consensus core (Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version; Ongaro's
 * thesis). Everything it knows arrives through step, tick, propose, readIndex and saved; everything it wants leaves in one Ready.
 * It must never read a clock, draw real randomness, do I/O or know who drives it.
 *
 * becomeFollower, becomePreCandidate, becomeCandidate and becomeLeader are the only doors between roles.
 */
import { invariant, unreachable } from './assert.ts'
import { Campaign, type Doors } from './campaign.ts'
import type { ConfChange } from './change.ts'
import { Watch } from './checks.ts'
import { Durability } from './durability.ts'
import { Echoes } from './echoes.ts'
import { Leadership, type ProposeResult } from './leadership.ts'
import { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import {
  type Append,
  appendRejected,
  type Heartbeat,
  type InstallSnapshot,
  type Outgoing,
  type RaftMessage,
} from './messages.ts'
import type { RaftOptions } from './options.ts'
import type { RaftEvent, Ready, ResignReason } from './ready.ts'
import type { ChangeOptions, ChangeOutcome, PlannedChange } from './reconfiguration.ts'
import { type SnapshotAt, Snapshots } from './snapshots.ts'
import { Tracker } from './tracker.ts'
import type { EntryKind, Index, PeerId, Role, Term } from './types.ts'
import { leaps } from './voting.ts'

const NOT_LEADER = {
  ok: false,
  code: 'not-leader',
  message: 'this node does not lead',
} as const

export class Raft {
  readonly #options: RaftOptions
  readonly #log: RaftLog
  readonly #tracker: Tracker
  readonly #disk: Durability
  readonly #snapshots: Snapshots
  readonly #echoes: Echoes
  #messages: Outgoing[] = []
  #readsLost: number[] = []
  #outcomes: ChangeOutcome[] = []
  #events: RaftEvent[] = []

  #role: Role = 'follower'
  /** Set exactly while the role is leader. */
  #leadership: Leadership | null = null
  #leader: PeerId | null = null
  #leaderCommit: Index = 0
  /** The leader of this term has said that it leads no more, and so nobody ever does in it again. */
  #resignedTerm: Term = 0

  readonly #campaign: Campaign
  readonly #watch = new Watch()

  constructor(options: RaftOptions) {
    this.#options = options
    const { base = { term: 0, index: 0 }, entries, snapshot = null } = options
    const commitIndex = Math.min(options.hardState?.commit ?? 0, base.index + entries.length)
    this.#log = new RaftLog({ base, entries, commitIndex, snapshot })
    this.#snapshots = new Snapshots(this.#log, snapshot)
    this.#disk = new Durability({
      hardState: options.hardState,
      log: this.#log,
      electionTicks: options.electionTicks,
      saveBytesMax: options.saveBytesMax,
    })
    this.#echoes = new Echoes(options)
    this.#tracker = new Tracker(options.self, options.electionTicks)
    this.#tracker.use(this.#log.configuration?.record.configuration ?? null)
    this.#campaign = new Campaign(this, this.#doors, options)
    this.#campaign.reset()
  }

  get self(): PeerId {
    return this.#options.self
  }

  get role(): Role {
    return this.#role
  }

  get term(): Term {
    return this.#disk.term
  }

  get vote(): PeerId | null {
    return this.#disk.vote
  }

  get leader(): PeerId | null {
    return this.#leader
  }

  get log(): RaftLog {
    return this.#log
  }

  get tracker(): Tracker {
    return this.#tracker
  }

  /** The disk had no room for the last save, and nothing was saved since. */
  get diskFull(): boolean {
    return this.#disk.full
  }

  /** A save takes longer than an election timeout: this node promises and leads nothing until it ends. */
  get saveStuck(): boolean {
    return this.#disk.stuck
  }

  /** As leader: an entry of this term is committed, so that reads and membership changes may start. */
  get termCommitted(): boolean {
    return this.#leadership?.termCommitted ?? false
  }

  /** As leader: a change of the members waits for answers, and is in no log yet. */
  get asksForChange(): boolean {
    return this.#leadership?.asksForChange ?? false
  }

  /** As follower: the highest commit index that the present leader has told of, whether or not this log reaches so far. */
  get leaderCommit(): Index {
    return this.#leaderCommit
  }

  /** Ticks since the leader was last heard, 0 on a leader. */
  get ticksSinceLeader(): number {
    return this.#role === 'leader' ? 0 : this.#campaign.elapsed
  }

  // --- inputs -------------------------------------------------------------------------------------------------

  /** One unit of time. Call it at most once a turn of the loop (HAZARDS: timers run before sockets after a stall). */
  tick(): void {
    this.#disk.tick()
    this.#echoes.tick()
    this.#campaign.tick()
    if (this.#leadership === null) return
    const reason = this.saveStuck ? 'save-stuck' : this.#leadership.tick()
    if (reason !== null) this.#resign(reason)
  }

  /** A message from another replica. The caller has authenticated `from`; the core never believes a claim of identity. */
  step(from: PeerId, message: RaftMessage): void {
    invariant(from !== this.self, 'a message to oneself')
    if (leaps(this.term, message.term)) return mark('raft: a term that no election reaches')
    switch (message.type) {
      case 'preVote':
        return this.#campaign.onPreVote(from, message)
      case 'requestVote':
        return this.#campaign.onRequestVote(from, message)
      case 'preVoteResponse':
        if (this.#learnsTerm(message.term)) return
        return this.#campaign.onPreVoteResponse(from, message)
      case 'voteResponse':
        if (this.#learnsTerm(message.term)) return
        return this.#campaign.onVoteResponse(from, message)
      case 'appendResponse':
        if (this.#learnsTerm(message.term) || message.term < this.term) return
        return this.#leadership?.onAppendResponse(from, message)
      case 'heartbeatResponse':
        if (this.#learnsTerm(message.term) || message.term < this.term) return
        return this.#leadership?.onHeartbeatResponse(from, message)
      case 'append':
      case 'heartbeat':
      case 'installSnapshot':
        if (message.term < this.term) {
          // A leader of an old term hears the present one and steps down, wherever it was cut off (HAZARDS).
          mark('raft: an old leader is told the present term')
          return this.#send(from, appendRejected(this.term, 0, { index: 0, term: 0 }))
        }
        // Its farewell does not wait behind Appends. Who follows it again would wait for an election timeout in vain.
        if (message.term === this.#resignedTerm)
          return mark('raft: a leader is heard after it resigned')
        this.#follow(from, message.term)
        return this.#onLeader(from, message)
      case 'timeoutNow':
        return this.#campaign.onTimeoutNow(from, message)
      case 'resigned':
        if (message.term !== this.term || (this.#leader ?? from) !== from) return
        this.#resignedTerm = message.term
        return this.#campaign.onResigned(from)
      default:
        unreachable(message)
    }
  }

  /** Appends to the leader's log. The entry is committed when it comes back in a Ready with this index *and* term. */
  propose(kind: Exclude<EntryKind, 'configuration'>, payload: Uint8Array): ProposeResult {
    if (this.#leadership === null) return { ok: false, reason: 'not-leader' }
    return this.#leadership.propose(kind, payload)
  }

  /** What the change would lead to; changes nothing. */
  planChange(changes: readonly ConfChange[], options: ChangeOptions): PlannedChange {
    if (this.#leadership === null) return NOT_LEADER
    return this.#leadership.planChange(changes, options)
  }

  /**
   * Changes the members (thesis 4.3). What became of it is in Ready.changes under `ticket`, within an election timeout: the id of
   * the entry, or why there is none. Leaving a joint configuration follows by itself.
   */
  changeConfiguration(
    ticket: number,
    changes: readonly ConfChange[],
    options: ChangeOptions,
  ): void {
    const refused = this.#leadership?.changeConfiguration(ticket, changes, options)
    if (refused === undefined) this.#outcomes.push({ ticket, result: NOT_LEADER })
    else if (refused !== null) this.#outcomes.push(refused)
  }

  /**
   * Asks for an index at which a read is linearizable. False: this node does not lead. The answer is in Ready.reads, or
   * in Ready.readsLost when leadership ended first.
   */
  readIndex(requestId: number): boolean {
    if (this.#leadership === null) return false
    this.#leadership.readIndex(requestId)
    return true
  }

  /** Begins a transfer (thesis 3.10). Proposals are refused until it ends or an election timeout has passed. */
  transferLeadership(target: PeerId): boolean {
    return this.#leadership?.transferTo(target) ?? false
  }

  /**
   * The last link to `peer` closed: what was on its way is lost. Unless this node closed it itself that is evidence that the
   * peer is gone.
   */
  linkClosed(peer: PeerId, byUs = false): void {
    this.#leadership?.linkClosed(peer)
    if (!byUs) this.#campaign.linkLost(peer)
  }

  /** The wake-up that a Ready asked for. Late ones and needless ones do no harm. */
  wake(): void {
    this.#campaign.wake()
  }

  /** The slowest round trip to another voter, ms; 0: not known. Only for how long it is worth to wait for an answer. */
  roundTrip(rttMs: number): void {
    this.#campaign.roundTrip(rttMs)
  }

  /** The save of the last Ready is durable. */
  saved(): void {
    this.#disk.saved()
    this.#releaseHeld()
    this.#leadership?.advanceCommit()
  }

  /** The save of the last Ready found no room; nothing of it counts. It is offered again after a while. */
  saveFailed(): void {
    this.#disk.failed()
    if (this.#role === 'leader') this.#resign('disk-full')
  }

  /** A snapshot of what was applied here is complete and durable: the log may be compacted up to it. */
  snapshotSaved(snapshot: SnapshotAt): void {
    this.#snapshots.saved(snapshot)
  }

  /** Forgets the log up to `index`, which lies at or before the newest snapshot. */
  compactTo(index: Index): void {
    this.#log.compactTo(index)
  }

  /**
   * A snapshot of a leader was fetched and its state loaded; the caller puts that state in the place of its own. False: the log has
   * gone on without it, and it is of no use any more. The next save carries the new base, and the answer waits for it.
   */
  installed(snapshot: SnapshotAt): boolean {
    if (!this.#snapshots.install(snapshot)) return false
    invariant(this.#role !== 'leader', 'a leader has every entry that is committed')
    this.#tracker.use(snapshot.configuration.record.configuration)
    if (this.#leader !== null) this.#accept(this.#leader, this.term, snapshot.id.index)
    return true
  }

  /** Hands out what has to be done and forgets it. */
  ready(): Ready {
    this.#leadership?.sendDue()
    if (this.#leadership?.isOver) this.#leaveOffice(this.#leadership)
    this.#watch.check(this)
    const committed = this.#log.takeCommitted(this.#options.applyCountMax)
    this.#leadership?.noteCommitted(committed)
    if (this.#leadership !== null) this.#outcomes.push(...this.#leadership.takeOutcomes())
    const ready: Ready = {
      changes: this.#outcomes,
      save: this.#disk.take(),
      messages: this.#messages,
      committed,
      reads: this.#leadership?.takeReads() ?? [],
      readsLost: this.#readsLost,
      offers: this.#snapshots.takeOffers(),
      events: this.#events,
      wakeInMs: this.#campaign.takeWake(),
    }
    this.#messages = []
    this.#readsLost = []
    this.#events = []
    this.#outcomes = []
    return ready
  }

  // --- doors between roles ------------------------------------------------------------------------------------

  /** Whether an answer is of a later term, which ends whatever this node was in its own. */
  #learnsTerm(term: Term): boolean {
    if (term <= this.term) return false
    this.#becomeFollower(term, null)
    return true
  }

  #becomeFollower(term: Term, leader: PeerId | null): void {
    if (term > this.term) this.#disk.change(term, null)
    this.#role = 'follower'
    this.#leader = leader
    this.#leaderCommit = 0
    this.#echoes.reset()
    if (this.#leadership !== null) {
      const { reads, outcomes } = this.#leadership.end()
      this.#readsLost.push(...reads)
      this.#outcomes.push(...outcomes)
      this.#leadership = null
    }
    this.#campaign.reset()
  }

  #becomePreCandidate(): void {
    invariant(this.#role !== 'leader', 'a leader does not campaign')
    this.#role = 'preCandidate'
    this.#leader = null
    this.#campaign.reset()
    this.#campaign.askPreVotes()
  }

  #becomeCandidate(transfer: boolean): void {
    invariant(this.#role !== 'leader', 'a leader does not campaign')
    this.#role = 'candidate'
    this.#leader = null
    this.#disk.change(this.term + 1, this.self)
    this.#campaign.reset()
    this.#campaign.askVotes(transfer)
  }

  #becomeLeader(): void {
    invariant(this.#role === 'candidate', 'only a candidate becomes leader')
    invariant(this.#disk.durable, 'the own vote is not durable')
    this.#role = 'leader'
    this.#leader = this.self
    this.#campaign.won()
    this.#leadership = new Leadership({
      options: this.#options,
      term: this.term,
      log: this.#log,
      tracker: this.#tracker,
      send: (to, message) => this.#send(to, message),
      note: (event) => this.#events.push(event),
      snapshot: () => this.#snapshots.newest,
    })
  }

  /** A removed leader sees its removal committed, tells everybody, and steps down (paper, section 6; rule 6). */
  #leaveOffice(leadership: Leadership): void {
    mark('raft: a removed leader steps down')
    if (!leadership.handOver()) return this.#resign('removed')
    this.#events.push({ type: 'resigned', term: this.term, reason: 'removed' })
    this.#becomeFollower(this.term, null)
  }

  #resign(reason: ResignReason): void {
    invariant(this.#role === 'leader', 'only a leader resigns')
    if (reason === 'save-stuck' || reason === 'disk-full')
      mark('raft: a leader resigns over its disk')
    this.#events.push({ type: 'resigned', term: this.term, reason })
    for (const peer of this.#tracker.peers) this.#send(peer, { type: 'resigned', term: this.term })
    this.#becomeFollower(this.term, null)
  }

  // --- following ----------------------------------------------------------------------------------------------

  #follow(leader: PeerId, term: Term): void {
    if (term > this.term || this.#role !== 'follower' || this.#leader !== leader) {
      invariant(this.#role !== 'leader' || term > this.term, 'two leaders in one term')
      invariant(
        term > this.term || this.#leader === null || this.#leader === leader,
        'two leaders in one term',
      )
      this.#becomeFollower(term, leader)
    }
    this.#campaign.heard(leader)
  }

  #onLeader(from: PeerId, message: Append | Heartbeat | InstallSnapshot): void {
    switch (message.type) {
      case 'append':
        return this.#onAppend(from, message)
      case 'heartbeat':
        return this.#onHeartbeat(from, message)
      case 'installSnapshot': {
        const matchIndex = this.#snapshots.consider(from, message)
        if (matchIndex !== null) this.#accept(from, message.term, matchIndex)
      }
    }
  }

  #onAppend(from: PeerId, message: Append): void {
    const { term } = message
    this.#leaderCommit = Math.max(this.#leaderCommit, message.commit)
    if (message.prevIndex < this.#log.commitIndex) {
      mark('raft: an Append begins below the commit index')
      // What is committed here is in every leader's log: a late or repeated message, nothing to compare.
      const known = message.entries.filter((entry) => entry.index > this.#log.commitIndex)
      const prevIndex = this.#log.commitIndex
      if (known.length === 0 || known[0]?.index !== prevIndex + 1) {
        return this.#accept(from, term, prevIndex)
      }
      return this.#merge(from, { ...message, entries: known, prevIndex })
    }
    if (!this.#log.matches({ index: message.prevIndex, term: message.prevTerm })) {
      const index = this.#log.lastIndexNotAfter(message.prevIndex, message.prevTerm)
      const hint = { index, term: this.#log.termAt(index) ?? 0 }
      return this.#send(from, appendRejected(term, message.prevIndex, hint))
    }
    this.#merge(from, message)
  }

  #merge(from: PeerId, message: Append): void {
    const before = this.#log.configuration
    const matchIndex = this.#log.merge(message.entries, message.prevIndex)
    const after = this.#log.configuration
    if (after !== before) this.#tracker.use(after?.record.configuration ?? null)
    // Never past what this message proved equal: the log may hold a stale suffix behind it (paper, figure 2).
    this.#log.commitTo(Math.min(message.commit, matchIndex))
    this.#accept(from, message.term, matchIndex)
  }

  #accept(from: PeerId, term: Term, matchIndex: Index): void {
    this.#promise(from, { type: 'appendResponse', term, accepted: true, matchIndex }, matchIndex)
  }

  #onHeartbeat(from: PeerId, message: Heartbeat): void {
    // The leader sends at most what it knows to match here, so that this is inside the log.
    this.#log.commitTo(Math.min(message.commit, this.#log.lastIndex))
    const { readRound } = message
    if (!this.#echoes.due(readRound)) return
    // It waits for no save: it says that this node has voted in no later term, which is so even if it forgets this one. The
    // majority that elected this leader has its term on disk, so that no older leader can gather echoes any more.
    this.#send(from, { type: 'heartbeatResponse', term: this.term, readRound })
  }

  // --- effects ------------------------------------------------------------------------------------------------

  #send(to: PeerId, message: RaftMessage): void {
    this.#messages.push({ to, message })
  }

  /** A message that promises something: it leaves when the present {term, vote} and `index` are durable, not before. */
  #promise(to: PeerId, message: RaftMessage, index: Index): void {
    this.#disk.hold({ to, message }, index)
    this.#releaseHeld()
  }

  #releaseHeld(): void {
    for (const { to, message } of this.#disk.release()) {
      if (to !== this.self) this.#send(to, message)
      else if (message.type === 'voteResponse') this.#campaign.onVoteResponse(this.self, message)
    }
  }

  /** What only the campaign may do from outside; whatever else it needs of this core everybody may see. */
  get #doors(): Doors {
    return {
      isDurable: () => this.#disk.durable,
      forgetLeader: () => {
        this.#leader = null
      },
      becomeFollower: (term) => this.#becomeFollower(term, null),
      becomePreCandidate: () => this.#becomePreCandidate(),
      becomeCandidate: (transfer) => this.#becomeCandidate(transfer),
      becomeLeader: () => this.#becomeLeader(),
      voteFor: (candidate) => this.#disk.change(this.term, candidate),
      send: (to, message) => this.#send(to, message),
      promise: (to, message) => this.#promise(to, message, 0),
      note: (event) => this.#events.push(event),
    }
  }
}
