/**
 * What a consensus core is made from. Times are ticks, sizes are payload bytes; the defaults and their reasons are in config.ts.
 */
import type { LeadershipOptions } from './leadership.ts'
import type { Random } from './random.ts'
import type { Entry, HardState, PeerId } from './types.ts'

export interface RaftOptions extends LeadershipOptions {
  readonly self: PeerId
  readonly hardState: HardState | null
  /** Consecutive, from index 1. */
  readonly entries: readonly Entry[]
  readonly random: Random
  /** Payload bytes of one save. */
  readonly saveBytesMax: number
  /** Entries handed out for applying in one Ready. */
  readonly applyCountMax: number
}
