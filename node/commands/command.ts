/**
 * What every command shares: the options that cli.ts read for it, how it prints, and how a failure becomes an exit code
 * and a sentence. It must never print a topic, a token or a stack trace by itself.
 */

/** CONTRACT's exit codes. */
export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  /** Not found, or a comparison failed. */
  absent: 3,
  /** No leader, or timeout. */
  unavailable: 4,
  unauthorised: 5,
} as const

export type ExitCode = number

/** One parsed command line. */
export interface Invocation {
  readonly args: readonly string[]
  /** By flag name without dashes; a switch is `true`, a repeatable one an array. */
  readonly flags: Readonly<Record<string, unknown>>
  readonly json: boolean
  readonly io: Io
}

export interface Io {
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Each file of this folder exports one `run`; what it returns is the exit code. */
export type Run = (invocation: Invocation) => Promise<ExitCode>

/** A failure with everything the user needs: what failed and why (`message`), and what to try next (`hint`). */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  /** Stable, for `--json`. */
  readonly code: string
  readonly hint: string | null

  constructor(code: string, message: string, hint: string | null = null) {
    super(message)
    this.code = code
    this.hint = hint
  }
}

/** Codes of the client library, of storage and of the commands that are not plain errors (1). */
const EXIT_OF_CODE: Readonly<Record<string, number>> = {
  usage: EXIT.usage,
  'not-found': EXIT.absent,
  'compare-failed': EXIT.absent,
  'no-leader': EXIT.unavailable,
  'not-founded': EXIT.unavailable,
  timeout: EXIT.unavailable,
  unreachable: EXIT.unavailable,
  closing: EXIT.unavailable,
  unauthorised: EXIT.unauthorised,
  'forbidden-origin': EXIT.unauthorised,
}

/** What to try next, where the failure does not say it itself. */
const HINT_OF_CODE: Readonly<Record<string, string>> = {
  'no-leader': 'See who is missing with: raft-p2p status',
  'not-founded': 'See who waits for what with: raft-p2p status',
  timeout: 'See the state of the cluster with: raft-p2p status',
  unreachable: 'Check the address and that a node runs there: raft-p2p status --connect URL',
  unauthorised:
    'Print one on a machine that runs a node: raft-p2p token, or raft-p2p token --role admin',
  locked: 'Stop the node that uses it with: raft-p2p stop',
  'port-in-use': 'Name another port with --listen, or leave --listen out to take a free one',
  'corrupt-log': 'Restore the file, or enter again as a new member with: raft-p2p rejoin',
  'corrupt-snapshot': 'Restore the directory, or enter again as a new member with: raft-p2p rejoin',
  'storage-lost': 'Restore the directory, or enter again as a new member with: raft-p2p rejoin',
  'disk-full': 'Make room on the disk, then start again',
  'wrong-cluster': 'Compare the cluster ids with: raft-p2p status',
}

/** It names a command: two different pieces of advice would be worse than one. */
const SAYS_IT_ITSELF = /`raft-p2p [a-z]/

export interface Failure {
  readonly code: string
  readonly exitCode: number
  readonly message: string
  readonly hint: string | null
  readonly retriable: boolean
  readonly maybeApplied: boolean
}

export function failureOf(error: unknown): Failure {
  const known = (error ?? {}) as Record<string, unknown>
  const isExpected = error instanceof Error && typeof known.code === 'string'
  const code = isExpected ? (known.code as string) : 'internal'
  const own = error instanceof CommandError ? error.hint : null
  const message = error instanceof Error ? error.message : String(error)
  return {
    code,
    exitCode: EXIT_OF_CODE[code] ?? EXIT.error,
    message,
    hint: own ?? (SAYS_IT_ITSELF.test(message) ? null : (HINT_OF_CODE[code] ?? null)),
    retriable: known.retriable === true,
    maybeApplied: known.maybeApplied === true,
  }
}

/** One JSON value under --json (on stdout, where it is looked for), else sentences on stderr. */
export function reportFailure(
  error: unknown,
  where: { readonly io: Io; readonly json: boolean; readonly debug: boolean },
): ExitCode {
  const { exitCode, ...failure } = failureOf(error)
  if (where.json) {
    where.io.stdout.write(`${JSON.stringify(failure)}\n`)
  } else {
    where.io.stderr.write(`raft-p2p: ${printable(withDoubt(failure))}\n`)
    if (failure.hint !== null) where.io.stderr.write(`  ${failure.hint}\n`)
  }
  if (where.debug && error instanceof Error) where.io.stderr.write(`${error.stack}\n`)
  return exitCode
}

/** Said once: many messages say it themselves. */
function withDoubt({ message, maybeApplied }: Pick<Failure, 'message' | 'maybeApplied'>): string {
  if (!maybeApplied || /may have been applied/i.test(message)) return message
  return `${message.replace(/\.$/, '')}. It may have been applied.`
}

export function printJson(io: Io, value: unknown): void {
  io.stdout.write(`${JSON.stringify(value)}\n`)
}

export function printLine(io: Io, line: string): void {
  io.stdout.write(`${line}\n`)
}

/** Keys and values come from anywhere: what drives a terminal is shown as \xNN. */
export function printable(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it removes.
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** A flag that takes a text, or null when it was not given. */
export function textFlag(invocation: Invocation, flag: string): string | null {
  const value = invocation.flags[flag]
  return typeof value === 'string' ? value : null
}

export function switchFlag(invocation: Invocation, flag: string): boolean {
  return invocation.flags[flag] === true
}
