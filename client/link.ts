/**
 * One WebSocket to one node: from dialling to the end, with the requests that wait for answers on it. It knows nothing of
 * retries and sessions: when it ends, it hands back what was not answered.
 */
import { ByteWriter, MalformedError } from './bytes.ts'
import type { Call } from './call.ts'
import { type RaftErrorCode, readErrorBody, readJsonObject } from './errors.ts'
import { type Answer, type Request, readAnswers, writeRequest } from './protocol.ts'

/** The class of a browser's WebSocket, of Node's, or of the package `ws`. */
export type WebSocketConstructor = new (
  url: string,
  protocols?: string[],
) => { close(code?: number, reason?: string): void }

/** What all of them share, as far as it is used here. */
interface Socket {
  binaryType: string
  readonly bufferedAmount: number
  onopen: (() => void) | null
  onmessage: ((event: { readonly data: unknown }) => void) | null
  onerror: ((event: { readonly message?: unknown }) => void) | null
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null
  send(frame: Uint8Array): void
  close(code?: number, reason?: string): void
  /** Only in `ws`. */
  terminate?(): void
}

/** Time to open the socket and to answer the first question. */
const DIAL_MS = 5_000
/** Silence while answers are due: after this the node is asked for a sign of life, */
const SILENCE_MS = 500
/** after this much more somebody else is looked for (a stopped process keeps its connections), */
const SUSPECT_MS = 250
/** and after this much more it counts as gone. */
const GONE_MS = 2_750
/** A close that the other side does not answer. */
const CLOSE_MS = 1_000
/** Requests of one turn leave in one frame unless they are larger together; nodes bound what they accept. */
const FRAME_BYTES_MAX = 1024 * 1024
/** Requests without an answer on one link, and their bytes: a full session window of writes, and as many reads. */
const IN_FLIGHT_MAX = 2048
const IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024
/** "Message too big" (RFC 6455). */
const CLOSE_TOO_BIG = 1009

export interface LeaderInfo {
  readonly leaderId: number | null
  readonly leaderUrl: string | null
  readonly term: number
}

/** What a node said of itself when the link opened. */
export interface Introduction {
  readonly clusterId: string | null
  readonly memberId: number | null
  readonly leader: LeaderInfo | null
  readonly memberUrls: readonly unknown[]
}

/** Why a link ended. `refused`: dialling the same node again will not help. */
export interface LinkFailure {
  readonly code: RaftErrorCode
  readonly message: string
  readonly refused: boolean
  /** The node closed because a message was larger than it accepts. */
  readonly tooBig: boolean
}

export interface LinkOwner {
  /** The node answered; requests may be sent. Returns why this node must not be used, or null. */
  introduced(link: Link, introduction: Introduction): LinkFailure | null
  answered(link: Link, call: Call, answer: Answer): void
  /** All answers of a frame were handed over. */
  drained(link: Link): void
  leader(link: Link, leader: LeaderInfo): void
  /** Answers are due, and the node gives no sign of life. Once in each silence. */
  silent(link: Link): void
  /** Exactly once, unless `close` was called. `unanswered` in the order of sending. */
  down(link: Link, failure: LinkFailure, unanswered: Call[]): void
}

interface Pending {
  /** Null for the link's own questions. */
  readonly call: Call | null
  readonly bytes: number
}

export class Link {
  readonly url: string
  memberId: number | null = null
  /** Refusals in a row that another node might not give. */
  refusals = 0
  readonly #owner: LinkOwner
  readonly #socket: Socket
  #phase: 'dialling' | 'open' | 'ended' = 'dialling'
  #frame: ByteWriter | null = null
  #introduced = false
  #nextRequestId = 1
  readonly #pending = new Map<number, Pending>()
  #pendingBytes = 0
  #timer: ReturnType<typeof setTimeout> | null
  #problem = ''
  /** Anything came since the watch looked last. */
  #heard = false
  #silence: 'none' | 'asked' | 'suspected' = 'none'
  #bufferedBytes = 0

  /** Throws what the constructor of the WebSocket throws (a browser forbids some addresses). */
  constructor(
    url: string,
    options: { readonly WebSocket: WebSocketConstructor; readonly protocols: readonly string[] },
    owner: LinkOwner,
  ) {
    this.url = url
    this.#owner = owner
    const socket = new options.WebSocket(url, [...options.protocols]) as unknown as Socket
    this.#socket = socket
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => this.#opened()
    socket.onmessage = (event) => this.#received(event.data)
    socket.onerror = (event) => {
      if (typeof event.message === 'string') this.#problem = event.message
    }
    socket.onclose = (event) => this.#end(failureOf(event, this.#problem, url))
    this.#timer = setTimeout(() => this.#end(gone(`${url} did not answer in time`)), DIAL_MS)
  }

  get idle(): boolean {
    return this.#pending.size === 0
  }

  /** No sign of life while answers are due. */
  get isSilent(): boolean {
    return this.#silence === 'suspected' && !this.#heard
  }

  get hasRoom(): boolean {
    return this.#pending.size < IN_FLIGHT_MAX && this.#pendingBytes < IN_FLIGHT_BYTES_MAX
  }

  /** Adds a request to the frame under construction; `flush` sends it. */
  post(call: Call | null, make: (requestId: number) => Request): void {
    const requestId = this.#nextRequestId
    this.#nextRequestId = requestId === 0xffff_ffff ? 1 : requestId + 1
    const frame = this.#frame ?? new ByteWriter(1024)
    const before = frame.length
    writeRequest(frame, make(requestId))
    const bytes = frame.length - before
    this.#pending.set(requestId, { call, bytes })
    this.#pendingBytes += bytes
    this.#frame = frame
    if (frame.length >= FRAME_BYTES_MAX) this.flush()
  }

  flush(): void {
    if (this.#leave() && this.#timer === null) this.#watch(SILENCE_MS)
  }

  /** Sends the frame under construction. Returns whether there was one that could leave. */
  #leave(): boolean {
    const frame = this.#frame
    if (frame === null || this.#phase !== 'open') return false
    this.#frame = null
    this.#socket.send(frame.finish())
    return true
  }

  /** Ends the link without telling the owner and returns what was not answered, in the order of sending. */
  close(): Call[] {
    if (this.#phase === 'ended') return []
    this.flush()
    return this.#release(true)
  }

  #opened(): void {
    if (this.#phase !== 'dialling') return
    this.#phase = 'open'
    // The dial timer goes on until this first question is answered.
    this.post(null, (requestId) => ({ type: 'status', requestId }))
    this.flush()
  }

  #received(data: unknown): void {
    if (this.#phase !== 'open') return
    this.#heard = true
    let answers: Answer[]
    try {
      if (!(data instanceof ArrayBuffer)) throw new MalformedError('a text message')
      answers = readAnswers(new Uint8Array(data))
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.#end(gone(`${this.url} does not speak this protocol: ${error.message}`))
      return
    }
    for (const answer of answers) {
      this.#take(answer)
      if (this.#isOver()) return
    }
    this.#owner.drained(this)
  }

  #take(answer: Answer): void {
    if (answer.type === 'leader') {
      // Before its introduction a node may be of any cluster; the introduction names the leader too.
      const leader = this.#introduced ? readLeader(readJsonObject(answer.json)) : null
      if (leader !== null) this.#owner.leader(this, leader)
      return
    }
    const pending = this.#pending.get(answer.requestId)
    // Nobody waits for it: a node that repeats itself does no harm.
    if (pending === undefined) return
    this.#pending.delete(answer.requestId)
    this.#pendingBytes -= pending.bytes
    if (pending.call !== null) this.#owner.answered(this, pending.call, answer)
    else if (!this.#introduced) this.#introduce(answer)
  }

  /** The node's first answer: who it is. */
  #introduce(answer: Answer): void {
    this.#introduced = true
    this.#stopTimer()
    const refusal = answer.type === 'error' ? readErrorBody(answer.json) : null
    if (refusal !== null && !refusal.retriable) {
      this.#end({ code: refusal.code, message: refusal.message, refused: true, tooBig: false })
      return
    }
    const introduction = readIntroduction(
      answer.type === 'json' ? readJsonObject(answer.json) : null,
    )
    this.memberId = introduction.memberId
    const failure = this.#owner.introduced(this, introduction)
    if (failure !== null) this.#end(failure)
  }

  /** Looks after the link while answers are due, and only then, so that an idle client keeps no timer. */
  #watch(afterMs: number): void {
    this.#heard = false
    this.#bufferedBytes = this.#socket.bufferedAmount
    this.#timer = setTimeout(() => {
      this.#timer = null
      // A large request that is still leaving over a slow line is no silence.
      const leaving = this.#socket.bufferedAmount !== this.#bufferedBytes
      if (this.idle || this.#heard || leaving) {
        this.#silence = 'none'
        if (!this.idle) this.#watch(SILENCE_MS)
      } else if (this.#silence === 'none') {
        this.#silence = 'asked'
        this.post(null, (requestId) => ({ type: 'status', requestId }))
        this.#leave()
        this.#watch(SUSPECT_MS)
      } else if (this.#silence === 'asked') {
        this.#silence = 'suspected'
        this.#watch(GONE_MS)
        this.#owner.silent(this)
      } else {
        this.#end(gone(`${this.url} is silent`))
      }
    }, afterMs)
  }

  #isOver(): boolean {
    return this.#phase === 'ended'
  }

  #end(failure: LinkFailure): void {
    if (this.#phase === 'ended') return
    const unanswered = this.#release(false)
    this.#owner.down(this, failure, unanswered)
  }

  #release(gracefully: boolean): Call[] {
    this.#phase = 'ended'
    this.#stopTimer()
    const socket = this.#socket
    socket.onopen = null
    socket.onmessage = null
    // Some implementations throw an error that nobody listens to.
    socket.onerror = () => {}
    if (gracefully || socket.terminate === undefined) {
      const cut = setTimeout(() => socket.terminate?.(), CLOSE_MS)
      socket.onclose = () => clearTimeout(cut)
      socket.close(1000)
    } else {
      socket.onclose = null
      socket.terminate()
    }
    const unanswered = [...this.#pending.values()].flatMap(({ call }) => call ?? [])
    this.#pending.clear()
    this.#pendingBytes = 0
    this.#frame = null
    return unanswered
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}

export function gone(message: string): LinkFailure {
  return { code: 'unreachable', message, refused: false, tooBig: false }
}

/** HTTP answers to the upgrade, as far as the runtime shows them: `ws`, Bun and Deno do, browsers hide them. */
const REFUSALS: Readonly<Record<string, RaftErrorCode>> = {
  401: 'unauthorised',
  403: 'forbidden-origin',
  421: 'wrong-cluster',
}

function failureOf(
  event: { readonly code: number; readonly reason: string },
  problem: string,
  url: string,
): LinkFailure {
  const status = /(?:response|status code): (\d{3})\b/.exec(problem)?.[1]
  const code = status === undefined ? undefined : REFUSALS[status]
  if (code === 'unauthorised') {
    const message = `${url} refused this client: give connect the token that \`raft-p2p token\` prints`
    return { code, message, refused: true, tooBig: false }
  }
  const detail = [problem, event.reason].find((text) => text !== '') ?? `closed with ${event.code}`
  if (code !== undefined)
    return { code, message: `${url}: ${detail}`, refused: true, tooBig: false }
  return { ...gone(`${url}: ${detail}`), tooBig: event.code === CLOSE_TOO_BIG }
}

function readLeader(body: Record<string, unknown> | null): LeaderInfo | null {
  if (body === null || typeof body.term !== 'number') return null
  const { leaderId, leaderUrl, term } = body
  return {
    leaderId: typeof leaderId === 'number' ? leaderId : null,
    leaderUrl: typeof leaderUrl === 'string' ? leaderUrl : null,
    term,
  }
}

function readIntroduction(status: Record<string, unknown> | null): Introduction {
  const members = Array.isArray(status?.members) ? status.members : []
  return {
    clusterId: typeof status?.clusterId === 'string' ? status.clusterId : null,
    memberId: typeof status?.memberId === 'number' ? status.memberId : null,
    leader: readLeader(status),
    memberUrls: members.map((member: { readonly url?: unknown } | null) => member?.url),
  }
}
