/**
 * Everything that applying the log has made: the machine's state, the sessions, and the hashes noted on the way. Index and state
 * change in one step. Pure.
 */
import { MalformedError } from '../client/bytes.ts'
import { type Command, decodeCommand } from '../client/protocol.ts'
import { HASH_VERSION, MultisetHash } from './machine/hash.ts'
import type { Restorer, StateMachine } from './machine/machine.ts'
import { cutIntoPieces, PieceJoiner } from './machine/pieces.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import { mark } from './raft/marks.ts'
import type { Entry, Index } from './raft/types.ts'
import type { HashAt } from './request.ts'
import { Sessions } from './sessions.ts'

export interface AppliedStateOptions {
  readonly machine: StateMachine
  /** The hash is noted at every index that is a multiple of this, inside the apply loop (HAZARDS). */
  readonly hashEveryEntries: number
  readonly hashesKept: number
}

/**
 * The state as it was at one index, for a snapshot. A piece (at most 64 KiB) is one byte that says what it holds (0 meta, 1 sessions,
 * 2 machine) and, behind it, the meta or a piece of that part (machine/pieces.ts). The meta comes first, the parts in this order.
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
  readonly hashVersion: number
  /** Of the state below, sessions and machine. */
  readonly hash: string
  /** Noted on the way to it, the newest last. */
  readonly hashes: readonly HashAt[]
  readonly sessions: number
}

const META = 0
const SESSIONS = 1
const MACHINE = 2

const NOTHING = new Uint8Array(0)

export class AppliedState {
  readonly #options: AppliedStateOptions
  readonly #machine: StateMachine
  readonly #sessions: Sessions
  #hashes: readonly HashAt[]
  #index: Index

  constructor(options: AppliedStateOptions, from?: Meta, sessions = new Sessions()) {
    this.#options = options
    this.#machine = options.machine
    this.#sessions = sessions
    this.#index = from === undefined ? 0 : from.index
    this.#hashes = from === undefined ? [] : from.hashes.slice(-options.hashesKept)
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
    return hashOf(this.#machine, this.#sessions)
  }

  /** Copy-on-write: it costs a few milliseconds however large the state is, and applying goes on at once. */
  capture(): CapturedState {
    const machine = this.#machine.clone()
    const sessions = new Sessions(this.#sessions)
    const meta: Meta = {
      index: this.#index,
      logTimeMs: 0,
      hashVersion: HASH_VERSION,
      hash: this.hash(),
      hashes: this.#hashes,
      sessions: sessions.count,
    }
    return { index: meta.index, pieces: () => piecesOf(meta, sessions, machine) }
  }

  /** `options.machine` only says what kind of machine it is: its state does not matter. */
  static restorer(options: AppliedStateOptions): StateRestorer {
    let meta: Meta | null = null
    let at = META
    const sessions = Sessions.restorer()
    const machine: Restorer = options.machine.restorer()
    const sessionPieces = new PieceJoiner((record) => sessions.write(record))
    const machinePieces = new PieceJoiner((record) => machine.write(record))
    return {
      write: (piece) => {
        const part = piece[0] ?? MACHINE + 1
        if (part < at || (part === META) !== (meta === null)) {
          throw new MalformedError('a piece out of order')
        }
        at = part
        const rest = piece.subarray(1)
        if (part === META) meta = decodeMeta(rest)
        else if (part === SESSIONS) sessionPieces.write(rest)
        else if (part === MACHINE) machinePieces.write(rest)
        else throw new MalformedError(`a piece of an unknown part ${part}`)
      },
      finish: () => {
        if (meta === null) throw new MalformedError('a snapshot of nothing')
        sessionPieces.finish()
        machinePieces.finish()
        return joined(options, meta, sessions.finish(), machine.finish())
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
    return this.#sessions.apply(command, entry.index, (operation) =>
      this.#machine.apply(operation, { index: entry.index }),
    )
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

function* piecesOf(meta: Meta, sessions: Sessions, machine: StateMachine): Generator<Uint8Array> {
  yield tagged(META, encodeAsciiJson(meta))
  for (const piece of cutIntoPieces(sessions.pieces())) yield tagged(SESSIONS, piece)
  for (const piece of cutIntoPieces(machine.pieces())) yield tagged(MACHINE, piece)
}

function tagged(part: number, piece: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1 + piece.length)
  bytes[0] = part
  bytes.set(piece, 1)
  return bytes
}

function joined(
  options: AppliedStateOptions,
  meta: Meta,
  sessions: Sessions,
  machine: StateMachine,
): AppliedState {
  if (sessions.count !== meta.sessions) throw new MalformedError('sessions are missing')
  // Another version hashes in another way: then the checksums of the file alone must do.
  if (meta.hashVersion === HASH_VERSION && hashOf(machine, sessions) !== meta.hash) {
    throw new MalformedError(`the state has another hash than ${meta.hash}`)
  }
  // ... and what it noted on the way is comparable with nothing that is noted here.
  const hashes = meta.hashVersion === HASH_VERSION ? meta.hashes : []
  return new AppliedState({ ...options, machine }, { ...meta, hashes }, sessions)
}

function hashOf(machine: StateMachine, sessions: Sessions): string {
  const sum = new MultisetHash()
  for (const hex of [machine.hash(), sessions.hash()]) {
    sum.add({
      a: Number.parseInt(hex.slice(0, 8), 16),
      b: Number.parseInt(hex.slice(8), 16),
    })
  }
  return sum.hex()
}

function decodeMeta(bytes: Uint8Array): Meta {
  const meta = decodeAsciiJson(bytes)
  if (!isMeta(meta)) throw new MalformedError('the first piece says not what follows')
  return meta
}

function isMeta(value: unknown): value is Meta {
  if (typeof value !== 'object' || value === null) return false
  const { index, logTimeMs, hashVersion, hash, hashes, sessions } = value as Record<string, unknown>
  const numbers = [index, logTimeMs, hashVersion, sessions]
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
