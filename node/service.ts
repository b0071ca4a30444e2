/**
 * What the gateway (and an embedding program) asks of a running node. Types only: the runtime implements it, the
 * gateway's tests stand in for it.
 */
import type { ErrorBody } from '../client/protocol.ts'
import type { Index, MemberId, Role, Term } from './raft/types.ts'
import type { HashAt, ServiceAnswer, ServiceRequest } from './request.ts'

export type { HashAt, ServiceAnswer, ServiceRequest } from './request.ts'

export interface LeaderInfo {
  readonly leaderId: MemberId | null
  readonly leaderUrl: string | null
  readonly term: Term
}

export interface Service {
  /**
   * Answers exactly once, later in another turn, unless cancelled. Follows the leader and survives its change; after
   * `timeoutMs` the answer is `timeout` (maybeApplied) or `no-leader`. Returns a function that gives up the request: no
   * answer comes then.
   */
  request(request: ServiceRequest, answer: (answer: ServiceAnswer) => void): () => void
  status(): Status
  readiness(): { readonly ready: boolean; readonly reason: string }
  leader(): LeaderInfo
  /** Calls `changed` at every change of leader or term; returns the unsubscribe function. */
  onLeaderChange(changed: (leader: LeaderInfo) => void): () => void
  /** How old a local read may be, ms since the last word from a leader with everything up to then applied. */
  lagMs(): number | null
  /** How often log time has moved in what this node has applied: a keyed command is accepted with it (client/protocol.ts). */
  timeMoves(): number
  /**
   * The whole state at one index, not older than the call. Answers once, usually within seconds; returns what gives it up. Whoever
   * gets a backup closes it.
   */
  backup(answer: (backup: Backup | ErrorBody) => void): () => void
  /** Privileged verbs by name (`stop`). Rejects with ErrorBody-shaped errors. */
  admin(name: string, args: unknown): Promise<unknown>
}

export interface Backup {
  readonly info: {
    readonly clusterId: string
    readonly index: Index
    readonly term: Term
    readonly sizeBytes: number
    /** SHA-256 of the file, 64 lower-case hex digits. */
    readonly checksum: string
  }
  /** At most 1 MiB at a time, none behind the end; null when the file cannot be read. */
  read(offset: number, length: number, done: (bytes: Uint8Array | null) => void): void
  /** Idempotent. */
  close(): void
}

export interface MemberStatus {
  readonly memberId: MemberId
  readonly nodeId: string
  readonly name: string
  readonly url: string | null
  readonly role: 'voter' | 'learner'
  readonly isLeader: boolean
  readonly matchIndex: Index | null
  readonly lag: number | null
  readonly link: 'direct' | 'tunnelled' | 'down' | 'self'
  readonly rttMs: number | null
}

export interface Alarm {
  readonly kind: string
  readonly detail: string
  /** ISO 8601, UTC. */
  readonly since: string
}

/** `bytes` of `sizeBytes` are done; null: nobody knows the size yet. */
export interface SnapshotStatus {
  readonly state: 'idle' | 'writing' | 'receiving' | 'loading' | 'sending'
  /** What the snapshot covers; null while idle. */
  readonly index: Index | null
  readonly bytes: number
  readonly sizeBytes: number | null
}

/** The object of `GET /v1/status`; CONTRACT fixes every field. */
export interface Status {
  readonly version: string
  readonly clusterId: string | null
  readonly topic: string
  readonly nodeId: string
  readonly memberId: MemberId | null
  readonly name: string
  readonly runtime: string
  readonly role: Role | 'learner' | 'blank'
  readonly term: Term
  readonly leaderId: MemberId | null
  readonly leaderUrl: string | null
  readonly commitIndex: Index
  readonly appliedIndex: Index
  readonly firstIndex: Index
  readonly lastIndex: Index
  readonly snapshotIndex: Index
  /** In use by the whole cluster (docs/upgrades.md). */
  readonly featureLevel: number
  /** What goes on with snapshots here: written, received, loaded or sent. Null while blank. */
  readonly snapshot: SnapshotStatus | null
  readonly stateHash: HashAt | null
  readonly stateHashes: readonly HashAt[]
  readonly quorum: { readonly needed: number; readonly alive: number }
  readonly founding: {
    readonly have: number
    readonly need: number
    readonly missing: readonly string[]
  } | null
  readonly members: readonly MemberStatus[]
  readonly alarms: readonly Alarm[]
  readonly uptimeMs: number
}
