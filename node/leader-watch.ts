/** Who leads, as clients hear of it: told at every change, and only then. Part of the runtime. */
import type { PeerId, Term } from './raft/types.ts'
import type { LeaderInfo } from './service.ts'

export class LeaderWatch {
  readonly #listeners = new Set<(leader: LeaderInfo) => void>()
  #leader: LeaderInfo = { leaderId: null, leaderUrl: null, term: 0 }
  /** What #leader was made from, so that it is made anew only when that has changed. */
  #seen: { readonly peer: PeerId | null; readonly term: Term; readonly news: number } = {
    peer: null,
    term: 0,
    news: 0,
  }
  /** Counts the changes of what is known of peers' addresses. */
  #news = 0

  get leader(): LeaderInfo {
    return this.#leader
  }

  onChange(changed: (leader: LeaderInfo) => void): () => void {
    this.#listeners.add(changed)
    return () => {
      this.#listeners.delete(changed)
    }
  }

  /** The leader's address may have become known, or who it is: a node that joins hears of it before it knows the members. */
  addressesChanged(): void {
    this.#news++
  }

  /** Whether `tell` is wanted. Most turns change nothing here, and this is asked in every one. */
  isNews(peer: PeerId | null, term: Term): boolean {
    const seen = this.#seen
    if (seen.peer === peer && seen.term === term && seen.news === this.#news) return false
    this.#seen = { peer, term, news: this.#news }
    return true
  }

  tell(leader: LeaderInfo): void {
    const before = this.#leader
    if (
      leader.leaderId === before.leaderId &&
      leader.leaderUrl === before.leaderUrl &&
      leader.term === before.term
    ) {
      return
    }
    this.#leader = leader
    for (const listener of this.#listeners) listener(leader)
  }
}
