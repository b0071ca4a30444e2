/** What a node shows of itself through its public face, and what one turn has changed in it, as lines of a trace. */
import type { Raft } from '../../node/raft/raft.ts'
import type { Entry, EntryId, Index, PeerId, Role, Term } from '../../node/raft/types.ts'
import { entryText, idText, type Words } from './format.ts'

interface SeenProgress {
  readonly state: string
  readonly match: Index
  readonly next: Index
  readonly paused: boolean
  readonly askAgain: boolean
  readonly inflight: number
}

export interface Seen {
  readonly role: Role
  readonly term: Term
  readonly leader: PeerId | null
  readonly base: EntryId
  readonly installing: EntryId | null
  readonly configuration: Index
  readonly entries: readonly Entry[]
  readonly commit: Index
  readonly applied: Index
  readonly progress: ReadonlyMap<PeerId, SeenProgress>
}

export function entriesOf(raft: Raft): Entry[] {
  const { log } = raft
  const count = log.lastIndex - log.base.index
  return Array.from({ length: count }, (_, at) => log.entryAt(log.firstIndex + at) as Entry)
}

export function see(raft: Raft): Seen {
  const progress = [...raft.tracker.progress].map(([peer, one]) => {
    const { state, matchIndex, nextIndex, paused, askAgain, inflightCount } = one
    const seen = { state, match: matchIndex, next: nextIndex, paused, askAgain }
    return [peer, { ...seen, inflight: inflightCount }] as const
  })
  return {
    role: raft.role,
    term: raft.term,
    leader: raft.leader,
    base: raft.log.base,
    installing: raft.log.unsavedBase,
    configuration: raft.log.configuration?.index ?? 0,
    entries: entriesOf(raft),
    commit: raft.log.commitIndex,
    applied: raft.log.appliedIndex,
    progress: new Map(progress),
  }
}

export function stateText(words: Words, seen: Seen): string {
  const { role, term, leader } = seen
  if (role !== 'follower') return `${role} in term ${term}`
  return `follower in term ${term}, leader ${leader === null ? 'unknown' : words.nameOf(leader)}`
}

/** Role and log: what a node changes by itself, before it hands anything out. */
export function changedState(words: Words, before: Seen, after: Seen): string[] {
  const lines: string[] = []
  if (
    before.role !== after.role ||
    before.term !== after.term ||
    (before.leader !== after.leader && after.role === 'follower')
  ) {
    lines.push(`is now ${stateText(words, after)}`)
  }
  const { base, installing } = after
  if (installing !== null && installing.index !== before.installing?.index) {
    const old = before.entries.map(idText).join(', ')
    const what = `the snapshot of ${idText(installing)} with configuration ${after.configuration}`
    lines.push(`puts ${what} in the place of [${old}]`)
    return lines
  }
  if (base.index > before.base.index) lines.push(`forgets the log up to ${idText(base)}`)
  const known = before.entries.filter(({ index }) => index > base.index)
  const same = firstDifference(known, after.entries)
  const removed = known.slice(same)
  const added = after.entries.slice(same)
  if (removed.length > 0) lines.push(`removes ${removed.map(idText).join(', ')}`)
  if (added.length > 0) {
    lines.push(`appends ${added.map((entry) => entryText(words, entry)).join(', ')}`)
  }
  return lines
}

function firstDifference(before: readonly Entry[], after: readonly Entry[]): number {
  let at = 0
  while (at < before.length && before[at]?.term === after[at]?.term) at++
  return at
}

export function changedCommit(words: Words, before: Seen, after: Seen): string[] {
  const lines: string[] = []
  if (before.commit !== after.commit) lines.push(`commit ${before.commit} -> ${after.commit}`)
  const applied = after.entries.filter(
    ({ index }) => index > before.applied && index <= after.applied,
  )
  if (applied.length > 0) {
    lines.push(`applies ${applied.map((entry) => entryText(words, entry)).join(', ')}`)
  }
  return lines
}

/** What a leader has learnt of its followers. */
export function changedProgress(words: Words, before: Seen, after: Seen): string[] {
  if (before.term !== after.term) return []
  const lines: string[] = []
  for (const [peer, now] of after.progress) {
    const was = before.progress.get(peer)
    const name = words.nameOf(peer)
    if (was === undefined) continue
    if (was.state !== now.state || was.match !== now.match || now.next < was.next) {
      lines.push(`knows of ${name}: ${progressText(was)} -> ${progressText(now)}`)
    }
    if (now.askAgain && !was.askAgain) lines.push(`will ask ${name} again where it stands`)
  }
  return lines
}

/** The window of a follower, which what leaves now may have filled. */
export function changedWindows(words: Words, before: Seen, after: Seen): string[] {
  const lines: string[] = []
  for (const [peer, now] of after.progress) {
    const was = before.progress.get(peer)
    if (was === undefined || now.state !== 'replicate' || was.state !== 'replicate') continue
    if (was.paused === now.paused) continue
    const name = words.nameOf(peer)
    lines.push(`window of ${name} is ${now.paused ? 'full' : 'open'}: ${now.inflight} in flight`)
  }
  return lines
}

export function progressText(progress: SeenProgress): string {
  return `${progress.state} match=${progress.match} next=${progress.next}`
}
