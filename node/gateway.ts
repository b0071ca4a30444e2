/**
 * The node's one port: HTTP, the clients' WebSockets, and the door through which peers reach the transport. It decides who
 * may call and bounds what they cost; what is asked goes to the Service. It must never know Raft.
 */
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { CLIENT_PATH, SUBPROTOCOL } from '../client/protocol.ts'
import { type Access, createAccess, isLoopbackHost, type Tokens } from './gateway/access.ts'
import { Clients } from './gateway/clients.ts'
import { Exchange } from './gateway/exchange.ts'
import { GATEWAY_LIMITS, type GatewayLimits } from './gateway/limits.ts'
import { problemOf, Refusal, refuse } from './gateway/problem.ts'
import { checkCluster, createDispatch, type Dispatch } from './gateway/routes.ts'
import { SessionWriter } from './gateway/session.ts'
import { KEY_VALUE_CHECKS, OPAQUE_CHECKS } from './gateway/sizes.ts'
import type { Service } from './service.ts'

export type { ClientRole, Tokens } from './gateway/access.ts'
export { GATEWAY_LIMITS, type GatewayLimits } from './gateway/limits.ts'
export { SessionWriter, type WriteAnswer } from './gateway/session.ts'

export const PEER_PATH = '/v1/peer'

export interface GatewayOptions {
  readonly service: Service
  /** By role; an empty one admits nobody. */
  readonly tokens: Tokens
  /** Ask for a token on loopback too. */
  readonly requireToken: boolean
  /** Names under which this node is addressed besides the loopback ones, such as the advertised host. */
  readonly hosts?: readonly string[]
  readonly limits?: Partial<GatewayLimits>
  /** False: the state machine is not the key-value store, and only it knows what its operations and queries mean. Default true. */
  readonly keyValue?: boolean
  /** PEM. Without it tokens travel in clear. */
  readonly tls?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array } | null
  /** A peer knocks: the socket is the transport's from now on. It proves itself there, so no token is asked for here. */
  readonly onPeerUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  readonly log: (
    level: 'debug' | 'info' | 'warn' | 'error',
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void
}

export interface Gateway {
  /** Rejects with the error of the system, such as EADDRINUSE; another address may be tried then. */
  listen(address: { readonly host: string; readonly port: number }): Promise<{
    readonly host: string
    readonly port: number
  }>
  /** Connections of clients now, links to peers not counted. */
  readonly clientCount: number
  /** Accepts nobody more, answers what is pending with `closing`, and closes every client's socket. Idempotent, bounded. */
  close(): Promise<void>
}

export function createGateway(options: GatewayOptions): Gateway {
  return new NodeGateway(options)
}

/** What an HTTP connection has asked for and not been answered: the first runs, the others wait for it. */
type Pipeline = Exchange[]

const HEAD_BYTES_MAX = 16 * 1024
const CHECK_INTERVAL_MS = 1000

class NodeGateway implements Gateway {
  readonly #options: GatewayOptions
  readonly #limits: GatewayLimits
  readonly #server: Server
  readonly #webSockets: WebSocketServer
  readonly #clients: Clients
  readonly #writer: SessionWriter
  readonly #dispatch: Dispatch
  #access: Access
  /** Every connection but the peers'. */
  readonly #sockets = new Set<Duplex>()
  readonly #pipelines = new Map<Duplex, Pipeline>()
  /** Connections that became WebSockets of clients. */
  readonly #upgraded = new WeakSet<Duplex>()
  #closing: Promise<void> | null = null
  #warned = false

  constructor(options: GatewayOptions) {
    this.#options = options
    const limits = { ...GATEWAY_LIMITS, ...options.limits }
    this.#limits = limits
    this.#access = createAccess(options)
    const { service, keyValue = true } = options
    this.#writer = new SessionWriter(service, {
      pendingMax: limits.pendingWritesMax,
      openTimeoutMs: limits.requestTimeoutMs,
    })
    this.#clients = new Clients(service, limits, keyValue ? KEY_VALUE_CHECKS : OPAQUE_CHECKS)
    this.#dispatch = createDispatch({
      service,
      writer: this.#writer,
      limits,
      keyValue,
      access: (request) => this.#access(request),
      overloaded: () => this.#sockets.size > limits.clientsMax,
      failed: (error) => options.log('error', 'request.failed', { error: describe(error) }),
    })
    this.#webSockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: limits.frameBytesMax,
      clientTracking: false,
      // Without an offer there is nothing to select; a foreign one is not answered, which ends a browser's attempt.
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    })
    this.#server = this.#createServer()
  }

  get clientCount(): number {
    return this.#sockets.size
  }

  listen({ host, port }: { host: string; port: number }): Promise<{ host: string; port: number }> {
    const server = this.#server
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => reject(error)
      server.once('error', failed)
      server.listen({ host, port, backlog: 1024 }, () => {
        server.off('error', failed)
        server.on('error', (error) => {
          this.#options.log('error', 'gateway.failed', { error: describe(error) })
        })
        const bound = server.address() as AddressInfo
        const { hosts = [] } = this.#options
        this.#access = createAccess({
          ...this.#options,
          hosts: isWildcard(host) ? hosts : [...hosts, host],
        })
        this.#warnOfClearText(host)
        resolve({ host: bound.address, port: bound.port })
      })
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { closeMsMax } = this.#limits
    // Peers' sockets count as connections of the server too, so its own callback is not waited for.
    this.#server.close()
    this.#clients.close()
    for (const exchanges of this.#pipelines.values()) {
      for (const exchange of [...exchanges]) exchange.interrupt()
    }
    this.#writer.close()
    for (const socket of this.#sockets) if (!this.#isBusy(socket)) socket.destroy()
    await this.#emptied(closeMsMax)
    this.#clients.terminate()
    for (const socket of this.#sockets) socket.destroy()
    await this.#emptied(CHECK_INTERVAL_MS)
    this.#webSockets.close()
  }

  /** True while an answer or a goodbye has still to leave through this socket. */
  #isBusy(socket: Duplex): boolean {
    return this.#pipelines.has(socket) || this.#upgraded.has(socket) || socket.writableLength > 0
  }

  #emptied(deadlineMs: number): Promise<void> {
    if (this.#sockets.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, deadlineMs)
      for (const socket of this.#sockets) {
        socket.once('close', () => {
          if (this.#sockets.size > 0) return
          clearTimeout(timer)
          resolve()
        })
      }
    })
  }

  #createServer(): Server {
    const limits = this.#limits
    const settings = {
      headersTimeout: limits.headerTimeoutMs,
      requestTimeout: limits.bodyTimeoutMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, limits.headerTimeoutMs),
      maxHeaderSize: HEAD_BYTES_MAX,
      noDelay: true,
    }
    const { tls } = this.#options
    const server =
      tls === undefined || tls === null
        ? createHttpServer(settings)
        : (createHttpsServer({
            ...settings,
            cert: Buffer.from(tls.cert),
            key: Buffer.from(tls.key),
            handshakeTimeout: limits.headerTimeoutMs,
          }) as Server)
    server.on(tls === undefined || tls === null ? 'connection' : 'secureConnection', (socket) =>
      this.#connected(socket as Duplex),
    )
    const onRequest = (request: IncomingMessage, response: ServerResponse): void =>
      this.#requested(request, response)
    server.on('request', onRequest)
    // A body that would be refused is better not sent: whoever reads it says `100 Continue`.
    server.on('checkContinue', onRequest)
    server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head))
    return server
  }

  #connected(socket: Duplex): void {
    const { clientsMax, sparesMax } = this.#limits
    if (this.#closing !== null || this.#sockets.size >= clientsMax + sparesMax) {
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      this.#pipelines.delete(socket)
    })
  }

  #requested(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const { lingerMs, pipelinedMax } = this.#limits
    const exchange = new Exchange(request, response, lingerMs)
    const pipeline = this.#pipelines.get(socket) ?? []
    if (pipeline.length >= pipelinedMax) {
      exchange.header({ connection: 'close' })
      exchange.refuse(refuse('overloaded', 'too many requests ahead of their answers'))
      return
    }
    this.#pipelines.set(socket, pipeline)
    pipeline.push(exchange)
    response.on('close', () => this.#finished(socket, exchange))
    if (this.#closing !== null) exchange.interrupt()
    else if (pipeline.length === 1) void this.#dispatch(exchange)
  }

  /** Requests of one connection take effect in their order, so the next one starts only now. */
  #finished(socket: Duplex, exchange: Exchange): void {
    const pipeline = this.#pipelines.get(socket)
    const place = pipeline?.indexOf(exchange) ?? -1
    if (pipeline === undefined || place === -1) return
    pipeline.splice(place, 1)
    const [next] = pipeline
    if (next === undefined) this.#pipelines.delete(socket)
    else if (place === 0 && !next.answered) void this.#dispatch(next)
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const [path] = (request.url ?? '').split('?', 1)
    if (path === PEER_PATH && this.#closing === null) {
      this.#sockets.delete(socket)
      this.#options.onPeerUpgrade(request, socket, head)
      return
    }
    socket.on('error', () => {})
    const admitted = this.#admit(request, path)
    if (admitted instanceof Refusal) {
      refuseUpgrade(socket, admitted)
      return
    }
    this.#upgraded.add(socket)
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      if (this.#closing !== null) webSocket.close(1001)
      else this.#clients.accept(webSocket, admitted.role)
    })
  }

  #admit(request: IncomingMessage, path: string | undefined): ReturnType<Access> {
    if (this.#closing !== null) return refuse('closing', 'the node is stopping')
    if (this.#sockets.size > this.#limits.clientsMax) {
      return refuse('overloaded', 'too many clients; try again, or another node')
    }
    if (path !== CLIENT_PATH) return refuse('not-found', 'no WebSocket is served at this path')
    const caller = this.#access(request)
    if (caller instanceof Refusal) return caller
    const { service } = this.#options
    return checkCluster(service, request.headers['raft-cluster-id']) ?? caller
  }

  #warnOfClearText(host: string): void {
    if (this.#warned || this.#options.tls || isLoopbackHost(host)) return
    this.#warned = true
    this.#options.log('warn', 'gateway.clear-text', {
      host,
      detail: 'clients that are not on this machine send their tokens in clear',
      advice: 'give --tls-cert and --tls-key, or put a proxy with TLS in front',
    })
  }
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function refuseUpgrade(socket: Duplex, refusal: Refusal): void {
  const { status, headers, text } = problemOf(refusal)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  socket.end(
    [
      `HTTP/1.1 ${status} ${refusal.body.code}`,
      ...lines,
      `content-length: ${Buffer.byteLength(text)}`,
      'connection: close',
      '',
      text,
    ].join('\r\n'),
    () => socket.destroy(),
  )
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
