/**
 * When to campaign at once instead of waiting for the election timeout (HAZARDS, Fast failover): what counts as evidence that the
 * leader is gone, how long this node waits before it asks, for whom it stands back, and when all of this must rest. Pure bookkeeping
 * over ticks and one wake-up; it must never change a role, and nothing that is safe may depend on it.
 */
import { mark } from './marks.ts'
import type { Random } from './random.ts'
import type { Index, PeerId, Term } from './types.ts'

/** Shorter waits than this are useless: two nodes notice a death a few ms apart. */
const DELAY_MS_MIN = 10
/** A round of questions that has no result after so long has none. */
const ROUND_MS_MIN = 30
/** For one leader and term this node hurries so often at most. */
const EVIDENCE_MS = 1000
/** So many changes of leader within this time: links or leaders flap, and hurrying makes it worse. */
const CHANGES_MAX = 2
const CHANGES_MS = 10_000
const REST_ELECTIONS = 5
/** Votes wait for disks. Each round in vain makes the next one so many times as long, as often as this. */
const DOUBLINGS_MAX = 6
/** Whoever has cast a vote stands back longer: the votes of others still wait for their disks. */
const VOTED_ROUNDS = 4

/** What candidates are ordered by: the log, then the lower id (HAZARDS, rule b). */
export interface Standing {
  readonly lastTerm: Term
  readonly lastIndex: Index
  readonly peer: PeerId
}

export function beatenBy(one: Standing, other: Standing): boolean {
  if (one.lastTerm !== other.lastTerm) return one.lastTerm < other.lastTerm
  if (one.lastIndex !== other.lastIndex) return one.lastIndex < other.lastIndex
  return one.peer > other.peer
}

/**
 * `waiting`: this node asks at the wake-up. `asking`: its round counts as without result at the wake-up. `deferring`: it has granted
 * and stands back until the wake-up.
 */
export type Phase = 'idle' | 'waiting' | 'asking' | 'deferring'

interface Urge {
  /** The leadership that was lost; null: none, this node only knows better than somebody who asked. */
  readonly lost: { readonly leader: PeerId; readonly term: Term } | null
  readonly gone: PeerId | null
  readonly untilTick: number
}

export interface FastPathOptions {
  readonly electionTicks: number
  readonly tickMs: number
  readonly random: Random
}

export class FastPath {
  readonly #options: FastPathOptions
  #phase: Phase = 'idle'
  /** Why this node hurries, and until which tick; null: it does not. */
  #urge: Urge | null = null
  /** For whom it stands back while deferring. */
  #favoured: Standing | null = null
  #tick = 0
  #rttMs = 0
  #wakeInMs: number | null = null
  /** When the wake-up has surely come, so that a driver without timers is only slow. */
  #dueTick = 0
  /** The leader and term that were hurried for last, and from which tick on they may be again. */
  #hurried: { readonly leader: PeerId; readonly term: Term; readonly againTick: number } | null =
    null
  #led: { readonly leader: PeerId; readonly term: Term } | null = null
  #changeTicks: readonly number[] = []
  #restUntilTick = 0
  #voteRounds = 0

  constructor(options: FastPathOptions) {
    this.#options = options
  }

  get phase(): Phase {
    return this.#phase
  }

  get isUrged(): boolean {
    return this.#urge !== null
  }

  /** The old leader, when its last link is closed: it can answer nothing. */
  get gone(): PeerId | null {
    return this.#urge?.gone ?? null
  }

  get favoured(): Standing | null {
    return this.#phase === 'deferring' ? this.#favoured : null
  }

  get #roundMs(): number {
    return Math.max(ROUND_MS_MIN, Math.min(Math.ceil(4 * this.#rttMs), this.#electionMs / 2))
  }

  get #electionMs(): number {
    return this.#options.electionTicks * this.#options.tickMs
  }

  /** The slowest round trip to another voter. */
  roundTrip(rttMs: number): void {
    this.#rttMs = rttMs
  }

  /** Returns whether the wake-up counts as come. */
  tick(): boolean {
    this.#tick++
    if (this.#urge !== null && this.#tick >= this.#urge.untilTick) {
      mark('failover: it was in vain')
      this.#urge = null
      if (this.#phase === 'waiting') this.#phase = 'idle'
    }
    return this.#phase !== 'idle' && this.#tick >= this.#dueTick
  }

  /** The wake-up came. Returns what has ended by it. */
  woken(): Phase {
    const ended = this.#phase
    this.#phase = 'idle'
    return ended
  }

  /** For the driver, once: in how many ms it must wake this node; it replaces the wake-up that was asked for before. */
  takeWake(): number | null {
    const wakeInMs = this.#wakeInMs
    this.#wakeInMs = null
    return wakeInMs
  }

  /** Somebody leads, or is about to: nothing hurries any more. */
  calm(): void {
    this.#phase = 'idle'
    this.#urge = null
    this.#wakeInMs = null
    this.#voteRounds = 0
  }

  /** `leader` leads `term`. */
  led(leader: PeerId, term: Term): void {
    const before = this.#led
    if (before !== null && before.leader === leader && before.term === term) return
    this.#led = { leader, term }
    // The first one that this process hears of is no change.
    if (before === null) return
    const sinceTick = this.#tick - this.#ticks(CHANGES_MS)
    this.#changeTicks = [...this.#changeTicks.filter((tick) => tick > sinceTick), this.#tick]
    if (this.#changeTicks.length < CHANGES_MAX) return
    this.#changeTicks = []
    this.#restUntilTick = this.#tick + REST_ELECTIONS * this.#options.electionTicks
  }

  /** The leader is lost; `gone`: its last link is closed, so that it cannot even answer. */
  lost(leader: PeerId, term: Term, gone: boolean): void {
    if (this.#tick < this.#restUntilTick) return mark('failover: it rests')
    const last = this.#hurried
    let waitMs = this.#delayMs()
    if (last !== null && last.leader === leader && last.term === term) {
      const ticks = Math.max(0, last.againTick - this.#tick)
      if (ticks > 0) mark('failover: the same leader is lost again')
      waitMs += ticks * this.#options.tickMs
    }
    this.#urgeFor(waitMs, { leader, term }, gone ? leader : null)
    if (this.#phase !== 'deferring') this.#enter('waiting', waitMs)
  }

  /** This node had to refuse, because its own log is newer: it should ask itself, and never later than it would have (rule d). */
  hasNewerLog(): void {
    if (this.#phase === 'asking' || this.#phase === 'deferring') return
    const waitMs = this.#delayMs()
    // What is left of a wait is known to a tick only.
    const leftMs = (this.#dueTick - this.#tick - 2) * this.#options.tickMs
    if (this.#phase === 'waiting' && leftMs < waitMs) return
    this.#urgeFor(waitMs, this.#urge?.lost ?? null, this.gone)
    this.#enter('waiting', waitMs)
  }

  /** A round of pre-votes is under way. */
  asks(): void {
    const lost = this.#urge?.lost ?? null
    if (lost !== null) this.#hurried = { ...lost, againTick: this.#tick + this.#ticks(EVIDENCE_MS) }
    this.#enter('asking', this.#roundMs)
  }

  /** A round of votes is under way, or goes on. */
  asksForVotes(): void {
    const doublings = Math.min(this.#voteRounds++, DOUBLINGS_MAX)
    this.#enter('asking', this.#roundMs * 2 ** doublings)
  }

  /** A round ended without result: after the same short delay as at first, never after an election timeout (rule a). */
  retry(): void {
    mark('failover: a round is tried again')
    this.#enter('waiting', this.#delayMs())
  }

  /** A pre-vote was granted (rule c). */
  granted(to: Standing): void {
    this.#favoured = to
    this.#enter('deferring', this.#roundMs + this.#delayMs())
  }

  /** A vote was granted: what this node had in mind itself is over. */
  voted(to: Standing): void {
    this.calm()
    this.#favoured = to
    // Never as long as an election timeout, which after all says that the candidate was in vain.
    this.#enter('deferring', Math.min(VOTED_ROUNDS * this.#roundMs, this.#electionMs / 2))
  }

  #enter(phase: Phase, waitMs: number): void {
    this.#phase = phase
    this.#wakeInMs = waitMs
    // The tick that comes next may come at once.
    this.#dueTick = this.#tick + this.#ticks(waitMs) + 1
  }

  #urgeFor(waitMs: number, lost: Urge['lost'], gone: PeerId | null): void {
    const untilTick = this.#tick + this.#ticks(waitMs) + this.#options.electionTicks
    this.#urge = { lost, gone, untilTick }
  }

  #delayMs(): number {
    // A round trip that was measured while somebody stood still must not make the fast path slower than the other one.
    const boundMs = Math.max(
      DELAY_MS_MIN,
      Math.min(Math.ceil(2 * this.#rttMs), this.#electionMs / 4),
    )
    return this.#options.random.below(Math.floor(boundMs) + 1)
  }

  #ticks(ms: number): number {
    return Math.ceil(ms / this.#options.tickMs)
  }
}
