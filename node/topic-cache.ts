/**
 * Keeps stretched phrases between starts, so that the 0.4 s and 128 MiB of scrypt are spent once a machine. One file,
 * 0600, that holds phrases and keys in clear, as secret as the topic file beside it. Its name says nothing: a file named
 * by a fast hash of a phrase would let anyone who may list the folder test guesses without scrypt. Losing or breaking
 * the file costs time, never correctness, so every failure is ignored.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { HostDisk } from './storage/disk.ts'
import type { StretchCache } from './topic.ts'

const APPLICATION_FOLDER = 'raft-p2p'
const FILE_NAME = 'stretched-topics.json'
const PHRASES_MAX = 32

/** `dataRoot`: as storage/directory.ts gives it; the file lies beside the topics' slots. */
export function openStretchCache(disk: HostDisk, dataRoot: string): StretchCache {
  const directory = join(dataRoot, APPLICATION_FOLDER)
  const path = join(directory, FILE_NAME)
  return {
    get(phrase) {
      const hex = read(disk, path).find(([known]) => known === phrase)?.[1]
      return hex === undefined ? null : new Uint8Array(Buffer.from(hex, 'hex'))
    },
    set(phrase, key) {
      const others = read(disk, path).filter(([known]) => known !== phrase)
      const hex = Buffer.from(key).toString('hex')
      write(disk, path, directory, [[phrase, hex] as const, ...others].slice(0, PHRASES_MAX))
    },
  }
}

type Entry = readonly [phrase: string, keyHex: string]

function read(disk: HostDisk, path: string): Entry[] {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(disk.read(path) ?? undefined))
    return Array.isArray(parsed) ? parsed.filter(isEntry) : []
  } catch {
    return []
  }
}

function isEntry(item: unknown): item is Entry {
  if (!Array.isArray(item)) return false
  const [phrase, key] = item
  return typeof phrase === 'string' && typeof key === 'string' && /^[0-9a-f]{64}$/.test(key)
}

/** Under a name of its own, then moved: nodes that start at once each leave a whole file. */
function write(disk: HostDisk, path: string, directory: string, entries: readonly Entry[]): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    disk.makeDirectory(directory)
    disk.replace(temporary, new TextEncoder().encode(JSON.stringify(entries)))
    disk.rename(temporary, path)
  } catch {
    discard(disk, temporary)
  }
}

function discard(disk: HostDisk, temporary: string): void {
  try {
    disk.remove(temporary)
  } catch {
    // A disk that cannot even remove: nothing more can be done here.
  }
}
