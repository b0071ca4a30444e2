/**
 * Exactly once (thesis 6.3, as in LogCabin): the replicated table of client sessions and of the replies that their clients may
 * still ask for again. Part of the replicated state: it changes only by applying log entries, in the same way on every member,
 * and it knows no clock. Pure.
 *
 * Invariant: a sequence below a session's floor was answered and the client said that it has the answer; a sequence at or above it
 * runs exactly once, because its reply is kept until the floor passes it.
 */
import { ByteWriter } from '../client/bytes.ts'
import { type Command, encodeOutcome, type Outcome } from '../client/protocol.ts'
import { hashItem, MultisetHash } from './machine/hash.ts'
import { mark } from './raft/marks.ts'
import type { Index } from './raft/types.ts'

/**
 * Sessions kept. Deterministic, so it is a constant and no setting: the least recently used one gives way. It is above the 10,000
 * clients that a node admits, so that only an idle session ever expires.
 */
export const SESSIONS_MAX = 16_384

/** Replies kept for one session. A client keeps fewer writes in flight; beyond it the oldest reply is forgotten. */
export const REPLIES_MAX = 4096

interface Session {
  /** Every sequence below was answered for good. */
  floor: number
  /** Encoded outcomes by sequence, in the order in which they were applied. */
  readonly replies: Map<number, Uint8Array>
}

const EMPTY = new Uint8Array(0)

export class Sessions {
  /** Least recently used first: a Map keeps the order in which keys were set. */
  readonly #sessions = new Map<number, Session>()
  readonly #hash = new MultisetHash()

  get count(): number {
    return this.#sessions.size
  }

  /** 16 hex digits over every session, its floor and its replies. */
  hash(): string {
    return this.#hash.hex()
  }

  /**
   * Applies one command: opens or closes a session, or calls `run` unless this operation ran before. Returns the encoded
   * Outcome; a repeat gets the very bytes of the first time.
   */
  apply(command: Command, index: Index, run: (operation: Uint8Array) => Uint8Array): Uint8Array {
    switch (command.kind) {
      case 'openSession':
        this.#open(index)
        return encode('done')
      case 'closeSession':
        this.#close(command.session)
        return encode('done')
      case 'operation':
        return this.#operate(command, run)
    }
  }

  #open(id: number): void {
    for (const oldest of this.#sessions.keys()) {
      if (this.#sessions.size < SESSIONS_MAX) break
      this.#close(oldest)
    }
    this.#sessions.set(id, { floor: 0, replies: new Map() })
    this.#hash.add(hashOfFloor(id, 0))
  }

  #close(id: number): void {
    const session = this.#sessions.get(id)
    if (session === undefined) return
    this.#hash.remove(hashOfFloor(id, session.floor))
    for (const [sequence, reply] of session.replies) {
      this.#hash.remove(hashOfReply(id, sequence, reply))
    }
    this.#sessions.delete(id)
  }

  #operate(command: Command, run: (operation: Uint8Array) => Uint8Array): Uint8Array {
    const id = command.session
    const session = this.#sessions.get(id)
    // Never created by itself: an expired session's operation may have run before (HAZARDS: retry after expiry).
    if (session === undefined) {
      mark('sessions: a command of no session')
      return encode('expired')
    }
    this.#sessions.delete(id)
    this.#sessions.set(id, session)
    const known = session.replies.get(command.sequence)
    if (known !== undefined) {
      mark('sessions: a repeat gets its reply again')
      return known
    }
    if (command.sequence < session.floor) {
      mark('sessions: a repeat comes after its reply was given up')
      return encode('forgotten')
    }
    this.#raiseFloor(id, session, Math.min(command.firstOutstanding, command.sequence))
    const reply = encodeOutcome({ status: 'done', body: run(command.operation) })
    session.replies.set(command.sequence, reply)
    this.#hash.add(hashOfReply(id, command.sequence, reply))
    if (session.replies.size > REPLIES_MAX) {
      const [oldest] = session.replies.keys()
      this.#raiseFloor(id, session, (oldest as number) + 1)
    }
    return reply
  }

  #raiseFloor(id: number, session: Session, floor: number): void {
    if (floor <= session.floor) return
    this.#hash.remove(hashOfFloor(id, session.floor))
    this.#hash.add(hashOfFloor(id, floor))
    session.floor = floor
    // Replies lie in the order in which they were applied, which is nearly that of their sequences: stopping at the first that
    // is still wanted keeps this cheap, and one that a retry put out of order goes when its predecessor goes.
    for (const [sequence, reply] of session.replies) {
      if (sequence >= floor) break
      session.replies.delete(sequence)
      this.#hash.remove(hashOfReply(id, sequence, reply))
    }
  }
}

function encode(status: Outcome['status']): Uint8Array {
  return encodeOutcome({ status, body: EMPTY })
}

function hashOfFloor(id: number, floor: number): ReturnType<typeof hashItem> {
  return hashItem(new ByteWriter(8).u64(id).finish(), EMPTY, floor)
}

function hashOfReply(id: number, sequence: number, reply: Uint8Array): ReturnType<typeof hashItem> {
  return hashItem(new ByteWriter(16).u64(id).u64(sequence).finish(), reply, 0)
}
