/**
 * A bounded random walk over a cluster of consensus cores: messages are lost, repeated and reordered, saves finish late, nodes
 * crash and restart, links are cut. After every step what must never go wrong is checked. One seed, one story.
 */
import type { Entry, PeerId, Term } from '../../node/raft/types.ts'
import { bytesOf, Cluster, type ClusterNode, type ClusterOptions } from './raft-cluster.ts'

export interface ChaosReport {
  readonly leaders: number
  readonly committed: number
  readonly crashes: number
  readonly reads: number
}

/** Throws an Error that names the seed and what was violated. */
export function chaos(options: ClusterOptions & { readonly steps: number }): ChaosReport {
  const cluster = new Cluster(options)
  const { random } = cluster
  const leaderOf = new Map<Term, PeerId>()
  /** Committed entries by index, as first seen applied anywhere. */
  const committed: string[] = []
  /** How rare trouble is in this world: each seed draws its own. */
  const calm = 1 + random.below(20)
  const lowestAnswer = new Map<number, number>()
  let proposed = 0
  let crashes = 0
  let readId = 1
  let reads = 0

  const fail = (what: string): never => {
    throw new Error(`seed ${options.seed}: ${what}`)
  }
  const check = (node: ClusterNode): void => {
    const { raft } = node
    if (node.up && raft.role === 'leader') {
      const known = leaderOf.get(raft.term)
      if (known !== undefined && known !== node.peer) fail(`two leaders in term ${raft.term}`)
      leaderOf.set(raft.term, node.peer)
      for (let index = 1; index <= committed.length; index++) {
        const entry = raft.log.entryAt(index)
        if (entry === undefined && index <= committedDurably()) {
          fail(`the leader of term ${raft.term} lacks the committed entry ${index}`)
        }
      }
    }
    if (raft.log.appliedIndex > raft.log.commitIndex) fail('applied beyond the commit index')
    if (raft.log.stableIndex > node.disk.entries.length) fail('stable beyond what is on disk')
  }
  const committedDurably = (): number => committed.length
  const noteApplied = (node: ClusterNode): void => {
    for (const entry of node.applied) {
      const seen = committed[entry.index - 1]
      const now = describe(entry)
      if (seen === undefined) committed[entry.index - 1] = now
      else if (seen !== now) fail(`entry ${entry.index} is ${seen} and ${now} on ${node.name}`)
    }
    node.applied = []
    for (const read of node.reads) {
      reads++
      const lowest = lowestAnswer.get(read.requestId) ?? 0
      // Linearizable: at least what was known to be committed when the read was asked.
      if (read.index < lowest) fail(`a read asked at ${lowest} was answered at ${read.index}`)
    }
    node.reads = []
  }

  for (let step = 0; step < options.steps; step++) {
    const node = cluster.nodes[random.below(cluster.nodes.length)] as ClusterNode
    const dice = random.below(100)
    if (dice < 30) {
      if (node.up) node.raft.tick()
    } else if (dice < 70) {
      const flight = cluster.flights.splice(random.below(cluster.flights.length || 1), 1)[0]
      if (flight !== undefined) {
        if (random.below(20) !== 0) cluster.deliver(flight)
        if (random.below(30) === 0) cluster.flights.push(flight)
      }
    } else if (dice < 84) {
      cluster.finishSave(node)
    } else if (dice < 91) {
      const result = node.up ? node.raft.propose('command', bytesOf(`${proposed}`)) : null
      if (result?.ok) proposed++
    } else if (dice < 95) {
      if (node.up && node.raft.readIndex(readId)) lowestAnswer.set(readId++, committed.length)
    } else if (dice < 97) {
      if (!node.up) cluster.restart(node)
      else if (random.below(calm) === 0) {
        cluster.crash(node)
        crashes++
      }
    } else if (dice < 98) {
      const other = cluster.nodes[random.below(cluster.nodes.length)] as ClusterNode
      const cut = `${node.name}>${other.name}`
      if (cluster.cut.has(cut)) cluster.cut.delete(cut)
      else if (random.below(calm) === 0) cluster.cut.add(cut)
      if (random.below(4) === 0) cluster.isolate(node.name)
    } else if (dice < 99) {
      cluster.heal()
    } else if (node.up) {
      const other = cluster.nodes[random.below(cluster.nodes.length)] as ClusterNode
      node.raft.linkClosed(other.peer)
      if (random.below(4) === 0) node.raft.transferLeadership(other.peer)
    }
    cluster.drain(node)
    noteApplied(node)
    check(node)
    if (cluster.flights.length > 200) cluster.flights.splice(0, 50)
  }

  // First cruel, then kind: heal everything and demand progress.
  cluster.heal()
  for (const node of cluster.nodes) if (!node.up) cluster.restart(node)
  cluster.settle()
  const leader = cluster.elect(2000)
  const before = leader.raft.log.lastIndex
  if (!leader.raft.propose('command', bytesOf('last')).ok) cluster.tick(20)
  cluster.tick(20)
  for (const node of cluster.nodes) {
    noteApplied(node)
    check(node)
    if (node.raft.log.commitIndex < before) fail(`${node.name} did not catch up after healing`)
  }
  checkLogs(cluster, fail)
  return { leaders: leaderOf.size, committed: committed.length, crashes, reads }
}

/** Log matching (paper 5.3): equal (index, term) means equal everything before. */
function checkLogs(cluster: Cluster, fail: (what: string) => never): void {
  const [first, ...others] = cluster.nodes as [ClusterNode, ...ClusterNode[]]
  for (const node of others) {
    const to = Math.min(first.raft.log.commitIndex, node.raft.log.commitIndex)
    for (let index = 1; index <= to; index++) {
      const a = first.raft.log.entryAt(index) as Entry
      const b = node.raft.log.entryAt(index) as Entry
      if (describe(a) !== describe(b)) fail(`logs differ at ${index}`)
    }
  }
}

function describe(entry: Entry): string {
  const text = entry.kind === 'command' ? new TextDecoder().decode(entry.payload) : ''
  return `${entry.term}/${entry.kind}/${text}`
}
