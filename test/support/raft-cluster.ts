/**
 * A few consensus cores on one thread with a network and disks that the test moves by hand. Nothing happens between two calls;
 * the order of everything is decided by a seed. It never reads a clock.
 */

import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import type { RaftOptions } from '../../node/raft/options.ts'
import { Raft } from '../../node/raft/raft.ts'
import { Random } from '../../node/raft/random.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import type { ChangeOutcome } from '../../node/raft/reconfiguration.ts'
import type { SnapshotAt } from '../../node/raft/snapshots.ts'
import type {
  Configuration,
  Entry,
  EntryId,
  HardState,
  Index,
  PeerId,
  Term,
} from '../../node/raft/types.ts'
import { peerIdOf } from '../../node/raft/types.ts'

export interface Flight {
  readonly from: PeerId
  readonly to: PeerId
  readonly message: RaftMessage
}

export interface DiskImage {
  hardState: HardState | null
  /** Behind the base. */
  entries: Entry[]
  /** The last entry before the log; absent: it reaches back to the first one. */
  base?: EntryId
  /** The newest snapshot file that is whole. */
  snapshot?: SnapshotAt
}

/** The disk has this entry, in its log or in the snapshot before it. */
export function holds({ base = NONE, entries }: DiskImage, index: Index, term?: Term): boolean {
  if (index < base.index) return true
  const own = index === base.index ? base : entries[index - base.index - 1]
  return own !== undefined && own.term === term
}

const NONE: EntryId = { term: 0, index: 0 }

export class ClusterNode {
  readonly name: string
  readonly peer: PeerId
  raft: Raft
  disk: DiskImage
  saving: SaveBatch | null = null
  applied: Entry[] = []
  changes: ChangeOutcome[] = []
  reads: { requestId: number; index: number }[] = []
  readsLost: number[] = []
  up = true
  /** The disk takes its time: `settle` leaves this node's save in flight. */
  slowDisk = false
  /** The disk has no room: every save fails. */
  fullDisk = false

  constructor(name: string, peer: PeerId, disk: DiskImage, raft: Raft) {
    this.name = name
    this.peer = peer
    this.disk = disk
    this.raft = raft
  }
}

export interface ClusterOptions {
  readonly size: number
  readonly seed?: number
  readonly learners?: number
  /** Nodes beyond the members, with nothing on their disks. */
  readonly blanks?: number
  /** By node name, the terms of its entries from index 1 on; the first one is the configuration's. */
  readonly logs?: Readonly<Record<string, readonly Term[]>>
  readonly options?: Partial<RaftOptions>
}

export function memberIdentity(id: number): { nodeKey: string; storageId: string } {
  return {
    nodeKey: id.toString(16).padStart(64, '0'),
    storageId: id.toString(16).padStart(32, '0'),
  }
}

export function configurationOf(size: number, learners = 0): Configuration {
  const ids = Array.from({ length: size + learners }, (_, i) => i + 1)
  return {
    voters: ids.slice(0, size),
    votersOutgoing: [],
    learners: ids.slice(size),
    members: ids.map((memberId) => ({
      memberId,
      ...memberIdentity(memberId),
      name: `n${memberId}`,
      urls: [],
    })),
    nextMemberId: ids.length + 1,
  }
}

export class Cluster {
  readonly nodes: ClusterNode[] = []
  readonly random: Random
  flights: Flight[] = []
  /** Links that lose everything, as `a>b` names. */
  readonly cut = new Set<string>()
  /** Messages that `hold` chose are kept here instead of being delivered, until `release`. */
  held: Flight[] = []
  hold: ((flight: Flight) => boolean) | null = null
  readonly #options: Partial<RaftOptions>

  constructor(options: ClusterOptions) {
    this.random = new Random(options.seed ?? 1)
    this.#options = options.options ?? {}
    const configuration = configurationOf(options.size, options.learners)
    const payload = encodeConfigurationRecord({
      clusterId: '0'.repeat(32),
      foundingSet: [],
      settings: {},
      configuration,
    })
    for (const member of configuration.members) {
      const peer = peerIdOf(member)
      const terms = options.logs?.[member.name] ?? [1]
      const disk: DiskImage = {
        hardState: { term: terms.at(-1) ?? 1, vote: null, commit: 1 },
        entries: terms.map((term, at) =>
          at === 0
            ? { term, index: 1, kind: 'configuration', payload }
            : { term, index: at + 1, kind: 'command', payload: bytesOf(`${term}/${at + 1}`) },
        ),
      }
      this.nodes.push(new ClusterNode(member.name, peer, disk, this.#start(peer, disk)))
    }
    const members = this.nodes.length
    for (let id = members + 1; id <= members + (options.blanks ?? 0); id++) {
      const peer = peerIdOf(memberIdentity(id))
      const disk: DiskImage = { hardState: null, entries: [] }
      this.nodes.push(new ClusterNode(`n${id}`, peer, disk, this.#start(peer, disk)))
    }
  }

  #start(peer: PeerId, disk: DiskImage): Raft {
    return new Raft({
      self: peer,
      tickMs: 100,
      ...startOf(disk),
      electionTicks: 10,
      heartbeatTicks: 1,
      random: new Random(this.random.next()),
      window: { messagesMax: 8, bytesMax: 1 << 20 },
      appendBytesMax: 1 << 16,
      saveBytesMax: 1 << 20,
      uncommittedBytesMax: 1 << 22,
      applyCountMax: 64,
      ...this.#options,
    })
  }

  node(name: string): ClusterNode {
    const found = this.nodes.find((node) => node.name === name)
    if (found === undefined) throw new Error(`no node ${name}`)
    return found
  }

  get leaders(): ClusterNode[] {
    return this.nodes.filter((node) => node.up && node.raft.role === 'leader')
  }

  /** The leader of the highest term. */
  get leader(): ClusterNode | undefined {
    return this.leaders.sort((a, b) => b.raft.term - a.raft.term)[0]
  }

  /** Takes the node's Ready: messages fly, the save starts, committed entries are applied. */
  drain(node: ClusterNode): boolean {
    if (!node.up) return false
    const ready = node.raft.ready()
    for (const { to, message } of ready.messages) {
      this.flights.push({ from: node.peer, to, message })
    }
    if (ready.save !== null) node.saving = ready.save
    node.applied.push(...ready.committed)
    node.changes.push(...ready.changes)
    node.reads.push(...ready.reads)
    node.readsLost.push(...ready.readsLost)
    return ready.messages.length > 0 || ready.save !== null || ready.committed.length > 0
  }

  /** The save in flight becomes durable, or fails on a full disk. */
  finishSave(node: ClusterNode): void {
    const batch = node.saving
    if (batch === null || !node.up) return
    node.saving = null
    if (node.fullDisk) return node.raft.saveFailed()
    writeTo(node.disk, batch)
    node.raft.saved()
  }

  deliver(flight: Flight): void {
    const to = this.nodes.find((node) => node.peer === flight.to)
    const from = this.nodes.find((node) => node.peer === flight.from)
    if (to === undefined || from === undefined || !to.up) return
    if (this.cut.has(`${from.name}>${to.name}`)) return
    if (this.hold?.(flight)) this.held.push(flight)
    else to.raft.step(flight.from, flight.message)
  }

  /** Delivers what was held, late and in order. */
  release(): void {
    const late = this.held
    this.hold = null
    this.held = []
    for (const flight of late) this.deliver(flight)
  }

  /** Loses what was not saved: memory, messages to it stay in the air. */
  crash(node: ClusterNode): void {
    node.up = false
    node.saving = null
  }

  restart(node: ClusterNode): void {
    node.raft = this.#start(node.peer, node.disk)
    node.applied = []
    node.saving = null
    node.up = true
  }

  isolate(name: string): void {
    for (const other of this.nodes) {
      if (other.name === name) continue
      this.cut.add(`${name}>${other.name}`)
      this.cut.add(`${other.name}>${name}`)
    }
  }

  heal(): void {
    this.cut.clear()
  }

  /** Delivers and saves until nothing moves. */
  settle(): void {
    for (let round = 0; round < 10_000; round++) {
      let moved = false
      for (const node of this.nodes) {
        if (this.drain(node)) moved = true
        if (node.saving !== null && !node.slowDisk) {
          this.finishSave(node)
          moved = true
        }
      }
      const flights = this.flights
      this.flights = []
      for (const flight of flights) {
        this.deliver(flight)
        moved = true
      }
      if (!moved) return
    }
    throw new Error('the cluster does not settle')
  }

  tick(count = 1): void {
    for (let i = 0; i < count; i++) {
      for (const node of this.nodes) if (node.up) node.raft.tick()
      this.settle()
    }
  }

  /** The node's election timer fires, and nobody hears a leader any more; nothing is delivered yet. */
  campaign(name: string): ClusterNode {
    for (const { raft } of this.nodes) {
      const { leader, term } = raft
      if (leader !== null && leader !== raft.self) raft.step(leader, { type: 'resigned', term })
    }
    const node = this.node(name)
    for (let i = 0; i < 40; i++) {
      node.raft.tick()
      if (node.raft.role === 'preCandidate' || node.raft.role === 'candidate') return node
    }
    throw new Error(`${name} does not campaign`)
  }

  /** As `campaign`, and everybody grants its pre-vote, whatever the others are about to do. */
  candidate(name: string): ClusterNode {
    const node = this.campaign(name)
    const { term } = node.raft
    for (const { peer } of this.nodes) {
      if (peer === node.peer || node.raft.role !== 'preCandidate') continue
      const granted = { granted: true, leaderAlive: false }
      node.raft.step(peer, { type: 'preVoteResponse', term, askedTerm: term, ...granted })
    }
    if (node.raft.role !== 'candidate') throw new Error(`${name} is no candidate`)
    return node
  }

  /** `campaign` and everything that follows from it. Throws unless the node leads then. */
  lead(name: string): ClusterNode {
    const node = this.campaign(name)
    this.settle()
    if (node.raft.role !== 'leader') throw new Error(`${name} was not elected`)
    return node
  }

  /** Ticks until exactly one node of the highest term leads and has committed its no-op. */
  elect(ticksMax = 200): ClusterNode {
    for (let i = 0; i < ticksMax; i++) {
      const { leader } = this
      if (leader?.raft.termCommitted) return leader
      this.tick()
    }
    throw new Error('no leader was elected')
  }
}

/** The terms of a node's log, from index 1: what figures 7 and 8 of the paper show. */
export function termsOf(node: ClusterNode): Term[] {
  const { log } = node.raft
  return Array.from({ length: log.lastIndex }, (_, at) => log.termAt(at + 1) as Term)
}

/** What a restart finds: the log, and the snapshot that it knows. */
export function startOf({ hardState, entries, base = NONE, snapshot = undefined }: DiskImage) {
  const index = snapshot?.id.index ?? 0
  const own = index === base.index ? base : entries[index - base.index - 1]
  const isKnown = snapshot !== undefined && own?.term === snapshot.id.term
  return { hardState, entries, base, snapshot: isKnown ? snapshot : null }
}

/** What a correct log storage does with a batch. */
export function writeTo(disk: DiskImage, batch: SaveBatch): void {
  disk.hardState = batch.hardState
  if (batch.base !== undefined) {
    disk.base = batch.base
    disk.entries = []
  }
  const first = batch.entries[0]
  if (first === undefined) return
  const kept = first.index - 1 - (disk.base?.index ?? 0)
  disk.entries = [...disk.entries.slice(0, kept), ...batch.entries]
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
}
