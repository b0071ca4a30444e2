/** The shell without a terminal: one command a line, strictly one after the other. */
import { execute, type Session } from './execute.ts'
import { EXIT } from './types.ts'

/** A longer line is no command: more than a key, a value and their quotes. */
const LINE_CHARS_MAX = 16 * 1024 * 1024

/** The exit code is the first failed command's. */
export async function runBatch(
  session: Session,
  input: AsyncIterable<string | Uint8Array>,
): Promise<number> {
  let first: number = EXIT.ok
  for await (const line of linesOf(input)) {
    const end = await execute(session, line, new AbortController().signal)
    if (first === EXIT.ok) first = end.exitCode
    if (end.leave) break
  }
  return first
}

/**
 * Lines end with \n or \r\n and nothing else: readline would also end them at a bare \r or at U+2028, and then part of a value
 * would be run as a command.
 */
export async function* linesOf(input: AsyncIterable<string | Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  let partial = ''
  for await (const chunk of input) {
    partial += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    const lines = partial.split('\n')
    partial = lines.pop() ?? ''
    if (partial.length > LINE_CHARS_MAX) throw new Error('a line is longer than 16 MiB')
    for (const line of lines) yield line.replace(/\r$/, '')
  }
  partial += decoder.decode()
  if (partial !== '') yield partial.replace(/\r$/, '')
}
