/** `raft-p2p invite`: the topic with the cluster's id. It is a secret like the topic itself. */
import { inviteOf } from '../topic.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { identityOf, localDirectories, topicOf } from './local-data.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const topic = await topicOf(invocation)
  const clusterId = await clusterIdOf(invocation)
  if (clusterId === null) {
    throw new CommandError('not-founded', 'the cluster is not founded yet, so it has no id')
  }
  const invite = inviteOf(topic, clusterId)
  if (invocation.json) printJson(invocation.io, { invite, clusterId })
  else printLine(invocation.io, invite)
  return EXIT.ok
}

/** What lies on this disk needs no running node; several nodes of one topic may only agree. */
async function clusterIdOf(invocation: Invocation): Promise<string | null> {
  const known = new Set(
    (await localDirectories(invocation)).flatMap(({ path }) => identityOf(path)?.clusterId ?? []),
  )
  const [only] = known
  if (only !== undefined && known.size === 1) return only
  return (await withClient(invocation, (client) => client.status())).clusterId
}
