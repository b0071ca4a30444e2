/**
 * ReadIndex on the leader (thesis 6.4): note the commit index, confirm leadership with one round of heartbeats that leave
 * *after* the reads arrived, answer when a quorum has echoed the round. One round is under way at a time and all reads that
 * wait share the next one, so that a late echo can never serve a newer read (HAZARDS, Reads).
 */
import { invariant } from './assert.ts'
import { mark } from './marks.ts'
import type { Index } from './types.ts'

export interface ReadReady {
  readonly requestId: number
  /** The read may be served once this index is applied. */
  readonly index: Index
}

export class ReadRounds {
  #round = 0
  #waiting: number[] = []
  #current: {
    readonly round: number
    readonly index: Index
    readonly requestIds: number[]
  } | null = null

  /** The newest round, carried by every heartbeat; 0 before the first. */
  get round(): number {
    return this.#round
  }

  get underWay(): boolean {
    return this.#current !== null
  }

  get waitingCount(): number {
    return this.#waiting.length
  }

  add(requestId: number): void {
    if (this.#current !== null) mark('reads: a read waits for the next round')
    this.#waiting.push(requestId)
  }

  /** Starts a round for all that wait. `commitIndex` is the leader's now, with an entry of its term committed. */
  start(commitIndex: Index): number {
    invariant(this.#current === null, 'a read round is already under way')
    this.#round++
    this.#current = { round: this.#round, index: commitIndex, requestIds: this.#waiting }
    this.#waiting = []
    return this.#round
  }

  /** A quorum has echoed the round under way. */
  confirm(): ReadReady[] {
    invariant(this.#current !== null, 'no read round is under way')
    const { index, requestIds } = this.#current
    this.#current = null
    return requestIds.map((requestId) => ({ requestId, index }))
  }

  /** Pending rounds die with the term. Returns every read that will get no answer from here. */
  abandon(): number[] {
    const lost = [...(this.#current?.requestIds ?? []), ...this.#waiting]
    if (lost.length > 0) mark('reads: reads are lost with the leadership')
    this.#current = null
    this.#waiting = []
    return lost
  }
}
