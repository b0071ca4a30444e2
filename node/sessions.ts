/**
 * Exactly once (thesis 6.3, as in LogCabin): the replicated table of client sessions and of the replies that their clients may
 * still ask for again. Part of the replicated state: it changes only by applying log entries, in the same way on every member,
 * and it knows no clock. Pure.
 *
 * Invariant: a sequence below a session's floor was answered and the client said that it has the answer; a sequence at or above it
 * runs exactly once, because its reply is kept until the floor passes it.
 *
 * Invariant: from the least to the most recently used, sessions stand in the order of `lastUsedMs`, those used since the last time
 * entry behind all others. So the first one tells when something is due.
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

/**
 * Kept for at least so long after its last use, and at most about twice as long; in log time, ms. Far longer than any client repeats a
 * write, short enough that those who never say goodbye are forgotten the same day. Members that expire by different limits have
 * different states, so that this is no setting, and another value needs another feature level.
 */
export const SESSION_TTL_MS = 60 * 60 * 1000

/** Replies kept for one session. A client keeps fewer writes in flight; beyond it the oldest reply is forgotten. */
export const REPLIES_MAX = 4096

interface Session {
  /** Every sequence below was answered for good. */
  floor: number
  /** The log time by which it was last used: that of the first time entry behind its last use. 0: none has come yet. */
  lastUsedMs: number
  /** Used since the last time entry. */
  used: boolean
  /** Encoded outcomes by sequence, in the order in which they were applied. */
  readonly replies: Map<number, Uint8Array>
  /** Whoever holds the same token may change this session in place; a clone's is copied first. */
  readonly owner: object
}

const EMPTY = new Uint8Array(0)
/** A record of a snapshot has about so many bytes, unless it is one reply that is larger. */
const RECORD_BYTES = 60 * 1024
/** In a record: u8 1, u64 id, u64 floor, u64 last used, u8 used since; u8 2, u64 sequence, u32 length, reply, for each reply of the session before it. */
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
      case 'keyed':
        throw new Error('bug: a keyed command belongs to no session')
    }
  }

  /**
   * When the first session expires, or is to be marked as unused, given that log time is `logTimeMs`; null: there are none. Nothing
   * happens by itself: it happens in `advance`.
   */
  dueMs(logTimeMs: number, ttlMs: number): number | null {
    for (const { used, lastUsedMs } of this.#sessions.values()) {
      return (used ? logTimeMs : lastUsedMs) + ttlMs
    }
    return null
  }

  /**
   * Log time is `timeMs` now. Whoever was used since the last time counts as used now; whoever was not, and is `ttlMs` old by that, expires.
   * So a session lives for at least `ttlMs` after its last use, however long no time entry came.
   */
  advance(timeMs: number, ttlMs: number): void {
    for (const [id, shared] of this.#sessions) {
      if (shared.used) {
        const session = this.#own(shared)
        if (session !== shared) this.#sessions.set(id, session)
        if (session.lastUsedMs > 0) this.#hash.remove(hashOfLastUse(id, session.lastUsedMs))
        session.lastUsedMs = timeMs
        session.used = false
        this.#hash.add(hashOfLastUse(id, timeMs))
      } else if (shared.lastUsedMs + ttlMs <= timeMs) {
        mark('sessions: one expires')
        this.#close(id)
      }
    }
  }

  #open(id: number): void {
    for (const oldest of this.#sessions.keys()) {
      if (this.#sessions.size < SESSIONS_MAX) break
      this.#close(oldest)
    }
    const replies = new Map<number, Uint8Array>()
    this.#put(id, { floor: 0, lastUsedMs: 0, used: true, replies, owner: this.#owner })
  }

  #put(id: number, session: Session): void {
    this.#sessions.set(id, session)
    this.#hash.add(hashOfFloor(id, session.floor))
    if (session.lastUsedMs > 0) this.#hash.add(hashOfLastUse(id, session.lastUsedMs))
  }

  #keep(id: number, session: Session, sequence: number, reply: Uint8Array): void {
    session.replies.set(sequence, reply)
    this.#hash.add(hashOfReply(id, sequence, reply))
  }

  #close(id: number): void {
    const session = this.#sessions.get(id)
    if (session === undefined) return
    this.#hash.remove(hashOfFloor(id, session.floor))
    if (session.lastUsedMs > 0) this.#hash.remove(hashOfLastUse(id, session.lastUsedMs))
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
    session.used = true
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
    const { floor, lastUsedMs, used, replies } = session
    return { floor, lastUsedMs, used, replies: new Map(replies), owner: this.#owner }
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
    let record = new ByteWriter()
    for (const [id, session] of this.#sessions) {
      record.u8(SESSION).u64(id).u64(session.floor).u64(session.lastUsedMs)
      record.u8(session.used ? 1 : 0)
      for (const [sequence, reply] of session.replies) {
        if (record.length + 13 + reply.length > RECORD_BYTES) {
          yield record.finish()
          record = new ByteWriter()
        }
        record.u8(REPLY).u64(sequence).bytes(reply)
      }
      if (record.length < RECORD_BYTES - 64) continue
      yield record.finish()
      record = new ByteWriter()
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
        if (type === SESSION) last = sessions.#readSession(reader, last?.session ?? null)
        else if (type === REPLY && last !== null) sessions.#readReply(reader, last)
        else throw new MalformedError(`record ${type} is no session`)
      }
    }
    return { write, finish: () => sessions }
  }

  #readSession(
    reader: ByteReader,
    before: Session | null,
  ): { readonly id: number; readonly session: Session } {
    const id = reader.u64()
    const floor = reader.u64()
    const lastUsedMs = reader.u64()
    const used = reader.flag()
    const session = { floor, lastUsedMs, used, replies: new Map(), owner: this.#owner }
    if (this.#sessions.has(id)) throw new MalformedError(`session ${id} twice`)
    if (this.count >= SESSIONS_MAX) throw new MalformedError('too many sessions')
    if (before !== null && lastUseOf(session) < lastUseOf(before)) {
      throw new MalformedError('sessions that are not in the order of their use')
    }
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

/** What sessions are in order of. */
function lastUseOf({ used, lastUsedMs }: Session): number {
  return used ? Number.POSITIVE_INFINITY : lastUsedMs
}

function hashOfFloor(id: number, floor: number): ReturnType<typeof hashItem> {
  return hashItem(new ByteWriter(8).u64(id).finish(), EMPTY, floor)
}

function hashOfLastUse(id: number, lastUsedMs: number): ReturnType<typeof hashItem> {
  return hashItem(new ByteWriter(9).u8(1).u64(id).finish(), EMPTY, lastUsedMs)
}

function hashOfReply(id: number, sequence: number, reply: Uint8Array): ReturnType<typeof hashItem> {
  return hashItem(new ByteWriter(16).u64(id).u64(sequence).finish(), reply, 0)
}
