/**
 * The vocabulary of the consensus core, so that storage, transport and founding can speak of entries and
 * members without knowing how consensus works.
 */

/** A voting term; starts at 0 before the first election. Integer, at most 2^53 - 1. */
export type Term = number

/** The latest term that a message may carry. Far below what a number holds, so that no campaign begins a term that nobody can read. */
export const TERM_MAX = 2 ** 52
/** How far a message's term may lie beyond this node's. Ten elections a second need thirteen years for it. */
export const TERM_LEAP_MAX = 2 ** 32

/** The position of an entry in the log. The first entry has index 1; 0 means "before the log". */
export type Index = number

/** A small integer handed out by the configuration (founders 1..N), never reused. */
export type MemberId = number

export interface EntryId {
  readonly term: Term
  readonly index: Index
}

/**
 * `command`: bytes for the state machine. `configuration`: an encoded ConfigurationRecord, in force from
 * the moment it is appended. `noop`: the entry a leader appends at the start of its term. `time`: log time, ms
 * as a u64, by which everything expires; a leader appends it when something is due, and at no other time.
 */
export type EntryKind = 'command' | 'configuration' | 'noop' | 'time'

export interface Entry {
  readonly term: Term
  readonly index: Index
  readonly kind: EntryKind
  /** Encoded once by its author and never re-encoded: the same bytes travel, lie on disk and are applied. */
  readonly payload: Uint8Array
}

/** What must be durable before a vote or an acknowledgement leaves (paper, figure 2: persistent state). */
export interface HardState {
  readonly term: Term
  /**
   * The candidate that got this node's vote in `term`. The physical replica, not its memberId: while a
   * membership change is in doubt two nodes may both believe that they are member 4 (HAZARDS). At most 255
   * ASCII characters.
   */
  readonly vote: PeerId | null
  /** A hint that only grows: everything up to it is known to be committed. Never beyond the last index. */
  readonly commit: Index
}

/** The pair that names one physical replica. A node that comes back with another storageId lost its disk. */
export interface PeerIdentity {
  /** Ed25519 public key, 64 lower-case hex digits. */
  readonly nodeKey: string
  /** Random, made when the data directory is formatted, 32 lower-case hex digits. */
  readonly storageId: string
}

/** A PeerIdentity as one string, `<nodeKey>.<storageId>`: how the core addresses replicas. */
export type PeerId = string

export function peerIdOf(identity: PeerIdentity): PeerId {
  return `${identity.nodeKey}.${identity.storageId}`
}

export interface Member extends PeerIdentity {
  readonly memberId: MemberId
  /** Printable name; unique by convention, not by rule. */
  readonly name: string
  /** Where this member's one port can be reached, ws:// or wss://, best first. */
  readonly urls: readonly string[]
}

/**
 * Who counts. `votersOutgoing` is empty except in a joint configuration, where both majorities are needed
 * for votes, commits and reads (paper, section 6).
 */
export interface Configuration {
  readonly voters: readonly MemberId[]
  readonly votersOutgoing: readonly MemberId[]
  readonly learners: readonly MemberId[]
  /** Every member named in a list above, ordered by memberId. */
  readonly members: readonly Member[]
  /** The id the next new member gets. Ids are never reused, so this only grows. */
  readonly nextMemberId: MemberId
}

/**
 * The payload of a configuration entry. The founding entry also carries what the cluster was founded
 * with; later entries repeat it, so that the newest configuration entry is enough to know the cluster.
 */
export interface ConfigurationRecord {
  /** 32 lower-case hex digits, random, made at founding. */
  readonly clusterId: string
  /** The node keys that founded the cluster, ascending. Kept for ever (FOUNDING: dead(X)). */
  readonly foundingSet: readonly string[]
  /** The replicated settings; names and units as in config.ts. */
  readonly settings: Readonly<Record<string, number | string | boolean>>
  readonly configuration: Configuration
  /** The storageIds of members that were removed, newest last, at most 256: who comes back is told. Absent: none. */
  readonly removed?: readonly string[]
  /** Why this configuration was made; printable ASCII, at most 200 characters. */
  readonly reason?: string
  /** What all members understand (docs/upgrades.md). Absent: 1. It never falls. */
  readonly featureLevel?: number
}

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader'
