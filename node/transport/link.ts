/**
 * One link from the first byte to the last: Noise over any byte stream, the topic proof, hellos, then frames. It must never hand a
 * frame upwards, or tell who this node is, before the other side has proved that it knows the topic.
 */
import type { Duplex } from 'node:stream'
import SecretStream from '@hyperswarm/secret-stream'
import { decodeBatch, encodeBatch, frameBytes, MalformedFrame, type WireFrame } from './codec.ts'
import { decodeHello, encodeHello, isProof, type LinkRole, proofOf } from './hello.ts'
import type { Hello, Link, PeerFrame, RefusalReason } from './transport.ts'

export interface LinkOptions {
  readonly keyPair: { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array }
  readonly capability: Uint8Array
  readonly hello: () => Hello
  readonly handshakeMs: number
  /** Bytes that wait for the socket; beyond it `send` refuses. */
  readonly queueBytesMax: number
  /** One write at most; Noise messages end at 16 MiB. */
  readonly batchBytesMax: number
  readonly nowMs: () => number
}

export interface LinkEvents {
  /** Proof and hello were accepted. Not yet visible above: the transport decides whether it keeps this one. */
  greeted(link: PeerLink): void
  frame(link: PeerLink, frame: PeerFrame): void
  /** The peer's clusterId has changed on a live link. */
  helloChanged(link: PeerLink): void
  refused(link: PeerLink, reason: RefusalReason, detail: string): void
  closed(link: PeerLink): void
}

/** Raw bytes an end may send before its proof was accepted: a handshake needs less than 1 KiB. */
const UNPROVEN_BYTES_MAX = 16 * 1024
/** A refused peer gets what was already written to it (a proof, a hello), so that it can tell its operator the reason. */
const LEAVE_MS = 300

/** `leaving`: refused, and open only so that the other end can learn why. */
type Stage = 'noise' | 'proof' | 'hello' | 'up' | 'leaving' | 'closed'

const SENDING: ReadonlySet<Stage> = new Set(['proof', 'hello', 'up'])

interface NoiseStream extends Duplex {
  readonly remotePublicKey: Uint8Array | null
  readonly handshakeHash: Uint8Array | null
  readonly rawBytesWritten: number
}

export class PeerLink implements Link {
  readonly linkId: number
  readonly carrier: 'direct' | 'tunnelled'
  readonly isInitiator: boolean
  /** The address that was dialled; null for an inbound link. */
  readonly url: string | null
  rttMs: number | null = null
  /** When an echo last came back, by nowMs. */
  echoedMs: number
  /** Bookkeeping of the transport: the dial of this link was reported to an end; the link was shown above. */
  dialReported = false
  wasKept = false
  readonly #options: LinkOptions
  readonly #events: LinkEvents
  readonly #expectedKey: string | null
  readonly #raw: Duplex
  readonly #noise: NoiseStream
  readonly #timer: NodeJS.Timeout
  #stage: Stage = 'noise'
  #nodeKey: string | null = null
  #hello: Hello | null = null
  #rawBytes = 0
  #writtenBytes = 0
  #pingNonce = 0
  /** When each unanswered ping left: on a slow link several are under way. */
  readonly #pingsSent = new Map<number, number>()
  #onPong: (() => void)[] = []

  constructor(parts: {
    linkId: number
    carrier: 'direct' | 'tunnelled'
    raw: Duplex
    isInitiator: boolean
    url: string | null
    expectedKey: string | null
    options: LinkOptions
    events: LinkEvents
  }) {
    this.linkId = parts.linkId
    this.carrier = parts.carrier
    this.isInitiator = parts.isInitiator
    this.url = parts.url
    this.#expectedKey = parts.expectedKey
    this.#options = parts.options
    this.#events = parts.events
    this.#raw = parts.raw
    this.echoedMs = parts.options.nowMs()
    this.#raw.on('data', this.#countRaw)
    this.#noise = new SecretStream(parts.isInitiator, parts.raw, {
      keyPair: parts.options.keyPair,
    }) as NoiseStream
    this.#noise.on('open', () => this.#opened())
    this.#noise.on('data', (bytes: Uint8Array) => this.#received(bytes))
    this.#noise.on('error', () => this.close())
    this.#noise.on('close', () => this.close())
    // After a refusal the Noise stream may stay silent for ever: the socket's end is the link's end.
    this.#raw.on('error', () => this.close())
    this.#raw.on('close', () => this.close())
    this.#timer = setTimeout(
      () => this.refuse('handshake-timeout', `no ${this.#stage} in time`),
      parts.options.handshakeMs,
    )
  }

  get stage(): Stage {
    return this.#stage
  }

  get isUp(): boolean {
    return this.#stage === 'up'
  }

  get wasGreeted(): boolean {
    return this.#hello !== null
  }

  get nodeKey(): string | null {
    return this.#nodeKey
  }

  /** Only asked for after `greeted`. */
  get hello(): Hello {
    if (this.#hello === null) throw new Error('bug: a link without hello was shown')
    return this.#hello
  }

  /** Bytes given to `send` that Noise has not yet handed to the socket, and what the socket holds. */
  get queuedBytes(): number {
    const overhead = this.#noise.rawBytesWritten
    return Math.max(0, this.#writtenBytes - overhead) + this.#raw.writableLength
  }

  /** All of it in one write, or in a few when it is more than a batch may hold. False: the queue is full, nothing was taken. */
  send(frames: readonly WireFrame[]): boolean {
    if (!SENDING.has(this.#stage)) return false
    if (this.queuedBytes > this.#options.queueBytesMax) return false
    const { clusterId } = this.#options.hello()
    for (const part of this.#parts(frames)) {
      const batch = encodeBatch(clusterId, part)
      this.#writtenBytes += batch.length
      this.#noise.write(batch)
    }
    return true
  }

  ping(): void {
    this.#pingNonce = (this.#pingNonce + 1) >>> 0
    // Bounded by the link's own timeout, after which it is closed.
    this.#pingsSent.set(this.#pingNonce, this.#options.nowMs())
    this.send([{ type: 'ping', nonce: this.#pingNonce }])
  }

  /** Calls back with whether the other end answered a ping in time. */
  probe(timeoutMs: number, answered: (alive: boolean) => void): void {
    let done = false
    const finish = (alive: boolean): void => {
      if (done) return
      done = true
      clearTimeout(timer)
      answered(alive)
    }
    const timer = setTimeout(() => finish(false), timeoutMs)
    if (this.#stage === 'closed') return finish(false)
    this.#onPong.push(() => finish(true))
    this.ping()
  }

  /** Tells the other end of a change of this node's own clusterId. */
  sayHello(): void {
    if (this.#stage === 'up') {
      this.send([{ type: 'hello', body: encodeHello(this.#options.hello()) }])
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#stage === 'closed') return
    this.#stage = 'closed'
    clearTimeout(this.#timer)
    this.#noise.destroy()
    this.#raw.destroy()
    this.#onPong = []
    this.#events.closed(this)
  }

  /** Reports the refusal and closes the link soon; nothing that still arrives on it counts. */
  refuse(reason: RefusalReason, detail: string): void {
    if (this.#stage === 'closed' || this.#stage === 'leaving') return
    this.#stage = 'leaving'
    clearTimeout(this.#timer)
    this.#events.refused(this, reason, detail)
    setTimeout(() => this.close(), LEAVE_MS)
  }

  readonly #countRaw = (chunk: Uint8Array): void => {
    this.#rawBytes += chunk.length
    if (this.#stage === 'hello' || this.#stage === 'up') this.#raw.off('data', this.#countRaw)
    else if (this.#rawBytes > UNPROVEN_BYTES_MAX) {
      this.refuse('malformed', 'too much was sent before the proof')
    }
  }

  get #role(): LinkRole {
    return this.isInitiator ? 'initiator' : 'responder'
  }

  #proof(prover: LinkRole): Uint8Array {
    const { capability } = this.#options
    return proofOf(capability, this.#noise.handshakeHash as Uint8Array, prover)
  }

  #opened(): void {
    if (this.#stage !== 'noise') return
    this.#nodeKey = Buffer.from(this.#noise.remotePublicKey as Uint8Array).toString('hex')
    // With the XX pattern Noise takes any key: a wrong one shows only here.
    if (this.#expectedKey !== null && this.#nodeKey !== this.#expectedKey) {
      return this.refuse('wrong-key', `another node answers there: ${this.#nodeKey.slice(0, 8)}`)
    }
    this.#stage = 'proof'
    this.send([{ type: 'proof', mac: this.#proof(this.#role) }])
  }

  #received(bytes: Uint8Array): void {
    if (!SENDING.has(this.#stage)) return
    try {
      const { clusterId, frames } = decodeBatch(bytes)
      for (const frame of frames) {
        this.#frame(frame, clusterId)
        // A frame may have closed the link.
        if (!SENDING.has(this.#stage)) return
      }
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error
      this.refuse('malformed', error.message)
    }
  }

  #frame(frame: WireFrame, clusterId: string | null): void {
    switch (this.#stage) {
      case 'proof':
        return this.#onProof(frame)
      case 'hello':
        if (frame.type !== 'hello') return this.refuse('malformed', 'a frame before the hello')
        return this.#onHello(frame.body)
      case 'up':
        return this.#onFrame(frame, clusterId)
    }
  }

  #onProof(frame: WireFrame): void {
    const wanted = this.#proof(this.isInitiator ? 'responder' : 'initiator')
    if (frame.type !== 'proof' || !isProof(frame.mac, wanted)) {
      return this.refuse('wrong-topic', 'the other side does not know this topic')
    }
    this.#stage = 'hello'
    this.send([{ type: 'hello', body: encodeHello(this.#options.hello()) }])
  }

  #onHello(body: Uint8Array): void {
    const hello = decodeHello(body, this.#nodeKey as string)
    if (hello === null) return this.refuse('malformed', 'the hello is malformed')
    const first = this.#hello === null
    this.#hello = hello
    if (!first) return this.#events.helloChanged(this)
    this.#stage = 'up'
    this.echoedMs = this.#options.nowMs()
    clearTimeout(this.#timer)
    this.#events.greeted(this)
  }

  #onFrame(frame: WireFrame, clusterId: string | null): void {
    switch (frame.type) {
      case 'ping':
        this.send([{ type: 'pong', nonce: frame.nonce }])
        return
      case 'pong':
        return this.#onPongFrame(frame.nonce)
      case 'hello':
        return this.#onHello(frame.body)
      case 'proof':
        return this.refuse('malformed', 'a second proof')
      case 'founding':
        return this.#events.frame(this, frame)
      default: {
        // Everything of the cluster travels only between nodes that both belong to it, now.
        const own = this.#options.hello().clusterId
        if (own !== null && clusterId === own) this.#events.frame(this, frame)
      }
    }
  }

  #onPongFrame(nonce: number): void {
    const sentMs = this.#pingsSent.get(nonce)
    if (sentMs === undefined) return
    for (const [earlier] of this.#pingsSent) {
      if (earlier <= nonce) this.#pingsSent.delete(earlier)
    }
    const now = this.#options.nowMs()
    this.echoedMs = now
    const sample = now - sentMs
    this.rttMs = this.rttMs === null ? sample : this.rttMs + (sample - this.rttMs) / 8
    const waiting = this.#onPong
    this.#onPong = []
    for (const answered of waiting) answered()
  }

  *#parts(frames: readonly WireFrame[]): Iterable<readonly WireFrame[]> {
    let part: WireFrame[] = []
    let bytes = 0
    for (const frame of urgentFirst(frames)) {
      const size = frameBytes(frame)
      if (part.length > 0 && bytes + size > this.#options.batchBytesMax) {
        yield part
        part = []
        bytes = 0
      }
      part.push(frame)
      bytes += size
    }
    if (part.length > 0) yield part
  }
}

/** Heartbeats, votes and their answers go ahead of Appends and requests of the same turn. */
function urgentFirst(frames: readonly WireFrame[]): readonly WireFrame[] {
  if (frames.length < 2) return frames
  const isBulk = (frame: WireFrame): boolean =>
    frame.type === 'raft' ? frame.message.type === 'append' : frame.type !== 'ping'
  return [...frames.filter((frame) => !isBulk(frame)), ...frames.filter(isBulk)]
}
