/** The lines typed before, one a line in a file that only its owner may read. Losing it is no failure. */
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

export const HISTORY_LINES_MAX = 1000
const LINE_CHARS_MAX = 4096

export class History {
  readonly #path: string | null
  /** Oldest first. */
  #lines: string[]

  constructor(path: string | null) {
    this.#path = path
    this.#lines = path === null ? [] : readLines(path)
  }

  /** Newest first, as readline wants them. */
  get newestFirst(): string[] {
    return [...this.#lines].reverse()
  }

  add(line: string): void {
    if (line.trim() === '' || line.length > LINE_CHARS_MAX || line === this.#lines.at(-1)) return
    // Another shell may have written since: its lines are kept.
    const before = this.#path === null ? this.#lines : readLines(this.#path)
    this.#lines = [...before, line].slice(-HISTORY_LINES_MAX)
    if (this.#path !== null) writeLines(this.#path, this.#lines)
  }
}

function readLines(path: string): string[] {
  try {
    const lines = readFileSync(path, 'utf8').split('\n')
    return lines.filter((line) => line !== '').slice(-HISTORY_LINES_MAX)
  } catch {
    return []
  }
}

/** Replaced as a whole, so that a crash leaves the old file or the new one. */
function writeLines(path: string, lines: readonly string[]): void {
  const draft = `${path}.${process.pid}`
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(draft, `${lines.join('\n')}\n`, { mode: 0o600 })
    chmodSync(draft, 0o600)
    renameSync(draft, path)
  } catch {
    // A read-only home: the history of this run is still in memory.
  }
}
