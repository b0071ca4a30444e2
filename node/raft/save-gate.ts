/**
 * The one place where "save before you answer" is enforced (paper, figure 2; rule 1 of CORRECTNESS). A promise (a vote, an
 * acknowledgement, the own vote of a candidate) is held here with exactly the state it depends on and leaves when that state
 * is durable. Promises of an older term are dropped when the term rises: a lost message is always safe, a false one never.
 */
import type { Outgoing, RaftMessage } from './messages.ts'
import type { Index } from './types.ts'

interface Needs {
  /** The version of {term, vote} that must be on disk. */
  readonly hardVersion: number
  /** The log index that must be stable. */
  readonly index: Index
}

/** Only acknowledgements come again and again. */
function isSame(a: RaftMessage, b: RaftMessage): boolean {
  return (
    a.type === 'appendResponse' &&
    b.type === 'appendResponse' &&
    a.accepted &&
    b.accepted &&
    a.term === b.term &&
    a.matchIndex === b.matchIndex
  )
}

export class SaveGate {
  #held: { readonly outgoing: Outgoing; readonly needs: Needs }[] = []

  get size(): number {
    return this.#held.length
  }

  /** A promise that already waits is not held twice: while a disk hangs, a leader repeats what it has not seen answered. */
  hold(outgoing: Outgoing, needs: Needs): void {
    const waits = this.#held.some(
      (other) =>
        other.outgoing.to === outgoing.to &&
        other.needs.index === needs.index &&
        other.needs.hardVersion === needs.hardVersion &&
        isSame(other.outgoing.message, outgoing.message),
    )
    if (!waits) this.#held.push({ outgoing, needs })
  }

  /** Everything whose needs are met, in the order in which it was held. */
  release(durable: Needs): Outgoing[] {
    if (this.#held.length === 0) return []
    const ready: Outgoing[] = []
    this.#held = this.#held.filter(({ outgoing, needs }) => {
      const met = needs.hardVersion <= durable.hardVersion && needs.index <= durable.index
      if (met) ready.push(outgoing)
      return !met
    })
    return ready
  }

  clear(): void {
    this.#held = []
  }
}
