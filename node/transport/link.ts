/**
 * One link from the first byte to the last: the topic proof and hellos over an encrypted channel, then frames. It must never hand
 * a frame upwards, or say more than its key, before the other side has proved that it knows the topic.
 */
import type { Channel, Clock } from './channel.ts'
import {
  decodeBatch,
  encodeBatch,
  FRAME_BYTES_MAX,
  FRAMES_MAX,
  frameBytes,
  MalformedFrame,
  type WireFrame,
} from './codec.ts'
import { decodeHello, encodeHello, isProof, type LinkRole, proofOf } from './hello.ts'
import type { Hello, Link, PeerFrame, RefusalReason } from './transport.ts'

export interface LinkOptions {
  /** The topic's link capability, 32 bytes. */
  readonly capability: Uint8Array
  readonly hello: () => Hello
  /** This node's own, now. */
  readonly clusterId: () => string | null
  readonly clock: Clock
  readonly handshakeMs: number
  /** Bytes that wait to be handed to the system; beyond it `send` refuses. */
  readonly queueBytesMax: number
  /** One write, unless a single frame is larger: what an urgent frame may have to wait for. */
  readonly batchBytesMax: number
}

export interface LinkEvents {
  /** Proof and hello were accepted. Not yet visible above: the link table decides whether it keeps this one. */
  greeted(link: PeerLink): void
  frame(link: PeerLink, frame: PeerFrame): void
  /** The peer's clusterId, name or urls have changed on a live link. */
  helloChanged(link: PeerLink): void
  refused(link: PeerLink, reason: RefusalReason, detail: string): void
  closed(link: PeerLink): void
}

export type DialResult = 'linked' | 'failed' | 'refused' | 'self'

/** What a goodbye means to whoever gets it, where that is not clear from the reason. */
const SAID: Partial<Record<RefusalReason, string>> = {
  version: 'the cluster uses what this version of raft-p2p does not know: install a newer one',
  clone: 'another process with the key of this node is running: one of the two is a copy',
  'wrong-cluster': 'the other side belongs to another cluster of this topic',
}
/** A refused peer gets what was already written to it, so that it can tell its operator the reason. */
const LEAVE_MS = 300
/** What a frame that waits costs besides its bytes. */
const WAITING_FRAME_BYTES = 64

/** `leaving`: refused, and open only so that the other end can learn why. */
type Stage = 'noise' | 'proof' | 'hello' | 'up' | 'leaving' | 'closed'

const SENDING: ReadonlySet<Stage> = new Set(['proof', 'hello', 'up'])

export class PeerLink implements Link {
  readonly linkId: number
  readonly carrier: 'direct' | 'tunnelled'
  readonly isInitiator: boolean
  /** The address that was dialled; null for an inbound link. */
  readonly url: string | null
  rttMs: number | null = null
  /** When an echo last came back. */
  echoedMs: number
  /** When anything last came in. */
  heardMs: number
  /** When anything last left: a link whose other end only listens must not look dead to it. */
  saidMs = 0
  #receivedBytes = 0
  /** When it was greeted. */
  upMs = 0
  /** The other end or the network cut it off, instead of closing. */
  wasReset = false
  readonly #options: LinkOptions
  readonly #events: LinkEvents
  readonly #expectedKey: string | null
  readonly #channel: Channel
  readonly #dialEnded: (result: DialResult, nodeKey: string | null) => void
  #cancelTimer: () => void
  #stage: Stage = 'noise'
  #nodeKey: string | null = null
  #handshakeHash: Uint8Array = new Uint8Array()
  #hello: Hello | null = null
  /** What waits while the channel has no room: heartbeats and votes pass Appends and requests, and those pass snapshots. */
  #urgent: WireFrame[] = []
  #bulk: WireFrame[] = []
  #chunks: WireFrame[] = []
  #waitingBytes = 0
  #blocked = false
  #pingNonce = 0
  /** When each unanswered ping left: on a slow link several are under way. */
  readonly #pingsSent = new Map<number, number>()
  #probes: ((alive: boolean) => void)[] = []

  constructor(parts: {
    linkId: number
    carrier: 'direct' | 'tunnelled'
    channel: Channel
    isInitiator: boolean
    url: string | null
    expectedKey: string | null
    /** Called once, however this link ends up. */
    dialEnded: (result: DialResult, nodeKey: string | null) => void
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
    this.#channel = parts.channel
    let reported = false
    this.#dialEnded = (result, nodeKey) => {
      if (!reported) parts.dialEnded(result, nodeKey)
      reported = true
    }
    const { clock, handshakeMs } = parts.options
    this.echoedMs = clock.nowMs()
    this.heardMs = this.echoedMs
    this.#cancelTimer = clock.later(handshakeMs, () =>
      this.refuse('handshake-timeout', `the ${this.#stage} did not come in time`),
    )
    this.#channel.start({
      open: (nodeKey, handshakeHash) => this.#opened(nodeKey, handshakeHash),
      message: (bytes) => this.#received(bytes),
      drain: () => {
        this.#blocked = false
        this.#flush()
      },
      broken: (detail) => this.refuse('malformed', detail),
      closed: (wasReset) => {
        this.wasReset = wasReset
        this.close()
      },
    })
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

  /** Notes bytes of a message that is not complete yet. */
  listen(nowMs: number): void {
    if (this.#channel.receivedBytes !== this.#receivedBytes) this.heardMs = nowMs
    this.#receivedBytes = this.#channel.receivedBytes
  }

  get queuedBytes(): number {
    return this.#waitingBytes + this.#channel.pendingBytes
  }

  reportDial(result: DialResult): void {
    this.#dialEnded(result, this.#nodeKey)
  }

  /** False: not up, a frame too large, or the queue is full; then nothing was taken. The frames' bytes must not change any more. */
  send(frames: readonly WireFrame[]): boolean {
    if (!SENDING.has(this.#stage)) return false
    let bytes = 0
    for (const frame of frames) {
      const size = frameBytes(frame)
      if (size > FRAME_BYTES_MAX) return false
      bytes += size + WAITING_FRAME_BYTES
    }
    if (this.queuedBytes + bytes > this.#options.queueBytesMax) return false
    this.#enqueue(frames, bytes)
    return true
  }

  ping(): void {
    this.#pingNonce = (this.#pingNonce + 1) >>> 0
    // Bounded by the link's own timeout, after which it is closed.
    this.#pingsSent.set(this.#pingNonce, this.#options.clock.nowMs())
    this.#say({ type: 'ping', nonce: this.#pingNonce })
  }

  /** Calls back with whether the other end answers a ping that leaves now; false at once when the link ends. */
  probe(timeoutMs: number, answered: (alive: boolean) => void): void {
    if (!this.isUp) return answered(false)
    const finish = (alive: boolean): void => {
      cancel()
      this.#probes = this.#probes.filter((other) => other !== finish)
      answered(alive)
    }
    const cancel = this.#options.clock.later(timeoutMs, () => finish(false))
    this.#probes.push(finish)
    // An answer to an earlier ping proves only that the peer was alive before the question came up.
    this.#pingsSent.clear()
    this.ping()
  }

  /** Tells the other end of a change of this node's own clusterId. Before the proof nothing was told that could be outdated. */
  sayHello(): void {
    if (this.#stage !== 'up' && this.#stage !== 'hello') return
    this.#say({ type: 'hello', body: encodeHello(this.#options.hello()) })
  }

  /** Idempotent. What is queued is lost. */
  close(): void {
    if (this.#stage === 'closed') return
    this.#stage = 'closed'
    this.#cancelTimer()
    this.#channel.close()
    this.#urgent = []
    this.#bulk = []
    this.#chunks = []
    this.#waitingBytes = 0
    this.#events.closed(this)
    this.#dialEnded('failed', this.#nodeKey)
    const probes = this.#probes
    this.#probes = []
    for (const finish of probes) finish(false)
  }

  /** Reports the refusal and closes the link, soon or at once; nothing that still arrives on it counts. */
  refuse(reason: RefusalReason, detail: string): void {
    if (this.#stage === 'closed' || this.#stage === 'leaving') return
    const isMember = this.#stage === 'hello' || this.#stage === 'up'
    if (isMember) this.#say({ type: 'goodbye', reason })
    this.#leave(reason, detail)
    // Whoever breaks the rules before the proof gets no more of this node's time.
    if (!isMember && (reason === 'malformed' || reason === 'handshake-timeout')) this.close()
  }

  #leave(reason: RefusalReason, detail: string): void {
    this.#stage = 'leaving'
    this.#cancelTimer()
    this.#cancelTimer = this.#options.clock.later(LEAVE_MS, () => this.close())
    const isSelf = this.#nodeKey !== null && this.#nodeKey === this.#options.hello().nodeKey
    this.#dialEnded(isSelf ? 'self' : 'refused', this.#nodeKey)
    this.#events.refused(this, reason, detail)
  }

  // --- receiving ----------------------------------------------------------------------------------------------------

  get #role(): LinkRole {
    return this.isInitiator ? 'initiator' : 'responder'
  }

  #opened(nodeKey: string, handshakeHash: Uint8Array): void {
    if (this.#stage !== 'noise') return
    this.#nodeKey = nodeKey
    this.#handshakeHash = handshakeHash
    // With the XX pattern Noise takes any key: a wrong one shows only here.
    if (this.#expectedKey !== null && nodeKey !== this.#expectedKey) {
      return this.refuse('wrong-key', `another node answers there: ${nodeKey.slice(0, 8)}`)
    }
    this.#stage = 'proof'
    const mac = proofOf(this.#options.capability, handshakeHash, this.#role)
    this.#say({ type: 'proof', mac })
  }

  #received(bytes: Uint8Array): void {
    if (!SENDING.has(this.#stage)) return
    this.heardMs = this.#options.clock.nowMs()
    try {
      const { clusterId, frames } = decodeBatch(bytes)
      for (const frame of frames) {
        this.#onAnyFrame(frame, clusterId)
        // A frame may have closed the link.
        if (!SENDING.has(this.#stage)) return
      }
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error
      this.refuse(error.reason, error.message)
    }
  }

  #onAnyFrame(frame: WireFrame, clusterId: string | null): void {
    if (this.#stage === 'proof') return this.#onProof(frame)
    if (frame.type === 'goodbye') {
      return this.#leave(frame.reason, SAID[frame.reason] ?? 'the other side refused this link')
    }
    if (this.#stage === 'up') return this.#onFrame(frame, clusterId)
    if (frame.type !== 'hello') return this.refuse('malformed', 'a frame before the hello')
    this.#onHello(frame.body)
  }

  #onProof(frame: WireFrame): void {
    const { capability } = this.#options
    const prover = this.isInitiator ? 'responder' : 'initiator'
    const wanted = proofOf(capability, this.#handshakeHash, prover)
    if (frame.type !== 'proof' || !isProof(frame.mac, wanted)) {
      return this.refuse('wrong-topic', 'the other side does not know this topic')
    }
    this.#channel.trust()
    this.#stage = 'hello'
    this.sayHello()
  }

  #onHello(body: Uint8Array): void {
    const hello = decodeHello(body, this.#nodeKey as string)
    if (hello === null) return this.refuse('malformed', 'the hello is malformed')
    const before = this.#hello
    if (before !== null && !mayFollow(before, hello)) {
      return this.refuse('malformed', 'the hello names another node than the one before')
    }
    this.#hello = hello
    if (before !== null) return this.#events.helloChanged(this)
    this.#stage = 'up'
    this.upMs = this.#options.clock.nowMs()
    this.echoedMs = this.upMs
    this.#cancelTimer()
    this.#events.greeted(this)
  }

  #onFrame(frame: Exclude<WireFrame, { type: 'goodbye' }>, clusterId: string | null): void {
    switch (frame.type) {
      case 'ping':
        // Through the limit of the queue: a peer that asks and never reads must not fill the memory.
        this.send([{ type: 'pong', nonce: frame.nonce }])
        return
      case 'pong':
        return this.#onPong(frame.nonce)
      case 'hello':
        return this.#onHello(frame.body)
      case 'proof':
        return this.refuse('malformed', 'a second proof')
      case 'founding':
        return this.#events.frame(this, frame)
      default: {
        // Everything of the cluster travels only between nodes that both belong to it, now.
        const own = this.#options.clusterId()
        if (own !== null && clusterId === own) this.#events.frame(this, frame)
      }
    }
  }

  #onPong(nonce: number): void {
    const sentMs = this.#pingsSent.get(nonce)
    if (sentMs === undefined) return
    for (const [earlier] of this.#pingsSent) {
      this.#pingsSent.delete(earlier)
      if (earlier === nonce) break
    }
    const nowMs = this.#options.clock.nowMs()
    this.echoedMs = nowMs
    const sample = nowMs - sentMs
    // A fast answer is the truth; a slow one may only say that somebody was busy for a moment.
    if (this.rttMs === null || sample < this.rttMs) this.rttMs = sample
    else this.rttMs += (sample - this.rttMs) / 8
    for (const finish of [...this.#probes]) finish(true)
  }

  // --- sending ------------------------------------------------------------------------------------------------------

  /** The link's own frames: few, small, and not subject to the limit of the queue. */
  #say(frame: WireFrame): void {
    if (SENDING.has(this.#stage)) this.#enqueue([frame], frameBytes(frame) + WAITING_FRAME_BYTES)
  }

  #enqueue(frames: readonly WireFrame[], bytes: number): void {
    for (const frame of frames) this.#laneOf(frame).push(frame)
    this.#waitingBytes += bytes
    this.#flush()
  }

  #laneOf(frame: WireFrame): WireFrame[] {
    if (frame.type === 'snapshotChunk') return this.#chunks
    return isBulk(frame) ? this.#bulk : this.#urgent
  }

  #flush(): void {
    while (!this.#blocked && this.#urgent.length + this.#bulk.length + this.#chunks.length > 0) {
      const batch = encodeBatch(this.#options.clusterId(), this.#take())
      this.saidMs = this.#options.clock.nowMs()
      this.#blocked = !this.#channel.write(batch)
    }
  }

  /** What fits into one batch, urgent frames first, at least one. */
  #take(): WireFrame[] {
    const taken: WireFrame[] = []
    let bytes = 0
    for (const lane of [this.#urgent, this.#bulk, this.#chunks]) {
      let count = 0
      for (; count < lane.length && taken.length < FRAMES_MAX; count++) {
        const frame = lane[count] as WireFrame
        const size = frameBytes(frame)
        if (taken.length > 0 && bytes + size > this.#options.batchBytesMax) break
        taken.push(frame)
        bytes += size
      }
      lane.splice(0, count)
    }
    this.#waitingBytes -= bytes + taken.length * WAITING_FRAME_BYTES
    return taken
  }
}

/**
 * Heartbeats, votes, their answers and echoes do not wait behind Appends, requests and founding. Nor does the leader's view: heartbeats
 * alone would tell a follower that it is up to date while what is committed waits in the queue (staleness.ts).
 */
function isBulk(frame: WireFrame): boolean {
  if (frame.type === 'raft') return frame.message.type === 'append'
  return frame.type !== 'ping' && frame.type !== 'pong' && frame.type !== 'leaderView'
}

/** One link is one process of one replica, and who belongs to a cluster belongs to it for ever. */
function mayFollow(before: Hello, after: Hello): boolean {
  return (
    before.storageId === after.storageId &&
    before.bootId === after.bootId &&
    before.bootCounter === after.bootCounter &&
    (before.clusterId === null || before.clusterId === after.clusterId)
  )
}
