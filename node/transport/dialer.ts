/**
 * Whom to dial, and when. Hints come from discovery and are given up after some failures; the addresses of members are kept and
 * redialled for ever. It must never believe a hint: who answers is settled by the handshake.
 *
 * A target is an address *and* who is expected there: two sources may disagree about an address, and a stale one must not keep the
 * other from being tried.
 */
import type { Clock } from './channel.ts'
import { peerUrl } from './hello.ts'
import type { DialResult } from './link.ts'
import type { DialHint } from './transport.ts'

export interface DialerOptions {
  /** First pause after a failure, doubled up to the maximum, with jitter of half. */
  readonly redialMsMin: number
  readonly redialMsMax: number
  /** Pause after somebody was there and one side refused: that does not heal by itself. */
  readonly refusedMs: number
  readonly hintsMax: number
  readonly dialsMax: number
  /** Failures in a row after which a hint is forgotten. */
  readonly hintFailuresMax: number
  /** In [0, 1). */
  readonly random: () => number
  readonly clock: Clock
  /** Must lead to `ended` once for each call, later than the call. */
  readonly dial: (target: DialTarget) => void
  /** A link to this node is up, or the key is this node's own. */
  readonly isLinked: (nodeKey: string) => boolean
}

export interface DialTarget {
  readonly url: string
  /** Who is expected there; null: anybody. */
  readonly expectedKey: string | null
}

interface Target extends DialTarget {
  /** Who was there the last time. */
  foundKey: string | null
  kept: boolean
  failures: number
  nextMs: number
  dialling: boolean
  /** Never yet dialled to an end. */
  fresh: boolean
}

/** Members are dialled beyond the limit of hints, up to this many times as much: a flood of hints must not keep them apart. */
const KEPT_DIALS_FACTOR = 4
/** A link that lived this long was a good one: its loss is no reason for patience. */
const STEADY_MS = 5000

export class Dialer {
  readonly #options: DialerOptions
  readonly #targets = new Map<string, Target>()
  /** Addresses under which this node itself answers. */
  readonly #ownUrls = new Set<string>()
  readonly #busyUrls = new Set<string>()
  #cancelTimer: (() => void) | null = null
  #timerMs = 0
  #running = false

  constructor(options: DialerOptions) {
    this.#options = options
  }

  /** Hints that were never yet dialled to an end. */
  get pending(): number {
    let count = 0
    for (const target of this.#targets.values()) {
      if (!target.fresh) continue
      if (target.dialling || this.#wants(target)) count++
      else target.fresh = false
    }
    return count
  }

  start(): void {
    this.#running = true
    this.#schedule()
  }

  stop(): void {
    this.#running = false
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  hint({ url: text, nodeKey }: DialHint): void {
    const url = peerUrl(text)
    if (url === null || this.#targets.has(targetId(url, nodeKey))) return
    if (this.#hints >= this.#options.hintsMax && !this.#evictHint()) return
    this.#add(url, nodeKey)
    this.#schedule()
  }

  /** The members' addresses, in place of the earlier list. */
  keep(peers: readonly { readonly nodeKey: string; readonly urls: readonly string[] }[]): void {
    for (const target of this.#targets.values()) target.kept = false
    for (const { nodeKey, urls } of peers) {
      for (const text of urls) {
        const url = peerUrl(text)
        if (url === null) continue
        const target = this.#targets.get(targetId(url, nodeKey)) ?? this.#add(url, nodeKey)
        target.kept = true
      }
    }
    this.#schedule()
  }

  /** A dial came to its end. `nodeKey`: who answered, if it got that far. */
  ended({ url, expectedKey }: DialTarget, result: DialResult, nodeKey: string | null): void {
    const target = this.#targets.get(targetId(url, expectedKey))
    this.#busyUrls.delete(url)
    if (result === 'self' && this.#ownUrls.size < this.#options.hintsMax) this.#ownUrls.add(url)
    if (target !== undefined) this.#note(target, result, nodeKey)
    this.#schedule()
  }

  /** A link to this node was lost: its addresses are tried again at once, with a little jitter, unless it keeps breaking. */
  lost(nodeKey: string, livedMs: number): void {
    for (const target of this.#targetsOf(nodeKey)) {
      target.failures = livedMs >= STEADY_MS ? 0 : target.failures + 1
      this.#postpone(target, this.#pause(target.failures))
    }
    this.#schedule()
  }

  /** This node and that one cannot be linked as they are. */
  refused(nodeKey: string): void {
    for (const target of this.#targetsOf(nodeKey)) {
      this.#postpone(target, this.#jittered(this.#options.refusedMs))
    }
    this.#schedule()
  }

  #note(target: Target, result: DialResult, nodeKey: string | null): void {
    target.dialling = false
    target.fresh = false
    if (nodeKey !== null) target.foundKey = nodeKey
    // Whether it was a good link shows when it is lost.
    if (result === 'linked' || result === 'self') return
    target.failures++
    if (!target.kept && target.failures >= this.#options.hintFailuresMax) {
      this.#targets.delete(targetId(target.url, target.expectedKey))
    } else if (result === 'refused') {
      this.#postpone(target, this.#jittered(this.#options.refusedMs))
    } else {
      this.#postpone(target, this.#pause(target.failures))
    }
  }

  *#targetsOf(nodeKey: string): Iterable<Target> {
    for (const target of this.#targets.values()) {
      if (who(target) === nodeKey) yield target
    }
  }

  #add(url: string, expectedKey: string | null): Target {
    const target: Target = {
      url,
      expectedKey,
      foundKey: null,
      kept: false,
      failures: 0,
      nextMs: 0,
      dialling: false,
      fresh: true,
    }
    this.#targets.set(targetId(url, expectedKey), target)
    return target
  }

  /** Members' addresses do not count: when all of them are old, hints are all there is. */
  get #hints(): number {
    let count = 0
    for (const target of this.#targets.values()) if (!target.kept) count++
    return count
  }

  /** Room for a new hint: the one with most failures goes, of equals the oldest. */
  #evictHint(): boolean {
    let worst: Target | null = null
    for (const target of this.#targets.values()) {
      if (target.kept || target.dialling) continue
      if (worst === null || target.failures > worst.failures) worst = target
    }
    if (worst === null) return false
    return this.#targets.delete(targetId(worst.url, worst.expectedKey))
  }

  #pause(failures: number): number {
    const { redialMsMin, redialMsMax } = this.#options
    return this.#jittered(Math.min(redialMsMax, redialMsMin * 2 ** Math.max(0, failures - 1)))
  }

  #jittered(pauseMs: number): number {
    return pauseMs * (0.5 + this.#options.random())
  }

  #postpone(target: Target, pauseMs: number): void {
    target.nextMs = this.#options.clock.nowMs() + pauseMs
  }

  #wants(target: Target): boolean {
    if (target.dialling || this.#ownUrls.has(target.url)) return false
    const key = who(target)
    return key === null || !this.#options.isLinked(key)
  }

  /** Linked targets are looked at again by `lost`: nothing ticks while everybody is connected. */
  #schedule(): void {
    if (!this.#running) return
    let nextMs = Number.POSITIVE_INFINITY
    for (const target of this.#targets.values()) {
      if (this.#wants(target) && !this.#busyUrls.has(target.url)) {
        nextMs = Math.min(nextMs, target.nextMs)
      }
    }
    if (this.#cancelTimer !== null) {
      if (this.#timerMs <= nextMs) return
      this.#cancelTimer()
      this.#cancelTimer = null
    }
    if (nextMs === Number.POSITIVE_INFINITY) return
    this.#timerMs = nextMs
    const delayMs = Math.max(0, nextMs - this.#options.clock.nowMs())
    this.#cancelTimer = this.#options.clock.later(delayMs, () => {
      this.#cancelTimer = null
      this.#dialDue()
    })
  }

  #dialDue(): void {
    const { clock, dial, dialsMax } = this.#options
    const nowMs = clock.nowMs()
    let full = false
    for (const target of [...this.#targets.values()]) {
      if (target.nextMs > nowMs || this.#busyUrls.has(target.url) || !this.#wants(target)) continue
      if (this.#busyUrls.size >= (target.kept ? KEPT_DIALS_FACTOR : 1) * dialsMax) {
        full = true
        continue
      }
      target.dialling = true
      this.#busyUrls.add(target.url)
      dial(target)
    }
    // The end of a dial makes room and schedules again.
    if (!full) this.#schedule()
  }
}

function who(target: Target): string | null {
  return target.expectedKey ?? target.foundKey
}

function targetId(url: string, expectedKey: string | null): string {
  return `${url} ${expectedKey ?? '*'}`
}
