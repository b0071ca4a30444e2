/** The commands of the shell, and how a line finds its own. */
import pc from 'picocolors'
import { config, leader, members } from './changes.ts'
import { showStatus } from './cluster.ts'
import { cas, del, get, list, put } from './keys.ts'
import { type CommandContext, type DotCommand, EXIT } from './types.ts'
import { harmless, LineReader, UsageError } from './words.ts'

interface ShellCommand {
  readonly usage: string
  readonly help: string
  /** Tab completes its first argument with keys. */
  readonly takesKey?: boolean
  /** Resolves with the exit code; throws what failed. */
  run(context: CommandContext, line: LineReader): Promise<number>
}

export const COMMANDS: ReadonlyMap<string, ShellCommand> = new Map<string, ShellCommand>([
  [
    'PUT',
    {
      usage: 'PUT key value...',
      help: 'set a key; the value is the rest of the line',
      takesKey: true,
      run: put,
    },
  ],
  ['GET', { usage: 'GET key', help: 'print the value of a key', takesKey: true, run: get }],
  ['DEL', { usage: 'DEL key', help: 'delete a key', takesKey: true, run: del }],
  [
    'LIST',
    {
      usage: 'LIST [prefix] [LIMIT n]',
      help: 'keys and values, in order',
      takesKey: true,
      run: list,
    },
  ],
  [
    'CAS',
    {
      usage: 'CAS key expected value...',
      help: 'set a key if it holds the expected value; also CAS --absent key value, CAS --revision N key value',
      takesKey: true,
      run: cas,
    },
  ],
  ['STATUS', { usage: 'STATUS', help: 'the cluster on one screen', run: alone(showStatus) }],
  [
    'MEMBERS',
    {
      usage: 'MEMBERS [ADD|REMOVE|PROMOTE|REPLACE id] [--dry-run]',
      help: 'who belongs to the cluster, or a change of that',
      run: members,
    },
  ],
  [
    'LEADER',
    {
      usage: 'LEADER [TRANSFER [id]]',
      help: 'who leads, or hand leadership over',
      run: leader,
    },
  ],
  [
    'CONFIG',
    {
      usage: 'CONFIG [name value]',
      help: 'the settings all nodes share, or a change of one',
      run: config,
    },
  ],
  ['HELP', { usage: 'HELP', help: 'this list', run: alone(showHelp) }],
  ['CLEAR', { usage: 'CLEAR', help: 'clear the screen', run: alone(clear) }],
  ['EXIT', { usage: 'EXIT', help: 'leave; also QUIT or Ctrl-D', run: async () => EXIT.ok }],
])

const ALIASES: Readonly<Record<string, string>> = {
  SET: 'PUT',
  DELETE: 'DEL',
  LS: 'LIST',
  QUIT: 'EXIT',
  '?': 'HELP',
}

export type Found =
  | { readonly type: 'nothing' }
  | { readonly type: 'leave' }
  | { readonly type: 'run'; readonly run: (context: CommandContext) => Promise<number> }

/** Finds what a line asks for. Throws UsageError. */
export function findCommand(text: string, dotCommands: ReadonlyMap<string, DotCommand>): Found {
  const line = new LineReader(text)
  const [first = ''] = text.trim().split(/[ \t]/, 1)
  if (first === '' || first.startsWith('#')) return { type: 'nothing' }
  line.word()
  const dot = dotCommands.get(first.toLowerCase())
  if (dot !== undefined) return { type: 'run', run: (context) => runDot(dot, context, line) }
  const name = nameOf(first)
  const command = COMMANDS.get(name)
  if (command === undefined) {
    throw new UsageError(`there is no command ${harmless(first)}`, 'HELP lists the commands.')
  }
  if (name === 'EXIT') return { type: 'leave' }
  return { type: 'run', run: (context) => runNamed(command, context, line) }
}

/** In upper case, aliases resolved. Every command may be written with a dot too. */
export function nameOf(word: string): string {
  const upper = word.replace(/^\./, '').toUpperCase()
  return ALIASES[upper] ?? upper
}

async function runNamed(
  command: ShellCommand,
  context: CommandContext,
  line: LineReader,
): Promise<number> {
  try {
    return await command.run(context, line)
  } catch (error) {
    if (!(error instanceof UsageError) || error.hint !== null) throw error
    throw new UsageError(error.message, `Usage: ${command.usage}`)
  }
}

async function runDot(
  command: DotCommand,
  context: CommandContext,
  line: LineReader,
): Promise<number> {
  const result = await command.run(line.words().map((word) => word.text))
  const lines = typeof result === 'string' ? [result] : (result ?? [])
  if (context.view.style === 'json') await context.view.print(`${JSON.stringify(lines)}\n`)
  else for (const one of lines) await context.view.print(`${harmless(one, 'layout')}\n`)
  return EXIT.ok
}

/** A command without arguments. */
function alone(run: (context: CommandContext) => Promise<void>): ShellCommand['run'] {
  return async (context, line) => {
    if (!line.atEnd) throw new UsageError('this command takes no arguments')
    await run(context)
    return EXIT.ok
  }
}

async function showHelp({ view, dotCommands }: CommandContext): Promise<void> {
  const rows = [
    ...[...COMMANDS.values()].map(({ usage, help }) => [usage, help] as const),
    ...[...dotCommands].map(([name, { usage, help }]) => [usage ?? name, help] as const),
  ]
  if (view.style === 'json') {
    const entries = rows.map(([usage, help]) => ({ usage, help }))
    return view.print(`${JSON.stringify(entries)}\n`)
  }
  const { bold, dim } = pc.createColors(view.color)
  const width = Math.max(...rows.map(([usage]) => usage.length))
  for (const [usage, help] of rows) await view.print(`${bold(usage.padEnd(width))}  ${help}\n`)
  await view.print(
    `${dim('Any case will do. A key with spaces stands in quotes: PUT "a key" value')}\n`,
  )
}

async function clear({ view }: CommandContext): Promise<void> {
  if (view.style === 'terminal') await view.print('\u001b[2J\u001b[3J\u001b[H')
}
