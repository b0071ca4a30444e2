/**
 * Whether the members' states are still one (CORRECTNESS, rule 13). Every node tells the leader the hashes that it noted; the leader
 * compares those of one index and one HASH_VERSION. A node whose hash is not the majority's is told so, checks it against what
 * it noted itself, and is then in quarantine until it starts anew: its log is as good as ever, so that it goes on voting and
 * storing, but it answers nothing from its state and leads nobody. Pure.
 *
 * Only a minority can ever be in quarantine, because a majority of the voters must have agreed on the other hash. Where none
 * does, nobody knows who is right, and there is an alarm and nothing more.
 */
import { HASH_VERSION } from './machine/hash.ts'
import { mark } from './raft/marks.ts'
import { type Quorum, voteResult } from './raft/quorum.ts'
import {
  type Configuration,
  type Index,
  type PeerId,
  peerIdOf,
  type Role,
  type Term,
} from './raft/types.ts'
import type { HashAt } from './request.ts'

export interface HashReport extends HashAt {
  readonly hashVersion: number
}

export type Verdict =
  /** Nothing differs, and too few have said so. */
  | { readonly type: 'open' }
  /** A quorum agrees on one hash, and these, if any, have another of the same version. */
  | { readonly type: 'agreed'; readonly agreed: HashReport; readonly odd: readonly PeerId[] }
  /** Hashes differ, and no quorum agrees on one of them, or not yet. */
  | { readonly type: 'disputed' }

/** `reports`: those of one index. Different versions cannot be compared, and say nothing (HAZARDS: mixed versions). */
export function judge(reports: ReadonlyMap<PeerId, HashReport>, quorum: Quorum): Verdict {
  const camps = new Map<string, HashReport>()
  for (const report of reports.values()) camps.set(campOf(report), report)
  for (const [camp, agreed] of camps) {
    const votes = (voter: PeerId): boolean | undefined => {
      const report = reports.get(voter)
      return report !== undefined && campOf(report) === camp ? true : undefined
    }
    if (voteResult(quorum, votes) !== 'won') continue
    const odd = [...reports]
      .filter(([, { hashVersion, hash }]) => {
        return hashVersion === agreed.hashVersion && hash !== agreed.hash
      })
      .map(([peer]) => peer)
    return { type: 'agreed', agreed, odd }
  }
  const versions = new Set([...camps.values()].map(({ hashVersion }) => hashVersion))
  return { type: versions.size < camps.size ? 'disputed' : 'open' }
}

function campOf({ hashVersion, hash }: HashReport): string {
  return `${hashVersion} ${hash}`
}

/** The parts of a core that a comparison looks at, and asks to hand over. */
export interface ComparedCore {
  readonly self: PeerId
  readonly role: Role
  readonly leader: PeerId | null
  readonly term: Term
  readonly log: { readonly commitIndex: Index }
  readonly tracker: {
    readonly configuration: Configuration
    readonly quorum: Quorum
    readonly peers: readonly PeerId[]
    furthestVoter(unfit: ReadonlySet<PeerId>): PeerId | null
  }
  transferLeadership(target: PeerId): boolean
}

export interface ComparisonParts {
  readonly raft: ComparedCore
  /** What this node noted, ascending. */
  readonly hashes: () => readonly HashAt[]
  /** Default: that of this build. */
  readonly hashVersion?: number
  readonly options: {
    /** Indexes that are compared at a time, and hashes that a node keeps. */
    readonly kept: number
    /** After which a transfer has succeeded or failed. */
    readonly transferTicks: number
  }
  /** To the leader: what was noted here. From it: what a quorum has, where the receiver has something else. */
  readonly say: (to: PeerId, report: HashReport) => void
}

export class StateComparison {
  readonly #parts: ComparisonParts
  readonly #hashVersion: number
  /** Whom #told is about: everything is told again to somebody new. */
  #audience: { leader: PeerId | null; term: Term } = { leader: null, term: 0 }
  #told: Index = 0
  #quarantine: { readonly index: Index; readonly own: string; readonly agreed: string } | null =
    null
  // As leader.
  #reports = new Map<Index, Map<PeerId, HashReport>>()
  /** Has to be judged (again). */
  #fresh = new Set<Index>()
  /** Where each odd member was found so last. */
  readonly #odd = new Map<PeerId, Index>()
  #disputed: Index | null = null
  #alarm: string | null = null
  /** A transfer is under way. */
  #transferTicks = 0

  constructor(parts: ComparisonParts) {
    this.#parts = parts
    this.#hashVersion = parts.hashVersion ?? HASH_VERSION
  }

  /** Set for the rest of this life: a state that went wrong once is not trusted again because a later hash fits. */
  get quarantined(): boolean {
    return this.#quarantine !== null
  }

  /** Who answers for the state: the leader, unless that is this node in quarantine, which leads only until it is relieved. */
  get leader(): PeerId | null {
    const { leader, self } = this.#parts.raft
    return leader === self && this.quarantined ? null : leader
  }

  /** As leader: the members whose state is not the quorum's. None of them may be promoted or take over. */
  get odd(): ReadonlySet<PeerId> {
    return new Set(this.#odd.keys())
  }

  /** What an operator should know, or null. */
  get alarm(): string | null {
    return this.#alarm
  }

  /** Once a turn, when everything was applied that can be. Returns an alarm that is new. */
  turn(): string | null {
    const { raft, hashes, say } = this.#parts
    const hashVersion = this.#hashVersion
    const { leader } = raft
    this.#noteAudience()
    const noted = hashes()
    const newest = noted.at(-1)?.index ?? 0
    if (leader !== null && newest > this.#told) {
      for (const { index, hash } of noted) {
        if (index <= this.#told) continue
        if (leader === raft.self) this.#file(leader, { index, hash, hashVersion })
        else say(leader, { index, hash, hashVersion })
      }
      this.#told = newest
    }
    if (this.#fresh.size > 0) this.#judge()
    const before = this.#alarm
    this.#alarm = this.#sentence()
    this.#stepAside()
    return this.#alarm === before ? null : this.#alarm
  }

  hear(from: PeerId, report: HashReport): void {
    this.#noteAudience()
    const { role, leader, log, tracker } = this.#parts.raft
    if (role !== 'leader') {
      if (from === leader) this.#check(report)
      return
    }
    // Nobody can have applied what is not committed, and strangers have no state of this cluster.
    if (report.index <= log.commitIndex && tracker.peers.includes(from)) this.#file(from, report)
  }

  tick(): void {
    if (this.#transferTicks > 0) this.#transferTicks--
  }

  /** A leader in quarantine hands over to a voter whose state is not known to be wrong; again and again, for a transfer may fail. */
  #stepAside(): void {
    const { raft, options } = this.#parts
    if (!this.quarantined || raft.role !== 'leader' || this.#transferTicks > 0) return
    const heir = raft.tracker.furthestVoter(this.odd)
    if (heir !== null && raft.transferLeadership(heir)) this.#transferTicks = options.transferTicks
  }

  /** Another leader knows nothing yet, and what was told to this node was for another term. */
  #noteAudience(): void {
    const { leader, term } = this.#parts.raft
    if (leader === this.#audience.leader && term === this.#audience.term) return
    this.#audience = { leader, term }
    this.#told = 0
    this.#reports.clear()
    this.#fresh.clear()
    this.#odd.clear()
    this.#disputed = null
  }

  #file(from: PeerId, report: HashReport): void {
    const { index } = report
    const there = this.#reports.get(index) ?? new Map<PeerId, HashReport>()
    this.#reports.set(index, there.set(from, report))
    this.#fresh.add(index)
    while (this.#reports.size > this.#parts.options.kept) {
      const oldest = Math.min(...this.#reports.keys())
      this.#reports.delete(oldest)
      this.#fresh.delete(oldest)
    }
  }

  #judge(): void {
    const { raft, say } = this.#parts
    for (const index of [...this.#fresh].sort((a, b) => a - b)) {
      const reports = this.#reports.get(index) as Map<PeerId, HashReport>
      const verdict = judge(reports, raft.tracker.quorum)
      this.#note(index, reports, verdict)
      if (verdict.type !== 'agreed') continue
      for (const to of verdict.odd) {
        if (to === raft.self) this.#check(verdict.agreed)
        else say(to, verdict.agreed)
      }
    }
    this.#fresh.clear()
  }

  #note(index: Index, reports: ReadonlyMap<PeerId, HashReport>, verdict: Verdict): void {
    if (verdict.type === 'open') return
    if (verdict.type === 'disputed') {
      this.#disputed = Math.max(this.#disputed ?? 0, index)
      return
    }
    if (index >= (this.#disputed ?? 0)) this.#disputed = null
    for (const [peer, { hashVersion }] of reports) {
      const found = this.#odd.get(peer) ?? 0
      if (index < found || hashVersion !== verdict.agreed.hashVersion) continue
      if (verdict.odd.includes(peer) && peer !== this.#parts.raft.self) this.#odd.set(peer, index)
      else this.#odd.delete(peer)
    }
  }

  /** The leader's word alone is not enough: this node must have noted something else itself. */
  #check({ index, hashVersion, hash }: HashReport): void {
    const own = this.#parts.hashes().find((noted) => noted.index === index)
    if (own === undefined || own.hash === hash || hashVersion !== this.#hashVersion) return
    mark('divergence: the state of this node is not that of the majority')
    this.#quarantine ??= { index, own: own.hash, agreed: hash }
  }

  #nameOf(peer: PeerId): string {
    const { members } = this.#parts.raft.tracker.configuration
    return members.find((member) => peerIdOf(member) === peer)?.name ?? peer.slice(0, 8)
  }

  #sentence(): string | null {
    if (this.#quarantine !== null) {
      const { index, own, agreed } = this.#quarantine
      return (
        `the state of this node has the hash ${own} at index ${index}, that of the majority ${agreed}: it serves no reads and ` +
        'does not lead. Start it again; if that does not help, archive its data and enter anew with `raft-p2p rejoin`'
      )
    }
    if (this.#odd.size > 0) {
      const found = [...this.#odd].map(([peer, index]) => `${this.#nameOf(peer)} at index ${index}`)
      return `the state of ${found.join(', of ')} is not that of the majority: see the alarm there, and \`raft-p2p rejoin\``
    }
    if (this.#disputed === null) return null
    return `the states of the members differ at index ${this.#disputed}, and no majority agrees on one`
  }
}
