/**
 * What the members of a cluster may use with each other while versions are mixed (docs/upgrades.md). Each build supports every level up
 * to its own; the replicated level says what is in use. The leader raises it once every member supports more, and nobody ever
 * lowers it, because logs and disks then hold what older builds cannot read. Pure.
 *
 * 1: founding, the log, sessions, the key-value machine, forwarded writes and reads.
 * 2: snapshots, changes of the members, log time and with it the expiry of sessions, keyed commands, comparison of states.
 */
import { decodeCommand } from '../client/protocol.ts'
import type { PeerFrame } from './peer-frame.ts'
import type { ConfChange } from './raft/change.ts'
import {
  type ConfigurationRecord,
  type Member,
  type PeerId,
  peerIdOf,
  type Role,
} from './raft/types.ts'

/** The highest one that this build supports. */
export const FEATURE_LEVEL = 2
/** Of whoever says nothing. */
export const FEATURE_LEVEL_FIRST = 1

export function featureLevelOf(record: ConfigurationRecord | null): number {
  return record?.featureLevel ?? FEATURE_LEVEL_FIRST
}

/** What an older build must not go on with: a sentence, or null. */
export function beyondThisBuild(
  record: ConfigurationRecord | null,
  own = FEATURE_LEVEL,
): string | null {
  const level = featureLevelOf(record)
  if (level <= own) return null
  return (
    `the cluster uses feature level ${level}, and this version of raft-p2p supports levels up to ${own}: ` +
    'start this node with the version that the other members run'
  )
}

/** The level to raise to, or null. `supported`: null for a member that is not here to say so. */
export function nextFeatureLevel(
  record: ConfigurationRecord,
  supported: (member: Member) => number | null,
): number | null {
  let next = Number.POSITIVE_INFINITY
  for (const member of record.configuration.members) {
    const level = supported(member)
    if (level === null) return null
    next = Math.min(next, level)
  }
  return Number.isFinite(next) && next > featureLevelOf(record) ? next : null
}

/** The parts of a replica that raising needs. */
export interface RaisingCore {
  readonly committed: ConfigurationRecord | null
  readonly raft: {
    readonly self: PeerId
    readonly role: Role
    readonly termCommitted: boolean
    changeConfiguration(
      ticket: number,
      changes: readonly ConfChange[],
      options: { readonly ifIndex: null; readonly reason: string },
    ): unknown
  }
}

/** Nobody waits for the outcome: what is refused now is asked for again. */
const NO_TICKET = -1

/** Call it now and then on every node. A member without a link cannot say what it supports, so that nothing is raised. */
export function raiseFeatureLevel(
  { committed, raft }: RaisingCore,
  links: { linkTo(peer: PeerId): { readonly hello: { readonly featureLevel: number } } | null },
): void {
  if (raft.role !== 'leader' || !raft.termCommitted || committed === null) return
  if (featureLevelOf(committed) >= FEATURE_LEVEL) return
  if (committed.configuration.votersOutgoing.length > 0) return
  const level = nextFeatureLevel(committed, (member) => {
    const peer = peerIdOf(member)
    return peer === raft.self ? FEATURE_LEVEL : (links.linkTo(peer)?.hello.featureLevel ?? null)
  })
  if (level === null) return
  const reason = `every member supports feature level ${level}`
  raft.changeConfiguration(NO_TICKET, [{ type: 'featureLevel', level }], { ifIndex: null, reason })
}

/** Time entries, which older builds cannot read. */
export function hasLogTime(record: ConfigurationRecord | null): boolean {
  return featureLevelOf(record) >= 2
}

/** Whether every member makes the same of this well-formed command. What must wait is refused as `overloaded`, which may be tried again. */
export function mayBeAppended(command: Uint8Array, record: ConfigurationRecord | null): boolean {
  return featureLevelOf(record) >= 2 || decodeCommand(command).kind !== 'keyed'
}

/** What whoever asked is told when a command was not taken in. */
export function whyOverloaded(command: Uint8Array, record: ConfigurationRecord | null): string {
  return mayBeAppended(command, record)
    ? 'too much waits for the disks of a quorum'
    : 'a named write has to wait until every member runs a version that knows it'
}

/** What a peer of this level can read of the frames; the rest it would take for garbage and drop the link. */
export function framesFor(level: number, frames: readonly PeerFrame[]): readonly PeerFrame[] {
  if (level >= FEATURE_LEVEL) return frames
  return frames.flatMap((frame) => readableFrame(frame) ?? [])
}

/** For level 1. */
function readableFrame(frame: PeerFrame): PeerFrame | null {
  switch (frame.type) {
    case 'founding':
    case 'forwardReply':
    case 'leaderView':
      return frame
    case 'forward':
      return frame.operation === 'change' ? null : frame
    case 'removed':
    case 'reach':
    case 'snapshotPull':
    case 'snapshotChunk':
    case 'stateHash':
      return null
    case 'raft': {
      const { message } = frame
      if (message.type === 'installSnapshot') return null
      if (message.type !== 'preVoteResponse' || !message.leaderAlive) return frame
      return { type: 'raft', message: { ...message, leaderAlive: false } }
    }
  }
}
