/**
 * The frames that travel between nodes, above links and below consensus. Types only, so that the pure replica can speak of them
 * without knowing what a link is.
 */
import type { RaftMessage } from './raft/messages.ts'
import type { Index, Term } from './raft/types.ts'

/**
 * Everything one node says to another. `raft` frames and the ones about requests are only accepted between
 * nodes of one clusterId; `founding` frames travel between any two nodes of a topic.
 */
export type PeerFrame =
  | { readonly type: 'raft'; readonly message: RaftMessage }
  /** JSON text of a founding message (founding.ts): records and soft fields. */
  | { readonly type: 'founding'; readonly body: Uint8Array }
  /**
   * A request forwarded to the leader; never forwarded again. `command`: a client write. `readIndex`: empty body. `change`: an
   * encoded ChangeRequest.
   */
  | {
      readonly type: 'forward'
      readonly requestId: number
      readonly operation: 'command' | 'readIndex' | 'change'
      readonly body: Uint8Array
    }
  /** The answer: for a command the encoded outcome (and its index), for readIndex the index, for a change its ChangeAnswer. */
  | {
      readonly type: 'forwardReply'
      readonly requestId: number
      readonly outcome:
        | 'done'
        | 'not-leader'
        | 'overloaded'
        | 'disk-full'
        | 'closing'
        | 'bad-request'
      readonly index: Index
      readonly body: Uint8Array
    }
  /** The leader's view of the members, sent with heartbeats at a low rate; JSON, shown by `status`. */
  | { readonly type: 'leaderView'; readonly term: Term; readonly body: Uint8Array }
  /** A follower's answer to a view that names missing voters: which of them it has links to; JSON (autopilot-driver.ts). */
  | { readonly type: 'reach'; readonly term: Term; readonly body: Uint8Array }
  /** The receiver was removed from the cluster by a configuration that is committed: it must stop. */
  | { readonly type: 'removed' }
  /** Asks for bytes of the snapshot file that was offered. Checksums are 64 lower-case hex digits. */
  | {
      readonly type: 'snapshotPull'
      readonly checksum: string
      readonly offset: number
      readonly lengthBytes: number
    }
  /** The answer. No bytes: the file is not here any more. */
  | {
      readonly type: 'snapshotChunk'
      readonly checksum: string
      readonly offset: number
      readonly bytes: Uint8Array
    }
  /** To the leader: a hash that the sender noted, 16 hex digits. From it: the one that a quorum has there, and the receiver has not. */
  | {
      readonly type: 'stateHash'
      readonly index: Index
      readonly hashVersion: number
      readonly hash: string
    }
