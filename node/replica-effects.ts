/** What the replica wants from its driver, once a turn. Types only. */

import type { SaveBatch } from './raft/ready.ts'
import type { PeerId } from './raft/types.ts'
import type { ServiceAnswer } from './service.ts'
import type { PeerFrame } from './transport/transport.ts'

export interface ReplicaEffects {
  /** By peer, in order. All of one peer's frames leave in one write. */
  readonly frames: ReadonlyMap<PeerId, readonly PeerFrame[]>
  /** At most one is in flight: none is offered before `saved` or `saveFailed`. */
  readonly save: SaveBatch | null
  readonly answers: readonly { readonly requestId: number; readonly answer: ServiceAnswer }[]
  readonly events: readonly ReplicaEvent[]
  /** There is more to apply: drain again soon, after other work had its turn. */
  readonly more: boolean
}

export interface ReplicaEvent {
  readonly event: string
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: Readonly<Record<string, unknown>>
}

/** What the leader tells its followers of the members, for `status` and readiness. */
export interface LeaderView {
  readonly commitIndex: number
  readonly lastIndex: number
  readonly members: readonly {
    readonly memberId: number
    readonly matchIndex: number
    readonly alive: boolean
  }[]
}
