/**
 * The autopilot beside a replica: while this node leads, it shows the rules of autopilot.ts what is known of the members, about
 * once a second, and asks for the change that they want. It also gathers which members others reach, because a leader that is
 * badly connected must not take a vote from a member that is well. Pure. It must never hold an opinion of its own.
 */
import {
  type Advice,
  type Applicant,
  type AutopilotAlarm,
  type AutopilotSettings,
  decide,
  type MemberSight,
} from './autopilot.ts'
import { isMemberIds } from './leader-view.ts'
import type { PeerFrame } from './peer-frame.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import type { ConfChange } from './raft/change.ts'
import { mark } from './raft/marks.ts'
import type { Raft } from './raft/raft.ts'
import { CAUGHT_UP_ENTRIES } from './raft/reconfiguration.ts'
import {
  type ConfigurationRecord,
  type Index,
  type Member,
  type MemberId,
  type PeerId,
  peerIdOf,
  type Term,
} from './raft/types.ts'

/** What holds where the cluster's own settings do not say it. */
export type AutopilotDefaults = Pick<AutopilotSettings, 'maxVoters' | 'replaceAfterMs' | 'admit'>

export interface AutopilotOptions {
  /** Null: the members change only when somebody asks for it. */
  readonly defaults: AutopilotDefaults | null
  readonly tickMs: number
  readonly electionTicks: number
  /** How often the rules are asked, and the members tell whom they reach. */
  readonly everyTicks: number
}

/** Where changes are asked for, and who is there. */
export interface Desk {
  /** Linked, of this cluster, in no configuration. */
  readonly applicants: readonly (Omit<Member, 'memberId'> & { readonly sinceTick: number })[]
  /** This node has a link to it. */
  isLinked(peer: PeerId): boolean
  /** Their state is in doubt: they get no vote. */
  readonly unfit: ReadonlySet<PeerId>
  decide(changes: readonly ConfChange[], reason: string): void
}

export interface AutopilotParts {
  readonly raft: Raft
  readonly options: AutopilotOptions
  /** The configuration that is committed and applied. */
  readonly committed: () => { readonly index: Index; readonly record: ConfigurationRecord } | null
  readonly desk: Desk
  readonly decided: (reason: string) => void
}

/** A stand-by is trusted with a vote when it was heard for so many election timeouts without a break. */
const STABLE_TIMEOUTS = 2
/** What a member said of its links holds for so many rounds. */
const REPORT_ROUNDS = 3
/** Far above a list of all members. */
const REACH_BYTES_MAX = 4096

export class Autopilot {
  readonly #parts: AutopilotParts
  /** What follows belongs to this leadership; a new one begins with nothing, its timers too. */
  #term: Term | null = null
  #dueTick = 0
  readonly #aliveSince = new Map<PeerId, number>()
  readonly #reports = new Map<PeerId, { readonly tick: number; readonly reached: Set<MemberId> }>()
  #missing: readonly MemberId[] = []
  #decided = ''
  #alarms: readonly AutopilotAlarm[] = []
  #alarmsChanged = false

  constructor(parts: AutopilotParts) {
    this.#parts = parts
  }

  /** Voters silent for too long: every member is asked whether it reaches them. */
  get missing(): readonly MemberId[] {
    return this.#missing
  }

  /** All that stand while this node leads. */
  get alarms(): readonly AutopilotAlarm[] {
    return this.#alarms
  }

  tick(tick: number): void {
    const { raft, options } = this.#parts
    const leading = raft.role === 'leader' ? raft.term : null
    if (leading !== this.#term) this.#restart(leading, tick)
    const { defaults } = options
    if (leading === null || defaults === null || tick < this.#dueTick) return
    this.#dueTick = tick + options.everyTicks
    const at = this.#parts.committed()
    if (at === null) return
    const self = at.record.configuration.members.find((one) => peerIdOf(one) === raft.self)
    if (self === undefined) return
    const settings = this.#settings(at.record, defaults)
    this.#act(this.#advice(at, { selfId: self.memberId, settings }, tick))
  }

  /** A member says which of those that are missing it reaches. */
  heard(from: PeerId, { term, body }: PeerFrame & { type: 'reach' }, tick: number): void {
    const reached = decodeReach(body)
    if (term !== this.#term || reached === null) return
    if (!this.#parts.raft.tracker.progress.has(from)) return
    this.#reports.set(from, { tick, reached: new Set(reached) })
  }

  /** What this node, as a follower, answers when it is asked. */
  reach(asked: readonly MemberId[]): PeerFrame {
    const { raft, desk } = this.#parts
    const { members } = raft.tracker.configuration
    const reached = asked.filter((id) =>
      members.some((member) => member.memberId === id && desk.isLinked(peerIdOf(member))),
    )
    return { type: 'reach', term: raft.term, body: encodeReach(reached) }
  }

  /** All that stand now, when that has changed; else null. */
  takeAlarms(): readonly AutopilotAlarm[] | null {
    if (!this.#alarmsChanged) return null
    this.#alarmsChanged = false
    return this.#alarms
  }

  #restart(term: Term | null, tick: number): void {
    this.#term = term
    this.#dueTick = tick + this.#parts.options.everyTicks
    this.#aliveSince.clear()
    this.#reports.clear()
    this.#missing = []
    this.#decided = ''
    this.#show([])
  }

  #advice(
    at: { readonly index: Index; readonly record: ConfigurationRecord },
    { selfId, settings }: { readonly selfId: MemberId; readonly settings: AutopilotSettings },
    tick: number,
  ): Advice {
    const { raft, options } = this.#parts
    const { record } = at
    const { configuration } = record
    const others = configuration.members.filter((member) => member.memberId !== selfId)
    this.#noteAlive(others, tick)
    const overdueTicks = settings.replaceAfterMs / options.tickMs
    this.#missing = others
      .filter(({ memberId }) => configuration.voters.includes(memberId))
      .filter((member) => this.#silentTicks(member) >= overdueTicks)
      .map(({ memberId }) => memberId)
    const applicants = this.#parts.desk.applicants.map(
      ({ sinceTick, ...member }): Applicant => ({
        waitingMs: (tick - sinceTick) * options.tickMs,
        ...member,
      }),
    )
    return decide({
      record,
      selfId,
      busy: !raft.termCommitted || raft.log.configuration?.index !== at.index,
      sights: others.map((member) => this.#sight(member, others, applicants, tick)),
      applicants,
      settings,
    })
  }

  #settings({ settings }: ConfigurationRecord, defaults: AutopilotDefaults): AutopilotSettings {
    const { tickMs, electionTicks } = this.#parts.options
    const { maxVoters, replaceAfterMs, admit } = settings
    const patienceMs = electionTicks * tickMs
    return {
      maxVoters: typeof maxVoters === 'number' ? maxVoters : defaults.maxVoters,
      replaceAfterMs: Math.max(
        patienceMs,
        typeof replaceAfterMs === 'number' ? replaceAfterMs : defaults.replaceAfterMs,
      ),
      admit: admit === 'auto' || admit === 'approve' ? admit : defaults.admit,
      patienceMs,
      stableMs: STABLE_TIMEOUTS * patienceMs,
      // Less than the core asks for, so that what is proposed here is rarely refused there.
      lagMax: CAUGHT_UP_ENTRIES / 2,
    }
  }

  #noteAlive(others: readonly Member[], tick: number): void {
    const { electionTicks } = this.#parts.options
    const present = new Set(others.map(peerIdOf))
    for (const peer of this.#aliveSince.keys())
      if (!present.has(peer)) this.#aliveSince.delete(peer)
    for (const member of others) {
      const peer = peerIdOf(member)
      if (this.#silentTicks(member) >= electionTicks) this.#aliveSince.delete(peer)
      else if (!this.#aliveSince.has(peer)) this.#aliveSince.set(peer, tick)
    }
  }

  #sight(
    member: Member,
    others: readonly Member[],
    applicants: readonly Applicant[],
    tick: number,
  ): MemberSight {
    const { raft, options } = this.#parts
    const peer = peerIdOf(member)
    const aliveSince = this.#aliveSince.get(peer)
    const matchIndex = raft.tracker.progress.get(peer)?.matchIndex ?? 0
    const isAlive = aliveSince !== undefined
    const isTrusted = isAlive && !this.#parts.desk.unfit.has(peer)
    // The same key alive with another disk: among newcomers, or as a member that came later.
    const isSucceeded =
      applicants.some(({ nodeKey }) => nodeKey === member.nodeKey) ||
      others.some(
        (other) =>
          other.nodeKey === member.nodeKey &&
          other.memberId > member.memberId &&
          this.#aliveSince.has(peerIdOf(other)),
      )
    return {
      memberId: member.memberId,
      lag: Math.max(0, raft.log.lastIndex - matchIndex),
      aliveMs: isTrusted ? (tick - aliveSince) * options.tickMs : 0,
      silentMs: this.#silentTicks(member) * options.tickMs,
      reachable: this.#isReachable(member, others, tick),
      storageLost: !isAlive && !this.#parts.desk.isLinked(peer) && isSucceeded,
    }
  }

  /** True also where somebody who is alive has not said it: silence is no evidence. */
  #isReachable(member: Member, others: readonly Member[], tick: number): boolean {
    if (this.#parts.desk.isLinked(peerIdOf(member))) return true
    const { everyTicks } = this.#parts.options
    return others.some((other) => {
      const peer = peerIdOf(other)
      if (other === member || !this.#aliveSince.has(peer)) return false
      const report = this.#reports.get(peer)
      const isFresh = report !== undefined && tick - report.tick <= REPORT_ROUNDS * everyTicks
      return !isFresh || report.reached.has(member.memberId)
    })
  }

  #silentTicks(member: Member): number {
    return this.#parts.raft.tracker.progress.get(peerIdOf(member))?.silentTicks ?? 0
  }

  #act({ decision, alarms }: Advice): void {
    this.#show(alarms)
    if (decision === null) {
      this.#decided = ''
      return
    }
    // A change that is refused, or waits for both majorities, is wanted again a second later: that is no news.
    if (decision.reason === this.#decided) mark('autopilot: the same change is wanted again')
    else this.#parts.decided(decision.reason)
    this.#decided = decision.reason
    this.#parts.desk.decide(decision.changes, decision.reason)
  }

  #show(alarms: readonly AutopilotAlarm[]): void {
    const isSame =
      alarms.length === this.#alarms.length &&
      alarms.every(({ kind, detail }, i) => {
        const before = this.#alarms[i]
        return before?.kind === kind && before.detail === detail
      })
    if (isSame) return
    this.#alarms = alarms
    this.#alarmsChanged = true
  }
}

export function encodeReach(reached: readonly MemberId[]): Uint8Array {
  return encodeAsciiJson(reached)
}

/** Null when the bytes are no list of members. */
export function decodeReach(bytes: Uint8Array): MemberId[] | null {
  const value = bytes.length > REACH_BYTES_MAX ? undefined : decodeAsciiJson(bytes)
  return isMemberIds(value) ? value : null
}
