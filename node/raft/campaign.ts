/**
 * How leadership is sought and granted: the election timer, pre-votes and votes asked and given (paper 5.2 and 5.4.1; thesis 3.10,
 * 4.2.3 and 9.6). The doors between roles stand in raft.ts; this decides when to knock, and must never change a role by itself.
 */
import { ElectionTimer } from './election-timer.ts'
import { FastPath, type FastPathOptions, type Standing } from './fast-path.ts'
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
import type { RaftEvent, VoteRefusal } from './ready.ts'
import type { Tracker } from './tracker.ts'
import { type PeerId, peerIdOf, type Role, type Term } from './types.ts'
import { isVoter, preVoteRefusal, type Voter, voteRefusal } from './voting.ts'

/** What a campaign looks at. */
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
}

/** What a campaign may do. */
export interface Doors {
  /** The present {term, vote} is on disk. */
  isDurable(): boolean
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

export class Campaign {
  readonly #core: Campaigner
  readonly #doors: Doors
  readonly #options: FastPathOptions
  readonly #votes = new Map<PeerId, boolean>()
  readonly #timer: ElectionTimer
  readonly #fast: FastPath
  /**
   * Since the leader was last heard somebody whose newest configuration counts on this node's vote was refused it for a log that is
   * behind. A learner may then be the only one who can lead: it has the newest log, and whoever else may campaign needs its vote. It
   * is elected by the voters of its own configuration, its own vote counts for nothing, and it hands over when its log is safe.
   */
  #outranked = false
  /** In the present round somebody said that the leader lives. */
  #leaderLives = false

  constructor(core: Campaigner, doors: Doors, options: FastPathOptions) {
    this.#core = core
    this.#doors = doors
    this.#options = options
    this.#timer = new ElectionTimer(options)
    this.#fast = new FastPath(options)
  }

  /** Ticks since the leader was heard or the election began. */
  get elapsed(): number {
    return this.#timer.elapsed
  }

  /** A role begins: no vote of before counts, and the wait begins anew. */
  reset(): void {
    const { tracker } = this.#core
    this.#votes.clear()
    const alone = tracker.selfIsVoter && tracker.voters.length === 1
    // While its vote is being saved, another election would only begin that anew.
    this.#timer.reset(alone && this.#doors.isDurable())
  }

  /** The leader was heard. */
  heard(leader: PeerId): void {
    this.#outranked = false
    this.#timer.elapsed = 0
    this.#fast.calm()
    this.#fast.led(leader, this.#core.term)
  }

  won(): void {
    this.#votes.clear()
    this.heard(this.#core.self)
  }

  roundTrip(rttMs: number): void {
    this.#fast.roundTrip(rttMs)
  }

  takeWake(): number | null {
    return this.#fast.takeWake()
  }

  /** A leader only counts. */
  tick(): void {
    const isDue = this.#fast.tick()
    if (this.#core.role === 'leader') return
    if (isDue) this.wake()
    this.#timer.elapsed++
    if (this.#timer.expired) this.#timedOut()
  }

  /** The wake-up that was asked for came; a late or needless one does no harm. */
  wake(): void {
    const ended = this.#fast.woken()
    if (ended === 'asking') this.#roundEnded()
    else if (ended === 'waiting' || this.#fast.isUrged) this.#hurry()
  }

  /** The leader of this term said itself that it is none: as good as a closed link, except that it can still vote (HAZARDS). */
  onResigned(from: PeerId): void {
    if (this.#core.leader !== from) return
    mark('raft: the leader resigned')
    this.#lost(from, false)
  }

  /** The last link to `peer` is closed, and not by this node. */
  linkLost(peer: PeerId): void {
    if (this.#core.leader !== peer || this.#core.role === 'leader') return
    mark('raft: the last link to the leader is lost')
    this.#lost(peer, true)
  }

  /** Even while the fast path rests this node is free to vote: whoever loses the leader last must find everybody free. */
  #lost(leader: PeerId, gone: boolean): void {
    this.#doors.forgetLeader()
    if (!this.#mayCampaign) return
    // Of two voters one is left: until the other comes back each round is lost at once, and hurrying would only fill the log.
    const isVain = gone && this.#core.tracker.votes(new Map([[leader, false]])) === 'lost'
    if (isVain) return mark('failover: nobody can be elected without the one that is gone')
    this.#fast.lost(leader, this.#core.term, gone)
  }

  #hurry(): void {
    if (this.#core.role === 'leader' || this.#leaderAlive || !this.#mayCampaign) return
    this.#doors.becomePreCandidate()
  }

  /** The time for a round is over. Without evidence the election timer decides alone. */
  #roundEnded(): void {
    const { role, self, term } = this.#core
    if (!this.#fast.isUrged || role === 'leader') return
    if (this.#leaderLives) return this.#giveUp()
    // Another term would only begin the save of the own vote anew.
    if (role === 'candidate' && this.#votes.get(self) !== true) return this.#fast.asksForVotes()
    if (role === 'preCandidate') this.#doors.becomeFollower(term)
    this.#fast.retry()
  }

  /** Others hear the leader. When they lose it too each makes an attempt of its own, and the last one finds everybody free. */
  #giveUp(): void {
    mark('raft: others hear the leader that this node has lost')
    const { role, term } = this.#core
    if (role === 'preCandidate') this.#doors.becomeFollower(term)
    this.#fast.calm()
  }

  #timedOut(): void {
    // Whoever was granted a pre-vote just now has its chance first.
    if (this.#fast.phase === 'deferring') return
    if (!this.#mayCampaign) {
      // It may not campaign, but it must not believe in a leader that it does not hear.
      mark('raft: a node may not campaign')
      this.#timer.hold()
      return this.#doors.forgetLeader()
    }
    this.#doors.becomePreCandidate()
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
    const { log, self, tracker } = this.#core
    if (this.#outranked && tracker.configuration.members.some((one) => peerIdOf(one) === self)) {
      mark('raft: a learner may be the only one who can lead')
      return true
    }
    const present = log.configuration
    if (present === null || present.index <= log.commitIndex) return false
    const before = log.configurationAt(present.index - 1)
    return before !== null && isVoter(before.record.configuration, self)
  }

  // --- asking -------------------------------------------------------------------------------------------------

  askPreVotes(): void {
    const { self, term, log } = this.#core
    this.#fast.asks()
    this.#leaderLives = false
    this.#presumeGone()
    this.#doors.note({ type: 'election.started', term: term + 1, preVote: true })
    const { lastIndex, lastTerm } = log
    this.#askVoters({ type: 'preVote', term, lastIndex, lastTerm })
    this.#votes.set(self, true)
    this.#countVotes()
  }

  /** The own vote is in the hard state already. */
  askVotes(transfer: boolean): void {
    const { self, term, log } = this.#core
    this.#fast.asksForVotes()
    this.#leaderLives = false
    this.#presumeGone()
    this.#doors.note({ type: 'election.started', term, preVote: false })
    const { lastIndex, lastTerm } = log
    // RequestVote leaves in parallel with the save, but the own vote counts only after its own fsync (HAZARDS).
    this.#askVoters({ type: 'requestVote', term, lastIndex, lastTerm, transfer })
    this.#doors.promise(self, { type: 'voteResponse', term, granted: true })
  }

  /** Who can answer nothing is not waited for; should it answer all the same, that counts. */
  #presumeGone(): void {
    const { gone } = this.#fast
    if (gone !== null) this.#votes.set(gone, false)
  }

  #askVoters(message: PreVote | RequestVote): void {
    const { self, tracker } = this.#core
    for (const voter of tracker.voters) if (voter !== self) this.#doors.send(voter, message)
  }

  onPreVoteResponse(from: PeerId, message: PreVoteResponse): void {
    if (this.#core.role !== 'preCandidate' || message.askedTerm !== this.#core.term) return
    if (message.leaderAlive) this.#leaderLives = true
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
    if (result === 'lost') {
      this.#doors.becomeFollower(term)
      this.#fast.woken()
      return this.#roundEnded()
    }
    if (role === 'preCandidate') this.#doors.becomeCandidate(false)
    else this.#doors.becomeLeader()
  }

  onTimeoutNow(from: PeerId, message: TimeoutNow): void {
    // A late one after an aborted transfer must not disturb: only from the leader that is followed now (HAZARDS).
    if (message.term !== this.#core.term || this.#core.leader !== from) {
      return mark('raft: a late TimeoutNow is ignored')
    }
    if (this.#core.role === 'follower' && this.#mayCampaign) this.#doors.becomeCandidate(true)
  }

  // --- granting -----------------------------------------------------------------------------------------------

  /** Thesis 4.2.3 and 9.6: a node that hears a leader helps nobody to replace it. */
  get #leaderAlive(): boolean {
    const { role, leader } = this.#core
    if (role === 'leader') return true
    return leader !== null && this.#timer.elapsed < this.#options.electionTicks
  }

  onPreVote(from: PeerId, message: PreVote): void {
    const asker = { lastTerm: message.lastTerm, lastIndex: message.lastIndex, peer: from }
    const refusal = preVoteRefusal(this.#voter, asker, message.term)
    if (refusal === null) this.#standBack(asker)
    else this.#noteRefusal(from, message.term + 1, refusal)
    if (refusal === 'log-behind') this.#outranked = true
    const isFollower = this.#core.role === 'follower'
    if (refusal === 'log-behind' && isFollower && this.#mayCampaign) this.#fast.hasNewerLog()
    // Nothing is promised, so the answer need not wait for a save.
    this.#doors.send(from, {
      type: 'preVoteResponse',
      term: this.#core.term,
      askedTerm: message.term,
      granted: refusal === null,
      leaderAlive: refusal === 'leader-alive',
    })
  }

  /** A pre-vote is granted: the better candidate has its chance before this node asks (again) itself. */
  #standBack(asker: Standing): void {
    const { role, term } = this.#core
    if (role === 'candidate') return
    if (role === 'preCandidate') {
      mark('raft: a pre-candidate yields to a better one')
      this.#doors.becomeFollower(term)
    }
    this.#fast.granted(asker)
  }

  onRequestVote(from: PeerId, message: RequestVote): void {
    if (message.term > this.#core.term) {
      // Ignored, not refused: an answer with this node's term would tell the candidate nothing it may use.
      if (this.#leaderAlive && !message.transfer) {
        mark('raft: a vote is asked beside a live leader')
        return this.#noteRefusal(from, message.term, 'leader-alive')
      }
      this.#doors.becomeFollower(message.term)
    }
    const { term } = this.#core
    const refusal = voteRefusal(this.#voter, from, message)
    if (refusal === null) {
      if (this.#core.vote === null) this.#doors.voteFor(from)
      this.#timer.elapsed = 0
      const { lastTerm, lastIndex } = message
      this.#fast.voted({ lastTerm, lastIndex, peer: from })
      this.#doors.note({ type: 'vote.granted', term, candidate: from })
    } else {
      this.#noteRefusal(from, message.term, refusal)
    }
    this.#doors.promise(from, { type: 'voteResponse', term, granted: refusal === null })
  }

  get #voter(): Voter {
    const { self, role, term, vote, leader, log, saveStuck, diskFull } = this.#core
    const { lastTerm, lastIndex } = log
    const isAsking = role !== 'follower' && this.#fast.phase === 'asking'
    return {
      term,
      vote,
      leaderKnown: leader !== null,
      leaderAlive: this.#leaderAlive,
      log,
      preferred: isAsking ? { lastTerm, lastIndex, peer: self } : this.#fast.favoured,
      saveStuck,
      diskFull,
    }
  }

  #noteRefusal(candidate: PeerId, term: Term, reason: VoteRefusal): void {
    this.#doors.note({ type: 'vote.refused', term, candidate, reason })
  }
}
