/**
 * The only driver: performs the effects that founding and replica ask for and feeds the results back. Callbacks, no promises: the
 * simulator drives it too. It must never decide anything about consensus, and never report a save that is not durable.
 *
 * All inputs of one turn of the event loop are taken in first; then, once, the effects are drained: that is the group commit.
 */

import { errorBody } from '../client/protocol.ts'
import { Alarms } from './alarms.ts'
import { LIMITS, tickMsFor } from './config.ts'
import type { FoundingOptions } from './founding.ts'
import { FoundingDriver, type LogStart } from './founding-driver.ts'
import type { StateMachine } from './machine/machine.ts'
import { PeerBook } from './peer-book.ts'
import type { RaftOptions } from './raft/options.ts'
import { Random } from './raft/random.ts'
import { type PeerId, type PeerIdentity, peerIdOf } from './raft/types.ts'
import { Replica } from './replica.ts'
import type {
  Alarm,
  LeaderInfo,
  Service,
  ServiceAnswer,
  ServiceRequest,
  Status,
} from './service.ts'
import { buildStatus, leaderInfo, type StatusParts } from './status.ts'
import type { Identity } from './storage/identity.ts'
import type { LogStorage, StorageError } from './storage/storage.ts'
import type { Link, PeerFrame, Transport, TransportEvents } from './transport/transport.ts'

/** The limits that consensus and the waiting requests live by, each as in limits.ts. */
export type RuntimeLimits = Record<
  | 'maxSaveBytes'
  | 'unsavedBytesMax'
  | 'appendBytesMax'
  | 'inflightAppendsMax'
  | 'inflightBytesMax'
  | 'pendingRequestsMax'
  | 'pendingRequestBytesMax'
  | 'hashEveryEntries'
  | 'hashesKept'
  | 'leaderViewMs'
  | 'applyCountMax',
  number
>

export interface RuntimeParts {
  readonly identity: Identity
  readonly transport: Transport
  /** `create`: an empty log in place of whatever an unfinished founding left. Throws StorageError. */
  readonly openLog: (how: 'create' | 'open') => LogStorage
  readonly machine: StateMachine
  readonly founding: Omit<FoundingOptions, 'self' | 'record'>
  readonly urls: () => readonly string[]
  readonly heartbeatMs: number
  readonly electionMs: number
  /** Others than the product's: the simulator draws small ones, at which batches split and windows fill. */
  readonly limits?: Partial<RuntimeLimits>
  readonly seed: number
  /** Runs `run` when the inputs of this turn are in. */
  readonly defer: (run: () => void) => void
  /** Called once a turn before the effects are drained: a tick that is nearly due may ride along. */
  readonly turn: () => void
  /** Monotonic, ms. Only for what is shown. */
  readonly nowMs: () => number
  readonly wallClock: () => Date
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', event: string, fields?: object) => void
  /** Something after which this process must not go on. */
  readonly fatal: (code: string, message: string) => void
  readonly admin: (name: string, args: unknown) => Promise<unknown>
  readonly shown: Pick<StatusParts, 'version' | 'runtime' | 'topic'>
}

export class Runtime implements Service, TransportEvents {
  readonly #parts: RuntimeParts
  readonly #self: PeerIdentity
  readonly #founding: FoundingDriver
  readonly #peers: PeerBook
  readonly #alarms: Alarms
  readonly #startedMs: number
  readonly #limits: RuntimeLimits
  #replica: Replica | null = null
  #logStorage: LogStorage | null = null
  #answers = new Map<number, (answer: ServiceAnswer) => void>()
  #nextRequestId = 1
  #leaderListeners = new Set<(leader: LeaderInfo) => void>()
  #leader: LeaderInfo = { leaderId: null, leaderUrl: null, term: 0 }
  /** What #leader was made from, so that it is made anew only when that has changed. */
  #leaderSeen: { peer: PeerId | null; term: number; news: number } = {
    peer: null,
    term: 0,
    news: 0,
  }
  /** Counts the changes of what is known of peers' addresses. */
  #peerNews = 0
  #draining = false
  #closed = false

  constructor(parts: RuntimeParts) {
    const { identity, log } = parts
    const { publicKey, storageId, name, founding, members } = identity.record
    this.#parts = parts
    this.#limits = { ...LIMITS, ...parts.limits }
    this.#self = { nodeKey: publicKey, storageId }
    this.#startedMs = parts.nowMs()
    this.#peers = new PeerBook(members)
    this.#alarms = new Alarms({
      announce: (alarm: Alarm) => log('error', 'alarm.raised', { ...alarm }),
      now: parts.wallClock,
    })
    this.#founding = new FoundingDriver({
      identity,
      transport: parts.transport,
      peers: this.#peers,
      alarms: this.#alarms,
      options: {
        ...parts.founding,
        record: founding,
        self: { ...this.#self, name, urls: parts.urls },
      },
      openLog: () => parts.openLog('create'),
      log: parts.log,
      fatal: parts.fatal,
      wake: () => this.#wake(),
      founded: (storage, first) => this.#becomeMember(storage, first),
    })
    if (founding.bound?.how === 'founded') {
      const storage = parts.openLog('open')
      this.#becomeMember(storage, storage.recovered)
    }
    this.#keepMembers()
  }

  /** What consensus is made of here, null while blank: for the simulator's checks. */
  get replica(): Replica | null {
    return this.#replica
  }

  get clusterId(): string | null {
    return this.#parts.identity.record.clusterId
  }

  get term(): number {
    return this.#replica?.raft.term ?? 0
  }

  get isLeader(): boolean {
    return this.#replica?.raft.role === 'leader'
  }

  /** The replicated settings, null before there are any. */
  get settings(): Readonly<Record<string, unknown>> | null {
    return this.#replica?.committed?.settings ?? null
  }

  /** Nobody is missing: discovery may rest. */
  get meshed(): boolean {
    if (this.#replica === null) return false
    return this.#replica.raft.tracker.peers.every((peer) => this.#peers.linkTo(peer) !== null)
  }

  // --- inputs from the world --------------------------------------------------------------------------------------

  /** How often `tick` wants to be called, ms. */
  get tickMs(): number {
    return tickMsFor(this.#parts.heartbeatMs)
  }

  /** Called every `tickMs`, at most once a turn. */
  tick(elapsedMs: number): void {
    if (this.#closed) return
    this.#founding.tick(elapsedMs)
    this.#replica?.tick()
    this.#wake()
  }

  /** FOUNDING F9: every source has looked once, and so many hints are not yet dialled to an end. */
  discoverySwept(pendingDials: number): void {
    this.#founding.discoverySwept(pendingDials)
  }

  linkUp(link: Link): void {
    const { nodeKey, clusterId, name } = link.hello
    const { carrier } = link
    this.#parts.log('info', 'link.up', { peer: nodeKey.slice(0, 8), name, carrier, clusterId })
    const news = this.#peers.linkUp(link)
    this.#peerNews++
    this.#founding.linkUp(nodeKey, link.hello)
    if (news && this.#replica?.memberOf(peerIdOf(link.hello)) != null) this.#rememberMembers()
    this.#wake()
  }

  linkDown(link: Link, reason: string, last: boolean): void {
    const { nodeKey, name } = link.hello
    this.#parts.log('info', 'link.down', { peer: nodeKey.slice(0, 8), name, reason, last })
    this.#peers.linkDown(link)
    if (!last) return
    this.#founding.linkDown(nodeKey)
    this.#replica?.linkClosed(peerIdOf(link.hello))
    this.#wake()
  }

  frame(link: Link, frame: PeerFrame): void {
    if (this.#closed) return
    if (frame.type === 'founding') this.#founding.receive(link, frame.body)
    else this.#replica?.receive(this.#peers.peerOf(link), frame)
    this.#wake()
  }

  helloChanged(link: Link): void {
    const { nodeKey, clusterId } = link.hello
    if (clusterId !== null) this.#founding.belongs(nodeKey, clusterId)
    this.#wake()
  }

  refused(info: Parameters<TransportEvents['refused']>[0]): void {
    const { reason, url, nodeKey, detail, clusterId } = info
    const peer = nodeKey?.slice(0, 8) ?? null
    this.#parts.log('warn', 'link.refused', { reason, url, peer, detail, clusterId })
    if (reason === 'wrong-cluster') this.#alarms.raise('second-cluster', detail)
    if (reason === 'clone') this.#alarms.raise('clone', detail)
  }

  // --- Service ------------------------------------------------------------------------------------------------------

  request(request: ServiceRequest, answer: (answer: ServiceAnswer) => void): () => void {
    const requestId = this.#nextRequestId++
    if (this.#replica === null || this.#closed) {
      const error = this.#closed
        ? errorBody('closing', 'this node is stopping')
        : errorBody('not-founded', this.readiness().reason)
      let wanted = true
      this.#parts.defer(() => wanted && answer({ ok: false, error }))
      return () => {
        wanted = false
      }
    }
    this.#answers.set(requestId, answer)
    this.#replica.request(requestId, request)
    this.#wake()
    return () => {
      this.#answers.delete(requestId)
      this.#replica?.cancel(requestId)
    }
  }

  status(): Status {
    return buildStatus(this.#statusParts())
  }

  readiness(): { ready: boolean; reason: string } {
    if (this.#closed) return { ready: false, reason: 'this node is stopping' }
    if (this.#replica === null) {
      if (this.clusterId !== null) return { ready: false, reason: 'waits for admission' }
      const { have, need } = this.#founding.status
      return { ready: false, reason: `waits for founders: ${have} of ${need} are here` }
    }
    if (this.#replica.raft.leader === null) return { ready: false, reason: 'knows no leader' }
    if (!this.#replica.caughtUp) return { ready: false, reason: 'has not caught up yet' }
    return { ready: true, reason: 'ok' }
  }

  leader(): LeaderInfo {
    return this.#leader
  }

  onLeaderChange(changed: (leader: LeaderInfo) => void): () => void {
    this.#leaderListeners.add(changed)
    return () => {
      this.#leaderListeners.delete(changed)
    }
  }

  lagMs(): number | null {
    const ticks = this.#replica?.lagTicks ?? null
    return ticks === null ? null : ticks * this.tickMs
  }

  admin(name: string, args: unknown): Promise<unknown> {
    return this.#parts.admin(name, args)
  }

  // --- stopping -----------------------------------------------------------------------------------------------------

  /** Asks the best follower to take over. False when there is nothing to hand over. */
  handOver(): boolean {
    const begun = this.#replica?.handOver() ?? false
    this.#wake()
    return begun
  }

  /** Answers what waits, takes no more input, and waits for the save in flight. */
  close(done: () => void): void {
    if (this.#closed) return done()
    this.#replica?.close()
    this.#drain()
    this.#closed = true
    if (this.#logStorage === null) done()
    else this.#logStorage.close(done)
  }

  // --- driving ------------------------------------------------------------------------------------------------------

  #wake(): void {
    if (this.#draining || this.#closed) return
    this.#draining = true
    this.#parts.defer(() => {
      if (!this.#closed) this.#parts.turn()
      this.#draining = false
      if (!this.#closed) this.#drain()
    })
  }

  #drain(): void {
    this.#founding.drain()
    const replica = this.#replica
    if (replica === null) return
    const { frames, save, answers, events, more } = replica.drain()
    for (const [peer, list] of frames) this.#sendTo(peer, list)
    if (save !== null) this.#save(replica, save)
    for (const { event, level, fields } of events) {
      this.#parts.log(level, event, fields)
      if (event === 'config.changed') this.#rememberMembers()
    }
    for (const { requestId, answer } of answers) {
      const callback = this.#answers.get(requestId)
      this.#answers.delete(requestId)
      callback?.(answer)
    }
    this.#noteLeader(replica)
    if (more) this.#wake()
  }

  #sendTo(peer: PeerId, frames: readonly PeerFrame[]): void {
    const link = this.#peers.linkTo(peer)
    if (link !== null) this.#parts.transport.send(link.hello, frames)
  }

  #save(replica: Replica, batch: Parameters<LogStorage['save']>[0]): void {
    this.#logStorage?.save(batch, (error: StorageError | null) => {
      if (error === null) {
        this.#alarms.clear('disk-full')
        replica.saved()
      } else if (error.code === 'disk-full') {
        this.#alarms.raise('disk-full', 'the disk has no room; writes are refused until there is')
        replica.saveFailed()
      } else {
        this.#parts.fatal(error.code, error.message)
        return
      }
      this.#wake()
    })
  }

  #noteLeader(replica: Replica): void {
    // Most turns change nothing here, and this runs in every one.
    const { leader: peer, term } = replica.raft
    const seen = this.#leaderSeen
    if (seen.peer === peer && seen.term === term && seen.news === this.#peerNews) return
    this.#leaderSeen = { peer, term, news: this.#peerNews }
    const leader = leaderInfo(this.#statusParts(), replica)
    const before = this.#leader
    if (
      leader.leaderId === before.leaderId &&
      leader.leaderUrl === before.leaderUrl &&
      leader.term === before.term
    ) {
      return
    }
    this.#leader = leader
    for (const listener of this.#leaderListeners) listener(leader)
  }

  // --- membership -----------------------------------------------------------------------------------------------------

  #becomeMember(storage: LogStorage, start: LogStart): void {
    this.#logStorage = storage
    if (storage.recovered.tornTailCut) this.#parts.log('warn', 'log.torn-tail-cut', {})
    this.#replica = new Replica({
      raft: this.#raftOptions(start),
      machine: this.#parts.machine,
      tickMs: this.tickMs,
      pendingRequestsMax: this.#limits.pendingRequestsMax,
      pendingRequestBytesMax: this.#limits.pendingRequestBytesMax,
      leaderViewTicks: Math.ceil(this.#limits.leaderViewMs / this.tickMs),
      hashEveryEntries: this.#limits.hashEveryEntries,
      hashesKept: this.#limits.hashesKept,
    })
  }

  #raftOptions(start: LogStart): RaftOptions {
    return {
      self: peerIdOf(this.#self),
      hardState: start.hardState,
      entries: start.entries,
      electionTicks: Math.ceil(this.#parts.electionMs / this.tickMs),
      heartbeatTicks: Math.max(1, Math.round(this.#parts.heartbeatMs / this.tickMs)),
      random: new Random(this.#parts.seed),
      window: {
        messagesMax: this.#limits.inflightAppendsMax,
        bytesMax: this.#limits.inflightBytesMax,
      },
      appendBytesMax: this.#limits.appendBytesMax,
      saveBytesMax: this.#limits.maxSaveBytes,
      uncommittedBytesMax: this.#limits.unsavedBytesMax,
      applyCountMax: this.#limits.applyCountMax,
    }
  }

  /** The committed members and where they were last seen go to the identity file: a restart needs no discovery. */
  #rememberMembers(): void {
    const record = this.#replica?.committed
    if (record === null || record === undefined) return
    const own = peerIdOf(this.#self)
    const members = this.#peers
      .withUrls(record.configuration.members)
      .map((member) =>
        peerIdOf(member) === own ? { ...member, urls: this.#parts.urls() } : member,
      )
    const memberId = members.find((member) => peerIdOf(member) === own)?.memberId ?? null
    const { identity } = this.#parts
    const known = JSON.stringify([identity.record.members, identity.record.memberId])
    if (known !== JSON.stringify([members, memberId])) {
      try {
        identity.update({ members, memberId })
      } catch (error) {
        // Only convenience is lost: the log knows the members, discovery finds them.
        this.#parts.log('warn', 'identity.not-updated', { reason: (error as Error).message })
      }
    }
    this.#keepMembers()
  }

  #keepMembers(): void {
    const { members } = this.#parts.identity.record
    const others = members.filter((member) => member.nodeKey !== this.#self.nodeKey)
    this.#parts.transport.keep(
      others.map((member) => ({ nodeKey: member.nodeKey, urls: this.#peers.urlsOf(member) })),
    )
  }

  #statusParts(): StatusParts {
    return {
      ...this.#parts.shown,
      nodeId: this.#self.nodeKey,
      name: this.#parts.identity.record.name,
      clusterId: this.clusterId,
      founding: this.clusterId === null ? this.#founding.status : null,
      alarms: this.#alarms.list,
      uptimeMs: Math.round(this.#parts.nowMs() - this.#startedMs),
      ownUrl: this.#parts.urls()[0] ?? null,
      peers: this.#peers,
      replica: this.#replica,
    }
  }
}
