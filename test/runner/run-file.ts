/**
 * Runs one test file as a process group of its own, within its time limit, and collects what it printed. Ends only
 * processes of that group, by the group's own id.
 */
import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Plan } from './plan.ts'

/** How long processes that a test left behind may take to end by themselves once the file's own process is gone. */
const LEFTOVER_GRACE_MS = 2000
const POLL_MS = 50

export interface Finished {
  readonly exitCode: number | null
  readonly signal: string | null
  readonly timedOut: boolean
  /** Processes of the group were still there after the grace time, and were killed. */
  readonly leftover: boolean
  readonly durationMs: number
  /** stdout and stderr as they came. */
  readonly output: string
}

const running = new Set<number>()

/** Kills every group that is still running; for the runner's own end by a signal. */
export function killAll(): void {
  for (const group of running) signalGroup(group, 'SIGKILL')
}

/** False when no process of the group is left. */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal)
  } catch {
    return false
  }
}

/**
 * What a test's process may see. The DHT is private (nothing may leave this machine), data and caches lie in a
 * directory that goes away with the file, and nothing of the caller's own raft-p2p settings leaks in.
 */
export function testEnvironment(directory: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('RAFT_P2P_'))
  return {
    ...Object.fromEntries(inherited),
    RAFT_P2P_DHT: 'private',
    RAFT_P2P_DATA_ROOT: join(directory, 'data'),
    XDG_CACHE_HOME: join(directory, 'cache'),
    XDG_DATA_HOME: join(directory, 'share'),
    NO_COLOR: '1',
  }
}

export async function runFile(
  plan: Plan,
  places: { readonly root: string; readonly scratch: string },
): Promise<Finished> {
  // Unix socket paths are limited to about 100 bytes, so the directories' names are short and lie near the root.
  const directory = mkdtempSync(join(tmpdir(), 'rpt-'))
  const log = join(places.scratch, `${plan.path.replaceAll('/', '-')}.log`)
  // A file instead of a pipe: a process that outlives the test cannot hold the runner by keeping the pipe open.
  const sink = openSync(log, 'a')
  const startedMs = Date.now()
  const child = spawn(process.execPath, ['--import', 'tsx', plan.path], {
    cwd: places.root,
    detached: true,
    env: testEnvironment(directory),
    stdio: ['ignore', sink, sink],
  })
  closeSync(sink)
  const group = child.pid
  if (group === undefined) throw new Error(`cannot start ${plan.path}`)
  running.add(group)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    signalGroup(group, 'SIGKILL')
  }, plan.timeoutMs)
  const end = await new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  clearTimeout(timer)
  const leftover = !timedOut && !(await emptyWithin(group, LEFTOVER_GRACE_MS))
  signalGroup(group, 'SIGKILL')
  await emptyWithin(group, LEFTOVER_GRACE_MS)
  running.delete(group)
  rmSync(directory, { recursive: true, force: true })
  return {
    exitCode: end.code,
    signal: end.signal,
    timedOut,
    leftover,
    durationMs: Date.now() - startedMs,
    output: readFileSync(log, 'utf8'),
  }
}

async function emptyWithin(group: number, graceMs: number): Promise<boolean> {
  const deadlineMs = Date.now() + graceMs
  while (hasLiving(group)) {
    if (Date.now() > deadlineMs) return false
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return true
}

/** A zombie that its adopter has not reaped yet still answers to signal 0, but it holds nothing: it does not count. */
function hasLiving(group: number): boolean {
  if (!signalGroup(group, 0)) return false
  if (!existsSync('/proc/self/stat')) return true
  return readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      // After the name in parentheses: state, ppid, pgrp.
      const [state, , pgrp] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')
      return Number(pgrp) === group && state !== 'Z' && state !== 'X'
    } catch {
      return false
    }
  })
}
