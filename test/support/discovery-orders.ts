/** What a test tells a discovery process to do, and the process itself as the test sees it. */
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { join } from 'node:path'
import crypto from 'hypercore-crypto'
import type { Endpoint } from '../../discovery/addresses.ts'
import type { DiscoverOptions } from '../../discovery/all.ts'
import type { DhtOptions } from '../../discovery/dht.ts'
import type { Announcement, Hint } from '../../discovery/discovery.ts'
import type { RememberedPeer } from '../../discovery/remembered.ts'
import { type Exit, eventually, ROOT, Running, type RuntimeName } from '../process/harness.ts'

export type Kind =
  | { readonly kind: 'dht'; readonly options: DhtOptions }
  | { readonly kind: 'lan'; readonly dht: Endpoint }
  | { readonly kind: 'local'; readonly directory: string; readonly dht: Endpoint }
  | { readonly kind: 'seeds'; readonly urls: readonly string[] }
  | { readonly kind: 'remembered'; readonly peers: readonly RememberedPeer[] }
  | { readonly kind: 'all'; readonly options: DiscoverOptions }

export interface Orders {
  readonly what: Kind
  readonly topic: string
  /** Makes the key pair: equal seeds, equal nodes. */
  readonly seed: number
  readonly host: string
  readonly port: number
  readonly urls: readonly string[]
}

export function keyPairOf(seed: number): Announcement['keyPair'] {
  return crypto.keyPair(Buffer.alloc(32, seed))
}

export function announcementOf({ topic, seed, host, port, urls }: Orders): Announcement {
  const discoveryKey = createHash('sha256').update(topic).digest()
  return { discoveryKey, keyPair: keyPairOf(seed), host, port, urls }
}

export function freeUdpPort(host = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4').once('error', reject)
    socket.bind(0, host, () => {
      const { port } = socket.address()
      socket.close(() => resolve(port))
    })
  })
}

const PROCESS = join(ROOT, 'test/support/discovery-process.ts')

function commandOf(runtime: RuntimeName): string[] {
  if (runtime === 'node') return [process.execPath, '--import', 'tsx', PROCESS]
  const binary = join(ROOT, 'node_modules/.bin', runtime)
  return runtime === 'bun' ? [binary, PROCESS] : [binary, 'run', '-A', PROCESS]
}

/** A running discovery process. */
export class Finder {
  readonly orders: Orders
  readonly running: Running

  constructor(orders: Orders, runtime: RuntimeName = 'node', prefix: readonly string[] = []) {
    this.orders = orders
    this.running = new Running({
      command: [...prefix, ...commandOf(runtime), JSON.stringify(orders)],
      cwd: ROOT,
      // The harness refuses to start anything that could use the public network.
      env: { RAFT_P2P_DHT: 'private' },
      stdin: true,
    })
  }

  get nodeKey(): string {
    return Buffer.from(keyPairOf(this.orders.seed).publicKey).toString('hex')
  }

  get hints(): Hint[] {
    return this.running.events.filter(({ event }) => event === 'hint') as unknown as Hint[]
  }

  tell(word: 'announce' | 'quiet' | 'eager' | 'close'): void {
    this.running.write(`${word}\n`)
  }

  announce(): this {
    this.tell('announce')
    return this
  }

  event(name: string): ReturnType<Running['waitForEvent']> {
    return this.running.waitForEvent(name)
  }

  /** Waits for a hint that leads to the other, and returns it. */
  finds(other: Finder, url = `ws://127.0.0.1:${other.orders.port}`): Promise<Hint> {
    return eventually(
      () => `a hint to ${url} of ${other.nodeKey}\n${this.running.tail()}`,
      () =>
        this.hints.find(
          (hint) => hint.url === url && (hint.nodeKey === null || hint.nodeKey === other.nodeKey),
        ),
    )
  }

  /** Closes it and waits until the process ended by itself. */
  async close(): Promise<Exit> {
    this.tell('close')
    await this.event('closed')
    return this.running.ended()
  }
}
