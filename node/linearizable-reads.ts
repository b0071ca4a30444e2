/**
 * Reads on their way: the question for an index (ReadIndex, thesis 6.4) that the core answers, and what then waits until that index
 * is applied here. Pure. It knows no machine: `serve` is called for each request whose time has come.
 */
import type { Asker } from './answers.ts'
import { mark } from './raft/marks.ts'
import type { Raft } from './raft/raft.ts'
import type { Index } from './raft/types.ts'
import type { RequestTable } from './request-table.ts'

export interface ReadParts {
  readonly raft: Pick<Raft, 'readIndex'> & {
    readonly log: { readonly appliedIndex: Index }
  }
  /** Those of this node's own clients that are not answered yet. */
  readonly requests: Pick<RequestTable, 'get'>
  /** A peer has its index and answers its own clients. */
  readonly tell: (asker: Asker & { readonly type: 'peer' }, index: Index) => void
  /** This node does not lead: the read must be asked for elsewhere. */
  readonly refuse: (asker: Asker) => void
  readonly serve: (requestId: number, query: Uint8Array) => void
}

/** Far more than are ever on their way while a leader commits; one that cannot must not gather them for ever. */
export const ROUNDS_MAX = 16_384
/** What nobody waits for any more is looked for when twice as much waits as was left then, and not before so much does. */
export const SWEEP_MIN = 1024

export class LinearizableReads {
  readonly #parts: ReadParts
  /** Questions handed to the core, by id. */
  readonly #rounds = new Map<number, Asker>()
  /** May be served once their index is applied. */
  #waiting: { readonly index: Index; readonly requestIds: readonly number[] }[] = []
  #sweepAt = SWEEP_MIN
  #nextId = 1

  constructor(parts: ReadParts) {
    this.#parts = parts
  }

  /** Questions without an index, and answers that wait for theirs. */
  get count(): number {
    return this.#rounds.size + this.#waiting.length
  }

  start(asker: Asker): void {
    if (this.#rounds.size >= ROUNDS_MAX) {
      mark('reads: too many wait for an index')
      return this.#parts.refuse(asker)
    }
    const id = this.#nextId++
    if (this.#parts.raft.readIndex(id)) this.#rounds.set(id, asker)
    else this.#parts.refuse(asker)
  }

  confirmed(id: number, index: Index): void {
    const asker = this.#rounds.get(id)
    this.#rounds.delete(id)
    if (asker === undefined) return
    if (asker.type === 'peer') this.#parts.tell(asker, index)
    else this.wait(index, asker.requestIds)
  }

  lost(id: number): void {
    const asker = this.#rounds.get(id)
    this.#rounds.delete(id)
    if (asker !== undefined) this.#parts.refuse(asker)
  }

  /** The leader has named the index at which these may be served here. */
  wait(index: Index, requestIds: readonly number[]): void {
    this.#waiting.push({ index, requestIds })
    if (this.#waiting.length >= this.#sweepAt) this.#sweep()
  }

  serveDue(): void {
    if (this.#waiting.length === 0) return
    const { raft, requests, serve } = this.#parts
    const { appliedIndex } = raft.log
    this.#waiting = this.#waiting.filter(({ index, requestIds }) => {
      if (index > appliedIndex) return true
      for (const requestId of requestIds) {
        const request = requests.get(requestId)?.request
        if (request?.type === 'query') serve(requestId, request.query)
      }
      return false
    })
  }

  /** A node that is far behind may apply nothing for minutes, while its clients lose their patience and ask again. */
  #sweep(): void {
    mark('reads: those that nobody waits for are dropped')
    const { requests } = this.#parts
    this.#waiting = this.#waiting.filter(({ requestIds }) =>
      requestIds.some((requestId) => requests.get(requestId) !== undefined),
    )
    this.#sweepAt = Math.max(SWEEP_MIN, 2 * this.#waiting.length)
  }
}
