/** The log and the snapshots of one data directory, as a runtime wants to be given them. */
import type { Disk } from './disk.ts'
import { LOG_FOLDER } from './identity.ts'
import { openSnapshots, SNAPSHOT_FOLDER } from './snapshot-folder.ts'
import type { SnapshotStorage } from './snapshots.ts'
import type { LogStorage } from './storage.ts'
import { createWal, openWal } from './wal.ts'

export function storageIn(
  disk: Disk,
  dataDirectory: string,
  log: { readonly storageId: string; readonly segmentBytes?: number },
): {
  /** `create`: an empty one in place of whatever is there. Both throw StorageError. */
  openLog(how: 'create' | 'open'): LogStorage
  openSnapshots(): SnapshotStorage
} {
  const wal = { disk, directory: `${dataDirectory}/${LOG_FOLDER}`, ...log }
  return {
    openLog: (how) => (how === 'create' ? createWal(wal) : openWal(wal)),
    openSnapshots: () => openSnapshots({ disk, directory: `${dataDirectory}/${SNAPSHOT_FOLDER}` }),
  }
}
