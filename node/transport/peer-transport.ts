/**
 * The Transport over any carrier: dials what the dialer wants, takes what the carrier accepts, pings, and cuts what does not echo.
 * The carrier (WebSockets, or queues in memory) brings channels and a clock; everything about links is the same for all.
 */
import { FEATURE_LEVEL } from '../feature-level.ts'
import type { PeerIdentity } from '../raft/types.ts'
import type { Channel, Clock } from './channel.ts'
import { Dialer, type DialTarget } from './dialer.ts'
import { type DialResult, type LinkOptions, PeerLink } from './link.ts'
import { LinkTable } from './link-table.ts'
import type { DialHint, Hello, Link, PeerFrame, Transport, TransportEvents } from './transport.ts'

/** A busy link is pinged this often, so that its round trip is known. */
const RTT_SAMPLE_MS = 10_000

export interface TransportLimits {
  /** From the first byte to the accepted hello. */
  readonly handshakeMs: number
  /** A link on which nothing was heard for this long, pings notwithstanding, is dead. */
  readonly linkTimeoutMs: number
  /** How often links are looked at, and the silence after which one is pinged. */
  readonly pingMs: number
  /** Inbound connections that have not yet proved the topic. */
  readonly unprovenMax: number
  readonly queueBytesMax: number
  readonly batchBytesMax: number
  readonly redialMsMin: number
  readonly redialMsMax: number
  /** Pause before a node is dialled again that refused this one, or was refused. */
  readonly refusedMs: number
  readonly hintsMax: number
  readonly dialsMax: number
  readonly hintFailuresMax: number
}

export const TRANSPORT_LIMITS: TransportLimits = {
  handshakeMs: 4000,
  linkTimeoutMs: 2000,
  pingMs: 900,
  unprovenMax: 256,
  queueBytesMax: 64 * 1024 * 1024,
  batchBytesMax: 1024 * 1024,
  redialMsMin: 100,
  redialMsMax: 2000,
  refusedMs: 5000,
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
  /** The highest that this node supports. Default: that of this build. */
  readonly featureLevel?: number
  /** Jitter, in [0, 1). */
  readonly random: () => number
  readonly log?: (event: string, fields: Readonly<Record<string, unknown>>) => void
  readonly limits?: Partial<TransportLimits>
}

export interface Carrier {
  readonly clock: Clock
  /** Calls back exactly once, later than the call, with a channel or null. Returns a function that gives up: null comes then. */
  connect(url: string, connected: (channel: Channel | null) => void): () => void
  /** Idempotent; resolves when nothing of it is open any more. */
  close(): Promise<void>
}

/** How long a closing transport waits for the system to take what is queued. */
const FLUSH_MS_MAX = 250
const FLUSH_POLL_MS = 5

export class PeerTransport implements Transport {
  readonly #options: TransportOptions
  readonly #limits: TransportLimits
  readonly #carrier: Carrier
  readonly #nodeKey: string
  readonly #dialer: Dialer
  readonly #table: LinkTable
  readonly #linkOptions: LinkOptions
  readonly #aborts = new Set<() => void>()
  #clusterId: string | null
  #nextLinkId = 1
  #cancelBeat: () => void = () => {}
  #beatMs = 0
  #started = false
  #closing: Promise<void> | null = null

  constructor(options: TransportOptions, carrier: Carrier) {
    this.#options = options
    this.#carrier = carrier
    const limits = { ...TRANSPORT_LIMITS, ...options.limits }
    this.#limits = limits
    this.#nodeKey = Buffer.from(options.keyPair.publicKey).toString('hex')
    this.#clusterId = options.clusterId
    const { clock } = carrier
    const clusterId = (): string | null => this.#clusterId
    this.#linkOptions = {
      capability: options.capability,
      hello: () => this.#ownHello(),
      clusterId,
      clock,
      handshakeMs: limits.handshakeMs,
      queueBytesMax: limits.queueBytesMax,
      batchBytesMax: limits.batchBytesMax,
    }
    this.#dialer = new Dialer({
      ...limits,
      random: options.random,
      clock,
      dial: (target) => this.#dial(target),
      isLinked: (nodeKey) => nodeKey === this.#nodeKey || this.#table.linkTo(nodeKey) !== undefined,
    })
    this.#table = new LinkTable({
      nodeKey: this.#nodeKey,
      bootId: options.bootId,
      clock,
      clusterId,
      lost: (nodeKey, livedMs) => this.#dialer.lost(nodeKey, livedMs),
      refused: (nodeKey) => this.#dialer.refused(nodeKey),
    })
  }

  get pendingDials(): number {
    return this.#dialer.pending
  }

  get links(): readonly Link[] {
    return this.#table.shown
  }

  /** A newcomer is welcome: started and not closing. */
  get accepts(): boolean {
    return this.#started && this.#closing === null
  }

  start(events: TransportEvents): void {
    if (this.#started || this.#closing !== null) return
    this.#started = true
    this.#table.start(events)
    this.#dialer.start()
    this.#beatMs = this.#carrier.clock.nowMs()
    this.#scheduleBeat()
  }

  hint(hint: DialHint): void {
    if (hint.nodeKey !== this.#nodeKey && this.#closing === null) this.#dialer.hint(hint)
  }

  keep(peers: readonly { nodeKey: string; urls: readonly string[] }[]): void {
    if (this.#closing !== null) return
    this.#dialer.keep(peers.filter(({ nodeKey }) => nodeKey !== this.#nodeKey))
  }

  send(peer: PeerIdentity, frames: readonly PeerFrame[]): boolean {
    const link = this.#table.linkTo(peer.nodeKey)
    if (link === undefined || link.hello.storageId !== peer.storageId) return false
    return link.send(frames)
  }

  setClusterId(clusterId: string): void {
    if (this.#clusterId === clusterId) return
    this.#clusterId = clusterId
    this.#table.during(() => {
      for (const link of this.#table.all) {
        link.sayHello()
        if (link.isUp) this.#table.checkCluster(link)
      }
    })
  }

  requireLevel(featureLevel: number): void {
    this.#table.during(() => this.#table.requireLevel(featureLevel))
  }

  disconnect(link: Link, reason: string): void {
    this.#options.log?.('link.disconnecting', { peer: link.hello.nodeKey.slice(0, 8), reason })
    const found = this.#table.all.find((other) => other.linkId === link.linkId)
    if (found === undefined) return
    this.#table.during(() => this.#table.close(found, 'protocol-error'))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** A connection somebody else made. */
  accept(channel: Channel): void {
    this.#table.makeRoom(this.#limits.unprovenMax)
    this.#add(channel, { isInitiator: false, url: null, expectedKey: null, dialEnded: () => {} })
  }

  async #close(): Promise<void> {
    this.#dialer.stop()
    this.#cancelBeat()
    for (const abort of [...this.#aborts]) abort()
    await this.#flushed()
    this.#table.during(() => {
      for (const link of this.#table.all) this.#table.close(link, 'closed-by-us')
    })
    await this.#carrier.close()
  }

  /** The last words of a node (who takes over, answers to requests) should leave. */
  #flushed(): Promise<void> {
    const { clock } = this.#carrier
    const endMs = clock.nowMs() + FLUSH_MS_MAX
    return new Promise((resolve) => {
      const look = (): void => {
        const isEmpty = this.#table.shown.every((link) => link.queuedBytes === 0)
        if (isEmpty || clock.nowMs() >= endMs) resolve()
        else clock.later(FLUSH_POLL_MS, look)
      }
      look()
    })
  }

  #dial(target: DialTarget): void {
    const { url, expectedKey } = target
    const dialEnded = (result: DialResult, nodeKey: string | null): void =>
      this.#dialer.ended(target, result, nodeKey)
    const abort = this.#carrier.connect(url, (channel) => {
      this.#aborts.delete(abort)
      if (channel !== null && this.#closing === null) {
        return this.#add(channel, { isInitiator: true, url, expectedKey, dialEnded })
      }
      channel?.close()
      dialEnded('failed', null)
    })
    this.#aborts.add(abort)
  }

  #add(
    channel: Channel,
    how: Pick<
      ConstructorParameters<typeof PeerLink>[0],
      'isInitiator' | 'url' | 'expectedKey' | 'dialEnded'
    >,
  ): void {
    const link = new PeerLink({
      ...how,
      linkId: this.#nextLinkId++,
      carrier: 'direct',
      channel,
      options: this.#linkOptions,
      events: this.#table,
    })
    this.#table.add(link)
  }

  #ownHello(): Hello {
    const { storageId, bootId, bootCounter, name, urls } = this.#options
    const { featureLevel = FEATURE_LEVEL } = this.#options
    return {
      nodeKey: this.#nodeKey,
      storageId,
      bootId,
      bootCounter,
      clusterId: this.#clusterId,
      name,
      featureLevel,
      urls: urls(),
    }
  }

  #scheduleBeat(): void {
    this.#cancelBeat = this.#carrier.clock.later(this.#limits.pingMs, () => {
      this.#beat()
      this.#scheduleBeat()
    })
  }

  /**
   * Cuts links on which nothing comes back: a half-open one would look alive for many minutes. Whoever hears nothing asks; a
   * link that is busy with heartbeats needs no pings, and now and then one is sent for the round trip's sake. If only one
   * direction is dead, the end that hears nothing gets no pong and closes.
   */
  #beat(): void {
    const { pingMs, linkTimeoutMs } = this.#limits
    const nowMs = this.#carrier.clock.nowMs()
    const stalled = nowMs - this.#beatMs > 2 * pingMs
    this.#beatMs = nowMs
    for (const link of this.#table.all) {
      if (!link.isUp) continue
      // After a stall of this very process the echoes may lie unread in the sockets.
      if (stalled) link.heardMs = nowMs
      link.listen(nowMs)
      if (nowMs - link.heardMs > linkTimeoutMs) this.#table.close(link, 'echo-timeout')
      else if (
        nowMs - link.heardMs >= pingMs ||
        nowMs - link.saidMs >= pingMs ||
        nowMs - link.echoedMs > RTT_SAMPLE_MS
      )
        link.ping()
    }
  }
}
