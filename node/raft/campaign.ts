/**
 * How leadership is sought and granted: the election timer, pre-votes and votes asked and given (paper 5.2 and 5.4.1; thesis 3.10,
 * 4.2.3 and 9.6). The doors between roles stand in raft.ts; this decides when to knock, and must never change a role by itself.
 */
import { ElectionTimer } from './election-timer.ts'
import type { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import type {
  PreVote,
  PreVoteResponse,
  RaftMessage,
  RequestVote,
  TimeoutNow,
  VoteResponse,
} from './messages.ts'
import type { Random } from './random.ts'
import type { RaftEvent, VoteRefusal } from './ready.ts'
import type { Tracker } from './tracker.ts'
import type { PeerId, Role, Term } from './types.ts'
import { isVoter, preVoteRefusal, type Voter, voteRefusal } from './voting.ts'

/** The core as a campaign sees it. */
export interface Campaigner {
  readonly self: PeerId
  readonly role: Role
  readonly term: Term
  readonly vote: PeerId | null
  readonly leader: PeerId | null
  readonly log: RaftLog
  readonly tracker: Tracker
  readonly saveStuck: boolean
  readonly diskFull: boolean
  /** The present {term, vote} is on disk. */
  readonly durable: boolean
  forgetLeader(): void
  becomeFollower(term: Term): void
  becomePreCandidate(): void
  becomeCandidate(transfer: boolean): void
  becomeLeader(): void
  voteFor(candidate: PeerId): void
  send(to: PeerId, message: RaftMessage): void
  /** As `send`, once the present {term, vote} is durable. */
  promise(to: PeerId, message: RaftMessage): void
  note(event: RaftEvent): void
}

export interface CampaignOptions {
  readonly electionTicks: number
  readonly heartbeatTicks: number
  readonly random: Random
}

export class Campaign {
  readonly #core: Campaigner
  readonly #options: CampaignOptions
  readonly #votes = new Map<PeerId, boolean>()
  readonly #timer: ElectionTimer

  constructor(core: Campaigner, options: CampaignOptions) {
    this.#core = core
    this.#options = options
    this.#timer = new ElectionTimer(options)
  }

  /** Ticks since the leader was heard or the election began. */
  get elapsed(): number {
    return this.#timer.elapsed
  }

  /** A role begins: no vote of before counts, and the wait begins anew. */
  reset(): void {
    const { tracker, durable } = this.#core
    this.#votes.clear()
    const alone = tracker.selfIsVoter && tracker.voters.length === 1
    // While its vote is being saved, another election would only begin that anew.
    this.#timer.reset(alone && durable)
  }

  /** The leader was heard. */
  heard(): void {
    this.#timer.elapsed = 0
  }

  won(): void {
    this.#votes.clear()
    this.#timer.elapsed = 0
  }

  /** One tick of a node that does not lead. */
  tick(): void {
    this.#timer.elapsed++
    if (this.#timer.expired) this.#timedOut()
  }

  /** The leader of `term` said itself that it is none: waiting for the timeout would only waste time. */
  onResigned(from: PeerId, term: Term): void {
    if (term !== this.#core.term || this.#core.leader !== from) return
    mark('raft: the leader resigned')
    this.#core.forgetLeader()
    this.#timer.hasten(this.#options.random.below(this.#options.heartbeatTicks))
  }

  #timedOut(): void {
    if (!this.#mayCampaign) {
      // It may not campaign, but it must not believe in a leader that it does not hear.
      mark('raft: a node may not campaign')
      this.#timer.hold()
      return this.#core.forgetLeader()
    }
    this.#core.becomePreCandidate()
  }

  get #mayCampaign(): boolean {
    const { tracker, saveStuck, diskFull } = this.#core
    return (tracker.selfIsVoter || this.#mayBeNeeded) && !saveStuck && !diskFull
  }

  /**
   * Thesis 4.2.2: the newest entry leaves this node out, and is not known to be committed. Who has that entry votes for nobody who
   * has not, and when only nodes that it leaves out have it, one of them must lead until it is committed. The own vote counts for nothing.
   */
  get #mayBeNeeded(): boolean {
    const { log, self } = this.#core
    const present = log.configuration
    if (present === null || present.index <= log.commitIndex) return false
    const before = log.configurationAt(present.index - 1)
    return before !== null && isVoter(before.record.configuration, self)
  }

  // --- asking -------------------------------------------------------------------------------------------------

  askPreVotes(): void {
    const { self, term, log } = this.#core
    this.#core.note({ type: 'election.started', term: term + 1, preVote: true })
    const { lastIndex, lastTerm } = log
    this.#askVoters({ type: 'preVote', term, lastIndex, lastTerm })
    this.#votes.set(self, true)
    this.#countVotes()
  }

  /** The own vote is in the hard state already. */
  askVotes(transfer: boolean): void {
    const { self, term, log } = this.#core
    this.#core.note({ type: 'election.started', term, preVote: false })
    const { lastIndex, lastTerm } = log
    // RequestVote leaves in parallel with the save, but the own vote counts only after its own fsync (HAZARDS).
    this.#askVoters({ type: 'requestVote', term, lastIndex, lastTerm, transfer })
    this.#core.promise(self, { type: 'voteResponse', term, granted: true })
  }

  #askVoters(message: PreVote | RequestVote): void {
    const { self, tracker } = this.#core
    for (const voter of tracker.voters) if (voter !== self) this.#core.send(voter, message)
  }

  onPreVoteResponse(from: PeerId, message: PreVoteResponse): void {
    if (this.#core.role !== 'preCandidate' || message.askedTerm !== this.#core.term) return
    this.#votes.set(from, message.granted)
    this.#countVotes()
  }

  onVoteResponse(from: PeerId, message: VoteResponse): void {
    if (this.#core.role !== 'candidate' || message.term !== this.#core.term) return
    this.#votes.set(from, message.granted)
    this.#countVotes()
  }

  #countVotes(): void {
    const { self, role, term, tracker } = this.#core
    const result = tracker.votes(this.#votes)
    if (result === 'pending') return
    // Even a majority of others does not make a leader whose own term is not on disk: after a crash it could win the same
    // term again with another log (HAZARDS: nobody resumes leadership in a term).
    if (result === 'won' && this.#votes.get(self) !== true) {
      return mark('raft: elected by others before the own vote is saved')
    }
    if (result === 'lost') return this.#core.becomeFollower(term)
    if (role === 'preCandidate') this.#core.becomeCandidate(false)
    else this.#core.becomeLeader()
  }

  onTimeoutNow(from: PeerId, message: TimeoutNow): void {
    // A late one after an aborted transfer must not disturb: only from the leader that is followed now (HAZARDS).
    if (message.term !== this.#core.term || this.#core.leader !== from) {
      return mark('raft: a late TimeoutNow is ignored')
    }
    if (this.#core.role === 'follower' && this.#mayCampaign) this.#core.becomeCandidate(true)
  }

  // --- granting -----------------------------------------------------------------------------------------------

  /** Thesis 4.2.3 and 9.6: a node that hears a leader helps nobody to replace it. */
  get #leaderAlive(): boolean {
    const { role, leader } = this.#core
    if (role === 'leader') return true
    return leader !== null && this.#timer.elapsed < this.#options.electionTicks
  }

  onPreVote(from: PeerId, message: PreVote): void {
    const refusal = preVoteRefusal(this.#voter, message)
    if (refusal !== null) this.#noteRefusal(from, message.term + 1, refusal)
    // Nothing is promised, so the answer need not wait for a save.
    const { term } = this.#core
    const answer = { type: 'preVoteResponse', term, askedTerm: message.term } as const
    this.#core.send(from, { ...answer, granted: refusal === null })
  }

  onRequestVote(from: PeerId, message: RequestVote): void {
    if (message.term > this.#core.term) {
      // Ignored, not refused: an answer with this node's term would tell the candidate nothing it may use.
      if (this.#leaderAlive && !message.transfer) {
        mark('raft: a vote is asked beside a live leader')
        return this.#noteRefusal(from, message.term, 'leader-alive')
      }
      this.#core.becomeFollower(message.term)
    }
    const { term } = this.#core
    const refusal = voteRefusal(this.#voter, from, message)
    if (refusal === null) {
      if (this.#core.vote === null) this.#core.voteFor(from)
      this.#timer.elapsed = 0
      this.#core.note({ type: 'vote.granted', term, candidate: from })
    } else {
      this.#noteRefusal(from, message.term, refusal)
    }
    this.#core.promise(from, { type: 'voteResponse', term, granted: refusal === null })
  }

  get #voter(): Voter {
    const { term, vote, leader, log, saveStuck, diskFull } = this.#core
    return {
      term,
      vote,
      leaderKnown: leader !== null,
      leaderAlive: this.#leaderAlive,
      log,
      canSave: !saveStuck && !diskFull,
    }
  }

  #noteRefusal(candidate: PeerId, term: Term, reason: VoteRefusal): void {
    this.#core.note({ type: 'vote.refused', term, candidate, reason })
  }
}
