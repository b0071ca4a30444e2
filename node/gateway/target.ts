/**
 * Request targets. Keys are arbitrary bytes, which no URL parser keeps: they would be decoded as UTF-8, or `..` in them taken for
 * a path. So percent-encoding is undone here, to bytes.
 */
import { refuse } from './problem.ts'

export interface Target {
  /** Still percent-encoded. */
  readonly path: string
  /** Decoded to bytes; a parameter without `=` is empty. */
  readonly query: ReadonlyMap<string, Uint8Array>
}

/** Throws a Refusal. */
export function parseTarget(url: string): Target {
  if (!url.startsWith('/')) throw refuse('bad-request', 'the request target must start with "/"')
  const mark = url.indexOf('?')
  if (mark === -1) return { path: url, query: new Map() }
  const query = new Map<string, Uint8Array>()
  for (const pair of url.slice(mark + 1).split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = equals === -1 ? pair : pair.slice(0, equals)
    if (query.has(name)) throw refuse('bad-request', `the parameter "${name}" is there twice`)
    query.set(name, decodePercent(equals === -1 ? '' : pair.slice(equals + 1), 'form'))
  }
  return { path: url.slice(0, mark), query }
}

/** In a `form` (the query), "+" is a space; in a `path` it is itself. Throws a Refusal. */
export function decodePercent(text: string, where: 'path' | 'form'): Uint8Array {
  const bytes = new Uint8Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    let code = text.charCodeAt(at)
    if (code === 0x25) {
      const digits = text.slice(at + 1, at + 3)
      if (!/^[0-9a-f]{2}$/i.test(digits)) throw refuse('bad-request', '"%" without two hex digits')
      code = Number.parseInt(digits, 16)
      at += 2
    } else if (code === 0x2b && where === 'form') {
      code = 0x20
    } else if (code > 0x7e) {
      throw refuse('bad-request', 'bytes beyond ASCII must be percent-encoded')
    }
    bytes[length++] = code
  }
  return bytes.subarray(0, length)
}

/** A parameter as text, or null when it is absent. Only for parameters whose values are ASCII words and numbers. */
export function wordOf(target: Target, name: string): string | null {
  const bytes = target.query.get(name)
  return bytes === undefined ? null : String.fromCharCode(...bytes.subarray(0, 64))
}
