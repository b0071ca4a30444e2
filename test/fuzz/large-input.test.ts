// timeout: 300 s
/**
 * Decoders on 140,000 characters of the same: what is quadratic, or goes as deep as its input, shows here. The deadline
 * is there to name a decoder that hangs, and a linear one needs less than a tenth of it.
 */
import { Script } from 'node:vm'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DECODERS } from './decoders.ts'
import { jsonText } from './mutations.ts'
import { HANGS, isHanging } from './open-findings.ts'
import type { AnyRow } from './rows.ts'
import { SEED } from './runs.ts'

const SIZE = 140_000
/** Of lists in lists: more than a stack holds. */
const DEPTH = 50_000
/** Of processor time. */
const DEADLINE_MS = 1500

/** What is repeated: each is a beginning that some pattern or loop may go back to. */
const PIECES = [
  ...'/.:,-"\\ \t\n%[=&9a?@',
  '\u00e9',
  '\u{1f600}',
  '%41',
  '\\x41',
  'a=b&',
  '1,',
  '"a" ',
  'ws://a/',
  'RP2B',
  '\0\0\0\x01',
  '\0\0\0\0',
  '\xff\xff\xff\xff',
]

const script = new Script('globalThis.decodeLarge()')

/** Ends what does not end by itself, even in the middle of a regular expression. */
function within(work: () => void): void {
  Object.assign(globalThis, { decodeLarge: work })
  for (let patience = 1; ; patience *= 4) {
    const before = process.cpuUsage()
    try {
      script.runInThisContext({ timeout: patience * DEADLINE_MS })
      return
    } catch (error) {
      // A machine that is busy with something else is no fault of the decoder.
      const { user, system } = process.cpuUsage(before)
      const isStarved = (user + system) / 1000 < DEADLINE_MS / 2
      const isTimeout = (error as { code?: unknown }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
      if (!isTimeout || !isStarved) throw error
    }
  }
}

/** A valid input, and inputs that begin, end or are filled with very many of one piece. */
function pumped(row: AnyRow, encoded: unknown): unknown[] {
  if (row.kind === 'json') return typeof encoded === 'string' ? texts(encoded) : trees(encoded)
  const isText = row.kind === 'text'
  const written = isText
    ? (encoded as string)
    : Buffer.from(encoded as Uint8Array).toString('latin1')
  const long = texts(written)
  const nested = row.inner === 'json' ? deep(JSON.parse(utf8(encoded))) : []
  if (isText) return [...long, ...nested]
  return [
    ...long.map((text) => new Uint8Array(Buffer.from(text, 'latin1'))),
    ...nested.map((text) => new TextEncoder().encode(text)),
  ]
}

function utf8(encoded: unknown): string {
  return typeof encoded === 'string' ? encoded : new TextDecoder().decode(encoded as Uint8Array)
}

function texts(text: string): string[] {
  return PIECES.flatMap((piece) => {
    const many = piece.repeat(SIZE / piece.length)
    const middle = Math.floor(text.length / 2)
    const inside = text.slice(0, middle) + many + text.slice(middle)
    return [many, `${text}${many}x`, inside]
  })
}

/** Each text of a tree in turn becomes a long one. */
function trees(tree: unknown): unknown[] {
  if (typeof tree !== 'object' || tree === null) return []
  return Object.entries(tree).flatMap(([key, value]) =>
    typeof value === 'string' ? texts(value).map((text) => ({ ...tree, [key]: text })) : [],
  )
}

/** Each value at the top of a tree in turn becomes lists in lists, or objects in objects. */
function deep(tree: unknown): string[] {
  if (typeof tree !== 'object' || tree === null) return []
  const nested = ['[', '{"a":'].map((open) => {
    const close = open === '[' ? ']' : '}'
    const depth = DEPTH
    return `${open.repeat(depth)}${open === '[' ? '' : '1'}${close.repeat(depth)}`
  })
  const places = Object.keys(tree).flatMap((key) =>
    nested.map((inner) => jsonText({ ...tree, [key]: '@deep@' }).replace('"@deep@"', inner)),
  )
  return [...nested, ...places]
}

const large = suite('large input')

/** Sets of options are an operator's own, and each of their values has a row. */
const rows = DECODERS.filter((row) => !row.name.startsWith('options in'))

for (const row of rows) {
  large(row.name, () => {
    const [value] = fc.sample(row.values, { numRuns: 1, seed: SEED })
    for (const input of pumped(row, row.encode(value))) {
      try {
        within(() => row.decode(input as never))
      } catch (error) {
        if (isHanging(row.name, error)) return
        const shown = JSON.stringify(utf8(input)).slice(0, 100)
        assert.unreachable(`${(error as Error).message}, after ${shown}`)
      }
    }
    assert.not(row.name in HANGS, 'it is mended: remove it from open-findings.ts')
  })
}

large.run()
