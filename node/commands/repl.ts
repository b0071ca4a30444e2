/** `raft-p2p repl`: the interactive shell on a cluster; without a terminal it runs the commands it reads from stdin. */
import { join } from 'node:path'
import type { Client } from '../../client/client.ts'
import type { DotCommand } from '../../client/repl/shell.ts'
import { dataRoot } from '../storage/directory.ts'
import type { Invocation, Io } from './command.ts'
import { findCluster } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'
import { openClient, timeoutOf } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const wanted = wantedOf(invocation)
  const topic = wanted.topic ?? invocation.args[0] ?? null
  const target = await findCluster({ ...wanted, topic })
  const client = await openClient({ ...target, timeoutMs: timeoutOf(invocation) })
  try {
    return await attachShell(invocation.io, client, {
      keepsHistory: true,
      json: invocation.json,
    })
  } finally {
    client.close()
  }
}

export interface Attachment {
  /** What the prompt calls the cluster; never a topic that is a secret. Default: as the node masks it. */
  readonly topic?: string
  /** False leaves no file of what was typed. */
  readonly keepsHistory: boolean
  readonly dotCommands?: Readonly<Record<string, DotCommand>>
  readonly json: boolean
}

/** Runs the shell on this process's terminal or stdin; resolves with the exit code. */
export async function attachShell(io: Io, client: Client, how: Attachment): Promise<number> {
  const { runShell } = await import('../../client/repl/shell.ts')
  return runShell({
    client,
    input: io.stdin,
    output: io.stdout,
    errorOutput: io.stderr,
    topic: how.topic ?? (await client.status()).topic,
    historyFile: how.keepsHistory ? join(dataRoot(io.env), 'raft-p2p', 'shell-history') : null,
    color: io.stdout.isTTY === true && !io.env.NO_COLOR,
    dotCommands: how.dotCommands ?? {},
    json: how.json,
  })
}
