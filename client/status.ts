/** What a node says of itself: the object of `GET /v1/status`. Types only. */

export interface NodeStatus {
  readonly version: string
  /** Null before the cluster is founded; so are memberId, leaderId, leaderUrl and stateHash. */
  readonly clusterId: string | null
  /** Masked. */
  readonly topic: string
  /** 64 hex digits. */
  readonly nodeId: string
  readonly memberId: number | null
  readonly name: string
  readonly runtime: string
  readonly role: 'follower' | 'preCandidate' | 'candidate' | 'leader' | 'learner' | 'blank'
  readonly term: number
  readonly leaderId: number | null
  readonly leaderUrl: string | null
  readonly commitIndex: number
  readonly appliedIndex: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly snapshotIndex: number
  /** In use by the whole cluster; rises when every member has been upgraded. */
  readonly featureLevel: number
  /** What goes on with snapshots there. `sizeBytes` is null while nobody knows it; null altogether while blank. */
  readonly snapshot: {
    readonly state: 'idle' | 'writing' | 'receiving' | 'loading' | 'sending'
    readonly index: number | null
    readonly bytes: number
    readonly sizeBytes: number | null
  } | null
  readonly stateHash: StateHash | null
  readonly stateHashes: readonly StateHash[]
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

export interface StateHash {
  readonly index: number
  readonly hash: string
}

export interface MemberStatus {
  readonly memberId: number
  readonly nodeId: string
  readonly name: string
  readonly url: string | null
  readonly role: 'voter' | 'learner'
  readonly isLeader: boolean
  readonly matchIndex: number | null
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
