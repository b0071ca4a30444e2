/**
 * One member of the replicated state machine: consensus core, state machine, sessions, and the requests that wait. Pure: input in,
 * effects out. It must never know who drives it, what time it is, or how frames travel.
 */
import { MalformedError } from '../client/bytes.ts'
import { type ErrorCode, errorBody } from '../client/protocol.ts'
import { AppliedState, type AppliedStateOptions } from './applied-state.ts'
import { type Forward, Forwards } from './forwards.ts'
import { isLeaderView, type LeaderView, viewOf } from './leader-view.ts'
import type { PeerFrame } from './peer-frame.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import { mark } from './raft/marks.ts'
import type { RaftOptions } from './raft/options.ts'
import { Raft } from './raft/raft.ts'
import {
  type ConfigurationRecord,
  type Entry,
  type Index,
  type Member,
  type PeerId,
  peerIdOf,
  type Role,
  type Term,
} from './raft/types.ts'
import { type ReplicaEffects, type ReplicaEvent, replicaEventOf } from './replica-effects.ts'
import type { HashAt, ServiceAnswer, ServiceRequest } from './request.ts'
import { isCommand, type Pending, RequestTable } from './request-table.ts'

export interface ReplicaOptions extends AppliedStateOptions {
  readonly raft: RaftOptions
  readonly tickMs: number
  readonly pendingRequestsMax: number
  readonly pendingRequestBytesMax: number
  readonly leaderViewTicks: number
}

/** Who asked for what stands at a log index, or for a read: a client of this node, or a peer. */
type Asker =
  | { readonly type: 'own'; readonly requestIds: readonly number[] }
  | { readonly type: 'peer'; readonly peer: PeerId; readonly requestId: number }

const NOTHING = new Uint8Array(0)
/** A request that a peer could not take waits this long before it is sent again, so that two nodes do not spin. */
const RETRY_TICKS = 2

export class Replica {
  readonly #options: ReplicaOptions
  readonly #raft: Raft
  readonly #applied: AppliedState
  readonly #requests = new RequestTable()
  /** What was proposed here, by index; answered when the entry at that index *and term* is applied. */
  readonly #proposed = new Map<Index, { readonly term: Term; readonly asker: Asker }>()
  readonly #forwards: Forwards
  /** ReadIndex requests handed to the core, by id. */
  readonly #rounds = new Map<number, Asker>()
  /** Reads that may be served once their index is applied, in order of index. */
  #readsAt: { readonly index: Index; readonly requestIds: readonly number[] }[] = []
  #nextReadId = 1
  #tick = 0
  #nextViewTick = 0
  #seen: { role: Role; leader: PeerId | null; term: Term; configurationIndex: Index }
  /** The last one heard from the present leader. */
  #leaderView: LeaderView | null = null
  /** This node has applied everything that the present leader had committed when it last said so. */
  #caughtUp = false
  #frames = new Map<PeerId, PeerFrame[]>()
  #answers: { requestId: number; answer: ServiceAnswer }[] = []
  #events: ReplicaEvent[] = []

  constructor(options: ReplicaOptions) {
    this.#options = options
    this.#raft = new Raft(options.raft)
    this.#applied = new AppliedState(options)
    const { electionTicks, random } = options.raft
    this.#forwards = new Forwards({ patienceTicks: electionTicks, life: random.next() })
    const { role, leader, term } = this.#raft
    this.#seen = { role, leader, term, configurationIndex: 0 }
  }

  // --- what is so ---------------------------------------------------------------------------------------------

  get raft(): Raft {
    return this.#raft
  }

  /** The newest committed configuration; a node adopts its member id from here only (HAZARDS). */
  get committed(): ConfigurationRecord | null {
    return this.#raft.log.configurationAt(this.#raft.log.appliedIndex)?.record ?? null
  }

  memberOf(peer: PeerId): Member | null {
    const members = this.#raft.tracker.configuration.members
    return members.find((member) => peerIdOf(member) === peer) ?? null
  }

  /** This node knows a leader and has applied all that the leader had committed when last heard. */
  get caughtUp(): boolean {
    const { role, termCommitted, leader, log } = this.#raft
    if (role === 'leader') return termCommitted && log.appliedIndex === log.commitIndex
    return leader !== null && this.#caughtUp
  }

  /** Null: nobody is known to lead. */
  get lagTicks(): number | null {
    return this.#raft.leader === null ? null : this.#raft.ticksSinceLeader
  }

  /** The hash of the whole applied state: the machine's and the sessions'. */
  get stateHash(): HashAt {
    return { index: this.#raft.log.appliedIndex, hash: this.#applied.hash() }
  }

  get stateHashes(): readonly HashAt[] {
    return this.#applied.hashes
  }

  /** The leader's view of the members: this node's own as leader, the last one heard as follower. */
  get view(): LeaderView | null {
    if (this.#raft.role === 'leader') return viewOf(this.#raft, this.#options.raft.electionTicks)
    return this.#leaderView
  }

  // --- inputs -------------------------------------------------------------------------------------------------

  tick(): void {
    this.#tick++
    this.#raft.tick()
    // A few times a second is exact enough for time-outs of seconds.
    if (this.#tick % 2 === 0) {
      for (const pending of this.#requests.expired(this.#tick)) this.#timeOut(pending)
      this.#resendForwards()
    }
  }

  /** A frame from an authenticated peer of this cluster. */
  receive(from: PeerId, frame: PeerFrame): void {
    switch (frame.type) {
      case 'raft':
        return this.#raft.step(from, frame.message)
      case 'forward':
        return this.#onForward(from, frame)
      case 'forwardReply':
        return this.#onForwardReply(from, frame)
      case 'leaderView':
        return this.#onLeaderView(from, frame)
      case 'founding':
        return
    }
  }

  linkClosed(peer: PeerId): void {
    this.#raft.linkClosed(peer)
    for (const lost of this.#forwards.takeWhere(({ to }) => to === peer)) this.#giveBack(lost, 0)
  }

  /** Accepts a request of this node's own clients; `requestId` is the caller's and unique. */
  request(requestId: number, request: ServiceRequest): void {
    const { pendingRequestsMax, pendingRequestBytesMax, tickMs } = this.#options
    if (request.type === 'query' && request.consistency === 'stale') {
      return this.#answerQuery(requestId, request.query)
    }
    if (
      this.#requests.count >= pendingRequestsMax ||
      this.#requests.bytes >= pendingRequestBytesMax
    ) {
      return this.#fail(requestId, 'overloaded', 'too many requests wait here')
    }
    if (request.type === 'command' && !isCommand(request.command)) {
      return this.#fail(requestId, 'bad-request', 'the command is malformed')
    }
    const deadline = this.#tick + Math.max(1, Math.ceil(request.timeoutMs / tickMs))
    const fresh = { dispatched: false, notBefore: 0, repeats: 0 }
    this.#requests.add({ requestId, request, deadline, ...fresh })
  }

  /** The client is gone or has lost patience: no answer is wanted. The write may happen all the same. */
  cancel(requestId: number): void {
    this.#requests.remove(requestId)
  }

  saved(): void {
    this.#raft.saved()
  }

  saveFailed(): void {
    this.#raft.saveFailed()
  }

  /** Hands leadership to the voter that is furthest, if there is one. */
  handOver(): boolean {
    const best = this.#raft.tracker.furthestVoter()
    return best !== null && this.#raft.transferLeadership(best)
  }

  /** Answers everything that waits with `closing`. */
  close(): void {
    for (const pending of this.#requests.all()) {
      this.#fail(pending.requestId, 'closing', 'this node is stopping', pending.dispatched)
    }
  }

  drain(): ReplicaEffects {
    this.#noteLeadership()
    this.#dispatch()
    const ready = this.#raft.ready()
    for (const { to, message } of ready.messages) this.#send(to, { type: 'raft', message })
    for (const entry of ready.committed) this.#apply(entry)
    for (const { requestId, index } of ready.reads) this.#readConfirmed(requestId, index)
    for (const id of ready.readsLost) this.#readLost(id)
    this.#noteLeadership()
    this.#noteCaughtUp()
    this.#serveReads()
    this.#shareView()
    for (const event of ready.events)
      this.#events.push(replicaEventOf(event, (peer) => this.memberOf(peer)))
    const { log } = this.#raft
    const effects = {
      frames: this.#frames,
      save: ready.save,
      answers: this.#answers,
      events: this.#events,
      more: log.appliedIndex < log.commitIndex,
    }
    this.#frames = new Map()
    this.#answers = []
    this.#events = []
    return effects
  }

  // --- sending requests where they can be answered --------------------------------------------------------------

  #dispatch(): void {
    const due = this.#requests.takeDue(this.#tick)
    if (due.length === 0) return
    const { leader, role } = this.#raft
    const reads: Pending[] = []
    for (const pending of due) {
      if (leader === null) this.#noLeader(pending)
      else if (pending.request.type === 'query') reads.push(pending)
      else if (role === 'leader') this.#propose(pending, pending.request.command)
      else this.#forward(leader, 'command', [pending], pending.request.command)
    }
    // All reads of a turn share one question to the leader and one confirmation round.
    if (reads.length === 0 || leader === null) return
    if (role !== 'leader') return this.#forward(leader, 'readIndex', reads, NOTHING)
    for (const read of reads) read.dispatched = true
    this.#startRead({ type: 'own', requestIds: reads.map((read) => read.requestId) })
  }

  #noLeader(pending: Pending): void {
    if (this.#raft.diskFull && pending.request.type === 'command') {
      const why = 'the disk of this node is full and no other node leads'
      return this.#fail(pending.requestId, 'disk-full', why, pending.dispatched)
    }
    this.#requests.requeue(pending.requestId, this.#tick + 1)
  }

  #propose(pending: Pending, command: Uint8Array): void {
    const result = this.#raft.propose('command', command)
    if (result.ok) {
      pending.dispatched = true
      const asker: Asker = { type: 'own', requestIds: [pending.requestId] }
      this.#proposed.set(result.id.index, { term: result.id.term, asker })
    } else if (result.reason === 'overloaded') {
      const message = 'too much waits for the disks of a quorum'
      this.#fail(pending.requestId, 'overloaded', message, pending.dispatched)
    } else {
      this.#requests.requeue(pending.requestId, this.#tick + RETRY_TICKS)
    }
  }

  #forward(
    to: PeerId,
    operation: 'command' | 'readIndex',
    requests: readonly Pending[],
    body: Uint8Array,
  ): void {
    for (const pending of requests) pending.dispatched = true
    const requestId = this.#forwards.add(to, requests, this.#tick)
    this.#send(to, { type: 'forward', requestId, operation, body })
  }

  /** A forward that stays without an answer is sent again: frames may be dropped without a closed link. */
  #resendForwards(): void {
    for (const lost of this.#forwards.takeWhere(({ againTick }) => againTick <= this.#tick)) {
      mark('replica: a forward is sent again')
      for (const pending of lost.requests) pending.repeats++
      this.#giveBack(lost, 0)
    }
  }

  #giveBack(forward: Forward, delayTicks: number): void {
    for (const { requestId } of forward.requests) {
      this.#requests.requeue(requestId, this.#tick + delayTicks)
    }
  }

  #startRead(asker: Asker): void {
    const readId = this.#nextReadId++
    if (this.#raft.readIndex(readId)) this.#rounds.set(readId, asker)
    else this.#refuse(asker)
  }

  /** Sends whatever an asker wanted back to where it came from: this node does not lead any more. */
  #refuse(asker: Asker): void {
    if (asker.type === 'peer') return this.#reply(asker, 'not-leader', 0, NOTHING)
    for (const requestId of asker.requestIds) this.#requests.requeue(requestId, this.#tick)
  }

  // --- requests of peers ----------------------------------------------------------------------------------------

  #onForward(from: PeerId, frame: PeerFrame & { type: 'forward' }): void {
    const asker: Asker = { type: 'peer', peer: from, requestId: frame.requestId }
    // A node that does not lead says so; it never forwards a forwarded request (HAZARDS: forwarding loop).
    if (this.#raft.role !== 'leader') {
      mark('replica: a forward reaches a node that does not lead')
      return this.#reply(asker, 'not-leader', 0, NOTHING)
    }
    if (frame.operation === 'readIndex') return this.#startRead(asker)
    if (!isCommand(frame.body)) return
    const result = this.#raft.propose('command', frame.body.slice())
    if (result.ok) this.#proposed.set(result.id.index, { term: result.id.term, asker })
    else {
      const outcome = result.reason === 'overloaded' ? 'overloaded' : 'not-leader'
      this.#reply(asker, outcome, 0, NOTHING)
    }
  }

  #onForwardReply(from: PeerId, frame: PeerFrame & { type: 'forwardReply' }): void {
    const forward = this.#forwards.take(frame.requestId, from)
    // A late answer, from a peer that was asked before: the request is already on its way elsewhere.
    if (forward === null) return mark('replica: a late answer to a forward')
    if (frame.outcome === 'not-leader' || frame.outcome === 'closing') {
      return this.#giveBack(forward, RETRY_TICKS)
    }
    for (const { requestId } of forward.requests) {
      const pending = this.#requests.get(requestId)
      if (pending === undefined) continue
      if (frame.outcome !== 'done') {
        this.#fail(requestId, frame.outcome, `the leader is ${frame.outcome}`, true)
      } else if (pending.request.type === 'command') {
        this.#finish(requestId, { ok: true, index: frame.index, body: frame.body })
      } else {
        this.#readsAt.push({ index: frame.index, requestIds: [requestId] })
      }
    }
  }

  #reply(
    asker: Asker & { type: 'peer' },
    outcome: (PeerFrame & { type: 'forwardReply' })['outcome'],
    index: Index,
    body: Uint8Array,
  ): void {
    const { requestId } = asker
    this.#send(asker.peer, { type: 'forwardReply', requestId, outcome, index, body })
  }

  // --- applying -------------------------------------------------------------------------------------------------

  #apply(entry: Entry): void {
    const outcome = this.#applied.apply(entry)
    const proposed = this.#proposed.get(entry.index)
    if (!this.#proposed.delete(entry.index) || proposed === undefined) return
    const { asker } = proposed
    // Another leader's entry took the place: what was asked for is not in the log, or stands elsewhere in it.
    if (proposed.term !== entry.term) return this.#refuse(asker)
    if (asker.type === 'peer') return this.#reply(asker, 'done', entry.index, outcome)
    for (const requestId of asker.requestIds) {
      if (this.#requests.get(requestId) === undefined) continue
      this.#finish(requestId, { ok: true, index: entry.index, body: outcome })
    }
  }

  // --- reads ----------------------------------------------------------------------------------------------------

  #readConfirmed(readId: number, index: Index): void {
    const asker = this.#rounds.get(readId)
    this.#rounds.delete(readId)
    if (asker === undefined) return
    if (asker.type === 'peer') return this.#reply(asker, 'done', index, NOTHING)
    this.#readsAt.push({ index, requestIds: asker.requestIds })
  }

  #readLost(readId: number): void {
    const asker = this.#rounds.get(readId)
    this.#rounds.delete(readId)
    if (asker !== undefined) this.#refuse(asker)
  }

  #serveReads(): void {
    if (this.#readsAt.length === 0) return
    const { appliedIndex } = this.#raft.log
    this.#readsAt = this.#readsAt.filter(({ index, requestIds }) => {
      if (index > appliedIndex) return true
      for (const requestId of requestIds) {
        const pending = this.#requests.get(requestId)
        if (pending?.request.type === 'query') this.#answerQuery(requestId, pending.request.query)
      }
      return false
    })
  }

  #answerQuery(requestId: number, query: Uint8Array): void {
    try {
      const body = this.#applied.query(query)
      this.#finish(requestId, { ok: true, index: this.#raft.log.appliedIndex, body })
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.#fail(requestId, 'bad-request', error.message)
    }
  }

  // --- leadership -----------------------------------------------------------------------------------------------

  #noteLeadership(): void {
    const { role, leader, term, log } = this.#raft
    const configurationIndex = log.configurationAt(log.appliedIndex)?.index ?? 0
    const seen = this.#seen
    this.#seen = { role, leader, term, configurationIndex }
    if (role !== seen.role) {
      this.#event('role.changed', 'info', { from: seen.role, to: role })
      if (seen.role === 'leader') this.#ledNoMore()
    }
    if (leader !== seen.leader || term !== seen.term) {
      this.#caughtUp = false
      this.#leaderView = null
      this.#requests.hurry()
      this.#nextViewTick = this.#tick
      for (const forward of this.#forwards.takeWhere(() => true)) this.#giveBack(forward, 0)
    }
    if (leader !== seen.leader) {
      const leaderId = leader === null ? null : (this.memberOf(leader)?.memberId ?? null)
      this.#event('leader.changed', 'info', { leaderId })
    }
    if (configurationIndex !== seen.configurationIndex) {
      this.#event('config.changed', 'info', { index: configurationIndex })
    }
  }

  /** What this node proposed may still commit under the next leader; the sessions make asking again safe. */
  #ledNoMore(): void {
    for (const { asker } of this.#proposed.values()) this.#refuse(asker)
    this.#proposed.clear()
  }

  #shareView(): void {
    if (this.#raft.role !== 'leader' || this.#tick < this.#nextViewTick) return
    this.#nextViewTick = this.#tick + this.#options.leaderViewTicks
    const body = encodeAsciiJson(viewOf(this.#raft, this.#options.raft.electionTicks))
    const { term } = this.#raft
    for (const peer of this.#raft.tracker.peers) {
      this.#send(peer, { type: 'leaderView', term, body })
    }
  }

  #onLeaderView(from: PeerId, frame: PeerFrame & { type: 'leaderView' }): void {
    if (frame.term !== this.#raft.term || this.#raft.leader !== from) return
    const view = decodeAsciiJson(frame.body)
    if (isLeaderView(view)) this.#leaderView = view
  }

  /** Judged after applying: under load, what the leader speaks of has arrived with the same frames and is applied only now. */
  #noteCaughtUp(): void {
    const { appliedIndex } = this.#raft.log
    const known = this.#leaderView?.commitIndex ?? Number.POSITIVE_INFINITY
    if (appliedIndex >= known) this.#caughtUp = true
  }

  // --- answers and events -----------------------------------------------------------------------------------------

  #send(to: PeerId, frame: PeerFrame): void {
    const frames = this.#frames.get(to)
    if (frames === undefined) this.#frames.set(to, [frame])
    else frames.push(frame)
  }

  #finish(requestId: number, answer: ServiceAnswer): void {
    this.#requests.remove(requestId)
    this.#answers.push({ requestId, answer })
  }

  #fail(requestId: number, code: ErrorCode, message: string, maybeApplied = false): void {
    const isQuery = this.#requests.get(requestId)?.request.type === 'query'
    const error = errorBody(code, message, maybeApplied && !isQuery)
    this.#finish(requestId, { ok: false, error })
  }

  #timeOut({ requestId, dispatched }: Pending): void {
    if (dispatched) this.#fail(requestId, 'timeout', 'no answer from a quorum in time', true)
    else this.#fail(requestId, 'no-leader', 'no node leads the cluster')
  }

  #event(event: string, level: ReplicaEvent['level'], fields: ReplicaEvent['fields']): void {
    this.#events.push({ event, level, fields })
  }
}
