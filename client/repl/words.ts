/**
 * How a line of the shell is read. A word ends at white space; one with white space, quotes or bytes that are no text is written
 * "...", with \" \\ \n \r \t \xNN \u{N} in it. The last argument of PUT and CAS is the rest of the line, exactly as it stands.
 */

/** The line can not be meant: what is wrong with it, and the usage when one is known. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly code = 'usage'
  readonly hint: string | null

  constructor(message: string, hint: string | null = null) {
    super(message)
    this.hint = hint
  }
}

export interface Word {
  readonly bytes: Uint8Array
  /** As text; bytes that are none are replaced. */
  readonly text: string
  readonly quoted: boolean
}

const ENCODER = new TextEncoder()
const SIMPLE: Readonly<Record<string, number>> = {
  '"': 0x22,
  '\\': 0x5c,
  n: 0x0a,
  r: 0x0d,
  t: 0x09,
}

/** Takes the words of a line one after the other. */
export class LineReader {
  readonly #line: string
  #at = 0

  constructor(line: string) {
    this.#line = line
    this.#skipSpace()
  }

  get atEnd(): boolean {
    return this.#at >= this.#line.length
  }

  /** The next word, or null at the end. Throws UsageError on a quote that is not closed. */
  word(): Word | null {
    if (this.atEnd) return null
    const word = this.#line[this.#at] === '"' ? this.#quoted() : this.#bare()
    this.#skipSpace()
    return word
  }

  /** Everything that is left; after it nothing is. */
  rest(): string {
    const rest = this.#line.slice(this.#at)
    this.#at = this.#line.length
    return rest
  }

  /** The words that are left. */
  words(): Word[] {
    const words: Word[] = []
    for (let word = this.word(); word !== null; word = this.word()) words.push(word)
    return words
  }

  #bare(): Word {
    const start = this.#at
    while (!this.atEnd && !isSpace(this.#line[this.#at])) this.#at++
    const text = this.#line.slice(start, this.#at)
    return { bytes: ENCODER.encode(text), text, quoted: false }
  }

  #quoted(): Word {
    const { bytes, end, closed } = unquote(this.#line, this.#at)
    if (!closed) throw new UsageError('a quote is not closed')
    this.#at = end
    if (!this.atEnd && !isSpace(this.#line[end])) {
      throw new UsageError('after a closing quote there must be a space')
    }
    return { bytes, text: new TextDecoder().decode(bytes), quoted: true }
  }

  #skipSpace(): void {
    while (!this.atEnd && isSpace(this.#line[this.#at])) this.#at++
  }
}

/** Reads a quoted word that begins at `start`. Not `closed`: the line ended first. */
export function unquote(
  line: string,
  start: number,
): { readonly bytes: Uint8Array; readonly end: number; readonly closed: boolean } {
  const parts: number[] = []
  let at = start + 1
  while (at < line.length) {
    const char = line[at] as string
    if (char === '"') return { bytes: Uint8Array.from(parts), end: at + 1, closed: true }
    if (char === '\\') {
      const escaped = readEscape(line, at + 1)
      parts.push(...escaped.bytes)
      at = escaped.end
      continue
    }
    const symbol = String.fromCodePoint(line.codePointAt(at) as number)
    parts.push(...ENCODER.encode(symbol))
    at += symbol.length
  }
  return { bytes: Uint8Array.from(parts), end: at, closed: false }
}

function readEscape(line: string, at: number): { bytes: Iterable<number>; end: number } {
  const simple = SIMPLE[line[at] ?? '']
  if (simple !== undefined) return { bytes: [simple], end: at + 1 }
  const rest = line.slice(at, at + 10)
  const byte = /^x([0-9a-f]{2})/i.exec(rest)
  if (byte !== null) return { bytes: [Number.parseInt(byte[1] as string, 16)], end: at + 3 }
  const point = /^u\{([0-9a-f]{1,6})\}/i.exec(rest)
  const code = Number.parseInt(point?.[1] ?? '', 16)
  if (point !== null && code <= 0x10ffff) {
    return { bytes: ENCODER.encode(String.fromCodePoint(code)), end: at + point[0].length }
  }
  throw new UsageError('unknown escape in quotes', 'use \\" \\\\ \\n \\r \\t \\xNN or \\u{N}')
}

function isSpace(char: string | undefined): boolean {
  return char === ' ' || char === '\t'
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The bytes as text, or null when they are none. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return UTF8.decode(bytes)
  } catch {
    return null
  }
}

/** A word that reads back as these bytes: bare when it can be, else quoted. */
export function wordFor(bytes: Uint8Array, quotes: 'if needed' | 'always' = 'if needed'): string {
  const text = textOf(bytes)
  const isPlain = text !== null && text !== '' && !/[\p{C}\p{Z}"\\]/u.test(text)
  if (isPlain && quotes === 'if needed') return text
  return `"${text === null ? escapeBytes(bytes) : escapeText(text)}"`
}

/** Text that drives no terminal: control and invisible characters as escapes. Line breaks and tabs stay where they are `kept`. */
export function harmless(text: string, kept: 'none' | 'layout' = 'none'): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (char) =>
    kept === 'layout' && (char === '\n' || char === '\t') ? char : escapeChar(char),
  )
}

function escapeText(text: string): string {
  return harmless(text.replace(/["\\]/g, '\\$&'))
}

function escapeBytes(bytes: Uint8Array): string {
  return [...bytes]
    .map((byte) =>
      byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c
        ? String.fromCharCode(byte)
        : `\\x${byte.toString(16).padStart(2, '0')}`,
    )
    .join('')
}

function escapeChar(char: string): string {
  if (char === '\n') return '\\n'
  if (char === '\r') return '\\r'
  if (char === '\t') return '\\t'
  const code = char.codePointAt(0) as number
  // Above ASCII \xNN would be one byte and not the character.
  return code < 0x80 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
}

/** Bytes for people: text where it is text, escapes where it is not. */
export function shown(bytes: Uint8Array, kept: 'none' | 'layout' = 'none'): string {
  const text = textOf(bytes)
  return text === null ? escapeBytes(bytes) : harmless(text, kept)
}
