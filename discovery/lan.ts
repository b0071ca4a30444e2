/**
 * Discovery on the local network by multicast DNS, with no address known: one socket per own IPv4 interface. It finds
 * WebSocket endpoints and the DHT nodes of the others. A node whose listener is on loopback sends nothing: nobody out
 * there could reach it, and `local` serves this machine.
 */
import b4a from 'b4a'
import {
  type Endpoint,
  isHostIPv4,
  isLoopback,
  isWildcard,
  ownIPv4,
  urlOf,
  watchAddresses,
} from './addresses.ts'
import type { Announcement, Discovery, DiscoveryEvents } from './discovery.ts'
import {
  answerOf,
  answersIn,
  asksFor,
  type LanPacket,
  questionFor,
  serviceNameOf,
} from './lan-packet.ts'
import { Pace } from './pace.ts'

const PACE = { eagerMs: 1000, quietMsMin: 30_000, quietMsMax: 5 * 60_000 }
/** Members answer within milliseconds; a second question covers a lost packet. */
const SWEEP_PAUSE_MS = 400
/** One answer serves everybody who asked lately. */
const ANSWER_GAP_MS = 250
/** Per second and socket, against floods. */
const PACKETS_PER_SECOND_MAX = 200
/** Own questions come back by multicast loopback. So many missing in a row: the membership is gone. */
const DEAF_AFTER = 4

export interface LanOptions {
  /** A DHT storage node of a member, at the address its answer came from. */
  readonly onDhtNode?: (host: string, port: number) => void
  /** Where the own DHT storage node is, null while there is none. */
  readonly dhtAddress?: () => Endpoint | null
}

export interface LanDiscovery extends Discovery {
  /** Looks and answers anew at once: something about this node has changed. */
  refresh(): void
}

/** What this file uses of a multicast-dns instance. */
interface Mdns {
  on(event: 'query' | 'response', listener: (packet: LanPacket, from: Sender) => void): void
  on(event: 'error' | 'warning', listener: (error: Error) => void): void
  query(questions: unknown, done?: (error: Error | null) => void): void
  respond(answer: unknown, done?: (error: Error | null) => void): void
  destroy(done?: () => void): void
}

interface Sender {
  readonly address: string
}

type OpenMdns = (options: Record<string, unknown>) => Mdns

interface Ear {
  readonly address: string
  readonly mdns: Mdns
  failed: boolean
  /** Questions sent since something of the own service was heard here. */
  unheard: number
  answeredMs: number
  answerTimer: ReturnType<typeof setTimeout> | null
  secondStartMs: number
  packets: number
}

export function createLanDiscovery(options: LanOptions = {}): LanDiscovery {
  return new Lan(options)
}

class Lan implements LanDiscovery {
  readonly name = 'lan'
  readonly #options: LanOptions
  readonly #pace = new Pace(PACE)
  /** By the address of the interface. */
  readonly #ears = new Map<string, Ear>()
  readonly #warned = new Set<string>()
  #self: Announcement | null = null
  #events: DiscoveryEvents | null = null
  #service = ''
  #nodeKey = ''
  #loop: Promise<void> = Promise.resolve()
  #unwatch: () => void = () => {}
  #closing: Promise<void> | null = null

  constructor(options: LanOptions) {
    this.#options = options
  }

  announce(self: Announcement, events: DiscoveryEvents): void {
    if (this.#events !== null) throw new Error('announce is called once')
    if (this.#pace.closed) return
    this.#self = self
    this.#events = events
    this.#service = serviceNameOf(self.discoveryKey)
    this.#nodeKey = b4a.toString(self.keyPair.publicKey, 'hex')
    if (isLoopback(self.host)) {
      queueMicrotask(() => this.#sweep())
      return
    }
    this.#unwatch = watchAddresses(() => this.#pace.wake())
    this.#loop = this.#run(self)
  }

  eager(wanted: boolean): void {
    this.#pace.eager(wanted)
  }

  refresh(): void {
    for (const ear of this.#ears.values()) this.#answerSoon(ear)
    this.#pace.wake()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #run(self: Announcement): Promise<void> {
    const { default: open } = await import('multicast-dns')
    this.#look(open as unknown as OpenMdns, self)
    await this.#pace.pause(SWEEP_PAUSE_MS)
    this.#look(open as unknown as OpenMdns, self)
    await this.#pace.pause(SWEEP_PAUSE_MS)
    this.#sweep()
    while (!this.#pace.closed) {
      await this.#pace.wait()
      this.#look(open as unknown as OpenMdns, self)
    }
  }

  #look(open: OpenMdns, self: Announcement): void {
    if (this.#pace.closed) return
    const wanted = new Set(isWildcard(self.host) ? ownIPv4() : [self.host].filter(isHostIPv4))
    if (wanted.size === 0) this.#warn('lan-no-network', 'no IPv4 interface but loopback yet')
    for (const [address, ear] of this.#ears) {
      if (!ear.failed && ear.unheard >= DEAF_AFTER) {
        // After a network was disconnected and connected again the membership is gone although the address is back.
        this.#warn('lan-deaf', `own multicast on ${address} is not heard; joining again`)
      }
      if (!wanted.has(address) || ear.failed || ear.unheard >= DEAF_AFTER) this.#drop(address, ear)
    }
    for (const address of wanted) {
      const isNew = !this.#ears.has(address)
      const ear = this.#ears.get(address) ?? this.#listen(open, address)
      ear.unheard++
      ear.mdns.query(questionFor(this.#service), (error) => this.#sent(address, error))
      // Members that have backed off do not ask: they are told.
      if (isNew) this.#answerSoon(ear)
    }
  }

  #listen(open: OpenMdns, address: string): Ear {
    const mdns = open({ interface: address, bind: '0.0.0.0' })
    const ear: Ear = {
      address,
      mdns,
      failed: false,
      unheard: 0,
      answeredMs: 0,
      answerTimer: null,
      secondStartMs: 0,
      packets: 0,
    }
    this.#ears.set(address, ear)
    mdns.on('error', (error) => {
      ear.failed = true
      this.#warn('lan-failed', `multicast DNS on ${address}: ${error.message}`)
    })
    // A stranger's malformed packet, or a membership that could not be joined: multicast-dns tries that again itself.
    mdns.on('warning', () => {})
    mdns.on('query', (packet) => {
      if (this.#flooded(ear) || !asksFor(packet, this.#service)) return
      ear.unheard = 0
      this.#answerSoon(ear)
    })
    mdns.on('response', (packet, from) => {
      if (!this.#flooded(ear)) this.#heard(packet, from)
    })
    return ear
  }

  #heard(packet: LanPacket, from: Sender): void {
    if (this.#pace.closed || !isHostIPv4(from.address)) return
    for (const answer of answersIn(packet, this.#service)) {
      if (answer.nodeKey === this.#nodeKey) continue
      if (answer.dhtPort !== null) this.#options.onDhtNode?.(from.address, answer.dhtPort)
      const url = urlOf({ host: from.address, port: answer.port }, answer.tls ? 'wss' : 'ws')
      this.#events?.hint({ nodeKey: answer.nodeKey, url, source: 'lan' })
    }
  }

  #flooded(ear: Ear): boolean {
    const nowMs = Date.now()
    if (nowMs - ear.secondStartMs >= 1000) {
      ear.secondStartMs = nowMs
      ear.packets = 0
    }
    return ++ear.packets > PACKETS_PER_SECOND_MAX
  }

  #answerSoon(ear: Ear): void {
    if (ear.answerTimer !== null || this.#pace.closed || this.#self?.port === 0) return
    const waitMs = Math.max(0, ear.answeredMs + ANSWER_GAP_MS - Date.now())
    ear.answerTimer = setTimeout(() => {
      ear.answerTimer = null
      ear.answeredMs = Date.now()
      const self = this.#self
      if (self === null || ear.failed) return
      const tls = self.urls[0]?.startsWith('wss:') === true
      // Others take the sender's address for it: said only where that is the one the node is bound to.
      const dht = this.#options.dhtAddress?.() ?? null
      const dhtPort = dht?.host === ear.address ? dht.port : null
      const { port } = self
      ear.mdns.respond(answerOf(this.#service, { nodeKey: this.#nodeKey, port, dhtPort, tls }))
    }, waitMs)
  }

  #sent(address: string, error: Error | null): void {
    if (error === null || error === undefined) return
    this.#warn('lan-failed', `multicast DNS on ${address}: ${error.message}`)
  }

  #drop(address: string, ear: Ear): Promise<void> {
    this.#ears.delete(address)
    if (ear.answerTimer !== null) clearTimeout(ear.answerTimer)
    return new Promise((resolve) => {
      try {
        ear.mdns.destroy(resolve)
      } catch {
        // A socket that could not be bound is closed already.
        resolve()
      }
    })
  }

  #sweep(): void {
    if (!this.#pace.closed) this.#events?.swept()
  }

  #warn(code: string, detail: string): void {
    const key = `${code} ${detail}`
    if (this.#warned.has(key) || this.#pace.closed) return
    this.#warned.add(key)
    this.#events?.warning(code, detail)
  }

  async #close(): Promise<void> {
    this.#unwatch()
    this.#pace.close()
    await Promise.all([...this.#ears].map(([address, ear]) => this.#drop(address, ear)))
    await this.#loop
  }
}
