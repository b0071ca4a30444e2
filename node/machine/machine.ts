/**
 * The contract of a replicated application. Pure and deterministic: the same commands in the same order give the same
 * state, results and hash on every member. No clock, no randomness, no I/O.
 */
import type { Index } from '../raft/types.ts'

export interface ApplyMeta {
  /** The log index of the command; the key-value machine's revision. */
  readonly index: Index
}

export interface StateMachine {
  /** Runs one operation and returns its result. Malformed operations return a result too: they never throw. */
  apply(operation: Uint8Array, meta: ApplyMeta): Uint8Array
  /** Answers a read-only question about the present state. Throws MalformedError on a malformed query. */
  query(query: Uint8Array): Uint8Array
  /**
   * An incremental hash of the whole state, 16 lower-case hex digits; equal states have equal hashes, whatever their history.
   */
  hash(): string
  /** A copy-on-write clone, cheap enough to take while writes go on; a snapshot is written from it later. */
  clone(): StateMachine
}
