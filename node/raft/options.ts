/**
 * What a consensus core is made from. Times are ticks, sizes are payload bytes; the defaults and their reasons are in config.ts.
 */
import type { LeadershipOptions } from './leadership.ts'
import type { Random } from './random.ts'
import type { SnapshotAt } from './snapshots.ts'
import type { Entry, EntryId, HardState, PeerId } from './types.ts'

export interface RaftOptions extends LeadershipOptions {
  readonly self: PeerId
  /** What a tick stands for, in real time: the fast path speaks in ms. */
  readonly tickMs: number
  readonly hardState: HardState | null
  /** The last entry before the log; default {0, 0}: it reaches back to the first one. */
  readonly base?: EntryId
  /** Consecutive, behind `base`. */
  readonly entries: readonly Entry[]
  /** What the state machine was restored from: an entry at or behind `base` that the log knows. Default: it is empty. */
  readonly snapshot?: SnapshotAt | null
  readonly random: Random
  /** Payload bytes of one save. */
  readonly saveBytesMax: number
  /** Entries handed out for applying in one Ready. */
  readonly applyCountMax: number
}
