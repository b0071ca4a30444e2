/**
 * How old a local read may be, in ticks: the time since the last word from a leader after which everything that the leader then said
 * was committed has been applied here. Pure. Hearing heartbeats alone makes nobody fresh: a follower that is behind hears them too.
 */
import type { LeaderView } from './leader-view.ts'
import type { Raft } from './raft/raft.ts'

export class Staleness {
  readonly #raft: Raft
  #freshTick: number | null = null

  constructor(raft: Raft) {
    this.#raft = raft
  }

  /** Null: this node has never had everything. */
  lagTicks(tick: number): number | null {
    return this.#freshTick === null ? null : Math.max(0, tick - this.#freshTick)
  }

  /** After every turn, when what was committed is applied. */
  note(tick: number, view: LeaderView | null): void {
    const { role, leader, log, leaderCommit, termCommitted, ticksSinceLeader } = this.#raft
    if (role === 'leader') {
      if (termCommitted && log.appliedIndex === log.commitIndex) this.#freshTick = tick
      return
    }
    const known = Math.max(leaderCommit, view?.commitIndex ?? 0)
    if (leader === null || view === null || log.appliedIndex < known) return
    this.#freshTick = Math.max(this.#freshTick ?? 0, tick - ticksSinceLeader)
  }
}
