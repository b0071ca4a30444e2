/** Reads the project's own files for the tidy tests: which there are, what they import, what is code in them. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Every file that is or would be committed, relative to the root. */
export function projectFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  const files = listed.split('\n').filter((path) => path !== '' && existsSync(join(ROOT, path)))
  return [...new Set(files)].sort()
}

export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

export interface Import {
  /** As written. */
  readonly specifier: string
  /** A path relative to the root, or the name of a package, or `node:...`. */
  readonly target: string
  /** Nothing of it is left at run time. */
  readonly typeOnly: boolean
}

const STATEMENT = /^\s*(import|export)\b(\s+type\b)?([^'"();=]*?)\bfrom\s*(['"])([^'"]+)\4/gm
const SIDE_EFFECT = /^\s*import\s*(['"])([^'"]+)\1/gm
const DYNAMIC = /(typeof\s+)?\bimport\(\s*(['"])([^'"]+)\2/g

export function importsOf(path: string, source: string): Import[] {
  const code = withoutComments(source)
  const found: Import[] = []
  const add = (specifier: string, typeOnly: boolean): void => {
    found.push({ specifier, target: resolveTarget(path, specifier), typeOnly })
  }
  for (const [, , type, names = '', , specifier = ''] of code.matchAll(STATEMENT)) {
    add(specifier, type !== undefined || onlyTypes(names))
  }
  for (const [, , specifier = ''] of code.matchAll(SIDE_EFFECT)) add(specifier, false)
  for (const [, typeOf, , specifier = ''] of code.matchAll(DYNAMIC)) {
    add(specifier, typeOf !== undefined)
  }
  return found
}

function onlyTypes(names: string): boolean {
  const inner = /^\s*\{([^}]*)\}\s*$/.exec(names)?.[1]
  if (inner === undefined) return false
  const parts = inner.split(',').map((part) => part.trim())
  return parts.filter((part) => part !== '').every((part) => part.startsWith('type '))
}

function resolveTarget(path: string, specifier: string): string {
  if (specifier.startsWith('.')) return normalize(join(dirname(path), specifier))
  if (specifier.startsWith('node:')) return specifier
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier)
}

/** Drops comments and keeps line breaks. Quotes are followed so that `ws://` is not one. */
export function withoutComments(source: string): string {
  let code = ''
  let quote: string | null = null
  for (let i = 0; i < source.length; i++) {
    const char = source[i] ?? ''
    const pair = source.slice(i, i + 2)
    if (quote !== null) {
      code += char
      if (char === '\\') code += source[++i] ?? ''
      else if (char === quote || (char === '\n' && quote !== '`')) quote = null
    } else if (pair === '//') {
      while (i + 1 < source.length && source[i + 1] !== '\n') i++
    } else if (pair === '/*') {
      const end = source.indexOf('*/', i + 2)
      const stop = end === -1 ? source.length : end + 2
      code += source.slice(i, stop).replace(/[^\n]/g, '')
      i = stop - 1
    } else {
      if (char === "'" || char === '"' || char === '`') quote = char
      code += char
    }
  }
  return code
}

/** Also empties '...' and "..." so that a word in a message is not taken for code. */
export function codeOnly(source: string): string {
  return withoutComments(source).replace(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"/g, "''")
}
