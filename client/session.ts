/**
 * A session: it numbers a client's writes, so that the replicated state can tell a repeat from a new write (thesis 6.3).
 * The number and the bytes of a write never change once it was sent.
 */
import type { Call } from './call.ts'
import { encodeCommand } from './protocol.ts'

/** Writes that may be without an answer at once: bounds the replies the cluster keeps for this client. */
export const SESSION_WINDOW = 1024
/**
 * A session idle for longer is not used again, because the cluster may have expired it, and a write that it refuses as
 * expired can not be repeated without doubt. Opening a new one costs one round trip.
 */
export const SESSION_IDLE_MS = 60_000

export class Session {
  readonly id: number
  #nextSequence = 1
  /** Writes without an answer, by ascending sequence. */
  readonly #outstanding = new Map<number, Call>()
  #usedAtMs: number

  constructor(id: number, nowMs: number) {
    this.id = id
    this.#usedAtMs = nowMs
  }

  get hasRoom(): boolean {
    return this.#nextSequence - this.#firstOutstanding() < SESSION_WINDOW
  }

  isStale(nowMs: number): boolean {
    return this.#outstanding.size === 0 && nowMs - this.#usedAtMs > SESSION_IDLE_MS
  }

  /** Gives the call its sequence and its bytes, once and for all. */
  admit(call: Call, operation: Uint8Array): Uint8Array {
    const sequence = this.#nextSequence++
    this.#outstanding.set(sequence, call)
    const command = encodeCommand({
      kind: 'operation',
      session: this.id,
      sequence,
      firstOutstanding: this.#firstOutstanding(),
      operation,
    })
    call.session = this
    call.sequence = sequence
    call.command = command
    return command
  }

  /** The client needs this write's answer no more: it came, or the caller gave up. */
  forget(sequence: number): void {
    this.#outstanding.delete(sequence)
  }

  /** The cluster answered a write of this session: it has not expired. */
  touch(nowMs: number): void {
    this.#usedAtMs = nowMs
  }

  closing(): Uint8Array {
    return encodeCommand({
      kind: 'closeSession',
      session: this.id,
      sequence: this.#nextSequence,
      firstOutstanding: this.#nextSequence,
      operation: new Uint8Array(0),
    })
  }

  #firstOutstanding(): number {
    for (const sequence of this.#outstanding.keys()) return sequence
    return this.#nextSequence
  }
}
