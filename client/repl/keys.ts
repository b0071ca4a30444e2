/** PUT, GET, DEL, LIST and CAS. Each returns its exit code. */
import pc from 'picocolors'
import type { Expected, KvItem } from '../client.ts'
import { tableText } from './tables.ts'
import { type CommandContext, EXIT } from './types.ts'
import { type LineReader, shown, textOf, UsageError, type Word, wordFor } from './words.ts'

/** Keys of one request of LIST. */
const PAGE = 1000
/** What LIST shows on a terminal unless LIMIT says otherwise. */
const LIMIT_ON_TERMINAL = 100
const NEWLINE = Uint8Array.of(10)
const TAB = Uint8Array.of(9)

export async function put(context: CommandContext, line: LineReader): Promise<number> {
  const { client, signal, view } = context
  const key = keyFrom(line)
  if (line.atEnd) throw new UsageError('PUT needs a key and a value')
  const value = line.rest()
  const { revision } = await client.put(key.bytes, value, { signal })
  if (view.style === 'json') await printJson(context, { ...named('key', key.bytes), revision })
  else {
    const { green } = pc.createColors(view.color)
    const stored = shown(new TextEncoder().encode(value))
    await view.print(`${green('Success!')} Set "${shown(key.bytes)}" to: "${stored}"\n`)
  }
  return EXIT.ok
}

export async function get(context: CommandContext, line: LineReader): Promise<number> {
  const { client, signal, view } = context
  const key = keyFrom(line)
  nothingLeft(line, 'GET takes one key')
  const item = await client.getItem(key.bytes, { signal })
  if (item === null) throw notFound(key.bytes)
  if (view.style === 'json') await printJson(context, itemJson(item))
  else if (view.style === 'plain') await view.print(joined([item.value, NEWLINE]))
  else await view.print(`${shown(item.value, 'layout')}\n`)
  return EXIT.ok
}

export async function del(context: CommandContext, line: LineReader): Promise<number> {
  const { client, signal, view } = context
  const key = keyFrom(line)
  nothingLeft(line, 'DEL takes one key')
  const { deleted, revision } = await client.delete(key.bytes, { signal })
  if (view.style === 'json') {
    await printJson(context, { ...named('key', key.bytes), deleted, revision })
    return EXIT.ok
  }
  const { green } = pc.createColors(view.color)
  const text = deleted ? `${green('Success!')} Deleted` : 'There was no'
  await view.print(`${text} "${shown(key.bytes)}"\n`)
  return EXIT.ok
}

export async function cas(context: CommandContext, line: LineReader): Promise<number> {
  const { client, signal, view } = context
  const { key, expected } = comparisonFrom(line)
  if (line.atEnd) throw new UsageError('CAS needs a key, the expected value and a new one')
  const value = line.rest()
  const { succeeded, revision } = await client.cas(key.bytes, expected, value, { signal })
  if (view.style === 'json') {
    await printJson(context, { ...named('key', key.bytes), succeeded, revision })
    return succeeded ? EXIT.ok : EXIT.absent
  }
  if (!succeeded) {
    const present = revision === 0 ? 'is absent' : `holds something else (revision ${revision})`
    const error = new Error(`nothing was written: "${shown(key.bytes)}" ${present}`)
    throw Object.assign(error, { code: 'compare-failed', hint: 'GET shows its present value.' })
  }
  const { green } = pc.createColors(view.color)
  const stored = shown(new TextEncoder().encode(value))
  await view.print(`${green('Success!')} Set "${shown(key.bytes)}" to: "${stored}"\n`)
  return EXIT.ok
}

export async function list(context: CommandContext, line: LineReader): Promise<number> {
  const { view } = context
  const { prefix, limit } = rangeFrom(line)
  const most = limit ?? (view.style === 'terminal' ? LIMIT_ON_TERMINAL : Number.POSITIVE_INFINITY)
  const items: KvItem[] = []
  let count = 0
  const more = await pages(context, { prefix, limit: most }, async (page) => {
    count += page.length
    if (view.style !== 'plain') items.push(...page)
    else await view.print(joined(page.flatMap(({ key, value }) => [key, TAB, value, NEWLINE])))
  })
  if (view.style === 'json') await printJson(context, { items: items.map(itemJson), more })
  if (view.style === 'terminal') await showItems(context, items, more)
  return count === 0 && view.style === 'terminal' ? showNothing(context, prefix) : EXIT.ok
}

async function showItems(
  { view }: CommandContext,
  items: readonly KvItem[],
  more: boolean,
): Promise<void> {
  if (items.length === 0) return
  const rows = items.map(({ key, value, revision }) => [
    wordFor(key),
    shown(value),
    String(revision),
  ])
  await view.print(tableText(view, ['KEY', 'VALUE', 'REVISION'], rows))
  const { dim } = pc.createColors(view.color)
  if (more) await view.print(`${dim('There are more; LIMIT n shows up to n of them.')}\n`)
}

async function showNothing({ view }: CommandContext, prefix: Uint8Array): Promise<number> {
  const which =
    prefix.length === 0 ? 'There are no keys.' : `No key begins with ${wordFor(prefix)}.`
  await view.print(`${which}\n`)
  return EXIT.ok
}

/** Page by page, so that a long list needs no memory; a page shows its keys as they were when it was read. */
async function pages(
  { client, signal }: CommandContext,
  { prefix, limit }: { readonly prefix: Uint8Array; readonly limit: number },
  onPage: (items: readonly KvItem[]) => Promise<void>,
): Promise<boolean> {
  let left = limit
  let after: Uint8Array | undefined
  for (;;) {
    const page = await client.list(prefix, { limit: Math.min(PAGE, left), after, signal })
    await onPage(page.items)
    left -= page.items.length
    after = page.items.at(-1)?.key
    if (!page.more || after === undefined || left <= 0) return page.more
  }
}

function keyFrom(line: LineReader): Word {
  const key = line.word()
  if (key === null || key.bytes.length === 0) throw new UsageError('a key is missing')
  return key
}

function nothingLeft(line: LineReader, message: string): void {
  if (line.atEnd) return
  throw new UsageError(message, 'Write a key with spaces in quotes: "a key"')
}

/** `key expected`, or `--absent key`, or `--revision N key`, as the command `cas` has it. */
function comparisonFrom(line: LineReader): { key: Word; expected: Expected } {
  const first = keyFrom(line)
  if (!first.quoted && first.text === '--absent') return { key: keyFrom(line), expected: null }
  if (!first.quoted && first.text === '--revision') {
    const revision = wholeNumber(line.word(), '--revision')
    return { key: keyFrom(line), expected: { revision } }
  }
  const expected = line.word()
  if (expected === null) throw new UsageError('CAS needs the expected value and a new one')
  return { key: first, expected: expected.bytes }
}

function rangeFrom(line: LineReader): { prefix: Uint8Array; limit: number | null } {
  const words = line.words()
  const isLimit = ({ quoted, text }: Word): boolean => !quoted && /^(--)?limit$/i.test(text)
  const at = words.findIndex(isLimit)
  const [prefix, extra] = at === -1 ? words : words.slice(0, at)
  if (extra !== undefined || (at !== -1 && words.length !== at + 2)) {
    throw new UsageError('LIST takes a prefix and LIMIT n', 'Quote a prefix that has spaces')
  }
  const limit = at === -1 ? null : wholeNumber(words[at + 1] ?? null, 'LIMIT')
  return { prefix: prefix?.bytes ?? new Uint8Array(0), limit }
}

function wholeNumber(word: Word | null, what: string): number {
  const value = Number(word?.text)
  if (word !== null && /^\d+$/.test(word.text) && value >= 1 && Number.isSafeInteger(value)) {
    return value
  }
  throw new UsageError(`${what} takes a whole number from 1`)
}

function notFound(key: Uint8Array): Error {
  const error = new Error(`not found: "${shown(key)}"`)
  return Object.assign(error, { code: 'not-found' })
}

function printJson({ view }: CommandContext, value: unknown): Promise<void> {
  return view.print(`${JSON.stringify(value)}\n`)
}

function itemJson({ key, value, revision }: KvItem): Record<string, unknown> {
  return { ...named('key', key), ...named('value', value), revision }
}

function named(name: string, bytes: Uint8Array): Record<string, string> {
  const text = textOf(bytes)
  if (text !== null) return { [name]: text }
  return { [`${name}Base64`]: Buffer.from(bytes).toString('base64') }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}
