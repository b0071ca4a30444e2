/**
 * What the committed log means, told a second time and as simply as possible: a map of texts, every reply ever given, and all
 * versions of every key. Nothing of the production machine or its sessions is used, only the codec of commands.
 */
import { equalBytes } from '../../client/bytes.ts'
import {
  decodeCommand,
  decodeKvOperation,
  encodeKvResult,
  encodeOutcome,
  type KvResult,
} from '../../client/protocol.ts'
import type { Entry, Index } from '../../node/raft/types.ts'
import { wrong } from './failure.ts'
import { decodeAppend } from './register-machine.ts'

interface Version {
  readonly index: Index
  /** Null: deleted. */
  readonly value: string | null
}

interface ModelSession {
  readonly replies: Map<number, Uint8Array>
  floor: number
  /** The index of the last command of it that was known. */
  usedAt: Index
}

/** What came under a name of its own. */
interface ModelKey {
  readonly request: string
  readonly outcome: Uint8Array
  readonly usedAt: Index
}

export interface ModelLives {
  /** Log time, ms. */
  readonly sessionTtlMs: number
  readonly keyTtlMs: number
}

const DECODER = new TextDecoder()
const NOTHING = new Uint8Array(0)

export class Model {
  readonly #versions = new Map<string, Version[]>()
  readonly #sessions = new Map<number, ModelSession>()
  /** By index - 1: the encoded Outcome of a command, empty for other entries. */
  readonly #outcomes: Uint8Array[] = []
  /** The id of every operation that was applied, with the index of its first time. */
  readonly #ran = new Map<string, Index>()
  readonly #keys = new Map<string, ModelKey>()
  /** Every time entry that was later than those before it. */
  readonly #times: { readonly index: Index; readonly ms: number }[] = []
  readonly #lives: ModelLives

  constructor(lives: ModelLives) {
    this.#lives = lives
  }

  /** How often log time has moved. */
  get moves(): number {
    return this.#times.length
  }

  get lastIndex(): Index {
    return this.#outcomes.length
  }

  outcomeAt(index: Index): Uint8Array | undefined {
    return this.#outcomes[index - 1]
  }

  /** Where an operation took effect; undefined: nowhere yet. The id is `session/sequence`, or the name of a keyed one. */
  ranAt(id: string): Index | undefined {
    return this.#ran.get(id)
  }

  /** The value of a key as of an index. */
  valueAt(key: string, index: Index): string | null {
    const versions = this.#versions.get(key) ?? []
    for (let i = versions.length - 1; i >= 0; i--) {
      const version = versions[i] as Version
      if (version.index <= index) return version.value
    }
    return null
  }

  apply(entry: Entry): void {
    if (entry.index !== this.#outcomes.length + 1) throw new Error('bug: the model skips an entry')
    this.#outcomes.push(entry.kind === 'command' ? this.#command(entry) : NOTHING)
    if (entry.kind !== 'time') return
    const ms = Number(Buffer.from(entry.payload).readBigUInt64BE())
    if (ms > (this.#times.at(-1)?.ms ?? 0)) this.#times.push({ index: entry.index, ms })
  }

  /** Unused since the first time entry behind its last use, and that entry is a whole life old. */
  #isExpired(usedAt: Index, ttlMs: number): boolean {
    const marked = this.#times.find(({ index }) => index > usedAt)
    const now = this.#times.at(-1)
    return marked !== undefined && now !== undefined && now.ms >= marked.ms + ttlMs
  }

  #command(entry: Entry): Uint8Array {
    const { kind, session, sequence, firstOutstanding, operation } = decodeCommand(entry.payload)
    if (kind === 'keyed') return this.#keyed(operation, sequence, entry.index)
    if (kind === 'openSession') {
      this.#sessions.set(entry.index, { replies: new Map(), floor: 0, usedAt: entry.index })
      return encodeOutcome({ status: 'done', body: NOTHING })
    }
    if (kind === 'closeSession') {
      this.#sessions.delete(session)
      return encodeOutcome({ status: 'done', body: NOTHING })
    }
    const known = this.#sessions.get(session)
    if (known === undefined || this.#isExpired(known.usedAt, this.#lives.sessionTtlMs)) {
      return encodeOutcome({ status: 'expired', body: NOTHING })
    }
    known.usedAt = entry.index
    const before = known.replies.get(sequence)
    if (before !== undefined && sequence >= known.floor) return before
    if (sequence < known.floor) return encodeOutcome({ status: 'forgotten', body: NOTHING })
    known.floor = Math.max(known.floor, Math.min(firstOutstanding, sequence))
    const body = encodeKvResult(this.#run(operation, entry.index))
    const outcome = encodeOutcome({ status: 'done', body })
    known.replies.set(sequence, outcome)
    this.#runs(`${session}/${sequence}`, entry.index)
    return outcome
  }

  #keyed(bytes: Uint8Array, accepted: number, index: Index): Uint8Array {
    const hex = Buffer.from(bytes).toString('hex')
    const [name, request] = [hex.slice(0, 64), hex.slice(64, 128)]
    const known = this.#keys.get(name)
    if (known !== undefined && !this.#isExpired(known.usedAt, this.#lives.keyTtlMs)) {
      if (known.request === request) return known.outcome
      return encodeOutcome({ status: 'conflict', body: NOTHING })
    }
    if (this.moves >= accepted + 2) return encodeOutcome({ status: 'expired', body: NOTHING })
    const body = encodeKvResult(this.#run(bytes.subarray(64), index))
    const outcome = encodeOutcome({ status: 'done', body })
    this.#keys.set(name, { request, outcome, usedAt: index })
    this.#runs(name, index)
    return outcome
  }

  #runs(id: string, index: Index): void {
    if (this.#ran.has(id)) wrong('sessions', `operation ${id} was applied twice`)
    this.#ran.set(id, index)
  }

  #run(operation: Uint8Array, index: Index): KvResult {
    const appended = decodeAppend(operation)
    if (appended !== null) {
      const key = DECODER.decode(appended.key)
      const before = this.valueAt(key, index)
      this.#set(key, index, (before ?? '') + DECODER.decode(appended.value))
      return { succeeded: true, revision: index, existed: before !== null }
    }
    const decoded = decodeKvOperation(operation)
    const key = DECODER.decode(decoded.key)
    const before = this.valueAt(key, index)
    const existed = before !== null
    const { condition } = decoded
    const holds =
      condition.type === 'none' ||
      (condition.type === 'absent' && !existed) ||
      (condition.type === 'value' &&
        existed &&
        equalBytes(condition.value, new TextEncoder().encode(before)))
    if (!holds) {
      return { succeeded: false, revision: existed ? this.#revisionOf(key) : 0, existed }
    }
    if (decoded.type === 'put') this.#set(key, index, DECODER.decode(decoded.value))
    else if (existed) this.#set(key, index, null)
    return { succeeded: true, revision: index, existed }
  }

  #set(key: string, index: Index, value: string | null): void {
    const versions = this.#versions.get(key)
    if (versions === undefined) this.#versions.set(key, [{ index, value }])
    else versions.push({ index, value })
  }

  #revisionOf(key: string): Index {
    return this.#versions.get(key)?.at(-1)?.index ?? 0
  }
}
