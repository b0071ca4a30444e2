/**
 * The checks that look at every node at once (paper, figure 3; CORRECTNESS, checkers): one leader a term, log matching, leader
 * completeness, state machine safety, a committed prefix that never changes and lies on a majority of disks (in a joint configuration
 * of both halves), leaders with the votes of such a majority, equal state hashes, one cluster. It is asked after each turn of each process, and does work only for what has changed there since.
 */
import { equalBytes } from '../../client/bytes.ts'
import { checkDeeply } from '../../node/raft/checks.ts'
import type { RaftLog } from '../../node/raft/log.ts'
import type { Raft } from '../../node/raft/raft.ts'
import type { Entry, Index, PeerId, Term } from '../../node/raft/types.ts'
import type { SimProcess } from '../../node/testing/sim-machine.ts'
import { Configurations, halvesOf, isQuorum, type KnownConfiguration } from './configurations.ts'
import type { DurableLog } from './durability.ts'
import { wrong } from './failure.ts'
import { Model, type ModelLives } from './model.ts'

interface KnownEntry {
  readonly entry: Entry
  readonly previousTerm: Term
}

interface Committed {
  readonly entry: Entry
  /** The highest term anywhere when it was first known to be committed: every leader of a later one has it. */
  readonly knownAt: Term
}

/** How far one process was looked at. */
interface Cursor {
  /** The terms of its log, by index - 1; up to its base those of what is committed. */
  readonly terms: Term[]
  baseIndex: Index
  commitIndex: Index
  appliedIndex: Index
  /** The term it led when it was last looked at; 0: it did not lead. */
  ledTerm: Term
  /** Configurations that came into its log in this turn and were in no other before. */
  readonly fresh: Entry[]
  turns: number
}

/** Index and term as one number: terms of a short life are small. */
const TERMS_MAX = 2 ** 21
const DEEP_EVERY = 1024

export class Oracle {
  readonly model: Model
  readonly configurations = new Configurations()
  readonly #durable: (peer: PeerId) => DurableLog | undefined
  /** The world itself has spoilt its state. */
  readonly #isCorrupt: (process: SimProcess) => boolean
  readonly #leaders = new Map<Term, PeerId>()
  readonly #entries = new Map<number, KnownEntry>()
  readonly #committed: Committed[] = []
  readonly #hashes = new Map<Index, string>()
  readonly #cursors = new Map<SimProcess, Cursor>()
  #highestTerm: Term = 0
  /** The newest term that anybody has led. */
  #ledTerm: Term = 0
  #clusterId: string | null = null

  constructor(
    lives: ModelLives,
    durable: (peer: PeerId) => DurableLog | undefined,
    isCorrupt: (process: SimProcess) => boolean = () => false,
  ) {
    this.model = new Model(lives)
    this.#durable = durable
    this.#isCorrupt = isCorrupt
  }

  get commitIndex(): Index {
    return this.#committed.length
  }

  get leaders(): number {
    return this.#leaders.size
  }

  entryAt(index: Index): Entry | undefined {
    return this.#committed[index - 1]?.entry
  }

  /** Of what is committed where the log does not reach back any more. */
  termAt(log: RaftLog, index: Index): Term | undefined {
    return log.termAt(index) ?? this.#committed[index - 1]?.entry.term
  }

  forget(process: SimProcess): void {
    this.#cursors.delete(process)
  }

  look(process: SimProcess): void {
    this.#checkCluster(process)
    const replica = process.runtime?.replica
    if (replica === null || replica === undefined) return
    const { raft } = replica
    const cursor = this.#cursorOf(process)
    // The cheap checks of the core itself are asserted by production code, in every turn.
    if (++cursor.turns % DEEP_EVERY === 0) checkDeeply(raft)
    if (raft.term > this.#highestTerm) this.#highestTerm = raft.term
    this.#checkDisk(process, raft, cursor)
    this.#checkLog(process, raft, cursor)
    if (raft.role === 'leader') this.#checkLeader(process, raft)
    if (raft.log.commitIndex > cursor.commitIndex) this.#checkCommits(process, raft, cursor)
    for (const entry of cursor.fresh) {
      this.configurations.entered(entry, before(raft, entry.index), this.commitIndex)
    }
    cursor.fresh.length = 0
    const inForce = raft.log.configuration?.record.configuration
    if (inForce !== undefined && raft.tracker.configuration !== inForce) {
      const { name } = process.machine.options
      wrong('in-force', `${name} goes by another configuration than the newest of its log`)
    }
    cursor.ledTerm = raft.role === 'leader' ? raft.term : 0
    if (raft.log.appliedIndex > cursor.appliedIndex) {
      cursor.appliedIndex = raft.log.appliedIndex
      if (this.#isCorrupt(process)) return
      const { index, hash } = replica.stateHash
      const known = this.#hashes.get(index)
      if (known === undefined) this.#hashes.set(index, hash)
      else if (known !== hash) {
        wrong('state-hash', `${process.machine.options.name} has another state at index ${index}`)
      }
    }
  }

  #cursorOf(process: SimProcess): Cursor {
    const known = this.#cursors.get(process)
    if (known !== undefined) return known
    const fresh = {
      terms: [],
      baseIndex: 0,
      commitIndex: 0,
      appliedIndex: 0,
      ledTerm: 0,
      fresh: [],
      turns: 0,
    }
    this.#cursors.set(process, fresh)
    return fresh
  }

  #checkCluster(process: SimProcess): void {
    const { clusterId } = process
    if (clusterId === null || clusterId === this.#clusterId) return
    if (this.#clusterId !== null) wrong('one-cluster', 'two clusters were founded on one topic')
    this.#clusterId = clusterId
  }

  /** A replica begins where its disk left off, and counts as saved only what is there. */
  #checkDisk(process: SimProcess, raft: Raft, cursor: Cursor): void {
    const durable = this.#durable(raft.self)
    if (durable === undefined) return
    const { name } = process.machine.options
    if (cursor.turns === 1) {
      const { term = 0, vote = null } = durable.hardState ?? {}
      const forgot = raft.term < term || (raft.term === term && vote !== null && raft.vote !== vote)
      if (forgot) wrong('restart', `${name} forgot its term or its vote of term ${term}`)
    }
    const { stableIndex } = raft.log
    // While a snapshot is being installed the disk still has the log of before, which is not in memory any more.
    if (raft.log.unsavedBase !== null || stableIndex === 0) return
    if (!durable.holds(stableIndex, raft.log.termAt(stableIndex))) {
      wrong('stable', `entry ${stableIndex} counts as saved, and is not on the disk of ${name}`)
    }
  }

  #checkLeader(process: SimProcess, raft: Raft): void {
    const { term, self, log, tracker } = raft
    // A leader that was replaced and does not know it may remember what has been rewritten since.
    const isNewest = term >= this.#ledTerm
    if (isNewest) this.#ledTerm = term
    for (const [peer, { matchIndex }] of tracker.progress) {
      const durable = matchIndex === 0 || !isNewest ? undefined : this.#durable(peer)
      if (durable !== undefined && !durable.holds(matchIndex, this.termAt(log, matchIndex))) {
        const name = process.machine.options.name
        wrong(
          'match',
          `${name} believes that a follower holds entry ${matchIndex}, which it does not`,
        )
      }
    }
    const known = this.#leaders.get(term)
    if (known === self) return
    if (known !== undefined) wrong('one-leader', `two leaders in term ${term}`)
    this.#leaders.set(term, self)
    const voted = (peer: PeerId): boolean => this.#durable(peer)?.hasVote(term, self) === true
    if (!isQuorum(halvesOf(tracker.configuration), voted)) {
      const { name } = process.machine.options
      wrong('elected', `${name} leads term ${term} without the votes of a majority`)
    }
    for (let at = this.#committed.length - 1; at >= 0; at--) {
      const { entry, knownAt } = this.#committed[at] as Committed
      if (knownAt >= term) continue
      // Everything up to the base is in a snapshot, whose last entry was compared with what is committed.
      if (entry.index <= log.base.index) return
      // Log matching, checked for every entry, makes the last one speak for all before it.
      if (log.termAt(entry.index) !== entry.term) {
        const name = process.machine.options.name
        wrong('leader-completeness', `${name}, leader of term ${term}, lacks entry ${entry.index}`)
      }
      return
    }
  }

  /** Log matching: an entry is known by (index, term), and so are all before it. */
  #checkLog(process: SimProcess, raft: Raft, cursor: Cursor): void {
    const { log } = raft
    const { terms } = cursor
    if (log.base.index !== cursor.baseIndex) this.#checkBase(process, log, cursor)
    if (terms.length === log.lastIndex && terms.at(-1) === log.lastTerm) return
    let same = Math.min(terms.length, log.lastIndex)
    while (same > log.base.index && terms[same - 1] !== log.termAt(same)) same--
    if (same < terms.length) checkDeeply(raft)
    terms.length = same
    for (let index = same + 1; index <= log.lastIndex; index++) {
      const entry = log.entryAt(index) as Entry
      const previousTerm = terms[index - 2] ?? 0
      terms.push(entry.term)
      const key = index * TERMS_MAX + entry.term
      const known = this.#entries.get(key)
      if (known === undefined) {
        this.#entries.set(key, { entry, previousTerm })
        if (entry.kind === 'configuration') cursor.fresh.push(entry)
      } else if (!isSame(known.entry, entry) || known.previousTerm !== previousTerm) {
        const name = process.machine.options.name
        wrong('log-matching', `entry ${index} of term ${entry.term} differs on ${name}`)
      }
    }
  }

  /** A log begins behind what is committed, and nowhere else; what lies before is known from when it was committed. */
  #checkBase(process: SimProcess, { base }: RaftLog, cursor: Cursor): void {
    const { name } = process.machine.options
    if (this.#committed[base.index - 1]?.entry.term !== base.term) {
      wrong(
        'log-matching',
        `the log of ${name} begins behind ${base.index}/${base.term}, which nobody committed`,
      )
    }
    for (let index = cursor.baseIndex + 1; index <= base.index; index++) {
      cursor.terms[index - 1] = this.#committed[index - 1]?.entry.term as Term
    }
    cursor.baseIndex = base.index
  }

  #checkCommits(process: SimProcess, raft: Raft, cursor: Cursor): void {
    const { log } = raft
    const first = Math.max(cursor.commitIndex, log.base.index) + 1
    for (let index = first; index <= log.commitIndex; index++) {
      const known = this.#committed[index - 1]
      const entry = log.entryAt(index) as Entry
      if (known === undefined) this.#commit(raft, entry)
      else if (known.entry.term !== entry.term || !isSame(known.entry, entry)) {
        const name = process.machine.options.name
        wrong('state-machine-safety', `${name} committed another entry ${index} than others did`)
      }
    }
    const counted = raft.role === 'leader' && cursor.ledTerm === raft.term
    if (counted && log.termAt(log.commitIndex) !== raft.term) {
      wrong(
        'commit-term',
        `an entry of an older term was committed by counting in term ${raft.term}`,
      )
    }
    cursor.commitIndex = log.commitIndex
  }

  #commit(raft: Raft, entry: Entry): void {
    this.#committed.push({ entry, knownAt: this.#highestTerm })
    this.model.apply(entry)
    const at = before(raft, entry.index + 1)
    // The founding entry is committed by founding.
    if (entry.index > 1 && at !== null) this.#checkDisks(entry, at)
    if (entry.kind === 'configuration') this.configurations.committed(entry)
  }

  #checkDisks({ index, term }: Entry, at: KnownConfiguration): void {
    const holds = (peer: PeerId): boolean => this.#durable(peer)?.holds(index, term) === true
    const possible = this.configurations.inForce(index, at)
    if (possible.some((configuration) => isQuorum(halvesOf(configuration), holds))) return
    const voters = halvesOf(at.record.configuration)
    const saved = voters.map((half) => `${half.filter(holds).length} of ${half.length}`)
    wrong('commit-durable', `entry ${index} was committed with ${saved.join(' and ')} disks`)
  }
}

/** The newest configuration of this log in front of `index`. */
function before({ log }: Raft, index: Index): KnownConfiguration | null {
  const at = log.configurationAt(index - 1)
  if (at === null) return null
  const { index: changedAt, record } = at
  return { index: changedAt, record, term: log.termAt(changedAt) ?? 0 }
}

function isSame(a: Entry, b: Entry): boolean {
  if (a === b) return true
  return a.kind === b.kind && (a.payload === b.payload || equalBytes(a.payload, b.payload))
}
