/**
 * The clock of a node: calls `tick` about every `tickMs`, at most once a turn of the event loop, and counts one tick after a stall,
 * however long it was (HAZARDS: timers run before sockets after a stall).
 */
export interface Clock {
  /** Called once in every turn that does something: a tick that is nearly due comes with it, and the timer is put off. */
  turn(): void
  stop(): void
}

/** A follower is woken by each heartbeat anyway; from this part of a tick on, any turn counts as the tick. */
const EARLY = 0.9
/** The timer is a little slow, so that it drifts against the heartbeats until one comes just before it, and stays there. */
const DRIFT = 1.05
/** From so many ticks on, the loop has stalled. */
const STALL = 3

export function startClock(tickMs: number, tick: (elapsedMs: number) => void): Clock {
  let last = performance.now()
  let late = false
  let stopped = false
  const run = (): void => {
    if (stopped) return
    const now = performance.now()
    const elapsedMs = now - last
    last = now
    late = false
    tick(elapsedMs)
  }
  const timer = setInterval(() => {
    // What lies in the sockets since the stall is read before any timeout is judged.
    if (performance.now() - last < STALL * tickMs) return run()
    if (late) return
    late = true
    setImmediate(() => setImmediate(run))
  }, tickMs * DRIFT)
  return {
    turn() {
      const elapsedMs = performance.now() - last
      if (elapsedMs < EARLY * tickMs || elapsedMs >= STALL * tickMs) return
      timer.refresh()
      run()
    },
    stop() {
      stopped = true
      clearInterval(timer)
    },
  }
}
