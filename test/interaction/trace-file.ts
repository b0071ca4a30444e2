/**
 * A trace as a text file:
 *
 *   # what is shown, drawn
 *
 *   command args
 *   another command
 *   ----
 *   the exact output of both
 *
 * A block ends with an empty line. Lines that begin with `#` between blocks are comments. Rewriting puts the present output in
 * the place of the expected one and leaves everything else as it was.
 */
import { TraceError } from './arguments.ts'
import { runCommand } from './commands.ts'
import { differenceOf } from './difference.ts'
import { Environment } from './environment.ts'

const SEPARATOR = '----'

interface Block {
  readonly commands: readonly { readonly text: string; readonly line: number }[]
  /** The line number of the first line of output, from 1. */
  readonly outputLine: number
  readonly expected: readonly string[]
}

export interface TraceResult {
  /** Mistakes in the trace, and violations of what must hold in every trace: no output can make them right. */
  readonly mistakes: readonly string[]
  /** Where the output is not the expected one, with file and line. */
  readonly differences: readonly string[]
  /** The file with the present output in it; null after a mistake, which would be expected ever after. */
  readonly rewritten: string | null
}

/** Throws when the file is no trace: no drawing at its head, no command, a command without its output. */
export function parseTrace(path: string, text: string): Block[] {
  const lines = text.split('\n')
  if (lines[0]?.startsWith('#') !== true) {
    throw new Error(`${path}:1: a trace begins with a comment that says what it shows`)
  }
  const blocks: Block[] = []
  for (let at = 0; at < lines.length; at++) {
    if (isComment(lines[at])) continue
    const commands: { text: string; line: number }[] = []
    while (at < lines.length && lines[at] !== SEPARATOR && lines[at] !== '') {
      commands.push({ text: lines[at] as string, line: at + 1 })
      at++
    }
    if (lines[at] !== SEPARATOR) throw new Error(`${path}:${at}: no line ${SEPARATOR} follows`)
    if (commands.length === 0) throw new Error(`${path}:${at + 1}: output without a command`)
    const outputLine = at + 2
    const expected: string[] = []
    while (at + 1 < lines.length && lines[at + 1] !== '') expected.push(lines[++at] as string)
    blocks.push({ commands, outputLine, expected })
  }
  if (blocks.length === 0) throw new Error(`${path}: no command in it`)
  return blocks
}

function isComment(line: string | undefined): boolean {
  return line === undefined || line === '' || line.startsWith('#')
}

export function runTrace(path: string, text: string): TraceResult {
  const environment = new Environment()
  const lines = text.split('\n')
  const mistakes: string[] = []
  const differences: string[] = []
  const rewritten: string[] = []
  let copied = 0
  for (const block of parseTrace(path, text)) {
    const actual: string[] = []
    for (const command of block.commands) {
      const { output, mistake } = outputOf(environment, command.text, block.expected)
      actual.push(...output)
      if (mistake !== null) mistakes.push(`${path}:${command.line}: ${command.text}: ${mistake}`)
    }
    if (actual.length === 0) actual.push('ok')
    const { outputLine, expected } = block
    rewritten.push(...lines.slice(copied, outputLine - 1), ...actual)
    copied = outputLine - 1 + expected.length
    const difference = differenceOf({ path, line: outputLine, expected, actual })
    if (difference !== null) differences.push(difference)
  }
  rewritten.push(...lines.slice(copied))
  const isUsable = mistakes.length === 0
  return { mistakes, differences, rewritten: isUsable ? rewritten.join('\n') : null }
}

/** A mistake in a command is right where somebody wrote down that it is expected; what a node asserts never is. */
function outputOf(
  environment: Environment,
  command: string,
  expected: readonly string[],
): { output: readonly string[]; mistake: string | null } {
  try {
    return { output: runCommand(environment, command), mistake: null }
  } catch (error) {
    if (!(error instanceof Error)) throw error
    const text = `error: ${error.message}`
    const isExpected = error instanceof TraceError && expected.includes(text)
    return { output: [...environment.take(), text], mistake: isExpected ? null : text }
  }
}
