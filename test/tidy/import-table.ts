/**
 * The import table of ARCHITECTURE.md, read as rules: the page cannot say one thing and the code do another. A row is
 * `| files | may import | types only | why it differs |`; every entry is in backticks: a file, a folder (`node/raft/`), a
 * package, or a pattern with `*`. A file belongs to the first row that names it and may always import within that row.
 */
import type { Import } from './source.ts'

export interface Row {
  readonly files: readonly string[]
  readonly values: readonly string[]
  readonly types: readonly string[]
}

export function readTable(markdown: string): Row[] {
  const start = markdown.indexOf('| files | may import |')
  if (start === -1) throw new Error('ARCHITECTURE.md has no import table')
  const rows: Row[] = []
  for (const line of markdown.slice(start).split('\n').slice(2)) {
    if (!line.startsWith('|')) break
    const [files = '', values = '', types = ''] = line.split('|').slice(1)
    rows.push({ files: entries(files), values: entries(values), types: entries(types) })
  }
  return rows
}

function entries(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '')
}

export function matches(pattern: string, target: string): boolean {
  if (pattern.endsWith('/')) return target.startsWith(pattern)
  if (pattern === 'node:*') return target.startsWith('node:')
  if (!pattern.includes('*')) return target === pattern
  const escaped = pattern.split('*').map((part) => part.replace(/[.+^$()[\]{}|\\/]/g, '\\$&'))
  return new RegExp(`^${escaped.join('[^/]*')}$`).test(target)
}

export function rowOf(rows: readonly Row[], path: string): Row | undefined {
  return rows.find((row) => row.files.some((pattern) => matches(pattern, path)))
}

/** Null when the import is allowed. */
export function refusal(row: Row, found: Import): string | null {
  const named = (patterns: readonly string[]): boolean =>
    patterns.some((pattern) => matches(pattern, found.target))
  if (named(row.files) || named(row.values)) return null
  if (named(row.types)) return found.typeOnly ? null : `${found.target} (types only)`
  return found.target
}
