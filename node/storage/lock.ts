/**
 * One live process a data directory. Held by a listening unix socket, because a socket dies with its process, however that
 * ends, works on Node, Bun and Deno, and between containers that share a volume on one kernel (not over NFS). It must
 * never be taken from a process that lives.
 *
 * The socket is `lock/<id>.sock`, the id random for each attempt. A starter makes `lock.<id>/<id>.sock`, listens, and
 * renames that directory onto `lock`: the kernel does that in one step, and only when `lock` is absent or empty, so one of
 * many starters wins. A dead socket in `lock` is removed first, *by its own name*: a starter that has looked and then
 * slept removes nothing that came since. With one fixed name that remove could hit the next holder's socket.
 */
import { randomBytes } from 'node:crypto'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, resolve } from 'node:path'
import type { HostDisk } from './disk.ts'
import { StorageError } from './storage.ts'

const LOCK_FOLDER = 'lock'
/** sun_path holds 108 bytes on Linux, 104 on macOS. Node cuts a longer one silently, Deno throws. */
const SOCKET_PATH_BYTES_MAX = 100
/** Each lost round means that another starter has moved; so many in a row are something else. */
const ROUNDS_MAX = 1_000

export interface DirectoryLock {
  readonly directory: string
  /** Idempotent. A process that just ends releases it too. */
  release(): Promise<void>
}

interface Candidate {
  readonly folder: string
  readonly socket: string
  readonly server: Server
}

/** Throws StorageError `locked` when a live process holds the directory, which must exist. */
export async function acquireLock(disk: HostDisk, directory: string): Promise<DirectoryLock> {
  const place = resolve(directory)
  const lock = `${place}/${LOCK_FOLDER}`
  let candidate: Candidate | null = null
  try {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (await clearDead(disk, lock)) throw locked(place)
      candidate ??= await makeCandidate(disk, place)
      const moved =
        candidate === null ? 'vanished' : disk.moveOntoEmpty(`${place}/${candidate.folder}`, lock)
      if (moved === 'moved' && candidate !== null) {
        const held = holding(disk, place, candidate)
        candidate = null
        await removeStrays(disk, place)
        return held
      }
      if (moved === 'vanished' && candidate !== null) {
        await closed(candidate.server)
        candidate = null
      }
    }
    throw new StorageError('io', `Could not lock ${place}: other processes keep moving its lock.`, {
      path: lock,
    })
  } finally {
    if (candidate !== null) {
      disk.remove(`${place}/${candidate.folder}`)
      await closed(candidate.server)
    }
  }
}

/** Whether a live process holds the directory. Changes nothing. */
export async function isLocked(disk: HostDisk, directory: string): Promise<boolean> {
  const lock = `${resolve(directory)}/${LOCK_FOLDER}`
  for (const name of sockets(disk, lock)) {
    if ((await probe(disk, `${lock}/${name}`)) === 'live') return true
  }
  return false
}

function locked(place: string): StorageError {
  return new StorageError(
    'locked',
    `Another live process uses the data directory ${place}. Stop it first (\`raft-p2p stop\`), or name another directory ` +
      'with --data.',
    { path: place },
  )
}

function holding(disk: HostDisk, place: string, candidate: Candidate): DirectoryLock {
  let release: Promise<void> | null = null
  return {
    directory: place,
    release() {
      release ??= (async () => {
        disk.unlink(`${place}/${LOCK_FOLDER}/${candidate.socket}`)
        await closed(candidate.server)
      })()
      return release
    },
  }
}

/** True when a live holder is there; otherwise the sockets of dead ones are gone. */
async function clearDead(disk: HostDisk, lock: string): Promise<boolean> {
  for (const name of sockets(disk, lock)) {
    const path = `${lock}/${name}`
    const state = await probe(disk, path)
    if (state === 'live') return true
    if (state === 'dead') disk.unlink(path)
  }
  return false
}

function sockets(disk: HostDisk, folder: string): string[] {
  return disk.list(folder).filter((name) => name.endsWith('.sock'))
}

/** Null when somebody has removed the directory before the socket was in it. */
async function makeCandidate(disk: HostDisk, place: string): Promise<Candidate | null> {
  const id = randomBytes(8).toString('hex')
  const folder = `${LOCK_FOLDER}.${id}`
  const socket = `${id}.sock`
  disk.makeEphemeralDirectory(`${place}/${folder}`)
  const server = createServer((connection) => {
    connection.on('error', () => {})
    connection.destroy()
  })
  // The lock ends with the process; it is no reason for the process to stay.
  server.unref()
  const failure = await withShortPath(disk, `${place}/${folder}/${socket}`, (path) =>
    listening(server, path),
  )
  if (failure === null) return { folder, socket, server }
  await closed(server)
  // The code is no help here: libuv calls a missing directory EACCES.
  if (disk.stat(`${place}/${folder}`) === null) return null
  disk.remove(`${place}/${folder}`)
  throw new StorageError('io', `Could not make the lock in ${place}: ${failure.message}`, {
    path: `${place}/${folder}`,
    cause: failure,
  })
}

function listening(server: Server, path: string): Promise<NodeJS.ErrnoException | null> {
  return new Promise((settle) => {
    server.once('error', settle)
    server.listen(path, () => {
      server.off('error', settle)
      server.on('error', () => {})
      settle(null)
    })
  })
}

/**
 * `dead`: a socket nobody listens on. `gone`: no longer there. Everything unclear, a full backlog of a stopped process or
 * a socket of another user, counts as live.
 */
function probe(disk: HostDisk, path: string): Promise<'live' | 'dead' | 'gone'> {
  return withShortPath(
    disk,
    path,
    (short) =>
      new Promise((settle) => {
        const connection = connect(short)
        connection.once('connect', () => {
          connection.destroy()
          settle('live')
        })
        connection.on('error', (failure: NodeJS.ErrnoException) => {
          if (failure.code === 'ECONNREFUSED') settle('dead')
          else settle(failure.code === 'ENOENT' ? 'gone' : 'live')
        })
      }),
  )
}

/**
 * Calls `work` with a path to the same file that fits into a socket address: for a deep directory through a symlink in
 * the folder for temporary files, which is gone afterwards. The socket itself lies in the data directory either way, so
 * that whoever shares the directory finds it.
 */
async function withShortPath<T>(
  disk: HostDisk,
  path: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return work(path)
  const name = `rp2p-${randomBytes(8).toString('hex')}`
  const socketBytes = Buffer.byteLength(`/${name}/${basename(path)}`)
  const fits = Buffer.byteLength(tmpdir()) + socketBytes <= SOCKET_PATH_BYTES_MAX
  const link = `${fits ? tmpdir() : '/tmp'}/${name}`
  disk.makeSymlink(dirname(path), link)
  try {
    return await work(`${link}/${basename(path)}`)
  } finally {
    disk.unlink(link)
  }
}

/** What starters that were killed have left. One that still lives fails to rename, and looks again. */
async function removeStrays(disk: HostDisk, place: string): Promise<void> {
  for (const name of disk.list(place)) {
    if (!name.startsWith(`${LOCK_FOLDER}.`)) continue
    const states: string[] = []
    for (const socket of sockets(disk, `${place}/${name}`)) {
      states.push(await probe(disk, `${place}/${name}/${socket}`))
    }
    if (!states.includes('live')) disk.remove(`${place}/${name}`)
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((settle) => server.close(() => settle()))
}
