/**
 * `raft-p2p stop`: stops the node of this machine, politely, and waits until it has ended. Nothing of its data changes. It
 * asks the node itself: the process id it left may mean another process by now, or in another container.
 */
import type { Slot } from '../storage/directory.ts'
import { isLocked } from '../storage/lock.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine, switchFlag } from './command.ts'
import { localDirectories, theDirectory } from './local-data.ts'
import { openClient } from './with-client.ts'

const ASK_MS_MAX = 3000
const END_MS_MAX = 10_000
const POLL_MS = 25

export async function run(invocation: Invocation): Promise<number> {
  const nodes = switchFlag(invocation, 'all')
    ? (await localDirectories(invocation)).filter((slot) => slot.live)
    : [await theDirectory(invocation, 'running node', (slot) => slot.live)]
  if (nodes.length === 0) {
    throw new CommandError(
      'no-data',
      'no node runs on this machine in a place that join chose',
      'One that was started with --data DIR is stopped with: raft-p2p stop --data DIR',
    )
  }
  await Promise.all(nodes.map(stopNode))
  const stopped = nodes.map((node) => node.path)
  if (invocation.json) printJson(invocation.io, { stopped })
  else for (const path of stopped) printLine(invocation.io, `stopped ${path}`)
  return EXIT.ok
}

async function stopNode(node: Slot): Promise<void> {
  if (node.endpoint === null) {
    throw new CommandError('unreachable', `the node of ${node.path} is only just starting`)
  }
  const { url, adminToken } = node.endpoint
  const client = await openClient({
    urls: [url],
    token: adminToken ?? null,
    timeoutMs: ASK_MS_MAX,
    followLeader: false,
  })
  try {
    await client.admin('stop', {})
  } finally {
    client.close()
  }
  const endMs = Date.now() + END_MS_MAX
  while (await isLocked(nodeDisk, node.path)) {
    if (Date.now() > endMs) {
      throw new CommandError(
        'timeout',
        `the node of ${node.path} still runs after ${END_MS_MAX} ms`,
        `End it with: kill ${node.endpoint.pid}`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
