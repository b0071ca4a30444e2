/** `raft-p2p token`: the client token of a role, derived from the topic. Whoever reads it can use the cluster. */
import { UsageError } from '../config.ts'
import { TOKEN_EPOCH_FIRST, TOKEN_ROLES } from '../topic.ts'
import { EXIT, type Invocation, printJson, printLine, textFlag } from './command.ts'
import { derive } from './find-cluster.ts'
import { topicOf } from './local-data.ts'

export async function run(invocation: Invocation): Promise<number> {
  const wanted = textFlag(invocation, 'role') ?? 'write'
  const role = TOKEN_ROLES.find((known) => known === wanted)
  if (role === undefined) {
    throw new UsageError(`--role takes ${TOKEN_ROLES.join(', ')}, not ${JSON.stringify(wanted)}`)
  }
  const derived = await derive(await topicOf(invocation), invocation.io.env)
  const token = derived.tokens(role, TOKEN_EPOCH_FIRST)
  if (invocation.json) printJson(invocation.io, { role, token })
  else printLine(invocation.io, token)
  return EXIT.ok
}
