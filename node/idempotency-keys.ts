/**
 * Writes that name themselves (`Idempotency-Key`): the replicated memory of keys, so that the same request under the same key gets
 * the answer of its first time, whichever node it reaches and whoever leads by then. For callers who keep no session. Part of the
 * replicated state, like sessions.ts; it knows no clock, only log time. Pure.
 *
 * Keys live in parts, each with the log time after which nothing was added to it; a part expires as a whole. A part that a clone
 * shares is never changed again: what comes next begins a new one.
 */
import { ByteReader, ByteWriter, equalBytes, MalformedError } from '../client/bytes.ts'
import { decodeOutcome, encodeOutcome, KEYED_HEADER_BYTES } from '../client/protocol.ts'
import { hashItem, type Lanes, MultisetHash } from './machine/hash.ts'
import { mark } from './raft/marks.ts'

/** As SESSION_TTL_MS; shorter, because scripts repeat within minutes, and there may be hundreds of keys a second. */
export const KEY_TTL_MS = 10 * 60 * 1000

/**
 * Keys remembered. A new one beyond it is refused, not let in at the cost of an old one, whose repeat would run again. With ten
 * minutes of log time that is over 200 keyed writes a second, for ever; who writes faster has a session.
 */
export const KEYS_MAX = 262_144
/** ... and the bytes of their answers. */
export const KEY_REPLIES_BYTES_MAX = 64 * 1024 * 1024
/** A part smaller than this is copied for a clone's sake rather than shared, so that there are never many. */
const SMALL_PART = 1024
/** A record of a snapshot has about so many bytes, unless its only reply is larger. */
const RECORD_BYTES = 60 * 1024

const HASH_BYTES = KEYED_HEADER_BYTES / 2
const EMPTY = new Uint8Array(0)

interface Kept {
  /** The hash of the request that came with the key. */
  readonly request: Uint8Array
  /** An encoded Outcome. */
  readonly reply: Uint8Array
}

interface Part {
  /** Null: keys of now, since the last time entry. */
  lastUsedMs: number | null
  readonly keys: Map<string, Kept>
  readonly hash: MultisetHash
  bytes: number
}

export class IdempotencyKeys {
  /** In the order of their time; the last ones are of now. */
  #parts: readonly Part[]
  /** The part that takes new keys; null: none may be changed. */
  #open: Part | null = null

  /** No keys, or the copy-on-write clone of others. */
  constructor(from?: IdempotencyKeys) {
    this.#parts = from === undefined ? [] : from.#parts
    if (from !== undefined) from.#seal()
    if (from !== undefined) this.#parts = from.#parts
  }

  get count(): number {
    return this.#parts.reduce((sum, part) => sum + part.keys.size, 0)
  }

  get #bytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.bytes, 0)
  }

  /** Over every key with its request and its answer; zero when there are none. */
  get lanes(): Lanes {
    const sum = new MultisetHash()
    for (const part of this.#parts) sum.add(part.hash.lanes)
    return sum.lanes
  }

  /**
   * Runs the operation behind the two hashes, unless it ran before under this key. Returns the encoded Outcome: `conflict` when the
   * key came with another request, `full` when no more keys can be remembered, `expired` when it was accepted so long ago that its
   * key may be forgotten already (a node that slept sends again what it had under way); none of these ran.
   */
  apply(
    keyed: Uint8Array,
    isLate: boolean,
    run: (operation: Uint8Array) => Uint8Array,
  ): Uint8Array {
    const key = textOf(keyed.subarray(0, HASH_BYTES))
    const request = keyed.subarray(HASH_BYTES, KEYED_HEADER_BYTES)
    const known = this.#find(key)
    if (known !== undefined) {
      if (!equalBytes(known.request, request)) {
        mark('idempotency keys: a key comes with another request')
        return encodeOutcome({ status: 'conflict', body: EMPTY })
      }
      mark('idempotency keys: a repeat gets its answer again')
      return known.reply
    }
    if (isLate) {
      mark('idempotency keys: a copy comes too late')
      return encodeOutcome({ status: 'expired', body: EMPTY })
    }
    if (this.count >= KEYS_MAX || this.#bytes >= KEY_REPLIES_BYTES_MAX) {
      mark('idempotency keys: there are too many')
      return encodeOutcome({ status: 'full', body: EMPTY })
    }
    const reply = encodeOutcome({ status: 'done', body: run(keyed.subarray(KEYED_HEADER_BYTES)) })
    keep(this.#openPart(), key, { request: request.slice(), reply })
    return reply
  }

  /** When something is next to expire or to be counted as unused, given that log time is `logTimeMs`. */
  dueMs(logTimeMs: number, ttlMs: number): number | null {
    const [oldest] = this.#parts
    return oldest === undefined ? null : (oldest.lastUsedMs ?? logTimeMs) + ttlMs
  }

  /** Log time is `timeMs` now. */
  advance(timeMs: number, ttlMs: number): void {
    if (this.#parts.length === 0) return
    const kept = this.#parts.filter(
      ({ lastUsedMs }) => lastUsedMs === null || lastUsedMs + ttlMs > timeMs,
    )
    if (kept.length < this.#parts.length) mark('idempotency keys: some expire')
    this.#parts = kept.map((part) => {
      return part.lastUsedMs === null ? { ...part, lastUsedMs: timeMs } : part
    })
    this.#open = null
  }

  #find(key: string): Kept | undefined {
    for (let at = this.#parts.length - 1; at >= 0; at--) {
      const kept = (this.#parts[at] as Part).keys.get(key)
      if (kept !== undefined) return kept
    }
    return undefined
  }

  #openPart(): Part {
    const open = this.#open
    if (open !== null) return open
    const last = this.#parts.at(-1)
    const isSmall = last !== undefined && last.lastUsedMs === null && last.keys.size < SMALL_PART
    const part = isSmall ? copyOf(last) : freshPart(null)
    this.#parts = [...(isSmall ? this.#parts.slice(0, -1) : this.#parts), part]
    this.#open = part
    return part
  }

  #seal(): void {
    this.#open = null
  }

  // --- snapshots ------------------------------------------------------------------------------------------------

  /**
   * Called on a clone that nobody changes. Records of one part's keys: u8 1 and u64 last used, or u8 0, then
   * 32 bytes of key, 32 bytes of request, u32 length, reply.
   */
  *pieces(): Generator<Uint8Array> {
    for (const part of this.#parts) {
      let record: ByteWriter | null = null
      for (const [key, { request, reply }] of part.keys) {
        const bytes = KEYED_HEADER_BYTES + 4 + reply.length
        if (record !== null && record.length + bytes > RECORD_BYTES) {
          yield record.finish()
          record = null
        }
        record ??= beginRecord(part)
        record.raw(bytesOf(key)).raw(request).bytes(reply)
      }
      if (record !== null) yield record.finish()
    }
  }

  /** Reads what `pieces` has written: `write` and `finish` throw MalformedError on anything else. */
  static restorer(): { write(piece: Uint8Array): void; finish(): IdempotencyKeys } {
    const keys = new IdempotencyKeys()
    return {
      write: (piece) => keys.#read(new ByteReader(piece)),
      finish: () => {
        keys.#seal()
        return keys
      },
    }
  }

  #read(reader: ByteReader): void {
    const lastUsedMs = reader.flag() ? reader.u64() : null
    const last = this.#parts.at(-1)
    const before = last === undefined ? 0 : (last.lastUsedMs ?? Number.POSITIVE_INFINITY)
    if ((lastUsedMs ?? Number.POSITIVE_INFINITY) < before || reader.remaining === 0) {
      throw new MalformedError('keys out of order')
    }
    let part = last
    if (part === undefined || part.lastUsedMs !== lastUsedMs) {
      part = freshPart(lastUsedMs)
      this.#parts = [...this.#parts, part]
    }
    while (reader.remaining > 0) {
      const key = textOf(reader.raw(HASH_BYTES))
      const request = reader.raw(HASH_BYTES).slice()
      const reply = reader.bytes().slice()
      if (this.#find(key) !== undefined || this.count >= KEYS_MAX) {
        throw new MalformedError('a key too many')
      }
      decodeOutcome(reply)
      keep(part, key, { request, reply })
    }
  }
}

function freshPart(lastUsedMs: number | null): Part {
  return { lastUsedMs, keys: new Map(), hash: new MultisetHash(), bytes: 0 }
}

function copyOf({ lastUsedMs, keys, hash, bytes }: Part): Part {
  return { lastUsedMs, keys: new Map(keys), hash: new MultisetHash(hash.lanes), bytes }
}

function keep(part: Part, key: string, kept: Kept): void {
  part.keys.set(key, kept)
  part.bytes += kept.reply.length
  const name = new ByteWriter(KEYED_HEADER_BYTES).raw(bytesOf(key)).raw(kept.request).finish()
  part.hash.add(hashItem(name, kept.reply, 0))
}

function beginRecord({ lastUsedMs }: Part): ByteWriter {
  const record = new ByteWriter()
  return lastUsedMs === null ? record.u8(0) : record.u8(1).u64(lastUsedMs)
}

/** A Map compares text by its content; one character a byte keeps it small. */
function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}

function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}
