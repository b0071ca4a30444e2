/**
 * The transport of one simulated process: the links that those above it see, one to each peer. Everything that happens on them is
 * decided by the network (sim-network.ts).
 */
import { type PeerId, type PeerIdentity, peerIdOf } from '../raft/types.ts'
import type {
  Hello,
  Link,
  LinkDownReason,
  PeerFrame,
  Transport,
  TransportEvents,
} from '../transport/transport.ts'

/** The process behind an endpoint: its events happen in its own time, and not at all once it is dead. */
export interface EndpointOwner extends PeerIdentity {
  readonly index: number
  readonly hello: Hello
  /** As in the hello. */
  readonly clusterId: string | null
  /** False while it stands still: nothing is answered, everything waits. */
  readonly isRunning: boolean
  run(event: () => void): void
  /** The process may die at this effect; false: it has, and the effect does not happen. */
  boundary(name: string): boolean
}

export interface End {
  readonly owner: EndpointOwner
  readonly endpoint: SimTransport
  link: SimLink | null
  heardUs: number
}

/** One connection: two ends, and what is under way on it. */
export interface Wire {
  readonly a: End
  readonly b: End
  closed: boolean
}

export class SimLink implements Link {
  readonly linkId: number
  readonly carrier = 'direct'
  readonly rttMs = null
  hello: Hello
  readonly wire: Wire

  constructor(linkId: number, hello: Hello, wire: Wire) {
    this.linkId = linkId
    this.hello = hello
    this.wire = wire
  }
}

/** What a transport asks of the network. */
export interface Medium {
  joined(endpoint: SimTransport): void
  left(endpoint: SimTransport): void
  send(from: SimTransport, wire: Wire, frames: readonly PeerFrame[]): boolean
  /** Whether a ping over the link between them would be answered now. */
  answers(a: EndpointOwner, b: EndpointOwner): boolean
  clusterIdSet(from: SimTransport): void
  closeByUs(wire: Wire, endpoint: SimTransport): void
}

/** The links of one process. */
export class SimTransport implements Transport {
  readonly owner: EndpointOwner
  events: TransportEvents | null = null
  /** Machines that were never yet dialled to an end. */
  readonly undialled = new Set<number>()
  readonly #network: Medium
  readonly #wires = new Map<number, Wire>()
  readonly #byKey = new Map<string, Wire>()
  /** By place of the peer: what those above see as the link to it. */
  readonly #shown = new Map<number, End>()
  /** The newest start seen of each disk. */
  readonly #boots = new Map<PeerId, Hello>()

  constructor(network: Medium, owner: EndpointOwner) {
    this.#network = network
    this.owner = owner
  }

  get pendingDials(): number {
    return this.undialled.size
  }

  get links(): readonly Link[] {
    return [...this.#wires.values()].flatMap((wire) => {
      const { link } = ownEnd(wire, this)
      return link === null ? [] : [link]
    })
  }

  start(events: TransportEvents): void {
    this.events = events
    this.#network.joined(this)
  }

  hint(): void {}

  keep(): void {}

  send(peer: PeerIdentity, frames: readonly PeerFrame[]): boolean {
    const wire = this.#byKey.get(peer.nodeKey)
    if (wire === undefined || wire.closed || ownEnd(wire, this).link === null) return false
    if (otherEnd(wire, this).owner.storageId !== peer.storageId) return false
    return this.#network.send(this, wire, frames)
  }

  /** The hello is the process's own and shows the clusterId already. */
  setClusterId(): void {
    this.#network.clusterIdSet(this)
  }

  /** Every machine of a world supports the same. */
  requireLevel(): void {}

  disconnect(link: Link): void {
    this.#network.closeByUs((link as SimLink).wire, this)
  }

  async close(): Promise<void> {
    this.#network.left(this)
  }

  // --- for the network ----------------------------------------------------------------------------------------------

  wireTo(index: number): Wire | undefined {
    return this.#wires.get(index)
  }

  wires(): Wire[] {
    return [...this.#wires.values()]
  }

  adopt(index: number, wire: Wire): void {
    this.#wires.set(index, wire)
    this.#byKey.set(otherEnd(wire, this).owner.nodeKey, wire)
  }

  forget(index: number): void {
    const wire = this.#wires.get(index)
    if (wire !== undefined) this.drop(wire)
  }

  /** Up for those above. A link to the same peer that has not been noticed to be dead gives way. */
  show(index: number, end: End): void {
    const before = this.#shown.get(index)
    const link = end.link as SimLink
    this.#shown.set(index, end)
    this.#boots.set(peerIdOf(link.hello), link.hello)
    this.events?.linkUp(link)
    if (before !== undefined && before !== end) this.hide(before, 'replaced')
  }

  /** Why this process would take that one for a copy of a disk it knows, as link-table.ts does; null when it would not. */
  copyOf(hello: Hello): string | null {
    const { nodeKey, bootId, bootCounter, name } = hello
    if (nodeKey === this.owner.nodeKey) return 'another process has the key of this node'
    const wire = this.#byKey.get(nodeKey)
    const other = wire === undefined ? null : otherEnd(wire, this).owner
    if (
      other !== null &&
      other.hello.bootId !== bootId &&
      this.#network.answers(this.owner, other)
    ) {
      return `two processes have the key of ${name}: ${nodeKey}`
    }
    const seen = this.#boots.get(peerIdOf(hello))
    const isOld = seen !== undefined && seen.bootId !== bootId && bootCounter <= seen.bootCounter
    return isOld ? `a copy of the data directory of ${name} was started: ${nodeKey}` : null
  }

  hide(end: End, reason: LinkDownReason): void {
    const { link } = end
    if (link === null) return
    end.link = null
    const index = otherEnd(link.wire, this).owner.index
    const last = this.#shown.get(index) === end
    if (last) this.#shown.delete(index)
    this.events?.linkDown(link, reason, last)
  }

  drop(wire: Wire): void {
    const { owner } = otherEnd(wire, this)
    if (this.#wires.get(owner.index) !== wire) return
    this.#wires.delete(owner.index)
    this.#byKey.delete(owner.nodeKey)
  }
}

export function ownEnd(wire: Wire, endpoint: SimTransport): End {
  return wire.a.endpoint === endpoint ? wire.a : wire.b
}

export function otherEnd(wire: Wire, endpoint: SimTransport): End {
  return wire.a.endpoint === endpoint ? wire.b : wire.a
}
