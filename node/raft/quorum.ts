/**
 * Quorum arithmetic over a joint configuration: both majorities are needed for votes, commits and reads
 * (paper, section 6). Outside a change the outgoing half is empty and agrees to everything.
 */
import type { Index, PeerId } from './types.ts'

/** The two halves, as replicas. `outgoing` is empty except in a joint configuration. Learners never count. */
export interface Quorum {
  readonly incoming: readonly PeerId[]
  readonly outgoing: readonly PeerId[]
}

export type VoteResult = 'won' | 'lost' | 'pending'

export function majority(count: number): number {
  return Math.floor(count / 2) + 1
}

/** `voteOf` gives true, false, or undefined for a voter that has not answered. */
export function voteResult(
  quorum: Quorum,
  voteOf: (voter: PeerId) => boolean | undefined,
): VoteResult {
  // A node without a configuration can win nothing, whoever answers.
  if (quorum.incoming.length === 0) return 'lost'
  const incoming = halfResult(quorum.incoming, voteOf)
  if (quorum.outgoing.length === 0) return incoming
  const outgoing = halfResult(quorum.outgoing, voteOf)
  if (incoming === 'lost' || outgoing === 'lost') return 'lost'
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'pending'
}

function halfResult(
  voters: readonly PeerId[],
  voteOf: (voter: PeerId) => boolean | undefined,
): VoteResult {
  let granted = 0
  let refused = 0
  for (const voter of voters) {
    const vote = voteOf(voter)
    if (vote === true) granted++
    else if (vote === false) refused++
  }
  const needed = majority(voters.length)
  if (granted >= needed) return 'won'
  return voters.length - refused < needed ? 'lost' : 'pending'
}

/** The highest index that a majority of each half has reached. */
export function agreedIndex(quorum: Quorum, indexOf: (voter: PeerId) => Index): Index {
  const incoming = halfAgreed(quorum.incoming, indexOf)
  if (quorum.outgoing.length === 0) return incoming
  return Math.min(incoming, halfAgreed(quorum.outgoing, indexOf))
}

function halfAgreed(voters: readonly PeerId[], indexOf: (voter: PeerId) => Index): Index {
  if (voters.length === 0) return 0
  // Sorted by insertion: they are few, and nearly in order.
  const reached: Index[] = []
  for (const voter of voters) {
    const index = indexOf(voter)
    let at = reached.length
    while (at > 0 && (reached[at - 1] as Index) < index) at--
    reached.splice(at, 0, index)
  }
  return reached[majority(voters.length) - 1] as Index
}
