/** How whoever asked gets an answer: a client of this node through its request, a peer through a frame. Pure. */
import { type ErrorCode, errorBody } from '../client/protocol.ts'
import { type ChangeAnswer, encodeChangeAnswer } from './change-request.ts'
import type { PeerFrame } from './peer-frame.ts'
import { encodeAsciiJson } from './raft/ascii-json.ts'
import type { Index, PeerId } from './raft/types.ts'
import type { Outbox } from './replica-effects.ts'
import type { ServiceAnswer } from './request.ts'
import type { Pending, RequestTable } from './request-table.ts'

/** Who asked for what stands at a log index, or for a read: clients of this node, or a peer. */
export type Asker =
  | { readonly type: 'own'; readonly requestIds: readonly number[] }
  | { readonly type: 'peer'; readonly peer: PeerId; readonly requestId: number }

export type ForwardOutcome = (PeerFrame & { type: 'forwardReply' })['outcome']

const NOTHING = new Uint8Array(0)

export class Answers {
  readonly #requests: RequestTable
  readonly #out: Outbox

  constructor(requests: RequestTable, out: Outbox) {
    this.#requests = requests
    this.#out = out
  }

  finish(requestId: number, answer: ServiceAnswer): void {
    this.#requests.remove(requestId)
    this.#out.answer(requestId, answer)
  }

  fail(requestId: number, code: ErrorCode, message: string, maybeApplied = false): void {
    const isQuery = this.#requests.get(requestId)?.request.type === 'query'
    const error = errorBody(code, message, maybeApplied && !isQuery)
    this.finish(requestId, { ok: false, error })
  }

  /** By the leader, to which it was forwarded. */
  refused(requestId: number, outcome: Exclude<ForwardOutcome, 'done' | 'not-leader'>): void {
    const isMalformed = outcome === 'bad-request'
    const message = isMalformed ? 'the leader cannot read it' : `the leader is ${outcome}`
    this.fail(requestId, outcome, message, !isMalformed)
  }

  /** Its time is up. */
  timeOut({ requestId, dispatched }: Pending): void {
    if (dispatched) this.fail(requestId, 'timeout', 'no answer from a quorum in time', true)
    else this.fail(requestId, 'no-leader', 'no node leads the cluster')
  }

  close(): void {
    for (const { requestId, dispatched } of this.#requests.all()) {
      this.fail(requestId, 'closing', 'this node is stopping', dispatched)
    }
  }

  reply(
    asker: Asker & { readonly type: 'peer' },
    outcome: ForwardOutcome,
    index: Index = 0,
    body: Uint8Array = NOTHING,
  ): void {
    const { peer, requestId } = asker
    this.#out.send(peer, { type: 'forwardReply', requestId, outcome, index, body })
  }

  /** The entry that was asked for is applied. */
  done(asker: Asker, index: Index, body: Uint8Array): void {
    if (asker.type === 'peer') return this.reply(asker, 'done', index, body)
    for (const requestId of asker.requestIds) {
      if (this.#requests.get(requestId) === undefined) continue
      this.finish(requestId, { ok: true, index, body })
    }
  }

  change(asker: Asker, answer: ChangeAnswer): void {
    if (asker.type === 'peer') return this.reply(asker, 'done', 0, encodeChangeAnswer(answer))
    for (const requestId of asker.requestIds) this.finishChange(requestId, answer)
  }

  finishChange(requestId: number, answer: ChangeAnswer): void {
    if (this.#requests.get(requestId) === undefined) return
    if (!answer.ok) return this.finish(requestId, answer)
    const { report } = answer
    this.finish(requestId, { ok: true, index: report.configIndex, body: encodeAsciiJson(report) })
  }
}
