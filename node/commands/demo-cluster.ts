/**
 * The three nodes of a demo: real processes of this executable, on loopback, with their data in one temporary folder. It
 * must leave nothing behind, whatever ends it: each node watches a pipe to this process (lifeline.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { randomTopic } from '../topic.ts'
import { CommandError } from './command.ts'
import { DEMO_FOLDER_PREFIX, LIFELINE_ENV, PAUSED_FILE } from './lifeline.ts'

const NODES = 3
const START_MS_MAX = 20_000
const STOP_MS_MAX = 6000
/** The last lines of a node's log, shown when it fails. */
const LOG_LINES_KEPT = 20

export type DemoState = 'running' | 'paused' | 'killed'

interface DemoNode {
  readonly name: string
  readonly arguments: string[]
  child: ChildProcess
  state: DemoState
  /** Null until it listens. */
  url: string | null
  readonly log: string[]
  /** Resolves with the exit of the present process. */
  exited: Promise<void>
}

export interface DemoNodeInfo {
  readonly name: string
  readonly state: DemoState
  readonly url: string | null
  readonly pid: number | undefined
}

export class DemoCluster {
  readonly folder: string
  readonly #env: NodeJS.ProcessEnv
  readonly #nodes: DemoNode[] = []
  #closing: Promise<void> | null = null

  private constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.folder = folder
    this.#env = env
  }

  /** Resolves when all nodes listen; the caller waits for a leader. */
  static async start(): Promise<DemoCluster> {
    const folder = await mkdtemp(join(tmpdir(), DEMO_FOLDER_PREFIX))
    const cluster = new DemoCluster(folder, demoEnvironment(folder))
    try {
      await cluster.#start()
      return cluster
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  get nodes(): readonly DemoNodeInfo[] {
    return this.#nodes.map(({ name, state, url, child }) => ({ name, state, url, pid: child.pid }))
  }

  get urls(): string[] {
    return this.#nodes.flatMap(({ url }) => (url === null ? [] : [url]))
  }

  /** kill -9. */
  async kill(name: string): Promise<void> {
    const node = this.#find(name)
    if (node.state === 'killed') throw new CommandError('state', `${name} is not running`)
    node.state = 'killed'
    node.child.kill('SIGKILL')
    await node.exited
  }

  /** SIGSTOP: the process is there and silent, as on a machine that hangs. */
  pause(name: string): void {
    const node = this.#find(name)
    if (node.state !== 'running') throw new CommandError('state', `${name} is ${node.state}`)
    node.child.kill('SIGSTOP')
    node.state = 'paused'
    this.#notePaused()
  }

  resume(name: string): void {
    const node = this.#find(name)
    if (node.state !== 'paused') throw new CommandError('state', `${name} is not paused`)
    node.child.kill('SIGCONT')
    node.state = 'running'
    this.#notePaused()
  }

  /** The same command with the same data; one that runs is killed first. Resolves when it listens. */
  async restart(name: string): Promise<void> {
    const node = this.#find(name)
    if (node.state !== 'killed') await this.kill(name)
    this.#launch(node)
    await this.#listening(node)
  }

  /** Ends every process and removes the folder. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** The last resort, when there is no time: nothing to wait for, only the folder is left to the nodes. */
  abandon(): void {
    for (const { child } of this.#nodes) child.kill('SIGKILL')
  }

  async #start(): Promise<void> {
    const topicFile = join(this.folder, 'topic')
    await writeFile(topicFile, `${randomTopic()}\n`, { mode: 0o600 })
    const dhtPorts = await freeUdpPorts(NODES)
    const bootstrap = dhtPorts.map((port) => `127.0.0.1:${port}`).join(',')
    for (const [i, dhtPort] of dhtPorts.entries()) {
      const name = `n${i + 1}`
      const node: DemoNode = {
        name,
        arguments: [
          ...['join', '--topic-file', topicFile, '--name', name],
          ...['--data', join(this.folder, name), '--listen', '127.0.0.1:0', '--no-lan'],
          ...['--dht', 'private', '--bootstrap', bootstrap, '--dht-port', String(dhtPort)],
          ...['--log', 'json'],
        ],
        child: undefined as unknown as ChildProcess,
        state: 'killed',
        url: null,
        log: [],
        exited: Promise.resolve(),
      }
      this.#nodes.push(node)
      this.#launch(node)
    }
    await Promise.all(this.#nodes.map((node) => this.#listening(node)))
  }

  /**
   * In a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then ends them in order. The
   * pipe on stdin is the lifeline.
   */
  #launch(node: DemoNode): void {
    const child = spawn(process.execPath, [...runtimeArguments(), cliPath(), ...node.arguments], {
      env: this.#env,
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    node.child = child
    node.state = 'running'
    node.url = null
    child.stdin?.on('error', () => {})
    node.exited = new Promise((resolve) => {
      const ended = (): void => {
        if (node.child === child) node.state = 'killed'
        resolve()
      }
      child.once('error', (error) => {
        node.log.push(error.message)
        ended()
      })
      child.once('exit', ended)
    })
    readLines(child, (line) => {
      node.log.push(line)
      if (node.log.length > LOG_LINES_KEPT) node.log.shift()
      const url = listeningUrl(line)
      if (url !== null) node.url = url
    })
  }

  async #listening(node: DemoNode): Promise<void> {
    const endMs = Date.now() + START_MS_MAX
    while (node.url === null) {
      if (node.state === 'killed' || Date.now() > endMs) {
        const why = node.state === 'killed' ? 'ended' : `did not listen within ${START_MS_MAX} ms`
        throw new CommandError('demo', `node ${node.name} ${why}:\n${node.log.join('\n')}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** For the others, should this process be killed meanwhile. */
  #notePaused(): void {
    const pids = this.#nodes.filter((one) => one.state === 'paused').map((one) => one.child.pid)
    writeFileSync(join(this.folder, PAUSED_FILE), pids.join('\n'), { mode: 0o600 })
  }

  #find(name: string): DemoNode {
    const node = this.#nodes.find((one) => one.name === name)
    if (node === undefined) {
      const names = this.#nodes.map((one) => one.name).join(', ')
      throw new CommandError('usage', `there is no node ${name}: choose one of ${names}`)
    }
    return node
  }

  async #close(): Promise<void> {
    for (const node of this.#nodes) {
      // A stopped process takes no other signal until it goes on.
      if (node.state === 'paused') node.child.kill('SIGCONT')
      if (node.state !== 'killed') node.child.kill('SIGTERM')
    }
    const late = setTimeout(() => this.abandon(), STOP_MS_MAX)
    await Promise.all(this.#nodes.map((node) => node.exited))
    clearTimeout(late)
    for (const { child } of this.#nodes) child.stdin?.destroy()
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** The user's own settings for nodes must not reach the demo's: it is the same everywhere, and on loopback only. */
function demoEnvironment(folder: string): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('RAFT_P2P_'))
  return { ...Object.fromEntries(others), RAFT_P2P_DATA_ROOT: folder, [LIFELINE_ENV]: folder }
}

function cliPath(): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`../cli.${extension}`, import.meta.url))
}

/** Deno needs its own flags; a run from the sources brings its loader along. */
function runtimeArguments(): string[] {
  if ('Deno' in globalThis) return ['run', '-A']
  return process.execArgv
}

function readLines(child: ChildProcess, onLine: (line: string) => void): void {
  let partial = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (partial + text).split('\n')
    partial = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
}

function listeningUrl(line: string): string | null {
  if (!line.includes('"node.listening"')) return null
  try {
    const { event, url } = JSON.parse(line) as { event?: unknown; url?: unknown }
    return event === 'node.listening' && typeof url === 'string' ? url : null
  } catch {
    return null
  }
}

/** Free at this moment; all are held until the last is known, so that they differ. */
async function freeUdpPorts(count: number): Promise<number[]> {
  const sockets = Array.from({ length: count }, () => createSocket('udp4'))
  await Promise.all(
    sockets.map(
      (socket) => new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', () => resolve())),
    ),
  )
  const ports = sockets.map((socket) => socket.address().port)
  await Promise.all(
    sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))),
  )
  return ports
}
