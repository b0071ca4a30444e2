/**
 * Takes calls to an answer: numbers writes in a session, sends in order what there is room for, sends again what was lost or
 * refused for the moment, and gives up at the deadline. A write is repeated with the same session and sequence
 * only, so that it runs once, however often it is sent (thesis 6.3).
 */
import { Call, type CallOptions, type CallRequest, type CallResult } from './call.ts'
import { CallQueue } from './call-queue.ts'
import { Connector, type ConnectorEvents, type ConnectorOptions } from './connector.ts'
import { RaftError, type RaftErrorCode, readErrorBody } from './errors.ts'
import { gone, type LeaderInfo, type Link, type LinkFailure } from './link.ts'
import {
  type Answer,
  decodeOutcome,
  type ErrorBody,
  encodeCommand,
  type Outcome,
} from './protocol.ts'
import { Session } from './session.ts'

/**
 * What a node is given for one attempt: longer than an election, and short enough that a call outlives a node which is cut off
 * from the others but still talks to clients.
 */
const ATTEMPT_MS = 4_000
/** Between a passing refusal and the next attempt; doubles up to the second one, with jitter. */
const PAUSE_MS_MIN = 20
const PAUSE_MS_MAX = 500
/** A timer takes no more (2^31 - 1). */
const TIMEOUT_MS_MAX = 0x7fff_ffff

/** Refusals that pass by themselves. `timeout` is treated alike while the call's own time lasts. */
const PASSING: ReadonlySet<RaftErrorCode> = new Set<RaftErrorCode>([
  'no-leader',
  'not-founded',
  'overloaded',
  'closing',
  'timeout',
])

export class Dispatcher implements ConnectorEvents {
  readonly #connector: Connector
  readonly #timeoutMs: number
  /** Writes wait for a session; everything else does not. */
  readonly #writes = new CallQueue()
  readonly #others = new CallQueue()
  /** Every call without an answer, wherever it is. */
  readonly #open = new Set<Call>()
  readonly #signals = new Map<
    AbortSignal,
    { readonly calls: Set<Call>; readonly stop: () => void }
  >()
  #session: Session | null = null
  #opening: Call | null = null
  #nextOrder = 1
  #flushing = false
  #pauses = 0
  #pauseTimer: ReturnType<typeof setTimeout> | null = null
  #closed = false

  constructor(options: ConnectorOptions & { readonly timeoutMs: number }) {
    this.#timeoutMs = options.timeoutMs
    this.#connector = new Connector(options, this)
    this.#connector.start()
  }

  get leaderInfo(): LeaderInfo | null {
    return this.#connector.leaderInfo
  }

  call(request: CallRequest, options: CallOptions = {}): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      const timeoutMs = Math.min(options.timeoutMs ?? this.#timeoutMs, TIMEOUT_MS_MAX)
      const call = new Call(
        { request, order: this.#nextOrder++, deadlineMs: performance.now() + timeoutMs },
        { resolve, reject },
      )
      if (this.#closed) {
        call.fail('aborted', 'the client is closed', { retriable: false })
        return
      }
      if (options.signal?.aborted === true) {
        call.fail('aborted', 'the call was aborted before it began', { retriable: false })
        return
      }
      this.#admit(call, timeoutMs, options.signal)
    })
  }

  /** Idempotent. What is unanswered fails with `aborted`. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#pauseTimer !== null) clearTimeout(this.#pauseTimer)
    const session = this.#session
    this.#connector.close((link) => {
      // A courtesy: the cluster keeps replies for this session until it knows that nobody will ask for them.
      if (session !== null) this.#postCommand(link, null, session.closing(), CLOSE_SESSION_MS)
    })
    for (const call of [...this.#open]) {
      call.fail('aborted', 'the client was closed', { retriable: false })
    }
  }

  // --- what the connector reports ------------------------------------------------------------------------------

  wake(): void {
    if (this.#flushing) return
    this.#flushing = true
    // All calls of one turn leave together.
    queueMicrotask(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  answered(link: Link, call: Call, answer: Answer): void {
    call.inFlight = false
    if (call.settled) return
    if (answer.type === 'error') {
      this.#refused(link, call, readErrorBody(answer.json))
      return
    }
    if (call.provesService) link.refusals = 0
    this.#pauses = 0
    if (answer.type === 'json') call.resolve({ index: 0, body: answer.json })
    else if (answer.type === 'result') this.#done(call, { index: answer.index, body: answer.body })
  }

  lost(calls: Call[], failure: LinkFailure): void {
    const again: Call[] = []
    const tooBig = failure.tooBig ? largest(calls) : null
    for (const call of calls) {
      call.inFlight = false
      call.doubt = true
      if (call === tooBig) {
        const message = 'the node closed the connection: a request was larger than it accepts'
        call.fail('too-large', message, { retriable: false })
      } else if (call.repeatable) {
        again.push(call)
      } else {
        call.fail('unreachable', `the connection was lost: ${failure.message}`, { retriable: true })
      }
    }
    this.#putBack(again)
  }

  refused(failure: LinkFailure): void {
    for (const call of [...this.#open]) {
      call.fail(failure.code, failure.message, { retriable: false })
    }
    this.#dropOpening()
  }

  // --- the life of a call --------------------------------------------------------------------------------------

  #admit(call: Call, timeoutMs: number, signal: AbortSignal | undefined): void {
    const timer = setTimeout(() => this.#expire(call), timeoutMs)
    this.#open.add(call)
    if (signal !== undefined) this.#listen(call, signal)
    call.release = () => {
      clearTimeout(timer)
      this.#open.delete(call)
      if (signal !== undefined) this.#unlisten(call, signal)
      call.session?.forget(call.sequence)
      // Its place in the session's window is free.
      this.wake()
    }
    const queue = call.request.type === 'write' ? this.#writes : this.#others
    queue.push(call)
    this.wake()
  }

  #done(call: Call, result: CallResult): void {
    const { type } = call.request
    if (type !== 'write' && type !== 'openSession') {
      call.resolve(result)
      return
    }
    let outcome: Outcome
    try {
      outcome = decodeOutcome(result.body)
    } catch {
      const message = 'the node answered a write with bytes that are no outcome'
      call.fail('internal', message, { retriable: false, maybeApplied: true })
      return
    }
    if (outcome.status === 'done') {
      call.session?.touch(performance.now())
      call.resolve({ index: result.index, body: outcome.body })
    } else {
      this.#sessionLost(call)
    }
  }

  /**
   * The cluster does not know the session any more. This write was not run now. Whether it ran earlier nobody can tell, even
   * if the client sent it only once: the nodes pass it on, and do so again after a change of leader.
   */
  #sessionLost(call: Call): void {
    if (call.session === this.#session) this.#session = null
    call.fail('session-expired', 'the cluster has forgotten this session: read to see what holds', {
      retriable: true,
      maybeApplied: true,
    })
  }

  #refused(link: Link, call: Call, error: ErrorBody): void {
    if (error.code === 'session-expired') {
      this.#sessionLost(call)
      return
    }
    if (error.maybeApplied) call.doubt = true
    if (!PASSING.has(error.code) || !call.repeatable) {
      call.fail(error.code, error.message, { retriable: error.retriable })
      return
    }
    call.refusal = error
    if (error.code !== 'overloaded') this.#connector.disfavour(link, error.code)
    this.#putBack([call])
    this.#pause()
  }

  /** Time is up: says what is known of the call. */
  #expire(call: Call): void {
    const waitedFor = this.#connector.problem
    // A write that waits for a session was not refused itself.
    const refusal = call.refusal ?? (call.session === null ? this.#openingRefusal(call) : null)
    if (call.maybeApplied) {
      const reason = waitedFor === null ? '' : ` (${waitedFor.message})`
      const message = `no answer in time: the write may have been applied, or may still be${reason}`
      call.fail('timeout', message, { retriable: true })
    } else if (refusal !== null && refusal.code !== 'timeout') {
      call.fail(refusal.code, refusal.message, { retriable: true })
    } else if (waitedFor !== null) {
      call.fail(waitedFor.code, waitedFor.message, { retriable: !waitedFor.refused })
    } else {
      call.fail('timeout', 'no answer in time', { retriable: true })
    }
  }

  #openingRefusal(call: Call): ErrorBody | null {
    return call.request.type === 'write' ? (this.#opening?.refusal ?? null) : null
  }

  #putBack(calls: readonly Call[]): void {
    const live = calls.filter((call) => !call.settled)
    this.#writes.putBack(live.filter((call) => call.request.type === 'write'))
    this.#others.putBack(live.filter((call) => call.request.type !== 'write'))
    this.wake()
  }

  /** Nothing is sent for a moment: what one call was refused for holds for the others too. */
  #pause(): void {
    if (this.#pauseTimer !== null || this.#closed) return
    const delayMs = Math.min(PAUSE_MS_MIN * 2 ** this.#pauses, PAUSE_MS_MAX)
    this.#pauses = Math.min(this.#pauses + 1, 10)
    this.#pauseTimer = setTimeout(
      () => {
        this.#pauseTimer = null
        this.#flush()
      },
      delayMs * (0.5 + Math.random()),
    )
  }

  // --- sending -------------------------------------------------------------------------------------------------

  #flush(): void {
    const link = this.#connector.sendable
    if (this.#closed || link === null || this.#pauseTimer !== null) return
    while (link.hasRoom) {
      const call = this.#take()
      if (call === null) break
      if (call.mayGoTo(link.url)) this.#post(link, call)
      else this.#failAway(call)
    }
    link.flush()
  }

  /** The next call that may be sent, in the order in which the calls were made. */
  #take(): Call | null {
    const write = this.#writes.peek()
    const mayWrite = write !== null && this.#maySend(write)
    // Asked for after the session, because opening one is a call among the others.
    if (write === null) this.#dropOpening()
    const other = this.#others.peek()
    if (write !== null && mayWrite && (other === null || write.order < other.order)) {
      this.#writes.drop()
      return write
    }
    if (other !== null) this.#others.drop()
    return other
  }

  #maySend(write: Call): boolean {
    if (write.session !== null) return true
    const nowMs = performance.now()
    if (this.#session?.isStale(nowMs) === true) this.#session = null
    if (this.#session === null) {
      this.#openSession()
      return false
    }
    return this.#session.hasRoom
  }

  #post(link: Link, call: Call): void {
    const { request } = call
    const remainingMs = Math.max(1, Math.ceil(call.deadlineMs - performance.now()))
    const timeoutMs = Math.min(remainingMs, ATTEMPT_MS)
    call.inFlight = true
    call.askedAt ??= link.url
    switch (request.type) {
      case 'write': {
        const command = call.command ?? this.#session?.admit(call, request.operation)
        if (command === undefined) throw new Error('a write was sent without a session')
        this.#postCommand(link, call, command, timeoutMs)
        break
      }
      case 'openSession':
        this.#postCommand(link, call, OPEN_SESSION, timeoutMs)
        break
      case 'query': {
        const { query, consistency } = request
        link.post(call, (id) => ({ type: 'query', requestId: id, timeoutMs, consistency, query }))
        break
      }
      case 'status':
        link.post(call, (requestId) => ({ type: 'status', requestId }))
        break
      case 'admin': {
        const { name, json } = request
        link.post(call, (requestId) => ({ type: 'admin', requestId, name, json }))
        break
      }
    }
  }

  /** The connection goes to another node now than to the one that refused it for the moment. */
  #failAway(call: Call): void {
    const { code, message } = call.refusal ?? gone(`${call.askedAt} was left`)
    call.fail(code, message, { retriable: true })
  }

  #postCommand(link: Link, call: Call | null, command: Uint8Array, timeoutMs: number): void {
    link.post(call, (requestId) => ({ type: 'command', requestId, timeoutMs, command }))
  }

  /** Repeating it is harmless: a session that nobody uses is forgotten. */
  #openSession(): void {
    if (this.#opening !== null) return
    const opening = new Call(
      { request: { type: 'openSession' }, order: 0, deadlineMs: Number.POSITIVE_INFINITY },
      {
        resolve: ({ index }) => {
          this.#opening = null
          this.#session = new Session(index, performance.now())
          this.wake()
        },
        reject: (error) => {
          this.#opening = null
          if (error instanceof RaftError) this.#failUnsent(error)
        },
      },
    )
    this.#opening = opening
    this.#others.putBack([opening])
  }

  /** Nobody needs the session any more. If it opens all the same, the cluster forgets it. */
  #dropOpening(): void {
    const opening = this.#opening
    this.#opening = null
    if (opening !== null) opening.settled = true
  }

  /** No session, no write: those that wait for one share its error. */
  #failUnsent(error: RaftError): void {
    for (const call of this.#writes.all()) {
      if (call.session !== null) continue
      call.fail(error.code, error.message, { retriable: error.retriable })
    }
  }

  // --- signals -------------------------------------------------------------------------------------------------

  /** One listener a signal, however many calls share it: runtimes warn of more. */
  #listen(call: Call, signal: AbortSignal): void {
    let known = this.#signals.get(signal)
    if (known === undefined) {
      const calls = new Set<Call>()
      const abort = () => {
        for (const one of [...calls]) {
          const message = one.maybeApplied
            ? 'the call was aborted: the write may have been applied, or may still be'
            : 'the call was aborted'
          one.fail('aborted', message, { retriable: false })
        }
      }
      signal.addEventListener('abort', abort)
      known = { calls, stop: () => signal.removeEventListener('abort', abort) }
      this.#signals.set(signal, known)
    }
    known.calls.add(call)
  }

  #unlisten(call: Call, signal: AbortSignal): void {
    const known = this.#signals.get(signal)
    if (known === undefined) return
    known.calls.delete(call)
    if (known.calls.size > 0) return
    known.stop()
    this.#signals.delete(signal)
  }
}

const CLOSE_SESSION_MS = 1_000

const OPEN_SESSION = encodeCommand({
  kind: 'openSession',
  session: 0,
  sequence: 0,
  firstOutstanding: 0,
  operation: new Uint8Array(0),
})

function largest(calls: readonly Call[]): Call | null {
  const sizeOf = (call: Call) => (call.request.type === 'write' ? call.request.operation.length : 0)
  return calls.reduce<Call | null>(
    (best, call) => (best === null || sizeOf(call) > sizeOf(best) ? call : best),
    null,
  )
}
