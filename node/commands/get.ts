/** `raft-p2p get <key>`: the raw bytes, with a newline only on a terminal. An absent key is exit code 3. */
import { CommandError, EXIT, type Invocation, printable, printJson } from './command.ts'
import { jsonItem, shownBytes } from './items.ts'
import { readOptionsOf, withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const { io, json } = invocation
  const [key = ''] = invocation.args
  const item = await withClient(invocation, (client) =>
    client.getItem(key, readOptionsOf(invocation)),
  )
  if (item === null) throw new CommandError('not-found', `there is no key ${printable(key)}`)
  if (json) printJson(io, jsonItem(item))
  else {
    io.stdout.write(shownBytes(io, item.value))
    if (io.stdout.isTTY === true) io.stdout.write('\n')
  }
  return EXIT.ok
}
