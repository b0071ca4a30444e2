/** What the shell is given and what its parts hand to each other. Types only. */
import type { Client } from '../client.ts'

/** What the shell needs of a client (client/client.ts). */
export type ShellClient = Pick<
  Client,
  'put' | 'getItem' | 'delete' | 'list' | 'cas' | 'status' | 'leader' | 'admin'
>

/** A command that the shell has only here, such as the demo's `.kill`. */
export interface DotCommand {
  readonly help: string
  /** Default: its name. */
  readonly usage?: string
  /** Returns what is printed. What it throws is shown with its `hint`; `code` decides the exit code. */
  // biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing is meant.
  run(args: readonly string[]): Promise<string | readonly string[] | void>
  /** Completes the last of `words`, which are those after the command's name. */
  complete?(words: readonly string[]): readonly string[] | Promise<readonly string[]>
}

export interface ShellOptions {
  readonly client: ShellClient
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly output: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
  readonly errorOutput: NodeJS.WritableStream
  /** For the prompt: a phrase, or a masked topic. */
  readonly topic: string
  /** Lines typed before; null keeps none. Holds keys and values, so nobody else may read it. */
  readonly historyFile: string | null
  readonly color: boolean
  /** By name, with its dot. */
  readonly dotCommands?: Readonly<Record<string, DotCommand>>
  /** One JSON value for each command. */
  readonly json?: boolean
}

/** What a command is told. */
export interface CommandContext {
  readonly client: ShellClient
  readonly signal: AbortSignal
  readonly view: View
  readonly dotCommands: ReadonlyMap<string, DotCommand>
}

/** How results are shown: to a person, as plain text, or as JSON. */
export interface View {
  readonly style: 'terminal' | 'plain' | 'json'
  /** Columns of the terminal. */
  readonly width: () => number
  readonly color: boolean
  /** Writes to the output and waits when it is slow. */
  readonly print: (text: string | Uint8Array) => Promise<void>
}

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
