/**
 * Big-endian reading and writing of the client protocol. Pure: no TextEncoder, keys and values stay bytes.
 * A reader checks every length against what is there before it allocates or slices.
 */

/** Malformed input. The boundary that decoded it answers `bad-request` and goes on. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError'
}

const TWO_32 = 0x1_0000_0000
const NOTHING = new Uint8Array(0)
const SPARE_BYTES_MIN = 256
const SPARE_BYTES_MAX = 64 * 1024
const SPARES_MAX = 4

/** The next writers begin with the room of those that have finished: to allocate room costs more than to fill it. */
const spares: Uint8Array[] = []

export class ByteWriter {
  // Without a DataView: making one costs more than most of these few bytes, and every command and session passes here.
  #bytes: Uint8Array
  #length = 0

  /** Where `capacityBytes` is what will be written, nothing is copied. */
  constructor(capacityBytes = 64) {
    const spare = spares.pop()
    this.#bytes =
      spare !== undefined && spare.length >= capacityBytes ? spare : new Uint8Array(capacityBytes)
  }

  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    const at = this.#reserve(1)
    this.#bytes[at] = value
    return this
  }

  u16(value: number): this {
    const at = this.#reserve(2)
    this.#bytes[at] = value >>> 8
    this.#bytes[at + 1] = value
    return this
  }

  u32(value: number): this {
    this.patchU32(this.#reserve(4), value)
    return this
  }

  /** A non-negative safe integer in 8 bytes. */
  u64(value: number): this {
    const at = this.#reserve(8)
    this.patchU32(at, Math.floor(value / TWO_32))
    this.patchU32(at + 4, value >>> 0)
    return this
  }

  /** Bytes as they are, without a length. */
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length)
    this.#bytes.set(bytes, at)
    return this
  }

  /** Bytes behind their length (u32). */
  bytes(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes)
  }

  /** Overwrites an u32 written earlier, for lengths known only later. */
  patchU32(at: number, value: number): void {
    const bytes = this.#bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }

  /** Exactly what was written. The writer is empty again. */
  finish(): Uint8Array {
    const bytes = this.#bytes
    const length = this.#length
    this.#bytes = NOTHING
    this.#length = 0
    if (length === bytes.length) return bytes
    const isSpare = bytes.length >= SPARE_BYTES_MIN && bytes.length <= SPARE_BYTES_MAX
    if (isSpare && spares.length < SPARES_MAX) spares.push(bytes)
    return bytes.slice(0, length)
  }

  #reserve(count: number): number {
    const at = this.#length
    const needed = at + count
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
    }
    this.#length = needed
    return at
  }
}

/** Returns views of its input: copy (`slice`) what outlives the buffer. Throws MalformedError past the end. */
export class ByteReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get remaining(): number {
    return this.#bytes.length - this.#at
  }

  u8(): number {
    return this.#bytes[this.#take(1)] as number
  }

  /** A byte that is 0 or 1: anything else is malformed, so that one value has one encoding. */
  flag(): boolean {
    const byte = this.u8()
    if (byte > 1) throw new MalformedError(`a flag is ${byte}, neither 0 nor 1`)
    return byte === 1
  }

  u16(): number {
    const at = this.#take(2)
    return ((this.#bytes[at] as number) << 8) | (this.#bytes[at + 1] as number)
  }

  u32(): number {
    return this.#u32At(this.#take(4))
  }

  u64(): number {
    const at = this.#take(8)
    const high = this.#u32At(at)
    if (high > 0x1f_ffff) throw new MalformedError('an integer is larger than 2^53 - 1')
    const low = this.#u32At(at + 4)
    // Not `0 * TWO_32 + low`, whose sum is no small integer to the engine.
    return high === 0 ? low : high * TWO_32 + low
  }

  raw(count: number): Uint8Array {
    const at = this.#take(count)
    return this.#bytes.subarray(at, at + count)
  }

  bytes(): Uint8Array {
    return this.raw(this.u32())
  }

  rest(): Uint8Array {
    return this.raw(this.remaining)
  }

  /** Asserts that nothing is left over: a longer message is malformed, not "newer". */
  end(): void {
    if (this.remaining !== 0) throw new MalformedError(`${this.remaining} bytes left over`)
  }

  /** Big-endian; the four bytes are there. */
  #u32At(at: number): number {
    const bytes = this.#bytes
    const low =
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)
    return (bytes[at] as number) * 0x100_0000 + low
  }

  #take(count: number): number {
    const at = this.#at
    if (count > this.#bytes.length - at) {
      throw new MalformedError(`${count} bytes wanted, ${this.#bytes.length - at} left`)
    }
    this.#at = at + count
    return at
  }
}

/** Bytewise order, a shorter prefix first: the order of keys everywhere. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const difference = (a[i] as number) - (b[i] as number)
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && compareBytes(a, b) === 0
}
