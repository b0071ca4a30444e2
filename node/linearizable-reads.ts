/**
 * Reads on their way: the question for an index (ReadIndex, thesis 6.4) that the core answers, and what then waits until that index
 * is applied here. Pure. It knows no machine: `serve` is called for each request whose time has come.
 */
import type { Asker } from './answers.ts'
import type { Raft } from './raft/raft.ts'
import type { Index } from './raft/types.ts'

export interface ReadParts {
  readonly raft: Raft
  /** A peer has its index and answers its own clients. */
  readonly tell: (asker: Asker & { readonly type: 'peer' }, index: Index) => void
  /** This node does not lead: the read must be asked for elsewhere. */
  readonly refuse: (asker: Asker) => void
  readonly serve: (requestId: number) => void
}

export class LinearizableReads {
  readonly #parts: ReadParts
  /** Questions handed to the core, by id. */
  readonly #rounds = new Map<number, Asker>()
  /** May be served once their index is applied. */
  #waiting: { readonly index: Index; readonly requestIds: readonly number[] }[] = []
  #nextId = 1

  constructor(parts: ReadParts) {
    this.#parts = parts
  }

  start(asker: Asker): void {
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
  }

  serveDue(): void {
    if (this.#waiting.length === 0) return
    const { appliedIndex } = this.#parts.raft.log
    this.#waiting = this.#waiting.filter(({ index, requestIds }) => {
      if (index > appliedIndex) return true
      for (const requestId of requestIds) this.#parts.serve(requestId)
      return false
    })
  }
}
