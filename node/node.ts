/**
 * The composition root: builds the parts of one node, starts and stops them in order. Embedding programs begin here; `join` is
 * a thin wrapper around it. It must never hold logic of its own beyond the order of things.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { reachableUrls } from '../discovery/addresses.ts'
import { type CombinedDiscovery, discover } from '../discovery/all.ts'
import { type Clock, startClock, wakeIn } from './clock.ts'
import {
  gatherOptions,
  LIMITS,
  type NodeOptions,
  overruledFlags,
  resolveOptions,
  seedSettings,
} from './config.ts'
import { createGateway, type Gateway } from './gateway.ts'
import { newKeyPair } from './key-pair.ts'
import { createLog, type Log } from './log.ts'
import { KvMachine } from './machine/kv.ts'
import type { StateMachine } from './machine/machine.ts'
import { REMOVED, Runtime } from './runtime.ts'
import type { Status } from './service.ts'
import {
  type DataDirectory,
  dataRoot,
  markLeft,
  readTopic,
  removeEndpoint,
  takeDirectory,
  writeEndpoint,
  writeTopic,
} from './storage/directory.ts'
import { type Identity, openIdentity } from './storage/identity.ts'
import { nodeDisk } from './storage/node-disk.ts'
import { storageIn } from './storage/open-storage.ts'
import { type DerivedTopic, deriveTopic, parseTopic, TOKEN_EPOCH_FIRST } from './topic.ts'
import { openStretchCache } from './topic-cache.ts'
import { createTransport } from './transport/web-socket-transport.ts'
import { VERSION } from './version.ts'

export type { StateMachine } from './machine/machine.ts'
export type { Status } from './service.ts'

export type StartErrorCode =
  | 'locked'
  | 'port-in-use'
  | 'corrupt-log'
  | 'corrupt-snapshot'
  | 'disk-full'
  | 'wrong-cluster'
  | 'storage-lost'
  | 'removed'
  | 'io'

/** A node that could not start. The message says what to try next. */
export class StartError extends Error {
  override readonly name = 'StartError'
  readonly code: StartErrorCode

  constructor(code: StartErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export interface NodeHooks {
  /** Default: JSON lines on stderr. */
  readonly log?: Log
  /**
   * The application; default the key-value machine. Every member must run the same one. Clients reach another one through `command`
   * and `query` of the client library; there are no endpoints for keys then.
   */
  readonly machine?: StateMachine
}

export interface RunningNode {
  /** ws:// address of the one port. */
  readonly url: string
  readonly directory: string
  status(): Status
  /** Hands leadership over, flushes, closes links; idempotent, within 5 s. */
  stop(): Promise<void>
  /** Resolves when the node has stopped, by itself after a failure (code 1) or by `stop` (code 0). */
  readonly stopped: Promise<{ readonly code: number; readonly reason?: string }>
}

/**
 * Starts a node. Options that are not given have the defaults of `raft-p2p join`. Throws StartError, StorageError with the
 * same codes, TopicError or UsageError.
 */
export async function createNode(
  options: Partial<NodeOptions> & { readonly topic: string },
  hooks: NodeHooks = {},
): Promise<RunningNode> {
  const topic = parseTopic(options.topic)
  const defaults = resolveOptions(gatherOptions({ flags: {}, env: process.env }), {
    topic: options.topic,
    isPhrase: topic.isPhrase,
    isTty: false,
  })
  const resolved = { ...defaults, ...options }
  const log =
    hooks.log ??
    createLog({
      format: resolved.logFormat,
      level: resolved.logLevel,
      write: (line) => process.stderr.write(line),
    })
  const cache = openStretchCache(nodeDisk, dataRoot())
  const derived = await deriveTopic(options.topic, { cache })
  const directory = await takeDirectory(
    nodeDisk,
    resolved.data === null
      ? { dataRoot: dataRoot(), discoveryKey: hex(derived.discoveryKey) }
      : { data: resolved.data },
  )
  try {
    const node = new NodeParts({ options: resolved, derived, directory, log, hooks })
    await node.start()
    return node
  } catch (error) {
    await directory.lock.release()
    throw error
  }
}

interface Ingredients {
  readonly options: NodeOptions
  readonly derived: DerivedTopic
  readonly directory: DataDirectory
  readonly log: Log
  readonly hooks: NodeHooks
}

/** How long a leader waits for a follower to take over before it stops all the same. */
const HAND_OVER_MS_MAX = 1500
const HAND_OVER_POLL_MS = 20

class NodeParts implements RunningNode {
  readonly #options: NodeOptions
  readonly #derived: DerivedTopic
  readonly #directory: DataDirectory
  readonly #log: Log
  readonly #identity: Identity
  readonly #transport: ReturnType<typeof createTransport>
  readonly #runtime: Runtime
  readonly #gateway: Gateway
  #discovery: CombinedDiscovery | null = null
  #swept = false
  #clock: Clock | null = null
  #timers: NodeJS.Timeout[] = []
  #port = 0
  #stopping: Promise<void> | null = null
  #failure: { code: number; reason: string } | null = null
  readonly stopped: Promise<{ code: number; reason?: string }>
  #resolveStopped: (end: { code: number; reason?: string }) => void = () => {}

  constructor({ options, derived, directory, log, hooks }: Ingredients) {
    this.#options = options
    this.#derived = derived
    this.#directory = directory
    this.#log = log
    this.stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
    this.#claimTopic()
    this.#identity = openIdentity(nodeDisk, directory.path, {
      makeKeyPair: newKeyPair,
      ...(options.name === null ? {} : { name: options.name }),
    })
    this.#checkInvite()
    const { record } = this.#identity
    if (record.removed) throw new StartError('removed', REMOVED)
    const bootId = hex(randomBytes(8))
    this.#transport = createTransport({
      keyPair: { publicKey: bytes(record.publicKey), secretKey: bytes(record.secretKey) },
      storageId: record.storageId,
      bootId,
      bootCounter: record.bootCounter,
      capability: derived.linkCapability,
      name: record.name,
      urls: () => this.#urls(),
      clusterId: record.clusterId,
      random: Math.random,
      log: (event, fields) => log('debug', event, fields),
    })
    this.#runtime = this.#makeRuntime(bootId, hooks)
    log.identify(() => ({
      node: record.name,
      clusterId: this.#runtime.clusterId,
      term: this.#runtime.term,
    }))
    this.#gateway = createGateway({
      service: this.#runtime,
      tokens: {
        read: derived.tokens('read', TOKEN_EPOCH_FIRST),
        write: derived.tokens('write', TOKEN_EPOCH_FIRST),
        admin: derived.tokens('admin', TOKEN_EPOCH_FIRST),
      },
      requireToken: options.requireToken,
      limits: {
        keyBytesMax: options.maxKeyBytes,
        valueBytesMax: options.maxValueBytes,
        clientsMax: options.maxClients,
      },
      keyValue: hooks.machine === undefined,
      tls: readTls(options),
      onPeerUpgrade: (request, socket, head) =>
        this.#transport.handleUpgrade(request, socket, head),
      log,
    })
  }

  get url(): string {
    return this.#urls()[0] as string
  }

  get directory(): string {
    return this.#directory.path
  }

  status(): Status {
    return this.#runtime.status()
  }

  async start(): Promise<void> {
    this.#port = await this.#listen()
    const { url } = this
    this.#writeEndpoint()
    this.#log('info', 'node.listening', {
      url,
      urls: this.#urls(),
      dashboard: url.replace(/^ws/, 'http'),
      data: this.#directory.path,
    })
    this.#transport.start(this.#runtime)
    this.#startDiscovery()
    this.#startClock()
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#log('info', 'node.stopping', {})
    const deadline = setTimeout(() => this.#ended(), LIMITS.stopMsMax)
    const discovery = this.#discovery?.close()
    await this.#handOver()
    await new Promise<void>((resolve) => this.#runtime.close(resolve))
    this.#clock?.stop()
    for (const timer of this.#timers) clearInterval(timer)
    await Promise.all([this.#gateway.close(), this.#transport.close(), discovery])
    removeEndpoint(nodeDisk, this.#directory.path)
    await this.#directory.lock.release()
    clearTimeout(deadline)
    this.#ended()
  }

  #ended(): void {
    this.#resolveStopped(this.#failure ?? { code: 0 })
  }

  /** Clients should not have to wait for an election because of a planned stop (thesis 3.10). */
  async #handOver(): Promise<void> {
    if (!this.#runtime.isLeader || !this.#runtime.handOver()) return
    const until = Date.now() + HAND_OVER_MS_MAX
    while (this.#runtime.isLeader && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, HAND_OVER_POLL_MS))
    }
  }

  #fail(code: string, message: string): void {
    if (this.#failure !== null) return
    if (code === 'left') return this.#leave()
    this.#failure = { code: 1, reason: `${code}: ${message}` }
    this.#log('error', 'node.failed', { code, reason: message })
    void this.stop()
  }

  /** The removal that this node has asked for is committed: its slot may be used blank from now on. */
  #leave(): void {
    markLeft(nodeDisk, this.#directory.path)
    this.#log('info', 'node.left', {})
    void this.stop()
  }

  // --- building -----------------------------------------------------------------------------------------------------

  #claimTopic(): void {
    const { text } = parseTopic(this.#options.topic)
    const known = readTopic(nodeDisk, this.#directory.path)
    if (known === null) return writeTopic(nodeDisk, this.#directory.path, text)
    if (known === text) return
    throw new StartError(
      'wrong-cluster',
      `The data in ${this.#directory.path} belongs to another topic. Start it with that topic, or name another ` +
        'directory with --data.',
    )
  }

  #checkInvite(): void {
    const invited = parseTopic(this.#options.topic).clusterId
    const { clusterId } = this.#identity.record
    if (invited === null || clusterId === null || invited === clusterId) return
    throw new StartError(
      'wrong-cluster',
      `This data directory belongs to cluster ${clusterId}, but the invitation is to ${invited}. ` +
        'Name another directory with --data, or enter that cluster anew with: raft-p2p rejoin',
    )
  }

  #makeRuntime(bootId: string, hooks: NodeHooks): Runtime {
    const options = this.#options
    const { record } = this.#identity
    const invited = parseTopic(options.topic).clusterId
    return new Runtime({
      identity: this.#identity,
      transport: this.#transport,
      ...storageIn(nodeDisk, this.#directory.path, { storageId: record.storageId }),
      limits: { snapshotEntries: options.snapshotEntries },
      machine: hooks.machine ?? new KvMachine(),
      founding: {
        bootId,
        expect: options.expect,
        founders: options.founders.length === 0 ? null : options.founders,
        mayFound: invited === null,
        inviteClusterId: invited,
        settings: seedSettings(options),
        random: (bound) => Math.floor(Math.random() * bound),
        randomId: () => hex(randomBytes(16)),
      },
      urls: () => this.#urls(),
      heartbeatMs: options.heartbeatMs,
      electionMs: options.electionMs,
      autopilot: options,
      seed: randomBytes(4).readUInt32LE(),
      defer: (run) => void setImmediate(run),
      wakeIn,
      turn: () => this.#clock?.turn(),
      nowMs: () => performance.now(),
      wallClock: () => new Date(),
      log: (level, event, fields) => this.#log(level, event, { ...fields }),
      fatal: (code, message) => this.#fail(code, message),
      admin: (name) => this.#admin(name),
      shown: { version: VERSION, runtime: runtimeName(), topic: this.#derived.masked },
    })
  }

  async #admin(name: string): Promise<unknown> {
    if (name !== 'stop') {
      throw Object.assign(new Error(`no such verb: ${name}`), {
        code: 'bad-request',
        retriable: false,
        maybeApplied: false,
      })
    }
    // After the answer has left.
    setTimeout(() => void this.stop(), 50)
    return { stopping: true }
  }

  // --- starting -----------------------------------------------------------------------------------------------------

  /** An explicit port is taken or the start fails; otherwise the port of last time, then the default, then any. */
  async #listen(): Promise<number> {
    const { listen, explicit } = this.#options
    const isFixed = explicit.has('listen') && listen.port !== 0
    const wanted = isFixed ? [listen.port] : [this.#lastPort(), listen.port, 0]
    for (const port of wanted) {
      if (port === null) continue
      try {
        return (await this.#gateway.listen({ host: listen.host, port })).port
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        if (code !== 'EADDRINUSE') throw new StartError('io', `Cannot listen: ${message}`)
      }
    }
    throw new StartError(
      'port-in-use',
      `Port ${listen.port} on ${listen.host} is in use. Choose another with --listen HOST:PORT, or leave --listen out.`,
    )
  }

  /** Others remember this node where they last saw it. */
  #lastPort(): number | null {
    const { members, publicKey, storageId } = this.#identity.record
    const self = members.find(
      (member) => member.nodeKey === publicKey && member.storageId === storageId,
    )
    const [url] = self?.urls ?? []
    const port = url === undefined ? Number.NaN : Number(new URL(url).port)
    return Number.isSafeInteger(port) && port > 0 ? port : null
  }

  #urls(): string[] {
    const { listen, advertise, tlsCert } = this.#options
    const { host } = listen
    return reachableUrls({ host, port: this.#port, advertise, tls: tlsCert !== null })
  }

  #writeEndpoint(): void {
    const scheme = this.#options.tlsCert === null ? 'ws' : 'wss'
    const { host } = this.#options.listen
    const local = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
    const shown = local.includes(':') ? `[${local}]` : local
    writeEndpoint(nodeDisk, this.#directory.path, {
      url: `${scheme}://${shown}:${this.#port}`,
      nodeKey: this.#identity.record.publicKey,
      pid: process.pid,
      adminToken: this.#derived.tokens('admin', TOKEN_EPOCH_FIRST),
    })
  }

  /** Returns whether the cluster's settings were known: they are with the first configuration that is applied, not at the start. */
  #warnOfOverruled(): boolean {
    const settings = this.#runtime.settings
    if (settings === null) return false
    for (const text of overruledFlags(this.#options, settings)) {
      this.#log('warn', 'config.overruled', { text })
    }
    return true
  }

  #startDiscovery(): void {
    const options = this.#options
    const { record } = this.#identity
    const discoveryKey = hex(this.#derived.discoveryKey)
    this.#discovery = discover({
      dht: options.dht,
      bootstrap: options.bootstrap.map(({ host, port }) => `${host}:${port}`),
      dhtPort: options.dhtPort,
      lan: options.lan,
      local: options.local ? `${dataRoot()}/raft-p2p/${discoveryKey.slice(0, 16)}` : null,
      seeds: [...options.peers],
      remembered: record.members
        .filter((member) => member.nodeKey !== record.publicKey)
        .map(({ nodeKey, urls }) => ({ nodeKey, urls: [...urls] })),
    })
    this.#discovery.announce(
      {
        discoveryKey: this.#derived.discoveryKey,
        keyPair: { publicKey: bytes(record.publicKey), secretKey: bytes(record.secretKey) },
        port: this.#port,
        host: options.listen.host,
        urls: this.#urls(),
      },
      {
        hint: (hint) => this.#transport.hint(hint),
        swept: () => {
          this.#swept = true
        },
        warning: (code, detail) => this.#log('warn', 'discovery.warning', { code, detail }),
      },
    )
  }

  #startClock(): void {
    this.#clock = startClock(this.#runtime.tickMs, (elapsedMs) => {
      this.#runtime.discoverySwept(this.#swept ? this.#transport.pendingDials : 1)
      this.#runtime.tick(elapsedMs)
    })
    let eager = true
    let compared = false
    const pace = setInterval(() => {
      if (!compared) compared = this.#warnOfOverruled()
      const wanted = !this.#runtime.meshed
      if (wanted !== eager) this.#discovery?.eager(wanted)
      eager = wanted
    }, 1000)
    this.#timers = [pace]
  }
}

function runtimeName(): string {
  const { Bun, Deno } = globalThis as {
    Bun?: { version: string }
    Deno?: { version: { deno: string } }
  }
  if (Bun !== undefined) return `bun ${Bun.version}`
  if (Deno !== undefined) return `deno ${Deno.version.deno}`
  return `node ${process.versions.node}`
}

function readTls(options: NodeOptions): { cert: Buffer; key: Buffer } | null {
  const { tlsCert, tlsKey } = options
  if (tlsCert === null || tlsKey === null) return null
  return { cert: readFileSync(tlsCert), key: readFileSync(tlsKey) }
}

function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex')
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'))
}
