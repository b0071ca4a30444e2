/**
 * The clients' WebSockets: frames of client/protocol.ts in, answers out, all answers of a turn in one frame. A client may
 * be hostile: what it can make the node keep is bounded by the limits, and a malformed frame ends it.
 */
import type { WebSocket } from 'ws'
import { ByteWriter, MalformedError } from '../../client/bytes.ts'
import {
  type Answer,
  type ErrorBody,
  type Request,
  readRequests,
  writeAnswer,
} from '../../client/protocol.ts'
import type { LeaderInfo, Service, ServiceAnswer } from '../service.ts'
import { type ClientRole, permits } from './access.ts'
import type { GatewayLimits } from './limits.ts'
import { errorBody, errorBodyOf } from './problem.ts'
import type { Checks } from './sizes.ts'

const CLOSE = { goingAway: 1001, malformed: 1002, tryLater: 1013 } as const
/** An answer's header, for counting what waits in a turn. */
const ANSWER_OVERHEAD_BYTES = 32

export class Clients {
  readonly #service: Service
  readonly #limits: GatewayLimits
  readonly #checks: Checks
  readonly #clients = new Set<Client>()
  readonly #unsubscribe: () => void
  readonly #pinging: ReturnType<typeof setInterval>
  /** The status of this turn: computed once, however many ask. */
  #status: Uint8Array | null = null

  constructor(service: Service, limits: GatewayLimits, checks: Checks) {
    this.#service = service
    this.#limits = limits
    this.#checks = checks
    this.#unsubscribe = service.onLeaderChange((leader) => {
      const answer = leaderAnswer(leader)
      for (const client of this.#clients) client.send(answer)
    })
    this.#pinging = setInterval(() => {
      for (const client of this.#clients) client.ping()
    }, limits.silenceMsMax)
    this.#pinging.unref?.()
  }

  get count(): number {
    return this.#clients.size
  }

  accept(socket: WebSocket, role: ClientRole): void {
    const client: Client = new Client(socket, role, {
      service: this.#service,
      limits: this.#limits,
      checks: this.#checks,
      statusJson: () => this.#statusJson(),
      ended: () => this.#clients.delete(client),
    })
    this.#clients.add(client)
    client.send(leaderAnswer(this.#service.leader()))
  }

  /** Answers what is pending with `closing` and says goodbye. `terminate` ends those that do not answer it. */
  close(): void {
    this.#unsubscribe()
    clearInterval(this.#pinging)
    for (const client of this.#clients) client.leave()
  }

  terminate(): void {
    for (const client of this.#clients) client.terminate()
  }

  #statusJson(): Uint8Array {
    if (this.#status === null) {
      this.#status = toJson(this.#service.status())
      setImmediate(() => {
        this.#status = null
      })
    }
    return this.#status
  }
}

interface ClientParts {
  readonly service: Service
  readonly limits: GatewayLimits
  readonly checks: Checks
  readonly statusJson: () => Uint8Array
  readonly ended: () => void
}

/** What a client waits for: given up when it goes, refused when the node closes. */
interface Pending {
  readonly requestId: number
  readonly isWrite: boolean
  readonly cancel: () => void
}

class Client {
  readonly #socket: WebSocket
  readonly #role: ClientRole
  readonly #parts: ClientParts
  readonly #pending = new Set<Pending>()
  /** Answers of this turn, sent together at its end. */
  #turn: ByteWriter | null = null
  #ended = false
  #paused = false
  #answeredPing = true
  /** What lay unread at the last ping, and whether a frame has left since: a client that takes nothing is cut off. */
  #unreadAtPing = 0
  #tookFrame = false

  constructor(socket: WebSocket, role: ClientRole, parts: ClientParts) {
    this.#socket = socket
    this.#role = role
    this.#parts = parts
    socket.on('message', (frame, isBinary) => this.#receive(frame as Buffer, isBinary))
    socket.on('pong', () => {
      this.#answeredPing = true
    })
    // What went wrong is told by `close`, which always follows; a frame over the limit closes with 1009.
    socket.on('error', () => {})
    socket.on('close', () => this.#end())
  }

  send(answer: Answer): void {
    if (this.#ended) return
    if (this.#turn === null) {
      this.#turn = new ByteWriter(256)
      queueMicrotask(() => this.#flush())
    }
    writeAnswer(this.#turn, answer)
    // Large answers are refused before it comes to this: the rest is a flood of small ones that nobody reads.
    if (this.#unreadBytes() > 2 * this.#parts.limits.queueBytesMax) this.terminate()
  }

  ping(): void {
    const unread = this.#socket.bufferedAmount
    const stuck = this.#unreadAtPing > 0 && unread >= this.#unreadAtPing && !this.#tookFrame
    // A client that still reads what is ahead of the ping cannot have answered it.
    if (stuck || (!this.#answeredPing && this.#unreadAtPing === 0)) {
      this.terminate()
      return
    }
    this.#unreadAtPing = unread
    this.#tookFrame = false
    this.#answeredPing = false
    this.#socket.ping()
  }

  leave(): void {
    for (const pending of this.#pending) {
      pending.cancel()
      const error = errorBody('closing', 'the node is stopping', pending.isWrite)
      this.send(errorAnswer(pending.requestId, error))
    }
    this.#pending.clear()
    this.#flush()
    this.#socket.close(CLOSE.goingAway, 'the node is stopping')
  }

  terminate(): void {
    this.#end()
    this.#socket.terminate()
  }

  #receive(frame: Buffer, isBinary: boolean): void {
    if (this.#ended) return
    let requests: Request[]
    try {
      if (!isBinary) throw new MalformedError('a text message; the protocol is binary')
      // Not the Buffer itself, whose slice() is no copy.
      requests = readRequests(new Uint8Array(frame.buffer, frame.byteOffset, frame.length))
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.#breakOff(error.message)
      return
    }
    for (const request of requests) {
      if (this.#ended) return
      this.#run(request)
    }
  }

  #breakOff(reason: string): void {
    this.send(errorAnswer(0, errorBody('bad-request', reason)))
    this.#flush()
    this.#end()
    this.#socket.close(CLOSE.malformed, 'malformed frame')
  }

  #run(request: Request): void {
    const { requestId } = request
    if (this.#pending.size >= this.#parts.limits.inFlightMax) {
      const error = errorBody('overloaded', 'too many requests of this client without an answer')
      this.send(errorAnswer(requestId, error))
      return
    }
    switch (request.type) {
      case 'command':
        return this.#command(request)
      case 'query':
        return this.#query(request)
      case 'status':
        return this.send({ type: 'json', requestId, json: this.#parts.statusJson() })
      case 'admin':
        return this.#admin(request)
    }
  }

  #command(request: Request & { type: 'command' }): void {
    const { service, limits, checks } = this.#parts
    const error = this.#lacks('write') ?? checks.command(request.command, limits)
    if (error !== null) {
      this.send(errorAnswer(request.requestId, error))
      return
    }
    // The bytes outlive the frame they came in.
    const command = request.command.slice()
    const timeoutMs = this.#timeout(request.timeoutMs)
    this.#wait({ requestId: request.requestId, isWrite: true }, (answer) =>
      service.request({ type: 'command', command, timeoutMs }, answer),
    )
  }

  #query(request: Request & { type: 'query' }): void {
    const { service, limits, checks } = this.#parts
    const { requestId, consistency } = request
    const error = checks.query(request.query, limits)
    if (error !== null) {
      this.send(errorAnswer(requestId, error))
      return
    }
    const query = request.query.slice()
    const timeoutMs = this.#timeout(request.timeoutMs)
    this.#wait({ requestId, isWrite: false }, (answer) =>
      service.request({ type: 'query', query, consistency, timeoutMs }, answer),
    )
  }

  #wait(
    { requestId, isWrite }: { readonly requestId: number; readonly isWrite: boolean },
    start: (answer: (answer: ServiceAnswer) => void) => () => void,
  ): void {
    const cancel = start((answer) => {
      this.#pending.delete(pending)
      this.#answer(pending, answer)
    })
    const pending: Pending = { requestId, isWrite, cancel }
    this.#pending.add(pending)
  }

  #answer(
    { requestId, isWrite }: { readonly requestId: number; readonly isWrite: boolean },
    answer: ServiceAnswer,
  ): void {
    if (!answer.ok) {
      this.send(errorAnswer(requestId, answer.error))
      return
    }
    const { index, body } = answer
    // Large answers are those to reads, or to writes of a machine that says much; all can be asked for again.
    if (body.length > 256 && this.#unreadBytes() + body.length > this.#parts.limits.queueBytesMax) {
      const message = 'read the earlier answers first, then ask again'
      const error = errorBody('overloaded', message, isWrite)
      this.send(errorAnswer(requestId, error))
      return
    }
    this.send({ type: 'result', requestId, index, body })
  }

  #admin(request: Request & { type: 'admin' }): void {
    const { requestId } = request
    const name = new TextDecoder().decode(request.name)
    // As over HTTP: who may see the status may see the settings.
    const error = this.#lacks(name === 'config.get' ? 'read' : 'admin')
    const args = parseJson(request.json)
    if (error !== null || args === MALFORMED) {
      this.send(errorAnswer(requestId, error ?? errorBody('bad-request', 'malformed JSON')))
      return
    }
    const pending: Pending = { requestId, isWrite: true, cancel: () => {} }
    this.#pending.add(pending)
    const settle = (answer: Answer): void => {
      if (this.#pending.delete(pending)) this.send(answer)
    }
    this.#parts.service.admin(name, args).then(
      (result) => settle({ type: 'json', requestId, json: toJson(result ?? null) }),
      (failure) => settle(errorAnswer(requestId, errorBodyOf(failure))),
    )
  }

  #lacks(role: ClientRole): ErrorBody | null {
    if (permits(this.#role, role)) return null
    return errorBody('unauthorised', `this needs the ${role} token, not the ${this.#role} one`)
  }

  #timeout(wantedMs: number): number {
    const { requestTimeoutMs, requestTimeoutMsMax } = this.#parts.limits
    return wantedMs === 0 ? requestTimeoutMs : Math.min(wantedMs, requestTimeoutMsMax)
  }

  #unreadBytes(): number {
    return this.#socket.bufferedAmount + (this.#turn?.length ?? 0) + ANSWER_OVERHEAD_BYTES
  }

  #flush(): void {
    const turn = this.#turn
    this.#turn = null
    if (turn === null || this.#ended) return
    this.#socket.send(turn.finish(), { binary: true }, () => this.#taken())
    const { queueBytesMax } = this.#parts.limits
    if (!this.#paused && this.#socket.bufferedAmount > queueBytesMax / 2) {
      this.#paused = true
      this.#socket.pause()
    }
  }

  #taken(): void {
    this.#tookFrame = true
    if (!this.#paused || this.#ended) return
    if (this.#socket.bufferedAmount > this.#parts.limits.queueBytesMax / 4) return
    this.#paused = false
    this.#socket.resume()
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#turn = null
    for (const pending of this.#pending) pending.cancel()
    this.#pending.clear()
    this.#parts.ended()
  }
}

const MALFORMED = Symbol('malformed JSON')

function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) return null
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return MALFORMED
  }
}

function toJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

function errorAnswer(requestId: number, error: ErrorBody): Answer {
  return { type: 'error', requestId, json: toJson(error) }
}

function leaderAnswer({ leaderId, leaderUrl, term }: LeaderInfo): Answer {
  return { type: 'leader', requestId: 0, json: toJson({ leaderId, leaderUrl, term }) }
}
