/**
 * The messages one consensus core sends another. Times never travel; every message carries the sender's
 * term. No message names its sender: the receiver computes that from the link it came on.
 */
import type { Entry, EntryId, Index, PeerId, Term } from './types.ts'

export type RaftMessage =
  | PreVote
  | PreVoteResponse
  | RequestVote
  | VoteResponse
  | Append
  | AppendResponse
  | Heartbeat
  | HeartbeatResponse
  | TimeoutNow
  | Resigned
  | InstallSnapshot

/** Asks whether an election could be won, without raising any term (thesis 9.6). */
export interface PreVote {
  readonly type: 'preVote'
  /** The sender's present term. The election it would start is `term + 1`. */
  readonly term: Term
  readonly lastIndex: Index
  readonly lastTerm: Term
}

export interface PreVoteResponse {
  readonly type: 'preVoteResponse'
  /** The responder's present term. */
  readonly term: Term
  /** The term of the PreVote this answers. */
  readonly askedTerm: Term
  readonly granted: boolean
  /** Refused because the responder hears a leader: to ask again soon would be in vain. Never set with `granted`. */
  readonly leaderAlive: boolean
}

export interface RequestVote {
  readonly type: 'requestVote'
  readonly term: Term
  readonly lastIndex: Index
  readonly lastTerm: Term
  /** Set by a leadership transfer: overrides stickiness (thesis 4.2.3). */
  readonly transfer: boolean
}

export interface VoteResponse {
  readonly type: 'voteResponse'
  readonly term: Term
  readonly granted: boolean
}

export interface Append {
  readonly type: 'append'
  readonly term: Term
  readonly prevIndex: Index
  readonly prevTerm: Term
  readonly entries: readonly Entry[]
  readonly commit: Index
}

export type AppendResponse = AppendAccepted | AppendRejected

export interface AppendAccepted {
  readonly type: 'appendResponse'
  readonly term: Term
  readonly accepted: true
  /** The follower's log is durable and equal to the leader's up to here. */
  readonly matchIndex: Index
}

export interface AppendRejected {
  readonly type: 'appendResponse'
  readonly term: Term
  readonly accepted: false
  /** The prevIndex that did not match, so that a late rejection is recognised. */
  readonly rejectedIndex: Index
  /** Conflict back-up (paper 5.3): the last index at which the follower's log could match, and its term there. */
  readonly hintIndex: Index
  readonly hintTerm: Term
}

export interface Heartbeat {
  readonly type: 'heartbeat'
  readonly term: Term
  /** Never beyond what the receiver is known to match. */
  readonly commit: Index
  /** The newest read round; its echo confirms leadership for every round up to it (thesis 6.4). 0: none. */
  readonly readRound: number
}

export interface HeartbeatResponse {
  readonly type: 'heartbeatResponse'
  readonly term: Term
  readonly readRound: number
}

/** Leadership transfer (thesis 3.10): campaign now. Ignored unless the receiver still follows the sender in `term`. */
export interface TimeoutNow {
  readonly type: 'timeoutNow'
  readonly term: Term
}

/** A leader that stepped down for want of a quorum says so; it counts as a closed link. */
export interface Resigned {
  readonly type: 'resigned'
  readonly term: Term
}

/**
 * Offers a snapshot to a follower that the leader's log does not reach any more (paper, section 7). It carries no bytes: the
 * follower pulls them, so that it decides how fast, and where to go on after a broken link.
 */
export interface InstallSnapshot {
  readonly type: 'installSnapshot'
  readonly term: Term
  readonly lastIncludedIndex: Index
  readonly lastIncludedTerm: Term
  /** Of the file. */
  readonly sizeBytes: number
  /** Of the file, 64 lower-case hex digits. */
  readonly checksum: string
}

/** A message with its destination. */
export interface Outgoing {
  readonly to: PeerId
  readonly message: RaftMessage
}

export function appendRejected(term: Term, rejectedIndex: Index, hint: EntryId): AppendRejected {
  return {
    type: 'appendResponse',
    term,
    accepted: false,
    rejectedIndex,
    hintIndex: hint.index,
    hintTerm: hint.term,
  }
}
