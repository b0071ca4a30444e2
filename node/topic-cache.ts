/**
 * Keeps stretched phrases between starts, so that the 0.4 s and 128 MiB of scrypt are spent once a machine. One file,
 * 0600, that holds phrases and keys in clear, as secret as the topic file beside it. Its name says nothing: a file named
 * by a fast hash of a phrase would let anyone who may list the folder test guesses without scrypt. Losing or breaking
 * the file costs time, never correctness, so every failure is ignored.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StretchCache } from './topic.ts'

const FILE_NAME = 'stretched-topics.json'
const PHRASES_MAX = 32

export function openStretchCache(directory: string): StretchCache {
  const path = join(directory, FILE_NAME)
  return {
    get(phrase) {
      const hex = read(path).find(([known]) => known === phrase)?.[1]
      return hex === undefined ? null : new Uint8Array(Buffer.from(hex, 'hex'))
    },
    set(phrase, key) {
      const others = read(path).filter(([known]) => known !== phrase)
      const hex = Buffer.from(key).toString('hex')
      write(path, directory, [[phrase, hex], ...others].slice(0, PHRASES_MAX))
    },
  }
}

function read(path: string): [string, string][] {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (!Array.isArray(parsed)) return []
    return parsed.filter(
      (item) =>
        Array.isArray(item) && typeof item[0] === 'string' && /^[0-9a-f]{64}$/.test(item[1]),
    )
  } catch {
    return []
  }
}

/** Written beside and renamed: two nodes that start at once each leave a whole file. */
function write(path: string, directory: string, entries: readonly (readonly string[])[]): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    writeFileSync(temporary, JSON.stringify(entries), { mode: 0o600, flag: 'wx' })
    renameSync(temporary, path)
  } catch {
    rmSync(temporary, { force: true })
  }
}
