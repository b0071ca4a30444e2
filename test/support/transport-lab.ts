/** Nodes that are nothing but a transport, over real sockets or in memory, and a record of what each was told. */
import { randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { newKeyPair } from '../../node/key-pair.ts'
import { MemoryNetwork } from '../../node/transport/memory-transport.ts'
import type { TransportLimits, TransportOptions } from '../../node/transport/peer-transport.ts'
import type {
  Link,
  LinkDownReason,
  PeerFrame,
  RefusalReason,
  Transport,
} from '../../node/transport/transport.ts'
import {
  createTransport,
  type WebSocketTransport,
} from '../../node/transport/web-socket-transport.ts'

const DEADLINE_MS = 15_000
const POLL_MS = 5

export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | null,
): Promise<T> {
  const endMs = Date.now() + DEADLINE_MS
  for (;;) {
    const found = check()
    if (found !== undefined && found !== false && found !== null) return found
    if (Date.now() > endMs) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

export type Told =
  | { readonly type: 'up'; readonly link: Link }
  | {
      readonly type: 'down'
      readonly link: Link
      readonly reason: LinkDownReason
      readonly last: boolean
    }
  | { readonly type: 'hello'; readonly link: Link }
  | { readonly type: 'refused'; readonly reason: RefusalReason; readonly clusterId: string | null }

export interface PeerOptions extends Partial<Omit<TransportOptions, 'urls' | 'limits'>> {
  readonly limits?: Partial<TransportLimits>
}

/** A topic of the tests. */
export const CAPABILITY = new Uint8Array(32).fill(7)

export class TestPeer<T extends Transport = Transport> {
  readonly url: string
  readonly nodeKey: string
  readonly options: TransportOptions
  readonly transport: T
  readonly told: Told[] = []
  readonly frames: { readonly link: Link; readonly frame: PeerFrame }[] = []
  /** Set while a callback runs; another one may not start then. */
  #inCallback = false
  /** Set by a test around a call; no callback may start then. */
  inCall = false
  onFrame: (link: Link, frame: PeerFrame) => void = () => {}
  release: () => Promise<void> = async () => {}

  constructor(url: string, options: PeerOptions, make: (options: TransportOptions) => T) {
    this.url = url
    this.options = {
      keyPair: newPair(),
      storageId: randomBytes(16).toString('hex'),
      bootId: randomBytes(8).toString('hex'),
      bootCounter: 1,
      capability: CAPABILITY,
      name: 'test',
      clusterId: null,
      random: Math.random,
      urls: () => [url],
      ...options,
    }
    this.nodeKey = Buffer.from(this.options.keyPair.publicKey).toString('hex')
    this.transport = make(this.options)
  }

  get identity(): { nodeKey: string; storageId: string } {
    return { nodeKey: this.nodeKey, storageId: this.options.storageId }
  }

  start(): this {
    const once = (run: () => void): void => {
      if (this.#inCallback) throw new Error('a callback inside a callback')
      if (this.inCall) throw new Error('a callback inside a call')
      this.#inCallback = true
      run()
      this.#inCallback = false
    }
    this.transport.start({
      linkUp: (link) => once(() => this.told.push({ type: 'up', link })),
      linkDown: (link, reason, last) =>
        once(() => this.told.push({ type: 'down', link, reason, last })),
      helloChanged: (link) => once(() => this.told.push({ type: 'hello', link })),
      refused: ({ reason, clusterId }) =>
        once(() => this.told.push({ type: 'refused', reason, clusterId })),
      frame: (link, frame) =>
        once(() => {
          this.frames.push({ link, frame })
          this.onFrame(link, frame)
        }),
    })
    return this
  }

  /** Calls into the transport, within which nothing may be told. */
  call<R>(run: (transport: T) => R): R {
    this.inCall = true
    try {
      return run(this.transport)
    } finally {
      this.inCall = false
    }
  }

  linkTo(other: { readonly nodeKey: string }): Link | undefined {
    return this.transport.links.find((link) => link.hello.nodeKey === other.nodeKey)
  }

  count(type: Told['type']): number {
    return this.told.filter((told) => told.type === type).length
  }

  refusals(reason: RefusalReason): number {
    return this.told.filter((told) => told.type === 'refused' && told.reason === reason).length
  }

  /** How often the last link to a peer was reported lost. */
  get losses(): number {
    return this.told.filter((told) => told.type === 'down' && told.last).length
  }

  async close(): Promise<void> {
    await this.transport.close()
    await this.release()
  }
}

export interface TransportLab {
  peer(options?: PeerOptions): Promise<TestPeer>
  close(): Promise<void>
}

export function newPair(): TransportOptions['keyPair'] {
  return newKeyPair()
}

/** Two pairs in order of their public keys. */
export function orderedPairs(): [TransportOptions['keyPair'], TransportOptions['keyPair']] {
  const [a, b] = [newPair(), newPair()]
  return Buffer.compare(a.publicKey, b.publicKey) < 0 ? [a, b] : [b, a]
}

export class SocketLab implements TransportLab {
  readonly #peers: TestPeer[] = []

  async peer(
    options: PeerOptions = {},
    port = 0,
  ): Promise<TestPeer<WebSocketTransport> & { server: Server; sockets: Set<Socket> }> {
    const server = createServer()
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    })
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
    const peer = new TestPeer(url, options, createTransport)
    server.on('upgrade', (request, socket, head) =>
      peer.transport.handleUpgrade(request, socket, head),
    )
    peer.release = () => new Promise((resolve) => server.close(() => resolve()))
    this.#peers.push(peer)
    return Object.assign(peer, { server, sockets })
  }

  async close(): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.close()))
  }
}

export class MemoryLab implements TransportLab {
  readonly network = new MemoryNetwork()
  readonly #peers: TestPeer[] = []
  readonly #stop = this.network.runFreely()
  #nextHost = 1

  async peer(options: PeerOptions = {}): Promise<TestPeer> {
    const peer = new TestPeer(`ws://memory-${this.#nextHost++}:1`, options, (all) =>
      this.network.createTransport(all),
    )
    this.#peers.push(peer)
    return peer
  }

  async close(): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.close()))
    this.#stop()
  }
}

export function text(frame: PeerFrame | undefined): string {
  return frame?.type === 'founding' ? Buffer.from(frame.body).toString() : `(${frame?.type})`
}

export function founding(body: string): PeerFrame {
  return { type: 'founding', body: new Uint8Array(Buffer.from(body)) }
}

export function heartbeat(term: number): PeerFrame {
  return { type: 'raft', message: { type: 'heartbeat', term, commit: 0, readRound: 0 } }
}
