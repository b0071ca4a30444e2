/**
 * The only driver: performs the effects that founding and replica ask for and feeds the results back. Callbacks, no promises: the
 * simulator drives it too. It must never decide anything about consensus, and never report a save that is not durable.
 *
 * All inputs of one turn of the event loop are taken in first; then, once, the effects are drained: that is the group commit.
 */

import { type ErrorBody, errorBody } from '../client/protocol.ts'
import { Admission } from './admission.ts'
import { Alarms, restoredCopy } from './alarms.ts'
import { AppliedState } from './applied-state.ts'
import { AUTOPILOT_ALARMS } from './autopilot.ts'
import { LIMITS, tickMsFor } from './config.ts'
import {
  beyondThisBuild,
  FEATURE_LEVEL,
  featureLevelOf,
  framesFor,
  raiseFeatureLevel,
} from './feature-level.ts'
import { FoundingDriver, type LogStart } from './founding-driver.ts'
import type { LeaderView } from './leader-view.ts'
import { LeaderWatch } from './leader-watch.ts'
import { MemberMemory } from './member-memory.ts'
import { MemberVerbs } from './member-verbs.ts'
import { PeerBook } from './peer-book.ts'
import type { SaveBatch } from './raft/ready.ts'
import { type PeerId, type PeerIdentity, peerIdOf } from './raft/types.ts'
import { Replica } from './replica.ts'
import { appliedOptions, type RuntimeLimits, replicaOptions } from './replica-options.ts'
import type { RuntimeParts } from './runtime-parts.ts'
import type {
  Alarm,
  Backup,
  LeaderInfo,
  Service,
  ServiceAnswer,
  ServiceRequest,
  Status,
} from './service.ts'
import { backupAfterRead } from './snapshot-backup.ts'
import { SnapshotDriver } from './snapshot-driver.ts'
import { buildStatus, leaderInfo, type StatusParts } from './status.ts'
import type { LogStorage, StorageError } from './storage/storage.ts'
import type { Link, PeerFrame, TransportEvents } from './transport/transport.ts'

export type { RuntimeLimits } from './replica-options.ts'
export type { RuntimeParts } from './runtime-parts.ts'

/** What a removed node says, when it is told and at every start afterwards. */
export const REMOVED =
  'This node was removed from its cluster and takes no part any more. `raft-p2p rejoin` archives its data; its next start ' +
  'then enters as a new member.'

/** A link that ended for these says nothing about the peer. An echo that never came does, though this node closed the link. */
const CLOSED_BY_US: ReadonlySet<string> = new Set(['closed-by-us', 'protocol-error'])

export class Runtime implements Service, TransportEvents {
  readonly #parts: RuntimeParts
  readonly #self: PeerIdentity
  readonly #founding: FoundingDriver
  readonly #peers: PeerBook
  readonly #alarms: Alarms
  /** Of the autopilot of the leader, while that is another node. */
  readonly #leaderAlarms: Alarms
  #leaderView: LeaderView | null = null
  readonly #admission: Admission
  readonly #members: MemberMemory
  readonly #verbs: MemberVerbs
  readonly #leaderWatch = new LeaderWatch()
  readonly #startedMs: number
  readonly #limits: RuntimeLimits
  #replica: Replica | null = null
  #logStorage: LogStorage | null = null
  #snapshots: SnapshotDriver | null = null
  #answers = new Map<number, (answer: ServiceAnswer) => void>()
  #nextRequestId = 1
  #isRemoved = false
  #draining = false
  #cancelWake = (): void => {}
  #closed = false

  constructor(parts: RuntimeParts) {
    const { identity, log } = parts
    const { publicKey, storageId, name, founding, members } = identity.record
    this.#parts = parts
    this.#limits = Object.assign({}, LIMITS, parts.limits)
    this.#self = { nodeKey: publicKey, storageId }
    this.#startedMs = parts.nowMs()
    this.#peers = new PeerBook(members)
    this.#alarms = new Alarms({
      announce: (alarm: Alarm) => log('error', 'alarm.raised', { ...alarm }),
      now: parts.wallClock,
    })
    this.#leaderAlarms = new Alarms({ announce: () => {}, now: parts.wallClock })
    this.#founding = new FoundingDriver({
      identity,
      transport: parts.transport,
      peers: this.#peers,
      alarms: this.#alarms,
      options: {
        featureLevel: FEATURE_LEVEL,
        record: founding,
        self: { nodeKey: publicKey, storageId, name, urls: parts.urls },
        ...parts.founding,
      },
      openLog: () => parts.openLog('create'),
      log: parts.log,
      fatal: parts.fatal,
      wake: () => this.#wake(),
      founded: (storage, first) => this.#becomeMember(storage, first),
      joined: (storage, first) => this.#becomeMember(storage, first),
    })
    this.#members = new MemberMemory({
      self: this.#self,
      identity,
      transport: parts.transport,
      peers: this.#peers,
      urls: parts.urls,
      failed: (reason) => log('warn', 'identity.not-updated', { reason }),
    })
    this.#verbs = new MemberVerbs({
      request: (request, answer) => void this.request(request, answer),
      memberId: () => identity.record.memberId,
      config: () => this.#replica?.committedAt ?? null,
    })
    this.#admission = new Admission({
      self: this.#self,
      transport: parts.transport,
      peers: this.#peers,
      clusterId: () => this.clusterId,
      replica: () => this.#replica,
      removed: () => this.#removed(),
    })
    const { logCreated } = identity.record
    if (founding.bound?.how === 'joined' && !logCreated) this.#founding.createJoinersLog()
    else if (founding.bound !== null) {
      const storage = parts.openLog('open')
      this.#becomeMember(storage, storage.recovered)
    }
    this.#members.keep()
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
    this.#replica?.raft.roundTrip(this.#peers.rttMsMax)
    this.#replica?.tick()
    this.#snapshots?.tick()
    this.#admission.tick()
    this.#alarms.refusals.tick(this.#parts.nowMs())
    if (this.#replica !== null) raiseFeatureLevel(this.#replica, this.#peers)
    this.#wake()
  }

  /** FOUNDING F9: every source has looked once, and so many hints are not yet dialled to an end. */
  discoverySwept(pendingDials: number): void {
    this.#founding.discoverySwept(pendingDials)
  }

  linkUp(link: Link): void {
    const { carrier, hello } = link
    const { nodeKey, clusterId, name } = hello
    this.#parts.log('info', 'link.up', { peer: nodeKey.slice(0, 8), name, carrier, clusterId })
    this.#alarms.refusals.linked(nodeKey)
    const news = this.#peers.linkUp(link)
    this.#leaderWatch.addressesChanged()
    this.#founding.linkUp(nodeKey, hello)
    this.#admission.consider(link)
    if (news && this.#replica?.memberOf(peerIdOf(link.hello)) != null) {
      this.#members.remember(this.#replica.committed)
    }
    this.#wake()
  }

  linkDown(link: Link, reason: string, last: boolean): void {
    const { nodeKey, name } = link.hello
    this.#parts.log('info', 'link.down', { peer: nodeKey.slice(0, 8), name, reason, last })
    this.#peers.linkDown(link)
    if (last) this.#founding.linkDown(nodeKey)
    const peer = peerIdOf(link.hello)
    // Another disk under the same key may have taken its place: then this one is gone all the same.
    if (!last && this.#peers.linkTo(peer) !== null) return
    this.#replica?.linkClosed(peer, CLOSED_BY_US.has(reason))
    this.#snapshots?.linkClosed(peer)
    this.#wake()
  }

  frame(link: Link, frame: PeerFrame): void {
    if (this.#closed) return
    if (frame.type === 'founding') this.#founding.receive(link, frame.body)
    else if (frame.type === 'removed') this.#admission.told()
    else if (frame.type === 'snapshotPull' || frame.type === 'snapshotChunk') {
      this.#snapshots?.receive(this.#peers.peerOf(link), frame)
    } else this.#replica?.receive(this.#peers.peerOf(link), frame)
    this.#wake()
  }

  helloChanged(link: Link): void {
    const { nodeKey, clusterId } = link.hello
    if (clusterId !== null) this.#founding.belongs(nodeKey, clusterId)
    this.#admission.consider(link)
    this.#wake()
  }

  refused(info: Parameters<TransportEvents['refused']>[0]): void {
    const { nodeKey, ...fields } = info
    this.#parts.log('warn', 'link.refused', { ...fields, peer: nodeKey?.slice(0, 8) ?? null })
    this.#alarms.refusals.refused(info, this.#parts.nowMs())
  }

  // --- Service ------------------------------------------------------------------------------------------------------

  request(request: ServiceRequest, answer: (answer: ServiceAnswer) => void): () => void {
    const requestId = this.#nextRequestId++
    if (this.#replica === null || this.#replica.committed === null || this.#closed) {
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
      if (this.#snapshots !== null) return { ready: false, reason: 'loads its snapshot' }
      if (this.clusterId !== null) return { ready: false, reason: 'waits for admission' }
      const { have, need } = this.#founding.status
      return { ready: false, reason: `waits for founders: ${have} of ${need} are here` }
    }
    if (this.#replica.committed === null) return { ready: false, reason: 'waits for admission' }
    if (this.#replica.raft.leader === null) return { ready: false, reason: 'knows no leader' }
    const { quarantined, alarm } = this.#replica.comparison
    if (quarantined) return { ready: false, reason: alarm ?? 'in quarantine' }
    if (!this.#replica.caughtUp) return { ready: false, reason: 'has not caught up yet' }
    return { ready: true, reason: 'ok' }
  }

  leader(): LeaderInfo {
    return this.#leaderWatch.leader
  }

  onLeaderChange(changed: (leader: LeaderInfo) => void): () => void {
    return this.#leaderWatch.onChange(changed)
  }

  lagMs(): number | null {
    const ticks = this.#replica?.lagTicks ?? null
    return ticks === null ? null : ticks * this.tickMs
  }

  timeMoves(): number {
    return this.#replica?.timeMoves ?? 0
  }

  admin(name: string, args: unknown): Promise<unknown> {
    return this.#verbs.run(name, args) ?? this.#parts.admin(name, args)
  }

  backup(answer: (backup: Backup | ErrorBody) => void): () => void {
    const begin = (): (() => void) => {
      this.#wake()
      return this.#snapshots?.backup(answer) ?? (() => {})
    }
    return backupAfterRead((request, given) => this.request(request, given), begin, answer)
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
    this.#snapshots?.close()
    this.#closed = true
    this.#cancelWake()
    if (this.#logStorage === null) done()
    else this.#logStorage.close(done)
  }

  // --- driving ------------------------------------------------------------------------------------------------------

  #wake(): void {
    if (this.#draining || this.#closed) return
    this.#draining = true
    this.#parts.defer(this.#turn)
  }

  readonly #turn = (): void => {
    if (!this.#closed) this.#parts.turn()
    this.#draining = false
    if (!this.#closed) this.#drain()
  }

  #drain(): void {
    this.#founding.drain()
    const replica = this.#replica
    if (replica === null) return
    const { frames, save, offers, answers, events, alarms, wakeInMs, more } = replica.drain()
    for (const [peer, list] of frames) this.#sendTo(peer, list)
    if (save !== null) this.#save(replica, save)
    this.#snapshots?.step(offers)
    if (alarms !== null) this.#alarms.replace(AUTOPILOT_ALARMS, alarms)
    this.#noteLeaderView(replica.raft.role === 'leader' ? null : replica.view)
    for (const { event, level, fields } of events) {
      this.#parts.log(level, event, fields)
      if (event === 'config.changed') this.#configurationChanged()
      if (event === 'member.regressed') this.#alarms.raise('restored-copy', restoredCopy(fields))
    }
    for (const { requestId, answer } of answers) {
      const callback = this.#answers.get(requestId)
      this.#answers.delete(requestId)
      callback?.(answer)
    }
    this.#alarms.show('divergence', replica.comparison.alarm)
    const { leader, term } = replica.raft
    if (this.#leaderWatch.isNews(leader, term)) {
      const ownUrl = this.#parts.urls()[0] ?? null
      this.#leaderWatch.tell(leaderInfo({ ownUrl, peers: this.#peers }, replica))
    }
    if (wakeInMs !== null) this.#wakeReplica(replica, wakeInMs)
    if (more) this.#wake()
  }

  /** Whoever asks a follower sees what the leader would show. */
  #noteLeaderView(view: LeaderView | null): void {
    if (view === this.#leaderView) return
    this.#leaderView = view
    const alarms = view?.alarms ?? []
    const known = AUTOPILOT_ALARMS.flatMap((kind) => alarms.filter((one) => one.kind === kind))
    this.#leaderAlarms.replace(AUTOPILOT_ALARMS, known)
  }

  #wakeReplica(replica: Replica, delayMs: number): void {
    this.#cancelWake()
    this.#cancelWake = this.#parts.wakeIn(delayMs, () => {
      if (this.#closed) return
      replica.raft.wake()
      this.#wake()
    })
  }

  #sendTo(peer: PeerId, frames: readonly PeerFrame[]): void {
    const link = this.#peers.linkTo(peer)
    if (link === null) return
    this.#parts.transport.send(link.hello, framesFor(link.hello.featureLevel, frames))
  }

  #save(replica: Replica, batch: SaveBatch): void {
    this.#logStorage?.save(batch, (error: StorageError | null) => {
      if (error === null) {
        this.#alarms.clear('disk-full')
        replica.saved()
        this.#snapshots?.saved(batch)
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

  // --- membership -----------------------------------------------------------------------------------------------------

  /** The core starts only when the state that goes with its log is loaded; until then nothing that arrives counts. */
  #becomeMember(storage: LogStorage, start: LogStart): void {
    const { machine, log } = this.#parts
    this.#logStorage = storage
    if (storage.recovered.tornTailCut) log('warn', 'log.torn-tail-cut', {})
    const snapshots = new SnapshotDriver({
      storage: this.#parts.openSnapshots(),
      logStorage: storage,
      clusterId: this.clusterId as string,
      limits: this.#limits,
      tickMs: this.tickMs,
      restorer: () => AppliedState.restorer(appliedOptions(machine, this.#limits)),
      alarms: this.#alarms,
      send: (to, frames) => this.#sendTo(to, frames),
      wake: () => this.#wake(),
      note: log,
      fatal: this.#parts.fatal,
    })
    this.#snapshots = snapshots
    snapshots.restore((restored) => {
      const { electionMs, heartbeatMs, seed, autopilot } = this.#parts
      const settings = { self: this.#self, machine, electionMs, heartbeatMs, seed, autopilot }
      this.#replica = new Replica(replicaOptions(settings, this.#limits, start, restored))
      snapshots.attach(this.#replica)
      this.#wake()
    })
  }

  #configurationChanged(): void {
    const record = this.#replica?.committed ?? null
    this.#parts.transport.requireLevel(featureLevelOf(record))
    const tooNew = beyondThisBuild(record)
    if (tooNew !== null) this.#parts.fatal('version', tooNew)
    this.#leaderWatch.addressesChanged()
    this.#members.remember(record)
    this.#admission.configurationChanged()
  }

  #removed(): void {
    if (this.#closed || this.#isRemoved) return
    this.#isRemoved = true
    const { identity, fatal, log } = this.#parts
    try {
      identity.update({ removed: true })
    } catch (error) {
      // Whoever it meets after its next start tells it again.
      log('warn', 'identity.not-updated', { reason: (error as Error).message })
    }
    if (this.#verbs.leaving) fatal('left', 'This node has left the cluster, as it was asked to.')
    else fatal('removed', REMOVED)
  }

  #statusParts(): StatusParts {
    return {
      nodeId: this.#self.nodeKey,
      name: this.#parts.identity.record.name,
      clusterId: this.clusterId,
      founding: this.clusterId === null ? this.#founding.status : null,
      alarms: [...this.#alarms.list, ...this.#leaderAlarms.list],
      uptimeMs: Math.round(this.#parts.nowMs() - this.#startedMs),
      ownUrl: this.#parts.urls()[0] ?? null,
      peers: this.#peers,
      replica: this.#replica,
      snapshot: this.#snapshots?.progress ?? null,
      ...this.#parts.shown,
    }
  }
}
