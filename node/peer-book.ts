/**
 * Which links are up, and under which addresses each member was last seen. A member's URLs in the configuration are those of the
 * day it entered; what it says on its links is newer.
 */
import { type Member, type PeerId, type PeerIdentity, peerIdOf } from './raft/types.ts'
import type { Link } from './transport/transport.ts'

/** Peers whose addresses are remembered: four times what a cluster has members. */
const PEERS_KEPT_MAX = 256

export class PeerBook {
  readonly #links = new Map<PeerId, Link[]>()
  readonly #urls = new Map<PeerId, readonly string[]>()
  /** By link, while it is up: asked for with every frame. */
  readonly #peers = new Map<number, PeerId>()

  constructor(remembered: readonly Member[]) {
    for (const member of remembered) this.#urls.set(peerIdOf(member), member.urls)
  }

  /** Returns whether the peer's addresses are news. */
  linkUp(link: Link): boolean {
    const peer = peerIdOf(link.hello)
    this.#links.set(peer, [...(this.#links.get(peer) ?? []), link])
    this.#peers.set(link.linkId, peer)
    const before = this.#urls.get(peer)
    const { urls } = link.hello
    // Whoever came last is kept longest.
    this.#urls.delete(peer)
    this.#urls.set(peer, urls)
    for (const known of this.#urls.keys()) {
      if (this.#urls.size <= PEERS_KEPT_MAX) break
      if (!this.#links.has(known)) this.#urls.delete(known)
    }
    return before?.join() !== urls.join()
  }

  linkDown(link: Link): void {
    const peer = peerIdOf(link.hello)
    this.#peers.delete(link.linkId)
    const left = (this.#links.get(peer) ?? []).filter((other) => other.linkId !== link.linkId)
    if (left.length > 0) this.#links.set(peer, left)
    else this.#links.delete(peer)
  }

  /** Who is at the other end. */
  peerOf(link: Link): PeerId {
    return this.#peers.get(link.linkId) ?? peerIdOf(link.hello)
  }

  linkTo(peer: PeerId): Link | null {
    return this.#links.get(peer)?.[0] ?? null
  }

  /** The slowest round trip of all links, 0 while none is known. */
  get rttMsMax(): number {
    let slowest = 0
    for (const [link] of this.#links.values()) slowest = Math.max(slowest, link?.rttMs ?? 0)
    return slowest
  }

  identityOfKey(nodeKey: string): PeerIdentity | null {
    for (const [link] of this.#links.values()) {
      if (link?.hello.nodeKey === nodeKey) return link.hello
    }
    return null
  }

  urlsOf(member: Member): readonly string[] {
    const seen = this.#urls.get(peerIdOf(member))
    return seen !== undefined && seen.length > 0 ? seen : member.urls
  }

  /** The members with the addresses under which they were last seen. */
  withUrls(members: readonly Member[]): Member[] {
    return members.map((member) => ({ ...member, urls: this.urlsOf(member) }))
  }
}
