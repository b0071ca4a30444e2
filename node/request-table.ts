/**
 * The requests of this node's own clients that are not answered yet: where each stands, and when its time is up. Pure; time is
 * ticks. A request may be sent more than once (to a new leader, after a lost link): a write is safe to repeat because its session
 * knows it, a read because it changes nothing.
 */
import { MalformedError } from '../client/bytes.ts'
import { decodeCommand } from '../client/protocol.ts'
import type { ServiceRequest } from './request.ts'

export interface Pending {
  readonly requestId: number
  readonly request: ServiceRequest
  /** The tick at which it is answered with an error. */
  readonly deadline: number
  /** It has left this node or entered its log at least once, so that it may have taken effect. */
  dispatched: boolean
  /** Waits for a leader, and not before this tick. */
  notBefore: number
  /** How often it was sent again because no answer came. */
  repeats: number
}

export class RequestTable {
  readonly #pending = new Map<number, Pending>()
  /** Those that must be sent (again), in order of arrival. */
  #queue: number[] = []
  #bytes = 0

  get count(): number {
    return this.#pending.size
  }

  get bytes(): number {
    return this.#bytes
  }

  add(pending: Pending): void {
    this.#pending.set(pending.requestId, pending)
    this.#bytes += sizeOf(pending.request)
    this.#queue.push(pending.requestId)
  }

  get(requestId: number): Pending | undefined {
    return this.#pending.get(requestId)
  }

  remove(requestId: number): void {
    const pending = this.#pending.get(requestId)
    if (pending === undefined) return
    this.#pending.delete(requestId)
    this.#bytes -= sizeOf(pending.request)
  }

  /** Sends it again, from `notBefore` on. Ignored for what is answered or given up. */
  requeue(requestId: number, notBefore: number): void {
    const pending = this.#pending.get(requestId)
    if (pending === undefined) return
    pending.notBefore = notBefore
    this.#queue.push(requestId)
  }

  /** Somebody new leads: whatever waited for that is due. */
  hurry(): void {
    for (const requestId of this.#queue) {
      const pending = this.#pending.get(requestId)
      if (pending !== undefined) pending.notBefore = 0
    }
  }

  /** Takes what is due; the rest stays queued. */
  takeDue(tick: number): Pending[] {
    if (this.#queue.length === 0) return []
    const due: Pending[] = []
    const later: number[] = []
    for (const requestId of this.#queue) {
      const pending = this.#pending.get(requestId)
      if (pending === undefined) continue
      if (pending.notBefore > tick) later.push(requestId)
      else due.push(pending)
    }
    this.#queue = later
    return due
  }

  expired(tick: number): Pending[] {
    return [...this.#pending.values()].filter((pending) => pending.deadline <= tick)
  }

  all(): Pending[] {
    return [...this.#pending.values()]
  }
}

function sizeOf(request: ServiceRequest): number {
  switch (request.type) {
    case 'command':
      return request.command.length
    case 'query':
      return request.query.length
    case 'change':
      return request.body.length
  }
}

/** What is no command never enters the log, where every member would have to make the same nothing of it. */
export function isCommand(bytes: Uint8Array): boolean {
  try {
    decodeCommand(bytes)
    return true
  } catch (error) {
    if (error instanceof MalformedError) return false
    throw error
  }
}
