/**
 * Discovery through a DHT. Two topics are announced and looked up: the discovery key with Hyperswarm (Node only), and a
 * second one whose records carry WebSocket endpoints, on every runtime. The DHT is private (the members themselves) or
 * the public network; the public one only where it was asked for and nothing forbids it. A record is never trusted and
 * may outlive its node by 20 minutes.
 */
import { createHash } from 'node:crypto'
import b4a from 'b4a'
import {
  type Endpoint,
  isHostIPv4,
  isPort,
  isWildcard,
  LOOPBACK,
  ownIPv4,
  parseEndpoint,
  reachableHosts,
  sourceAddressTowards,
  urlOf,
  watchAddresses,
} from './addresses.ts'
import { type DhtNodes, hasNativeUdx, openDhtNodes, publicForbidden } from './dht-nodes.ts'
import { type OpenSwarm, openSwarm } from './dht-swarm.ts'
import type { Announcement, Discovery, DiscoveryEvents } from './discovery.ts'
import type { AnnouncedPeer, KeyPair } from './hyperdht-types.ts'
import { Pace } from './pace.ts'

/** Records live 20 minutes on the storage nodes: the longest wait stays well below. */
const PACE = { eagerMs: 1000, quietMsMin: 30_000, quietMsMax: 5 * 60_000 }
const ROUND_MS_MAX = 10_000
/** While alone a storage node needs a moment before it takes records. */
const ALONE_RETRY_MS = 200
/** A DHT record has room for three addresses. */
const ADDRESSES_MAX = 3
const HINTS_PER_ROUND_MAX = 512
/** DESIGN: closing withdraws what it can within 2 s. */
const WITHDRAW_MS_MAX = 1500

export interface DhtOptions {
  readonly mode: 'private' | 'public'
  /** `host:port` of DHT nodes. In private mode the members found otherwise are enough. */
  readonly bootstrap: readonly string[]
  /** UDP port of the storage node, null: a free one. */
  readonly dhtPort: number | null
  /** The own IPv4 address to bind; guessed when absent. */
  readonly hostIp?: string
  /** Told where the storage node is reached, and null when it closes. */
  readonly onAddress?: (address: Endpoint | null) => void
}

export interface DhtDiscovery extends Discovery {
  /** Where others find this process's storage node; null before it is open, and in public mode. */
  readonly address: Endpoint | null
  /** LAN and same-machine discovery feed the private DHT with this. Ignored in public mode. */
  addBootstrap(host: string, port: number): void
}

export function createDhtDiscovery(options: DhtOptions): DhtDiscovery {
  return new Dht(options)
}

/** The topic whose records carry WebSocket endpoints; native peers put relay addresses into those of the first. */
export function wsTopicOf(discoveryKey: Uint8Array): Uint8Array {
  return createHash('sha256').update(discoveryKey).update('ws').digest()
}

/** One opening of the nodes; replaced as a whole when the addresses of the machine change. */
interface Session {
  readonly nodes: DhtNodes
  readonly swarm: OpenSwarm | null
}

class Dht implements DhtDiscovery {
  readonly name = 'dht'
  readonly #options: DhtOptions
  readonly #pace = new Pace(PACE)
  readonly #fed = new Map<string, Endpoint>()
  readonly #warned = new Set<string>()
  #self: Announcement | null = null
  #events: DiscoveryEvents | null = null
  #session: Session | null = null
  #swept = false
  #addressesChanged = false
  #unwatch: () => void = () => {}
  #closing: Promise<void> | null = null
  #loop: Promise<void> = Promise.resolve()

  constructor(options: DhtOptions) {
    this.#options = options
  }

  get address(): Endpoint | null {
    return this.#session?.nodes.address ?? null
  }

  announce(self: Announcement, events: DiscoveryEvents): void {
    if (this.#events !== null) throw new Error('announce is called once')
    if (this.#closing !== null) return
    this.#self = self
    this.#events = events
    this.#unwatch = watchAddresses(() => {
      this.#addressesChanged = true
      this.#pace.wake()
    })
    this.#loop = this.#run(self)
  }

  eager(wanted: boolean): void {
    this.#pace.eager(wanted)
  }

  addBootstrap(host: string, port: number): void {
    if (!isHostIPv4(host) || !isPort(port) || this.#pace.closed) return
    const key = `${host}:${port}`
    if (this.#fed.has(key)) return
    this.#fed.set(key, { host, port })
    if (this.#fed.size > HINTS_PER_ROUND_MAX) this.#fed.delete(this.#fed.keys().next().value ?? '')
    if (this.#session?.nodes.addBootstrap({ host, port }) === true) this.#pace.wake()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  // --- the loop ---------------------------------------------------------------------------------------------------

  async #run(self: Announcement): Promise<void> {
    while (!this.#pace.closed) {
      try {
        await this.#reopenIfMoved(self)
        const session = this.#session ?? (await this.#open(self))
        if (this.#pace.closed) {
          // Closed while opening: `close` did not see this session.
          if (session !== this.#session) await closeSession(session, null)
          return
        }
        if (this.#session === null) {
          this.#session = session
          this.#options.onAddress?.(session.nodes.address)
        }
        await this.#round(session, self)
        this.#sweep()
        await this.#pace.wait()
      } catch (error) {
        // The first round of a node that is alone fails: its storage node takes records only a moment later.
        const alone = error instanceof Error && /Too few nodes/.test(error.message)
        if (!alone) this.#warn('dht-failed', String(error))
        this.#sweep()
        await this.#pace.pause(alone ? ALONE_RETRY_MS : PACE.eagerMs)
        if (alone && this.#session?.nodes.store?.ephemeral !== true) await this.#pace.wait()
      }
    }
  }

  /** Announces and looks up at once. What is found leaves as hints while the query still runs. */
  async #round({ nodes, swarm }: Session, self: Announcement): Promise<void> {
    swarm?.refresh()
    const topic = wsTopicOf(self.discoveryKey)
    const query =
      self.port === 0
        ? nodes.client.lookup(topic)
        : nodes.client.announce(topic, keyPairOf(self), announcedEndpoints(self))
    const timer = setTimeout(() => query.destroy(), ROUND_MS_MAX)
    let left = HINTS_PER_ROUND_MAX
    try {
      for await (const reply of query) {
        for (const peer of reply.peers) {
          if (left-- > 0) this.#hintPeer(peer)
        }
        if (this.#pace.closed) query.destroy()
      }
    } finally {
      clearTimeout(timer)
    }
  }

  #hintPeer(peer: AnnouncedPeer): void {
    const nodeKey: string = b4a.toString(peer.publicKey, 'hex')
    for (const { host, port } of peer.relayAddresses.slice(0, ADDRESSES_MAX)) {
      if (isHostIPv4(host) && isPort(port)) this.#hint(nodeKey, [urlOf({ host, port })])
    }
  }

  #hint(nodeKey: string, urls: readonly string[]): void {
    if (this.#pace.closed || this.#self === null) return
    if (nodeKey === b4a.toString(this.#self.keyPair.publicKey, 'hex')) return
    for (const url of urls) this.#events?.hint({ nodeKey, url, source: 'dht' })
  }

  #sweep(): void {
    if (this.#swept || this.#pace.closed) return
    this.#swept = true
    this.#events?.swept()
  }

  /** Each failure once: the loop would repeat it every second. */
  #warn(code: string, detail: string): void {
    const key = `${code} ${detail}`
    if (this.#warned.has(key) || this.#pace.closed) return
    this.#warned.add(key)
    this.#events?.warning(code, detail)
  }

  // --- opening and closing ----------------------------------------------------------------------------------------

  async #open(self: Announcement): Promise<Session> {
    const warning = (code: string, detail: string): void => this.#warn(code, detail)
    let { mode } = this.#options
    if (mode === 'public' && publicForbidden()) {
      warning('dht-public-refused', 'RAFT_P2P_DHT forbids the public DHT: a private one is used')
      mode = 'private'
    }
    const bootstrap = this.#bootstrap()
    const host = await this.#chooseHost(self, bootstrap)
    const nodes = await openDhtNodes({
      mode,
      bootstrap,
      host,
      port: this.#options.dhtPort,
      warning,
    })
    for (const fed of this.#fed.values()) nodes.addBootstrap(fed)
    let swarm: OpenSwarm | null = null
    if (hasNativeUdx && self.port !== 0) {
      try {
        swarm = await openSwarm({
          client: nodes.client,
          keyPair: keyPairOf(self),
          topic: self.discoveryKey,
          introduction: () => ({ port: self.port, urls: self.urls }),
          introduced: (nodeKey, urls) => this.#hint(nodeKey, urls),
        })
      } catch (error) {
        await nodes.destroy()
        throw error
      }
    }
    return { nodes, swarm }
  }

  #bootstrap(): Endpoint[] {
    return this.#options.bootstrap.flatMap((text) => {
      const endpoint = parseEndpoint(text)
      if (endpoint === null) this.#warn('dht-bad-bootstrap', `${text} is not host:port`)
      return endpoint === null ? [] : [endpoint]
    })
  }

  /** A storage node lives at exactly one address: the one the others will see. */
  async #chooseHost(self: Announcement, bootstrap: readonly Endpoint[]): Promise<string> {
    if (this.#options.hostIp !== undefined) return this.#options.hostIp
    const [listening] = reachableHosts(self.host)
    if (!isWildcard(self.host) && listening !== undefined) {
      return isHostIPv4(listening) ? listening : LOOPBACK
    }
    for (const node of bootstrap) {
      const address = await sourceAddressTowards(node)
      if (address !== null && isHostIPv4(address)) return address
    }
    return ownIPv4()[0] ?? LOOPBACK
  }

  /** A cable, a Wi-Fi or a container network came or went: the address bound may no longer be ours. */
  async #reopenIfMoved(self: Announcement): Promise<void> {
    if (!this.#addressesChanged) return
    this.#addressesChanged = false
    const bound = this.#session?.nodes.address?.host
    if (this.#session === null || bound === undefined) return
    if ((await this.#chooseHost(self, this.#bootstrap())) === bound) return
    const session = this.#session
    this.#session = null
    this.#options.onAddress?.(null)
    await closeSession(session, null)
  }

  async #close(): Promise<void> {
    this.#unwatch()
    this.#pace.close()
    const session = this.#session
    this.#session = null
    // The loop notices that it is closed when its query ends; destroying the nodes ends it.
    if (session !== null) await closeSession(session, this.#self)
    await within(WITHDRAW_MS_MAX, this.#loop)
  }
}

/** Withdraws the records where somebody answers in time, then frees everything. */
async function closeSession({ nodes, swarm }: Session, self: Announcement | null): Promise<void> {
  if (self !== null && self.port !== 0) {
    const withdrawn = nodes.client.unannounce(wsTopicOf(self.discoveryKey), keyPairOf(self))
    await within(WITHDRAW_MS_MAX / 2, settled(withdrawn))
  }
  // Hyperswarm destroys the client too, after it has withdrawn: hence second, and even when there is no time left.
  if (swarm !== null) await within(WITHDRAW_MS_MAX / 2, settled(swarm.destroy({ force: false })))
  await nodes.destroy()
}

async function settled(work: Promise<unknown>): Promise<void> {
  await Promise.allSettled([work])
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([work, late])
  clearTimeout(timer)
}

function keyPairOf({ keyPair }: Announcement): KeyPair {
  return { publicKey: b4a.from(keyPair.publicKey), secretKey: b4a.from(keyPair.secretKey) }
}

/** IPv4 endpoints of the listener, best first: what is advertised, then the own addresses. */
export function announcedEndpoints(self: Announcement): Endpoint[] {
  const advertised = self.urls.flatMap((url) => {
    if (!URL.canParse(url)) return []
    const { protocol, hostname, port } = new URL(url)
    // A record has no room for a name or a scheme: peers dial what it holds as ws://.
    if (protocol !== 'ws:' || !isHostIPv4(hostname)) return []
    return [{ host: hostname, port: port === '' ? 80 : Number(port) }]
  })
  const own = reachableHosts(self.host)
    .filter(isHostIPv4)
    .map((host) => ({ host, port: self.port }))
  const unique = new Map([...advertised, ...own].map((one) => [`${one.host}:${one.port}`, one]))
  return [...unique.values()].slice(0, ADDRESSES_MAX)
}
