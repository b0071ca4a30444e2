/**
 * Reads the body of one frame field by field. It checks every length before it slices, and throws MalformedFrame and nothing else: a
 * peer is hostile until its bytes were read.
 */
import { decodeConfigurationRecord } from '../raft/configuration.ts'
import { ENTRY_HEADER_BYTES, readEntry, readU64 } from '../raft/entry-codec.ts'
import type { Entry, EntryId, Term } from '../raft/types.ts'

export class MalformedFrame extends Error {
  override readonly name = 'MalformedFrame'
  readonly reason: 'malformed' | 'version'

  constructor(message: string, reason: 'malformed' | 'version' = 'malformed') {
    super(message)
    this.reason = reason
  }
}

export class BodyReader {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(view: DataView, bytes: Uint8Array, start: number, end: number) {
    this.#view = view
    this.#bytes = bytes
    this.#at = start
    this.#end = end
  }

  get isAtEnd(): boolean {
    return this.#at === this.#end
  }

  /** Consecutive behind `before`, with terms that never fall and never pass the leader's: what the core relies on. */
  entries(before: EntryId, leaderTerm: Term): Entry[] {
    const count = this.u32()
    if (count > (this.#end - this.#at) / ENTRY_HEADER_BYTES) {
      throw new MalformedFrame('more entries announced than fit')
    }
    const entries: Entry[] = []
    let last: EntryId = before
    for (let i = 0; i < count; i++) {
      const read = readEntry(this.#view, this.#bytes, this.#at, this.#end)
      if (read === null) throw new MalformedFrame('an entry is malformed')
      const { entry } = read
      if (entry.index !== last.index + 1 || entry.term < last.term || entry.term > leaderTerm) {
        throw new MalformedFrame('an entry is out of order')
      }
      // In force the moment it is appended, so that the core could only stop over it.
      if (entry.kind === 'configuration' && decodeConfigurationRecord(entry.payload) === null) {
        throw new MalformedFrame('a configuration is malformed')
      }
      entries.push(entry)
      last = entry
      this.#at = read.next
    }
    return entries
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4))
  }

  u64(): number {
    const value = readU64(this.#view, this.#take(8))
    if (value === null) throw new MalformedFrame('an integer is larger than 2^53 - 1')
    return value
  }

  flag(): boolean {
    const value = this.#view.getUint8(this.#take(1))
    if (value > 1) throw new MalformedFrame('a flag is neither 0 nor 1')
    return value === 1
  }

  oneOf<T>(values: readonly T[]): T {
    const value = values[this.#view.getUint8(this.#take(1))]
    if (value === undefined) throw new MalformedFrame('a choice is out of range')
    return value
  }

  rest(): Uint8Array {
    const start = this.#at
    this.#at = this.#end
    return this.#bytes.subarray(start, this.#end)
  }

  /** So many bytes as lower-case hex digits. */
  hex(count: number): string {
    const at = this.#take(count)
    return hexOf(this.#bytes.subarray(at, at + count))
  }

  #take(count: number): number {
    const at = this.#at
    if (count > this.#end - at) throw new MalformedFrame('a frame is too short')
    this.#at = at + count
    return at
  }
}

export function hexOf(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

/** Writes the bytes that these hex digits stand for. */
export function writeHex(bytes: Uint8Array, at: number, hex: string): void {
  for (let i = 0; i < hex.length / 2; i++) {
    bytes[at + i] = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16)
  }
}
