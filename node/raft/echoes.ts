/**
 * Which heartbeats a follower answers. A new read round is echoed at once. Otherwise a few answers an election timeout tell the
 * leader enough (quorum, lost Appends), and each one saved lets two idle machines sleep. Counted in ticks and not in heartbeats, so
 * that where many heartbeats are lost each that arrives is answered.
 */
export class Echoes {
  readonly #pauseTicks: number
  /** The round of the last answer to the present leader; -1: none yet. */
  #round = -1
  /** Ticks since then. */
  #ticks = 0

  constructor(options: { readonly electionTicks: number }) {
    this.#pauseTicks = Math.floor(options.electionTicks / 3)
  }

  tick(): void {
    this.#ticks++
  }

  /** Another leader, or none: the next heartbeat is answered. */
  reset(): void {
    this.#round = -1
  }

  /** Whether this heartbeat is answered; if so it counts as answered. */
  due(readRound: number): boolean {
    if (readRound === this.#round && this.#ticks < this.#pauseTicks) return false
    this.#round = readRound
    this.#ticks = 0
    return true
  }
}
