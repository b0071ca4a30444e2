/**
 * Exactly once (thesis 6.3, as in LogCabin): the replicated table of client sessions and of the replies that their clients may
 * still ask for again. Part of the replicated state: it changes only by applying log entries, in the same way on every member,
 * and it knows no clock. Pure.
 *
 * Invariant: a sequence below a session's floor was answered and the client said that it has the answer; a sequence at or above it
 * runs exactly once, because its reply is kept until the floor passes it.
 */
import { ByteReader, ByteWriter, MalformedError } from '../client/bytes.ts'
import { type Command, decodeOutcome, encodeOutcome, type Outcome } from '../client/protocol.ts'
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
  /** Whoever holds the same token may change this session in place; a clone's is copied first. */
  readonly owner: object
}

const EMPTY = new Uint8Array(0)
/** A record of a snapshot has about so many bytes, unless it is one reply that is larger. */
const RECORD_BYTES = 60 * 1024
/** In a record: u8 1, u64 id, u64 floor; u8 2, u64 sequence, u32 length, reply, for each reply of the session before it. */
const SESSION = 1
const REPLY = 2

export class Sessions {
  /** Least recently used first: a Map keeps the order in which keys were set. */
  readonly #sessions: Map<number, Session>
  readonly #hash: MultisetHash
  #owner: object = {}

  /** No sessions, or the copy-on-write clone of others: it costs one entry of a Map a session, not the replies. */
  constructor(from?: Sessions) {
    this.#sessions = new Map(from === undefined ? [] : from.#sessions)
    this.#hash = new MultisetHash(from === undefined ? undefined : from.#hash.lanes)
    // Neither side may change in place what both hold now.
    if (from !== undefined) from.#owner = {}
  }

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
    this.#put(id, { floor: 0, replies: new Map(), owner: this.#owner })
  }

  #put(id: number, session: Session): void {
    this.#sessions.set(id, session)
    this.#hash.add(hashOfFloor(id, session.floor))
  }

  #keep(id: number, session: Session, sequence: number, reply: Uint8Array): void {
    session.replies.set(sequence, reply)
    this.#hash.add(hashOfReply(id, sequence, reply))
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
    const shared = this.#sessions.get(id)
    // Never created by itself: an expired session's operation may have run before (HAZARDS: retry after expiry).
    if (shared === undefined) {
      mark('sessions: a command of no session')
      return encode('expired')
    }
    const session = this.#own(shared)
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
    this.#keep(id, session, command.sequence, reply)
    if (session.replies.size > REPLIES_MAX) {
      const [oldest] = session.replies.keys()
      this.#raiseFloor(id, session, (oldest as number) + 1)
    }
    return reply
  }

  /** The session, or its copy if a clone shares it. The replies themselves never change. */
  #own(session: Session): Session {
    if (session.owner === this.#owner) return session
    return { floor: session.floor, replies: new Map(session.replies), owner: this.#owner }
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

  // --- snapshots ------------------------------------------------------------------------------------------------

  /** Called on a clone that nobody changes. Order is kept everywhere, because it decides who gives way first. */
  *pieces(): Generator<Uint8Array> {
    let record = new ByteWriter(RECORD_BYTES)
    for (const [id, session] of this.#sessions) {
      record.u8(SESSION).u64(id).u64(session.floor)
      for (const [sequence, reply] of session.replies) {
        if (record.length + 13 + reply.length > RECORD_BYTES) {
          yield record.finish()
          record = new ByteWriter(RECORD_BYTES)
        }
        record.u8(REPLY).u64(sequence).bytes(reply)
      }
      if (record.length < RECORD_BYTES - 64) continue
      yield record.finish()
      record = new ByteWriter(RECORD_BYTES)
    }
    if (record.length > 0) yield record.finish()
  }

  /** Reads what `pieces` has written: `write` and `finish` throw MalformedError on anything else. */
  static restorer(): { write(piece: Uint8Array): void; finish(): Sessions } {
    const sessions = new Sessions()
    let last: { readonly id: number; readonly session: Session } | null = null
    const write = (piece: Uint8Array): void => {
      const reader = new ByteReader(piece)
      while (reader.remaining > 0) {
        const type = reader.u8()
        if (type === SESSION) last = sessions.#readSession(reader)
        else if (type === REPLY && last !== null) sessions.#readReply(reader, last)
        else throw new MalformedError(`record ${type} is no session`)
      }
    }
    return { write, finish: () => sessions }
  }

  #readSession(reader: ByteReader): { readonly id: number; readonly session: Session } {
    const id = reader.u64()
    const session = { floor: reader.u64(), replies: new Map(), owner: this.#owner }
    if (this.#sessions.has(id)) throw new MalformedError(`session ${id} twice`)
    if (this.count >= SESSIONS_MAX) throw new MalformedError('too many sessions')
    this.#put(id, session)
    return { id, session }
  }

  #readReply(
    reader: ByteReader,
    { id, session }: { readonly id: number; readonly session: Session },
  ): void {
    const sequence = reader.u64()
    const reply = reader.bytes().slice()
    if (session.replies.has(sequence) || session.replies.size >= REPLIES_MAX) {
      throw new MalformedError(`a reply too many in session ${id}`)
    }
    decodeOutcome(reply)
    this.#keep(id, session, sequence, reply)
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
