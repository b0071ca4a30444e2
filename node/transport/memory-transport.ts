/**
 * A network in memory with the links of production: the same proofs, hellos, codec, dialer and link table, over queues in place
 * of sockets and with keys that are believed instead of proved. By itself nothing moves: `deliver` carries what was sent, `advance`
 * lets time pass, in an order that depends on nothing but the calls. `runFreely` does both by the wall clock.
 */
import { createHash } from 'node:crypto'
import type { Channel, ChannelEvents, Clock } from './channel.ts'
import { type Carrier, PeerTransport, type TransportOptions } from './peer-transport.ts'
import type { Transport } from './transport.ts'

/** What a sender may have under way on one connection before it has to wait. */
const WINDOW_BYTES = 256 * 1024
const FREE_STEP_MS = 2

interface Step {
  /** Steps of one lane keep their order: what one end of a connection is to receive. */
  readonly lane: object
  readonly run: () => void
}

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
}

export class MemoryNetwork {
  #nowMs = 0
  #order = 0
  #queue: Step[] = []
  readonly #choose: ((count: number) => number) | null
  readonly #timers = new Set<Timer>()
  /** By node key: who is started and under which addresses. */
  readonly #listeners = new Map<string, MemoryCarrier>()
  readonly #connections = new Set<Connection>()
  readonly #cuts = new Set<string>()
  readonly clock: Clock = {
    nowMs: () => this.#nowMs,
    later: (delayMs, run) => {
      const timer = { atMs: this.#nowMs + delayMs, order: this.#order++, run }
      this.#timers.add(timer)
      return () => this.#timers.delete(timer)
    },
  }

  /** `choose` picks which of so many connections delivers next; without it everything arrives in the order it was sent. */
  constructor(choose: ((count: number) => number) | null = null) {
    this.#choose = choose
  }

  /** Connections that are open at one end at least. */
  get connections(): number {
    return this.#connections.size
  }

  /** Answers under the URLs it has at the time of a dial, once it is started. */
  createTransport(options: TransportOptions): Transport {
    const nodeKey = Buffer.from(options.keyPair.publicKey).toString('hex')
    const carrier: MemoryCarrier = new MemoryCarrier(this, nodeKey, options.urls)
    const transport = new PeerTransport(options, carrier)
    carrier.accept = (channel) => {
      if (!transport.accepts) return false
      transport.accept(channel)
      return true
    }
    this.#listeners.set(carrier.id, carrier)
    return transport
  }

  /** Carries what is under way, and what that leads to, until nothing is left or `max` steps were made. Returns the steps. */
  deliver(max = Number.POSITIVE_INFINITY): number {
    let steps = 0
    for (; steps < max; steps++) {
      const step = this.#nextStep()
      if (step === undefined) break
      step.run()
    }
    return steps
  }

  #nextStep(): Step | undefined {
    if (this.#choose === null || this.#queue.length < 2) return this.#queue.shift()
    const firsts = new Map<object, number>()
    for (const [place, { lane }] of this.#queue.entries()) {
      if (!firsts.has(lane)) firsts.set(lane, place)
    }
    const places = [...firsts.values()]
    return this.#queue.splice(places[this.#choose(places.length)] as number, 1)[0]
  }

  /** Lets time pass; timers run in order of their time, and what they send is delivered before a later one. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms
    this.deliver()
    for (let timer = this.#nextTimer(endMs); timer !== null; timer = this.#nextTimer(endMs)) {
      this.#timers.delete(timer)
      this.#nowMs = Math.max(this.#nowMs, timer.atMs)
      timer.run()
      if (this.#nextTimer(this.#nowMs) === null) this.deliver()
    }
    this.#nowMs = endMs
  }

  /** Advances with the wall clock until the returned function is called. */
  runFreely(): () => void {
    let lastMs = performance.now()
    const timer = setInterval(() => {
      const nowMs = performance.now()
      this.advance(nowMs - lastMs)
      lastMs = nowMs
    }, FREE_STEP_MS)
    return () => clearInterval(timer)
  }

  /** Between these two nodes nothing arrives any more and no dial ends well. Their connections stay half open. */
  cut(nodeKeyA: string, nodeKeyB: string): void {
    this.#cuts.add(pairOf(nodeKeyA, nodeKeyB))
    for (const connection of this.#connections) {
      if (connection.pair === pairOf(nodeKeyA, nodeKeyB)) connection.isCut = true
    }
  }

  /** New dials work again; connections that were cut stay dead, as half-open ones do. */
  heal(nodeKeyA: string, nodeKeyB: string): void {
    this.#cuts.delete(pairOf(nodeKeyA, nodeKeyB))
  }

  // --- for carriers -------------------------------------------------------------------------------------------------

  enqueue(lane: object, run: () => void): void {
    this.#queue.push({ lane, run })
  }

  remove(carrier: MemoryCarrier): void {
    this.#listeners.delete(carrier.id)
    for (const connection of this.#connections) connection.closeEndsOf(carrier)
  }

  connect(from: MemoryCarrier, url: string): Channel | null {
    for (const to of this.#listeners.values()) {
      if (!to.urls().includes(url) || this.#cuts.has(pairOf(from.nodeKey, to.nodeKey))) continue
      const connection = new Connection(this, from, to, this.#order++)
      if (!to.accept(connection.accepted)) continue
      this.#connections.add(connection)
      connection.open()
      return connection.dialled
    }
    return null
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection)
  }

  #nextTimer(endMs: number): Timer | null {
    let next: Timer | null = null
    for (const timer of this.#timers) {
      if (timer.atMs > endMs) continue
      if (next === null || timer.atMs < next.atMs) next = timer
      else if (timer.atMs === next.atMs && timer.order < next.order) next = timer
    }
    return next
  }
}

let carriers = 0

class MemoryCarrier implements Carrier {
  readonly id = `${carriers++}`
  readonly nodeKey: string
  readonly urls: () => readonly string[]
  readonly clock: Clock
  readonly #network: MemoryNetwork
  accept: (channel: Channel) => boolean = () => false

  constructor(network: MemoryNetwork, nodeKey: string, urls: () => readonly string[]) {
    this.#network = network
    this.nodeKey = nodeKey
    this.urls = urls
    this.clock = network.clock
  }

  connect(url: string, connected: (channel: Channel | null) => void): () => void {
    let ended = false
    this.#network.enqueue({}, () => {
      if (ended) return
      ended = true
      connected(this.#network.connect(this, url))
    })
    return () => {
      if (ended) return
      ended = true
      connected(null)
    }
  }

  async close(): Promise<void> {
    this.#network.remove(this)
  }
}

class Connection {
  readonly pair: string
  readonly dialled: End
  readonly accepted: End
  isCut = false
  readonly #network: MemoryNetwork
  readonly #hash: Uint8Array

  constructor(network: MemoryNetwork, from: MemoryCarrier, to: MemoryCarrier, order: number) {
    this.#network = network
    this.pair = pairOf(from.nodeKey, to.nodeKey)
    this.#hash = createHash('sha256').update(`${this.pair} ${order}`).digest()
    this.dialled = new End(this, from)
    this.accepted = new End(this, to)
  }

  open(): void {
    for (const end of [this.dialled, this.accepted]) {
      this.carry(end, () => end.events?.open(this.otherEnd(end).owner.nodeKey, this.#hash))
    }
  }

  otherEnd(end: End): End {
    return end === this.dialled ? this.accepted : this.dialled
  }

  carry(to: End, step: () => void): void {
    this.#network.enqueue(to, () => {
      if (!this.isCut) step()
    })
  }

  closeEndsOf(carrier: MemoryCarrier): void {
    for (const end of [this.dialled, this.accepted]) if (end.owner === carrier) end.close()
  }

  ended(): void {
    if (this.dialled.isClosed && this.accepted.isClosed) this.#network.forget(this)
  }
}

class End implements Channel {
  readonly owner: MemoryCarrier
  readonly #connection: Connection
  /** Null once closed: nothing reaches a closed end. */
  events: ChannelEvents | null = null
  isClosed = false
  pendingBytes = 0
  receivedBytes = 0
  #wantsDrain = false

  constructor(connection: Connection, owner: MemoryCarrier) {
    this.#connection = connection
    this.owner = owner
  }

  start(events: ChannelEvents): void {
    this.events = events
  }

  write(bytes: Uint8Array): boolean {
    if (this.isClosed) return false
    this.pendingBytes += bytes.length
    // The receiver may keep its bytes, the sender may not change what is under way.
    const copy = bytes.slice()
    this.#connection.carry(this.#connection.otherEnd(this), () => {
      this.pendingBytes -= copy.length
      this.#connection.otherEnd(this).receivedBytes += copy.length
      this.#connection.otherEnd(this).events?.message(copy)
      if (!this.#wantsDrain || this.pendingBytes > WINDOW_BYTES / 2) return
      this.#wantsDrain = false
      this.events?.drain()
    })
    this.#wantsDrain = this.pendingBytes > WINDOW_BYTES
    return !this.#wantsDrain
  }

  trust(): void {}

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.events = null
    const other = this.#connection.otherEnd(this)
    this.#connection.carry(other, () => {
      const { events } = other
      if (other.isClosed) return
      other.isClosed = true
      other.events = null
      this.#connection.ended()
      events?.closed(false)
    })
    this.#connection.ended()
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`
}
