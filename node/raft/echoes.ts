/**
 * Which heartbeats a follower answers. A new read round is echoed at once. Otherwise a few answers an election timeout tell the
 * leader enough (quorum, lost Appends), and each one saved lets two idle machines sleep.
 */
export class Echoes {
  /** One in so many heartbeats of a round is answered. */
  readonly #every: number
  /** The round of the last answer to the present leader; -1: none yet. */
  #round = -1
  /** Heartbeats since then. */
  #unanswered = 0

  constructor(options: { readonly electionTicks: number; readonly heartbeatTicks: number }) {
    this.#every = Math.max(1, Math.floor(options.electionTicks / (3 * options.heartbeatTicks)))
  }

  /** Another leader, or none: the next heartbeat is answered. */
  reset(): void {
    this.#round = -1
  }

  /** Whether this heartbeat is answered; if so it counts as answered. */
  due(readRound: number): boolean {
    if (readRound === this.#round && ++this.#unanswered < this.#every) return false
    this.#round = readRound
    this.#unanswered = 0
    return true
  }
}
