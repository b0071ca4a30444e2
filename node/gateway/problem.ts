/** Errors as the outside sees them: one status for each code, and `application/problem+json` (RFC 9457). */
import type { OutgoingHttpHeaders } from 'node:http'
import { ERROR_CODES, type ErrorBody, type ErrorCode, errorBody } from '../../client/protocol.ts'

export { errorBody } from '../../client/protocol.ts'

interface Meaning {
  readonly status: number
  readonly title: string
}

const MEANINGS: Readonly<Record<ErrorCode, Meaning>> = {
  'bad-request': { status: 400, title: 'The request is malformed' },
  unauthorised: { status: 401, title: 'A token is needed' },
  'forbidden-origin': { status: 403, title: 'Refused for this Origin or Host' },
  'not-found': { status: 404, title: 'Not found' },
  unsafe: { status: 409, title: 'It would cost the cluster its quorum' },
  'session-expired': { status: 409, title: 'The session has expired' },
  compacted: { status: 410, title: 'The revision is compacted away' },
  'compare-failed': { status: 412, title: 'The condition does not hold' },
  'too-large': { status: 413, title: 'Too large' },
  'wrong-cluster': { status: 421, title: 'This is another cluster' },
  overloaded: { status: 429, title: 'Overloaded' },
  internal: { status: 500, title: 'Internal error' },
  'no-leader': { status: 503, title: 'No leader' },
  'not-founded': { status: 503, title: 'The cluster is not founded yet' },
  closing: { status: 503, title: 'The node is stopping' },
  timeout: { status: 504, title: 'No answer in time' },
  'disk-full': { status: 507, title: 'The disk is full' },
  quota: { status: 507, title: 'The state has reached its limit' },
}

/** Thrown by a handler to end its request with this error. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly body: ErrorBody
  /** When it is not the code's own, such as 405. */
  readonly status: number
  readonly headers: OutgoingHttpHeaders

  constructor(
    body: ErrorBody,
    more: { readonly status?: number; readonly headers?: OutgoingHttpHeaders } = {},
  ) {
    super(body.message)
    this.body = body
    this.status = more.status ?? MEANINGS[body.code].status
    this.headers = more.headers ?? {}
  }
}

export function refuse(code: ErrorCode, message: string): Refusal {
  return new Refusal(errorBody(code, message))
}

/** The ErrorBody in whatever was thrown; anything unknown is `internal` and says nothing of the inside. */
export function errorBodyOf(thrown: unknown): ErrorBody {
  if (thrown instanceof Refusal) return thrown.body
  const body = thrown as Partial<ErrorBody> | null | undefined
  if (ERROR_CODES.some((code) => code === body?.code)) {
    const { code, message, retriable, maybeApplied } = body as ErrorBody
    return { code, message, retriable: retriable === true, maybeApplied: maybeApplied !== false }
  }
  return errorBody('internal', 'the request failed inside the node; its log says why', true)
}

export interface ProblemAnswer {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  readonly text: string
}

export function problemOf(refusal: Refusal): ProblemAnswer {
  const { code, message, retriable, maybeApplied } = refusal.body
  const { title } = MEANINGS[code]
  const { status } = refusal
  const type = `urn:raft-p2p:error:${code}`
  const problem = { type, title, status, code, detail: message, retriable, maybeApplied }
  const headers: OutgoingHttpHeaders = {
    'content-type': 'application/problem+json',
    ...refusal.headers,
  }
  if (status === 401) headers['www-authenticate'] = 'Bearer realm="raft-p2p"'
  if (status === 429 || status === 503) headers['retry-after'] = '1'
  return { status, headers, text: `${JSON.stringify(problem)}\n` }
}
