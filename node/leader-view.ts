/** What the leader tells its followers of the members, for `status` and readiness. It decides nothing. Pure. */
import type { PeerFrame } from './peer-frame.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import { MEMBERS_MAX } from './raft/configuration.ts'
import { mark } from './raft/marks.ts'
import type { Raft } from './raft/raft.ts'
import { type MemberId, type PeerId, peerIdOf } from './raft/types.ts'

export interface LeaderView {
  readonly commitIndex: number
  readonly lastIndex: number
  readonly members: readonly {
    readonly memberId: number
    readonly matchIndex: number
    readonly alive: boolean
  }[]
  /** Voters silent for too long: the leader asks whether the receiver reaches them. Absent: nobody is missing. */
  readonly missing?: readonly MemberId[]
  /** What its autopilot wants an operator to see, wherever he looks. Absent: nothing. A later version may know other kinds. */
  readonly alarms?: readonly ViewedAlarm[]
}

export interface ViewedAlarm {
  readonly kind: string
  readonly detail: string
}

/** Who has not applied what a view spoke of when the next one comes, so often in a row, does not keep up: its reads wait too long. */
const BEHIND_VIEWS = 3
const ALARMS_MAX = 16
const ALARM_CHARS_MAX = 1000

/** `patienceTicks`: a member that was not heard for so long is not alive. */
export function viewOf(raft: Raft, patienceTicks: number): LeaderView {
  const { log, tracker } = raft
  const members = tracker.configuration.members.map((member) => {
    const { memberId } = member
    const peer = peerIdOf(member)
    if (peer === raft.self) return { memberId, matchIndex: log.stableIndex, alive: true }
    const progress = tracker.progress.get(peer)
    const alive = (progress?.silentTicks ?? Number.POSITIVE_INFINITY) < patienceTicks
    return { memberId, matchIndex: progress?.matchIndex ?? 0, alive }
  })
  return { commitIndex: log.commitIndex, lastIndex: log.lastIndex, members }
}

export function isLeaderView(value: unknown): value is LeaderView {
  const view = value as LeaderView | null
  return (
    typeof view === 'object' &&
    view !== null &&
    Number.isSafeInteger(view.commitIndex) &&
    Number.isSafeInteger(view.lastIndex) &&
    Array.isArray(view.members) &&
    view.members.every(
      (member) =>
        Number.isSafeInteger(member?.memberId) &&
        Number.isSafeInteger(member.matchIndex) &&
        typeof member.alive === 'boolean',
    ) &&
    (view.missing === undefined || isMemberIds(view.missing)) &&
    (view.alarms === undefined || isAlarms(view.alarms))
  )
}

function isAlarms(value: unknown): boolean {
  const isText = (text: unknown): boolean =>
    typeof text === 'string' && text.length <= ALARM_CHARS_MAX
  return (
    Array.isArray(value) &&
    value.length <= ALARMS_MAX &&
    value.every((alarm) => isText(alarm?.kind) && isText(alarm.detail))
  )
}

export function isMemberIds(value: unknown): value is MemberId[] {
  return (
    Array.isArray(value) &&
    value.length <= MEMBERS_MAX &&
    value.every((id) => Number.isSafeInteger(id) && id >= 1)
  )
}

/** Who wants to know which members reach others, and can say it (autopilot-driver.ts). */
interface Asking {
  readonly missing: readonly MemberId[]
  readonly alarms: readonly ViewedAlarm[]
  reach(asked: readonly MemberId[]): PeerFrame
}

/** The last view that was heard from the present leader, and when this node, as leader, tells its own. */
export class LeaderViews {
  readonly #raft: Raft
  readonly #everyTicks: number
  readonly #patienceTicks: number
  readonly #autopilot: Asking
  readonly #send: (to: PeerId, frame: PeerFrame) => void
  #heard: LeaderView | null = null
  /** Everything that the present leader had committed when it said so is applied here, and this node has kept up since. */
  #caughtUp = false
  /** Views in a row at which the one before was not applied yet. */
  #behind = 0
  #nextTick = 0

  constructor(parts: {
    readonly raft: Raft
    readonly options: { readonly everyTicks: number; readonly patienceTicks: number }
    readonly autopilot: Asking
    readonly send: (to: PeerId, frame: PeerFrame) => void
  }) {
    this.#raft = parts.raft
    this.#everyTicks = parts.options.everyTicks
    this.#patienceTicks = parts.options.patienceTicks
    this.#autopilot = parts.autopilot
    this.#send = parts.send
  }

  get caughtUp(): boolean {
    return this.#caughtUp
  }

  /** The last one that the present leader told; null on the leader. */
  get heard(): LeaderView | null {
    return this.#heard
  }

  /** This node's own as leader, the last one heard as follower. */
  get view(): LeaderView | null {
    return this.#raft.role === 'leader' ? viewOf(this.#raft, this.#patienceTicks) : this.#heard
  }

  /** Another leader or term: what was heard is of no use any more. */
  forget(tick: number): void {
    this.#heard = null
    this.#caughtUp = false
    this.#behind = 0
    this.#nextTick = tick
  }

  /** Tells every member, when it is due. */
  share(tick: number): void {
    if (this.#raft.role !== 'leader' || tick < this.#nextTick) return
    this.#nextTick = tick + this.#everyTicks
    const { missing } = this.#autopilot
    const alarms = this.#autopilot.alarms.slice(0, ALARMS_MAX).map(({ kind, detail }) => {
      return { kind, detail: detail.slice(0, ALARM_CHARS_MAX) }
    })
    const body = encodeAsciiJson({
      ...viewOf(this.#raft, this.#patienceTicks),
      ...(missing.length === 0 ? {} : { missing }),
      ...(alarms.length === 0 ? {} : { alarms }),
    })
    const { term } = this.#raft
    for (const peer of this.#raft.tracker.peers)
      this.#send(peer, { type: 'leaderView', term, body })
  }

  /** The leader shows what it sees, and may ask what this node sees of voters that it misses. */
  hear(from: PeerId, { term, body }: PeerFrame & { type: 'leaderView' }): void {
    if (term !== this.#raft.term || this.#raft.leader !== from) return
    const view = decodeAsciiJson(body)
    if (!isLeaderView(view)) return
    if (this.#heard !== null) this.#noteLag(this.#heard)
    this.#heard = view
    if (view.missing !== undefined) this.#send(from, this.#autopilot.reach(view.missing))
  }

  /** A full or slow disk acknowledges too little, and its leader sends it no more than a window of what comes next. */
  #noteLag({ commitIndex }: LeaderView): void {
    this.#behind = this.#raft.log.appliedIndex < commitIndex ? this.#behind + 1 : 0
    if (this.#behind < BEHIND_VIEWS || !this.#caughtUp) return
    mark('leader view: this node does not keep up')
    this.#caughtUp = false
  }

  /** Judged after applying: under load, what the leader speaks of has arrived with the same frames and is applied only now. */
  noteApplied(): void {
    const known = this.#heard?.commitIndex ?? Number.POSITIVE_INFINITY
    if (this.#raft.log.appliedIndex >= known) this.#caughtUp = true
  }
}
