/**
 * A stand-in for the native `udx` of dht-rpc, on node:dgram: datagrams only, no streams. Bun and Deno need it, because the
 * native package kills them. dht-rpc binds synchronously, node:dgram does not: the sockets are bound beforehand.
 */
import { createSocket, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { EventEmitter } from 'node:events'
import { isHostIPv4, ownAddresses } from './addresses.ts'

/** Binds `port` (0: any) for the DHT's own socket and a second one, which dht-rpc asks for as its client socket. */
export async function udxOverDgram(host: string, port: number): Promise<UdxOverDgram> {
  const first = await bound(host, port)
  try {
    return new UdxOverDgram([first, await bound(host, 0)])
  } catch (error) {
    first.close()
    throw error
  }
}

function bound(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    socket.once('error', reject)
    socket.bind(port, host, () => {
      socket.removeListener('error', reject)
      resolve(socket)
    })
  })
}

export class UdxOverDgram {
  readonly #ready: Socket[]

  constructor(ready: Socket[]) {
    this.#ready = ready
  }

  createSocket(): DatagramSocket {
    return new DatagramSocket(this.#ready)
  }

  createStream(): never {
    throw new Error('this runtime has no UDX streams; only datagrams work here')
  }

  networkInterfaces(): { name: string; host: string; family: number; internal: boolean }[] {
    return ownAddresses().map(({ interfaceName, address, family }) => {
      return { name: interfaceName, host: address, family, internal: false }
    })
  }

  /** Never reports a change: the discovery watches the addresses itself and opens new nodes. */
  watchNetworkInterfaces(): EventEmitter & { interfaces: unknown[]; destroy: () => void } {
    return Object.assign(new EventEmitter(), {
      interfaces: this.networkInterfaces(),
      destroy: () => {},
    })
  }

  lookup(host: string, options: { family?: number }): Promise<{ address: string; host: string }> {
    return lookup(host, { family: options.family ?? 4 }).then(({ address }) => {
      return { address, host: address }
    })
  }

  /** Closes the sockets that nobody took. */
  close(): void {
    for (const socket of this.#ready.splice(0)) socket.close()
  }
}

export class DatagramSocket extends EventEmitter {
  readonly #ready: Socket[]
  #socket: Socket | null = null
  #closing: Promise<void> | null = null

  constructor(ready: Socket[]) {
    super()
    this.#ready = ready
  }

  get bound(): boolean {
    return this.#socket !== null
  }

  get closing(): boolean {
    return this.#closing !== null
  }

  /** Takes the next socket that was bound beforehand, whatever port is asked for. */
  bind(): void {
    const socket = this.#ready.shift()
    if (socket === undefined) throw new Error('no socket left: two were bound beforehand')
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('message', (message, { address, port }) => {
      this.emit('message', message, { host: address, family: 4, port })
    })
    this.emit('listening')
  }

  address(): { host: string; family: number; port: number } | null {
    if (this.#socket === null) return null
    const { address, port } = this.#socket.address()
    return { host: address, family: 4, port }
  }

  /** Like a datagram, it may get lost: an error is a loss. */
  trySend(message: Uint8Array, port: number, host: string): void {
    if (this.closing || this.#socket === null || !isHostIPv4(host)) return
    try {
      this.#socket.send(message, port, host, () => {})
    } catch {
      // Bun throws where Node calls back.
    }
  }

  async send(message: Uint8Array, port: number, host: string): Promise<boolean> {
    this.trySend(message, port, host)
    return !this.closing
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      const finished = (): void => {
        this.emit('close')
        resolve()
      }
      if (this.#socket === null) finished()
      else this.#socket.close(finished)
    })
    return this.#closing
  }
}
