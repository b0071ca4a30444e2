/**
 * A few whole replicas (core, sessions, key-value machine, waiting requests) on one thread, with a network and disks that the test
 * moves by hand. It never reads a clock.
 */

import {
  decodeKvGot,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
} from '../../client/protocol.ts'
import type { AutopilotAlarm } from '../../node/autopilot.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { PeerFrame } from '../../node/peer-frame.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import { Random } from '../../node/raft/random.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import { type Member, type PeerId, peerIdOf } from '../../node/raft/types.ts'
import { Replica, type ReplicaOptions } from '../../node/replica.ts'
import type { ReplicaEvent } from '../../node/replica-effects.ts'
import type { ServiceAnswer, ServiceRequest } from '../../node/request.ts'
import { configurationOf, type DiskImage, bytesOf as textBytes, writeTo } from './raft-cluster.ts'

export const TICK_MS = 10

export interface FrameFlight {
  readonly from: PeerId
  readonly to: PeerId
  readonly frame: PeerFrame
}

export class ReplicaNode {
  readonly name: string
  readonly peer: PeerId
  readonly disk: DiskImage
  replica: Replica
  machine: KvMachine
  saving: SaveBatch | null = null
  /** Every answer, in order: a request that is answered twice is here twice. */
  answers: { readonly requestId: number; readonly answer: ServiceAnswer }[] = []
  up = true
  slowDisk = false
  /** What it told of, in order, and the alarms that stand. */
  readonly events: ReplicaEvent[] = []
  alarms: readonly AutopilotAlarm[] = []
  fullDisk = false

  constructor(name: string, peer: PeerId, disk: DiskImage, made: Made) {
    this.name = name
    this.peer = peer
    this.disk = disk
    this.replica = made.replica
    this.machine = made.machine
  }

  /** The one answer to a request; null when there is none yet. Throws when there are two. */
  answer(requestId: number): ServiceAnswer | null {
    const found = this.answers.filter((one) => one.requestId === requestId)
    if (found.length > 1) throw new Error(`request ${requestId} was answered ${found.length} times`)
    return found[0]?.answer ?? null
  }
}

interface Made {
  readonly replica: Replica
  readonly machine: KvMachine
}

export class ReplicaCluster {
  readonly nodes: ReplicaNode[] = []
  readonly random: Random
  flights: FrameFlight[] = []
  /** Links that lose everything, as `a>b` names. */
  readonly cut = new Set<string>()
  held: FrameFlight[] = []
  hold: ((flight: FrameFlight) => boolean) | null = null
  readonly #options: Partial<ReplicaOptions>

  constructor(
    options: {
      readonly size?: number
      readonly seed?: number
      readonly options?: Partial<ReplicaOptions>
    } = {},
  ) {
    this.random = new Random(options.seed ?? 1)
    this.#options = options.options ?? {}
    const configuration = configurationOf(options.size ?? 3)
    const payload = encodeConfigurationRecord({
      clusterId: '0'.repeat(32),
      foundingSet: [],
      settings: {},
      featureLevel: 2,
      configuration,
    })
    for (const member of configuration.members) {
      const peer = peerIdOf(member)
      const disk: DiskImage = {
        hardState: { term: 1, vote: null, commit: 1 },
        entries: [{ term: 1, index: 1, kind: 'configuration', payload }],
      }
      this.nodes.push(new ReplicaNode(member.name, peer, disk, this.#start(peer, disk)))
    }
  }

  #start(self: PeerId, disk: DiskImage): Made {
    const machine = new KvMachine()
    const replica = new Replica({
      raft: {
        self,
        hardState: disk.hardState,
        entries: disk.entries,
        tickMs: TICK_MS,
        electionTicks: 10,
        heartbeatTicks: 1,
        random: new Random(this.random.next()),
        window: { messagesMax: 8, bytesMax: 1 << 20 },
        appendBytesMax: 1 << 16,
        saveBytesMax: 1 << 20,
        uncommittedBytesMax: 1 << 20,
        applyCountMax: 64,
      },
      machine,
      tickMs: TICK_MS,
      pendingRequestsMax: 1000,
      pendingRequestBytesMax: 1 << 20,
      leaderViewTicks: 5,
      autopilot: null,
      hashEveryEntries: 8,
      hashesKept: 16,
      ...this.#options,
    })
    return { replica, machine }
  }

  /** A node with an empty log that knows the cluster and waits for admission. It is linked to nobody yet. */
  join(member: Omit<Member, 'memberId'>): ReplicaNode {
    const peer = peerIdOf(member)
    const disk: DiskImage = { hardState: { term: 0, vote: null, commit: 0 }, entries: [] }
    const node = new ReplicaNode(member.name, peer, disk, this.#start(peer, disk))
    this.nodes.push(node)
    return node
  }

  /** Both ends see the link, as the runtime would tell them. */
  link(one: Omit<Member, 'memberId'>, other: Omit<Member, 'memberId'>): void {
    for (const [at, seen] of [
      [one, other],
      [other, one],
    ] as const) {
      const node = this.nodes.find(({ peer }) => peer === peerIdOf(at))
      if (node?.up) node.replica.applicantUp(seen)
    }
  }

  node(name: string): ReplicaNode {
    const found = this.nodes.find((node) => node.name === name)
    if (found === undefined) throw new Error(`no node ${name}`)
    return found
  }

  get leader(): ReplicaNode | undefined {
    return this.nodes
      .filter((node) => node.up && node.replica.raft.role === 'leader')
      .sort((a, b) => b.replica.raft.term - a.replica.raft.term)[0]
  }

  drain(node: ReplicaNode): boolean {
    if (!node.up) return false
    const { frames, save, answers, events, alarms, more } = node.replica.drain()
    node.events.push(...events)
    if (alarms !== null) node.alarms = alarms
    for (const [to, list] of frames) {
      for (const frame of list) this.flights.push({ from: node.peer, to, frame })
    }
    if (save !== null) node.saving = save
    node.answers.push(...answers)
    return frames.size > 0 || save !== null || answers.length > 0 || more
  }

  finishSave(node: ReplicaNode): void {
    const batch = node.saving
    if (batch === null || !node.up) return
    node.saving = null
    if (node.fullDisk) return node.replica.saveFailed()
    writeTo(node.disk, batch)
    node.replica.saved()
  }

  deliver(flight: FrameFlight): void {
    const to = this.nodes.find((node) => node.peer === flight.to)
    const from = this.nodes.find((node) => node.peer === flight.from)
    if (to === undefined || from === undefined || !to.up) return
    if (this.cut.has(`${from.name}>${to.name}`)) return
    if (this.hold?.(flight)) this.held.push(flight)
    else to.replica.receive(flight.from, flight.frame)
  }

  release(): void {
    const late = this.held
    this.hold = null
    this.held = []
    for (const flight of late) this.deliver(flight)
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

  /** The process dies; its peers see their links to it close unless `silently`. What was not saved is lost. */
  crash(node: ReplicaNode, silently = false): void {
    node.up = false
    node.saving = null
    if (silently) return
    for (const other of this.nodes) if (other.up) other.replica.linkClosed(node.peer)
  }

  restart(node: ReplicaNode): void {
    const made = this.#start(node.peer, node.disk)
    node.replica = made.replica
    node.machine = made.machine
    node.answers = []
    node.saving = null
    node.up = true
  }

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
      const { flights } = this
      this.flights = []
      for (const flight of flights) {
        this.deliver(flight)
        moved = true
      }
      if (!moved) return
    }
    throw new Error('the replicas do not settle')
  }

  tick(count = 1): void {
    for (let i = 0; i < count; i++) {
      for (const node of this.nodes) if (node.up) node.replica.tick()
      this.settle()
    }
  }

  /** Ticks until a node leads that every reachable node follows. */
  elect(ticksMax = 300): ReplicaNode {
    for (let i = 0; i < ticksMax; i++) {
      const { leader } = this
      if (leader?.replica.raft.termCommitted) return leader
      this.tick()
    }
    throw new Error('no leader was elected')
  }

  /** Followers of the present leader, by name. */
  followers(): ReplicaNode[] {
    return this.nodes.filter((node) => node.up && node !== this.leader)
  }

  /** Ticks until the request is answered. */
  answerOf(node: ReplicaNode, requestId: number, ticksMax = 300): ServiceAnswer {
    for (let i = 0; i < ticksMax; i++) {
      this.settle()
      const answer = node.answer(requestId)
      if (answer !== null) return answer
      this.tick()
    }
    throw new Error(`request ${requestId} has no answer`)
  }
}

// --- requests and answers as text ---------------------------------------------------------------------------------

export function openSession(timeoutMs = 10_000): ServiceRequest {
  const operation = new Uint8Array(0)
  const numbers = { session: 0, sequence: 0, firstOutstanding: 0 }
  return {
    type: 'command',
    command: encodeCommand({ kind: 'openSession', ...numbers, operation }),
    timeoutMs,
  }
}

export interface Write {
  readonly session: number
  readonly sequence: number
  readonly firstOutstanding?: number
  readonly timeoutMs?: number
}

export function put(
  write: Write,
  key: string,
  value: string,
  onlyIfAbsent = false,
): ServiceRequest {
  const operation = encodeKvOperation({
    type: 'put',
    key: textBytes(key),
    value: textBytes(value),
    condition: { type: onlyIfAbsent ? 'absent' : 'none' },
  })
  const { session, sequence, firstOutstanding = sequence, timeoutMs = 10_000 } = write
  const command = encodeCommand({
    kind: 'operation',
    session,
    sequence,
    firstOutstanding,
    operation,
  })
  return { type: 'command', command, timeoutMs }
}

/** A write under a name of its own; its request is told from others by its value alone. */
export function keyedPut(
  write: { readonly name: string; readonly accepted: number; readonly timeoutMs?: number },
  key: string,
  value: string,
  onlyIfAbsent = false,
): ServiceRequest {
  const operation = encodeKvOperation({
    type: 'put',
    key: textBytes(key),
    value: textBytes(value),
    condition: { type: onlyIfAbsent ? 'absent' : 'none' },
  })
  const hashes = new Uint8Array(64)
  hashes.set(textBytes(write.name).subarray(0, 32))
  hashes.set(textBytes(value).subarray(0, 32), 32)
  const command = encodeCommand({
    kind: 'keyed',
    session: 0,
    sequence: write.accepted,
    firstOutstanding: 0,
    operation: Uint8Array.from([...hashes, ...operation]),
  })
  return { type: 'command', command, timeoutMs: write.timeoutMs ?? 10_000 }
}

export function get(
  key: string,
  options: { readonly timeoutMs?: number; readonly consistency?: 'linearizable' | 'stale' } = {},
): ServiceRequest {
  const { timeoutMs = 10_000, consistency = 'linearizable' } = options
  const query = encodeKvQuery({ type: 'get', key: textBytes(key) })
  return { type: 'query', query, consistency, timeoutMs }
}

export function valueIn(answer: ServiceAnswer | null): string | null {
  if (!answer?.ok) throw new Error(`no value but ${JSON.stringify(answer)}`)
  const got = decodeKvGot(answer.body)
  return got === null ? null : new TextDecoder().decode(got.value)
}

/** The status of a command's outcome, and whether the write's condition held. */
export function outcomeOf(answer: ServiceAnswer | null): { status: string; succeeded: boolean } {
  if (!answer?.ok) throw new Error(`no outcome but ${JSON.stringify(answer)}`)
  const { status, body } = decodeOutcome(answer.body)
  return { status, succeeded: body.length > 0 && decodeKvResult(body).succeeded }
}

export function errorOf(answer: ServiceAnswer | null): { code: string; maybeApplied: boolean } {
  if (answer === null || answer.ok) throw new Error(`no error but ${JSON.stringify(answer)}`)
  return { code: answer.error.code, maybeApplied: answer.error.maybeApplied }
}
