/**
 * An incremental hash of a set of items: the sum of the items' hashes, so that it depends on the set alone and not on the order
 * of the writes that led to it, and adding or removing one item costs one item. Pure.
 *
 * It finds replicas that diverged by accident. It is no cryptographic hash: whoever may write keys can construct
 * two states with one hash, so it must never prove anything to an adversary. Any change of the mixing is a new
 * HASH_VERSION, because members of mixed versions would look as if they had diverged.
 */

export const HASH_VERSION = 1

const BYTE_HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** 64 bits as two signed 32-bit integers: exact sums without BigInt. */
export interface Lanes {
  readonly a: number
  readonly b: number
}

/** The sum of the lanes of everything added and not removed, modulo 2^32 each. */
export class MultisetHash {
  #a: number
  #b: number

  constructor(from: Lanes = { a: 0, b: 0 }) {
    this.#a = from.a | 0
    this.#b = from.b | 0
  }

  get lanes(): Lanes {
    return { a: this.#a, b: this.#b }
  }

  add(item: Lanes): void {
    this.#a = (this.#a + item.a) | 0
    this.#b = (this.#b + item.b) | 0
  }

  /** Exact: removing what was added restores the hash from before. */
  remove(item: Lanes): void {
    this.#a = (this.#a - item.a) | 0
    this.#b = (this.#b - item.b) | 0
  }

  /** 16 lower-case hex digits. */
  hex(): string {
    return hex32(this.#a) + hex32(this.#b)
  }
}

/** The hash of one item. Lengths are mixed in, so that no two (key, value) pairs read as the same bytes. */
export function hashItem(key: Uint8Array, value: Uint8Array, revision: number): Lanes {
  const mixer = new Mixer()
  mixer.bytes(key)
  mixer.bytes(value)
  mixer.word(revision >>> 0)
  mixer.word(Math.floor(revision / 0x1_0000_0000))
  return mixer.finish()
}

/** Two MurmurHash3 lanes over the same 32-bit words, with the constants of its x86_32 and x86_128 forms. */
class Mixer {
  #a = 0x2f0b4c47
  #b = 0x7d1a5e93
  #words = 0

  /** Bytes behind their length, little-endian words, the last one padded with zeros. */
  bytes(bytes: Uint8Array): void {
    const length = bytes.length
    this.word(length)
    const whole = length - (length % 4)
    for (let i = 0; i < whole; i += 4) {
      this.word(
        (bytes[i] as number) |
          ((bytes[i + 1] as number) << 8) |
          ((bytes[i + 2] as number) << 16) |
          ((bytes[i + 3] as number) << 24),
      )
    }
    if (whole === length) return
    let last = 0
    for (let i = length - 1; i >= whole; i--) last = (last << 8) | (bytes[i] as number)
    this.word(last)
  }

  word(word: number): void {
    const forA = Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593)
    this.#a = (Math.imul(rotate(this.#a ^ forA, 13), 5) + 0xe6546b64) | 0
    const forB = Math.imul(rotate(Math.imul(word, 0x239b961b), 16), 0xab0e9789)
    this.#b = (Math.imul(rotate(this.#b ^ forB, 17), 5) + 0x0bcaa747) | 0
    this.#words++
  }

  finish(): Lanes {
    let a = this.#a ^ this.#words
    let b = this.#b ^ this.#words
    a = avalanche((a + b) | 0)
    b = avalanche((b + a) | 0)
    return { a, b }
  }
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}

function avalanche(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}

/** Numbers above 2^31 are slow to print in another base, and this is asked for after every entry somewhere. */
function hex32(value: number): string {
  return BYTE_HEX[value >>> 24] + hex8(value >>> 16) + hex8(value >>> 8) + hex8(value)
}

function hex8(value: number): string {
  return BYTE_HEX[value & 0xff] as string
}

/** What `hex` has printed; null for anything else. */
export function lanesOfHex(text: string): Lanes | null {
  if (text.length !== 16) return null
  const a = wordOfHex(text, 0)
  const b = wordOfHex(text, 8)
  return a === null || b === null ? null : { a, b }
}

function wordOfHex(text: string, from: number): number | null {
  let word = 0
  for (let i = from; i < from + 8; i++) {
    const code = text.charCodeAt(i)
    const isDigit = code >= 0x30 && code <= 0x39
    if (!isDigit && (code < 0x61 || code > 0x66)) return null
    word = (word << 4) | (isDigit ? code - 0x30 : code - 0x57)
  }
  return word
}
