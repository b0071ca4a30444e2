/**
 * One member of the replicated state machine: consensus core, state machine, sessions, and the requests that wait. Pure: input in,
 * effects out. It must never know who drives it, what time it is, or how frames travel.
 */
import { MalformedError } from '../client/bytes.ts'
import { Answers, type Asker } from './answers.ts'
import { AppliedState, type AppliedStateOptions } from './applied-state.ts'
import { Autopilot, type AutopilotDefaults } from './autopilot-driver.ts'
import { type Captured, capture } from './capture.ts'
import { decodeChangeAnswer } from './change-request.ts'
import { StateComparison } from './divergence.ts'
import { hasLogTime, mayBeAppended, whyOverloaded } from './feature-level.ts'
import { carriesChange, type Forward, Forwards } from './forwards.ts'
import { type LeaderView, LeaderViews } from './leader-view.ts'
import { LinearizableReads } from './linearizable-reads.ts'
import { LogClock } from './log-clock.ts'
import { type Applicant, MembershipDesk } from './membership.ts'
import type { PeerFrame } from './peer-frame.ts'
import { Proposals } from './proposals.ts'
import { invariant } from './raft/assert.ts'
import type { ConfigurationAt } from './raft/log.ts'
import { mark } from './raft/marks.ts'
import type { RaftOptions } from './raft/options.ts'
import { Raft } from './raft/raft.ts'
import type { SnapshotAt } from './raft/snapshots.ts'
import {
  type ConfigurationRecord,
  type Entry,
  type Member,
  type PeerId,
  peerIdOf,
} from './raft/types.ts'
import { Outbox, type ReplicaEffects } from './replica-effects.ts'
import type { HashAt, ServiceRequest } from './request.ts'
import { isCommand, type Pending, RequestTable } from './request-table.ts'
import { RoleWatch } from './role-watch.ts'
import { Staleness } from './staleness.ts'

export interface ReplicaOptions extends AppliedStateOptions {
  readonly raft: RaftOptions
  /** What was restored from `raft.snapshot`; null: nothing is applied yet. */
  readonly applied?: AppliedState | null
  readonly tickMs: number
  readonly pendingRequestsMax: number
  readonly pendingRequestBytesMax: number
  readonly leaderViewTicks: number
  /** Null: the members change only when somebody asks for it. */
  readonly autopilot: AutopilotDefaults | null
}

const NOTHING = new Uint8Array(0)
/** A request that a peer could not take waits this long before it is sent again, so that two nodes do not spin. */
const RETRY_TICKS = 2

export class Replica {
  readonly #options: ReplicaOptions
  readonly #raft: Raft
  #applied: AppliedState
  readonly #requests = new RequestTable()
  readonly #proposals = new Proposals<Asker>()
  readonly #forwards: Forwards
  readonly #reads: LinearizableReads
  readonly #clock: LogClock
  #tick = 0
  readonly #roles: RoleWatch
  readonly #views: LeaderViews
  readonly #staleness: Staleness
  readonly #desk: MembershipDesk<Asker>
  readonly #comparison: StateComparison
  readonly #autopilot: Autopilot
  readonly #out = new Outbox()
  readonly #answers = new Answers(this.#requests, this.#out)

  constructor(options: ReplicaOptions) {
    this.#options = options
    this.#raft = new Raft(options.raft)
    this.#applied = options.applied ?? new AppliedState(options)
    invariant(this.#applied.index === this.#raft.log.appliedIndex, 'a state of another index')
    this.#clock = new LogClock({
      raft: this.#raft,
      tickMs: options.tickMs,
      logTimeMs: () => this.#applied.logTimeMs,
      dueMs: () => (hasLogTime(this.committed) ? this.#applied.dueMs : null),
    })
    const { electionTicks, random } = options.raft
    this.#forwards = new Forwards({ patienceTicks: electionTicks, life: random.next() })
    this.#reads = new LinearizableReads({
      raft: this.#raft,
      requests: this.#requests,
      tell: (asker, index) => this.#answers.reply(asker, 'done', index),
      refuse: (asker) => this.#refuse(asker),
      serve: (requestId, query) => this.#answerQuery(requestId, query),
    })
    const everyTicks = options.leaderViewTicks
    this.#staleness = new Staleness(this.#raft)
    this.#desk = new MembershipDesk<Asker>({
      raft: this.#raft,
      committed: () => this.committedAt,
      answer: (asker, answer) => this.#answers.change(asker, answer),
      unfit: () => this.#comparison.odd,
      giveBack: (asker) => this.#refuse(asker),
    })
    this.#comparison = new StateComparison({
      raft: this.#raft,
      hashes: () => this.#applied.hashes,
      options: { kept: options.hashesKept, transferTicks: 2 * electionTicks },
      say: (to, report) => this.#out.send(to, { type: 'stateHash', ...report }),
    })
    this.#autopilot = new Autopilot({
      raft: this.#raft,
      options: { defaults: options.autopilot, tickMs: options.tickMs, electionTicks, everyTicks },
      committed: () => this.committedAt,
      desk: this.#desk,
      decided: (reason) => this.#out.event('autopilot.decided', 'info', { reason }),
    })
    this.#views = new LeaderViews({
      raft: this.#raft,
      options: { everyTicks, patienceTicks: electionTicks },
      autopilot: this.#autopilot,
      send: (to, frame) => this.#out.send(to, frame),
    })
    this.#roles = new RoleWatch(this.#raft, this.#out, {
      memberOf: (peer) => this.memberOf(peer),
      ledNoMore: () => this.#ledNoMore(),
      leaderChanged: () => {
        this.#views.forget(this.#tick)
        this.#requests.hurry()
        // A change is not asked for twice, and a leader that removes itself still answers.
        for (const forward of this.#forwards.takeWhere((one) => !carriesChange(one)))
          this.#giveUp(forward)
      },
    })
  }

  // --- what is so ---------------------------------------------------------------------------------------------

  get raft(): Raft {
    return this.#raft
  }

  get committed(): ConfigurationRecord | null {
    return this.committedAt?.record ?? null
  }

  /** The newest committed configuration; a node adopts its member id from here only (HAZARDS). */
  get committedAt(): ConfigurationAt | null {
    return this.#raft.log.configurationAt(this.#raft.log.appliedIndex)
  }

  memberOf(peer: PeerId): Member | null {
    const members = this.#raft.tracker.configuration.members
    return members.find((member) => peerIdOf(member) === peer) ?? null
  }

  /** This node knows a leader, has applied all that the leader said was committed, and keeps up with it. */
  get caughtUp(): boolean {
    const { role, termCommitted, leader, log } = this.#raft
    if (this.#comparison.quarantined) return false
    if (role === 'leader') return termCommitted && log.appliedIndex === log.commitIndex
    return leader !== null && this.#views.caughtUp
  }

  /** How old a local read may be; null: this node has never had everything. */
  get lagTicks(): number | null {
    return this.#staleness.lagTicks(this.#tick)
  }

  /** The hash of the whole applied state: the machine's and the sessions'. */
  get stateHash(): HashAt {
    return { index: this.#raft.log.appliedIndex, hash: this.#applied.hash() }
  }

  get timeMoves(): number {
    return this.#applied.moves
  }

  get stateHashes(): readonly HashAt[] {
    return this.#applied.hashes
  }

  get comparison(): Pick<StateComparison, 'quarantined' | 'odd' | 'alarm'> {
    return this.#comparison
  }

  /** The leader's view of the members: this node's own as leader, the last one heard as follower. */
  get view(): LeaderView | null {
    return this.#views.view
  }

  /** Nodes of this cluster that have a link to here and are no members. */
  get applicants(): readonly Applicant[] {
    return this.#desk.applicants
  }

  // --- inputs -------------------------------------------------------------------------------------------------

  tick(): void {
    this.#tick++
    this.#raft.tick()
    this.#comparison.tick()
    this.#clock.tick()
    this.#autopilot.tick(this.#tick)
    // A few times a second is exact enough for time-outs of seconds.
    if (this.#tick % 2 === 0) {
      for (const pending of this.#requests.expired(this.#tick)) this.#answers.timeOut(pending)
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
        return this.#views.hear(from, frame)
      case 'stateHash':
        return this.#comparison.hear(from, frame)
      case 'reach':
        return this.#autopilot.heard(from, frame, this.#tick)
      case 'founding':
      case 'removed':
      case 'snapshotPull':
      case 'snapshotChunk':
        return
    }
  }

  /** A node of this cluster that is no member has a link to here. */
  applicantUp(member: Omit<Member, 'memberId'>): void {
    this.#desk.applicantUp(member, this.#tick)
  }

  /** The last link to `peer` closed; `byUs`: this node closed it itself, which says nothing about the peer. */
  linkClosed(peer: PeerId, byUs = false): void {
    this.#desk.applicantDown(peer)
    this.#raft.linkClosed(peer, byUs)
    for (const lost of this.#forwards.takeWhere(({ to }) => to === peer)) this.#giveUp(lost)
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
      return this.#answers.fail(requestId, 'overloaded', 'too many requests wait here')
    }
    if (request.type === 'command' && !isCommand(request.command)) {
      return this.#answers.fail(requestId, 'bad-request', 'the command is malformed')
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

  /** A node whose state is doubted must not give it to others, or let go of the log that it came from. */
  capture(): Captured | null {
    return this.#comparison.quarantined ? null : capture(this.#raft.log, this.#applied)
  }

  /** A snapshot of a leader was loaded. False: it is of no use any more. Index and state change in one step. */
  installed(snapshot: SnapshotAt, applied: AppliedState): boolean {
    invariant(applied.index === snapshot.id.index, 'a state of another index')
    if (!this.#raft.installed(snapshot)) return false
    this.#applied = applied
    return true
  }

  /** Hands leadership to the voter that is furthest, if there is one. */
  handOver(): boolean {
    return this.#desk.handOver()
  }

  /** Answers everything that waits with `closing`. */
  close(): void {
    this.#answers.close()
  }

  drain(): ReplicaEffects {
    this.#roles.note()
    this.#dispatch()
    const ready = this.#raft.ready()
    for (const { to, message } of ready.messages) this.#out.send(to, { type: 'raft', message })
    for (const entry of ready.committed) this.#apply(entry)
    for (const { requestId, index } of ready.reads) this.#reads.confirmed(requestId, index)
    for (const id of ready.readsLost) this.#reads.lost(id)
    // A leader that has removed itself leads no more, but what it has done is done.
    for (const outcome of ready.changes) this.#desk.outcome(outcome)
    this.#desk.applied()
    this.#roles.note()
    this.#views.noteApplied()
    this.#staleness.note(this.#tick, this.#views.heard)
    this.#reads.serveDue()
    this.#views.share(this.#tick)
    const alarm = this.#comparison.turn()
    if (alarm !== null) this.#out.event('state.diverged', 'error', { detail: alarm })
    for (const event of ready.events) this.#out.core(event, (peer) => this.memberOf(peer))
    const more = this.#raft.log.appliedIndex < this.#raft.log.commitIndex
    return this.#out.take(ready, this.#autopilot.takeAlarms(), more)
  }

  // --- sending requests where they can be answered --------------------------------------------------------------

  #dispatch(): void {
    const due = this.#requests.takeDue(this.#tick)
    if (due.length === 0) return
    const [{ role }, { leader }] = [this.#raft, this.#comparison]
    const reads: Pending[] = []
    for (const pending of due) {
      if (leader === null) this.#noLeader(pending)
      else if (pending.request.type === 'query') reads.push(pending)
      else if (role !== 'leader') this.#forwardWrite(leader, pending)
      else if (pending.request.type === 'change') this.#change(pending, pending.request.body)
      else this.#propose(pending, pending.request.command)
    }
    // All reads of a turn share one question to the leader and one confirmation round.
    if (reads.length === 0 || leader === null) return
    if (role !== 'leader') return this.#forward(leader, 'readIndex', reads, NOTHING)
    for (const read of reads) read.dispatched = true
    this.#reads.start({ type: 'own', requestIds: reads.map((read) => read.requestId) })
  }

  #noLeader(pending: Pending): void {
    if (this.#raft.diskFull && pending.request.type === 'command') {
      const why = 'the disk of this node is full and no other node leads'
      return this.#answers.fail(pending.requestId, 'disk-full', why, pending.dispatched)
    }
    this.#requests.requeue(pending.requestId, this.#tick + 1)
  }

  #propose(pending: Pending, command: Uint8Array): void {
    const { requestId } = pending
    const refused = this.#append(command, { type: 'own', requestIds: [requestId] })
    if (refused === null) pending.dispatched = true
    else if (refused === 'overloaded') {
      const message = whyOverloaded(command, this.committed)
      this.#answers.fail(requestId, 'overloaded', message, pending.dispatched)
    } else this.#requests.requeue(requestId, this.#tick + RETRY_TICKS)
  }

  /** Null: it is in the log, or was already, and the asker is answered when it is applied. */
  #append(command: Uint8Array, asker: Asker): 'overloaded' | 'not-leader' | null {
    if (this.#proposals.join(command, asker)) return null
    if (!mayBeAppended(command, this.committed)) return 'overloaded'
    const result = this.#raft.propose('command', command)
    if (!result.ok) return result.reason === 'overloaded' ? 'overloaded' : 'not-leader'
    this.#proposals.add(result.id, command, asker)
    return null
  }

  #change(pending: Pending, body: Uint8Array): void {
    pending.dispatched = true
    this.#desk.request({ type: 'own', requestIds: [pending.requestId] }, body)
  }

  #forwardWrite(leader: PeerId, pending: Pending): void {
    const { request } = pending
    if (request.type === 'change') this.#forward(leader, 'change', [pending], request.body)
    else if (request.type === 'command')
      this.#forward(leader, 'command', [pending], request.command)
  }

  #forward(
    to: PeerId,
    operation: 'command' | 'readIndex' | 'change',
    requests: readonly Pending[],
    body: Uint8Array,
  ): void {
    for (const pending of requests) pending.dispatched = true
    const requestId = this.#forwards.add(to, requests, this.#tick)
    this.#out.send(to, { type: 'forward', requestId, operation, body })
  }

  /** A forward that stays without an answer is sent again: frames may be dropped without a closed link. */
  #resendForwards(): void {
    for (const lost of this.#forwards.takeWhere(({ againTick }) => againTick <= this.#tick)) {
      mark('replica: a forward is sent again')
      for (const pending of lost.requests) pending.repeats++
      this.#giveUp(lost)
    }
  }

  /** The leader that was asked may have done it, or may do it yet: only what is safe to repeat is sent again. */
  #giveUp(forward: Forward): void {
    for (const { requestId, request } of forward.requests) {
      if (request.type !== 'change') this.#requests.requeue(requestId, this.#tick)
      else if (this.#requests.get(requestId) !== undefined)
        this.#answers.fail(requestId, 'timeout', 'no answer from the leader; see `members`', true)
    }
  }

  /** The leader that was asked has not done it. */
  #giveBack(forward: Forward, delayTicks: number): void {
    for (const { requestId } of forward.requests) {
      this.#requests.requeue(requestId, this.#tick + delayTicks)
    }
  }

  /** Sends whatever an asker wanted back to where it came from: this node does not lead any more. */
  #refuse(asker: Asker): void {
    if (asker.type === 'peer') return this.#answers.reply(asker, 'not-leader')
    for (const requestId of asker.requestIds) this.#requests.requeue(requestId, this.#tick)
  }

  // --- requests of peers ----------------------------------------------------------------------------------------

  #onForward(from: PeerId, frame: PeerFrame & { type: 'forward' }): void {
    const asker: Asker = { type: 'peer', peer: from, requestId: frame.requestId }
    // A node that does not lead says so; it never forwards a forwarded request (HAZARDS: forwarding loop).
    if (this.#raft.role !== 'leader' || this.#comparison.quarantined) {
      mark('replica: a forward reaches a node that does not lead')
      return this.#answers.reply(asker, 'not-leader')
    }
    if (frame.operation === 'readIndex') return this.#reads.start(asker)
    if (frame.operation === 'change') return this.#desk.request(asker, frame.body)
    if (!isCommand(frame.body)) return this.#answers.reply(asker, 'bad-request')
    const refused = this.#append(frame.body.slice(), asker)
    if (refused !== null) this.#answers.reply(asker, refused)
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
        this.#answers.refused(requestId, frame.outcome)
      } else if (pending.request.type === 'change') {
        this.#answers.finishChange(requestId, decodeChangeAnswer(frame.body))
      } else if (pending.request.type === 'command') {
        this.#answers.finish(requestId, { ok: true, index: frame.index, body: frame.body })
      } else {
        this.#reads.wait(frame.index, [requestId])
      }
    }
  }

  // --- applying -------------------------------------------------------------------------------------------------

  #apply(entry: Entry): void {
    const outcome = this.#applied.apply(entry)
    this.#clock.applied(entry)
    const proposed = this.#proposals.applied(entry)
    if (proposed === null) return
    for (const asker of proposed.askers) {
      // Another leader's entry took the place: what was asked for is not in the log, or stands elsewhere in it.
      if (!proposed.same || this.#comparison.quarantined) this.#refuse(asker)
      else this.#answers.done(asker, entry.index, outcome)
    }
  }

  #answerQuery(requestId: number, query: Uint8Array): void {
    const { quarantined, alarm } = this.#comparison
    if (quarantined) return this.#answers.fail(requestId, 'no-leader', alarm ?? 'in quarantine')
    try {
      const body = this.#applied.query(query)
      this.#answers.finish(requestId, { ok: true, index: this.#raft.log.appliedIndex, body })
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.#answers.fail(requestId, 'bad-request', error.message)
    }
  }

  // --- leadership -----------------------------------------------------------------------------------------------

  /** What this node proposed may still commit under the next leader; the sessions make asking again safe. */
  #ledNoMore(): void {
    for (const asker of this.#proposals.abandon()) this.#refuse(asker)
    this.#desk.ledNoMore()
  }
}
