/** When a node grants its vote (paper 5.2 and 5.4.1, thesis 4.2.3 and 9.6). Pure rules over what the node knows of itself. */
import { beatenBy, type Standing } from './fast-path.ts'
import type { RaftLog } from './log.ts'
import type { RequestVote } from './messages.ts'
import type { VoteRefusal } from './ready.ts'
import { type Configuration, type PeerId, peerIdOf, TERM_LEAP_MAX, type Term } from './types.ts'

export interface Voter {
  readonly term: Term
  readonly vote: PeerId | null
  readonly leaderKnown: boolean
  /** It leads itself, or heard a leader within an election timeout. */
  readonly leaderAlive: boolean
  readonly log: RaftLog
  /** The candidate that has its chance now, itself or one that it stands back for; null: nobody. */
  readonly preferred: Standing | null
  /** While a save is stuck or the disk is full a promise could not be made durable. */
  readonly saveStuck: boolean
  readonly diskFull: boolean
}

/**
 * No election reaches this term. Whoever adopted it would soon have spent the terms that there are, and with them every election to
 * come; one damaged message must not do that.
 */
export function leaps(own: Term, heard: Term): boolean {
  return heard > own + TERM_LEAP_MAX
}

/** Null: granted. A pre-vote promises nothing; it says how a vote would be cast. */
export function preVoteRefusal(voter: Voter, asker: Standing, term: Term): VoteRefusal | null {
  if (term < voter.term) return 'lower-term'
  if (voter.leaderAlive) return 'leader-alive'
  if (!voter.log.isUpToDate(asker.lastTerm, asker.lastIndex)) return 'log-behind'
  // Between equals the ids decide, so that two who ask at once never keep each other from winning (HAZARDS, rules b and c).
  if (voter.preferred !== null && beatenBy(asker, voter.preferred)) return 'other-candidate'
  return unableToSave(voter)
}

/** Null: granted. The voter's term is already at least the candidate's. */
export function voteRefusal(
  voter: Voter,
  candidate: PeerId,
  asked: RequestVote,
): VoteRefusal | null {
  if (asked.term < voter.term) return 'lower-term'
  if (voter.vote !== null && voter.vote !== candidate) return 'already-voted'
  if (voter.vote === null && voter.leaderKnown) return 'leader-alive'
  if (!voter.log.isUpToDate(asked.lastTerm, asked.lastIndex)) return 'log-behind'
  return unableToSave(voter)
}

function unableToSave(voter: Voter): VoteRefusal | null {
  if (voter.diskFull) return 'disk-full'
  return voter.saveStuck ? 'save-stuck' : null
}

/** Whether the replica is a voter in either half. */
export function isVoter(configuration: Configuration, peer: PeerId): boolean {
  const { voters, votersOutgoing, members } = configuration
  const member = members.find((one) => peerIdOf(one) === peer)
  if (member === undefined) return false
  return voters.includes(member.memberId) || votersOutgoing.includes(member.memberId)
}
