/**
 * Keeps one usable link to the cluster: dials the known nodes in turn, reconnects with back-off and jitter, and moves to the
 * leader, or away from a node that can not serve, in the background. A move waits until the old link has answered, so that nothing is sent twice
 * and nothing overtakes, and gives up waiting after a moment.
 */
import type { Addresses } from './addresses.ts'
import type { Call } from './call.ts'
import type { RaftErrorCode } from './errors.ts'
import {
  gone,
  type Introduction,
  type LeaderInfo,
  Link,
  type LinkFailure,
  type LinkOwner,
  type WebSocketConstructor,
} from './link.ts'
import type { Answer } from './protocol.ts'

/** Dials start this far apart, so that one dead address does not hold up the others. */
const STAGGER_MS = 250
const BACKOFF_MS_MIN = 50
const BACKOFF_MS_MAX = 1_000
/** How long a move waits for answers on the old link before it sends the rest again on the new one. */
const DRAIN_MS = 1_000
/** Refusals in a row after which another node is tried: one may just be the moment of an election. */
const REFUSALS_MAX = 2

export interface ConnectorEvents {
  /** There is room to send, possibly on another link. */
  wake(): void
  answered(link: Link, call: Call, answer: Answer): void
  /** A link ended with these calls unanswered: they may have run. */
  lost(calls: Call[], failure: LinkFailure): void
  /** Every known node refused this client; it goes on trying. */
  refused(failure: LinkFailure): void
}

export interface ConnectorOptions {
  readonly WebSocket: WebSocketConstructor
  readonly protocols: readonly string[]
  readonly addresses: Addresses
  readonly followLeader: boolean
  /** The cluster to talk to; null takes the first one met. */
  readonly clusterId: string | null
}

export class Connector implements LinkOwner {
  readonly #options: ConnectorOptions
  readonly #events: ConnectorEvents
  #current: Link | null = null
  /** Introduced; takes over when `#current` has answered everything. */
  #next: Link | null = null
  /** A dial in the background while `#current` serves. */
  #candidate: Link | null = null
  /** The candidate that was dialled only because `#current` was silent. */
  #substitute: Link | null = null
  /** Addresses to try after the candidate, if that one can not be reached: a node that is to be left needs one that lives. */
  #search: string[] = []
  /** Dials of the present round, and the addresses still to dial in it. */
  readonly #dials = new Set<Link>()
  #round: string[] = []
  #failures: LinkFailure[] = []
  #rounds = 0
  #timer: ReturnType<typeof setTimeout> | null = null
  #drainTimer: ReturnType<typeof setTimeout> | null = null
  #lastUrl: string | null = null
  #clusterId: string | null
  #leader: LeaderInfo | null = null
  /** A leader that could not serve in this term: going back to it would be going in circles. */
  #failedLeader: { readonly memberId: number | null; readonly term: number } | null = null
  #problem: LinkFailure | null = null
  #closed = false

  constructor(options: ConnectorOptions, events: ConnectorEvents) {
    this.#options = options
    this.#events = events
    this.#clusterId = options.clusterId
  }

  /** The link to send on now; null while there is none or a move is under way. */
  get sendable(): Link | null {
    return this.#next === null ? this.#current : null
  }

  get leaderInfo(): LeaderInfo | null {
    return this.#leader
  }

  /** Why there is no link, or null while there is one. A refusal outweighs a node that was not reached. */
  get problem(): LinkFailure | null {
    return this.#current === null ? this.#problem : null
  }

  start(): void {
    this.#startRound()
  }

  /** `last`, if given, leaves as the final frame of the present link. Returns what was not answered. */
  close(last?: (link: Link) => void): Call[] {
    if (this.#closed) return []
    this.#closed = true
    this.#stopTimers()
    for (const link of this.#dials) link.close()
    this.#dials.clear()
    this.#candidate?.close()
    this.#next?.close()
    if (this.#current !== null) last?.(this.#current)
    const unanswered = this.#current?.close() ?? []
    this.#candidate = this.#next = this.#current = null
    return unanswered
  }

  /** A node refused a call for a reason that another node may not have. */
  disfavour(link: Link, code: RaftErrorCode): void {
    link.refusals++
    if (link !== this.#current || this.#next !== null || this.#candidate !== null) return
    if (code !== 'closing' && link.refusals < REFUSALS_MAX) return
    link.refusals = 0
    this.#failedLeader = { memberId: link.memberId, term: this.#leader?.term ?? 0 }
    this.#searchInPlaceOf(link)
  }

  // --- what links report ---------------------------------------------------------------------------------------

  introduced(link: Link, introduction: Introduction): LinkFailure | null {
    const failure = this.#checkCluster(link, introduction.clusterId)
    if (failure !== null) return failure
    for (const url of introduction.memberUrls) this.#options.addresses.learn(url)
    this.#dials.delete(link)
    if (this.#candidate === link) this.#candidate = null
    const isSubstitute = this.#substitute === link
    if (isSubstitute) this.#substitute = null
    // It has spoken again meanwhile.
    if (isSubstitute && this.#current !== null && !this.#current.isSilent) {
      this.#search = []
      link.close()
    } else if (this.#current === null) this.#adopt(link)
    else if (this.#next === null) this.#move(link)
    else link.close()
    if (introduction.leader !== null) this.leader(link, introduction.leader)
    return null
  }

  answered(link: Link, call: Call, answer: Answer): void {
    this.#events.answered(link, call, answer)
  }

  drained(link: Link): void {
    if (link === this.#current && this.#next !== null && link.idle) this.#switch()
    if (link === this.#current) this.#events.wake()
  }

  leader(_link: Link, leader: LeaderInfo): void {
    // A node that lags behind names an old leader.
    if (this.#leader !== null && leader.term < this.#leader.term) return
    this.#leader = leader
    this.#options.addresses.learn(leader.leaderUrl)
    this.#follow()
  }

  /** A stopped process keeps its connections: another node is asked before this one counts as gone. */
  silent(link: Link): void {
    if (link !== this.#current) return
    if (this.#next !== null) return this.#switch()
    if (this.#candidate !== null) return
    this.#searchInPlaceOf(link)
    this.#substitute = this.#candidate
  }

  down(link: Link, failure: LinkFailure, unanswered: Call[]): void {
    if (this.#closed) return
    const wasSubstitute = this.#substitute === link
    if (wasSubstitute) this.#substitute = null
    if (this.#candidate === link) {
      this.#candidate = null
      this.#searchOn()
      if (wasSubstitute) this.#substitute = this.#candidate
    }
    if (this.#next === link) {
      this.#next = null
      this.#stopDrainTimer()
      this.#events.wake()
    }
    if (this.#dials.delete(link)) {
      this.#failures.push(failure)
      this.#dialNext()
    }
    if (this.#current === link) {
      this.#current = null
      this.#lastUrl = link.url
      this.#problem = failure
      this.#events.lost(unanswered, failure)
      if (this.#next !== null) this.#switch()
      else this.#startRound()
    }
  }

  // --- dialling ------------------------------------------------------------------------------------------------

  #startRound(): void {
    this.#round = this.#options.addresses.round(this.#lastUrl)
    this.#failures = []
    this.#search = []
    this.#dialNext()
  }

  #dialNext(): void {
    if (this.#closed || this.#current !== null) return
    this.#stopTimer()
    const url = this.#round.shift()
    if (url === undefined) {
      if (this.#dials.size === 0) this.#endRound()
      return
    }
    const link = this.#dial(url)
    if (link !== null) this.#dials.add(link)
    this.#timer = setTimeout(() => this.#dialNext(), link === null ? 0 : STAGGER_MS)
  }

  #endRound(): void {
    const refusal = this.#failures.find((failure) => failure.refused)
    this.#problem = refusal ?? this.#failures[0] ?? this.#problem
    if (refusal !== undefined && this.#failures.every((failure) => failure.refused)) {
      this.#events.refused(refusal)
    }
    if (this.#closed) return
    const delayMs = Math.min(BACKOFF_MS_MIN * 2 ** this.#rounds, BACKOFF_MS_MAX)
    this.#rounds = Math.min(this.#rounds + 1, 10)
    this.#timer = setTimeout(() => this.#startRound(), delayMs * (0.5 + Math.random()))
  }

  /** Null when the runtime forbids the address outright, as a page served over https does with ws://. */
  #dial(url: string): Link | null {
    try {
      return new Link(url, this.#options, this)
    } catch (error) {
      this.#failures.push(gone(`${url}: ${error instanceof Error ? error.message : error}`))
      return null
    }
  }

  #checkCluster(link: Link, clusterId: string | null): LinkFailure | null {
    if (clusterId === null) return null
    this.#clusterId ??= clusterId
    if (clusterId === this.#clusterId) return null
    const message = `${link.url} belongs to cluster ${clusterId}, not to ${this.#clusterId}`
    return { code: 'wrong-cluster', message, refused: true, tooBig: false }
  }

  // --- moving --------------------------------------------------------------------------------------------------

  #adopt(link: Link): void {
    this.#stopTimer()
    this.#current = link
    this.#problem = null
    this.#rounds = 0
    this.#round = []
    this.#search = []
    for (const other of this.#dials) other.close()
    this.#dials.clear()
    this.#events.wake()
  }

  /** Dials the leader if the present link goes to somebody else. Not again before the leader changes. */
  #follow(): void {
    const leader = this.#leader
    const current = this.#current
    if (!this.#options.followLeader || leader === null || current === null) return
    if (this.#next !== null || this.#candidate !== null) return
    if (leader.leaderId === null || leader.leaderId === current.memberId) return
    const failed = this.#failedLeader
    if (failed?.memberId === leader.leaderId && failed.term === leader.term) return
    const url = this.#options.addresses.learn(leader.leaderUrl)
    if (url !== null && url !== current.url) this.#approach(url)
  }

  #approach(url: string): void {
    this.#candidate = this.#dial(url)
  }

  #searchInPlaceOf(link: Link): void {
    this.#search = this.#options.addresses.round(link.url).filter((url) => url !== link.url)
    this.#searchOn()
  }

  /** One after the other, until one answers. */
  #searchOn(): void {
    while (this.#candidate === null) {
      const url = this.#search.shift()
      if (url === undefined) return
      this.#approach(url)
    }
  }

  #move(link: Link): void {
    this.#next = link
    const old = this.#current
    // Going back to a leader that says nothing would be going in circles.
    if (old?.isSilent)
      this.#failedLeader = { memberId: old.memberId, term: this.#leader?.term ?? 0 }
    if (old === null || old.idle || old.isSilent) {
      this.#switch()
      return
    }
    this.#drainTimer = setTimeout(() => this.#switch(), DRAIN_MS)
  }

  #switch(): void {
    const next = this.#next
    if (next === null) return
    this.#stopDrainTimer()
    const old = this.#current
    this.#next = null
    this.#current = null
    if (old !== null) {
      const unanswered = old.close()
      if (unanswered.length > 0) this.#events.lost(unanswered, gone(`${old.url} was left`))
    }
    this.#adopt(next)
    // It may have changed while the move was under way.
    this.#follow()
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #stopDrainTimer(): void {
    if (this.#drainTimer !== null) clearTimeout(this.#drainTimer)
    this.#drainTimer = null
  }

  #stopTimers(): void {
    this.#stopTimer()
    this.#stopDrainTimer()
  }
}
