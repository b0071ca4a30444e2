/**
 * A WebSocket as the byte stream under Noise: what Noise asks of a stream and no more. The streams of node:stream cost more than half
 * a millisecond of processor time a message on an idle node, and a link exchanges a dozen a second for as long as it lives.
 * Noise does its own framing, so that message boundaries do not matter here: messages are small, because a receiver must hold a
 * whole one before it knows who sent it.
 */
import { EventEmitter } from 'node:events'
import type { WebSocket } from 'ws'
import type { ByteStream } from './noise-channel.ts'

/** Of one WebSocket message, either way. */
export const MESSAGE_BYTES_MAX = 64 * 1024
const HIGH_WATER_BYTES = 256 * 1024
/** How often a socket whose runtime calls back at once is asked whether it has drained. */
const DRAIN_POLL_MS = 5

/** Emits data (Buffer), drain, end, error (Error), close. */
export class WebSocketDuplex extends EventEmitter implements ByteStream {
  readonly #socket: WebSocket
  /** What came in before the other side of this object had a chance to listen; null afterwards. */
  #early: Buffer[] | null = []
  #unsentBytes = 0
  #full = false
  #drainTimer: NodeJS.Timeout | null = null
  #destroyed = false

  constructor(socket: WebSocket) {
    super()
    this.#socket = socket
    socket.on('message', (data: Buffer | ArrayBuffer | Buffer[]) => this.#received(toBuffer(data)))
    socket.on('error', (error: Error) => this.destroy(error))
    socket.on('close', () => {
      if (!this.#destroyed) this.emit('end')
      this.destroy()
    })
    setImmediate(() => this.#start())
  }

  /** Bytes that the socket has not taken yet. */
  get writableLength(): number {
    return this.#unsentBytes
  }

  /** False: wait for `drain`. */
  write(chunk: Buffer): boolean {
    if (this.#destroyed || this.#socket.readyState !== 1) {
      this.destroy(new Error('the socket is closed'))
      return true
    }
    for (let at = 0; at < chunk.length; at += MESSAGE_BYTES_MAX) {
      const part =
        chunk.length <= MESSAGE_BYTES_MAX ? chunk : chunk.subarray(at, at + MESSAGE_BYTES_MAX)
      this.#unsentBytes += part.length
      this.#socket.send(part, { binary: true }, (error) => this.#sent(part.length, error))
    }
    this.#full = this.#unsentBytes > HIGH_WATER_BYTES || this.#buffered
    if (this.#full) this.#pollDrain()
    return !this.#full
  }

  pause(): void {
    this.#socket.pause?.()
  }

  resume(): void {
    if (this.#socket.isPaused) this.#socket.resume?.()
  }

  end(): void {
    this.#socket.close()
  }

  /** Not a polite WebSocket close: it would wait for a peer that may never answer. Who closes a link has said what there was to say. */
  destroy(error?: Error | null): void {
    if (this.#destroyed) return
    this.#destroyed = true
    if (this.#drainTimer !== null) clearTimeout(this.#drainTimer)
    this.#socket.terminate()
    // As streams do: never from inside the call.
    queueMicrotask(() => {
      if (error) this.emit('error', error)
      this.emit('close')
    })
  }

  /** On Bun a message counts as sent while it still waits in memory. */
  get #buffered(): boolean {
    return this.#socket.bufferedAmount > HIGH_WATER_BYTES
  }

  #start(): void {
    const early = this.#early ?? []
    this.#early = null
    for (const chunk of early) this.#received(chunk)
  }

  #received(chunk: Buffer): void {
    if (this.#destroyed || chunk.length === 0) return
    if (this.#early !== null) this.#early.push(chunk)
    else this.emit('data', chunk)
  }

  #sent(bytes: number, error?: Error | null): void {
    this.#unsentBytes -= bytes
    if (error) this.destroy(error)
    else this.#drained()
  }

  #drained(): void {
    if (!this.#full || this.#destroyed) return
    if (this.#unsentBytes > HIGH_WATER_BYTES / 2 || this.#buffered) return
    this.#full = false
    this.emit('drain')
  }

  #pollDrain(): void {
    if (this.#drainTimer !== null) return
    this.#drainTimer = setTimeout(() => {
      this.#drainTimer = null
      this.#drained()
      if (this.#full && !this.#destroyed) this.#pollDrain()
    }, DRAIN_POLL_MS)
  }
}

function toBuffer(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data)
  return data instanceof ArrayBuffer ? Buffer.from(data) : data
}
