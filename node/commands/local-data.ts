/** Which data directory of this machine a command is about: `--data DIR`, else the one that fits. */

import { hasLeft, readEndpoint, readTopic, type Slot } from '../storage/directory.ts'
import { type IdentityRecord, readIdentity } from '../storage/identity.ts'
import { isLocked } from '../storage/lock.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { CommandError, type Invocation, textFlag } from './command.ts'
import { derive, localNodes, type Wanted, wantedTopic } from './find-cluster.ts'

export function wantedOf(invocation: Invocation): Wanted {
  return {
    connect: textFlag(invocation, 'connect'),
    topic: textFlag(invocation, 'topic'),
    topicFile: textFlag(invocation, 'topic-file'),
    data: textFlag(invocation, 'data'),
    token: textFlag(invocation, 'token'),
    env: invocation.io.env,
  }
}

/** `--data DIR` as a slot of its own; it must exist. */
async function namedDirectory(path: string): Promise<Slot> {
  if (nodeDisk.stat(path)?.kind !== 'directory') {
    throw new CommandError('no-data', `there is no data directory ${path}`)
  }
  const live = await isLocked(nodeDisk, path)
  const endpoint = live ? readEndpoint(nodeDisk, path) : null
  return { path, discovery: '', slot: 0, live, left: hasLeft(nodeDisk, path), endpoint }
}

/** The directories that the command line leaves to choose from. */
export async function localDirectories(invocation: Invocation): Promise<Slot[]> {
  const data = dataOf(invocation)
  if (data !== null) return [await namedDirectory(data)]
  const wanted = wantedOf(invocation)
  const topic = wantedTopic(wanted)
  return localNodes(wanted.env, topic === null ? undefined : await derive(topic, wanted.env))
}

/** The one directory that `fits`; none or several are errors that say how to go on. */
export async function theDirectory(
  invocation: Invocation,
  kind: string,
  fits: (slot: Slot) => boolean,
): Promise<Slot> {
  const all = await localDirectories(invocation)
  const found = all.filter(fits)
  const [only, ...others] = found
  const [named] = all
  if (only === undefined && named !== undefined && dataOf(invocation) !== null) {
    throw unfit(named, kind)
  }
  if (only === undefined) {
    throw new CommandError(
      'no-data',
      `there is no ${kind} on this machine`,
      'Name its data directory with --data DIR, or start a node with: raft-p2p join <topic>',
    )
  }
  if (others.length > 0) {
    throw new CommandError(
      'ambiguous',
      `there is more than one ${kind} on this machine`,
      ['Choose with --data DIR:', ...found.map((slot) => slot.path)].join('\n  '),
    )
  }
  return only
}

/** The user has named it, and it is not what the command is for. */
function unfit({ path, live }: Slot, kind: string): CommandError {
  if (!live) return new CommandError('no-data', `there is no ${kind} in ${path}`)
  const hint = `Stop it first with: raft-p2p stop --data ${path}`
  return new CommandError('locked', `the node of ${path} is running`, hint)
}

function dataOf(invocation: Invocation): string | null {
  return textFlag(invocation, 'data') ?? (invocation.io.env.RAFT_P2P_DATA || null)
}

/** Null when there is none or it is damaged: commands that only look go on without it. */
export function identityOf(path: string): IdentityRecord | null {
  try {
    return readIdentity(nodeDisk, path)
  } catch {
    return null
  }
}

/** The topic the user named, else the only one that has data here. */
export async function topicOf(invocation: Invocation): Promise<string> {
  const named = wantedTopic(wantedOf(invocation))
  if (named !== null) return named
  const all = await localDirectories(invocation)
  const live = all.filter((slot) => slot.live)
  const topics = new Set(
    (live.length > 0 ? live : all).flatMap((slot) => readTopic(nodeDisk, slot.path) ?? []),
  )
  const [only] = topics
  if (only !== undefined && topics.size === 1) return only
  throw new CommandError(
    'no-topic',
    topics.size === 0
      ? 'no node of this machine tells its topic'
      : `there are ${topics.size} topics on this machine`,
    'Say which with --topic T or --topic-file FILE',
  )
}
