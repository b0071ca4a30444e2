/**
 * What this node has proposed as leader, and who waits for it: answered when the entry at that index *and term* is applied. Pure.
 *
 * A request that is asked for again while its first entry is still on its way (its asker has lost patience, or a frame) joins that
 * one instead of entering the log twice: a cluster that is slow must not get more work for being slow.
 */
import { decodeCommand, KEYED_HEADER_BYTES } from '../client/protocol.ts'
import { mark } from './raft/marks.ts'
import type { Entry, Index, Term } from './raft/types.ts'

interface Proposed<Asker> {
  readonly term: Term
  readonly askers: Asker[]
  readonly key: string
}

const ASKERS_MAX = 32

export class Proposals<Asker> {
  readonly #byIndex = new Map<Index, Proposed<Asker>>()
  /** The index of the request with this key. */
  readonly #byKey = new Map<string, Index>()

  /** Whether the same request is on its way already, in which case the asker waits for that. The command is well formed. */
  join(command: Uint8Array, asker: Asker): boolean {
    const index = this.#byKey.get(keyOf(command))
    const proposed = index === undefined ? undefined : this.#byIndex.get(index)
    if (proposed === undefined) return false
    mark('proposals: a request joins itself in the log')
    proposed.askers.push(asker)
    // A peer that asks again has given up its earlier question, so that the oldest askers are the ones nobody waits for.
    if (proposed.askers.length > ASKERS_MAX) proposed.askers.shift()
    return true
  }

  add(id: { readonly term: Term; readonly index: Index }, command: Uint8Array, asker: Asker): void {
    const key = keyOf(command)
    this.#byIndex.set(id.index, { term: id.term, askers: [asker], key })
    if (key !== '') this.#byKey.set(key, id.index)
  }

  /** Who waited at this index, and whether it is what they asked for: another leader's entry may have taken the place. */
  applied(entry: Entry): { readonly askers: readonly Asker[]; readonly same: boolean } | null {
    const proposed = this.#byIndex.get(entry.index)
    if (proposed === undefined) return null
    this.#forget(entry.index, proposed)
    return { askers: proposed.askers, same: proposed.term === entry.term }
  }

  /** Everybody who waits; nobody does afterwards. */
  abandon(): Asker[] {
    const askers = [...this.#byIndex.values()].flatMap((proposed) => proposed.askers)
    this.#byIndex.clear()
    this.#byKey.clear()
    return askers
  }

  #forget(index: Index, { key }: Proposed<Asker>): void {
    this.#byIndex.delete(index)
    if (this.#byKey.get(key) === index) this.#byKey.delete(key)
  }
}

/** The same for every copy of one request; empty for what has neither a number nor a name, which is never taken for a copy. */
function keyOf(command: Uint8Array): string {
  const { kind, session, sequence, operation } = decodeCommand(command)
  if (kind === 'operation') return `${session} ${sequence}`
  if (kind !== 'keyed') return ''
  return `${sequence} ${String.fromCharCode(...operation.subarray(0, KEYED_HEADER_BYTES))}`
}
