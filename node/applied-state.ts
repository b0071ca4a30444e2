/**
 * Everything that applying the log has made: the machine's state, the sessions, and the hashes noted on the way. Index and state
 * change in one step. Pure.
 */
import { MalformedError } from '../client/bytes.ts'
import { type Command, decodeCommand } from '../client/protocol.ts'
import { MultisetHash } from './machine/hash.ts'
import type { StateMachine } from './machine/machine.ts'
import { mark } from './raft/marks.ts'
import type { Entry } from './raft/types.ts'
import type { HashAt } from './request.ts'
import { Sessions } from './sessions.ts'

export interface AppliedStateOptions {
  readonly machine: StateMachine
  /** The hash is noted at every index that is a multiple of this, inside the apply loop (HAZARDS). */
  readonly hashEveryEntries: number
  readonly hashesKept: number
}

const NOTHING = new Uint8Array(0)

export class AppliedState {
  readonly #options: AppliedStateOptions
  readonly #machine: StateMachine
  readonly #sessions = new Sessions()
  #hashes: HashAt[] = []

  constructor(options: AppliedStateOptions) {
    this.#options = options
    this.#machine = options.machine
  }

  /** The newest last. */
  get hashes(): readonly HashAt[] {
    return this.#hashes
  }

  /** Returns the encoded Outcome of a command, nothing for other entries. */
  apply(entry: Entry): Uint8Array {
    const outcome = entry.kind === 'command' ? this.#applyCommand(entry) : NOTHING
    const { hashEveryEntries, hashesKept } = this.#options
    if (entry.index % hashEveryEntries === 0) {
      this.#hashes.push({ index: entry.index, hash: this.hash() })
      if (this.#hashes.length > hashesKept) this.#hashes.shift()
    }
    return outcome
  }

  /** Throws MalformedError. */
  query(query: Uint8Array): Uint8Array {
    return this.#machine.query(query)
  }

  /** 16 hex digits over the machine's state and the sessions. */
  hash(): string {
    const sum = new MultisetHash()
    for (const hex of [this.#machine.hash(), this.#sessions.hash()]) {
      sum.add({
        a: Number.parseInt(hex.slice(0, 8), 16),
        b: Number.parseInt(hex.slice(8), 16),
      })
    }
    return sum.hex()
  }

  /** What is no command changes nothing, on every member alike: a leader that let one in must not stop them all. */
  #applyCommand(entry: Entry): Uint8Array {
    const command = readCommand(entry.payload)
    if (command === null) {
      mark('applied state: an entry is no command')
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
