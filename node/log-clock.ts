/**
 * Log time: milliseconds that only `time` entries move, so that every member expires the same at the same index, whatever its own
 * clock says (CORRECTNESS, rule 11). The leader estimates it and appends such an entry when something is due, and only then. Pure:
 * it counts ticks, each as its shortest length, so that log time never runs ahead of any clock; after a stall or a change of
 * leader it is behind, which only makes things live longer (HAZARDS: a new leader's clock is ahead).
 */
import { ByteReader, ByteWriter, MalformedError } from '../client/bytes.ts'
import { mark } from './raft/marks.ts'
import type { Raft } from './raft/raft.ts'
import type { Entry, EntryId } from './raft/types.ts'

/** A tick may come with something else that happens, this early (clock.ts: EARLY). */
const SHORTEST_TICK = 0.9

export function encodeLogTime(ms: number): Uint8Array {
  return new ByteWriter(8).u64(ms).finish()
}

/** Null when the payload is no time. */
export function decodeLogTime(payload: Uint8Array): number | null {
  try {
    const reader = new ByteReader(payload)
    const ms = reader.u64()
    reader.end()
    return ms
  } catch (error) {
    if (error instanceof MalformedError) return null
    throw error
  }
}

interface LogClockOptions {
  readonly raft: Pick<Raft, 'role' | 'term' | 'termCommitted' | 'log' | 'propose'>
  readonly tickMs: number
  readonly logTimeMs: () => number
  /** When the next thing is due, in log time; null: nothing ever. */
  readonly dueMs: () => number | null
}

export class LogClock {
  readonly #options: LogClockOptions
  /** Since log time was first seen to be `#seenMs`: a time entry was applied, a snapshot loaded, or this node has started. */
  #ticks = 0
  #seenMs = 0
  /** The entry of this node's own that is not applied yet: one is enough. */
  #proposed: EntryId | null = null

  constructor(options: LogClockOptions) {
    this.#options = options
  }

  /** What log time is now, as far as this node can tell. Never ahead of what really passed. */
  get estimateMs(): number {
    this.#look()
    return this.#seenMs + Math.floor(this.#ticks * this.#options.tickMs * SHORTEST_TICK)
  }

  applied(entry: Entry): void {
    if (entry.kind === 'time') this.#look()
    if (this.#proposed !== null && entry.index >= this.#proposed.index) this.#proposed = null
  }

  tick(): void {
    this.#look()
    this.#ticks++
    const { raft, dueMs } = this.#options
    if (raft.role !== 'leader') return
    if (this.#proposed !== null && this.#proposed.term === raft.term) return
    // Before that the newest time may still be among what is not applied.
    if (!raft.termCommitted || raft.log.appliedIndex < raft.log.commitIndex) return
    const due = dueMs()
    if (due === null || this.estimateMs < due) return
    mark('log clock: something is due')
    const result = raft.propose('time', encodeLogTime(this.estimateMs))
    // Refused while leadership is handed over, or the disks are slow: the next tick asks again.
    if (result.ok) this.#proposed = result.id
  }

  #look(): void {
    const logTimeMs = this.#options.logTimeMs()
    if (logTimeMs === this.#seenMs) return
    this.#seenMs = logTimeMs
    this.#ticks = 0
  }
}
