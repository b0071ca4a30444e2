/**
 * Discovery introduces, it does not keep: it turns a topic's discovery key into hints of who might be there. A hint is
 * never believed, only dialled. Each implementation is one file and passes test/contract/discovery.
 */

export interface Hint {
  /** 64 hex digits when the source knows it, else null. */
  readonly nodeKey: string | null
  /** ws:// or wss:// address of the node's one port. */
  readonly url: string
  readonly source: DiscoveryName
}

export type DiscoveryName = 'dht' | 'lan' | 'local' | 'seeds' | 'remembered'

/** What a node announces about itself. */
export interface Announcement {
  /** 32 bytes; all that a DHT ever sees of a topic. */
  readonly discoveryKey: Uint8Array
  /** Ed25519 key pair of the node: 32 byte public key, 64 byte secret key (libsodium layout). */
  readonly keyPair: { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array }
  /** The TCP port of the node's one listener; 0: it only looks and announces nothing. */
  readonly port: number
  /** The host the listener is bound to: `0.0.0.0`, `::`, or one address. */
  readonly host: string
  /** What the node believes its reachable URLs are, best first. */
  readonly urls: readonly string[]
}

export interface DiscoveryEvents {
  hint(hint: Hint): void
  /** Every source calls this once it has looked everywhere it knows once, found or not (FOUNDING F9). */
  swept(): void
  /** Something worth a log line: a port in use, no multicast here. Discovery goes on without it. */
  warning(code: string, detail: string): void
}

export interface Discovery {
  readonly name: DiscoveryName
  /** Starts announcing and looking. Returns at once. Called at most once. */
  announce(self: Announcement, events: DiscoveryEvents): void
  /** Told while nodes are missing (`true`: look eagerly, every second) or all are there (`false`: back off). */
  eager(wanted: boolean): void
  /** Idempotent; withdraws the announcement where that is possible, within 2 s. */
  close(): Promise<void>
}
