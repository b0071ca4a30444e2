/** Tab: names of commands, and keys, which the cluster is asked for with little patience. */
import { COMMANDS, nameOf } from './commands.ts'
import type { DotCommand, ShellClient } from './types.ts'
import { textOf, unquote, wordFor } from './words.ts'

/** Longer than this and the terminal would seem stuck. */
const PATIENCE_MS = 500
const KEYS_MAX = 20

export interface Completion {
  /** Each begins with `partial`. */
  readonly hits: readonly string[]
  /** The part of the line that a hit replaces. */
  readonly partial: string
}

const NOTHING: Completion = { hits: [], partial: '' }

/** `line` ends where the cursor stands. Never rejects. */
export async function complete(
  line: string,
  {
    client,
    dotCommands,
  }: {
    readonly client: Pick<ShellClient, 'list'>
    readonly dotCommands: ReadonlyMap<string, DotCommand>
  },
): Promise<Completion> {
  try {
    const split = /^[ \t]*(\S+)[ \t]+(.*)$/s.exec(line)
    if (split === null) return commandNames(line.trimStart(), dotCommands)
    const [, first = '', rest = ''] = split
    const dot = dotCommands.get(first.toLowerCase())
    if (dot !== undefined) return await dotArguments(dot, rest)
    if (COMMANDS.get(nameOf(first))?.takesKey === true) return await keys(client, rest)
  } catch {
    // No leader, no time, or a line that cannot be read: then there is nothing to offer.
  }
  return NOTHING
}

/** In the case in which the user began. */
function commandNames(partial: string, dotCommands: ReadonlyMap<string, DotCommand>): Completion {
  const isDotted = partial.startsWith('.')
  const isLower = partial !== '' && partial === partial.toLowerCase()
  const names = [...COMMANDS.keys()].map((name) => {
    const cased = isLower ? name.toLowerCase() : name
    return isDotted ? `.${cased}` : cased
  })
  const all = [...names, ...dotCommands.keys()]
  const hits = all.filter((name) => name.toLowerCase().startsWith(partial.toLowerCase()))
  return { hits: hits.map((name) => `${partial}${name.slice(partial.length)} `), partial }
}

async function dotArguments(command: DotCommand, rest: string): Promise<Completion> {
  const words = rest.split(/[ \t]+/)
  const partial = words.at(-1) ?? ''
  const offered = (await command.complete?.(words)) ?? []
  return { hits: offered.filter((word) => word.startsWith(partial)), partial }
}

async function keys(client: Pick<ShellClient, 'list'>, rest: string): Promise<Completion> {
  const isQuoted = rest.startsWith('"')
  const word = isQuoted ? unquote(rest, 0) : null
  // Only the first argument is a key.
  if (word?.closed === true || (!isQuoted && /[ \t]/.test(rest))) return NOTHING
  const prefix = word?.bytes ?? new TextEncoder().encode(rest)
  const timeoutMs = PATIENCE_MS
  const page = await client.list(prefix, { limit: KEYS_MAX, keysOnly: true, timeoutMs })
  const hits = page.items
    .map(({ key }) => wordFor(key, isQuoted && textOf(key) !== null ? 'always' : 'if needed'))
    // What was typed stays as it is, so a key that needs quotes can only complete what began with one.
    .filter((hit) => hit.startsWith(rest))
  return { hits, partial: rest }
}
