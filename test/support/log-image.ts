/**
 * The plainest idea of what a log must hold: entries behind a base, a hard state, and how much of it may be forgotten. What a log
 * gives back after a restart is compared with it.
 */
import type { Entry, EntryId, HardState, Index } from '../../node/raft/types.ts'
import type { Recovered, Save } from '../../node/storage/storage.ts'

export interface LogImage {
  readonly hardState: HardState | null
  /** Of the last batch that had one, else {0, 0}. */
  readonly base: EntryId
  /** All entries behind it. */
  readonly entries: readonly Entry[]
  /** Entries up to here may be missing. */
  readonly compacted: Index
}

export const EMPTY_LOG: LogImage = {
  hardState: null,
  base: { term: 0, index: 0 },
  entries: [],
  compacted: 0,
}

export function lastOf({ base, entries }: LogImage): EntryId {
  const { term, index } = entries.at(-1) ?? base
  return { term, index }
}

export function withBatch(image: LogImage, batch: Save): LogImage {
  const base = batch.base ?? image.base
  const before = batch.base === undefined ? image.entries : []
  const first = batch.entries[0]
  const kept = first === undefined ? before : before.slice(0, first.index - base.index - 1)
  return {
    hardState: batch.hardState ?? image.hardState,
    base,
    entries: [...kept, ...batch.entries],
    compacted: batch.base === undefined ? image.compacted : base.index,
  }
}

export function withCompact(image: LogImage, to: Index): LogImage {
  return { ...image, compacted: Math.max(image.compacted, to) }
}

/** What differs, or null when `recovered` is what a log with this image may give back. */
export function difference(
  image: LogImage,
  recovered: Pick<Recovered, 'hardState' | 'base' | 'entries'>,
): string | null {
  const { base } = recovered
  const stateOf = (one: HardState | null): string =>
    one === null ? 'none' : `${one.term}/${one.vote}/${one.commit}`
  if (stateOf(image.hardState) !== stateOf(recovered.hardState)) {
    return `hard state ${stateOf(recovered.hardState)}, not ${stateOf(image.hardState)}`
  }
  const most = Math.max(image.base.index, Math.min(image.compacted, lastOf(image).index))
  if (base.index < image.base.index || base.index > most) {
    return `it begins behind ${base.index}, not ${image.base.index} to ${most}`
  }
  const skipped = base.index - image.base.index
  const own = skipped === 0 ? image.base : image.entries[skipped - 1]
  if (own?.term !== base.term) return `its base ${base.index} has term ${base.term}`
  const found = recovered.entries.map(shown).join(' ')
  const wanted = image.entries.slice(skipped).map(shown).join(' ')
  return found === wanted ? null : `entries ${found}, not ${wanted}`
}

function shown({ index, term, kind, payload }: Entry): string {
  return `${index}:${term}:${kind}:${Buffer.from(payload).toString('hex')}`
}
