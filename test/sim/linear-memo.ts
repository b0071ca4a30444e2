/**
 * The configurations from which the search found no way on, as short records of 32-bit integers: a *name* (state and set of
 * required operations), compared exactly, and the set of optional operations. A hash only says where to look, because a
 * collision taken for a repetition would be a false alarm.
 *
 * A way on from a configuration is also one from the same configuration with fewer optional operations used up. So where nothing
 * led on, nothing leads on with the same name and more of them used.
 */
const TABLE_START = 1024
const ARENA_START = 8192
/** Before each record: the place of the next one with the same slot, plus 1, or 0; its hash; its length. */
const HEAD = 3

export class Memo {
  #size = 0
  /** By the low bits of the hash: the place of the latest record, plus 1, or 0. Its length is a power of two. */
  #table = new Int32Array(0)
  #arena = new Int32Array(0)
  #used = 0

  get size(): number {
    return this.#size
  }

  /** `record` holds a name of `nameLength` integers, and then a set of words up to `length`. `hash` is of the name. */
  covers(hash: number, record: Int32Array, nameLength: number, length: number): boolean {
    if (this.#size === 0) return false
    const arena = this.#arena
    let link = this.#table[hash & (this.#table.length - 1)] as number
    for (; link !== 0; link = arena[link - 1] as number) {
      const start = link - 1 + HEAD
      if (arena[link] !== hash || arena[link + 1] !== length) continue
      let index = 0
      while (index < nameLength && arena[start + index] === record[index]) index++
      if (index < nameLength) continue
      while (index < length && isSubset(arena[start + index], record[index])) index++
      if (index === length) return true
    }
    return false
  }

  add(hash: number, record: Int32Array, length: number): void {
    if (this.#size >= this.#table.length) this.#rehash()
    if (this.#used + HEAD + length > this.#arena.length) this.#grow(HEAD + length)
    const place = this.#used
    this.#arena[place + 1] = hash
    this.#arena[place + 2] = length
    for (let index = 0; index < length; index++) {
      this.#arena[place + HEAD + index] = record[index] as number
    }
    this.#link(place)
    this.#used += HEAD + length
    this.#size++
  }

  #link(place: number): void {
    const slot = (this.#arena[place + 1] as number) & (this.#table.length - 1)
    this.#arena[place] = this.#table[slot] as number
    this.#table[slot] = place + 1
  }

  #grow(more: number): void {
    const arena = new Int32Array(Math.max(ARENA_START, this.#arena.length * 2, this.#used + more))
    arena.set(this.#arena)
    this.#arena = arena
  }

  #rehash(): void {
    this.#table = new Int32Array(Math.max(TABLE_START, this.#table.length * 2))
    for (let place = 0; place < this.#used; ) {
      this.#link(place)
      place += HEAD + (this.#arena[place + 2] as number)
    }
  }
}

function isSubset(part: number | undefined, whole: number | undefined): boolean {
  return ((part as number) & ~(whole as number)) === 0
}
