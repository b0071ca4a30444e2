/**
 * A WebSocket as a byte stream for Noise. The ws package has one too, but on Bun that package is a stand-in without it. Noise does
 * its own framing, so that message boundaries do not matter here: messages are small, because a receiver must hold a whole one
 * before it knows who sent it.
 */
import { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'

/** Of one WebSocket message, either way. */
export const MESSAGE_BYTES_MAX = 64 * 1024
const HIGH_WATER_BYTES = 256 * 1024
/** How often a socket whose runtime calls back at once is asked whether it has drained. */
const DRAIN_POLL_MS = 5

interface Piece {
  readonly chunk: Buffer
}

export class WebSocketDuplex extends Duplex {
  readonly #socket: WebSocket
  #paused = false
  #drainTimer: NodeJS.Timeout | null = null

  constructor(socket: WebSocket) {
    super({
      allowHalfOpen: false,
      readableHighWaterMark: HIGH_WATER_BYTES,
      writableHighWaterMark: HIGH_WATER_BYTES,
    })
    this.#socket = socket
    socket.on('message', (data: Buffer | ArrayBuffer | Buffer[]) => {
      if (this.destroyed || this.push(toBuffer(data))) return
      this.#paused = true
      socket.pause?.()
    })
    socket.on('error', (error: Error) => this.destroy(error))
    socket.on('close', () => {
      if (!this.destroyed) this.push(null)
      this.destroy()
    })
  }

  override _read(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#socket.resume?.()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#send([{ chunk }], done)
  }

  override _writev(pieces: Piece[], done: (error?: Error | null) => void): void {
    this.#send(pieces, done)
  }

  #send(pieces: readonly Piece[], done: (error?: Error | null) => void): void {
    const messages = [...pack(pieces)]
    let left = messages.length
    let failed = false
    const sent = (error?: Error | null): void => {
      left--
      if (failed) return
      failed = error != null
      if (failed) done(error)
      else if (left === 0) this.#whenDrained(done)
    }
    if (this.#socket.readyState !== 1) return done(new Error('the socket is closed'))
    if (messages.length === 0) return done()
    for (const message of messages) this.#socket.send(message, { binary: true }, sent)
  }

  /** On Bun a message counts as sent while it still waits in memory. */
  #whenDrained(done: () => void): void {
    if (this.destroyed || this.#socket.bufferedAmount <= HIGH_WATER_BYTES) return done()
    this.#drainTimer = setTimeout(() => this.#whenDrained(done), DRAIN_POLL_MS)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.close()
    done()
  }

  /** Not a polite WebSocket close: it would wait for a peer that may never answer. Who closes a link has said what there was to say. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#drainTimer !== null) clearTimeout(this.#drainTimer)
    this.#socket.terminate()
    done(error)
  }
}

function toBuffer(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data)
  return data instanceof ArrayBuffer ? Buffer.from(data) : data
}

/** Small writes share a message, large ones are cut. */
function* pack(pieces: readonly Piece[]): Iterable<Buffer> {
  let waiting: Buffer[] = []
  let bytes = 0
  for (const { chunk } of pieces) {
    if (bytes + chunk.length > MESSAGE_BYTES_MAX && waiting.length > 0) {
      yield join(waiting)
      waiting = []
      bytes = 0
    }
    let rest = chunk
    while (rest.length > MESSAGE_BYTES_MAX) {
      yield rest.subarray(0, MESSAGE_BYTES_MAX)
      rest = rest.subarray(MESSAGE_BYTES_MAX)
    }
    if (rest.length === 0) continue
    waiting.push(rest)
    bytes += rest.length
  }
  if (waiting.length > 0) yield join(waiting)
}

function join(chunks: readonly Buffer[]): Buffer {
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
}
