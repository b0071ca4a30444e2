/** Typed confirmation before something that cannot be undone by the next command. */
import { createInterface } from 'node:readline/promises'
import { CommandError, type Invocation, printLine, textFlag } from './command.ts'

/**
 * The person types `word`; without a terminal `--confirm <word>` says the same. Throws CommandError `not-confirmed`, with what to
 * type as the hint.
 */
export async function confirm(
  invocation: Invocation,
  { word, what }: { readonly word: string; readonly what: readonly string[] },
): Promise<void> {
  const given = textFlag(invocation, 'confirm')
  if (given === word) return
  const { io, json } = invocation
  if (given === null && io.stdin.isTTY === true && !json) {
    for (const line of what) printLine(io, line)
    const terminal = createInterface({ input: io.stdin, output: io.stdout })
    try {
      // Ctrl-C and Ctrl-D are a no as well.
      const typed = await terminal.question(`Type ${word} to go on: `).catch(() => '\n')
      if (typed === '\n') printLine(io, '')
      if (typed.trim() === word) return
    } finally {
      terminal.close()
    }
    throw new CommandError('not-confirmed', 'nothing was changed')
  }
  throw new CommandError(
    'not-confirmed',
    given === null ? 'this needs a confirmation' : `${given} is not what must be confirmed`,
    [...what, `Confirm with: --confirm ${word}`].join('\n'),
  )
}
