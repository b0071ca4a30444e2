/** When a follower has waited long enough for a leader (paper 5.2): randomised anew each time, so that split votes are rare. */
import type { Random } from './random.ts'

export class ElectionTimer {
  readonly #electionTicks: number
  readonly #random: Random
  /** Ticks since the leader was heard or the election began. */
  elapsed = 0
  #timeout = 0

  constructor(options: { readonly electionTicks: number; readonly random: Random }) {
    this.#electionTicks = options.electionTicks
    this.#random = options.random
  }

  get expired(): boolean {
    return this.elapsed >= this.#timeout
  }

  /** `alone`: a lone voter can collide with nobody and waits for nothing. */
  reset(alone: boolean): void {
    this.elapsed = 0
    this.#timeout = alone ? 1 : this.#electionTicks + this.#random.below(this.#electionTicks)
  }

  /** It has expired and stays so: this node may not campaign, but must not wait as if it had just heard a leader. */
  hold(): void {
    this.elapsed = this.#timeout
  }
}
