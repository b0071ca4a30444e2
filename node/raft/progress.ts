/**
 * What a leader knows of one follower (thesis 10.2; the states are those of etcd): while probing it sends one Append at a
 * time, since it does not know where the logs match; once one was accepted it replicates, pipelined, within a window. A follower
 * that needs entries which are compacted away is offered a snapshot and gets no Append until it has answered.
 *
 * Invariant: matchIndex < nextIndex. Entries up to matchIndex are durable on the follower.
 */
import { invariant } from './assert.ts'
import { mark } from './marks.ts'
import type { Index } from './types.ts'

export type ProgressState = 'probe' | 'replicate' | 'snapshot'

export interface WindowLimits {
  /** Append messages in flight to one follower. */
  readonly messagesMax: number
  /** Payload bytes in flight to one follower. */
  readonly bytesMax: number
}

interface Sent {
  readonly lastIndex: Index
  readonly bytes: number
}

/** A probe whose answer takes longer may be lost. */
const PROBE_TICKS = 2

export class Progress {
  state: ProgressState = 'probe'
  matchIndex: Index = 0
  nextIndex: Index
  /** Heard from since the last quorum check. */
  active: boolean
  /** Ticks since it was last heard in this term. */
  silentTicks = 0
  /** While probing or offering: one message is under way and no other is sent before the next answer or heartbeat. */
  probeSent = false
  /** Ticks since the last probe left. */
  probeTicks = 0
  /** The highest commit index this follower was told of. */
  commitSent: Index = 0
  /** How often in a row it denied, while probed, what it had acknowledged as durable in this term. */
  lostCount = 0
  /** The next Append leaves even with nothing new in it and a full window. */
  askAgain = false
  /** Where it stood at the last echo, if it was behind then. */
  #matchAtEcho: Index | null = null
  /** The newest read round this follower has echoed in this term. */
  readRound = 0
  readonly #window: WindowLimits
  #inflight: Sent[] = []
  #inflightBytes = 0

  constructor(options: { nextIndex: Index; active: boolean; window: WindowLimits }) {
    this.nextIndex = options.nextIndex
    this.active = options.active
    this.#window = options.window
  }

  get inflightCount(): number {
    return this.#inflight.length
  }

  /** No Append may be sent now. */
  get paused(): boolean {
    return this.state === 'replicate' ? this.#windowFull : this.probeSent
  }

  get #windowFull(): boolean {
    return (
      this.#inflight.length >= this.#window.messagesMax ||
      this.#inflightBytes >= this.#window.bytesMax
    )
  }

  /** An Append with `count` entries that end at `lastIndex` is leaving. */
  sent(append: { lastIndex: Index; count: number; bytes: number; commit: Index }): void {
    this.commitSent = append.commit
    this.askAgain = false
    if (this.state === 'probe') {
      this.probeSent = true
      this.probeTicks = 0
      return
    }
    if (append.count === 0) return
    this.nextIndex = append.lastIndex + 1
    this.#inflight.push({ lastIndex: append.lastIndex, bytes: append.bytes })
    this.#inflightBytes += append.bytes
  }

  tick(): void {
    this.silentTicks++
    this.probeTicks++
  }

  /** Returns whether this moved anything: a repeated or late answer does not (rule 9). */
  accepted(matchIndex: Index): boolean {
    this.#release(matchIndex)
    const moved = matchIndex > this.matchIndex
    this.lostCount = 0
    if (moved) this.matchIndex = matchIndex
    this.nextIndex = Math.max(this.nextIndex, this.matchIndex + 1)
    if (this.state !== 'replicate' && matchIndex >= this.matchIndex) this.#becomeReplicate()
    return moved
  }

  /**
   * The follower did not match at `rejectedIndex`. Returns false for a late answer, which says nothing any more.
   * `retryIndex` is where the logs may match at best.
   */
  rejected(rejectedIndex: Index, retryIndex: Index): boolean {
    if (this.state === 'replicate') {
      if (rejectedIndex <= this.matchIndex) {
        mark('progress: a late rejection')
        return false
      }
      mark('progress: a follower is probed again')
      this.becomeProbe(this.matchIndex + 1)
      return true
    }
    if (this.state === 'snapshot') {
      mark('progress: a rejection from before the offer')
      return false
    }
    if (this.nextIndex - 1 !== rejectedIndex) return false
    if (rejectedIndex === this.matchIndex && retryIndex < this.matchIndex) {
      // One such answer may be an old one that was repeated on the way; a log that has lost its end says so each time. It is
      // asked again after the next heartbeat, not at once and for ever.
      this.lostCount++
      return false
    }
    this.becomeProbe(Math.max(Math.min(rejectedIndex, retryIndex + 1), this.matchIndex + 1))
    return true
  }

  /**
   * A heartbeat was answered. A follower that was behind at the last echo too and has not moved since is asked where it stands:
   * a message was lost, or its disk is slow, in which case asking costs one small message. An echo right behind a probe answers
   * a heartbeat from before it, and says nothing of the probe.
   */
  echoed(lastIndex: Index): void {
    const isBehind = this.state === 'replicate' && this.matchIndex < lastIndex
    if (isBehind) this.askAgain = this.matchIndex === this.#matchAtEcho
    else if (this.state !== 'probe' || this.probeTicks >= PROBE_TICKS) this.probeSent = false
    this.#matchAtEcho = isBehind ? this.matchIndex : null
  }

  becomeProbe(nextIndex: Index): void {
    invariant(nextIndex > this.matchIndex, 'a probe would start below what is known to match')
    this.state = 'probe'
    this.nextIndex = nextIndex
    this.#forgetSent()
  }

  /** The log does not reach back to where this follower must go on. */
  becomeSnapshot(): void {
    this.state = 'snapshot'
    this.askAgain = false
    this.#forgetSent()
  }

  /** An offer is leaving. */
  offered(): void {
    this.probeSent = true
  }

  #forgetSent(): void {
    this.probeSent = false
    this.#inflight = []
    this.#inflightBytes = 0
  }

  #becomeReplicate(): void {
    this.state = 'replicate'
    this.probeSent = false
    this.nextIndex = this.matchIndex + 1
  }

  #release(matchIndex: Index): void {
    let done = 0
    for (const sent of this.#inflight) {
      if (sent.lastIndex > matchIndex) break
      this.#inflightBytes -= sent.bytes
      done++
    }
    if (done > 0) this.#inflight.splice(0, done)
  }
}
