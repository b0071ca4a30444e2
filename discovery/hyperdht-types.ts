/** What this project uses of hyperdht and hyperswarm, which ship no types. Types only. */
import type { EventEmitter } from 'node:events'
import type { Endpoint } from './addresses.ts'

export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

export interface AnnouncedPeer {
  readonly publicKey: Uint8Array
  readonly relayAddresses: readonly Endpoint[]
}

/** A running query: an async iterable of the nodes' replies that can be cut short. */
export interface Query extends AsyncIterable<{ readonly peers: readonly AnnouncedPeer[] }> {
  destroy(): void
  finished(): Promise<void>
}

export interface QueryOptions {
  readonly retries?: number
}

export interface HyperDhtNode extends EventEmitter {
  bootstrapNodes: Endpoint[]
  readonly bootstrapped: boolean
  readonly ephemeral: boolean
  readonly host: string | null
  bind(): Promise<void>
  address(): Endpoint | null
  addNode(node: Endpoint): void
  toArray(): Endpoint[]
  refresh(): void
  query(request: unknown, options?: QueryOptions): Query
  announce(
    target: Uint8Array,
    keyPair: KeyPair,
    addresses: readonly Endpoint[],
    options?: QueryOptions,
  ): Query
  lookup(target: Uint8Array, options?: QueryOptions): Query
  unannounce(target: Uint8Array, keyPair: KeyPair, options?: QueryOptions): Promise<void>
  destroy(options?: { force?: boolean }): Promise<void>
  /** Private API, the reason why the package's version is pinned. */
  _backgroundQuery(target: Uint8Array): Query & { retries: number }
  _filterNode: ((node: Endpoint) => boolean) | null
  readonly io: { readonly networkInterfaces: { destroy(): void } }
}

export interface HyperDhtClass {
  new (options: Record<string, unknown>): HyperDhtNode
  bootstrapper(port: number, host: string, options: Record<string, unknown>): HyperDhtNode
  /** `address@name:port` of the public network. */
  readonly BOOTSTRAP: readonly string[]
}

export interface SwarmStream extends EventEmitter {
  readonly remotePublicKey: Uint8Array
  readonly rawStream: { readonly remoteHost: string | null } | null
  write(bytes: Uint8Array): boolean
  destroy(): void
}

export interface SwarmSession {
  refresh(): Promise<boolean>
}

export interface Swarm extends EventEmitter {
  readonly connections: ReadonlySet<SwarmStream>
  join(topic: Uint8Array, options: { server: boolean; client: boolean }): SwarmSession
  destroy(options?: { force?: boolean }): Promise<void>
}

export type SwarmClass = new (options: {
  dht: HyperDhtNode
  keyPair: KeyPair
  maxPeers: number
}) => Swarm
