/**
 * Puts a new cluster into a data directory (reseed.ts), in steps of which each can be cut short by a crash: everything is written
 * beside what is there, then the old is archived, then the new moves in, the identity last. The caller holds the directory's lock.
 */
import { type NewCluster, type OldState, writeCluster } from './reseed.ts'
import { archive } from './storage/directory.ts'
import type { HostDisk } from './storage/disk.ts'
import {
  IDENTITY_FILE,
  type IdentityRecord,
  LOG_FOLDER,
  RESEEDED_FOLDER,
  RESEEDING_FOLDER,
  readIdentity,
  writeIdentity,
} from './storage/identity.ts'
import { openSnapshots, SNAPSHOT_FOLDER } from './storage/snapshot-folder.ts'
import { createWal } from './storage/wal.ts'

/** Being written, and then waiting for the old to be archived. */
const WRITING = RESEEDING_FOLDER
/** The old is archived: this moves in. */
const MOVING = RESEEDED_FOLDER

export interface ReseedParts {
  readonly disk: HostDisk
  readonly directory: string
  /** Who the node is; its bond and members are replaced. */
  readonly identity: IdentityRecord
  /** 32 lower-case hex digits, random. */
  readonly clusterId: string
  readonly urls: readonly string[]
  readonly reason: string
}

/** Rejects with StorageError. Only when none is open: else that one would move in, and not this one. */
export async function reseed(parts: ReseedParts, old: OldState): Promise<NewCluster> {
  const { disk, directory, identity, clusterId, urls, reason } = parts
  if (isReseedOpen(disk, directory)) throw new Error('bug: another new cluster is moving in')
  const work = `${directory}/${WRITING}`
  disk.remove(`${directory}/${MOVING}`)
  disk.remove(work)
  const { publicKey: nodeKey, storageId, name } = identity
  const self = { nodeKey, storageId, name, urls }
  const made = await writeCluster(
    {
      snapshots: openSnapshots({ disk, directory: `${work}/${SNAPSHOT_FOLDER}` }),
      createLog: () => createWal({ disk, directory: `${work}/${LOG_FOLDER}`, storageId }),
      clusterId,
      self,
      reason,
    },
    old,
  )
  const { members } = made.record.configuration
  // The pledge stays: what was promised once is not taken back, and a bound node never founds again.
  const bound = { clusterId, foundingSet: [nodeKey], how: 'joined' } as const
  writeIdentity(disk, work, {
    ...identity,
    founding: { ...identity.founding, seq: identity.founding.seq + 1, bound },
    members,
    clusterId,
    memberId: members[0]?.memberId ?? null,
    logCreated: true,
    removed: false,
  })
  finishReseed(disk, directory)
  return made
}

/**
 * Whether an earlier attempt was cut short when all of the new was written; `finishReseed` ends it. Not when the node was started
 * since: what was written is of a state that is no more, and what the node has acknowledged meanwhile is not in it.
 */
export function isReseedOpen(disk: HostDisk, directory: string): boolean {
  // The identity moves last. Without it only an empty folder is left.
  if (disk.stat(`${directory}/${MOVING}/${IDENTITY_FILE}`) !== null) return true
  const written = readIdentity(disk, `${directory}/${WRITING}`)
  if (written === null) return false
  const present = readIdentity(disk, directory)
  if (present === null || present.bootCounter === written.bootCounter) return true
  // The log is archived first, and without it a start is refused, though it counts.
  return disk.stat(`${directory}/${LOG_FOLDER}`) === null
}

/** Idempotent: goes on wherever an earlier attempt has ended. Throws StorageError. */
export function finishReseed(disk: HostDisk, directory: string): void {
  const moving = `${directory}/${MOVING}`
  if (disk.stat(moving) === null) {
    const isBlank = [IDENTITY_FILE, LOG_FOLDER].every(
      (name) => disk.stat(`${directory}/${name}`) === null,
    )
    if (!isBlank) archive(disk, directory, [])
    disk.rename(`${directory}/${WRITING}`, moving)
  }
  for (const name of [SNAPSHOT_FOLDER, LOG_FOLDER, IDENTITY_FILE]) {
    if (disk.stat(`${moving}/${name}`) === null) continue
    // A node may have made an empty folder here before it noticed that something was under way.
    disk.remove(`${directory}/${name}`)
    disk.rename(`${moving}/${name}`, `${directory}/${name}`)
  }
  disk.remove(moving)
}
