/**
 * Everything that applying the log has made: the machine's state, the sessions, the idempotency keys, log time, and the hashes noted
 * on the way. Index and state change in one step. Pure.
 */
import { MalformedError } from '../client/bytes.ts'
import { type Command, decodeCommand } from '../client/protocol.ts'
import { IdempotencyKeys, KEY_TTL_MS } from './idempotency-keys.ts'
import { decodeLogTime, encodeLogTime } from './log-clock.ts'
import { HASH_VERSION, hashItem, lanesOfHex, MultisetHash } from './machine/hash.ts'
import type { Restorer, StateMachine } from './machine/machine.ts'
import { cutIntoPieces, PieceJoiner } from './machine/pieces.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import { mark } from './raft/marks.ts'
import type { Entry, Index } from './raft/types.ts'
import type { HashAt } from './request.ts'
import { SESSION_TTL_MS, Sessions } from './sessions.ts'

export interface AppliedStateOptions {
  readonly machine: StateMachine
  /** The hash is noted at every index that is a multiple of this, inside the apply loop (HAZARDS). */
  readonly hashEveryEntries: number
  readonly hashesKept: number
  /** Other lives than those of the product, for tests: equal on all members, like everything that decides what an entry does. */
  readonly sessionTtlMs?: number | undefined
  readonly keyTtlMs?: number | undefined
}

/**
 * The state as it was at one index, for a snapshot. A piece (at most 64 KiB) is one byte that says what it holds (0 meta, 1 sessions,
 * 2 machine, 3 idempotency keys) and, behind it, the meta or a piece of that part (machine/pieces.ts). The meta comes first, the parts in this order.
 */
export interface CapturedState {
  readonly index: Index
  /** Once; lazily, so that other work goes on between two pieces. */
  pieces(): Iterable<Uint8Array>
}

export interface StateRestorer {
  /** The piece is not kept. Throws MalformedError. */
  write(piece: Uint8Array): void
  /** Throws MalformedError when something is missing, or when what was read has another hash than what was written. */
  finish(): AppliedState
}

/** The first piece. Later versions may add fields; older ones read past them. */
interface Meta {
  readonly index: Index
  readonly logTimeMs: number
  readonly moves: number
  readonly hashVersion: number
  /** Of the state below, sessions and machine. */
  readonly hash: string
  /** Noted on the way to it, the newest last. */
  readonly hashes: readonly HashAt[]
  readonly sessions: number
  readonly keys: number
}

const META = 0

const NOTHING = new Uint8Array(0)
const LOG_TIME = Uint8Array.of(0x74)

/** What has a hash. */
interface Parts {
  readonly machine: StateMachine
  readonly sessions: Sessions
  readonly keys: IdempotencyKeys
  readonly logTimeMs: number
  readonly moves: number
}

export class AppliedState {
  readonly #options: AppliedStateOptions
  readonly #sessionTtlMs: number
  readonly #keyTtlMs: number
  readonly #machine: StateMachine
  readonly #sessions: Sessions
  readonly #keys: IdempotencyKeys
  #logTimeMs: number
  #moves: number
  #hashes: readonly HashAt[]
  #index: Index

  constructor(options: AppliedStateOptions, from?: Parts & Pick<Meta, 'index' | 'hashes'>) {
    this.#options = options
    this.#sessionTtlMs = options.sessionTtlMs ?? SESSION_TTL_MS
    this.#keyTtlMs = options.keyTtlMs ?? KEY_TTL_MS
    this.#machine = options.machine
    this.#sessions = from === undefined ? new Sessions() : from.sessions
    this.#keys = from === undefined ? new IdempotencyKeys() : from.keys
    this.#logTimeMs = from === undefined ? 0 : from.logTimeMs
    this.#moves = from === undefined ? 0 : from.moves
    this.#index = from === undefined ? 0 : from.index
    this.#hashes = from === undefined ? [] : from.hashes.slice(-options.hashesKept)
  }

  /** Moved by time entries alone; never back. */
  get logTimeMs(): number {
    return this.#logTimeMs
  }

  /** How often time entries have moved it. */
  get moves(): number {
    return this.#moves
  }

  /**
   * The log time at which the next time entry is wanted; null: nothing will ever be due. Two of them have half of the shorter life between
   * them at least, so that entries made by what one entry did cannot multiply.
   */
  get dueMs(): number | null {
    const now = this.#logTimeMs
    const sessions = this.#sessions.dueMs(now, this.#sessionTtlMs) ?? Number.POSITIVE_INFINITY
    const keys = this.#keys.dueMs(now, this.#keyTtlMs) ?? Number.POSITIVE_INFINITY
    const first = Math.min(sessions, keys)
    if (first === Number.POSITIVE_INFINITY) return null
    return Math.max(first, now + Math.ceil(Math.min(this.#sessionTtlMs, this.#keyTtlMs) / 2))
  }

  /** Of the last entry applied; 0 before the first. */
  get index(): Index {
    return this.#index
  }

  /** The newest last. */
  get hashes(): readonly HashAt[] {
    return this.#hashes
  }

  /** Returns the encoded Outcome of a command, nothing for other entries. */
  apply(entry: Entry): Uint8Array {
    const outcome = entry.kind === 'command' ? this.#applyCommand(entry) : NOTHING
    if (entry.kind === 'time') this.#advance(entry)
    this.#index = entry.index
    const { hashEveryEntries, hashesKept } = this.#options
    if (entry.index % hashEveryEntries === 0) {
      const noted = { index: entry.index, hash: this.hash() }
      this.#hashes = [...this.#hashes, noted].slice(-hashesKept)
    }
    return outcome
  }

  /** Throws MalformedError. */
  query(query: Uint8Array): Uint8Array {
    return this.#machine.query(query)
  }

  /** 16 hex digits over the machine's state and the sessions. */
  hash(): string {
    return hashOf(this.#parts)
  }

  get #parts(): Parts {
    return {
      machine: this.#machine,
      sessions: this.#sessions,
      keys: this.#keys,
      logTimeMs: this.#logTimeMs,
      moves: this.#moves,
    }
  }

  /** Copy-on-write: it costs a few milliseconds however large the state is, and applying goes on at once. */
  capture(): CapturedState {
    const machine = this.#machine.clone()
    const sessions = new Sessions(this.#sessions)
    const keys = new IdempotencyKeys(this.#keys)
    const meta: Meta = {
      index: this.#index,
      logTimeMs: this.#logTimeMs,
      moves: this.#moves,
      hashVersion: HASH_VERSION,
      hash: this.hash(),
      hashes: this.#hashes,
      sessions: sessions.count,
      keys: keys.count,
    }
    const pieces = (): Iterable<Uint8Array> =>
      piecesOf(meta, [sessions.pieces(), machine.pieces(), keys.pieces()])
    return { index: meta.index, pieces }
  }

  /** `options.machine` only says what kind of machine it is: its state does not matter. */
  static restorer(options: AppliedStateOptions): StateRestorer {
    let meta: Meta | null = null
    let at = META
    const sessions = Sessions.restorer()
    const machine: Restorer = options.machine.restorer()
    const keys = IdempotencyKeys.restorer()
    // In the order of their numbers, behind that of the meta.
    const joiners = [sessions, machine, keys].map(
      (restorer) => new PieceJoiner((record) => restorer.write(record)),
    )
    return {
      write: (piece) => {
        const part = piece[0] ?? META
        if (part < at || (part === META) !== (meta === null)) {
          throw new MalformedError('a piece out of order')
        }
        at = part
        const rest = piece.subarray(1)
        const joiner = joiners[part - 1]
        if (part === META) meta = decodeMeta(rest)
        else if (joiner !== undefined) joiner.write(rest)
        else throw new MalformedError(`a piece of an unknown part ${part}`)
      },
      finish: () => {
        if (meta === null) throw new MalformedError('a snapshot of nothing')
        for (const joiner of joiners) joiner.finish()
        return joined(options, meta, {
          sessions: sessions.finish(),
          machine: machine.finish(),
          keys: keys.finish(),
          logTimeMs: meta.logTimeMs,
          moves: meta.moves,
        })
      },
    }
  }

  /** What is no command changes nothing, on every member alike: a leader that let one in must not stop them all. */
  #applyCommand(entry: Entry): Uint8Array {
    const command = readCommand(entry.payload)
    if (command === null) {
      mark('machine: an entry is no command')
      return NOTHING
    }
    const run = (operation: Uint8Array): Uint8Array =>
      this.#machine.apply(operation, { index: entry.index })
    if (command.kind === 'keyed') {
      // Until then whatever has run is remembered: a key is marked by the first move after its use, and forgotten by a later one.
      const isLate = this.#moves >= command.sequence + 2
      return this.#keys.apply(command.operation, isLate, run)
    }
    return this.#sessions.apply(command, entry.index, run)
  }

  /** A time that is none, or not later than the last, moves nothing: no leader of this version proposes one. */
  #advance(entry: Entry): void {
    const timeMs = decodeLogTime(entry.payload)
    if (timeMs === null || timeMs <= this.#logTimeMs) return
    this.#logTimeMs = timeMs
    this.#moves++
    this.#sessions.advance(timeMs, this.#sessionTtlMs)
    this.#keys.advance(timeMs, this.#keyTtlMs)
  }
}

function readCommand(payload: Uint8Array): Command | null {
  try {
    return decodeCommand(payload)
  } catch (error) {
    if (error instanceof MalformedError) return null
    throw error
  }
}

function* piecesOf(meta: Meta, parts: readonly Iterable<Uint8Array>[]): Generator<Uint8Array> {
  yield tagged(META, encodeAsciiJson(meta))
  for (const [at, part] of parts.entries()) {
    for (const piece of cutIntoPieces(part)) yield tagged(at + 1, piece)
  }
}

function tagged(part: number, piece: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1 + piece.length)
  bytes[0] = part
  bytes.set(piece, 1)
  return bytes
}

function joined(options: AppliedStateOptions, meta: Meta, parts: Parts): AppliedState {
  const { sessions, keys, machine } = parts
  if (sessions.count !== meta.sessions) throw new MalformedError('sessions are missing')
  if (keys.count !== meta.keys) throw new MalformedError('keys are missing')
  // Another version hashes in another way: then the checksums of the file alone must do.
  if (meta.hashVersion === HASH_VERSION && hashOf(parts) !== meta.hash) {
    throw new MalformedError(`the state has another hash than ${meta.hash}`)
  }
  // ... and what it noted on the way is comparable with nothing that is noted here.
  const hashes = meta.hashVersion === HASH_VERSION ? meta.hashes : []
  return new AppliedState({ ...options, machine }, { index: meta.index, hashes, ...parts })
}

/** What is not there adds nothing: a cluster that has never seen a time entry or a key has the hash that it always had. */
function hashOf({ machine, sessions, keys, logTimeMs, moves }: Parts): string {
  const sum = new MultisetHash(keys.lanes)
  for (const hex of [machine.hash(), sessions.hash()]) {
    sum.add(
      lanesOfHex(hex) ?? {
        a: Number.parseInt(hex.slice(0, 8), 16),
        b: Number.parseInt(hex.slice(8), 16),
      },
    )
  }
  if (moves > 0) sum.add(hashItem(LOG_TIME, encodeLogTime(moves), logTimeMs))
  return sum.hex()
}

function decodeMeta(bytes: Uint8Array): Meta {
  const meta = decodeAsciiJson(bytes)
  if (!isMeta(meta)) throw new MalformedError('the first piece says not what follows')
  return meta
}

function isMeta(value: unknown): value is Meta {
  if (typeof value !== 'object' || value === null) return false
  const meta = value as Record<string, unknown>
  const { index, logTimeMs, moves, hashVersion, hash, hashes, sessions, keys } = meta
  const numbers = [index, logTimeMs, moves, hashVersion, sessions, keys]
  if (!numbers.every(isCount) || !isHash(hash) || !Array.isArray(hashes)) return false
  return hashes.every((noted: unknown) => {
    if (typeof noted !== 'object' || noted === null) return false
    const one = noted as Record<string, unknown>
    return isCount(one.index) && isHash(one.hash)
  })
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{16}$/.test(value)
}
