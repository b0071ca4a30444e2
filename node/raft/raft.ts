/**
 * The consensus core (Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version; Ongaro's
 * thesis). Everything it knows arrives through step, tick, propose, readIndex and saved; everything it wants leaves in one Ready.
 * It must never read a clock, draw real randomness, do I/O or know who drives it.
 *
 * becomeFollower, becomePreCandidate, becomeCandidate and becomeLeader are the only doors between roles.
 */
import { invariant, unreachable } from './assert.ts'
import { Watch } from './checks.ts'
import { Durability } from './durability.ts'
import { Echoes } from './echoes.ts'
import { ElectionTimer } from './election-timer.ts'
import { Leadership, type ProposeResult } from './leadership.ts'
import { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import {
  type Append,
  type AppendResponse,
  appendRejected,
  type Heartbeat,
  type HeartbeatResponse,
  type Outgoing,
  type PreVote,
  type PreVoteResponse,
  type RaftMessage,
  type RequestVote,
  type TimeoutNow,
  type VoteResponse,
} from './messages.ts'
import type { RaftOptions } from './options.ts'
import type { RaftEvent, Ready, ResignReason, VoteRefusal } from './ready.ts'
import { Tracker } from './tracker.ts'
import type { EntryKind, Index, PeerId, Role, Term } from './types.ts'
import { preVoteRefusal, type Voter, voteRefusal } from './voting.ts'

export class Raft {
  readonly #options: RaftOptions
  readonly #log: RaftLog
  readonly #tracker: Tracker
  readonly #disk: Durability
  readonly #echoes: Echoes
  #messages: Outgoing[] = []
  #readsLost: number[] = []
  #events: RaftEvent[] = []

  #role: Role = 'follower'
  /** Set exactly while the role is leader. */
  #leadership: Leadership | null = null
  #leader: PeerId | null = null
  readonly #votes = new Map<PeerId, boolean>()

  readonly #timer: ElectionTimer
  readonly #watch = new Watch()

  constructor(options: RaftOptions) {
    this.#options = options
    this.#log = new RaftLog({
      base: { term: 0, index: 0 },
      entries: options.entries,
      commitIndex: Math.min(options.hardState?.commit ?? 0, options.entries.length),
    })
    this.#disk = new Durability({
      hardState: options.hardState,
      log: this.#log,
      electionTicks: options.electionTicks,
      saveBytesMax: options.saveBytesMax,
    })
    this.#echoes = new Echoes(options)
    this.#timer = new ElectionTimer(options)
    this.#tracker = new Tracker(options.self)
    this.#tracker.use(this.#log.configuration?.record.configuration ?? null)
    this.#resetElectionTimer()
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

  /** Ticks since the leader was last heard, 0 on a leader. */
  get ticksSinceLeader(): number {
    return this.#role === 'leader' ? 0 : this.#timer.elapsed
  }

  // --- inputs -------------------------------------------------------------------------------------------------

  /** One unit of time. Call it at most once a turn of the loop (HAZARDS: timers run before sockets after a stall). */
  tick(): void {
    this.#disk.tick()
    this.#echoes.tick()
    if (this.#leadership !== null) {
      const reason = this.saveStuck ? 'save-stuck' : this.#leadership.tick()
      if (reason !== null) this.#resign(reason)
      return
    }
    this.#timer.elapsed++
    if (this.#timer.expired) this.#electionTimedOut()
  }

  /** A message from another replica. The caller has authenticated `from`; the core never believes a claim of identity. */
  step(from: PeerId, message: RaftMessage): void {
    invariant(from !== this.self, 'a message to oneself')
    switch (message.type) {
      case 'preVote':
        return this.#onPreVote(from, message)
      case 'requestVote':
        return this.#onRequestVote(from, message)
      case 'preVoteResponse':
      case 'voteResponse':
      case 'appendResponse':
      case 'heartbeatResponse':
        if (message.term > this.term) return this.#becomeFollower(message.term, null)
        return this.#onResponse(from, message)
      case 'append':
      case 'heartbeat':
        if (message.term < this.term) {
          // A leader of an old term hears the present one and steps down, wherever it was cut off (HAZARDS).
          mark('raft: an old leader is told the present term')
          return this.#send(from, appendRejected(this.term, 0, { index: 0, term: 0 }))
        }
        this.#follow(from, message.term)
        return message.type === 'append'
          ? this.#onAppend(from, message)
          : this.#onHeartbeat(from, message)
      case 'timeoutNow':
        return this.#onTimeoutNow(from, message)
      case 'resigned':
        // The leader said itself that it is none: waiting for the timeout would only waste time.
        if (message.term === this.term && this.#leader === from) {
          mark('raft: the leader resigned')
          this.#leader = null
          this.#timer.hasten(this.#options.random.below(this.#options.heartbeatTicks))
        }
        return
      default:
        unreachable(message)
    }
  }

  /** Appends to the leader's log. The entry is committed when it comes back in a Ready with this index *and* term. */
  propose(kind: EntryKind, payload: Uint8Array): ProposeResult {
    if (this.#leadership === null) return { ok: false, reason: 'not-leader' }
    return this.#leadership.propose(kind, payload)
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

  /** The last link to `peer` closed: what was on its way is lost. */
  linkClosed(peer: PeerId): void {
    this.#leadership?.linkClosed(peer)
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

  /** Hands out what has to be done and forgets it. */
  ready(): Ready {
    this.#leadership?.sendDue()
    this.#watch.check(this)
    const committed = this.#log.takeCommitted(this.#options.applyCountMax)
    this.#leadership?.noteCommitted(committed)
    const ready: Ready = {
      save: this.#disk.take(),
      messages: this.#messages,
      committed,
      reads: this.#leadership?.takeReads() ?? [],
      readsLost: this.#readsLost,
      events: this.#events,
    }
    this.#messages = []
    this.#readsLost = []
    this.#events = []
    return ready
  }

  // --- doors between roles ------------------------------------------------------------------------------------

  #becomeFollower(term: Term, leader: PeerId | null): void {
    if (term > this.term) this.#disk.change(term, null)
    this.#role = 'follower'
    this.#leader = leader
    this.#echoes.reset()
    this.#votes.clear()
    if (this.#leadership !== null) {
      this.#readsLost.push(...this.#leadership.end())
      this.#leadership = null
    }
    this.#resetElectionTimer()
  }

  #becomePreCandidate(): void {
    invariant(this.#role !== 'leader', 'a leader does not campaign')
    this.#role = 'preCandidate'
    this.#leader = null
    this.#votes.clear()
    this.#resetElectionTimer()
    this.#events.push({ type: 'election.started', term: this.term + 1, preVote: true })
    const { lastIndex, lastTerm } = this.#log
    this.#askVoters({ type: 'preVote', term: this.term, lastIndex, lastTerm })
    this.#votes.set(this.self, true)
    this.#countVotes()
  }

  #becomeCandidate(transfer: boolean): void {
    invariant(this.#role !== 'leader', 'a leader does not campaign')
    this.#role = 'candidate'
    this.#leader = null
    this.#votes.clear()
    this.#disk.change(this.term + 1, this.self)
    this.#resetElectionTimer()
    this.#events.push({ type: 'election.started', term: this.term, preVote: false })
    const { lastIndex, lastTerm } = this.#log
    // RequestVote leaves in parallel with the save, but the own vote counts only after its own fsync (HAZARDS).
    this.#askVoters({ type: 'requestVote', term: this.term, lastIndex, lastTerm, transfer })
    this.#promise(this.self, { type: 'voteResponse', term: this.term, granted: true }, 0)
  }

  #becomeLeader(): void {
    invariant(this.#role === 'candidate', 'only a candidate becomes leader')
    invariant(this.#disk.durable, 'the own vote is not durable')
    this.#role = 'leader'
    this.#leader = this.self
    this.#votes.clear()
    this.#timer.elapsed = 0
    this.#leadership = new Leadership({
      options: this.#options,
      term: this.term,
      log: this.#log,
      tracker: this.#tracker,
      send: (to, message) => this.#send(to, message),
    })
  }

  #resign(reason: ResignReason): void {
    invariant(this.#role === 'leader', 'only a leader resigns')
    if (reason !== 'no-quorum') mark('raft: a leader resigns over its disk')
    this.#events.push({ type: 'resigned', term: this.term, reason })
    for (const peer of this.#tracker.peers) this.#send(peer, { type: 'resigned', term: this.term })
    this.#becomeFollower(this.term, null)
  }

  // --- elections ----------------------------------------------------------------------------------------------

  #electionTimedOut(): void {
    if (!this.#tracker.selfIsVoter || this.saveStuck || this.diskFull) {
      // It may not campaign, but it must not believe in a leader that it does not hear.
      mark('raft: a node may not campaign')
      this.#timer.hold()
      this.#leader = null
      return
    }
    this.#becomePreCandidate()
  }

  #askVoters(message: PreVote | RequestVote): void {
    for (const voter of this.#tracker.voters) if (voter !== this.self) this.#send(voter, message)
  }

  /** Thesis 4.2.3 and 9.6: a node that hears a leader helps nobody to replace it. */
  get #leaderAlive(): boolean {
    if (this.#role === 'leader') return true
    return this.#leader !== null && this.#timer.elapsed < this.#options.electionTicks
  }

  #onPreVote(from: PeerId, message: PreVote): void {
    const refusal = preVoteRefusal(this.#voter, message)
    if (refusal !== null) this.#noteRefusal(from, message.term + 1, refusal)
    // Nothing is promised, so the answer need not wait for a save.
    const answer = { type: 'preVoteResponse', term: this.term, askedTerm: message.term } as const
    this.#send(from, { ...answer, granted: refusal === null })
  }

  #onRequestVote(from: PeerId, message: RequestVote): void {
    if (message.term > this.term) {
      // Ignored, not refused: an answer with this node's term would tell the candidate nothing it may use.
      if (this.#leaderAlive && !message.transfer) {
        mark('raft: a vote is asked beside a live leader')
        return this.#noteRefusal(from, message.term, 'leader-alive')
      }
      this.#becomeFollower(message.term, null)
    }
    const refusal = voteRefusal(this.#voter, from, message)
    if (refusal === null) {
      if (this.vote === null) this.#disk.change(this.term, from)
      this.#timer.elapsed = 0
      this.#events.push({ type: 'vote.granted', term: this.term, candidate: from })
    } else {
      this.#noteRefusal(from, message.term, refusal)
    }
    const granted = refusal === null
    this.#promise(from, { type: 'voteResponse', term: this.term, granted }, 0)
  }

  get #voter(): Voter {
    return {
      term: this.term,
      vote: this.vote,
      leaderKnown: this.#leader !== null,
      leaderAlive: this.#leaderAlive,
      log: this.#log,
      canSave: !this.saveStuck && !this.diskFull,
    }
  }

  #noteRefusal(candidate: PeerId, term: Term, reason: VoteRefusal): void {
    this.#events.push({ type: 'vote.refused', term, candidate, reason })
  }

  #onResponse(
    from: PeerId,
    message: PreVoteResponse | VoteResponse | AppendResponse | HeartbeatResponse,
  ): void {
    switch (message.type) {
      case 'preVoteResponse':
        if (this.#role !== 'preCandidate' || message.askedTerm !== this.term) return
        this.#votes.set(from, message.granted)
        return this.#countVotes()
      case 'voteResponse':
        if (this.#role !== 'candidate' || message.term !== this.term) return
        this.#votes.set(from, message.granted)
        return this.#countVotes()
      case 'appendResponse':
        if (message.term === this.term) this.#leadership?.onAppendResponse(from, message)
        return
      case 'heartbeatResponse':
        if (message.term === this.term) this.#leadership?.onHeartbeatResponse(from, message)
        return
      default:
        unreachable(message)
    }
  }

  #countVotes(): void {
    const result = this.#tracker.votes(this.#votes)
    if (result === 'pending') return
    // Even a majority of others does not make a leader whose own term is not on disk: after a crash it could win the same
    // term again with another log (HAZARDS: nobody resumes leadership in a term).
    if (result === 'won' && this.#votes.get(this.self) !== true) {
      return mark('raft: elected by others before the own vote is saved')
    }
    if (result === 'lost') return this.#becomeFollower(this.term, null)
    if (this.#role === 'preCandidate') this.#becomeCandidate(false)
    else this.#becomeLeader()
  }

  #onTimeoutNow(from: PeerId, message: TimeoutNow): void {
    // A late one after an aborted transfer must not disturb: only from the leader that is followed now (HAZARDS).
    if (message.term !== this.term || this.#leader !== from) {
      return mark('raft: a late TimeoutNow is ignored')
    }
    const mayCampaign = this.#tracker.selfIsVoter && !this.saveStuck && !this.diskFull
    if (this.#role === 'follower' && mayCampaign) this.#becomeCandidate(true)
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
    this.#timer.elapsed = 0
  }

  #onAppend(from: PeerId, message: Append): void {
    const { term } = message
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
      else if (message.type === 'voteResponse') this.#onResponse(this.self, message)
    }
  }

  #resetElectionTimer(): void {
    const alone = this.#tracker.selfIsVoter && this.#tracker.voters.length === 1
    // While its vote is being saved, another election would only begin that anew.
    this.#timer.reset(alone && this.#disk.durable)
  }
}
