/** All that was applied up to one index, for a snapshot: taken in one turn, written slowly. Pure. */
import type { AppliedState } from './applied-state.ts'
import { invariant } from './raft/assert.ts'
import type { ConfigurationAt, RaftLog } from './raft/log.ts'
import type { EntryId } from './raft/types.ts'

export interface Captured {
  readonly id: EntryId
  /** As of `id`, never a later one: those come from the log, and may yet be rolled back (HAZARDS, Membership). */
  readonly configuration: ConfigurationAt
  /** Once, lazily: other work goes on between two pieces. */
  pieces(): Iterable<Uint8Array>
}

/** Copy-on-write, as of now. Null: there is nothing yet of which a snapshot could be. */
export function capture(log: RaftLog, applied: AppliedState): Captured | null {
  const index = log.appliedIndex
  const term = log.termAt(index)
  const configuration = log.configurationAt(index)
  if (term === undefined || configuration === null) return null
  const captured = applied.capture()
  invariant(captured.index === index, 'the state is of another index than the log')
  return { id: { term, index }, configuration, pieces: () => captured.pieces() }
}
