/**
 * What a node knows of the others: links, the newest record of every disk, claims of live peers. Pure, and only in
 * memory: after a restart the others tell it again.
 */
import type { PeerIdentity } from '../raft/types.ts'
import { type Candidate, firstClique } from './candidates.ts'
import {
  diskOf,
  type Founder,
  type FoundingMessage,
  type FoundingRecord,
  founderOf,
  type KnownRecord,
  sameDisk,
} from './record.ts'
import type { Claim } from './rules.ts'

/** Disks remembered; beyond it the oldest one without a link is forgotten. It will tell again. */
const DISKS_MAX = 256

export interface PeerHello {
  readonly storageId: string
  readonly bootId: string
  readonly clusterId: string | null
  readonly name: string
  readonly urls: readonly string[]
  /** Absent: 1. */
  readonly featureLevel?: number
}

export interface Peer extends PeerIdentity, PeerHello {
  /** The newest message over this link, null before the first. */
  message: FoundingMessage | null
}

/** What this node was started for. */
export interface Mode {
  readonly self: PeerIdentity & { readonly name: string; readonly urls: () => readonly string[] }
  readonly expect: number
  /** Ascending. */
  readonly founders: readonly string[] | null
  readonly foundersHash: string | null
  /** N: the number of `founders`, else `expect`. */
  readonly size: number
  readonly mayFound: boolean
  readonly inviteClusterId: string | null
}

function byKey(a: { readonly nodeKey: string }, b: { readonly nodeKey: string }): number {
  return a.nodeKey < b.nodeKey ? -1 : 1
}

export class Knowledge {
  readonly #mode: Mode
  readonly #peers = new Map<string, Peer>()
  /** By disk. Invariant: a record here was durable on its disk. A copy of my own may be among them (F8). */
  readonly #records = new Map<string, KnownRecord>()
  readonly #claims = new Map<string, Claim>()
  readonly #seen = new Map<string, { atMs: number; url: string | null }>()

  constructor(mode: Mode) {
    this.#mode = mode
  }

  get peers(): readonly Peer[] {
    return [...this.#peers.values()]
  }

  /** The highest feature level that a linked peer supports. */
  levelOf(nodeKey: string): number {
    return this.#peers.get(nodeKey)?.featureLevel ?? 1
  }

  get records(): readonly KnownRecord[] {
    return [...this.#records.values()]
  }

  get claims(): readonly Claim[] {
    return [...this.#claims.values()]
  }

  peer(nodeKey: string): Peer | undefined {
    return this.#peers.get(nodeKey)
  }

  recordOf(disk: PeerIdentity): FoundingRecord | undefined {
    return this.#records.get(diskOf(disk))?.record
  }

  isHere(disk: PeerIdentity): boolean {
    if (sameDisk(disk, this.#mode.self)) return true
    return this.#peers.get(disk.nodeKey)?.storageId === disk.storageId
  }

  lastSeen(nodeKey: string): { readonly atMs: number; readonly url: string | null } | null {
    return this.#seen.get(nodeKey) ?? null
  }

  linkUp(nodeKey: string, hello: PeerHello): void {
    const { storageId, bootId, clusterId, name, urls, featureLevel = 1 } = hello
    const shown = { storageId, bootId, clusterId, name, urls, featureLevel }
    this.#peers.set(nodeKey, { nodeKey, ...shown, message: null })
  }

  linkDown(nodeKey: string): void {
    this.#peers.delete(nodeKey)
  }

  saw(nodeKey: string, nowMs: number): void {
    if (this.#seen.size >= DISKS_MAX && !this.#seen.has(nodeKey)) return
    this.#seen.set(nodeKey, { atMs: nowMs, url: this.#peers.get(nodeKey)?.urls[0] ?? null })
  }

  /** False when it was known already. */
  claim(peer: PeerIdentity, clusterId: string): boolean {
    const disk = diskOf(peer)
    if (this.#claims.get(disk)?.clusterId === clusterId) return false
    if (this.#claims.size >= DISKS_MAX && !this.#claims.has(disk)) return false
    this.#claims.set(disk, { nodeKey: peer.nodeKey, storageId: peer.storageId, clusterId })
    return true
  }

  /** Keeps the newest record of each disk; `needed` disks are never forgotten to make room. False when it was no news. */
  learn(known: KnownRecord, needed: readonly PeerIdentity[]): boolean {
    const disk = diskOf(known)
    const before = this.#records.get(disk)
    if (before !== undefined && before.record.seq >= known.record.seq) return false
    const isFull = before === undefined && this.#records.size >= DISKS_MAX
    if (isFull && !this.#forgetOne(needed)) return false
    this.#records.set(disk, known)
    return true
  }

  #forgetOne(needed: readonly PeerIdentity[]): boolean {
    for (const [disk, known] of this.#records) {
      if (this.isHere(known) || needed.some((other) => sameDisk(other, known))) continue
      this.#records.delete(disk)
      return true
    }
    return false
  }

  /** Others' records to pass on, those of linked peers first. */
  relayed(max: number): readonly KnownRecord[] {
    const distance = (known: KnownRecord) => (this.isHere(known) ? 0 : 1)
    return this.records
      .filter((known) => !sameDisk(known, this.#mode.self))
      .sort((a, b) => distance(a) - distance(b))
      .slice(0, max)
  }

  /** Every key heard of, linked or not (F9). */
  knownKeys(): readonly string[] {
    const keys = new Set(this.records.map((known) => known.nodeKey))
    for (const peer of this.#peers.values()) {
      keys.add(peer.nodeKey)
      for (const key of peer.message?.linkedTo ?? []) keys.add(key)
    }
    return [...keys].sort()
  }

  /** Linked peers that are not bound and were started to found the same way, ascending by key. */
  agreeing(): readonly Peer[] {
    const { expect, founders, foundersHash, mayFound } = this.#mode
    if (!mayFound) return []
    const agrees = (peer: Peer): boolean => {
      const { message } = peer
      if (message === null || !message.mayFound) return false
      if (this.recordOf(peer)?.bound !== null || message.foundersHash !== foundersHash) return false
      return founders === null ? message.expect === expect : founders.includes(peer.nodeKey)
    }
    return this.peers.filter(agrees).sort(byKey)
  }

  /** `peers` and this node as candidates, ascending by key. */
  crowd(peers: readonly Peer[]): readonly Candidate[] {
    const me = { nodeKey: this.#mode.self.nodeKey, linkedTo: new Set(this.#peers.keys()) }
    const crowd = peers.map(({ nodeKey, message }) => ({
      nodeKey,
      linkedTo: new Set(message?.linkedTo ?? []),
    }))
    return [...crowd, me].sort(byKey)
  }

  /** The set that could found now, this node being free: the first N connected free peers, or null. */
  clique(agreeing: readonly Peer[]): readonly Founder[] | null {
    const { self, mayFound, founders, size } = this.#mode
    if (!mayFound || founders?.includes(self.nodeKey) === false) return null
    const free = agreeing.filter((peer) => this.recordOf(peer)?.pledge === null)
    const keys = firstClique(this.crowd(free), size)
    if (keys === null) return null
    return keys.map((key) => {
      if (key === self.nodeKey) return founderOf(self, { name: self.name, urls: self.urls() })
      const peer = this.#peers.get(key) as Peer
      return founderOf(peer, peer.message?.self ?? peer)
    })
  }
}
