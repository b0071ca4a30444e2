/**
 * What must never go wrong while the members of a cluster change (paper, figure 3 and section 6; CORRECTNESS 5, 6 and 14). It looks
 * on from outside, over all nodes and all time, and knows nothing of how the core does it.
 */
import { majority } from '../../node/raft/quorum.ts'
import type { Raft } from '../../node/raft/raft.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Entry,
  type Index,
  type MemberId,
  type PeerId,
  peerIdOf,
  type Term,
} from '../../node/raft/types.ts'
import { type Cluster, type ClusterNode, textOf } from './raft-cluster.ts'

export interface MembershipReport {
  readonly leaders: number
  readonly committed: number
  readonly crashes: number
  /** Committed configurations, those of them that are joint, and entries of configurations that were never committed. */
  readonly configurations: number
  readonly joint: number
  readonly lost: number
  /** Leaders whose removal or demotion was committed while they led. */
  readonly leftOffice: number
  readonly refused: Readonly<Record<string, number>>
}

interface Committed {
  readonly what: string
  readonly entry: Entry
  /** The highest term anywhere when it was first applied: every leader of a later one must have it. */
  readonly knownAt: Term
}

export class MembershipJudge {
  readonly #seed: number
  readonly #cluster: Cluster
  readonly #leaderOf = new Map<Term, PeerId>()
  readonly #committed: Committed[] = []
  readonly #commitSeen = new Map<ClusterNode, Index>()
  readonly #memberOf = new Map<MemberId, PeerId>()
  readonly #gone = new Set<MemberId>()
  readonly #open = new Map<number, ClusterNode>()
  readonly #entered = new Map<Index, Term[]>()
  readonly #refused: Record<string, number> = {}
  #crashes = 0
  readonly #leftOffice = new Set<Term>()
  #present: ConfigurationRecord | null = null
  #configurations = 0
  #joint = 0

  constructor(seed: number, cluster: Cluster) {
    this.#seed = seed
    this.#cluster = cluster
  }

  get report(): MembershipReport {
    let lost = 0
    for (const [index, terms] of this.#entered) {
      const committed = this.#committed[index - 1]?.entry.term
      lost += terms.filter((term) => term !== committed).length
    }
    return {
      leaders: this.#leaderOf.size,
      committed: this.#committed.length,
      crashes: this.#crashes,
      configurations: this.#configurations,
      joint: this.#joint,
      lost,
      leftOffice: this.#leftOffice.size,
      refused: this.#refused,
    }
  }

  fail(what: string): never {
    throw new Error(`seed ${this.#seed}: ${what}`)
  }

  asked(ticket: number, node: ClusterNode): void {
    this.#open.set(ticket, node)
  }

  crashed(node: ClusterNode): void {
    this.#crashes++
    for (const [ticket, asked] of this.#open) if (asked === node) this.#open.delete(ticket)
  }

  /** It may forget what it knew to be committed. */
  restarted(node: ClusterNode): void {
    this.#commitSeen.delete(node)
  }

  /** Every change that was asked for has found its answer. */
  end(tickets: number): void {
    const [ticket] = this.#open.keys()
    if (ticket !== undefined) this.fail(`change ${ticket} of ${tickets} was never answered`)
  }

  /** A node has had a turn. `inForce`: the configuration by which it has committed; null where that is not known. */
  checkTurn(node: ClusterNode, inForce: Configuration | null): void {
    if (inForce !== null) this.#checkCommit(node, inForce)
    this.#noteApplied(node)
    this.#noteOutcomes(node)
    if (!node.up) return
    this.#checkLeader(node)
    this.#checkCampaign(node)
  }

  // --- commits ------------------------------------------------------------------------------------------------------

  /** What a leader commits by counting lies on the disks of a majority of each half (rule 2, rule 5). */
  #checkCommit(node: ClusterNode, { members, voters, votersOutgoing }: Configuration): void {
    const { role, term, log } = node.raft
    const before = this.#commitSeen.get(node) ?? log.commitIndex
    this.#commitSeen.set(node, log.commitIndex)
    if (role !== 'leader' || log.commitIndex <= before) return
    if (log.termAt(log.commitIndex) !== term) this.fail(`${node.name} counts an older term`)
    for (const half of [voters, votersOutgoing]) {
      if (half.length === 0) continue
      const holding = members.filter((member) => {
        if (!half.includes(member.memberId)) return false
        const disk = this.#cluster.nodes.find(({ peer }) => peer === peerIdOf(member))?.disk
        return disk?.entries[log.commitIndex - 1]?.term === term
      })
      if (holding.length >= majority(half.length)) continue
      this.fail(`${node.name} commits ${log.commitIndex} with ${holding.length} of ${half}`)
    }
  }

  #noteApplied(node: ClusterNode): void {
    for (const entry of node.applied) {
      const what = `${entry.term} ${entry.kind} ${textOf(entry.payload)}`
      const seen = this.#committed[entry.index - 1]
      if (seen !== undefined) {
        if (seen.what !== what) this.fail(`${entry.index} is ${seen.what} and ${what}`)
        continue
      }
      if (entry.index !== this.#committed.length + 1) this.fail(`${entry.index} comes too soon`)
      const knownAt = Math.max(...this.#cluster.nodes.map(({ raft }) => raft.term))
      this.#committed.push({ what, entry, knownAt })
      if (entry.kind === 'configuration') this.#noteConfiguration(node, entry)
    }
    node.applied = []
  }

  #noteConfiguration(node: ClusterNode, entry: Entry): void {
    const record = node.raft.log.configurationAt(entry.index)?.record as ConfigurationRecord
    const before = this.#present
    this.#present = record
    this.#configurations++
    if (record.configuration.votersOutgoing.length > 0) this.#joint++
    if (before !== null) {
      const wrong = wrongStep(before.configuration, record.configuration)
      if (wrong !== null) this.fail(`${entry.index}: ${wrong}`)
    }
    const { members } = record.configuration
    for (const [memberId] of this.#memberOf) {
      if (!members.some((member) => member.memberId === memberId)) this.#gone.add(memberId)
    }
    for (const member of members) {
      const known = this.#memberOf.get(member.memberId) ?? peerIdOf(member)
      if (known !== peerIdOf(member) || this.#gone.has(member.memberId)) {
        this.fail(`${entry.index}: member id ${member.memberId} is used again`)
      }
      this.#memberOf.set(member.memberId, known)
    }
  }

  // --- leaders ------------------------------------------------------------------------------------------------------

  #noteOutcomes(node: ClusterNode): void {
    for (const { ticket, result } of node.changes) {
      if (this.#open.get(ticket) !== node) this.fail(`change ${ticket} has two answers`)
      this.#open.delete(ticket)
      if (!result.ok) {
        this.#refused[result.code] = (this.#refused[result.code] ?? 0) + 1
        continue
      }
      this.#entered.set(result.id.index, [
        ...(this.#entered.get(result.id.index) ?? []),
        result.id.term,
      ])
    }
    node.changes = []
  }

  #checkLeader(node: ClusterNode): void {
    const { raft } = node
    if (raft.role !== 'leader') return
    this.#checkOwnConfigurations(node)
    const known = this.#leaderOf.get(raft.term)
    if (known === node.peer) return
    if (known !== undefined) this.fail(`two leaders in term ${raft.term}`)
    this.#leaderOf.set(raft.term, node.peer)
    // Leader completeness (paper, figure 3).
    this.#committed.forEach(({ entry, knownAt }, at) => {
      if (knownAt >= raft.term) return
      if (raft.log.termAt(at + 1) !== entry.term) {
        this.fail(`the leader of term ${raft.term} lacks the committed entry ${at + 1}`)
      }
    })
  }

  /** Rule 5: not before an entry of the own term is committed, never two that are not committed, and rule 6. */
  #checkOwnConfigurations({ name, raft }: ClusterNode): void {
    const { log, term, tracker } = raft
    const present = log.configuration
    if (present === null || log.termAt(present.index) !== term) return
    const before = log.configurationAt(present.index - 1)
    if (before !== null && before.index > log.commitIndex) {
      this.fail(`${name} has two open configurations, at ${before.index} and ${present.index}`)
    }
    if (log.termAt(log.commitIndex) !== term) {
      this.fail(`${name} appends a configuration before it has committed an entry of its term`)
    }
    if (present.index <= log.commitIndex && !tracker.selfIsVoter) {
      this.fail(`${name} leads on though its removal is committed`)
    }
    if (!tracker.selfIsVoter) this.#leftOffice.add(term)
  }

  /**
   * Rule 6: whoever is not in its own configuration does not campaign, unless what leaves it out may still be undone. A learner does
   * when its log alone is new enough (campaign.ts).
   */
  #checkCampaign({ name, raft }: ClusterNode): void {
    if (raft.role !== 'candidate' && raft.role !== 'preCandidate') return
    if (raft.tracker.selfIsVoter || mayBeNeeded(raft)) return
    if (raft.tracker.configuration.members.some((one) => peerIdOf(one) === raft.self)) return
    this.fail(`${name} campaigns and is no voter`)
  }
}

function mayBeNeeded({ log, self }: Raft): boolean {
  const present = log.configuration
  if (present === null || present.index <= log.commitIndex) return false
  const before = log.configurationAt(present.index - 1)?.record.configuration
  const member = before?.members.find((one) => peerIdOf(one) === self)
  if (before === undefined || member === undefined) return false
  return [...before.voters, ...before.votersOutgoing].includes(member.memberId)
}

/** What is wrong with one committed configuration behind another; null: it is a step of joint consensus (paper, section 6). */
export function wrongStep(before: Configuration, after: Configuration): string | null {
  const same = (a: readonly MemberId[], b: readonly MemberId[]): boolean => `${a}` === `${b}`
  if (after.nextMemberId < before.nextMemberId) return 'nextMemberId falls'
  if (before.votersOutgoing.length > 0) {
    if (after.votersOutgoing.length > 0) return 'a joint configuration follows a joint one'
    if (!same(after.voters, before.voters)) return 'the joint configuration is left for another one'
    return same(after.learners, before.learners) ? null : 'learners change while it is left'
  }
  if (same(after.voters, before.voters)) {
    return after.votersOutgoing.length === 0 ? null : 'joint without another set of voters'
  }
  return same(after.votersOutgoing, before.voters) ? null : 'voters change without a joint step'
}
