/** Calls in the order in which they were made. A call that must be sent again returns to its old place. */
import type { Call } from './call.ts'

/** Taken calls stay in the array until it is worth moving the rest. */
const COMPACT_AT = 1024

export class CallQueue {
  /** Calls that came back, last one first. */
  #returned: Call[] = []
  #sorted = true
  #calls: Call[] = []
  #head = 0

  push(call: Call): void {
    this.#calls.push(call)
  }

  putBack(calls: readonly Call[]): void {
    if (calls.length === 0) return
    this.#returned.push(...calls)
    this.#sorted = false
  }

  /** The next call that is not settled, or null. */
  peek(): Call | null {
    this.#sort()
    for (;;) {
      const call = this.#returned.at(-1) ?? this.#calls[this.#head]
      if (call === undefined) return null
      if (!call.settled) return call
      this.drop()
    }
  }

  /** Takes what `peek` showed. */
  drop(): void {
    if (this.#returned.pop() !== undefined) return
    this.#head++
    if (this.#head >= COMPACT_AT && this.#head * 2 >= this.#calls.length) {
      this.#calls = this.#calls.slice(this.#head)
      this.#head = 0
    }
  }

  /** Every call that is not settled, in order. */
  all(): Call[] {
    this.#sort()
    return [...[...this.#returned].reverse(), ...this.#calls.slice(this.#head)].filter(
      (call) => !call.settled,
    )
  }

  /** Calls often return one by one; they are sorted once, when they are looked at. */
  #sort(): void {
    if (!this.#sorted) this.#returned.sort((a, b) => b.order - a.order)
    this.#sorted = true
  }
}
