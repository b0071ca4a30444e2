/**
 * The leader's desk for changes of the members: who waits for admission, what an operator may mean by an id, which changes are
 * under way and who wants to hear of their end. Pure. The rules of a change are in raft/change.ts and raft/reconfiguration.ts.
 */
import { type ErrorCode, errorBody } from '../client/protocol.ts'
import {
  type ChangeAnswer,
  type ChangeReport,
  type ChangeRequest,
  decodeChangeRequest,
} from './change-request.ts'
import { type ConfChange, isJoint } from './raft/change.ts'
import { mark } from './raft/marks.ts'
import type { Raft } from './raft/raft.ts'
import type { ChangeOutcome, ChangeRefusal } from './raft/reconfiguration.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Index,
  type Member,
  type PeerId,
  peerIdOf,
} from './raft/types.ts'

/** Linked, of this cluster, and in no configuration. */
export interface Applicant extends Omit<Member, 'memberId'> {
  readonly sinceTick: number
}

export interface DeskParts<Asker> {
  readonly raft: Raft
  /** The configuration that is committed and applied. */
  readonly committed: () => { readonly index: Index; readonly record: ConfigurationRecord } | null
  readonly answer: (asker: Asker, answer: ChangeAnswer) => void
  /** Those that must not lead, if there is anybody else. */
  readonly unfit: () => ReadonlySet<PeerId>
  /** Nothing came of it because this node does not lead: it may be asked for again elsewhere. */
  readonly giveBack: (asker: Asker) => void
}

interface Waiting<Asker> {
  readonly asker: Asker
  /** Null until the first entry of the change is in the log. */
  index: Index | null
  readonly before: ConfigurationRecord
}

const CODES: Record<Exclude<ChangeRefusal, 'not-leader'>, ErrorCode> = {
  busy: 'overloaded',
  'bad-request': 'bad-request',
  'not-found': 'not-found',
  'compare-failed': 'compare-failed',
  unsafe: 'unsafe',
}
/** More than a cluster may have members; who comes after these is heard of when one of them has gone. */
const APPLICANTS_MAX = 128
const NODE_ID_PREFIX_MIN = 4

export class MembershipDesk<Asker> {
  readonly #parts: DeskParts<Asker>
  readonly #applicants = new Map<PeerId, Applicant>()
  readonly #waiting = new Map<number, Waiting<Asker>>()
  #nextTicket = 1

  constructor(parts: DeskParts<Asker>) {
    this.#parts = parts
  }

  /** Those that are in no configuration, in the order in which they came. */
  get applicants(): Applicant[] {
    const { tracker, log } = this.#parts.raft
    const known = new Set(tracker.configuration.members.map(peerIdOf))
    // Who was removed stops. Were it let in again as it is, it would meet its own removal in the log, and stop at every start.
    const removed = new Set(log.configuration?.record.removed)
    return [...this.#applicants]
      .filter(([peer, one]) => !known.has(peer) && !removed.has(one.storageId))
      .map(([, one]) => one)
  }

  applicantUp(member: Omit<Member, 'memberId'>, tick: number): void {
    const peer = peerIdOf(member)
    if (!this.#applicants.has(peer) && this.#applicants.size >= APPLICANTS_MAX) return
    const sinceTick = this.#applicants.get(peer)?.sinceTick ?? tick
    const { nodeKey, storageId, name, urls } = member
    this.#applicants.set(peer, { nodeKey, storageId, name, urls, sinceTick })
  }

  /** Members too are noted while they have a link to here. */
  isLinked(peer: PeerId): boolean {
    return this.#applicants.has(peer)
  }

  /** Members whose state is in doubt (divergence.ts). */
  get unfit(): ReadonlySet<PeerId> {
    return this.#parts.unfit()
  }

  applicantDown(peer: PeerId): void {
    this.#applicants.delete(peer)
  }

  /** A request that has reached the leader. */
  request(asker: Asker, body: Uint8Array): void {
    const request = decodeChangeRequest(body)
    if (request === null) return this.#refuse(asker, 'bad-request', 'the request is malformed')
    const { raft } = this.#parts
    if (request.verb === 'transfer') return this.#transfer(asker, request)
    const { configuration } = raft.tracker
    const meant = this.#meaning(request, configuration)
    if (typeof meant === 'string') return this.#refuse(asker, 'not-found', meant)
    const options = {
      ifIndex: request.ifConfig ?? null,
      reason: request.reason ?? `${request.verb} ${request.id ?? ''}`.trim(),
    }
    const before = raft.log.configuration?.record
    if (before === undefined) return this.#parts.giveBack(asker)
    if (request.dryRun === true) return this.#dryRun(asker, [meant], options, before)
    this.#change([meant], options, { asker, index: null, before })
  }

  /** Hands leadership to the voter that is furthest, if there is one. */
  handOver(): boolean {
    const { raft, unfit } = this.#parts
    const best = raft.tracker.furthestVoter(unfit())
    return best !== null && raft.transferLeadership(best)
  }

  /**
   * The answer leaves at once, while this node still leads; whoever wants to know how it ended asks who leads. It ends with
   * another leader within an election timeout, or this one leads on (thesis 3.10).
   */
  #transfer(asker: Asker, request: ChangeRequest): void {
    const { raft, unfit, answer, giveBack } = this.#parts
    if (raft.role !== 'leader') return giveBack(asker)
    const { record, index: configIndex = 0 } = raft.log.configuration ?? {}
    const { configuration } = raft.tracker
    if (raft.tracker.voters.every((voter) => voter === raft.self)) {
      return this.#refuse(asker, 'bad-request', 'nobody else is a voter')
    }
    const meant = request.id === undefined ? null : pick(configuration.members, request.id)
    if (typeof meant === 'string') return this.#refuse(asker, 'not-found', meant)
    const target = meant === null ? raft.tracker.furthestVoter(unfit()) : peerIdOf(meant)
    if (target === null) return this.#refuse(asker, 'unsafe', 'no other voter answers')
    const member = configuration.members.find((one) => peerIdOf(one) === target)
    const who = `member ${member?.memberId} (${member?.name})`
    if (!raft.tracker.voters.includes(target)) {
      return this.#refuse(asker, 'bad-request', `${who} is no voter`)
    }
    const dryRun = request.dryRun === true
    const isDone = target === raft.self
    if (!isDone && !dryRun && !raft.transferLeadership(target)) {
      return this.#refuse(asker, 'overloaded', 'a change of the members is under way')
    }
    const { voters, learners } = record?.configuration ?? configuration
    const changes = isDone ? [] : [`leadership goes to ${who}`]
    answer(asker, { ok: true, report: { configIndex, changes, dryRun, voters, learners } })
  }

  /** What an operator would have asked for, by the autopilot; nobody waits for the answer. */
  decide(changes: readonly ConfChange[], reason: string): void {
    this.#parts.raft.changeConfiguration(this.#nextTicket++, changes, { ifIndex: null, reason })
  }

  /** What the core says of a change that was asked for. */
  outcome({ ticket, result }: ChangeOutcome): void {
    const waiting = this.#waiting.get(ticket)
    if (waiting === undefined) return
    if (result.ok) {
      waiting.index = result.id.index
      const { role, log } = this.#parts.raft
      // Appended in the very turn in which the leadership ended: nobody else will tell that it may come to nothing.
      if (role !== 'leader' && result.id.index > log.commitIndex) this.#inDoubt(ticket, waiting)
      return
    }
    this.#waiting.delete(ticket)
    if (result.code === 'not-leader') return this.#parts.giveBack(waiting.asker)
    this.#refuse(waiting.asker, CODES[result.code], result.message)
  }

  /** After every turn in which a configuration may have been applied: whoever waited for it hears. */
  applied(): void {
    if (this.#waiting.size === 0) return
    const at = this.#parts.committed()
    if (at === null || isJoint(at.record.configuration)) return
    for (const [ticket, { asker, index, before }] of this.#waiting) {
      if (index === null || index > at.index) continue
      this.#waiting.delete(ticket)
      const report = reportOf(at.index, before, at.record, false)
      this.#parts.answer(asker, { ok: true, report })
    }
  }

  /** This node leads no more. What is in the log may be committed by the next leader, or not. */
  ledNoMore(): void {
    for (const [ticket, waiting] of this.#waiting) {
      if (waiting.index !== null) this.#inDoubt(ticket, waiting)
    }
  }

  #inDoubt(ticket: number, { asker }: Waiting<Asker>): void {
    mark('membership: the leader changes during a change')
    this.#waiting.delete(ticket)
    const message = 'the leader changed before the change was settled; see `members`'
    this.#parts.answer(asker, { ok: false, error: errorBody('timeout', message, true) })
  }

  #change(
    changes: readonly ConfChange[],
    options: { readonly ifIndex: Index | null; readonly reason: string },
    waiting: Waiting<Asker>,
  ): void {
    const ticket = this.#nextTicket++
    this.#waiting.set(ticket, waiting)
    this.#parts.raft.changeConfiguration(ticket, changes, options)
  }

  #dryRun(
    asker: Asker,
    changes: readonly ConfChange[],
    options: { readonly ifIndex: Index | null; readonly reason: string },
    before: ConfigurationRecord,
  ): void {
    const { raft, answer, giveBack } = this.#parts
    const planned = raft.planChange(changes, options)
    if (planned.ok) {
      const report = reportOf(raft.log.configuration?.index ?? 0, before, planned.record, true)
      return answer(asker, { ok: true, report })
    }
    if (planned.code === 'not-leader') return giveBack(asker)
    this.#refuse(asker, CODES[planned.code], planned.message)
  }

  #refuse(asker: Asker, code: ErrorCode, message: string): void {
    this.#parts.answer(asker, { ok: false, error: errorBody(code, message) })
  }

  /** What the request means for these members, or why it means nothing. */
  #meaning(request: ChangeRequest, configuration: Configuration): ConfChange | string {
    const { verb, id = '', settings = {} } = request
    if (verb === 'transfer') return 'leadership is no member'
    if (verb === 'settings') return { type: 'settings', settings }
    if (verb === 'add') {
      const { applicants } = this
      const found = pick(applicants, id)
      if (typeof found === 'string') return `nobody who waits for admission is called ${id}`
      return { type: 'add', member: found }
    }
    const member = pick(configuration.members, id)
    if (typeof member === 'string') return member
    const { memberId } = member
    if (verb !== 'replace') return { type: verb, memberId }
    const successor = this.#successor(request.with, configuration)
    if (typeof successor === 'string') return successor
    return { type: 'replace', memberId, with: successor.memberId, keep: false }
  }

  #successor(id: string | undefined, configuration: Configuration): Member | string {
    if (id !== undefined) return pick(configuration.members, id)
    const { progress } = this.#parts.raft.tracker
    const reached = (member: Member): Index => progress.get(peerIdOf(member))?.matchIndex ?? 0
    const [learner] = configuration.members
      .filter(({ memberId }) => configuration.learners.includes(memberId))
      .filter((member) => progress.get(peerIdOf(member))?.active === true)
      .sort((a, b) => reached(b) - reached(a))
    return learner ?? 'there is no stand-by alive that could take the place'
  }
}

/** By memberId, by name, or by a prefix of the nodeId that only one has. A sentence when there is no such one. */
function pick<M extends Omit<Member, 'memberId'> & { readonly memberId?: number }>(
  members: readonly M[],
  id: string,
): M | string {
  const byId = members.find((member) => String(member.memberId ?? '') === id)
  if (byId !== undefined) return byId
  const named = members.filter((member) => member.name === id)
  const isPrefix = id.length >= NODE_ID_PREFIX_MIN && /^[0-9a-f]+$/.test(id)
  const meant =
    named.length > 0 || !isPrefix
      ? named
      : members.filter((member) => member.nodeKey.startsWith(id))
  const [only] = meant
  if (only === undefined) return `there is no member ${id}`
  return meant.length === 1 ? only : `${id} may be any of ${meant.length} members`
}

function reportOf(
  configIndex: Index,
  before: ConfigurationRecord,
  record: ConfigurationRecord,
  dryRun: boolean,
): ChangeReport {
  const { voters, learners } = record.configuration
  return {
    configIndex,
    changes: [
      ...differences(before.configuration, record.configuration),
      ...Object.entries(record.settings)
        .filter(([name, value]) => before.settings[name] !== value)
        .map(([name, value]) => `${name} = ${value}`),
    ],
    dryRun,
    voters,
    learners,
  }
}

function differences(before: Configuration, after: Configuration): string[] {
  const texts: string[] = []
  const ids = new Set([...before.members, ...after.members].map(({ memberId }) => memberId))
  for (const id of [...ids].sort((a, b) => a - b)) {
    const was = roleIn(before, id)
    const is = roleIn(after, id)
    if (was === is) continue
    const name = [...after.members, ...before.members].find((one) => one.memberId === id)?.name
    const who = `member ${id} (${name ?? '?'})`
    const part = is === 'learner' ? 'stand-by' : is
    if (part === null) texts.push(`${who} is removed`)
    else texts.push(was === null ? `${who} enters as a ${part}` : `${who} becomes a ${part}`)
  }
  return texts
}

function roleIn(configuration: Configuration, memberId: number): 'voter' | 'learner' | null {
  if (configuration.voters.includes(memberId)) return 'voter'
  return configuration.learners.includes(memberId) ? 'learner' : null
}
