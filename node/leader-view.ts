/** What the leader tells its followers of the members, for `status` and readiness. It decides nothing. Pure. */
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import type { Raft } from './raft/raft.ts'
import { type PeerId, peerIdOf, type Term } from './raft/types.ts'

export interface LeaderView {
  readonly commitIndex: number
  readonly lastIndex: number
  readonly members: readonly {
    readonly memberId: number
    readonly matchIndex: number
    readonly alive: boolean
  }[]
}

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
    )
  )
}

/** The last view that was heard from the present leader, and when this node, as leader, tells its own. */
export class LeaderViews {
  readonly #raft: Raft
  readonly #everyTicks: number
  readonly #patienceTicks: number
  #heard: LeaderView | null = null
  /** Everything that the present leader had committed when it last said so is applied here. */
  #caughtUp = false
  #nextTick = 0

  constructor(
    raft: Raft,
    options: { readonly everyTicks: number; readonly patienceTicks: number },
  ) {
    this.#raft = raft
    this.#everyTicks = options.everyTicks
    this.#patienceTicks = options.patienceTicks
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
    this.#nextTick = tick
  }

  /** Null when nothing is due. */
  takeDue(tick: number): Uint8Array | null {
    if (this.#raft.role !== 'leader' || tick < this.#nextTick) return null
    this.#nextTick = tick + this.#everyTicks
    return encodeAsciiJson(viewOf(this.#raft, this.#patienceTicks))
  }

  hear(from: PeerId, term: Term, body: Uint8Array): void {
    if (term !== this.#raft.term || this.#raft.leader !== from) return
    const view = decodeAsciiJson(body)
    if (isLeaderView(view)) this.#heard = view
  }

  /** Judged after applying: under load, what the leader speaks of has arrived with the same frames and is applied only now. */
  noteApplied(): void {
    const known = this.#heard?.commitIndex ?? Number.POSITIVE_INFINITY
    if (this.#raft.log.appliedIndex >= known) this.#caughtUp = true
  }
}
