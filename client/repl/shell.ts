/**
 * The shell: a client's calls as typed commands. On a terminal it talks to a person; otherwise it runs the commands it reads and
 * ends. It knows the cluster only through the client it is given, and never ends the process.
 */
import { runBatch } from './batch.ts'
import type { Session } from './execute.ts'
import { runInteractive } from './interactive.ts'
import type { ShellOptions, View } from './types.ts'

export type { DotCommand, ShellClient, ShellOptions } from './types.ts'

const WIDTH_DEFAULT = 80

/** Resolves with the exit code: without a terminal the first failed command's. The client stays open. */
export async function runShell(options: ShellOptions): Promise<number> {
  const { input, output, errorOutput } = options
  const isTerminal = input.isTTY === true && output.isTTY === true
  const view: View = {
    style: options.json === true ? 'json' : isTerminal ? 'terminal' : 'plain',
    width: () => output.columns ?? WIDTH_DEFAULT,
    color: options.color,
    print: (text) => write(output, text),
  }
  const session: Session = {
    client: options.client,
    view,
    printError: (text) => write(errorOutput, text),
    dotCommands: new Map(
      Object.entries(options.dotCommands ?? {}).map(([name, command]) => [
        `.${name.replace(/^\./, '').toLowerCase()}`,
        command,
      ]),
    ),
  }
  // Who reads may go away, such as `head`; the commands are run all the same.
  const ignore = (): void => {}
  output.on('error', ignore)
  errorOutput.on('error', ignore)
  try {
    if (isTerminal) return await runInteractive(session, options)
    return await runBatch(session, input as unknown as AsyncIterable<string | Uint8Array>)
  } finally {
    output.off('error', ignore)
    errorOutput.off('error', ignore)
  }
}

/** Waits when the reader is slow; a reader that has gone is no failure of the command. */
function write(stream: NodeJS.WritableStream, text: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    stream.write(text, () => resolve())
  })
}
