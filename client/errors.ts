/** What a failed call throws. The codes are stable: programs decide by them, never by the message. */
import { ERROR_CODES, type ErrorBody, type ErrorCode } from './protocol.ts'

/** Of a code that this client does not know. */
const CODE_SHOWN_CHARS = 64

/**
 * A node's codes, and two of the client's own. `aborted`: the caller gave up (its signal, or `close`). `unreachable`: no
 * node could be reached.
 */
export type RaftErrorCode = ErrorCode | 'aborted' | 'unreachable'

export interface RaftErrorDetails {
  readonly code: RaftErrorCode
  readonly message: string
  readonly retriable: boolean
  readonly maybeApplied: boolean
}

export class RaftError extends Error {
  override readonly name = 'RaftError'
  readonly code: RaftErrorCode
  /** The same call may succeed later. */
  readonly retriable: boolean
  /** The call may have taken effect, or may still take effect, in spite of the error. Never true for a read. */
  readonly maybeApplied: boolean

  constructor(details: RaftErrorDetails) {
    super(details.message)
    this.code = details.code
    this.retriable = details.retriable
    this.maybeApplied = details.maybeApplied
  }
}

/** Reads the JSON of an error answer. What a node sends is not trusted: anything odd becomes `internal`. */
export function readErrorBody(json: Uint8Array): ErrorBody {
  const body = readJsonObject(json)
  const code = ERROR_CODES.find((known) => known === body?.code)
  if (body === null || code === undefined) {
    const shown = typeof body?.code === 'string' ? body.code.slice(0, CODE_SHOWN_CHARS) : 'no code'
    const message = `the node answered an error this client does not know: ${shown}`
    return { code: 'internal', message, retriable: false, maybeApplied: true }
  }
  return {
    code,
    message: typeof body.message === 'string' ? body.message : code,
    retriable: body.retriable === true,
    // Without a word on it, assume the worse.
    maybeApplied: body.maybeApplied !== false,
  }
}

/** The object a node sent as JSON, or null when it is none. */
export function readJsonObject(json: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(json))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}
