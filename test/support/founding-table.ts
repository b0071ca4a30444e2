/**
 * Exact tables of numbers outside the heap, for walks with millions of states: a set of tuples, a map from a number to a
 * number, and sets of small numbers with a number each. Nothing is hashed away: equality is always compared.
 */

const FIRST_SLOTS = 1 << 12
const WORD_MAX = 0xffff_ffff

function mix(hash: number, word: number): number {
  let h = Math.imul(hash ^ word, 0x9e3779b1)
  h ^= h >>> 15
  return Math.imul(h, 0x85ebca6b)
}

/** Tuples of numbers below 2^32, in the order of their arrival. */
export class TupleTable {
  readonly #width: number
  #count = 0
  #words: Uint32Array
  /** Position + 1 of a tuple, 0 for free. */
  #slots = new Uint32Array(FIRST_SLOTS)

  constructor(width: number) {
    this.#width = width
    this.#words = new Uint32Array(width * FIRST_SLOTS)
  }

  get count(): number {
    return this.#count
  }

  read(position: number, into: number[]): void {
    const from = position * this.#width
    for (let at = 0; at < this.#width; at++) into[at] = this.#words[from + at] as number
  }

  /** True when it was not there. */
  add(tuple: readonly number[]): boolean {
    if (this.#count * 2 >= this.#slots.length) this.#grow()
    let slot = this.#slotOf(tuple)
    for (; ; slot = (slot + 1) & (this.#slots.length - 1)) {
      const taken = this.#slots[slot] as number
      if (taken === 0) break
      if (this.#equals(taken - 1, tuple)) return false
    }
    const from = this.#count * this.#width
    for (let at = 0; at < this.#width; at++) {
      const word = tuple[at] as number
      if (word > WORD_MAX) throw new Error(`${word} does not fit into a tuple`)
      this.#words[from + at] = word
    }
    this.#count++
    this.#slots[slot] = this.#count
    return true
  }

  #slotOf(tuple: readonly number[]): number {
    let hash = 0
    for (let at = 0; at < this.#width; at++) hash = mix(hash, tuple[at] as number)
    return (hash ^ (hash >>> 13)) & (this.#slots.length - 1)
  }

  #equals(position: number, tuple: readonly number[]): boolean {
    const from = position * this.#width
    for (let at = 0; at < this.#width; at++) {
      if (this.#words[from + at] !== tuple[at]) return false
    }
    return true
  }

  #grow(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2)
    const words = new Uint32Array((this.#width * this.#slots.length) / 2 + this.#width)
    words.set(this.#words.subarray(0, this.#count * this.#width))
    this.#words = words
    const tuple: number[] = []
    for (let position = 0; position < this.#count; position++) {
      this.read(position, tuple)
      let slot = this.#slotOf(tuple)
      while (this.#slots[slot] !== 0) slot = (slot + 1) & (this.#slots.length - 1)
      this.#slots[slot] = position + 1
    }
  }
}

/** From a whole number below 2^53 to one below 2^32 - 1. */
export class NumberMap {
  #count = 0
  #keys = new Float64Array(FIRST_SLOTS)
  /** Value + 1, 0 for free. */
  #values = new Uint32Array(FIRST_SLOTS)

  /** -1 when the key is not there. */
  get(key: number): number {
    return (this.#values[this.#find(key)] as number) - 1
  }

  set(key: number, value: number): void {
    if (this.#count * 2 >= this.#keys.length) this.#grow()
    const slot = this.#find(key)
    if (this.#values[slot] === 0) this.#count++
    this.#keys[slot] = key
    this.#values[slot] = value + 1
  }

  #find(key: number): number {
    const mask = this.#keys.length - 1
    const hash = mix(mix(0, key >>> 0), (key / 4_294_967_296) >>> 0)
    let slot = (hash ^ (hash >>> 13)) & mask
    while (this.#values[slot] !== 0 && this.#keys[slot] !== key) slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values]
    this.#keys = new Float64Array(keys.length * 2)
    this.#values = new Uint32Array(keys.length * 2)
    for (let at = 0; at < keys.length; at++) {
      if (values[at] === 0) continue
      const slot = this.#find(keys[at] as number)
      this.#keys[slot] = keys[at] as number
      this.#values[slot] = values[at] as number
    }
  }
}

/** Sets of small numbers; each distinct set has one number, 0 is the empty one. */
export class SetBook {
  readonly #sets: (readonly number[])[] = [[]]
  readonly #ids = new Map<string, number>([['', 0]])
  readonly #unions = new Map<number, number>()

  get(id: number): readonly number[] {
    return this.#sets[id] as readonly number[]
  }

  intern(members: readonly number[]): number {
    const sorted = [...new Set(members)].sort((a, b) => a - b)
    const key = sorted.join()
    const found = this.#ids.get(key)
    if (found !== undefined) return found
    this.#sets.push(sorted)
    this.#ids.set(key, this.#sets.length - 1)
    return this.#sets.length - 1
  }

  union(a: number, b: number): number {
    if (a === b || b === 0) return a
    if (a === 0) return b
    const key = a * 67_108_864 + b
    const before = this.#unions.get(key)
    if (before !== undefined) return before
    const union = this.intern([...this.get(a), ...this.get(b)])
    this.#unions.set(key, union)
    return union
  }
}
