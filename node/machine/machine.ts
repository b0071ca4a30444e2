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
  /**
   * The whole state, for a snapshot, in pieces of any size up to RECORD_BYTES_MAX (pieces.ts). Called on a clone that nobody
   * changes, and taken slowly: other work goes on between two pieces, so each should be quick to make (64 KiB, say).
   */
  pieces(): Iterable<Uint8Array>
  /** Makes another machine of this kind from pieces; the present state does not matter and stays. */
  restorer(): Restorer
}

/** Takes pieces in order, each as it was given. They may be damaged or hostile: both methods throw MalformedError, and then the whole attempt is void. */
export interface Restorer {
  /** The piece is not kept: its buffer may be used again. */
  write(piece: Uint8Array): void
  /** The machine, with the state, hash and behaviour of the one that the pieces were made from. */
  finish(): StateMachine
}
