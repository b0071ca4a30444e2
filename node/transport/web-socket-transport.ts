/**
 * Links over WebSockets: accepts on the node's one port, dials what the dialer wants, and sees to it that there is one link to each
 * peer. It must never show a link above before it has decided to keep it, and never report the last link lost while one is up.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import type { PeerIdentity } from '../raft/types.ts'
import { Dialer } from './dialer.ts'
import { type LinkEvents, type LinkOptions, PeerLink } from './link.ts'
import type {
  DialHint,
  Hello,
  Link,
  LinkDownReason,
  PeerFrame,
  RefusalReason,
  Transport,
  TransportEvents,
} from './transport.ts'
import { WebSocketDuplex } from './web-socket-duplex.ts'

export const PEER_PATH = '/v1/peer'

export interface TransportLimits {
  /** From the first byte to the accepted hello. */
  readonly handshakeMs: number
  /** Without an echo for this long a link is dead. */
  readonly linkTimeoutMs: number
  readonly pingMs: number
  /** Inbound connections that have not yet proved the topic. */
  readonly unprovenMax: number
  readonly queueBytesMax: number
  readonly batchBytesMax: number
  /** One WebSocket message. */
  readonly messageBytesMax: number
  readonly redialMsMin: number
  readonly redialMsMax: number
  readonly hintsMax: number
  readonly dialsMax: number
  readonly hintFailuresMax: number
}

export const TRANSPORT_LIMITS: TransportLimits = {
  handshakeMs: 4000,
  linkTimeoutMs: 2000,
  pingMs: 500,
  unprovenMax: 256,
  queueBytesMax: 64 * 1024 * 1024,
  batchBytesMax: 4 * 1024 * 1024,
  messageBytesMax: 20 * 1024 * 1024,
  redialMsMin: 100,
  redialMsMax: 2000,
  hintsMax: 256,
  dialsMax: 16,
  hintFailuresMax: 8,
}

export interface TransportOptions {
  /** Ed25519 in libsodium's layout: 32 and 64 bytes. */
  readonly keyPair: { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array }
  readonly storageId: string
  /** 16 hex digits, new for each start of the process. */
  readonly bootId: string
  readonly bootCounter: number
  /** The topic's link capability, 32 bytes. */
  readonly capability: Uint8Array
  readonly name: string
  readonly urls: () => readonly string[]
  readonly clusterId: string | null
  /** Jitter, in [0, 1). */
  readonly random: () => number
  readonly log?: (event: string, fields: Readonly<Record<string, unknown>>) => void
  readonly limits?: Partial<TransportLimits>
}

/** How long an older link has to answer before a newcomer with its key takes its place. */
const CONFLICT_MS = 1000

export interface WebSocketTransport extends Transport {
  /** For upgrades of the HTTP server on PEER_PATH. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
}

export function createTransport(options: TransportOptions): WebSocketTransport {
  return new Links(options)
}

class Links implements WebSocketTransport, LinkEvents {
  readonly #options: TransportOptions
  readonly #limits: TransportLimits
  readonly #nodeKey: string
  readonly #dialer: Dialer
  readonly #server: WebSocketServer
  readonly #linkOptions: LinkOptions
  #events: TransportEvents | null = null
  #clusterId: string | null
  /** Every link that is not closed, in any stage. */
  readonly #all = new Set<PeerLink>()
  /** The kept link of each peer, by node key. */
  readonly #kept = new Map<string, PeerLink>()
  /** Why a link is being closed, when it is this side's doing. */
  readonly #reasons = new Map<PeerLink, LinkDownReason>()
  #nextLinkId = 1
  #unproven = 0
  #pulse: NodeJS.Timeout | null = null
  #pulseMs = 0
  #closed = false

  constructor(options: TransportOptions) {
    this.#options = options
    this.#limits = { ...TRANSPORT_LIMITS, ...options.limits }
    this.#nodeKey = Buffer.from(options.keyPair.publicKey).toString('hex')
    this.#clusterId = options.clusterId
    this.#server = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: this.#limits.messageBytesMax,
    })
    const nowMs = (): number => performance.now()
    this.#linkOptions = {
      keyPair: options.keyPair,
      capability: options.capability,
      hello: () => this.#ownHello(),
      handshakeMs: this.#limits.handshakeMs,
      queueBytesMax: this.#limits.queueBytesMax,
      batchBytesMax: this.#limits.batchBytesMax,
      nowMs,
    }
    this.#dialer = new Dialer({
      redialMsMin: this.#limits.redialMsMin,
      redialMsMax: this.#limits.redialMsMax,
      hintsMax: this.#limits.hintsMax,
      dialsMax: this.#limits.dialsMax,
      hintFailuresMax: this.#limits.hintFailuresMax,
      random: options.random,
      nowMs,
      dial: (url, expectedKey) => this.#dial(url, expectedKey),
      isLinked: (nodeKey) => nodeKey === this.#nodeKey || this.#kept.has(nodeKey),
    })
  }

  get pendingDials(): number {
    return this.#dialer.pending
  }

  get links(): readonly Link[] {
    return [...this.#kept.values()]
  }

  start(events: TransportEvents): void {
    if (this.#events !== null || this.#closed) return
    this.#events = events
    this.#dialer.start()
    this.#pulseMs = performance.now()
    this.#pulse = setInterval(() => this.#beat(), this.#limits.pingMs)
  }

  hint(hint: DialHint): void {
    if (hint.nodeKey !== this.#nodeKey && !this.#closed) this.#dialer.hint(hint)
  }

  keep(peers: readonly { nodeKey: string; urls: readonly string[] }[]): void {
    if (!this.#closed) this.#dialer.keep(peers)
  }

  send(peer: PeerIdentity, frames: readonly PeerFrame[]): boolean {
    const link = this.#kept.get(peer.nodeKey)
    if (link === undefined || link.hello.storageId !== peer.storageId) return false
    return link.send(frames)
  }

  setClusterId(clusterId: string): void {
    if (this.#clusterId === clusterId) return
    this.#clusterId = clusterId
    for (const link of [...this.#kept.values()]) {
      link.sayHello()
      this.#checkCluster(link)
    }
  }

  disconnect(link: Link, reason: string): void {
    this.#options.log?.('link.disconnecting', { peer: link.hello.nodeKey.slice(0, 8), reason })
    const found = [...this.#all].find((other) => other.linkId === link.linkId)
    if (found !== undefined) this.#close(found, 'protocol-error')
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#dialer.stop()
    if (this.#pulse !== null) clearInterval(this.#pulse)
    for (const link of [...this.#all]) this.#close(link, 'closed-by-us')
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.#closed || this.#events === null || this.#unproven >= this.#limits.unprovenMax) {
      socket.destroy()
      return
    }
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      this.#add(webSocket, { isInitiator: false, url: null, expectedKey: null })
    })
  }

  // --- making links -------------------------------------------------------------------------------------------------

  #dial(url: string, expectedKey: string | null): void {
    const socket = new WebSocket(`${url}${PEER_PATH}`, {
      perMessageDeflate: false,
      maxPayload: this.#limits.messageBytesMax,
      handshakeTimeout: this.#limits.handshakeMs,
      // TLS is only an envelope here: who answers is proved inside, by Noise and the topic.
      rejectUnauthorized: false,
    })
    let open = false
    socket.on('open', () => {
      open = true
      if (this.#closed) return socket.terminate()
      this.#add(socket, { isInitiator: true, url, expectedKey })
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      if (!open) this.#dialer.ended(url, 'failed', null)
    })
  }

  #add(
    socket: WebSocket,
    how: { isInitiator: boolean; url: string | null; expectedKey: string | null },
  ): void {
    if (!how.isInitiator) this.#unproven++
    const link = new PeerLink({
      linkId: this.#nextLinkId++,
      carrier: 'direct',
      raw: new WebSocketDuplex(socket),
      ...how,
      options: this.#linkOptions,
      events: this,
    })
    this.#all.add(link)
  }

  #ownHello(): Hello {
    const { storageId, bootId, bootCounter, name, urls } = this.#options
    return {
      nodeKey: this.#nodeKey,
      storageId,
      bootId,
      bootCounter,
      clusterId: this.#clusterId,
      name,
      urls: urls(),
    }
  }

  // --- events of links ----------------------------------------------------------------------------------------------

  greeted(link: PeerLink): void {
    if (!link.isInitiator) this.#unproven--
    const { nodeKey, bootId } = link.hello
    if (nodeKey === this.#nodeKey) {
      // The own address, dialled; or, with another boot, a copy of this node's key.
      if (bootId !== this.#options.bootId) link.refuse('clone', 'another process has this key')
      else this.#close(link, 'closed-by-us')
      return
    }
    if (!this.#checkCluster(link)) return
    const other = this.#kept.get(nodeKey)
    if (other === undefined) return this.#admit(link)
    if (sameProcess(other.hello, link.hello)) return this.#choose(other, link)
    other.probe(CONFLICT_MS, (alive) => {
      if (!link.isUp) return
      const now = this.#kept.get(nodeKey)
      if (alive && now === other) {
        return link.refuse('clone', 'a link with the same key and another process is alive')
      }
      if (now !== undefined) this.#close(now, 'replaced')
      this.#admit(link)
    })
  }

  /** Two links to one process: the one dialled by the lower key stays; of two by the same side, the dialler keeps its first. */
  #choose(old: PeerLink, fresh: PeerLink): void {
    const lowerDials = this.#nodeKey < fresh.hello.nodeKey
    const isPreferred = fresh.isInitiator === lowerDials
    if (old.isInitiator === fresh.isInitiator) {
      if (fresh.isInitiator) return this.#close(fresh, 'replaced')
      // The other side decides which of its own to close; until then the newer one is only kept open.
      return
    }
    if (!isPreferred) return this.#close(fresh, 'replaced')
    this.#kept.set(fresh.hello.nodeKey, fresh)
    this.#dialEnded(fresh, 'linked')
    this.#events?.linkUp(fresh)
    this.#close(old, 'replaced')
  }

  #admit(link: PeerLink): void {
    this.#kept.set(link.hello.nodeKey, link)
    this.#dialEnded(link, 'linked')
    link.ping()
    this.#events?.linkUp(link)
  }

  /** Two clusters on one topic refuse each other and say so (DESIGN, Founding). */
  #checkCluster(link: PeerLink): boolean {
    const { clusterId } = link.hello
    if (this.#clusterId === null || clusterId === null || clusterId === this.#clusterId) return true
    link.refuse(
      'wrong-cluster',
      `this node belongs to cluster ${this.#clusterId}, ${link.hello.name} to ${clusterId}`,
    )
    return false
  }

  helloChanged(link: PeerLink): void {
    if (!this.#checkCluster(link) || this.#kept.get(link.hello.nodeKey) !== link) return
    this.#events?.helloChanged(link)
  }

  frame(link: PeerLink, frame: PeerFrame): void {
    if (this.#kept.get(link.hello.nodeKey) === link) this.#events?.frame(link, frame)
  }

  refused(link: PeerLink, reason: RefusalReason, detail: string): void {
    const clusterId = reason === 'wrong-cluster' ? link.hello.clusterId : null
    const { url, nodeKey } = link
    this.#reasons.set(link, 'protocol-error')
    this.#events?.refused({ reason, url, nodeKey, detail, clusterId })
  }

  closed(link: PeerLink): void {
    this.#all.delete(link)
    if (!link.isInitiator && !link.wasGreeted) this.#unproven--
    const reason = this.#reasons.get(link) ?? 'closed-by-peer'
    this.#reasons.delete(link)
    const isSelf = link.nodeKey === this.#nodeKey
    this.#dialEnded(link, isSelf ? 'self' : 'failed')
    const { nodeKey } = link
    if (nodeKey === null || !link.wasGreeted) return
    const kept = this.#kept.get(nodeKey)
    if (kept === link) {
      this.#kept.delete(nodeKey)
      const next = [...this.#all].find((other) => other.isUp && other.nodeKey === nodeKey)
      if (next !== undefined && sameProcess(next.hello, link.hello)) {
        this.#kept.set(nodeKey, next)
        this.#events?.linkUp(next)
        this.#events?.linkDown(link, reason, false)
        return
      }
      this.#dialer.lost(nodeKey)
      this.#events?.linkDown(link, reason, true)
    } else if (link.wasKept) {
      this.#events?.linkDown(link, reason, false)
    }
  }

  #dialEnded(link: PeerLink, result: 'linked' | 'failed' | 'self'): void {
    if (result === 'linked') link.wasKept = true
    if (link.url === null || link.dialReported) return
    link.dialReported = true
    this.#dialer.ended(link.url, result, link.nodeKey)
  }

  #close(link: PeerLink, reason: LinkDownReason): void {
    if (!this.#reasons.has(link)) this.#reasons.set(link, reason)
    link.close()
  }

  /** Pings every link and cuts those that no longer echo: a half-open link would look alive for many minutes. */
  #beat(): void {
    const now = performance.now()
    const stalled = now - this.#pulseMs > 2 * this.#limits.pingMs
    this.#pulseMs = now
    for (const link of [...this.#kept.values()]) {
      // After a stall of this very process the echoes may lie unread in the sockets.
      if (stalled) link.echoedMs = now
      if (now - link.echoedMs > this.#limits.linkTimeoutMs) this.#close(link, 'echo-timeout')
      else link.ping()
    }
  }
}

function sameProcess(a: Hello, b: Hello): boolean {
  return a.storageId === b.storageId && a.bootId === b.bootId
}
