/**
 * `raft-p2p leave`: the node of this machine leaves its cluster for good and stops. The cluster decides first; then the node ends by
 * itself, and its data is archived, so that the same `join` starts blank.
 */
import { leaveCluster } from '../../client/admin.ts'
import type { Client } from '../../client/client.ts'
import { archive, hasLeft, type Slot, takeDirectory } from '../storage/directory.ts'
import { isLocked } from '../storage/lock.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import {
  CommandError,
  EXIT,
  type ExitCode,
  type Invocation,
  printJson,
  printLine,
} from './command.ts'
import { explained } from './explained.ts'
import { identityOf, theDirectory } from './local-data.ts'
import { openClient, timeoutOf } from './with-client.ts'

/** It hands over, flushes and closes its links, each bounded. */
const END_MS_MAX = 15_000
const STATUS_MS_MAX = 1000
const POLL_MS = 25

export async function run(invocation: Invocation): Promise<ExitCode> {
  const node = await theDirectory(invocation, 'running node', (slot) => slot.live)
  await askToLeave(node, timeoutOf(invocation))
  await ended(node)
  const clusterId = identityOf(node.path)?.clusterId ?? null
  const archived = await archiveLeft(node)
  const { io, json } = invocation
  if (json) printJson(io, { left: node.path, clusterId, archived })
  else {
    printLine(io, `The node of ${node.path} has left${clusterId === null ? '' : ` ${clusterId}`}.`)
    printLine(io, `Its data now lies in ${archived}; the same join starts blank.`)
  }
  return EXIT.ok
}

async function askToLeave({ path, endpoint }: Slot, timeoutMs: number): Promise<void> {
  if (endpoint === null) {
    throw new CommandError('unreachable', `the node of ${path} is only just starting`)
  }
  const { url, adminToken } = endpoint
  const client = await openClient({
    urls: [url],
    token: adminToken ?? null,
    timeoutMs,
    followLeader: false,
  })
  try {
    await explained(leaveCluster(client), 'leader')
  } catch (error) {
    // A node that goes may cut the connection before its answer is through. Whether it left, its directory tells.
    const { code, maybeApplied } = error as { code?: unknown; maybeApplied?: unknown }
    if (maybeApplied !== true) throw error
    if (code === 'timeout' && (await leaderOf(client)) === null) {
      throw new CommandError(
        'no-leader',
        `the node of ${path} cannot leave while nobody leads its cluster; it may yet, as soon as somebody does`,
        'See who is missing with: raft-p2p status',
      )
    }
  } finally {
    client.close()
  }
}

/** Null when it says that nobody leads; undefined when it says nothing: it goes. */
async function leaderOf(client: Client): Promise<number | null | undefined> {
  try {
    return (await client.status({ timeoutMs: STATUS_MS_MAX })).leaderId
  } catch {
    return undefined
  }
}

async function ended(node: Slot): Promise<void> {
  const endMs = Date.now() + END_MS_MAX
  while (await isLocked(nodeDisk, node.path)) {
    if (Date.now() > endMs) {
      throw new CommandError(
        'timeout',
        `the node of ${node.path} still runs after ${END_MS_MAX} ms; it may have left all the same`,
        'See whether it is a member with: raft-p2p members',
      )
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

async function archiveLeft({ path }: Slot): Promise<string> {
  const directory = await takeDirectory(nodeDisk, { data: path })
  try {
    if (!hasLeft(nodeDisk, path)) {
      throw new CommandError(
        'internal',
        `the node of ${path} has stopped without having left`,
        'Start it again and see why in its log',
      )
    }
    return archive(nodeDisk, path)
  } finally {
    await directory.lock.release()
  }
}
