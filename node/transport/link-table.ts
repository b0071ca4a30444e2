/**
 * Which links are shown above: one to each peer process, whoever dialled, and none to another cluster, to a copy of a node or to
 * this node itself. It must never report the last link to a peer lost while one is up: that would look like a death (HAZARDS).
 *
 * Several links to one process: the better one is the one dialled by the lower key, of those the first. Only its dialler closes the
 * other, and only after the better one has answered a ping, so that the peer too has it. Until then the newer is a *spare*: its
 * frames count, but nobody above sees it; it takes over when the shown one ends.
 */
import { FEATURE_LEVEL_FIRST } from '../feature-level.ts'
import { peerIdOf } from '../raft/types.ts'
import type { Clock } from './channel.ts'
import type { PeerLink } from './link.ts'
import type {
  Hello,
  Link,
  LinkDownReason,
  PeerFrame,
  RefusalReason,
  TransportEvents,
} from './transport.ts'

export interface LinkTableOptions {
  readonly nodeKey: string
  readonly bootId: string
  readonly clock: Clock
  readonly clusterId: () => string | null
  /** The last link to this node has ended, after so long. */
  readonly lost: (nodeKey: string, livedMs: number) => void
  /** This node and that one refuse each other. */
  readonly refused: (nodeKey: string) => void
}

/** How long an older link has to answer before a newcomer with its key takes its place. */
const CONFLICT_MS = 1000
/** A dialler has a few addresses of one process; more links than that are no accident. */
const LINKS_PER_PEER_MAX = 16
/** The same refusal of the same peer is told once in this time. */
const REFUSAL_QUIET_MS = 30_000
const REFUSALS_REMEMBERED_MAX = 1024
const BOOTS_REMEMBERED_MAX = 4096

export class LinkTable {
  readonly #options: LinkTableOptions
  #events: TransportEvents | null = null
  /** Every link that is not closed, in any stage. */
  readonly #all = new Set<PeerLink>()
  /** By node key, links to one process; the first is the one shown, the others are spares. */
  readonly #peers = new Map<string, PeerLink[]>()
  /** Inbound connections that have not yet proved the topic. */
  readonly #unproven = new Set<PeerLink>()
  /** Why a link is being closed, when it is this side's doing. */
  readonly #reasons = new Map<PeerLink, LinkDownReason>()
  /** The newest start seen of each data directory. */
  readonly #boots = new Map<string, Hello>()
  /** When a refusal was last told. */
  readonly #toldMs = new Map<string, number>()
  // Callbacks never run inside a call to the transport or inside each other.
  #depth = 0
  /** What the cluster uses, as far as this node knows. */
  #levelInUse = FEATURE_LEVEL_FIRST
  #waiting: ((events: TransportEvents) => void)[] = []

  constructor(options: LinkTableOptions) {
    this.#options = options
  }

  get unproven(): number {
    return this.#unproven.size
  }

  get all(): readonly PeerLink[] {
    return [...this.#all]
  }

  get shown(): readonly PeerLink[] {
    return [...this.#peers.values()].flatMap((links) => links.slice(0, 1))
  }

  linkTo(nodeKey: string): PeerLink | undefined {
    return this.#peers.get(nodeKey)?.[0]
  }

  start(events: TransportEvents): void {
    this.#events = events
  }

  /**
   * Of those that have proved nothing, the oldest goes: a handshake takes milliseconds, so that a flood must be thousands of times
   * faster to keep a peer out than if newcomers were turned away.
   */
  makeRoom(unprovenMax: number): void {
    for (const oldest of this.#unproven) {
      if (this.#unproven.size < unprovenMax) return
      this.close(oldest, 'closed-by-us')
    }
  }

  add(link: PeerLink): void {
    this.#all.add(link)
    if (!link.isInitiator) this.#unproven.add(link)
  }

  close(link: PeerLink, reason: LinkDownReason): void {
    if (!this.#all.has(link)) return
    if (!this.#reasons.has(link)) this.#reasons.set(link, reason)
    link.close()
  }

  /** Calls into the transport go through here: what they cause is told afterwards. */
  during<T>(call: () => T): T {
    this.#depth++
    try {
      return call()
    } finally {
      this.#depth--
      if (this.#depth === 0 && this.#waiting.length > 0) queueMicrotask(() => this.#tellWaiting())
    }
  }

  // --- events of links ----------------------------------------------------------------------------------------------

  greeted(link: PeerLink): void {
    this.#unproven.delete(link)
    const { nodeKey, bootId } = link.hello
    if (nodeKey === this.#options.nodeKey) {
      if (bootId !== this.#options.bootId) {
        return link.refuse('clone', 'another process has the key of this node')
      }
      link.reportDial('self')
      return this.close(link, 'closed-by-us')
    }
    if (this.checkCluster(link) && this.#checkLevel(link) && this.#checkBoot(link)) {
      this.#settle(link)
    }
  }

  /** Two clusters on one topic refuse each other and say so (DESIGN, Founding). */
  checkCluster(link: PeerLink): boolean {
    const own = this.#options.clusterId()
    const { clusterId, name } = link.hello
    if (own === null || clusterId === null || clusterId === own) return true
    link.refuse('wrong-cluster', `this node belongs to cluster ${own}, ${name} to ${clusterId}`)
    return false
  }

  requireLevel(featureLevel: number): void {
    if (featureLevel <= this.#levelInUse) return
    this.#levelInUse = featureLevel
    for (const link of [...this.#all]) if (link.isUp) this.#checkLevel(link)
  }

  /** Whoever is too old for what the cluster uses would take its frames and entries for garbage. */
  #checkLevel(link: PeerLink): boolean {
    const { featureLevel, name } = link.hello
    if (featureLevel >= this.#levelInUse) return true
    const supports = `${name} supports feature level ${featureLevel}`
    link.refuse('version', `${supports}, the cluster uses ${this.#levelInUse}: it is too old`)
    return false
  }

  helloChanged(link: PeerLink): void {
    if (!this.checkCluster(link)) return
    if (this.linkTo(link.hello.nodeKey) === link) this.#tell((events) => events.helloChanged(link))
  }

  frame(link: PeerLink, frame: PeerFrame): void {
    const links = this.#peers.get(link.hello.nodeKey)
    const shown = links?.[0]
    if (shown === undefined || (shown !== link && !links?.includes(link))) return
    this.#tell((events) => events.frame(shown, frame))
  }

  refused(link: PeerLink, reason: RefusalReason, detail: string): void {
    const { url, nodeKey } = link
    const clusterId = reason === 'wrong-cluster' && link.wasGreeted ? link.hello.clusterId : null
    if (!this.#reasons.has(link)) this.#reasons.set(link, 'protocol-error')
    if (this.#mayTell(link, reason)) {
      this.#tell((events) => events.refused({ reason, url, nodeKey, detail, clusterId }))
    }
    this.#remove(link)
    if (nodeKey !== null && link.wasGreeted) this.#options.refused(nodeKey)
  }

  closed(link: PeerLink): void {
    this.#all.delete(link)
    this.#unproven.delete(link)
    this.#remove(link)
    this.#reasons.delete(link)
  }

  // --- one link a peer ----------------------------------------------------------------------------------------------

  /** A data directory whose boot counter does not rise was restored from a copy, votes forgotten, or lives twice. */
  #checkBoot(link: PeerLink): boolean {
    const { hello } = link
    const seen = this.#boots.get(peerIdOf(hello))
    if (seen !== undefined && seen.bootId !== hello.bootId) {
      if (hello.bootCounter <= seen.bootCounter) {
        const detail = `a copy of the data directory of ${hello.name} was started: ${hello.nodeKey}`
        link.refuse('clone', detail)
        return false
      }
    }
    return true
  }

  #settle(link: PeerLink): void {
    const { nodeKey, name } = link.hello
    const links = this.#peers.get(nodeKey)
    const other = links?.[0]
    if (links === undefined || other === undefined) return this.#show(link)
    if (sameProcess(other.hello, link.hello)) return this.#join(links, link)
    other.probe(CONFLICT_MS, (alive) => {
      if (!link.isUp) return
      if (this.linkTo(nodeKey) === other) {
        if (alive) {
          return link.refuse('clone', `two processes have the key of ${name}: ${nodeKey}`)
        }
        for (const old of [...links]) this.close(old, 'replaced')
      }
      this.#settle(link)
    })
  }

  #show(link: PeerLink): void {
    const { hello } = link
    this.#peers.set(hello.nodeKey, [link])
    this.#boots.delete(peerIdOf(hello))
    this.#boots.set(peerIdOf(hello), hello)
    dropOldest(this.#boots, BOOTS_REMEMBERED_MAX)
    link.reportDial('linked')
    link.ping()
    this.#tell((events) => events.linkUp(link))
  }

  #join(links: PeerLink[], link: PeerLink): void {
    link.reportDial('linked')
    if (links.length >= LINKS_PER_PEER_MAX) return this.close(link, 'replaced')
    links.push(link)
    const lowerDials = this.#options.nodeKey < link.hello.nodeKey
    const best = links.find((other) => other.isInitiator === lowerDials) ?? (links[0] as PeerLink)
    for (const surplus of [...links]) {
      if (surplus === best || !surplus.isInitiator) continue
      best.probe(CONFLICT_MS, (alive) => {
        if (alive && links.includes(best)) this.close(surplus, 'replaced')
      })
    }
  }

  #remove(link: PeerLink): void {
    if (!link.wasGreeted) return
    const { nodeKey } = link.hello
    const links = this.#peers.get(nodeKey)
    const place = links?.indexOf(link) ?? -1
    if (links === undefined || place === -1) return
    links.splice(place, 1)
    if (place > 0) return
    const own = this.#reasons.get(link)
    const reason = own ?? (link.wasReset ? 'reset' : 'closed-by-peer')
    const next = links[0]
    if (next !== undefined) {
      this.#tell((events) => events.linkUp(next))
      this.#tell((events) => events.linkDown(link, reason, false))
      return
    }
    this.#peers.delete(nodeKey)
    this.#options.lost(nodeKey, this.#options.clock.nowMs() - link.upMs)
    this.#tell((events) => events.linkDown(link, reason, true))
  }

  // --- telling ------------------------------------------------------------------------------------------------------

  /** Nobody can be told apart before the proof: strangers share one key for each reason. */
  #mayTell(link: PeerLink, reason: RefusalReason): boolean {
    const peer = link.wasGreeted ? link.nodeKey : (link.url ?? 'stranger')
    const key = `${reason} ${peer}`
    const nowMs = this.#options.clock.nowMs()
    const toldMs = this.#toldMs.get(key)
    if (toldMs !== undefined && nowMs - toldMs < REFUSAL_QUIET_MS) return false
    this.#toldMs.delete(key)
    this.#toldMs.set(key, nowMs)
    dropOldest(this.#toldMs, REFUSALS_REMEMBERED_MAX)
    return true
  }

  #tell(event: (events: TransportEvents) => void): void {
    if (this.#events === null) return
    if (this.#depth > 0 || this.#waiting.length > 0) this.#waiting.push(event)
    else {
      this.#run(event)
      this.#tellWaiting()
    }
  }

  #run(event: (events: TransportEvents) => void): void {
    this.#depth++
    try {
      event(this.#events as TransportEvents)
    } finally {
      this.#depth--
    }
  }

  #tellWaiting(): void {
    while (this.#depth === 0) {
      const event = this.#waiting.shift()
      if (event === undefined) return
      this.#run(event)
    }
  }
}

function sameProcess(a: Link['hello'], b: Link['hello']): boolean {
  return a.storageId === b.storageId && a.bootId === b.bootId
}

/** A Map keeps the order of insertion: the first is the oldest. */
function dropOldest<K, V>(map: Map<K, V>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) return
    map.delete(key)
  }
}
