/**
 * Big-endian reading and writing of the client protocol. Pure: no TextEncoder, keys and values stay bytes.
 * A reader checks every length against what is there before it allocates or slices.
 */

/** Malformed input. The boundary that decoded it answers `bad-request` and goes on. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError'
}

const TWO_32 = 0x1_0000_0000

export class ByteWriter {
  #bytes: Uint8Array
  #view: DataView
  #length = 0

  constructor(capacityBytes = 64) {
    this.#bytes = new Uint8Array(capacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    const at = this.#reserve(1)
    this.#view.setUint8(at, value)
    return this
  }

  u16(value: number): this {
    const at = this.#reserve(2)
    this.#view.setUint16(at, value)
    return this
  }

  u32(value: number): this {
    const at = this.#reserve(4)
    this.#view.setUint32(at, value)
    return this
  }

  /** A non-negative safe integer in 8 bytes. */
  u64(value: number): this {
    const at = this.#reserve(8)
    this.#view.setUint32(at, Math.floor(value / TWO_32))
    this.#view.setUint32(at + 4, value >>> 0)
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
    this.#view.setUint32(at, value)
  }

  /** A copy of exactly what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  #reserve(count: number): number {
    const at = this.#length
    const needed = at + count
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.#length = needed
    return at
  }
}

/** Returns views of its input: copy (`slice`) what outlives the buffer. Throws MalformedError past the end. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at: number

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#at = 0
  }

  get remaining(): number {
    return this.#bytes.length - this.#at
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  /** A byte that is 0 or 1: anything else is malformed, so that one value has one encoding. */
  flag(): boolean {
    const byte = this.u8()
    if (byte > 1) throw new MalformedError(`a flag is ${byte}, neither 0 nor 1`)
    return byte === 1
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2))
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4))
  }

  u64(): number {
    const at = this.#take(8)
    const high = this.#view.getUint32(at)
    if (high > 0x1f_ffff) throw new MalformedError('an integer is larger than 2^53 - 1')
    return high * TWO_32 + this.#view.getUint32(at + 4)
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
