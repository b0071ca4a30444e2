/** What the leader tells its followers of the members, for `status` and readiness. It decides nothing. Pure. */
import type { Raft } from './raft/raft.ts'
import { peerIdOf } from './raft/types.ts'

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
