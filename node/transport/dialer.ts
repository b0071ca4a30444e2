/**
 * Whom to dial, and when. Hints come from discovery and are given up after some failures; the addresses of members are kept and
 * redialled for ever. It must never believe a hint: who answers is settled by the handshake.
 */
import type { DialHint } from './transport.ts'

export interface DialerOptions {
  /** First pause after a failure, doubled up to the maximum, with jitter of half. */
  readonly redialMsMin: number
  readonly redialMsMax: number
  readonly hintsMax: number
  readonly dialsMax: number
  /** Failures in a row after which a hint is forgotten. */
  readonly hintFailuresMax: number
  /** In [0, 1). */
  readonly random: () => number
  readonly nowMs: () => number
  /** Must call `ended` once for each call. */
  readonly dial: (url: string, expectedKey: string | null) => void
  /** A link to this node is up, or the key is this node's own. */
  readonly isLinked: (nodeKey: string) => boolean
}

interface Target {
  readonly url: string
  /** Who is expected there; null: anybody. */
  nodeKey: string | null
  kept: boolean
  failures: number
  nextMs: number
  dialling: boolean
  /** Never yet dialled to an end. */
  fresh: boolean
  /** This node itself answers there. */
  isSelf: boolean
}

export class Dialer {
  readonly #options: DialerOptions
  readonly #targets = new Map<string, Target>()
  #dialling = 0
  #timer: NodeJS.Timeout | null = null
  #running = false

  constructor(options: DialerOptions) {
    this.#options = options
  }

  /** Hints that were never yet dialled to an end. */
  get pending(): number {
    let count = 0
    for (const target of this.#targets.values()) if (target.fresh) count++
    return count
  }

  start(): void {
    this.#running = true
    this.#schedule()
  }

  stop(): void {
    this.#running = false
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  hint({ url, nodeKey }: DialHint): void {
    const known = this.#targets.get(url)
    if (known !== undefined) {
      // Another node may have taken the address over: who is there now, the next dial will show.
      if (nodeKey !== null && !known.kept && !known.isSelf) known.nodeKey = nodeKey
      return
    }
    if (this.#targets.size >= this.#options.hintsMax && !this.#evictHint()) return
    this.#add(url, nodeKey, false)
  }

  /** The members' addresses, in place of the earlier list. */
  keep(peers: readonly { readonly nodeKey: string; readonly urls: readonly string[] }[]): void {
    for (const target of this.#targets.values()) target.kept = false
    for (const { nodeKey, urls } of peers) {
      for (const url of urls) {
        const target = this.#targets.get(url) ?? this.#add(url, nodeKey, true)
        target.kept = true
        target.nodeKey = nodeKey
      }
    }
  }

  /** A dial came to its end. `nodeKey`: who answered, if it got that far. */
  ended(url: string, result: 'linked' | 'failed' | 'self', nodeKey: string | null): void {
    const target = this.#targets.get(url)
    this.#dialling--
    if (target !== undefined) this.#note(target, result, nodeKey)
    this.#schedule()
  }

  #note(target: Target, result: 'linked' | 'failed' | 'self', nodeKey: string | null): void {
    target.dialling = false
    target.fresh = false
    if (result === 'self') {
      target.isSelf = true
      return
    }
    if (result === 'linked') {
      target.failures = 0
      target.nodeKey = nodeKey
      target.nextMs = this.#options.nowMs() + this.#pause(0)
      return
    }
    target.failures++
    if (!target.kept && target.failures >= this.#options.hintFailuresMax) {
      this.#targets.delete(target.url)
      return
    }
    target.nextMs = this.#options.nowMs() + this.#pause(target.failures)
  }

  /** A link to this node was lost: its addresses are tried again at once, with a little jitter. */
  lost(nodeKey: string): void {
    for (const target of this.#targets.values()) {
      if (target.nodeKey !== nodeKey) continue
      target.failures = 0
      target.nextMs = this.#options.nowMs() + this.#pause(0)
    }
    this.#schedule()
  }

  #add(url: string, nodeKey: string | null, kept: boolean): Target {
    const target: Target = {
      url,
      nodeKey,
      kept,
      failures: 0,
      nextMs: 0,
      dialling: false,
      fresh: true,
      isSelf: false,
    }
    this.#targets.set(url, target)
    this.#schedule()
    return target
  }

  #evictHint(): boolean {
    for (const [url, target] of this.#targets) {
      if (target.kept || target.dialling) continue
      this.#targets.delete(url)
      return true
    }
    return false
  }

  #pause(failures: number): number {
    const { redialMsMin, redialMsMax, random } = this.#options
    const base = Math.min(redialMsMax, redialMsMin * 2 ** Math.max(0, failures - 1))
    return base * (0.5 + random())
  }

  #schedule(): void {
    if (!this.#running || this.#timer !== null) return
    let next = Number.POSITIVE_INFINITY
    for (const target of this.#targets.values()) {
      if (!this.#wants(target)) continue
      next = Math.min(next, target.nextMs)
    }
    if (next === Number.POSITIVE_INFINITY) return
    // Linked targets are looked at again by `lost`; nothing ticks while everybody is connected.
    const delayMs = Math.max(0, next - this.#options.nowMs())
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#dialDue()
    }, delayMs)
  }

  #wants(target: Target): boolean {
    if (target.dialling || target.isSelf) return false
    if (target.nodeKey === null || !this.#options.isLinked(target.nodeKey)) return true
    target.fresh = false
    return false
  }

  #dialDue(): void {
    const now = this.#options.nowMs()
    for (const target of this.#targets.values()) {
      if (this.#dialling >= this.#options.dialsMax) return
      if (target.nextMs > now || !this.#wants(target)) continue
      target.dialling = true
      this.#dialling++
      this.#options.dial(target.url, target.nodeKey)
    }
    this.#schedule()
  }
}
