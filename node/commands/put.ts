/** `raft-p2p put <key> <value...>`: writes a value; several words are joined by one space. */
import { EXIT, type Invocation, printable, printJson, printLine } from './command.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const [key = '', ...words] = invocation.args
  const value = words.join(' ')
  const { revision } = await withClient(invocation, (client) => client.put(key, value))
  printWritten(invocation, { key, value, revision })
  return EXIT.ok
}

/** Also what a successful `cas` prints. */
export function printWritten(
  { io, json }: Invocation,
  written: { key: string; value: string; revision: number },
): void {
  const { key, value, revision } = written
  if (json) printJson(io, written)
  else printLine(io, `OK ${printable(key)} = ${printable(value)}  (revision ${revision})`)
}
