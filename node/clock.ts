/**
 * The clock of a node: calls `tick` about every `tickMs`, at most once a turn of the event loop, and counts one tick after a stall,
 * however long it was (HAZARDS: timers run before sockets after a stall). Time itself is brought by the caller, so that the simulator
 * runs the same clock.
 */
import { mark } from './raft/marks.ts'

export interface Clock {
  /** Called once in every turn that does something: a tick that is nearly due comes with it, and the timer is put off. */
  turn(): void
  stop(): void
}

export interface Timers {
  /** Monotonic. */
  nowMs(): number
  /** Calls `run` every `periodMs` until `stop`; `refresh` begins the period anew. */
  every(periodMs: number, run: () => void): { refresh(): void; stop(): void }
  /** Calls `run` once, in `delayMs`; the returned function cancels. */
  once(delayMs: number, run: () => void): () => void
  /** Calls `run` once, when everything that has come in by now was taken in. */
  afterInputs(run: () => void): void
}

export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  every(periodMs, run) {
    const timer = setInterval(run, periodMs)
    return { refresh: () => void timer.refresh(), stop: () => clearInterval(timer) }
  },
  once(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
  afterInputs(run) {
    // The first turn of the loop reads the sockets, the second one comes behind what they brought.
    setImmediate(() => setImmediate(run))
  },
}

/** A follower is woken by each heartbeat anyway; from this part of a tick on, any turn counts as the tick. */
const EARLY = 0.9
/** The timer is a little slow, so that it drifts against the heartbeats until one comes just before it, and stays there. */
const DRIFT = 1.05
/** From so many ticks on, the loop has stalled. */
const STALL = 3

export function startClock(
  tickMs: number,
  tick: (elapsedMs: number) => void,
  timers: Timers = systemTimers,
): Clock {
  let last = timers.nowMs()
  let late = false
  let stopped = false
  const run = (): void => {
    if (stopped) return
    const now = timers.nowMs()
    const elapsedMs = now - last
    last = now
    late = false
    tick(elapsedMs)
  }
  const timer = timers.every(tickMs * DRIFT, () => {
    // What lies in the sockets since the stall is read before any timeout is judged.
    if (timers.nowMs() - last < STALL * tickMs) return run()
    if (late) return
    mark('clock: one tick after a stall')
    late = true
    timers.afterInputs(run)
  })
  return {
    turn() {
      const elapsedMs = timers.nowMs() - last
      if (elapsedMs < EARLY * tickMs || elapsedMs >= STALL * tickMs) return
      timer.refresh()
      run()
    },
    stop() {
      stopped = true
      timer.stop()
    },
  }
}

/** A wake-up that comes so much later than asked for was held up by a stall. */
const LATE_MS = 20

/** Calls `run` once, in about `delayMs`. After a stall what lies in the sockets comes first. The returned function cancels. */
export function wakeIn(
  delayMs: number,
  run: () => void,
  timers: Timers = systemTimers,
): () => void {
  const dueMs = timers.nowMs() + delayMs
  let wanted = true
  const cancel = timers.once(delayMs, () => {
    if (timers.nowMs() - dueMs < LATE_MS) return run()
    mark('clock: a wake-up comes after a stall')
    timers.afterInputs(() => wanted && run())
  })
  return () => {
    wanted = false
    cancel()
  }
}
