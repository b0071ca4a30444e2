/**
 * What the runtime sees of links. A link is one authenticated, encrypted, ordered stream of frames to one
 * peer. It exists only after Noise, the key comparison, the topic proof and the exchange of hellos: nobody above
 * this line ever sees an unproven peer. The WebSocket and the memory implementation pass one contract suite.
 */
import type { PeerFrame } from '../peer-frame.ts'
import type { PeerIdentity } from '../raft/types.ts'

export type { PeerFrame } from '../peer-frame.ts'

/** What each side says about itself right after the topic proof. */
export interface Hello extends PeerIdentity {
  /** Random per process start, 16 hex digits: two live copies of one identity differ in it. */
  readonly bootId: string
  /** Durable counter of starts of this data directory; a peer that sees it not rise has met a restored copy. */
  readonly bootCounter: number
  /** Null while blank. */
  readonly clusterId: string | null
  readonly name: string
  /** The highest that the sender supports (feature-level.ts). */
  readonly featureLevel: number
  /** Where the sender can be reached, best first. */
  readonly urls: readonly string[]
}

export interface Link {
  /** Unique within this process, never reused. */
  readonly linkId: number
  readonly hello: Hello
  readonly carrier: 'direct' | 'tunnelled'
  /** Smoothed round trip of the application-level echo in ms, null before the first. */
  readonly rttMs: number | null
}

export type LinkDownReason =
  | 'closed-by-peer'
  | 'reset'
  | 'echo-timeout'
  | 'replaced'
  | 'closed-by-us'
  | 'protocol-error'

export type RefusalReason =
  | 'wrong-topic'
  | 'wrong-key'
  | 'wrong-cluster'
  | 'handshake-timeout'
  | 'malformed'
  | 'clone'
  | 'version'

/** Callbacks are called one at a time, never from inside a call to the transport. */
export interface TransportEvents {
  linkUp(link: Link): void
  /** `last`: no other link to this peer identity remains. */
  linkDown(link: Link, reason: LinkDownReason, last: boolean): void
  frame(link: Link, frame: PeerFrame): void
  /** The peer on a live link now belongs to a cluster. */
  helloChanged(link: Link): void
  /** A peer or a dial target that was turned away, with everything known of it. For logs and alarms. */
  refused(info: {
    reason: RefusalReason
    url: string | null
    nodeKey: string | null
    detail: string
    /** Set for `wrong-cluster`: what the other side said it is. */
    clusterId: string | null
  }): void
}

/** Where somebody might be. Never believed, only dialled. */
export interface DialHint {
  readonly nodeKey: string | null
  readonly url: string
  readonly source: string
}

export interface Transport {
  /** Starts dialling and accepting. Idempotent. */
  start(events: TransportEvents): void
  /** Adds an address to dial. Known ones are ignored; a dead one is retried with back-off and jitter. */
  hint(hint: DialHint): void
  /**
   * Remembers a peer that must stay connected (a member): redialled for as long as it is kept.
   * Replaces the earlier list.
   */
  keep(peers: readonly { nodeKey: string; urls: readonly string[] }[]): void
  /** Number of hints that were never yet dialled to an end (success or failure): founding waits for 0 (F9). */
  readonly pendingDials: number
  /** All links up now. */
  readonly links: readonly Link[]
  /**
   * Queues frames for a peer; all frames of one turn leave in one write, raft heartbeats first. Returns false when
   * there is no link or its queue is full: the frames are dropped, as on a lossy network.
   */
  send(peer: PeerIdentity, frames: readonly PeerFrame[]): boolean
  /** The identity shown in hellos to later links changes when a node becomes bound; live links are told too. */
  setClusterId(clusterId: string): void
  /** The cluster uses this feature level: peers that support less are turned away. It only rises. */
  requireLevel(featureLevel: number): void
  disconnect(link: Link, reason: string): void
  /** Idempotent; resolves when every socket is closed. */
  close(): Promise<void>
}
