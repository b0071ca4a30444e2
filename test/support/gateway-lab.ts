/** A gateway on loopback with a LocalService behind it, and the few ways in which tests talk to it. */
import {
  request as httpRequest,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http'
import { connect, type Socket } from 'node:net'
import { WebSocket } from 'ws'
import { ByteWriter } from '../../client/bytes.ts'
import { type Answer, type Request, readAnswers, writeRequest } from '../../client/protocol.ts'
import { createGateway, type Gateway, type GatewayOptions } from '../../node/gateway.ts'
import { LocalService } from './local-service.ts'

export const TOKENS = { read: 'token-read', write: 'token-write', admin: 'token-admin' }
export const DEADLINE_MS = 10_000

export interface Lab {
  readonly service: LocalService
  readonly gateway: Gateway
  readonly port: number
  readonly logged: { level: string; event: string; fields: Readonly<Record<string, unknown>> }[]
}

const gateways: Gateway[] = []

export async function openLab(
  options: Partial<GatewayOptions> = {},
  host = '127.0.0.1',
): Promise<Lab> {
  const service = new LocalService()
  const logged: Lab['logged'] = []
  const gateway = createGateway({
    service,
    tokens: TOKENS,
    requireToken: false,
    onPeerUpgrade: (_request, socket) => socket.destroy(),
    log: (level, event, fields) => logged.push({ level, event, fields }),
    ...options,
  })
  gateways.push(gateway)
  const { port } = await gateway.listen({ host, port: 0 })
  return { service, gateway, port, logged }
}

export async function closeLabs(): Promise<void> {
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()))
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly bytes: Buffer
  readonly text: string
  /** The body as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it.
  readonly json: any
}

export interface HttpCall {
  readonly method?: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string | Uint8Array
}

/** The path is sent as it is: no client tidies it up. */
export function http(
  lab: Pick<Lab, 'port'>,
  path: string,
  call: HttpCall = {},
): Promise<HttpAnswer> {
  const { method = 'GET', headers = {}, body } = call
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port: lab.port, path, method, headers, agent: false },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          const bytes = Buffer.concat(chunks)
          const text = bytes.toString()
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            text,
            get json() {
              return JSON.parse(text)
            },
          })
        })
        response.on('error', reject)
      },
    )
    request.setTimeout(DEADLINE_MS, () => request.destroy(new Error(`no answer to ${path}`)))
    request.on('error', reject)
    request.end(body)
  })
}

export async function eventually<T>(
  what: string,
  check: () => T | undefined | false,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const until = Date.now() + deadlineMs
  for (;;) {
    const found = check()
    if (found !== undefined && found !== false) return found
    if (Date.now() > until) throw new Error(`waited in vain for: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** A plain TCP connection, for what no HTTP client would send. */
export class Wire {
  readonly socket: Socket
  text = ''
  closed = false

  constructor(port: number) {
    this.socket = connect({ host: '127.0.0.1', port })
    this.socket.on('data', (chunk) => {
      this.text += chunk.toString('latin1')
    })
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.closed = true
    })
  }

  send(text: string): void {
    this.socket.write(text)
  }

  shows(pattern: RegExp): Promise<true> {
    return eventually(`${pattern} in: ${this.text}`, () => pattern.test(this.text) || undefined)
  }

  ended(): Promise<true> {
    return eventually('the end of the connection', () => this.closed || undefined)
  }
}

/** A client of the WebSocket endpoint that speaks raw frames. */
export class TestClient {
  readonly socket: WebSocket
  /** Answers by frame. */
  readonly frames: Answer[][] = []
  closeCode: number | null = null
  /** The status with which the upgrade was refused, or null. */
  refused: number | null = null
  opened = false
  #nextId = 1

  constructor(
    lab: Pick<Lab, 'port'>,
    options: { protocols?: string[]; headers?: OutgoingHttpHeaders; path?: string } = {},
  ) {
    const url = `ws://127.0.0.1:${lab.port}${options.path ?? '/v1/client'}`
    this.socket = new WebSocket(url, options.protocols ?? ['raft-p2p.v1'], {
      headers: (options.headers ?? {}) as Record<string, string>,
    })
    this.socket.on('open', () => {
      this.opened = true
    })
    this.socket.on('message', (frame: Buffer) => {
      this.frames.push(readAnswers(new Uint8Array(frame)))
    })
    this.socket.on('unexpected-response', (_request, response) => {
      this.refused = response.statusCode ?? 0
      response.resume()
      this.socket.terminate()
    })
    this.socket.on('error', () => {})
    this.socket.on('close', (code) => {
      this.closeCode = code
    })
  }

  get answers(): Answer[] {
    return this.frames.flat()
  }

  async open(): Promise<this> {
    await eventually('the upgrade', () => this.opened || this.refused !== null || undefined)
    return this
  }

  /** Sends requests in one frame and returns their ids. */
  send(...requests: RequestBody[]): number[] {
    const writer = new ByteWriter()
    const ids = requests.map((request) => {
      const requestId = this.#nextId++
      writeRequest(writer, { ...request, requestId } as Request)
      return requestId
    })
    this.socket.send(writer.finish())
    return ids
  }

  answerTo(id: number): Promise<Answer> {
    return eventually(`the answer to ${id}`, () =>
      this.answers.find((answer) => answer.type !== 'leader' && answer.requestId === id),
    )
  }

  /** The error in the answer to `id`. */
  async errorOf(id: number): Promise<{ code: string; maybeApplied: boolean; message: string }> {
    const answer = await this.answerTo(id)
    if (answer.type !== 'error') throw new Error(`no error but ${answer.type}`)
    return JSON.parse(new TextDecoder().decode(answer.json))
  }

  closed(): Promise<number> {
    return eventually('the close', () => this.closeCode ?? undefined)
  }

  leaders(): { leaderId: number | null; term: number }[] {
    return this.answers.flatMap((answer) =>
      answer.type === 'leader' ? [JSON.parse(new TextDecoder().decode(answer.json))] : [],
    )
  }
}

type RequestBody = Request extends infer R
  ? R extends Request
    ? Omit<R, 'requestId'>
    : never
  : never

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
