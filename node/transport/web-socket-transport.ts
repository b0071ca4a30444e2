/**
 * The Transport over WebSockets: accepts upgrades on the node's one port and dials ws:// and wss:// addresses. Who is at the other
 * end is never this file's business.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import { type Channel, systemClock } from './channel.ts'
import { type KeyPair, NoiseChannel } from './noise-channel.ts'
import {
  type Carrier,
  PeerTransport,
  TRANSPORT_LIMITS,
  type TransportOptions,
} from './peer-transport.ts'
import type { Transport } from './transport.ts'
import { MESSAGE_BYTES_MAX, WebSocketDuplex } from './web-socket-duplex.ts'

export type { TransportLimits, TransportOptions } from './peer-transport.ts'

export const PEER_PATH = '/v1/peer'

/** How long closing waits for the system to report the end of every socket. */
const CLOSE_MS_MAX = 1000

export interface WebSocketTransport extends Transport {
  /** For upgrades of the HTTP server on PEER_PATH. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
}

export function createTransport(options: TransportOptions): WebSocketTransport {
  const handshakeMs = options.limits?.handshakeMs ?? TRANSPORT_LIMITS.handshakeMs
  const sockets = new Sockets(options.keyPair, handshakeMs)
  const transport = new PeerTransport(options, sockets)
  return Object.assign(transport, {
    handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
      if (!transport.accepts) {
        socket.destroy()
        return
      }
      sockets.upgrade(request, socket, head, (channel) => transport.accept(channel))
    },
  })
}

class Sockets implements Carrier {
  readonly clock = systemClock
  readonly #keyPair: KeyPair
  readonly #handshakeMs: number
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
  })
  readonly #open = new Set<WebSocket>()
  #allClosed: (() => void) | null = null

  constructor(keyPair: KeyPair, handshakeMs: number) {
    this.#keyPair = keyPair
    this.#handshakeMs = handshakeMs
  }

  upgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    accepted: (channel: Channel) => void,
  ): void {
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      this.#track(webSocket)
      accepted(this.#channel(webSocket, false))
    })
  }

  connect(url: string, connected: (channel: Channel | null) => void): () => void {
    let socket: WebSocket | null = null
    let ended = false
    const end = (channel: Channel | null): void => {
      if (ended) return
      ended = true
      cancel()
      if (channel === null) socket?.terminate()
      connected(channel)
    }
    // Its own timer, because the one of ws is missing on Bun.
    const cancel = this.clock.later(this.#handshakeMs, () => end(null))
    try {
      socket = new WebSocket(`${url}${PEER_PATH}`, {
        perMessageDeflate: false,
        maxPayload: MESSAGE_BYTES_MAX,
        handshakeTimeout: this.#handshakeMs,
        // TLS is only an envelope here: who answers is proved inside, by Noise and the topic.
        rejectUnauthorized: false,
        // A zero mask costs nothing. Masks keep scripts from writing chosen bytes to the wire; these bytes are encrypted.
        generateMask: () => {},
      })
    } catch {
      // No address this runtime can dial.
      queueMicrotask(() => end(null))
      return () => end(null)
    }
    const dialled = socket
    this.#track(dialled)
    dialled.on('open', () => {
      if (!ended) end(this.#channel(dialled, true))
    })
    dialled.on('error', () => {})
    dialled.on('close', () => end(null))
    return () => end(null)
  }

  close(): Promise<void> {
    this.#server.close()
    if (this.#open.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const cancel = this.clock.later(CLOSE_MS_MAX, resolve)
      this.#allClosed = () => {
        cancel()
        resolve()
      }
    })
  }

  #channel(socket: WebSocket, isInitiator: boolean): Channel {
    return new NoiseChannel(new WebSocketDuplex(socket), { isInitiator, keyPair: this.#keyPair })
  }

  #track(socket: WebSocket): void {
    this.#open.add(socket)
    socket.on('close', () => {
      this.#open.delete(socket)
      if (this.#open.size === 0) this.#allClosed?.()
    })
  }
}
