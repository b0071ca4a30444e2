/**
 * Starts real nodes of the built product (dist/) as separate processes, reads their log events, signals them by their own
 * process id and talks to them over HTTP. Every wait has a deadline. Nothing here may reach outside this machine: the
 * runner's private DHT is demanded before the first process starts.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../node/service.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const CLI = join(ROOT, 'dist/node/cli.js')

/** Generous, because a loaded CI machine is slow: passing never depends on it, only failing does. */
export const DEADLINE_MS = 30_000
const POLL_MS = 25

/** For tests that start nodes many times and are not about the defaults: a founder leads after at most 0.6 s. */
export const QUICK_ELECTIONS = ['--heartbeat', '50ms', '--election', '300ms']

export type RuntimeName = 'node' | 'bun' | 'deno'

export interface LogEvent {
  readonly event: string
  readonly [field: string]: unknown
}

export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

/** The command line that runs dist/node/cli.js; the process id is the runtime's own, never a wrapper's. */
export function runtimeCommand(runtime: RuntimeName): string[] {
  if (runtime === 'node') return [process.execPath, CLI]
  const binary = join(ROOT, 'node_modules/.bin', runtime)
  return runtime === 'bun' ? [binary, CLI] : [binary, 'run', '-A', CLI]
}

export function assertPrivate(env: NodeJS.ProcessEnv): void {
  if (env.RAFT_P2P_DHT === 'private' || env.RAFT_P2P_DHT === 'off') return
  throw new Error('RAFT_P2P_DHT is not private: run tests with test/run.ts, never outside it')
}

// --- waiting ------------------------------------------------------------------------------------------------------

/** Polls until `check` gives something other than undefined or false; says what it waited for when the time is up. */
export async function eventually<T>(
  what: string | (() => string),
  check: () => T | undefined | false | Promise<T | undefined | false>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const endMs = Date.now() + deadlineMs
  for (;;) {
    const found = await check()
    if (found !== undefined && found !== false) return found
    if (Date.now() > endMs) {
      throw new Error(`not within ${deadlineMs} ms: ${typeof what === 'string' ? what : what()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

// --- processes ----------------------------------------------------------------------------------------------------

export interface StartOptions {
  readonly command: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Keeps stdin open for `write`; else it is empty. */
  readonly stdin?: boolean
}

const living = new Set<Running>()

/** A started process, its output, and its log events when it prints any. */
export class Running {
  readonly child: ChildProcess
  readonly exited: Promise<Exit>
  readonly events: LogEvent[] = []
  exit: Exit | null = null
  stdout = ''
  stderr = ''
  private partialLine = ''

  constructor(options: StartOptions) {
    const env = { ...process.env, ...options.env }
    assertPrivate(env)
    const [file = '', ...args] = options.command
    this.child = spawn(file, args, {
      cwd: options.cwd ?? tmpdir(),
      env,
      stdio: [options.stdin === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    })
    living.add(this)
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => this.readLog(text))
    this.exited = new Promise((resolve) => {
      const done = (exit: Exit): void => {
        this.exit ??= exit
        living.delete(this)
        resolve(this.exit)
      }
      this.child.once('error', (error) => {
        this.stderr += `${error.message}\n`
        done({ code: null, signal: null })
      })
      // `close` and not `exit`: by then all output has been read.
      this.child.once('close', (code, signal) => done({ code, signal }))
    })
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`did not start: ${this.stderr}`)
    return this.child.pid
  }

  write(text: string): void {
    this.child.stdin?.write(text)
  }

  signal(signal: NodeJS.Signals): void {
    if (this.exit === null) process.kill(this.pid, signal)
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await this.exited
  }

  /** Ends it politely and returns how it ended; kills it when it does not end in time. */
  async stop(deadlineMs = DEADLINE_MS): Promise<Exit> {
    this.signal('SIGTERM')
    return this.ended(deadlineMs)
  }

  async ended(deadlineMs = DEADLINE_MS): Promise<Exit> {
    const exit = () => this.exit ?? undefined
    return eventually(() => `process ${this.pid} did not end\n${this.tail()}`, exit, deadlineMs)
  }

  async waitForEvent(
    event: string,
    predicate: (event: LogEvent) => boolean = () => true,
    deadlineMs = DEADLINE_MS,
  ): Promise<LogEvent> {
    return eventually(
      () => `event ${event} of process ${this.pid}\n${this.tail()}`,
      () => {
        const found = this.events.find((one) => one.event === event && predicate(one))
        if (found === undefined && this.exit !== null) {
          throw new Error(
            `ended (${JSON.stringify(this.exit)}) before event ${event}\n${this.tail()}`,
          )
        }
        return found
      },
      deadlineMs,
    )
  }

  tail(): string {
    return `stdout: ${this.stdout.slice(-2000)}\nstderr: ${this.stderr.slice(-4000)}`
  }

  private readLog(text: string): void {
    this.stderr += text
    const lines = (this.partialLine + text).split('\n')
    this.partialLine = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('{')) continue
      try {
        const value: unknown = JSON.parse(line)
        if (isLogEvent(value)) this.events.push(value)
      } catch {
        // Not every line is ours: a runtime may print warnings. They stay in `stderr`.
      }
    }
  }
}

function isLogEvent(value: unknown): value is LogEvent {
  return typeof value === 'object' && value !== null && 'event' in value
}

export interface CommandOptions {
  readonly runtime?: RuntimeName
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly deadlineMs?: number
}

/** Runs one command of the product to its end. */
export async function raft(
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Exit & { readonly stdout: string; readonly stderr: string }> {
  const running = new Running({
    command: [...runtimeCommand(options.runtime ?? 'node'), ...args],
    stdin: true,
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  running.child.stdin?.on('error', () => {})
  running.child.stdin?.end(options.input ?? '')
  const exit = await running.ended(options.deadlineMs)
  return { ...exit, stdout: running.stdout, stderr: running.stderr }
}

// --- nodes --------------------------------------------------------------------------------------------------------

export interface NodeOptions {
  readonly topic?: string
  readonly runtime?: RuntimeName
  /** The dist/node/cli.js of another build, which Node runs. */
  readonly cli?: string
  /** More flags of `join`. */
  readonly args?: readonly string[]
  /** The directory of exactly this node; without it the node takes a slot under the data root. */
  readonly data?: string
  readonly listen?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Put before the command, such as `ip netns exec NAME`. */
  readonly prefix?: readonly string[]
}

/** A running `join`. It can be killed and started again with the same command and data. */
export class NodeProcess {
  readonly options: NodeOptions
  running: Running

  constructor(options: NodeOptions) {
    this.options = options
    this.running = this.launch()
  }

  get pid(): number {
    return this.running.pid
  }

  /** Where its HTTP answers; waits for `node.listening`. */
  async url(): Promise<string> {
    const event = await this.running.waitForEvent('node.listening')
    return httpUrl(String(event.url))
  }

  async ready(deadlineMs = DEADLINE_MS): Promise<string> {
    const url = await this.url()
    let last = 'no answer'
    await eventually(
      () => `ready at ${url}; last answer: ${last}\n${this.running.tail()}`,
      async () => {
        if (this.running.exit !== null) throw new Error(`node ended\n${this.running.tail()}`)
        const answer = await http(url, '/readyz')
        last = `${answer.status} ${answer.text}`
        return answer.status === 200
      },
      deadlineMs,
    )
    return url
  }

  async status(): Promise<Status> {
    return statusOf(await this.url())
  }

  async kill(): Promise<void> {
    await this.running.kill()
  }

  async stop(): Promise<Exit> {
    return this.running.stop()
  }

  /** The same command again. The process before must have ended. */
  restart(): void {
    if (this.running.exit === null) throw new Error('restart of a node that still runs')
    this.running = this.launch()
  }

  private launch(): Running {
    const { options } = this
    const data = options.data === undefined ? [] : ['--data', options.data]
    const command = [
      ...(options.prefix ?? []),
      ...(options.cli === undefined
        ? runtimeCommand(options.runtime ?? 'node')
        : [process.execPath, options.cli]),
      'join',
      options.topic ?? 'demo',
      '--log',
      'json',
      '--listen',
      options.listen ?? '127.0.0.1:0',
      ...data,
      ...(options.args ?? []),
    ]
    return new Running({
      command,
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
  }
}

/** Starts `count` nodes on one machine that find each other through a data root of their own. */
export function startCluster(count: number, options: NodeOptions = {}): NodeProcess[] {
  const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory(), ...options.env }
  return Array.from({ length: count }, () => new NodeProcess({ ...options, env }))
}

/** Waits until all are ready and agree on clusterId and a leader that is one of them. */
export async function agreed(
  nodes: readonly NodeProcess[],
  deadlineMs = DEADLINE_MS,
): Promise<Status[]> {
  let seen = ''
  return eventually(
    () =>
      `one leader known to all, all ready; seen: ${seen}\n` +
      nodes.map((node) => node.running.tail()).join('\n'),
    async () => {
      const urls = await Promise.all(nodes.map((node) => node.url()))
      const readiness = await Promise.all(urls.map((url) => http(url, '/readyz')))
      const all = await Promise.all(urls.map(statusOf))
      seen = all
        .map(({ nodeId, role, term, leaderId }, i) =>
          [nodeId.slice(0, 8), role, term, leaderId, readiness[i]?.status].join(' '),
        )
        .join(', ')
      if (readiness.some((answer) => answer.status !== 200)) return false
      const first = all[0]
      if (first === undefined || first.leaderId === null) return false
      const same = all.every(
        (status) => status.clusterId === first.clusterId && status.leaderId === first.leaderId,
      )
      return same && all.some((status) => status.role === 'leader') ? all : false
    },
    deadlineMs,
  )
}

/** The node that leads now. */
export async function leaderOf(nodes: readonly NodeProcess[]): Promise<NodeProcess> {
  const all = await agreed(nodes)
  const leader = nodes[all.findIndex((status) => status.role === 'leader')]
  if (leader === undefined) throw new Error('no node leads')
  return leader
}

// --- HTTP ---------------------------------------------------------------------------------------------------------

export interface Answer {
  /** 0 when nothing answered. */
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

function httpUrl(url: string): string {
  return url.replace(/^ws/, 'http').replace(/\/$/, '')
}

export async function http(url: string, path: string, init: RequestInit = {}): Promise<Answer> {
  try {
    const answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(10_000), ...init })
    return { status: answer.status, text: await answer.text(), headers: answer.headers }
  } catch (error) {
    return { status: 0, text: String(error), headers: new Headers() }
  }
}

export async function statusOf(url: string): Promise<Status> {
  const answer = await http(url, '/v1/status')
  if (answer.status !== 200) throw new Error(`status of ${url}: ${answer.status} ${answer.text}`)
  return JSON.parse(answer.text) as Status
}

export async function put(url: string, key: string, value: string): Promise<Answer> {
  return http(url, `/v1/kv/${encodeURIComponent(key)}`, { method: 'PUT', body: value })
}

/** Repeats until it is acknowledged: any other answer means only that the fate of the write is unknown. */
export async function putUntilAcknowledged(url: string, key: string, value: string): Promise<void> {
  let last = ''
  await eventually(
    () => `PUT ${key} at ${url} acknowledged; last answer: ${last}`,
    async () => {
      const answer = await put(url, key, value)
      last = `${answer.status} ${answer.text}`
      return answer.status === 200
    },
  )
}

/** A linearizable read: the value, or null when the key is absent. Throws on anything else. */
export async function get(url: string, key: string): Promise<string | null> {
  const answer = await http(url, `/v1/kv/${encodeURIComponent(key)}`)
  if (answer.status === 200) return answer.text
  if (answer.status === 404) return null
  throw new Error(`GET ${key} at ${url}: ${answer.status} ${answer.text}`)
}

/** All keys with a prefix, page by page. */
export async function list(url: string, prefix: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  let after: string | null = null
  for (;;) {
    const page: string = after === null ? '' : `&after=${encodeURIComponent(after)}`
    const answer = await http(url, `/v1/kv?prefix=${encodeURIComponent(prefix)}&limit=500${page}`)
    if (answer.status !== 200) throw new Error(`list at ${url}: ${answer.status} ${answer.text}`)
    const { items, more } = JSON.parse(answer.text) as {
      items: { key: string; value: string }[]
      more: boolean
    }
    for (const item of items) found.set(item.key, item.value)
    const last = items.at(-1)
    if (!more || last === undefined) return found
    after = last.key
  }
}

// --- temporary places and the end ---------------------------------------------------------------------------------

const directories: string[] = []

/** Short, because a lock is a unix socket in it and their paths are limited to about 100 bytes. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'rp2p-'))
  directories.push(directory)
  return directory
}

/** Ends what still runs and removes the directories; every suite calls it in `after`. */
export async function cleanUp(): Promise<void> {
  const left = [...living]
  for (const running of left) running.signal('SIGKILL')
  await Promise.all(left.map((running) => running.exited))
  for (const directory of directories.splice(0)) {
    rmSync(directory, { recursive: true, force: true })
  }
}

process.on('exit', () => {
  for (const running of living) {
    try {
      running.signal('SIGKILL')
    } catch {
      // It ended by itself in the meantime.
    }
  }
})
