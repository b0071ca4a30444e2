/**
 * When a source looks next: at a short interval while nodes are missing, ever more rarely once all are there. One loop
 * waits on it; it never calls back.
 */

export interface PaceOptions {
  readonly eagerMs: number
  /** The first wait after backing off, doubled up to the maximum. */
  readonly quietMsMin: number
  readonly quietMsMax: number
}

export class Pace {
  readonly #options: PaceOptions
  #eager = true
  #quietMs: number
  #closed = false
  /** A wake that came while nobody waited: the next wait returns at once. */
  #woken = false
  #timer: ReturnType<typeof setTimeout> | null = null
  #resolve: (() => void) | null = null

  constructor(options: PaceOptions) {
    this.#options = options
    this.#quietMs = options.quietMsMin
  }

  get closed(): boolean {
    return this.#closed
  }

  eager(wanted: boolean): void {
    if (wanted === this.#eager) return
    this.#eager = wanted
    this.#quietMs = this.#options.quietMsMin
    if (wanted) this.wake()
  }

  /** Ends the present wait, or the next one when there is none. */
  wake(): void {
    if (this.#resolve === null) this.#woken = true
    else this.#finish()
  }

  /** One loop at a time. After `close` it returns at once, for ever. */
  wait(): Promise<void> {
    if (this.#closed || this.#woken) {
      this.#woken = false
      return Promise.resolve()
    }
    return this.#sleep(this.#nextMs())
  }

  /** A fixed pause that only `close` cuts short. */
  async pause(ms: number): Promise<void> {
    const endMs = Date.now() + ms
    for (let leftMs = ms; leftMs > 0 && !this.#closed; leftMs = endMs - Date.now()) {
      await this.#sleep(leftMs)
    }
  }

  close(): void {
    this.#closed = true
    this.#finish()
  }

  #nextMs(): number {
    if (this.#eager) return this.#options.eagerMs
    const ms = this.#quietMs
    this.#quietMs = Math.min(ms * 2, this.#options.quietMsMax)
    // Jitter keeps nodes that were started together from asking together for ever.
    return ms * (0.75 + Math.random() * 0.5)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#resolve = resolve
      this.#timer = setTimeout(() => this.#finish(), ms)
    })
  }

  #finish(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const resolve = this.#resolve
    this.#resolve = null
    resolve?.()
  }
}
