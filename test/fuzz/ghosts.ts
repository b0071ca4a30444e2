/**
 * Peers that keep Raft's rules (paper, figure 2) and nothing else: no timers, no order, any Append that a leader could send and any hint
 * that a follower could give. What they may say is far more than the production core ever says, and all of it must be taken.
 */
import type {
  Append,
  AppendResponse,
  Outgoing,
  RaftMessage,
  RequestVote,
} from '../../node/raft/messages.ts'
import type { Entry, Index, PeerId, Term } from '../../node/raft/types.ts'

export interface Dice {
  /** An integer in [0, bound). */
  below(bound: number): number
}

export class Ghost {
  readonly peer: PeerId
  readonly #others: readonly PeerId[]
  readonly #dice: Dice
  term: Term = 1
  vote: PeerId | null = null
  role: 'follower' | 'candidate' | 'leader' = 'follower'
  /** Entry i has index i + 1. Always durable. */
  readonly log: Entry[]
  commit: Index = 1
  readonly out: Outgoing[] = []
  readonly #votes = new Set<PeerId>()
  /** As leader: what each peer has acknowledged. */
  readonly #match = new Map<PeerId, Index>()
  #readRound = 0
  /** It stepped down by itself in this term and will not lead in it again. */
  #resigned = false
  made = 0

  constructor(peer: PeerId, others: readonly PeerId[], first: Entry, dice: Dice) {
    this.peer = peer
    this.#others = others
    this.log = [first]
    this.#dice = dice
  }

  // --- what it may do by itself -----------------------------------------------------------------------------------------

  act(
    what:
      | 'campaign'
      | 'preVote'
      | 'lead'
      | 'propose'
      | 'replicate'
      | 'beat'
      | 'resign'
      | 'hand over',
  ): void {
    if (what === 'preVote') return this.#askPreVotes()
    if (what === 'campaign') return this.#campaign()
    if (what === 'lead') return this.#lead()
    if (this.role !== 'leader') return
    const to = this.#others[this.#dice.below(this.#others.length)] as PeerId
    if (what === 'propose')
      this.#append('command', new Uint8Array([this.made++ & 0xff, this.term & 0xff]))
    else if (what === 'replicate') this.#replicate(to)
    else if (what === 'beat') this.#beat(to)
    else if (what === 'resign') this.#resign()
    else if ((this.#match.get(to) ?? 0) === this.log.length)
      this.#send(to, { type: 'timeoutNow', term: this.term })
  }

  #askPreVotes(): void {
    if (this.role === 'leader') return
    const { lastIndex, lastTerm } = this.#last
    for (const to of this.#others)
      this.#send(to, { type: 'preVote', term: this.term, lastIndex, lastTerm })
  }

  #campaign(): void {
    if (this.role === 'leader') return
    this.#newTerm(this.term + 1)
    this.role = 'candidate'
    this.vote = this.peer
    this.#votes.add(this.peer)
    const { lastIndex, lastTerm } = this.#last
    const transfer = this.#dice.below(3) === 0
    for (const to of this.#others) {
      this.#send(to, { type: 'requestVote', term: this.term, lastIndex, lastTerm, transfer })
    }
  }

  #lead(): void {
    const needed = Math.floor((this.#others.length + 1) / 2) + 1
    if (this.role !== 'candidate' || this.#votes.size < needed) return
    this.role = 'leader'
    this.#match.clear()
    this.#append('noop', new Uint8Array(0))
  }

  #append(kind: 'command' | 'noop', payload: Uint8Array): void {
    this.log.push({ term: this.term, index: this.log.length + 1, kind, payload })
  }

  /** Any part of its log, after any entry of it, and any commit index up to its own. */
  #replicate(to: PeerId): void {
    const { log, term } = this
    // Mostly where the follower is, sometimes anywhere.
    const known = this.#match.get(to) ?? log.length - 1
    const prevIndex = this.#dice.below(3) === 0 ? this.#dice.below(log.length + 1) : known
    const entries = log.slice(prevIndex, prevIndex + this.#dice.below(4))
    const commit = Math.max(0, this.commit - this.#dice.below(2))
    this.#send(to, {
      type: 'append',
      term,
      prevIndex,
      prevTerm: this.#termAt(prevIndex),
      entries,
      commit,
    })
  }

  #beat(to: PeerId): void {
    const commit = Math.min(this.#match.get(to) ?? 0, this.commit)
    this.#readRound += this.#dice.below(2)
    this.#send(to, { type: 'heartbeat', term: this.term, commit, readRound: this.#readRound })
  }

  #resign(): void {
    this.role = 'follower'
    this.#resigned = true
    for (const to of this.#others) this.#send(to, { type: 'resigned', term: this.term })
  }

  // --- what it must do with a message -------------------------------------------------------------------------------------

  receive(from: PeerId, message: RaftMessage): void {
    if (message.type !== 'preVote' && message.term > this.term) this.#newTerm(message.term)
    switch (message.type) {
      case 'preVote': {
        // It promises nothing, so any answer may be given.
        const granted = message.term >= this.term && this.#dice.below(4) > 0
        return this.#send(from, {
          type: 'preVoteResponse',
          term: this.term,
          askedTerm: message.term,
          granted,
          leaderAlive: false,
        })
      }
      case 'requestVote':
        return this.#onRequestVote(from, message)
      case 'voteResponse':
        if (message.granted && message.term === this.term && this.role === 'candidate')
          this.#votes.add(from)
        return
      case 'append':
        return this.#onAppend(from, message)
      case 'appendResponse':
        return this.#onAppendResponse(from, message)
      case 'heartbeat':
        if (message.term < this.term) return this.#refuse(from)
        this.role = 'follower'
        this.commit = Math.max(this.commit, Math.min(message.commit, this.log.length))
        return this.#send(from, {
          type: 'heartbeatResponse',
          term: this.term,
          readRound: message.readRound,
        })
      case 'timeoutNow':
        if (message.term === this.term && this.role === 'follower' && !this.#resigned)
          this.#campaign()
        return
      case 'preVoteResponse':
      case 'heartbeatResponse':
      case 'resigned':
      case 'installSnapshot':
        return
    }
  }

  #newTerm(term: Term): void {
    this.term = term
    this.vote = null
    this.role = 'follower'
    this.#votes.clear()
    this.#resigned = false
  }

  #onRequestVote(from: PeerId, message: RequestVote): void {
    const { lastIndex, lastTerm } = this.#last
    const isUpToDate =
      message.lastTerm > lastTerm ||
      (message.lastTerm === lastTerm && message.lastIndex >= lastIndex)
    const isFree = this.vote === null || this.vote === from
    const granted = message.term === this.term && isFree && isUpToDate
    if (granted) this.vote = from
    this.#send(from, { type: 'voteResponse', term: this.term, granted })
  }

  #refuse(to: PeerId): void {
    this.#send(to, {
      type: 'appendResponse',
      term: this.term,
      accepted: false,
      rejectedIndex: 0,
      hintIndex: 0,
      hintTerm: 0,
    })
  }

  #onAppend(from: PeerId, message: Append): void {
    const { prevIndex, prevTerm, entries } = message
    if (message.term < this.term) return this.#refuse(from)
    this.role = 'follower'
    if (prevIndex > this.log.length || this.#termAt(prevIndex) !== prevTerm) {
      // Some entry of its own before the one that does not match; a good hint or a bad one.
      const most = Math.min(this.log.length, prevIndex - 1)
      const hintIndex = Math.max(0, most - this.#dice.below(3))
      const hintTerm = this.#termAt(hintIndex)
      const rejected = { accepted: false as const, rejectedIndex: prevIndex, hintIndex, hintTerm }
      return this.#send(from, { type: 'appendResponse', term: this.term, ...rejected })
    }
    for (const entry of entries) {
      if (this.#termAt(entry.index) === entry.term && entry.index <= this.log.length) continue
      this.log.length = entry.index - 1
      this.log.push(entry)
    }
    const matchIndex = prevIndex + entries.length
    this.commit = Math.max(this.commit, Math.min(message.commit, matchIndex))
    this.#send(from, { type: 'appendResponse', term: this.term, accepted: true, matchIndex })
  }

  #onAppendResponse(from: PeerId, message: AppendResponse): void {
    if (this.role !== 'leader' || message.term !== this.term || !message.accepted) return
    this.#match.set(from, Math.max(this.#match.get(from) ?? 0, message.matchIndex))
    const matched = [this.log.length, ...this.#others.map((other) => this.#match.get(other) ?? 0)]
    const agreed = matched.sort((a, b) => b - a)[Math.floor(matched.length / 2)] as Index
    if (agreed > this.commit && this.#termAt(agreed) === this.term) this.commit = agreed
  }

  get #last(): { lastIndex: Index; lastTerm: Term } {
    return { lastIndex: this.log.length, lastTerm: this.#termAt(this.log.length) }
  }

  #termAt(index: Index): Term {
    return this.log[index - 1]?.term ?? 0
  }

  #send(to: PeerId, message: RaftMessage): void {
    this.out.push({ to, message })
  }
}
