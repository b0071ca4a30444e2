/**
 * Chance in a simulated world: integers only, from a seed. Each part of a world (network, disk, workload, faults) has dice of its
 * own, so that one part drawing more does not change what happens in another.
 */
import { Random } from '../raft/random.ts'

/** Chances are given in parts per million. */
export const ALWAYS_PPM = 1_000_000

export class Dice {
  readonly #random: Random

  constructor(seed: number) {
    this.#random = new Random(seed)
  }

  /** A uniform integer in [0, 2^32). */
  next(): number {
    return this.#random.next()
  }

  /** A uniform integer in [0, bound). */
  below(bound: number): number {
    return this.#random.below(bound)
  }

  /** A uniform integer in [from, to]. */
  between(from: number, to: number): number {
    return from + this.#random.below(to - from + 1)
  }

  chance(ppm: number): boolean {
    return ppm > 0 && this.#random.below(ALWAYS_PPM) < ppm
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('bug: nothing to choose from')
    return items[this.#random.below(items.length)] as T
  }

  /** An integer in [from, to] whose magnitude is what is drawn: small ones are as likely as large ones. `from` is at least 1. */
  magnitude(from: number, to: number): number {
    let doublings = 0
    for (let high = 2 * from; high <= to; high *= 2) doublings++
    let low = from
    for (let left = this.#random.below(doublings + 1); left > 0; left--) low *= 2
    return this.between(low, Math.min(to, 2 * low - 1))
  }

  shuffle<T>(items: readonly T[]): T[] {
    const mixed = [...items]
    for (let i = mixed.length - 1; i > 0; i--) {
      const j = this.#random.below(i + 1)
      const other = mixed[i] as T
      mixed[i] = mixed[j] as T
      mixed[j] = other
    }
    return mixed
  }

  hex(digits: number): string {
    let text = ''
    while (text.length < digits) text += this.#random.next().toString(16).padStart(8, '0')
    return text.slice(0, digits)
  }
}
