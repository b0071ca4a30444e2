/**
 * Writes in a session of this process's own, for callers that have none: HTTP requests, or an embedding program. The
 * session is opened when the first write needs it. A write that timed out can be applied no later: its sequence is given up, so
 * that the replicated table refuses it from then on (thesis 6.3). Knows nothing of HTTP.
 */
import { decodeOutcome, type ErrorBody, encodeCommand } from '../../client/protocol.ts'
import type { Index } from '../raft/types.ts'
import type { Service, ServiceAnswer } from '../service.ts'
import { errorBody } from './problem.ts'

/** `body`: the machine's result. */
export type WriteAnswer =
  | { readonly ok: true; readonly index: Index; readonly body: Uint8Array }
  | { readonly ok: false; readonly error: ErrorBody }

export interface SessionWriterOptions {
  /** Writes without an answer, beyond which `overloaded` is answered. */
  readonly pendingMax: number
  /** How long opening a session may take. */
  readonly openTimeoutMs: number
  /** Sequences from the first without an answer to the newest: less than the replies the cluster keeps for a session. */
  readonly windowMax?: number
  /** A session idle for longer may have been expired by the cluster, and a write refused for it leaves a doubt. */
  readonly idleMsMax?: number
  readonly now?: () => number
}

interface OpenSession {
  readonly id: number
  nextSequence: number
  /** Sequences without an answer, ascending: a Set keeps the order of insertion. */
  readonly outstanding: Set<number>
  usedAtMs: number
  /** No new write uses it; closed when the last answer came. */
  retired: boolean
}

interface Write {
  readonly operation: Uint8Array
  readonly deadlineMs: number
  readonly answer: (answer: WriteAnswer) => void
  settled: boolean
  /** Gives the write up wherever it is. */
  cancel: () => void
}

const WINDOW_MAX = 1024
const IDLE_MS_MAX = 60_000
const CLOSE_TIMEOUT_MS = 1000
const NOTHING = new Uint8Array(0)

export class SessionWriter {
  readonly #service: Pick<Service, 'request'>
  readonly #options: Required<SessionWriterOptions>
  #session: OpenSession | null = null
  /** Gives up the request that opens a session, while one is under way. */
  #cancelOpening: (() => void) | null = null
  /** Writes that wait for a session, in the order in which they came. */
  readonly #waiting = new Set<Write>()
  #pending = 0
  #closed = false

  constructor(service: Pick<Service, 'request'>, options: SessionWriterOptions) {
    this.#service = service
    this.#options = {
      windowMax: WINDOW_MAX,
      idleMsMax: IDLE_MS_MAX,
      now: () => performance.now(),
      ...options,
    }
  }

  /**
   * Answers once, in a later turn, unless the returned function gave it up before. `operation` is copied. An error is
   * `maybeApplied` exactly when the write may have taken effect.
   */
  write(
    request: { readonly operation: Uint8Array; readonly timeoutMs: number },
    answer: (answer: WriteAnswer) => void,
  ): () => void {
    const write: Write = {
      operation: request.operation,
      deadlineMs: this.#options.now() + request.timeoutMs,
      answer,
      settled: false,
      cancel: () => {},
    }
    this.#pending++
    if (this.#closed) {
      this.#failLater(write, errorBody('closing', 'the node is stopping'))
    } else if (this.#pending > this.#options.pendingMax) {
      this.#failLater(write, errorBody('overloaded', 'too many writes without an answer'))
    } else {
      this.#admit(write)
    }
    return () => {
      if (!this.#settle(write)) return
      write.cancel()
    }
  }

  /** Fails what is pending with `closing` and closes the session in the cluster, without waiting for it. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#cancelOpening?.()
    this.#cancelOpening = null
    for (const write of this.#waiting) {
      write.cancel()
      this.#failLater(write, errorBody('closing', 'the node is stopping'))
    }
    if (this.#session !== null) this.#retire(this.#session)
    this.#session = null
  }

  #admit(write: Write): void {
    const session = this.#usable()
    if (session !== null) {
      this.#send(session, write)
      return
    }
    const expire = setTimeout(() => {
      this.#waiting.delete(write)
      // It was never sent, so there is no doubt.
      this.#finish(write, {
        ok: false,
        error: errorBody('no-leader', 'no leader opened a session in time; nothing was written'),
      })
    }, this.#remainingMs(write))
    write.cancel = () => {
      clearTimeout(expire)
      this.#waiting.delete(write)
    }
    this.#waiting.add(write)
    if (this.#cancelOpening === null) this.#open()
  }

  /** The session for the next write; null when one must be opened. */
  #usable(): OpenSession | null {
    const session = this.#session
    if (session === null) return null
    const idleMs = this.#options.now() - session.usedAtMs
    const stale = session.outstanding.size === 0 && idleMs > this.#options.idleMsMax
    const full = session.nextSequence - firstOutstanding(session) >= this.#options.windowMax
    if (!stale && !full) return session
    this.#session = null
    this.#retire(session)
    return null
  }

  #open(): void {
    const command = encodeCommand({
      kind: 'openSession',
      session: 0,
      sequence: 0,
      firstOutstanding: 0,
      operation: NOTHING,
    })
    const { openTimeoutMs: timeoutMs } = this.#options
    this.#cancelOpening = this.#service.request({ type: 'command', command, timeoutMs }, (answer) =>
      this.#opened(answer),
    )
  }

  #opened(answer: ServiceAnswer): void {
    this.#cancelOpening = null
    if (this.#closed) return
    if (!answer.ok) {
      // A write that waits longer than the opening was allowed to deserves another attempt; other errors are news for all.
      if (answer.error.code === 'timeout') {
        if (this.#waiting.size > 0) this.#open()
        return
      }
      for (const write of [...this.#waiting]) {
        write.cancel()
        this.#finish(write, { ok: false, error: { ...answer.error, maybeApplied: false } })
      }
      return
    }
    this.#session = {
      id: answer.index,
      nextSequence: 1,
      outstanding: new Set(),
      usedAtMs: this.#options.now(),
      retired: false,
    }
    for (const write of [...this.#waiting]) {
      const session = this.#usable()
      if (session === null) {
        this.#open()
        return
      }
      write.cancel()
      this.#send(session, write)
    }
  }

  #send(session: OpenSession, write: Write): void {
    const sequence = session.nextSequence++
    session.outstanding.add(sequence)
    const command = encodeCommand({
      kind: 'operation',
      session: session.id,
      sequence,
      firstOutstanding: firstOutstanding(session),
      operation: write.operation,
    })
    const timeoutMs = this.#remainingMs(write)
    const cancelRequest = this.#service.request(
      { type: 'command', command, timeoutMs },
      (answer) => {
        this.#forget(session, sequence)
        this.#finish(write, this.#resultOf(session, answer))
      },
    )
    write.cancel = () => {
      cancelRequest()
      this.#forget(session, sequence)
    }
  }

  #resultOf(session: OpenSession, answer: ServiceAnswer): WriteAnswer {
    if (!answer.ok) return answer
    session.usedAtMs = this.#options.now()
    const outcome = decodeOutcome(answer.body)
    if (outcome.status === 'done') return { ok: true, index: answer.index, body: outcome.body }
    // The cluster does not know the session any more. The node may have sent the command more than once, so an earlier
    // copy may have run while the session was still known.
    if (this.#session === session) this.#session = null
    session.retired = true
    const message = 'the cluster forgot this session before it answered; read to see what holds'
    return { ok: false, error: errorBody('session-expired', message, true) }
  }

  #forget(session: OpenSession, sequence: number): void {
    session.outstanding.delete(sequence)
    if (session.retired) this.#retire(session)
  }

  /** Closes a session in the cluster as soon as no write of it is without an answer. Nobody waits for that. */
  #retire(session: OpenSession): void {
    session.retired = true
    if (session.outstanding.size > 0) return
    const { id, nextSequence } = session
    const command = encodeCommand({
      kind: 'closeSession',
      session: id,
      sequence: nextSequence,
      firstOutstanding: nextSequence,
      operation: NOTHING,
    })
    this.#service.request({ type: 'command', command, timeoutMs: CLOSE_TIMEOUT_MS }, () => {})
  }

  #remainingMs(write: Write): number {
    return Math.max(1, Math.ceil(write.deadlineMs - this.#options.now()))
  }

  #failLater(write: Write, error: ErrorBody): void {
    write.cancel = () => {}
    queueMicrotask(() => this.#finish(write, { ok: false, error }))
  }

  #finish(write: Write, answer: WriteAnswer): void {
    if (this.#settle(write)) write.answer(answer)
  }

  #settle(write: Write): boolean {
    if (write.settled) return false
    write.settled = true
    this.#pending--
    return true
  }
}

function firstOutstanding(session: OpenSession): number {
  for (const sequence of session.outstanding) return sequence
  return session.nextSequence
}
