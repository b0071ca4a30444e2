/**
 * Opens the HyperDHT nodes of one process. A private DHT is made of the members themselves: each process runs a persistent
 * node that stores records and an ephemeral client that asks (a node never asks itself). It must never learn of a public
 * bootstrap node: every way in is filtered here. On Bun and Deno no native code may be touched: it kills the process.
 */
import { createSocket } from 'node:dgram'
import { type Endpoint, isHostIPv4, parseEndpoint } from './addresses.ts'
import type { HyperDhtClass, HyperDhtNode } from './hyperdht-types.ts'
import { type UdxOverDgram, udxOverDgram } from './udx-over-dgram.ts'

/** Nodes learned from LAN and this machine. Each dead one costs every query a packet or two. */
const LEARNED_MAX = 32
const BIND_ATTEMPTS = 4

/** Native streams work: true on Node only. Asked before anything that could touch the native package. */
export const hasNativeUdx = !('Bun' in globalThis) && !('Deno' in globalThis)

export interface DhtNodesOptions {
  readonly mode: 'private' | 'public'
  readonly bootstrap: readonly Endpoint[]
  /** The one own IPv4 address to bind; a storage node's id is made of its address and port. */
  readonly host: string
  /** UDP port of the storage node; null: any free one. */
  readonly port: number | null
  warning(code: string, detail: string): void
}

export interface DhtNodes {
  /** Null in public mode: an ordinary client of the public network stores nothing for certain. */
  readonly store: HyperDhtNode | null
  readonly client: HyperDhtNode
  /** Where others find the storage node. */
  readonly address: Endpoint | null
  /** True when the node was not known and may be asked from now on. */
  addBootstrap(node: Endpoint): boolean
  /** Frees every socket and timer; the client may have been destroyed before. */
  destroy(): Promise<void>
}

export async function loadHyperDht(): Promise<HyperDhtClass> {
  const { default: HyperDHT } = await import('hyperdht')
  return HyperDHT as HyperDhtClass
}

/** Tests and closed networks set this: then nothing whatever may reach the public DHT. */
export function publicForbidden(): boolean {
  return process.env.RAFT_P2P_DHT === 'private' || process.env.RAFT_P2P_DHT === 'off'
}

/** Throws when no socket can be bound, and when the public network is asked for where it is forbidden. */
export async function openDhtNodes(options: DhtNodesOptions): Promise<DhtNodes> {
  if (options.mode === 'public' && publicForbidden()) {
    throw new Error('the public DHT is forbidden here: RAFT_P2P_DHT is private')
  }
  const HyperDHT = await loadHyperDht()
  return options.mode === 'public' ? openPublic(HyperDHT, options) : openPrivate(HyperDHT, options)
}

// --- private ------------------------------------------------------------------------------------------------------

async function openPrivate(HyperDHT: HyperDhtClass, options: DhtNodesOptions): Promise<DhtNodes> {
  const isPublic = publicNetworkOf(HyperDHT)
  const others = options.bootstrap.filter((node) => {
    if (isPublic(node.host)) {
      options.warning('dht-public-refused', `${node.host} is a node of the public DHT`)
    }
    return !isPublic(node.host)
  })
  const store = await openStore(HyperDHT, options, others)
  const self = { host: options.host, port: store.port }
  // `bootstrap` is never omitted: hyperdht would take the public list. An array as port keeps it from defaulting, too.
  const bootstrap = [self, ...others.filter((node) => !sameEndpoint(node, self))]
  let client: { node: HyperDhtNode; udx: UdxOverDgram | null }
  try {
    client = await create(options.host, 0, (udx) => {
      const more = { host: options.host, port: [0, 0], ephemeral: true, firewalled: false }
      return new HyperDHT({ ...udx, ...more, adaptiveTimeout: {}, bootstrap })
    })
  } catch (error) {
    await destroyNode(store.node)
    store.udx?.close()
    throw error
  }
  const nodes = [store.node, client.node]
  for (const node of nodes) {
    giveUpSoon(node)
    const filter = node._filterNode
    node._filterNode = (candidate) => !isPublic(candidate.host) && filter?.(candidate) !== false
  }
  const learned: Endpoint[] = []
  return {
    store: store.node,
    client: client.node,
    address: self,
    addBootstrap(found) {
      if (!isHostIPv4(found.host) || isPublic(found.host)) return false
      if (client.node.bootstrapNodes.some((known) => sameEndpoint(known, found))) return false
      learned.push(found)
      const dropped = learned.length > LEARNED_MAX ? learned.shift() : undefined
      for (const node of nodes) {
        node.bootstrapNodes = node.bootstrapNodes.filter((known) => known !== dropped)
        node.bootstrapNodes.push(found)
        node.addNode(found)
        node.refresh()
      }
      return true
    },
    async destroy() {
      await destroyNode(client.node)
      await destroyNode(store.node)
      client.udx?.close()
      store.udx?.close()
    },
  }
}

async function openStore(
  HyperDHT: HyperDhtClass,
  options: DhtNodesOptions,
  others: readonly Endpoint[],
): Promise<{ node: HyperDhtNode; udx: UdxOverDgram | null; port: number }> {
  const { host } = options
  let wanted = options.port
  for (let attempt = 1; ; attempt++) {
    // The storage node needs its port beforehand, and hyperdht would silently take another: look which one is free.
    const free = await freePort(host, wanted ?? 0)
    if (free === null) {
      if (wanted === null) throw new Error(`no UDP port can be bound on ${host}`)
      options.warning('dht-port-in-use', `UDP port ${wanted} on ${host} is taken; using another`)
      wanted = null
      continue
    }
    try {
      const made = await create(host, free, (udx) => {
        const bootstrap = others.filter((node) => !sameEndpoint(node, { host, port: free }))
        return HyperDHT.bootstrapper(free, host, { ...udx, host, bootstrap })
      })
      return { ...made, port: free }
    } catch (error) {
      if (attempt === BIND_ATTEMPTS) throw error
    }
  }
}

// --- public -------------------------------------------------------------------------------------------------------

async function openPublic(HyperDHT: HyperDhtClass, options: DhtNodesOptions): Promise<DhtNodes> {
  const bootstrap = options.bootstrap.length > 0 ? [...options.bootstrap] : HyperDHT.BOOTSTRAP
  const host = '0.0.0.0'
  let port = options.port ?? 0
  if ((await freePort(host, port)) === null) {
    options.warning('dht-port-in-use', `UDP port ${port} is taken; using another`)
    port = 0
  }
  const { node, udx } = await create(host, port, (udx) => {
    return new HyperDHT({ ...udx, port: port === 0 ? [0, 0] : port, bootstrap })
  })
  return {
    store: null,
    client: node,
    address: null,
    addBootstrap: () => false,
    async destroy() {
      await destroyNode(node)
      udx?.close()
    },
  }
}

// --- both ---------------------------------------------------------------------------------------------------------

/** Makes a node on the runtime's own datagrams and waits until its sockets are bound. */
async function create(
  host: string,
  port: number,
  make: (udx: { udx?: UdxOverDgram }) => HyperDhtNode,
): Promise<{ node: HyperDhtNode; udx: UdxOverDgram | null }> {
  const udx = hasNativeUdx ? null : await udxOverDgram(host, port)
  const node = make(udx === null ? {} : { udx })
  node.on('error', () => {})
  try {
    await node.bind()
    return { node, udx }
  } catch (error) {
    await destroyNode(node)
    udx?.close()
    throw error
  }
}

async function destroyNode(node: HyperDhtNode): Promise<void> {
  try {
    await node.destroy({ force: true })
  } catch {
    // A node whose bind failed cannot be destroyed to the end; its watcher would keep the process alive.
    node.io.networkInterfaces.destroy()
  }
}

/** A dead bootstrap node stalls a query for 2 s instead of 6 s. */
function giveUpSoon(node: HyperDhtNode): void {
  const query = node.query.bind(node)
  node.query = (request, options) => query(request, { retries: 1, ...options })
  const backgroundQuery = node._backgroundQuery.bind(node)
  node._backgroundQuery = (target) => Object.assign(backgroundQuery(target), { retries: 1 })
}

/** Addresses and names of the public network's bootstrap nodes. */
function publicNetworkOf(HyperDHT: HyperDhtClass): (host: string) => boolean {
  const hosts = new Set<string>()
  for (const text of HyperDHT.BOOTSTRAP) {
    const [address, name] = text.split('@')
    if (address !== undefined) hosts.add(address)
    const endpoint = name === undefined ? null : parseEndpoint(name)
    if (endpoint !== null) hosts.add(endpoint.host)
  }
  return (host) => hosts.has(host.toLowerCase().replace(/\.$/, ''))
}

function freePort(host: string, port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => resolve(null))
    socket.bind(port, host, () => {
      const free = socket.address().port
      socket.close(() => resolve(free))
    })
  })
}

function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.host === b.host && a.port === b.port
}
