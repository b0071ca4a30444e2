/**
 * A bounded random walk over a cluster whose members change all the time: nodes enter, are promoted, demoted, replaced and removed,
 * several at once, while messages are lost, repeated and reordered, nodes crash, leaders are cut off and hand over. After every step
 * what must never go wrong is checked; at the end everything is mended, and the cluster must go on. One seed, one story.
 */
import type { ConfChange } from '../../node/raft/change.ts'
import type { Raft } from '../../node/raft/raft.ts'
import type { Configuration, PeerId } from '../../node/raft/types.ts'
import { MembershipJudge, type MembershipReport } from './membership-judge.ts'
import { bytesOf, Cluster, type ClusterNode, memberIdentity } from './raft-cluster.ts'

export interface MembershipWorldOptions {
  readonly seed: number
  readonly size: number
  readonly blanks: number
  readonly steps: number
}

/** Throws an Error that names the seed and what was violated. */
export function membershipChaos(options: MembershipWorldOptions): MembershipReport {
  const world = new MembershipWorld(options)
  for (let step = 0; step < options.steps; step++) world.step()
  world.beKind()
  return world.report
}

class MembershipWorld {
  readonly #cluster: Cluster
  readonly #judge: MembershipJudge
  /** How rare trouble is in this world: each seed draws its own. */
  readonly #calm: number
  #proposed = 0
  #ticket = 0

  constructor({ seed, size, blanks }: MembershipWorldOptions) {
    this.#cluster = new Cluster({ seed, size, blanks, learners: 1 })
    this.#judge = new MembershipJudge(seed, this.#cluster)
    this.#calm = 1 + this.#below(25)
  }

  get report(): MembershipReport {
    return this.#judge.report
  }

  step(): void {
    const node = this.#any()
    const dice = this.#below(100)
    if (dice < 22) {
      if (node.up) this.#act(node, () => node.raft.tick())
    } else if (dice < 62) {
      for (let i = 3; i > 0; i--) this.#moveMessage()
    } else if (dice < 82) this.#endSave(node)
    else if (dice < 86) this.#propose(node)
    else if (dice < 91) this.#change()
    else if (dice < 94) this.#crashOrRestart(node)
    else this.#trouble(node, dice)
    const { flights } = this.#cluster
    if (flights.length > 200) flights.splice(0, 50)
  }

  /** First cruel, then kind: everything is mended, and whoever is a member in the end has everything. */
  beKind(): void {
    const cluster = this.#cluster
    cluster.heal()
    for (const node of cluster.nodes) if (!node.up) cluster.restart(node)
    cluster.settle()
    cluster.tick(25)
    const leader = this.#lastLeader()
    const before = leader.raft.log.lastIndex
    cluster.tick(25)
    for (const node of cluster.nodes) this.#judge.checkTurn(node, null)
    for (const { nodeKey } of leader.raft.tracker.configuration.members) {
      const node = cluster.nodes.find(({ peer }) => peer.startsWith(nodeKey)) as ClusterNode
      if (node.raft.log.commitIndex < before) this.#judge.fail(`${node.name} did not catch up`)
    }
    this.#judge.end(this.#ticket)
  }

  /** One that stays: what is open is committed, a joint configuration is left, and a leader on its way out has handed over. */
  #lastLeader(): ClusterNode {
    const cluster = this.#cluster
    for (let i = 0; i < 2000; i++) {
      const { leader } = cluster
      const raft = leader?.raft
      const isReady = raft?.termCommitted && isSettled(raft)
      if (leader !== undefined && isReady && raft.propose('command', bytesOf('last')).ok) {
        return leader
      }
      cluster.tick()
    }
    const roles = cluster.nodes.map(({ name, raft }) => `${name} ${raft.role} in ${raft.term}`)
    return this.#judge.fail(`nobody leads in the end: ${roles.join(', ')}`)
  }

  // --- what happens -------------------------------------------------------------------------------------------------

  #below(bound: number): number {
    return this.#cluster.random.below(bound)
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#below(list.length || 1)]
  }

  #any(): ClusterNode {
    return this.#pick(this.#cluster.nodes) as ClusterNode
  }

  #rarely(): boolean {
    return this.#below(this.#calm) === 0
  }

  /** One input and its turn. What is committed is committed by the configuration in force between the two. */
  #act(node: ClusterNode, input: () => void): void {
    input()
    const { configuration } = node.raft.tracker
    this.#cluster.drain(node)
    this.#judge.checkTurn(node, configuration)
  }

  #moveMessage(): void {
    const { flights } = this.#cluster
    const flight = flights.splice(this.#below(flights.length || 1), 1)[0]
    if (flight === undefined) return
    if (this.#below(30) === 0) flights.push(flight)
    const to = this.#cluster.nodes.find(({ peer }) => peer === flight.to)
    if (to === undefined || this.#below(30) === 0) return
    this.#act(to, () => this.#cluster.deliver(flight))
  }

  #endSave(node: ClusterNode): void {
    this.#act(node, () => this.#cluster.finishSave(node))
  }

  #propose(node: ClusterNode): void {
    if (!node.up) return
    this.#act(node, () => {
      if (node.raft.propose('command', bytesOf(`${this.#proposed}`)).ok) this.#proposed++
    })
  }

  /** Asks whoever believes that it leads, the oldest as likely as the newest. */
  #change(): void {
    const node = this.#pick(this.#cluster.leaders)
    if (node === undefined) return
    const { log } = node.raft
    const present = log.configuration
    if (present === null) return
    const changes = [this.#changeOf(present.record.configuration)]
    if (this.#below(3) === 0) changes.push(this.#changeOf(present.record.configuration))
    const ifIndex = this.#below(4) === 0 ? present.index - this.#below(2) : null
    const ticket = ++this.#ticket
    this.#judge.asked(ticket, node)
    this.#act(node, () => node.raft.changeConfiguration(ticket, changes, { ifIndex, reason: 'r' }))
    if (this.#below(8) === 0) this.#cutOff(node)
  }

  #changeOf({ voters, learners, members }: Configuration): ConfChange {
    const kind = this.#below(10)
    const voter = this.#pick(voters) as number
    const learner = this.#pick(learners)
    const isOut = (peer: PeerId): boolean =>
      !members.some(({ nodeKey }) => peer.startsWith(nodeKey))
    const stranger = this.#pick(this.#cluster.nodes.filter(({ peer }) => isOut(peer)))
    if (learner !== undefined && kind < 4) return { type: 'promote', memberId: learner }
    if (learner !== undefined && kind < 6) {
      return { type: 'replace', memberId: voter, with: learner, keep: this.#below(2) === 0 }
    }
    if (stranger !== undefined && kind < 8) {
      const id = Number(stranger.name.slice(1))
      return { type: 'add', member: { ...memberIdentity(id), name: stranger.name, urls: [] } }
    }
    if (kind === 8) return { type: 'demote', memberId: voter }
    return { type: 'remove', memberId: this.#below(3) === 0 ? (learner ?? voter) : voter }
  }

  /** Some hear of the change and others do not, or only its answers are lost. */
  #cutOff(node: ClusterNode): void {
    const isDeaf = this.#below(2) === 0
    for (const { name } of this.#cluster.nodes) {
      if (name === node.name || this.#below(4) === 0) continue
      this.#cluster.cut.add(isDeaf ? `${name}>${node.name}` : `${node.name}>${name}`)
    }
  }

  #crashOrRestart(node: ClusterNode): void {
    if (!node.up) {
      this.#cluster.restart(node)
      this.#judge.restarted(node)
      return
    }
    if (!this.#rarely()) return
    this.#cluster.crash(node)
    this.#judge.crashed(node)
  }

  #trouble(node: ClusterNode, dice: number): void {
    const cluster = this.#cluster
    const other = this.#any()
    if (dice === 94 && this.#rarely()) cluster.cut.add(`${node.name}>${other.name}`)
    else if (dice === 95) cluster.cut.delete(`${node.name}>${other.name}`)
    else if (dice === 96 && this.#rarely()) cluster.isolate((cluster.leader ?? node).name)
    else if (dice === 97 && this.#below(3) === 0) cluster.heal()
    else if (dice === 98 && node.up) {
      this.#act(node, () => {
        node.raft.linkClosed(other.peer)
        if (this.#below(3) === 0) node.raft.transferLeadership(other.peer)
      })
    } else if (dice === 99 && node.up) {
      // Its clock runs ahead of the others', or it woke from a pause.
      for (let i = this.#below(25); i > 0; i--) this.#act(node, () => node.raft.tick())
    }
  }
}

function isSettled({ log, tracker }: Raft): boolean {
  const { voters, votersOutgoing } = tracker.configuration
  const isIn = voters.length > 0 && tracker.selfIsVoter
  return isIn && votersOutgoing.length === 0 && (log.configuration?.index ?? 0) <= log.commitIndex
}
