/** `raft-p2p del <key>`: prints `OK 1`, or `OK 0` when there was no such key. */
import { EXIT, type Invocation, printJson, printLine } from './command.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const [key = ''] = invocation.args
  const { revision, deleted } = await withClient(invocation, (client) => client.delete(key))
  if (invocation.json) printJson(invocation.io, { key, deleted, revision })
  else printLine(invocation.io, `OK ${deleted ? 1 : 0}`)
  return EXIT.ok
}
