/** One call of the user (or of the client itself) on its way to an answer. */
import { RaftError, type RaftErrorCode } from './errors.ts'
import type { Consistency, ErrorBody } from './protocol.ts'
import type { Session } from './session.ts'

export type CallRequest =
  | { readonly type: 'write'; readonly operation: Uint8Array }
  | { readonly type: 'query'; readonly query: Uint8Array; readonly consistency: Consistency }
  | { readonly type: 'status' }
  | {
      readonly type: 'admin'
      readonly name: Uint8Array
      readonly json: Uint8Array
      /** It is about the asked node itself: another one must not do it in its place. */
      readonly ofNode: boolean
    }
  /** The client's own: opens the session that writes need. */
  | { readonly type: 'openSession' }

/** `index` is the log index the answer reflects, 0 for JSON answers. */
export interface CallResult {
  readonly index: number
  readonly body: Uint8Array
}

export interface CallOptions {
  /** Gives the call up: it fails with `aborted`. */
  readonly signal?: AbortSignal | undefined
  /** How long the call may take altogether, retries included. */
  readonly timeoutMs?: number | undefined
}

export class Call {
  readonly request: CallRequest
  /** The order in which calls were made; a call that is sent again keeps its place. */
  readonly order: number
  /** By performance.now(). */
  readonly deadlineMs: number
  /** Given at the first sending and kept for every repeat: what makes it exactly once. */
  session: Session | null = null
  sequence = 0
  command: Uint8Array | null = null
  /** The address of the node that was asked first. */
  askedAt: string | null = null
  /** It lies at a node now, and no answer has come. */
  inFlight = false
  /** An attempt ended without a certain answer: it may have run. Once true, always true. */
  doubt = false
  /** The last refusal by a node, for the message when time runs out. */
  refusal: ErrorBody | null = null
  settled = false
  readonly #resolve: (result: CallResult) => void
  readonly #reject: (error: unknown) => void
  /** Releases the call's timer, signal and sequence. */
  release: (() => void) | null = null

  constructor(
    fields: { readonly request: CallRequest; readonly order: number; readonly deadlineMs: number },
    outcome: {
      readonly resolve: (result: CallResult) => void
      readonly reject: (error: unknown) => void
    },
  ) {
    this.request = fields.request
    this.order = fields.order
    this.deadlineMs = fields.deadlineMs
    this.#resolve = outcome.resolve
    this.#reject = outcome.reject
  }

  /** Reads have no effect, so they are never in doubt. */
  get maybeApplied(): boolean {
    const type = this.request.type
    return (type === 'write' || type === 'admin') && (this.doubt || this.inFlight)
  }

  /** Its answer shows that the node is in touch with a majority. Any node answers for itself, however it is cut off. */
  get provesService(): boolean {
    const { request } = this
    if (request.type === 'query') return request.consistency === 'linearizable'
    return request.type === 'write' || request.type === 'openSession'
  }

  /** An admin verb has no session that would make a repeat harmless. */
  get repeatable(): boolean {
    return this.request.type !== 'admin' || !this.maybeApplied
  }

  mayGoTo(url: string): boolean {
    const { request } = this
    const isBound = request.type === 'admin' && request.ofNode
    return !isBound || this.askedAt === null || this.askedAt === url
  }

  resolve(result: CallResult): void {
    if (!this.#settle()) return
    this.#resolve(result)
  }

  fail(
    code: RaftErrorCode,
    message: string,
    flags: { readonly retriable: boolean; readonly maybeApplied?: boolean },
  ): void {
    const maybeApplied = flags.maybeApplied === true || this.maybeApplied
    if (!this.#settle()) return
    this.#reject(new RaftError({ code, message, retriable: flags.retriable, maybeApplied }))
  }

  #settle(): boolean {
    if (this.settled) return false
    this.settled = true
    this.release?.()
    this.release = null
    return true
  }
}
