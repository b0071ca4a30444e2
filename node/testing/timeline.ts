/**
 * Virtual time: a queue of what is going to happen, in order of time, and of arrangement where times are equal. Nothing happens by
 * itself: `step` runs the next event. Times are integer microseconds, so that the same arrangements give the same order everywhere.
 */
export interface Event {
  readonly atUs: number
  readonly order: number
  /** Whose event it is: it is run by that one, in its own time or not at all. Null: at once. */
  readonly by: Runner | null
  /** Null once it ran or was called off. */
  run: (() => void) | null
}

export interface Runner {
  run(event: () => void): void
}

export class Timeline {
  #nowUs = 0
  #order = 0
  readonly #heap: Event[] = []

  get nowUs(): number {
    return this.#nowUs
  }

  get nowMs(): number {
    return this.#nowUs / 1000
  }

  /** Events that are still to come, those called off included. */
  get size(): number {
    return this.#heap.length
  }

  /** `delayUs`: an integer, at least 0. To call it off, set the event's `run` to null. */
  after(delayUs: number, run: () => void, by: Runner | null = null): Event {
    const event = { atUs: this.#nowUs + delayUs, order: this.#order++, by, run }
    this.#push(event)
    return event
  }

  /** Runs the next event, or drops one that was called off. False: nothing is arranged. */
  step(): boolean {
    const event = this.#pop()
    if (event === undefined) return false
    const { run, by } = event
    if (run === null) return true
    event.run = null
    this.#nowUs = event.atUs
    if (by === null) run()
    else by.run(run)
    return true
  }

  /** Runs everything up to `atUs`, which is the time then. `stop` is asked after each event. */
  runUntil(atUs: number, stop: () => boolean = () => false): void {
    for (let next = this.#heap[0]; next !== undefined && next.atUs <= atUs; next = this.#heap[0]) {
      if (!this.step() || stop()) return
    }
    this.#nowUs = Math.max(this.#nowUs, atUs)
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const parentAt = (at - 1) >> 1
      const parent = heap[parentAt] as Event
      if (!isBefore(event, parent)) break
      heap[at] = parent
      at = parentAt
    }
    heap[at] = event
  }

  #pop(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    const size = heap.length
    let at = 0
    for (;;) {
      let childAt = 2 * at + 1
      if (childAt >= size) break
      const right = heap[childAt + 1]
      if (right !== undefined && isBefore(right, heap[childAt] as Event)) childAt++
      const child = heap[childAt] as Event
      if (!isBefore(child, last)) break
      heap[at] = child
      at = childAt
    }
    heap[at] = last
    return first
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.order < b.order)
}
