/** `raft-p2p members`: who belongs to the cluster. */
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { memberLines } from './status.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const status = await withClient(invocation, (client) => client.status(), {
    followLeader: false,
  })
  if (status.clusterId === null) {
    throw new CommandError('not-founded', 'the cluster is not founded yet')
  }
  if (invocation.json) printJson(invocation.io, status.members)
  else for (const line of memberLines(status)) printLine(invocation.io, line)
  return EXIT.ok
}
