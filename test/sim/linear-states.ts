/**
 * The values of one key as small integers, as few of them as the observations can tell apart. Pure arithmetic of values: it
 * knows no operation and no time.
 *
 * Let O be every value that some operation of the key compares with (outputs of gets, expectations of compare-and-sets). Only
 * a comparison can tell two values apart, so two values that agree on every comparison now and after any writes to come are
 * one state:
 *
 * - Without appends, a value outside O equals nothing that anybody compares with, and writes forget it. All of them
 *   are one state, UNSEEN.
 * - With appends, a value that is not a prefix of a member of O stays so whatever is appended. All of these are UNSEEN, and an
 *   append to UNSEEN is UNSEEN.
 * - Absent is a state of its own when something compares with it, or when something can be appended to it.
 *
 * This is a bisimulation, so a history is linearizable over these states exactly when it is over the values. It is why
 * appends that nobody told apart do not multiply, and why a put that nobody observed costs next to nothing.
 */

export const ABSENT = 0
export const UNSEEN = 1
const FIRST_SEEN = 2

/** Bounds the length of a value, so that (first, length) fits into one number. */
const LENGTH_LIMIT = 2 ** 30

export class States {
  readonly #appends: boolean
  readonly #comparesAbsent: boolean
  /** The strings of O, sorted, so that those with a common prefix are neighbours. */
  readonly #observed: readonly string[]
  /** Those of them that no other one begins with: what occurs in any occurs in one of these. */
  readonly #longest: readonly string[]
  /** Without appends: the state of each string of O. */
  readonly #exact = new Map<string, number>()
  /**
   * With appends a state is a prefix. The strings of O that begin with it stand at [first, end); `first` and its length name it.
   * Extending it compares the appended text only, however long the value has grown.
   */
  readonly #prefixes = new Map<number, number>()
  readonly #first: number[] = [0, 0]
  readonly #end: number[] = [0, 0]
  readonly #length: number[] = [0, 0]

  /** How many of the first so many strings of O some DIFFERS compares with. */
  readonly #refuted: Int32Array

  /** `observed` is O and `refuted` the part of it that failed comparisons expected, in any order and with repetitions. */
  constructor(
    observed: readonly (string | null)[],
    options: { readonly appends: boolean; readonly refuted: readonly (string | null)[] },
  ) {
    const distinct = new Set(observed)
    this.#appends = options.appends
    this.#comparesAbsent = distinct.delete(null)
    const sorted = [...(distinct as Set<string>)].sort(byCodeUnit)
    this.#observed = sorted
    this.#longest = options.appends
      ? sorted.filter((value, place) => sorted[place + 1]?.startsWith(value) !== true)
      : []
    const refuted = new Set(options.refuted)
    this.#refuted = new Int32Array(sorted.length + 1)
    for (const [place, value] of sorted.entries()) {
      this.#refuted[place + 1] = (this.#refuted[place] as number) + (refuted.has(value) ? 1 : 0)
    }
    if (options.appends) return
    for (const value of sorted) this.#exact.set(value, FIRST_SEEN + this.#exact.size)
  }

  of(value: string | null): number {
    if (value === null) return this.#appends || this.#comparesAbsent ? ABSENT : UNSEEN
    if (!this.#appends) return this.#exact.get(value) ?? UNSEEN
    return this.#narrow(0, this.#observed.length, 0, value)
  }

  /** The state after `text` is appended to a value of `state`. */
  append(state: number, text: string): number {
    if (state === UNSEEN) return UNSEEN
    if (state === ABSENT) return this.of(text)
    const first = this.#first[state] as number
    return this.#narrow(first, this.#end[state] as number, this.#length[state] as number, text)
  }

  /** Whether an append of `text` can lead to anything but UNSEEN, from any state. */
  mayAppear(text: string): boolean {
    return this.#longest.some((value) => value.includes(text))
  }

  /** Whether appends to a value (not absent) of `state` can lead to one that a failed comparison expected. */
  mayBeRefuted(state: number): boolean {
    if (state === UNSEEN) return false
    const first = this.#first[state] as number
    return this.#refuted[this.#end[state] as number] !== this.#refuted[first]
  }

  /** Among the strings at [first, end), which agree on their first `length` code units, the ones that go on with `text`. */
  #narrow(first: number, end: number, length: number, text: string): number {
    const upTo = length + text.length
    let low = first
    let high = end
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#observed[middle] as string).slice(length, upTo) < text) low = middle + 1
      else high = middle
    }
    if (low === end || !(this.#observed[low] as string).startsWith(text, length)) return UNSEEN
    const name = low * LENGTH_LIMIT + upTo
    const known = this.#prefixes.get(name)
    if (known !== undefined) return known
    const state = this.#first.push(low) - 1
    high = end
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#observed[middle] as string).startsWith(text, length)) low = middle + 1
      else high = middle
    }
    this.#end.push(low)
    this.#length.push(upTo)
    this.#prefixes.set(name, state)
    return state
  }
}

/** The order of `<` on strings, which the binary searches rely on. */
function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : 1
}
