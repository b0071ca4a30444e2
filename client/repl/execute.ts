/** Runs one line and shows its result or its failure, whatever it is. Never throws. */
import pc from 'picocolors'
import { findCommand } from './commands.ts'
import { failureOf, sentenceOf } from './failure.ts'
import { type DotCommand, EXIT, type ShellClient, type View } from './types.ts'

/** What stays the same from line to line. */
export interface Session {
  readonly client: ShellClient
  readonly view: View
  readonly printError: (text: string) => Promise<void>
  readonly dotCommands: ReadonlyMap<string, DotCommand>
}

export interface LineEnd {
  readonly exitCode: number
  /** The line asked to leave the shell. */
  readonly leave: boolean
}

export async function execute(
  session: Session,
  line: string,
  signal: AbortSignal,
): Promise<LineEnd> {
  const { client, view, dotCommands } = session
  try {
    const found = findCommand(line, dotCommands)
    if (found.type === 'leave') return { exitCode: EXIT.ok, leave: true }
    if (found.type === 'nothing') return { exitCode: EXIT.ok, leave: false }
    const exitCode = await found.run({ client, signal, view, dotCommands })
    return { exitCode, leave: false }
  } catch (error) {
    return { exitCode: await showFailure(session, error), leave: false }
  }
}

async function showFailure({ view, printError }: Session, error: unknown): Promise<number> {
  const failure = failureOf(error)
  if (view.style === 'json') {
    const { exitCode: _, ...shown } = failure
    // On stdout, where whoever asked for JSON looks for it.
    await view.print(`${JSON.stringify(shown)}\n`)
  } else {
    const { red, yellow } = pc.createColors(view.color)
    const paint = failure.exitCode === EXIT.absent ? yellow : red
    const [first = '', ...more] = sentenceOf(failure).split('\n')
    await printError([paint(first), ...more].join('\n'))
  }
  return failure.exitCode
}
