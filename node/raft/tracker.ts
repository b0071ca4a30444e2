/**
 * Who counts, and what is known of each: the configuration in force turned into replicas, with a Progress for every peer while
 * this node leads.
 */
import { Progress, type WindowLimits } from './progress.ts'
import { agreedIndex, majority, type Quorum, voteResult } from './quorum.ts'
import { type Configuration, type Index, type MemberId, type PeerId, peerIdOf } from './types.ts'

const EMPTY: Configuration = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  members: [],
  nextMemberId: 1,
}

const NOBODY: ReadonlySet<PeerId> = new Set()

export class Tracker {
  readonly self: PeerId
  readonly progress = new Map<PeerId, Progress>()
  /** Who was not heard for so long is not asked to lead. */
  readonly #patienceTicks: number
  #configuration: Configuration = EMPTY
  #quorum: Quorum = { incoming: [], outgoing: [] }
  /** Everybody but this node, voters and learners. */
  #peers: readonly PeerId[] = []

  constructor(self: PeerId, patienceTicks = Number.POSITIVE_INFINITY) {
    this.self = self
    this.#patienceTicks = patienceTicks
  }

  get configuration(): Configuration {
    return this.#configuration
  }

  get peers(): readonly PeerId[] {
    return this.#peers
  }

  get quorum(): Quorum {
    return this.#quorum
  }

  /** Voters of either half, each once. */
  get voters(): readonly PeerId[] {
    return [...new Set([...this.#quorum.incoming, ...this.#quorum.outgoing])]
  }

  get selfIsVoter(): boolean {
    return this.#quorum.incoming.includes(this.self) || this.#quorum.outgoing.includes(this.self)
  }

  /** Votes needed in the incoming half; what `status` shows as quorum.needed. */
  get needed(): number {
    return majority(this.#quorum.incoming.length)
  }

  use(configuration: Configuration | null): void {
    this.#configuration = configuration ?? EMPTY
    const byId = new Map<MemberId, PeerId>()
    for (const member of this.#configuration.members) byId.set(member.memberId, peerIdOf(member))
    const peersOf = (ids: readonly MemberId[]): PeerId[] => ids.map((id) => byId.get(id) as PeerId)
    this.#quorum = {
      incoming: peersOf(this.#configuration.voters),
      outgoing: peersOf(this.#configuration.votersOutgoing),
    }
    this.#peers = [...byId.values()].filter((peer) => peer !== this.self)
  }

  /** Fresh progress for every peer, as at the start of a leadership; keeps what is known when only members changed. */
  track(options: { lastIndex: Index; window: WindowLimits; keep: boolean }): void {
    const known = new Map(this.progress)
    this.progress.clear()
    for (const peer of this.#peers) {
      const kept = options.keep ? known.get(peer) : undefined
      this.progress.set(
        peer,
        kept ??
          new Progress({ nextIndex: options.lastIndex + 1, active: true, window: options.window }),
      )
    }
  }

  /** What a quorum has durably; this node counts with what its own disk holds. */
  agreed(selfStableIndex: Index): Index {
    return agreedIndex(this.#quorum, (voter) =>
      voter === this.self ? selfStableIndex : (this.progress.get(voter)?.matchIndex ?? 0),
    )
  }

  /** A quorum, this node included, was heard from since the last check. */
  quorumActive(): boolean {
    return this.#holds((peer) => this.progress.get(peer)?.active === true)
  }

  quorumEchoed(readRound: number): boolean {
    return this.#holds((peer) => (this.progress.get(peer)?.readRound ?? 0) >= readRound)
  }

  /** Of the other voters that were heard lately, the one with most of the log; none of `unfit`. */
  furthestVoter(unfit: ReadonlySet<PeerId> = NOBODY): PeerId | null {
    const [best] = [...this.progress]
      .filter(([peer, { silentTicks }]) => {
        // Not `active`, which is false for everybody just after each check of the quorum.
        const isAlive = silentTicks < this.#patienceTicks
        return isAlive && this.voters.includes(peer) && !unfit.has(peer)
      })
      .sort(([, a], [, b]) => b.matchIndex - a.matchIndex)
    return best?.[0] ?? null
  }

  votes(votes: ReadonlyMap<PeerId, boolean>): 'won' | 'lost' | 'pending' {
    return voteResult(this.#quorum, (voter) => votes.get(voter))
  }

  #holds(agrees: (peer: PeerId) => boolean): boolean {
    return (
      voteResult(this.#quorum, (voter) => (voter === this.self ? true : agrees(voter))) === 'won'
    )
  }
}
