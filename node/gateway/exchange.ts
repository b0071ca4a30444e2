/**
 * One HTTP request and its answer. It is answered exactly once, whatever happens: by its handler, by a refusal, or by
 * `interrupt` when the node closes. Knows nothing of keys or of Raft.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { ErrorBody } from '../../client/protocol.ts'
import type { Caller } from './access.ts'
import { errorBody, problemOf, Refusal, refuse } from './problem.ts'
import type { Target } from './target.ts'

/** A body thrown away after an early answer ends the connection at the latest after so many bytes. */
const LINGER_BYTES_MAX = 8 * 1024 * 1024

export interface Reply {
  readonly status: number
  readonly headers?: OutgoingHttpHeaders
  readonly body?: Uint8Array | string
}

export interface StreamSource {
  readonly headers: OutgoingHttpHeaders
  readonly sizeBytes: number
  /** Gives the next part in a later turn; null when there is none because of a failure. */
  next(give: (bytes: Uint8Array | null) => void): void
  /** Called once the answer has left, or nobody wants it any more. */
  close(): void
}

export class Exchange {
  readonly request: IncomingMessage
  readonly #response: ServerResponse
  readonly #lingerMs: number
  target: Target = { path: '', query: new Map() }
  /** Null for requests that anybody may make. */
  caller: Caller | null = null
  #headers: OutgoingHttpHeaders = {}
  #answered = false
  /** Ends what the handler waits for, with this error. */
  #abandon: ((refusal: Refusal) => void) | null = null
  #continued = false

  constructor(request: IncomingMessage, response: ServerResponse, lingerMs: number) {
    this.request = request
    this.#response = response
    this.#lingerMs = lingerMs
    // A client that goes in the middle is no error of ours; Bun ends the process when nobody listens.
    request.on('error', () => {})
    response.on('error', () => {})
    response.on('close', () => {
      this.#answered = true
      this.#abandon?.(refuse('closing', 'the client has gone'))
    })
  }

  get answered(): boolean {
    return this.#answered
  }

  /** Headers of every answer, errors included. */
  header(headers: OutgoingHttpHeaders): void {
    this.#headers = { ...this.#headers, ...headers }
  }

  /** Waits for one answer of the service; given up when the client goes or the node closes. */
  ask<T>(effect: 'read' | 'write', start: (answer: (answer: T) => void) => () => void): Promise<T> {
    return this.#wait((resolve, _reject, onAbandon) => {
      const cancel = start(resolve)
      onAbandon(cancel)
    }, effect === 'write')
  }

  /** The whole body. Refuses with `tooLarge` before it holds more than `bytesMax`. */
  body(bytesMax: number, tooLarge: (length: number) => ErrorBody): Promise<Uint8Array> {
    const { request } = this
    const announced = Number(request.headers['content-length'] ?? 0)
    if (announced > bytesMax) throw new Refusal(tooLarge(announced))
    return this.#wait((resolve, reject, onAbandon) => {
      const chunks: Uint8Array[] = []
      let length = 0
      const onData = (chunk: Uint8Array): void => {
        length += chunk.length
        chunks.push(chunk)
        if (length <= bytesMax) return
        stop()
        reject(new Refusal(tooLarge(length)))
      }
      const onEnd = (): void => {
        stop()
        resolve(joined(chunks, length))
      }
      const onBroken = (): void => {
        stop()
        reject(refuse('bad-request', 'the body ended early'))
      }
      const stop = (): void => {
        request.pause()
        request.off('data', onData).off('end', onEnd).off('close', onBroken).off('error', onBroken)
      }
      onAbandon(stop)
      this.#continue()
      request.on('data', onData).on('end', onEnd).on('close', onBroken).on('error', onBroken)
    }, false)
  }

  reply(reply: Reply): void {
    if (this.#answered) return
    this.#answered = true
    const { body = '' } = reply
    const headers: OutgoingHttpHeaders = {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...this.#headers,
      ...reply.headers,
    }
    // These two have no body, and a length would be wrong for the one and is forbidden for the other.
    if (reply.status !== 204 && reply.status !== 304) {
      headers['content-length'] = typeof body === 'string' ? Buffer.byteLength(body) : body.length
    }
    const unread = hasBody(this.request) && !this.request.complete
    if (unread) headers.connection = 'close'
    this.#response.writeHead(reply.status, headers)
    if (unread && this.#expectsMore()) this.#linger(body)
    else this.#response.end(body)
  }

  /** A body in parts, each made when the one before has left. It is cut off when a part cannot be made. */
  stream(source: StreamSource): void {
    if (this.#answered) return source.close()
    this.#answered = true
    const response = this.#response
    const headers = {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...this.#headers,
      ...source.headers,
      'content-length': source.sizeBytes,
    }
    response.writeHead(200, headers)
    response.once('close', () => source.close())
    let left = this.request.method === 'HEAD' ? 0 : source.sizeBytes
    const step = (): void => {
      if (response.destroyed) return
      if (left === 0) return void response.end()
      source.next((bytes) => {
        if (response.destroyed) return
        if (bytes === null || bytes.length === 0) return void response.destroy()
        left -= bytes.length
        if (response.write(bytes)) step()
        else response.once('drain', step)
      })
    }
    step()
  }

  json(value: unknown, more: { readonly headers?: OutgoingHttpHeaders } = {}): void {
    const headers = { 'content-type': 'application/json', ...more.headers }
    this.reply({ status: 200, headers, body: `${JSON.stringify(value)}\n` })
  }

  refuse(refusal: Refusal): void {
    const { status, headers, text } = problemOf(refusal)
    this.reply({ status, headers, body: text })
  }

  /** The node closes: answers now, and gives up what the handler waits for. */
  interrupt(): void {
    this.header({ connection: 'close' })
    const refusal = new Refusal(errorBody('closing', 'the node is stopping'))
    if (this.#abandon === null) this.refuse(refusal)
    else this.#abandon(refusal)
  }

  #wait<T>(
    start: (
      resolve: (value: T) => void,
      reject: (refusal: Refusal) => void,
      onAbandon: (release: () => void) => void,
    ) => void,
    maybeApplied: boolean,
  ): Promise<T> {
    if (this.#answered) throw refuse('closing', 'the client has gone')
    return new Promise((resolve, reject) => {
      let release = (): void => {}
      let settled = false
      const settle = (): boolean => {
        if (settled) return false
        settled = true
        this.#abandon = null
        return true
      }
      this.#abandon = (refusal) => {
        if (!settle()) return
        release()
        reject(new Refusal({ ...refusal.body, maybeApplied }))
      }
      start(
        (value) => settle() && resolve(value),
        (refusal) => settle() && reject(refusal),
        (given) => {
          release = given
        },
      )
    })
  }

  /** True unless the client waits for `100 Continue`, which it will not get any more. */
  #expectsMore(): boolean {
    return this.request.headers.expect === undefined || this.#continued
  }

  #continue(): void {
    if (this.request.headers.expect === undefined || this.#continued) return
    this.#continued = true
    this.#response.writeContinue()
  }

  /**
   * Closing a socket with unread bytes in it resets the connection, and the client would lose the answer. So the rest of the
   * body is thrown away for a while before the connection ends.
   */
  #linger(body: Uint8Array | string): void {
    const { request } = this
    let left = LINGER_BYTES_MAX
    const end = (): void => {
      clearTimeout(timer)
      this.#response.end()
    }
    const timer = setTimeout(end, this.#lingerMs)
    this.#response.write(body)
    this.#response.once('close', () => clearTimeout(timer))
    request.once('end', end)
    request.on('data', (chunk: Uint8Array) => {
      left -= chunk.length
      if (left < 0) request.socket.destroy()
    })
  }
}

function hasBody(request: IncomingMessage): boolean {
  const { headers } = request
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function joined(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
