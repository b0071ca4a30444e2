/** What the parts of the snapshot driver share: its limits, what it shows, and the two words for one snapshot file. */
import type { AppliedState } from './applied-state.ts'
import type { Captured } from './capture.ts'
import { decodeConfigurationRecord, encodeConfigurationRecord } from './raft/configuration.ts'
import type { SnapshotAt } from './raft/snapshots.ts'
import type { ConfigurationRecord } from './raft/types.ts'
import type { SnapshotInfo, SnapshotMeta } from './storage/snapshots.ts'

/** Each as in limits.ts. */
export type SnapshotLimits = Record<
  | 'snapshotEntries'
  | 'snapshotLogBytes'
  | 'snapshotTailEntries'
  | 'snapshotTailBytes'
  | 'snapshotPinnedBytesMax'
  | 'snapshotChunkBytes'
  | 'snapshotPullsMax'
  | 'snapshotPullAgainMs'
  | 'snapshotPatienceMs'
  | 'snapshotRetryMs'
  | 'snapshotSendIdleMs',
  number
>

export type Note = (level: 'info' | 'warn' | 'error', event: string, fields: object) => void

/** What a snapshot file has given back. */
export interface Loaded {
  readonly snapshot: SnapshotAt
  readonly applied: AppliedState
}

/** Snapshots are many, and configurations few. */
const encoded = new WeakMap<ConfigurationRecord, Uint8Array>()

export function metaOf(clusterId: string, { id, configuration }: Captured): SnapshotMeta {
  const { record } = configuration
  const payload = encoded.get(record) ?? encodeConfigurationRecord(record)
  encoded.set(record, payload)
  return { clusterId, ...id, configuration: { index: configuration.index, payload } }
}

/** Null: its configuration is none. */
export function snapshotAtOf(info: SnapshotInfo): SnapshotAt | null {
  const { term, index, configuration, sizeBytes, checksum } = info
  const record = decodeConfigurationRecord(configuration.payload)
  if (record === null || configuration.index > index) return null
  const id = { term, index }
  return { id, configuration: { index: configuration.index, record }, sizeBytes, checksum }
}
