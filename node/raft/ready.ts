/**
 * What the core wants from the world. The driver performs one Ready a turn: sends `messages`, starts `save` (at most one is in
 * flight; the core offers none while it waits for one), applies `committed`, answers `reads`.
 */
import type { Outgoing } from './messages.ts'
import type { ReadReady } from './read-rounds.ts'
import type { ChangeOutcome } from './reconfiguration.ts'
import type { SnapshotOffer } from './snapshots.ts'
import type { Entry, EntryId, HardState, PeerId, Term } from './types.ts'

export interface SaveBatch {
  readonly hardState: HardState
  /** Consecutive; replaces the log from the first one's index on. May be empty. */
  readonly entries: readonly Entry[]
  /** A snapshot was installed: the log of before is forgotten, and starts anew behind this entry. */
  readonly base?: EntryId
}

export interface Ready {
  readonly messages: readonly Outgoing[]
  readonly save: SaveBatch | null
  readonly committed: readonly Entry[]
  readonly reads: readonly ReadReady[]
  /** Reads that this node can no longer answer, because it does not lead any more. */
  readonly readsLost: readonly number[]
  /** What became of changes of the configuration that were asked for here. */
  readonly changes: readonly ChangeOutcome[]
  /** Snapshots that the driver may fetch; `installed` tells that it has done so. */
  readonly offers: readonly SnapshotOffer[]
  readonly events: readonly RaftEvent[]
  /** The driver calls `wake` in so many ms; this replaces what was asked for before. Null: nothing new. */
  readonly wakeInMs: number | null
}

/** For the log of events; nothing depends on them. */
export type RaftEvent =
  | { readonly type: 'election.started'; readonly term: Term; readonly preVote: boolean }
  | { readonly type: 'vote.granted'; readonly term: Term; readonly candidate: PeerId }
  | {
      readonly type: 'vote.refused'
      readonly term: Term
      readonly candidate: PeerId
      readonly reason: VoteRefusal
    }
  /** A follower denies what it had acknowledged: an older copy of its disk was put back. */
  | { readonly type: 'member.regressed'; readonly term: Term; readonly member: PeerId }
  | { readonly type: 'resigned'; readonly term: Term; readonly reason: ResignReason }

export type VoteRefusal =
  | 'lower-term'
  | 'log-behind'
  | 'already-voted'
  | 'leader-alive'
  | 'other-candidate'
  | 'save-stuck'
  | 'disk-full'

export type ResignReason = 'no-quorum' | 'save-stuck' | 'disk-full' | 'removed'
