/**
 * A new cluster from an old state, made on one machine while no node runs on it: after a lost quorum (`recover`), or from a backup
 * (`snapshot restore`). What is made is a data directory whose node leads alone and admits whoever joins. It must never touch what
 * is there before the new directory is whole, and never give out an index that the old cluster may have given out.
 */
import { AppliedState, type AppliedStateOptions } from './applied-state.ts'
import { decodeConfigurationRecord, encodeConfigurationRecord } from './raft/configuration.ts'
import { mark } from './raft/marks.ts'
import type { ConfigurationRecord, Entry, EntryId, Member } from './raft/types.ts'
import { loadState } from './snapshot-fetching.ts'
import { type SnapshotInfo, type SnapshotStorage, snapshotFor } from './storage/snapshots.ts'
import { type LogStorage, StorageError } from './storage/storage.ts'

/**
 * How far above the last known index the new log starts. Others may have seen later entries than this disk has: revisions and
 * fencing tokens that were given out must never come again (CORRECTNESS, rule 14).
 */
export const INDEX_GAP = 1_000_000

/** What one disk knows of a cluster. */
export interface OldState {
  readonly applied: AppliedState
  /** The last entry that is in the state. */
  readonly last: EntryId
  readonly record: ConfigurationRecord
}

/**
 * Everything that the log holds, whether or not this disk knows that it was committed: an entry that was acknowledged by others is
 * kept then, at the price of keeping some that never were. Rejects with StorageError.
 */
export async function readState(
  log: Pick<LogStorage, 'recovered'>,
  snapshots: SnapshotStorage,
  clusterId: string,
  options: AppliedStateOptions,
): Promise<OldState> {
  const { recovered } = log
  const { info, applied } = await startOf(recovered, snapshots, clusterId, options)
  let last: EntryId = info === null ? { term: 0, index: 0 } : { term: info.term, index: info.index }
  let payload = info?.configuration.payload ?? null
  for (const entry of recovered.entries) {
    if (entry.index <= last.index) continue
    applied.apply(entry)
    if (entry.kind === 'configuration') payload = entry.payload
    last = { term: entry.term, index: entry.index }
  }
  const record = payload === null ? null : decodeConfigurationRecord(payload)
  if (record === null) {
    throw new StorageError('storage-lost', 'There is no cluster in this directory to recover.')
  }
  return { applied, last, record }
}

/**
 * The newest snapshot that goes with the log and can be read, as at a start of the node (snapshot-driver.ts): where a newer one is
 * damaged, an older one or the log from its beginning has the same, if it is there.
 */
async function startOf(
  recovered: LogStorage['recovered'],
  snapshots: SnapshotStorage,
  clusterId: string,
  options: AppliedStateOptions,
): Promise<{ readonly info: SnapshotInfo | null; readonly applied: AppliedState }> {
  let found = snapshots.found
  for (;;) {
    const info = snapshotFor(recovered, found, clusterId)
    if (info === null) return { info, applied: new AppliedState(options) }
    try {
      return { info, applied: await loadSnapshot(snapshots, info, options) }
    } catch (error) {
      if ((error as StorageError).code !== 'corrupt-snapshot') throw error
      mark('reseed: the newest snapshot cannot be read')
      found = found.filter((other) => other.index < info.index)
      // Its own reason says more than that there is no other.
      if (found.length === 0 && recovered.base.index > 0) throw error
    }
  }
}

/** Rejects with StorageError `corrupt-snapshot` or `io`. */
export function loadSnapshot(
  snapshots: SnapshotStorage,
  info: SnapshotInfo,
  options: AppliedStateOptions,
): Promise<AppliedState> {
  return new Promise((resolve, reject) => {
    loadState(snapshots, info, AppliedState.restorer(options), (result) => {
      if (result instanceof StorageError) reject(result)
      else resolve(result.applied)
    })
  })
}

export interface NewClusterParts {
  readonly snapshots: SnapshotStorage
  /** A new, empty log; nothing of the old one is where it is made. */
  readonly createLog: () => LogStorage
  /** 32 lower-case hex digits, random. */
  readonly clusterId: string
  readonly self: Omit<Member, 'memberId'>
  readonly reason: string
}

/** What has become of the old state. */
export interface NewCluster {
  readonly record: ConfigurationRecord
  /** The new log starts behind this entry, which is the first of the new cluster. */
  readonly start: EntryId
}

/**
 * Writes snapshot and log of the new cluster: this node is its only voter, everything of the state is kept, sessions too. Rejects
 * with StorageError; then what was written is of no use.
 */
export async function writeCluster(parts: NewClusterParts, old: OldState): Promise<NewCluster> {
  const { clusterId, self, reason } = parts
  const memberId = old.record.configuration.nextMemberId
  const { removed: _removed, ...kept } = old.record
  const record: ConfigurationRecord = {
    ...kept,
    clusterId,
    foundingSet: [self.nodeKey],
    reason,
    configuration: {
      voters: [memberId],
      votersOutgoing: [],
      learners: [],
      members: [{ memberId, ...self }],
      nextMemberId: memberId + 1,
    },
  }
  const start = { term: old.last.term + 1, index: old.last.index + INDEX_GAP }
  const payload = encodeConfigurationRecord(record)
  const entry: Entry = { term: start.term, index: start.index, kind: 'configuration', payload }
  old.applied.apply(entry)
  await writeSnapshot(parts.snapshots, old.applied, { clusterId, entry })
  await writeFirstBatch(parts.createLog(), start)
  return { record, start }
}

async function writeSnapshot(
  snapshots: SnapshotStorage,
  applied: AppliedState,
  { clusterId, entry }: { readonly clusterId: string; readonly entry: Entry },
): Promise<void> {
  const { term, index, payload } = entry
  const writer = snapshots.write({ clusterId, term, index, configuration: { index, payload } })
  for (const piece of applied.capture().pieces()) {
    await new Promise<void>((resolve, reject) => {
      writer.append(piece, (error) => (error === null ? resolve() : reject(error)))
    })
  }
  await new Promise<void>((resolve, reject) => {
    writer.finish((error) => (error === null ? resolve() : reject(error)))
  })
}

async function writeFirstBatch(log: LogStorage, base: EntryId): Promise<void> {
  const hardState = { term: base.term, vote: null, commit: base.index }
  await new Promise<void>((resolve, reject) => {
    log.save({ hardState, base, entries: [] }, (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
  await new Promise<void>((resolve) => log.close(resolve))
}
