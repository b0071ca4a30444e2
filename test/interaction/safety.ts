/**
 * What must hold in every trace, whatever its expected output says: a trace that enshrines wrong behaviour is worse than none.
 * Checked over all nodes after every turn (paper, figure 3; rules 1 to 3).
 */
import type { RaftMessage } from '../../node/raft/messages.ts'
import { majority } from '../../node/raft/quorum.ts'
import type { Raft } from '../../node/raft/raft.ts'
import {
  type Configuration,
  type Entry,
  type PeerId,
  peerIdOf,
  type Term,
} from '../../node/raft/types.ts'
import { type DiskImage, holds } from '../support/raft-cluster.ts'

/** A node, as far as the checks look at it. */
export interface Watched {
  readonly name: string
  readonly peer: PeerId
  readonly disk: DiskImage
  readonly raft: Raft
  /** In force when the node took in what it commits now; the turn itself may have appended the next one. */
  readonly configuration: Configuration
}

export class SafetyError extends Error {
  override readonly name = 'SafetyError'
}

export class Safety {
  readonly #leaderOf = new Map<Term, string>()
  readonly #committed: { readonly entry: Entry; readonly knownAt: Term }[] = []

  /** A node has had a turn in which `sent` left it. */
  check(node: Watched, all: readonly Watched[], sent: readonly [PeerId, RaftMessage][]): void {
    this.#checkCommitted(node, all)
    this.#checkLeader(node)
    for (const [to, message] of sent) checkPromise(node, to, message)
  }

  /** State machine safety, and that a quorum's disks hold what a leader commits. */
  #checkCommitted(node: Watched, all: readonly Watched[]): void {
    const { log, role, term } = node.raft
    const before = this.#committed.length
    for (let index = 1; index <= log.commitIndex; index++) {
      const known = this.#committed[index - 1]
      if (index <= log.base.index) {
        const isKnown = index < log.base.index || known?.entry.term === log.base.term
        if (known === undefined || !isKnown)
          fail(`${node.name} has a snapshot of what was not committed`)
        continue
      }
      const entry = log.entryAt(index) as Entry
      if (known === undefined) this.#committed.push({ entry, knownAt: term })
      else if (!isSame(known.entry, entry)) {
        fail(`${node.name} has committed another entry at ${index} than was committed before`)
      }
    }
    if (role !== 'leader' || this.#committed.length === before) return
    if (log.termAt(log.commitIndex) !== term) {
      fail(`${node.name} has committed an entry of an older term by counting`)
    }
    checkQuorum(node, all)
  }

  /** Election safety and leader completeness. */
  #checkLeader({ name, raft }: Watched): void {
    if (raft.role !== 'leader') return
    const known = this.#leaderOf.get(raft.term)
    if (known === name) return
    if (known !== undefined) fail(`${known} and ${name} lead in term ${raft.term}`)
    this.#leaderOf.set(raft.term, name)
    for (const { entry, knownAt } of this.#committed) {
      if (knownAt >= raft.term || entry.index <= raft.log.base.index) continue
      const own = raft.log.entryAt(entry.index)
      if (own === undefined || !isSame(own, entry)) {
        fail(`${name} leads and lacks the committed entry ${entry.index}`)
      }
    }
  }
}

function checkQuorum({ name, raft, configuration }: Watched, all: readonly Watched[]): void {
  const { voters, votersOutgoing, members } = configuration
  const { commitIndex } = raft.log
  for (const half of [voters, votersOutgoing]) {
    if (half.length === 0) continue
    const holding = half.filter((id) => {
      const member = members.find(({ memberId }) => memberId === id)
      const disk = all.find(({ peer }) => member !== undefined && peer === peerIdOf(member))?.disk
      return disk !== undefined && holds(disk, commitIndex, raft.term)
    })
    if (holding.length < majority(half.length)) {
      fail(`${name} has committed ${commitIndex} with ${holding.length} of ${half.length} disks`)
    }
  }
}

/** Rule 1: what leaves is on the disk, whether or not a crash comes to show it. */
function checkPromise({ name, disk, raft }: Watched, to: PeerId, message: RaftMessage): void {
  const { hardState } = disk
  if (message.term !== raft.term) return
  if (message.type === 'voteResponse' && message.granted) {
    if (hardState?.term !== message.term || hardState.vote !== to) {
      fail(`${name} gives a vote that is not on its disk`)
    }
  }
  if (message.type !== 'appendResponse' || !message.accepted) return
  if ((hardState?.term ?? 0) < message.term) fail(`${name} answers in a term not on its disk`)
  for (let index = Math.max(1, raft.log.base.index); index <= message.matchIndex; index++) {
    if (!holds(disk, index, raft.log.termAt(index))) {
      fail(`${name} acknowledges entry ${index}, which is not on its disk`)
    }
  }
}

function isSame(a: Entry, b: Entry): boolean {
  return (
    a.term === b.term &&
    a.kind === b.kind &&
    a.payload.length === b.payload.length &&
    a.payload.every((byte, at) => byte === b.payload[at])
  )
}

function fail(what: string): never {
  throw new SafetyError(what)
}
