/**
 * A seeded generator of integers (xorshift128, Marsaglia 2003). The same seed gives the same elections, so that the
 * simulator can repeat them; nothing here needs to be unpredictable.
 */
export class Random {
  #a: number
  #b: number
  #c: number
  #d: number

  constructor(seed: number) {
    // SplitMix32 spreads a small seed over the state, so that neighbouring seeds differ at once.
    let state = seed >>> 0
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0
      let mixed = state
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
      return mixed ^ (mixed >>> 16)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next() | 1
  }

  /** A uniform integer in [0, 2^32). */
  next(): number {
    return this.#step() >>> 0
  }

  /** An integer in [0, bound), bound at least 1. The bias of the modulo is below 2^-20 for bounds under 4,096. */
  below(bound: number): number {
    return (this.#step() >>> 0) % bound
  }

  /** Signed: a number of 32 bits without a sign does not fit where small integers are kept, and needs room of its own. */
  #step(): number {
    const t = this.#d ^ (this.#d << 11)
    this.#d = this.#c
    this.#c = this.#b
    this.#b = this.#a
    this.#a = this.#a ^ (this.#a >>> 19) ^ (t ^ (t >>> 8))
    return this.#a
  }
}
