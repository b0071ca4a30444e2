/** Builds the object of `GET /v1/status` (CONTRACT) from the parts that know. Reads only. */

import { featureLevelOf } from './feature-level.ts'
import type { LeaderView } from './leader-view.ts'
import type { PeerBook } from './peer-book.ts'
import { type Member, peerIdOf } from './raft/types.ts'
import type { Replica } from './replica.ts'

import type { Alarm, LeaderInfo, MemberStatus, SnapshotStatus, Status } from './service.ts'

export interface StatusParts {
  readonly version: string
  readonly runtime: string
  /** Masked. */
  readonly topic: string
  readonly nodeId: string
  readonly name: string
  readonly clusterId: string | null
  readonly founding: Status['founding']
  readonly alarms: readonly Alarm[]
  readonly uptimeMs: number
  readonly ownUrl: string | null
  readonly peers: PeerBook
  readonly replica: Replica | null
  readonly snapshot: SnapshotStatus | null
}

export function buildStatus(parts: StatusParts): Status {
  const { version, clusterId, topic, nodeId, name, runtime } = parts
  const { founding, snapshot, alarms, uptimeMs, replica } = parts
  const shown = { version, clusterId, topic, nodeId, name, runtime, founding, snapshot, alarms }
  // Onto what is there: to spread one object and then another makes each status a class of its own.
  const ofReplica = replica === null ? blankStatus(parts) : replicaStatus(parts, replica)
  return Object.assign(shown, { uptimeMs }, ofReplica)
}

type OfReplica = Omit<Status, Exclude<keyof StatusParts, 'replica' | 'peers' | 'ownUrl'>>

function blankStatus(parts: StatusParts): OfReplica {
  return {
    memberId: null,
    role: parts.clusterId === null ? 'blank' : 'learner',
    term: 0,
    leaderId: null,
    leaderUrl: null,
    commitIndex: 0,
    appliedIndex: 0,
    firstIndex: 0,
    lastIndex: 0,
    snapshotIndex: 0,
    featureLevel: featureLevelOf(null),
    stateHash: null,
    stateHashes: [],
    quorum: { needed: parts.founding?.need ?? 0, alive: 0 },
    members: [],
  }
}

function replicaStatus(parts: StatusParts, replica: Replica): OfReplica {
  const { raft } = replica
  const { leaderId, leaderUrl } = leaderInfo(parts, replica)
  const { view } = replica
  const configuration = replica.committed?.configuration
  const members = configuration?.members ?? []
  const self = members.find((member) => peerIdOf(member) === raft.self)
  const isVoter = raft.tracker.selfIsVoter
  return {
    memberId: self?.memberId ?? null,
    role: isVoter ? raft.role : 'learner',
    term: raft.term,
    leaderId,
    leaderUrl,
    commitIndex: raft.log.commitIndex,
    appliedIndex: raft.log.appliedIndex,
    firstIndex: raft.log.firstIndex,
    lastIndex: raft.log.lastIndex,
    snapshotIndex: raft.log.snapshotIndex,
    featureLevel: featureLevelOf(replica.committed),
    stateHash: replica.stateHash,
    stateHashes: replica.stateHashes,
    quorum: {
      needed: raft.tracker.needed,
      alive: aliveVoters(parts, replica, view),
    },
    members: members.map((member) => memberStatus(parts, replica, member, view)),
  }
}

export function leaderInfo(
  parts: Pick<StatusParts, 'ownUrl' | 'peers'>,
  replica: Replica,
): LeaderInfo {
  const { leader, term, self } = replica.raft
  const member = leader === null ? null : replica.memberOf(leader)
  if (member === null) return { leaderId: null, leaderUrl: null, term }
  const leaderUrl = leader === self ? parts.ownUrl : (parts.peers.urlsOf(member)[0] ?? null)
  return { leaderId: member.memberId, leaderUrl, term }
}

/**
 * As the leader sees them. While none was heard, whom this node reaches and itself: after a change of leaders, or with the quorum
 * lost, is when an operator looks, and "0 alive" would be wrong then.
 */
function aliveVoters(parts: StatusParts, replica: Replica, view: LeaderView | null): number {
  const { members = [], voters = [] } = replica.committed?.configuration ?? {}
  if (view !== null) {
    return view.members.filter((seen) => seen.alive && voters.includes(seen.memberId)).length
  }
  return members.filter((member) => {
    const peer = peerIdOf(member)
    const isHere = peer === replica.raft.self || parts.peers.linkTo(peer) !== null
    return isHere && voters.includes(member.memberId)
  }).length
}

function memberStatus(
  parts: StatusParts,
  replica: Replica,
  member: Member,
  view: LeaderView | null,
): MemberStatus {
  const peer = peerIdOf(member)
  const isSelf = peer === replica.raft.self
  const link = isSelf ? null : parts.peers.linkTo(peer)
  const seen = view?.members.find((other) => other.memberId === member.memberId)
  const learners = replica.committed?.configuration.learners ?? []
  return {
    memberId: member.memberId,
    nodeId: member.nodeKey,
    name: member.name,
    url: isSelf ? parts.ownUrl : (parts.peers.urlsOf(member)[0] ?? null),
    role: learners.includes(member.memberId) ? 'learner' : 'voter',
    isLeader: peer === replica.raft.leader,
    matchIndex: seen?.matchIndex ?? null,
    lag: view === null || seen === undefined ? null : Math.max(0, view.lastIndex - seen.matchIndex),
    link: isSelf ? 'self' : (link?.carrier ?? 'down'),
    rttMs: link?.rttMs ?? null,
  }
}
