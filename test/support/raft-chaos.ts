/**
 * A bounded random walk over a cluster of consensus cores: messages are lost, repeated and reordered, saves finish late or find
 * no room, nodes crash and restart, leaders are cut off and asked for reads. After every step what must never go wrong is
 * checked. One seed, one story.
 */
import type { RaftMessage } from '../../node/raft/messages.ts'
import { majority } from '../../node/raft/quorum.ts'
import { Random } from '../../node/raft/random.ts'
import type { Entry, Index, PeerId, Term } from '../../node/raft/types.ts'
import { bytesOf, Cluster, type ClusterNode, type ClusterOptions } from './raft-cluster.ts'

export interface ChaosReport {
  readonly leaders: number
  readonly committed: number
  readonly crashes: number
  readonly reads: number
  /** Reads asked of a leader that another one had already replaced. */
  readonly staleAsked: number
}

interface Committed {
  readonly what: string
  /** The highest term anywhere when it was first applied: every leader of a later one must have it. */
  readonly knownAt: Term
}

/** Throws an Error that names the seed and what was violated. */
export function chaos(options: ClusterOptions & { readonly steps: number }): ChaosReport {
  const world = new World(options)
  for (let step = 0; step < options.steps; step++) world.step()
  world.beKind()
  return world.report
}

class World {
  readonly #seed: number
  readonly #cluster: Cluster
  readonly #leaderOf = new Map<Term, PeerId>()
  /** By index - 1, as first seen applied anywhere. */
  readonly #committed: Committed[] = []
  /** For each read that was asked, what was committed by then. */
  readonly #lowestAnswer = new Map<number, Index>()
  /** How rare trouble is in this world: each seed draws its own. */
  readonly #calm: number
  readonly #diskTrouble: boolean
  #proposed = 0
  #crashes = 0
  #readId = 1
  #reads = 0
  #staleAsked = 0

  constructor(options: ClusterOptions) {
    this.#seed = options.seed ?? 1
    this.#cluster = new Cluster({ ...options, options: limitsOf(this.#seed) })
    this.#calm = 1 + this.#below(20)
    this.#diskTrouble = this.#below(4) === 0
  }

  get report(): ChaosReport {
    return {
      leaders: this.#leaderOf.size,
      committed: this.#committed.length,
      crashes: this.#crashes,
      reads: this.#reads,
      staleAsked: this.#staleAsked,
    }
  }

  step(): void {
    const node = this.#any()
    const dice = this.#below(100)
    if (dice < 26) {
      if (node.up) node.raft.tick()
    } else if (dice < 64) this.#moveMessage()
    else if (dice < 78) this.#endSave(node)
    else if (dice < 85) this.#propose(node)
    else if (dice < 90) this.#ask()
    else if (dice < 93) this.#crashOrRestart(node)
    else this.#trouble(node, dice)
    this.#drain(node)
    this.#check(node)
    if (this.#cluster.flights.length > 200) this.#cluster.flights.splice(0, 50)
  }

  /** First cruel, then kind: heal everything and demand progress. */
  beKind(): void {
    const cluster = this.#cluster
    cluster.heal()
    for (const node of cluster.nodes) {
      node.fullDisk = false
      if (!node.up) cluster.restart(node)
    }
    cluster.settle()
    cluster.tick(25)
    const leader = cluster.elect(2000)
    const before = leader.raft.log.lastIndex
    if (!leader.raft.propose('command', bytesOf('last')).ok) cluster.tick(20)
    cluster.tick(25)
    for (const node of cluster.nodes) {
      this.#noteApplied(node)
      this.#check(node)
      if (node.raft.log.commitIndex < before) this.#fail(`${node.name} did not catch up`)
    }
    this.#checkLogs()
  }

  // --- what happens -------------------------------------------------------------------------------------------------

  #below(bound: number): number {
    return this.#cluster.random.below(bound)
  }

  #any(): ClusterNode {
    return this.#cluster.nodes[this.#below(this.#cluster.nodes.length)] as ClusterNode
  }

  #rarely(): boolean {
    return this.#below(this.#calm) === 0
  }

  #moveMessage(): void {
    const { flights } = this.#cluster
    const flight = flights.splice(this.#below(flights.length || 1), 1)[0]
    if (flight === undefined) return
    if (this.#below(20) !== 0) this.#cluster.deliver(flight)
    if (this.#below(30) === 0) flights.push(flight)
  }

  #endSave(node: ClusterNode): void {
    node.fullDisk = this.#diskTrouble && this.#below(30) === 0
    this.#cluster.finishSave(node)
    const { log } = node.raft
    for (let index = 1; index <= log.stableIndex; index++) {
      if (node.disk.entries[index - 1]?.term !== log.termAt(index)) {
        this.#fail(`entry ${index} counts as stable, and is not on the disk of ${node.name}`)
      }
    }
  }

  #propose(node: ClusterNode): void {
    if (!node.up) return
    if (node.raft.propose('command', bytesOf(`${this.#proposed}`)).ok) this.#proposed++
  }

  /** Asks whoever believes that it leads, the oldest as likely as the newest. */
  #ask(): void {
    const { leaders } = this.#cluster
    const node = leaders[this.#below(leaders.length || 1)]
    if (node === undefined || !node.raft.readIndex(this.#readId)) return
    if (leaders.some(({ raft }) => raft.term > node.raft.term)) this.#staleAsked++
    this.#lowestAnswer.set(this.#readId++, this.#committed.length)
    this.#drain(node)
  }

  #crashOrRestart(node: ClusterNode): void {
    if (!node.up) return this.#cluster.restart(node)
    if (!this.#rarely()) return
    this.#cluster.crash(node)
    this.#crashes++
  }

  #trouble(node: ClusterNode, dice: number): void {
    const cluster = this.#cluster
    const other = this.#any()
    if (dice === 93 && this.#rarely()) cluster.cut.add(`${node.name}>${other.name}`)
    else if (dice === 94) cluster.cut.delete(`${node.name}>${other.name}`)
    else if (dice === 95 && this.#rarely()) this.#cutOffLeader()
    else if (dice === 96 && this.#below(8) === 0) cluster.heal()
    else if (dice === 97 && node.up) {
      node.raft.linkClosed(other.peer)
      if (this.#below(4) === 0) node.raft.transferLeadership(other.peer)
    } else if (dice === 98 && node.up) {
      // Its clock runs ahead of the others', or it woke from a pause.
      for (let i = this.#below(25); i > 0; i--) node.raft.tick()
    }
  }

  /** The leader hears nobody, or nobody hears it, or both. Sometimes the others go on at once while it stands still. */
  #cutOffLeader(): void {
    const cluster = this.#cluster
    const { leader } = cluster
    if (leader === undefined) return
    const kind = this.#below(3)
    for (const { name } of cluster.nodes) {
      if (name === leader.name) continue
      if (kind !== 0) cluster.cut.add(`${leader.name}>${name}`)
      if (kind !== 1) cluster.cut.add(`${name}>${leader.name}`)
    }
    if (this.#below(3) === 0) return
    const others = cluster.nodes.filter((node) => node !== leader && node.up)
    for (let round = 20 + this.#below(30); round > 0; round--) {
      for (const node of others) {
        node.raft.tick()
        if (this.#below(4) !== 0) this.#endSave(node)
        if (node.raft.role === 'leader') this.#propose(node)
        this.#drain(node)
        this.#check(node)
      }
      for (let i = cluster.flights.length; i > 0; i--) this.#moveMessage()
    }
    if (this.#below(2) === 0) cluster.heal()
    // It wakes up: clients ask, and what lies in its sockets from before is still to come.
    for (let i = this.#below(4); i > 0; i--) {
      this.#ask()
      this.#moveMessage()
    }
  }

  // --- what must never go wrong ---------------------------------------------------------------------------------------

  #fail(what: string): never {
    throw new Error(`seed ${this.#seed}: ${what}`)
  }

  #drain(node: ClusterNode): void {
    const before = this.#cluster.flights.length
    this.#cluster.drain(node)
    for (const { to, message } of this.#cluster.flights.slice(before)) {
      this.#checkPromise(node, to, message)
    }
    this.#noteApplied(node)
  }

  /** What leaves must be on disk (rule 1), whether or not a crash comes to show it. */
  #checkPromise(node: ClusterNode, to: PeerId, message: RaftMessage): void {
    const { hardState, entries } = node.disk
    if (message.type === 'voteResponse' && message.granted) {
      const isSaved = hardState?.term === message.term && hardState.vote === to
      const isPast = (hardState?.term ?? 0) > message.term
      if (!isSaved && !isPast) this.#fail(`${node.name} gave a vote that is not on its disk`)
    }
    if (message.type === 'appendResponse' && message.accepted && message.term === node.raft.term) {
      for (let index = Math.max(1, message.matchIndex - 20); index <= message.matchIndex; index++) {
        if (entries[index - 1]?.term !== node.raft.log.termAt(index)) {
          this.#fail(`${node.name} acknowledged entry ${index}, which is not on its disk`)
        }
      }
    }
  }

  #noteApplied(node: ClusterNode): void {
    for (const entry of node.applied) {
      const seen = this.#committed[entry.index - 1]
      const what = describe(entry)
      if (seen === undefined) this.#noteCommitted(entry, what)
      else if (seen.what !== what) {
        this.#fail(`entry ${entry.index} is ${seen.what} and ${what} on ${node.name}`)
      }
    }
    node.applied = []
    for (const read of node.reads) {
      this.#reads++
      const lowest = this.#lowestAnswer.get(read.requestId) ?? 0
      // Linearizable: at least what was known to be committed when the read was asked.
      if (read.index < lowest) this.#fail(`a read asked at ${lowest} was answered at ${read.index}`)
    }
    node.reads = []
  }

  #noteCommitted(entry: Entry, what: string): void {
    const { nodes } = this.#cluster
    const knownAt = Math.max(...nodes.map(({ raft }) => raft.term))
    this.#committed[entry.index - 1] = { what, knownAt }
    // The founding entry apart, an entry is committed when the disks of a majority hold it or its successors (rule 2).
    const saved = nodes.filter(({ disk }) => disk.entries[entry.index - 1]?.term === entry.term)
    if (saved.length < majority(nodes.length)) {
      this.#fail(`entry ${entry.index} was committed with ${saved.length} disks`)
    }
  }

  #check(node: ClusterNode): void {
    const { raft } = node
    if (raft.log.appliedIndex > raft.log.commitIndex) this.#fail('applied beyond the commit index')
    if (!node.up || raft.role !== 'leader') return
    const known = this.#leaderOf.get(raft.term)
    if (known === node.peer) return
    if (known !== undefined) this.#fail(`two leaders in term ${raft.term}`)
    this.#leaderOf.set(raft.term, node.peer)
    // Leader completeness (paper, figure 3).
    this.#committed.forEach(({ what, knownAt }, at) => {
      if (knownAt >= raft.term) return
      const entry = raft.log.entryAt(at + 1)
      if (entry === undefined || describe(entry) !== what) {
        this.#fail(`the leader of term ${raft.term} lacks the committed entry ${at + 1}, ${what}`)
      }
    })
  }

  /** Log matching (paper 5.3): where two logs hold the same (index, term), they are the same up to there. */
  #checkLogs(): void {
    const [first, ...others] = this.#cluster.nodes as [ClusterNode, ...ClusterNode[]]
    for (const node of others) {
      const to = Math.min(first.raft.log.commitIndex, node.raft.log.commitIndex)
      for (let index = 1; index <= to; index++) {
        const a = first.raft.log.entryAt(index) as Entry
        const b = node.raft.log.entryAt(index) as Entry
        if (describe(a) !== describe(b)) this.#fail(`logs differ at ${index}`)
      }
    }
  }
}

/** In some worlds entries travel and are saved one by one, which shows what whole batches hide (paper, figure 8). */
function limitsOf(seed: number): NonNullable<ClusterOptions['options']> {
  const random = new Random(seed)
  return {
    appendBytesMax: random.below(2) === 0 ? 0 : 1 << 16,
    saveBytesMax: random.below(4) === 0 ? 0 : 1 << 20,
    window: { messagesMax: 1 + random.below(8), bytesMax: 1 + random.below(1000) },
  }
}

function describe(entry: Entry): string {
  const text = entry.kind === 'command' ? new TextDecoder().decode(entry.payload) : ''
  return `${entry.term}/${entry.kind}/${text}`
}
