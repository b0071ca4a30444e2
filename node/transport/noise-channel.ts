/**
 * Noise over any byte stream. Before the other end is trusted it may cost next to nothing: its messages are small, and few.
 */
import type { EventEmitter } from 'node:events'
import SecretStream from '@hyperswarm/secret-stream'
import type { Channel, ChannelEvents } from './channel.ts'
import { HELLO_BYTES_MAX } from './hello.ts'

/** A handshake and a proof need less than 1 KiB; the hello may already stand behind them in one chunk. */
const UNTRUSTED_MESSAGE_BYTES_MAX = HELLO_BYTES_MAX + 1024
const UNTRUSTED_BYTES_MAX = HELLO_BYTES_MAX + 8 * 1024
/** Noise puts a length (3), a tag (1) and a MAC (16) around each message. */
const NOISE_OVERHEAD_BYTES = 20
const LENGTH_BYTES = 3

/** What Noise asks of the stream below it; any node:stream Duplex is one. Emits data, end, drain, error, close. */
export interface ByteStream extends Pick<EventEmitter, 'on' | 'off'> {
  /** False: wait for `drain`. */
  write(chunk: Buffer): boolean
  pause(): unknown
  resume(): unknown
  end(): unknown
  destroy(error?: Error | null): unknown
  /** Bytes that were written and have not left. */
  readonly writableLength: number
}

interface NoiseStream extends Pick<EventEmitter, 'on'> {
  write(bytes: Uint8Array): boolean
  destroy(): unknown
  readonly remotePublicKey: Uint8Array
  readonly handshakeHash: Uint8Array
  /** Encrypted bytes that were handed to the raw stream. */
  readonly rawBytesWritten: number
}

export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

export class NoiseChannel implements Channel {
  readonly #raw: ByteStream
  readonly #noise: NoiseStream
  #events: ChannelEvents | null = null
  #writtenBytes = 0
  #closed = false
  // What an untrusted end has sent: in all, of the length now being read, and what is left of the message behind it.
  #rawBytes = 0
  receivedBytes = 0
  #lengthDigits = 0
  #length = 0
  #left = 0

  constructor(raw: ByteStream, how: { readonly isInitiator: boolean; readonly keyPair: KeyPair }) {
    this.#raw = raw
    // Before Noise's own listener, because Noise allocates what a length announces.
    raw.on('data', this.#watch)
    raw.on('data', (chunk: Uint8Array) => {
      this.receivedBytes += chunk.length
    })
    this.#noise = new SecretStream(how.isInitiator, raw, { keyPair: how.keyPair }) as NoiseStream
    this.#noise.on('open', () => {
      const { remotePublicKey, handshakeHash } = this.#noise
      if (this.#closed) return
      this.#events?.open(Buffer.from(remotePublicKey).toString('hex'), handshakeHash)
    })
    this.#noise.on('data', ({ buffer, byteOffset, byteLength }: Uint8Array) => {
      // Not as a Buffer, whose `slice` does not copy: that would surprise whoever keeps a payload.
      if (!this.#closed) this.#events?.message(new Uint8Array(buffer, byteOffset, byteLength))
    })
    this.#noise.on('drain', () => {
      if (!this.#closed) this.#events?.drain()
    })
    this.#noise.on('error', () => this.#ended(true))
    this.#noise.on('close', () => this.#ended(false))
    raw.on('error', (error: NodeJS.ErrnoException) => {
      if (!this.#closed && error.code?.startsWith('WS_ERR_')) this.#events?.broken(error.message)
      this.#ended(true)
    })
    // After a refusal the Noise stream may stay silent for ever: the socket's end is the channel's end.
    raw.on('close', () => this.#ended(false))
  }

  start(events: ChannelEvents): void {
    this.#events = events
  }

  get pendingBytes(): number {
    return this.#writtenBytes - this.#noise.rawBytesWritten + this.#raw.writableLength
  }

  write(bytes: Uint8Array): boolean {
    if (this.#closed) return false
    this.#writtenBytes += bytes.length + NOISE_OVERHEAD_BYTES
    return this.#noise.write(bytes)
  }

  trust(): void {
    this.#raw.off('data', this.#watch)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#noise.destroy()
    this.#raw.destroy()
  }

  #ended(wasReset: boolean): void {
    if (this.#closed) return
    this.close()
    this.#events?.closed(wasReset)
  }

  readonly #watch = (chunk: Uint8Array): void => {
    this.#rawBytes += chunk.length
    if (this.#rawBytes > UNTRUSTED_BYTES_MAX) {
      return this.#events?.broken('too much was sent before the proof')
    }
    let at = 0
    while (at < chunk.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, chunk.length - at)
        this.#left -= taken
        at += taken
        continue
      }
      // Little-endian, as in Noise's framing.
      this.#length += (chunk[at++] as number) * 256 ** this.#lengthDigits
      if (++this.#lengthDigits < LENGTH_BYTES) continue
      if (this.#length > UNTRUSTED_MESSAGE_BYTES_MAX) {
        return this.#events?.broken('a large message was announced before the proof')
      }
      this.#left = this.#length
      this.#length = 0
      this.#lengthDigits = 0
    }
  }
}
