/** `raft-p2p key`: the public key of this machine's node, made when there is none yet (for `--founders`). */

import { newKeyPair } from '../key-pair.ts'
import { dataRoot, takeDirectory, writeTopic } from '../storage/directory.ts'
import { openIdentity } from '../storage/identity.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { parseTopic } from '../topic.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine, textFlag } from './command.ts'
import { derive, wantedTopic } from './find-cluster.ts'
import { identityOf, localDirectories, theDirectory, wantedOf } from './local-data.ts'

export async function run(invocation: Invocation): Promise<number> {
  const { publicKey, path } = (await existing(invocation)) ?? (await made(invocation))
  if (invocation.json) printJson(invocation.io, { nodeId: publicKey, data: path })
  else printLine(invocation.io, publicKey)
  return EXIT.ok
}

interface Found {
  readonly publicKey: string
  readonly path: string
}

async function existing(invocation: Invocation): Promise<Found | null> {
  const data = textFlag(invocation, 'data')
  if (data !== null && nodeDisk.stat(data) === null) return null
  const withKey = (await localDirectories(invocation)).filter((slot) => identityOf(slot.path))
  if (withKey.length === 0) return null
  const { path } = await theDirectory(invocation, 'node with a key', (slot) =>
    withKey.some((known) => known.path === slot.path),
  )
  const identity = identityOf(path)
  return identity === null ? null : { publicKey: identity.publicKey, path }
}

async function made(invocation: Invocation): Promise<Found> {
  const { env } = invocation.io
  const data = textFlag(invocation, 'data')
  const topic = wantedTopic(wantedOf(invocation))
  if (data === null && topic === null) {
    throw new CommandError(
      'no-data',
      'there is no node on this machine whose key could be shown',
      'Make one with: raft-p2p key --data DIR, or: raft-p2p key --topic T',
    )
  }
  const discoveryKey =
    topic === null ? '' : Buffer.from((await derive(topic, env)).discoveryKey).toString('hex')
  const place = data === null ? { dataRoot: dataRoot(env), discoveryKey } : { data }
  const { path, lock } = await takeDirectory(nodeDisk, place)
  try {
    if (topic !== null) writeTopic(nodeDisk, path, parseTopic(topic).text)
    const { record } = openIdentity(nodeDisk, path, { makeKeyPair: newKeyPair })
    return { publicKey: record.publicKey, path }
  } finally {
    await lock.release()
  }
}
