/** What has changed in a replica's role, leader and configuration since it was last looked at, and the events that tell of it. Pure. */
import type { Raft } from './raft/raft.ts'
import type { Index, Member, PeerId, Role, Term } from './raft/types.ts'
import type { Outbox } from './replica-effects.ts'

export interface RoleHooks {
  readonly memberOf: (peer: PeerId) => Member | null
  /** This node leads no more. */
  readonly ledNoMore: () => void
  /** Another leader, none, or another term. */
  readonly leaderChanged: () => void
}

export class RoleWatch {
  readonly #raft: Raft
  readonly #out: Outbox
  readonly #hooks: RoleHooks
  #seen: { role: Role; leader: PeerId | null; term: Term; configurationIndex: Index }
  /** A node that is not admitted yet hears a leader before it knows which member that is. */
  #leaderId: number | null = null

  constructor(raft: Raft, out: Outbox, hooks: RoleHooks) {
    const { role, leader, term } = raft
    this.#raft = raft
    this.#out = out
    this.#hooks = hooks
    this.#seen = { role, leader, term, configurationIndex: 0 }
  }

  note(): void {
    const { memberOf, ledNoMore, leaderChanged } = this.#hooks
    const { role, leader, term, log } = this.#raft
    const at = log.configurationAt(log.appliedIndex)
    const configurationIndex = at?.index ?? 0
    const seen = this.#seen
    const isSame = role === seen.role && leader === seen.leader && term === seen.term
    if (isSame && configurationIndex === seen.configurationIndex) return
    this.#seen = { role, leader, term, configurationIndex }
    if (role !== seen.role) {
      this.#out.event('role.changed', 'info', { from: seen.role, to: role })
      if (seen.role === 'leader') ledNoMore()
    }
    if (leader !== seen.leader || term !== seen.term) leaderChanged()
    const leaderId = leader === null ? null : (memberOf(leader)?.memberId ?? null)
    if (leaderId !== this.#leaderId) {
      this.#leaderId = leaderId
      this.#out.event('leader.changed', 'info', { leaderId })
    }
    if (configurationIndex !== seen.configurationIndex) {
      this.#out.event('config.changed', 'info', {
        index: configurationIndex,
        voters: at?.record.configuration.voters.length ?? 0,
        standBys: at?.record.configuration.learners.length ?? 0,
        // Who waits for admission, or for a vote, sees here that it has come.
        ...(at?.record.reason === undefined ? {} : { reason: at.record.reason }),
      })
    }
  }
}
