/**
 * Where nodes keep their data: which directory a node takes, what lies in it besides identity and log, and how commands
 * find the nodes of this machine. It must never hand out a directory that a live process holds.
 */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { HostDisk } from './disk.ts'
import { IDENTITY_FILE, LOG_FOLDER, RESEEDED_FOLDER, RESEEDING_FOLDER } from './identity.ts'
import { acquireLock, type DirectoryLock, isLocked } from './lock.ts'
import { SNAPSHOT_FOLDER } from './snapshot-folder.ts'
import { StorageError } from './storage.ts'

/** In a slot's directory: its node has left the cluster for good. */
const LEFT_FILE = 'left'
const TOPIC_FILE = 'topic'
const ENDPOINT_FILE = 'endpoint.json'
const ARCHIVE_PREFIX = 'archive-'
const APPLICATION_FOLDER = 'raft-p2p'
const DISCOVERY_DIGITS = 16
/** Far more nodes of one topic than a machine can run. */
const SLOTS_MAX = 1_000
const SMALL_FILE_BYTES_MAX = 64 * 1024

export interface DataDirectory {
  readonly path: string
  readonly lock: DirectoryLock
  /** The number of the slot, null for `--data`. */
  readonly slot: number | null
  /** True when a node that left was archived to make room. */
  readonly archived: boolean
  /** True when the node of this `--data` directory has left its cluster. It is not archived by itself. */
  readonly left: boolean
}

/** How commands reach a node that runs on this machine. */
export interface Endpoint {
  /** ws:// or wss:// */
  readonly url: string
  readonly nodeKey: string
  readonly pid: number
  readonly adminToken?: string
}

export interface Slot {
  readonly path: string
  /** The first 16 hex digits of the topic's discovery key. */
  readonly discovery: string
  readonly slot: number
  /** A process holds the directory now. */
  readonly live: boolean
  readonly left: boolean
  /** Of the running node; null when none runs, or when it is not listening yet. */
  readonly endpoint: Endpoint | null
}

/** The user's data folder; `RAFT_P2P_DATA_ROOT` wins. Slots lie in `<root>/raft-p2p/<discovery>/<n>`. */
export function dataRoot(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: string = process.platform,
): string {
  const own = env.RAFT_P2P_DATA_ROOT
  if (own !== undefined && own !== '') return resolve(own)
  const home = env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir()
  if (platform === 'darwin') return join(home, 'Library', 'Application Support')
  const xdg = env.XDG_DATA_HOME
  // The XDG specification says to ignore a relative path.
  return xdg?.startsWith('/') ? xdg : join(home, '.local', 'share')
}

/**
 * Takes `data` when it is given (StorageError `locked` when a live process has it), else the lowest slot of the topic
 * that no live process holds, so that a restart finds its old slot. `discoveryKey`: hex, at least 16 digits.
 */
export async function takeDirectory(
  disk: HostDisk,
  wanted: { readonly data: string } | { readonly dataRoot: string; readonly discoveryKey: string },
): Promise<DataDirectory> {
  if ('data' in wanted) {
    const path = resolve(wanted.data)
    if (disk.stat(path)?.kind === 'file') {
      throw new StorageError('io', `${path} is a file, and no directory for data.`, { path })
    }
    disk.makeDirectory(path)
    const lock = await acquireLock(disk, path)
    return { path, lock, slot: null, archived: false, left: hasLeft(disk, path) }
  }
  const topicFolder = slotsFolder(wanted.dataRoot, wanted.discoveryKey)
  for (let slot = 1; slot <= SLOTS_MAX; slot++) {
    const path = `${topicFolder}/${slot}`
    disk.makeDirectory(path)
    const lock = await acquireUnlessLocked(disk, path)
    if (lock === null) continue
    try {
      const archived = hasLeft(disk, path)
      if (archived) archive(disk, path)
      return { path, lock, slot, archived, left: false }
    } catch (failure) {
      await lock.release()
      throw failure
    }
  }
  throw new StorageError('locked', `All ${SLOTS_MAX} slots in ${topicFolder} are in use.`, {
    path: topicFolder,
  })
}

async function acquireUnlessLocked(disk: HostDisk, path: string): Promise<DirectoryLock | null> {
  try {
    return await acquireLock(disk, path)
  } catch (failure) {
    if (failure instanceof StorageError && failure.code === 'locked') return null
    throw failure
  }
}

function slotsFolder(root: string, discoveryKey: string): string {
  const digits = discoveryKey.slice(0, DISCOVERY_DIGITS)
  if (!/^[0-9a-f]{16}$/.test(digits)) throw new Error('bug: a discovery key must be hex')
  return join(resolve(root), APPLICATION_FOLDER, digits)
}

/** The slots of this machine, of one topic or of all, in order. Changes nothing. */
export async function listSlots(
  disk: HostDisk,
  root: string,
  discoveryKey?: string,
): Promise<Slot[]> {
  const folder = join(resolve(root), APPLICATION_FOLDER)
  const wanted = discoveryKey?.slice(0, DISCOVERY_DIGITS)
  const slots: Slot[] = []
  for (const discovery of disk.list(folder)) {
    if (!/^[0-9a-f]{16}$/.test(discovery) || (wanted ?? discovery) !== discovery) continue
    const numbers = disk
      .list(`${folder}/${discovery}`)
      .filter((name) => /^[1-9]\d{0,5}$/.test(name))
      .map(Number)
      .sort((a, b) => a - b)
    for (const slot of numbers) {
      const path = `${folder}/${discovery}/${slot}`
      const live = await isLocked(disk, path)
      const endpoint = live ? readEndpoint(disk, path) : null
      slots.push({ path, discovery, slot, live, left: hasLeft(disk, path), endpoint })
    }
  }
  return slots
}

/** Called when the node's own removal is committed: its slot may be used blank from the next start on. */
export function markLeft(disk: HostDisk, directory: string): void {
  disk.replace(`${directory}/${LEFT_FILE}`, new TextEncoder().encode('left\n'))
}

export function hasLeft(disk: HostDisk, directory: string): boolean {
  return disk.stat(`${directory}/${LEFT_FILE}`) !== null
}

/** Of a node here: its identity, the mark that it left, what `recover` left half done, or segments of its log. */
export function holdsNode(disk: HostDisk, directory: string): boolean {
  const names = [IDENTITY_FILE, LEFT_FILE, RESEEDING_FOLDER, RESEEDED_FOLDER]
  return (
    names.some((name) => disk.stat(`${directory}/${name}`) !== null) ||
    disk.list(`${directory}/${LOG_FOLDER}`).some((name) => /^\d{10}\.wal(\.tmp)?$/.test(name))
  )
}

/** What may lie in a directory where a node begins: what another one has left behind, and the place of the file system itself. */
const HARMLESS = /^(lock|topic|endpoint\.json|archive-\d+|lost\+found)$/

/** The names of what a new node could mistake for its own, or destroy. `own`: of the caller, who cleans them up. */
export function foreignNames(disk: HostDisk, directory: string, own: readonly string[]): string[] {
  if (disk.stat(directory) === null) return []
  return disk.list(directory).filter((name) => !HARMLESS.test(name) && !own.includes(name))
}

/**
 * Moves log, snapshots and identity to `<directory>/archive-<n>` and returns that path; the caller holds the lock. The topic stays.
 * After a crash in between, calling it again moves the rest (to the next n): until the identity is gone it is bound
 * without a log, which starts no node, and the mark of a node that left goes last. `unfinished`: a new cluster that waits to
 * move in goes too, or it would do so when nobody thinks of it any more.
 */
export function archive(
  disk: HostDisk,
  directory: string,
  unfinished: readonly string[] = [RESEEDING_FOLDER, RESEEDED_FOLDER],
): string {
  const numbers = disk
    .list(directory)
    .filter((name) => name.startsWith(ARCHIVE_PREFIX))
    .map((name) => Number(name.slice(ARCHIVE_PREFIX.length)))
    .filter((number) => Number.isSafeInteger(number))
  const path = `${directory}/${ARCHIVE_PREFIX}${Math.max(0, ...numbers) + 1}`
  disk.makeDirectory(path)
  removeEndpoint(disk, directory)
  for (const name of [LOG_FOLDER, SNAPSHOT_FOLDER, ...unfinished, IDENTITY_FILE, LEFT_FILE]) {
    if (disk.stat(`${directory}/${name}`) !== null) {
      disk.rename(`${directory}/${name}`, `${path}/${name}`)
    }
  }
  return path
}

/** The topic is a secret: mode 0600, and in no path name. */
export function writeTopic(disk: HostDisk, directory: string, topic: string): void {
  disk.replace(`${directory}/${TOPIC_FILE}`, new TextEncoder().encode(`${topic}\n`))
}

/** Null when there is none. */
export function readTopic(disk: HostDisk, directory: string): string | null {
  const text = readText(disk, `${directory}/${TOPIC_FILE}`)
  return text?.endsWith('\n') ? text.slice(0, -1) : text
}

/** Written once the node listens, removed when it stops. Only the lock tells whether it still runs. */
export function writeEndpoint(disk: HostDisk, directory: string, endpoint: Endpoint): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(endpoint)}\n`)
  disk.replace(`${directory}/${ENDPOINT_FILE}`, bytes)
}

/** Null when there is none, or none that can be read: commands then look for the node in other ways. */
export function readEndpoint(disk: HostDisk, directory: string): Endpoint | null {
  const text = readText(disk, `${directory}/${ENDPOINT_FILE}`)
  if (text === null) return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const { url, nodeKey, pid, adminToken } = value as Record<string, unknown>
  if (typeof url !== 'string' || !/^wss?:\/\//.test(url)) return null
  if (typeof nodeKey !== 'string' || !/^[0-9a-f]{64}$/.test(nodeKey)) return null
  if (!Number.isSafeInteger(pid)) return null
  const known = { url, nodeKey, pid: pid as number }
  return typeof adminToken === 'string' ? { ...known, adminToken } : known
}

export function removeEndpoint(disk: HostDisk, directory: string): void {
  disk.remove(`${directory}/${ENDPOINT_FILE}`)
}

function readText(disk: HostDisk, path: string): string | null {
  const bytes = disk.read(path)
  if (bytes === null || bytes.length > SMALL_FILE_BYTES_MAX) return null
  return new TextDecoder().decode(bytes)
}
