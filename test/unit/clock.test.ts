/** The clock of a node and its wake-ups, in time that the test moves: after a stall what came in is taken in first. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { startClock, type Timers, wakeIn } from '../../node/clock.ts'

/** `pass` moves time with timers running; `stall` moves it with nothing running, as a blocked event loop does. */
class HandTimers implements Timers {
  #nowMs = 0
  #timers: { dueMs: number; run: () => void }[] = []
  /** What waits until the sockets were read. */
  #behindInputs: (() => void)[] = []

  nowMs(): number {
    return this.#nowMs
  }

  every(periodMs: number, run: () => void) {
    let stop = (): void => {}
    const arm = (): void => {
      stop()
      stop = this.once(periodMs, () => {
        arm()
        run()
      })
    }
    arm()
    return { refresh: arm, stop: () => stop() }
  }

  once(delayMs: number, run: () => void): () => void {
    const timer = { dueMs: this.#nowMs + delayMs, run }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer)
    }
  }

  afterInputs(run: () => void): void {
    this.#behindInputs.push(run)
  }

  stall(ms: number): void {
    this.#nowMs += ms
  }

  /** One turn of the event loop: timers that are due, then the sockets (`inputs`), then what waits for them. */
  turn(inputs: () => void = () => {}): void {
    const due = this.#timers.filter(({ dueMs }) => dueMs <= this.#nowMs)
    this.#timers = this.#timers.filter((one) => !due.includes(one))
    for (const { run } of due) run()
    inputs()
    const behind = this.#behindInputs
    this.#behindInputs = []
    for (const run of behind) run()
  }
}

const clock = suite('clock')

clock('after a stall of 2 to 30 s one tick comes, and only behind what lay in the sockets', () => {
  for (const stallMs of [2_000, 7_000, 30_000]) {
    const timers = new HandTimers()
    const story: string[] = []
    startClock(100, (elapsedMs) => story.push(`tick ${Math.round(elapsedMs)}`), timers)
    timers.stall(stallMs)
    timers.turn(() => story.push('input'))
    timers.turn(() => story.push('input'))
    assert.equal(story, ['input', `tick ${stallMs}`, 'input'])
  }
})

clock('a turn full of inputs right after a stall brings no tick before them', () => {
  const timers = new HandTimers()
  const story: string[] = []
  const one = startClock(100, () => story.push('tick'), timers)
  timers.stall(5_000)
  timers.turn(() => {
    one.turn()
    story.push('input')
  })
  assert.equal(story, ['input', 'tick'])
})

clock('a wake-up comes in time; after a stall it waits for what lay in the sockets', () => {
  const timers = new HandTimers()
  const story: string[] = []
  wakeIn(7, () => story.push('woken'), timers)
  timers.stall(6)
  timers.turn()
  assert.equal(story, [])
  timers.stall(1)
  timers.turn(() => story.push('input'))
  assert.equal(story, ['woken', 'input'])
  wakeIn(7, () => story.push('late'), timers)
  timers.stall(3_000)
  timers.turn(() => story.push('heartbeat'))
  assert.equal(story, ['woken', 'input', 'heartbeat', 'late'])
})

clock('a cancelled wake-up never comes, not even behind a stall', () => {
  const timers = new HandTimers()
  const story: string[] = []
  wakeIn(7, () => story.push('woken'), timers)()
  const cancel = wakeIn(7, () => story.push('woken'), timers)
  timers.stall(3_000)
  timers.turn(() => cancel())
  timers.turn()
  assert.equal(story, [])
})

clock.run()
