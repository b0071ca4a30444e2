/**
 * A WebSocket as a byte stream for Noise. The ws package has one too, but on Bun that package is a stand-in without it. Noise does
 * its own framing, so that message boundaries do not matter here.
 */
import { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'

export class WebSocketDuplex extends Duplex {
  readonly #socket: WebSocket

  constructor(socket: WebSocket) {
    super({ allowHalfOpen: false })
    this.#socket = socket
    socket.on('message', (data: Buffer | ArrayBuffer | Buffer[]) => {
      const bytes = Array.isArray(data)
        ? Buffer.concat(data)
        : data instanceof ArrayBuffer
          ? Buffer.from(data)
          : data
      if (!this.destroyed && !this.push(bytes)) socket.pause?.()
    })
    socket.on('error', (error: Error) => this.destroy(error))
    socket.on('close', () => {
      this.push(null)
      this.destroy()
    })
  }

  override _read(): void {
    if (this.#socket.isPaused) this.#socket.resume?.()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#socket.readyState !== 1) return done(new Error('the socket is closed'))
    this.#socket.send(chunk, { binary: true }, (error) => done(error ?? null))
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.close()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#socket.readyState < 2) this.#socket.close()
    done(error)
  }
}
