/**
 * What must be true of one consensus core, as a state and from one state to the next. The cheap part is asserted once a turn in
 * production; the simulator asserts all of it. What concerns several nodes (one leader a term, log matching) only a test can see.
 */
import { invariant } from './assert.ts'
import type { RaftLog } from './log.ts'
import type { Tracker } from './tracker.ts'
import type { Index, PeerId, Role, Term } from './types.ts'

/** The parts of a core that the checks look at. */
export interface Checked {
  readonly self: PeerId
  readonly role: Role
  readonly term: Term
  readonly vote: PeerId | null
  readonly leader: PeerId | null
  readonly log: RaftLog
  readonly tracker: Tracker
}

/** A core at one moment, as far as later moments depend on it. */
export interface Moment {
  readonly role: Role
  readonly term: Term
  readonly vote: PeerId | null
  readonly leader: PeerId | null
  readonly lastIndex: Index
  readonly commitIndex: Index
  readonly commitTerm: Term
  readonly appliedIndex: Index
  readonly firstIndex: Index
  readonly snapshotIndex: Index
}

export function momentOf(core: Checked): Moment {
  const { log } = core
  return {
    role: core.role,
    term: core.term,
    vote: core.vote,
    leader: core.leader,
    lastIndex: log.lastIndex,
    commitIndex: log.commitIndex,
    commitTerm: log.termAt(log.commitIndex) ?? 0,
    appliedIndex: log.appliedIndex,
    firstIndex: log.firstIndex,
    snapshotIndex: log.snapshotIndex,
  }
}

/** Throws InvariantError. A handful of comparisons: cheap enough for every turn. */
export function checkState(core: Checked): void {
  const { self, role, term, vote, leader, log } = core
  invariant(log.appliedIndex <= log.commitIndex, 'applied beyond the commit index')
  invariant(log.commitIndex <= log.lastIndex, 'committed beyond the end of the log')
  invariant(log.stableIndex <= log.lastIndex, 'stable beyond the end of the log')
  invariant(log.snapshotIndex >= log.base.index, 'the log begins behind the snapshot')
  invariant(log.snapshotIndex <= log.appliedIndex, 'a snapshot of what was not applied')
  invariant(
    log.stableIndex >= log.snapshotIndex || log.unsavedBase !== null,
    'a snapshot past the durable log',
  )
  invariant(log.lastTerm <= term, 'the log holds a term later than the current one')
  invariant((role === 'leader') === (leader === self), 'a leader follows itself, and nobody else')
  if (role === 'leader' || role === 'candidate') {
    invariant(vote === self, 'whoever stands for election in a term has voted for itself in it')
  }
  invariant(
    leader === null || role === 'leader' || role === 'follower',
    'a campaigning node follows nobody',
  )
}

/** Throws InvariantError. `after` may be any number of steps later. */
export function checkTransition(before: Moment, core: Checked): void {
  const { term, vote, leader, role, log } = core
  invariant(term >= before.term, 'terms never fall')
  invariant(log.commitIndex >= before.commitIndex, 'the commit index never falls')
  invariant(log.appliedIndex >= before.appliedIndex, 'the applied index never falls')
  invariant(log.firstIndex >= before.firstIndex, 'the log never reaches back again')
  invariant(log.snapshotIndex >= before.snapshotIndex, 'the snapshot index never falls')
  const commitTerm = log.termAt(before.commitIndex)
  invariant(
    commitTerm === undefined || commitTerm === before.commitTerm,
    'a committed entry has changed',
  )
  if (term > before.term) return
  invariant(before.vote === null || vote === before.vote, 'one vote a term')
  invariant(
    before.leader === null || leader === null || leader === before.leader,
    'one leader a term',
  )
  if (before.role === 'leader') {
    invariant(role !== 'candidate', 'a leader does not campaign in its own term')
    invariant(log.lastIndex >= before.lastIndex, 'a leader never shortens its own log')
  }
}

/** Throws InvariantError. Walks the whole log and every follower: for tests. */
export function checkDeeply(core: Checked): void {
  checkState(core)
  const { log, tracker, role } = core
  let previousTerm = log.termAt(log.firstIndex - 1) ?? 0
  let configurations = 0
  for (let index = log.firstIndex; index <= log.lastIndex; index++) {
    const entry = log.entryAt(index)
    invariant(entry !== undefined && entry.index === index, 'the log has a gap')
    invariant(entry.term >= previousTerm, 'terms in a log never fall')
    previousTerm = entry.term
    if (entry.kind === 'configuration') configurations = index
  }
  if (configurations > 0) {
    invariant(log.configuration?.index === configurations, 'the newest configuration is in force')
  }
  invariant((tracker.progress.size > 0 ? 'leader' : role) === role, 'only a leader keeps progress')
  for (const progress of tracker.progress.values()) {
    invariant(progress.matchIndex < progress.nextIndex, 'nextIndex lies behind matchIndex')
    invariant(progress.matchIndex <= log.lastIndex, 'a follower matches what was never sent')
    invariant(progress.nextIndex <= log.lastIndex + 1, 'nextIndex lies beyond the log')
  }
}

/** Asserts the cheap checks once a turn, against the turn before. */
export class Watch {
  #before: Moment | null = null

  check(core: Checked): void {
    checkState(core)
    if (this.#before !== null) checkTransition(this.#before, core)
    // In most turns of an idle node nothing has changed.
    if (this.#before === null || !isMoment(this.#before, core)) this.#before = momentOf(core)
  }
}

/** ... whose commit term is that of before, or the transition would have been refused. */
function isMoment(before: Moment, { role, term, vote, leader, log }: Checked): boolean {
  return (
    before.role === role &&
    before.term === term &&
    before.vote === vote &&
    before.leader === leader &&
    before.lastIndex === log.lastIndex &&
    before.commitIndex === log.commitIndex &&
    before.appliedIndex === log.appliedIndex &&
    before.firstIndex === log.firstIndex &&
    before.snapshotIndex === log.snapshotIndex
  )
}
