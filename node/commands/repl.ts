/** `raft-p2p repl`: the interactive shell on a cluster; without a terminal it runs the commands it reads from stdin. */
import type { Client } from '../../client/client.ts'
import { findCluster } from '../find-cluster.ts'
import type { Invocation, Io } from './command.ts'
import { wantedOf } from './local-data.ts'
import { openClient, timeoutOf } from './with-client.ts'

/** A command that the shell has only here. Returns the lines it prints. */
export interface ShellCommand {
  readonly name: string
  readonly usage: string
  readonly help: string
  readonly run: (args: readonly string[]) => Promise<readonly string[]>
}

export async function run(invocation: Invocation): Promise<number> {
  const wanted = wantedOf(invocation)
  const topic = wanted.topic ?? invocation.args[0] ?? null
  const target = await findCluster({ ...wanted, topic })
  const client = await openClient({ ...target, timeoutMs: timeoutOf(invocation) })
  try {
    return await attachShell(invocation.io, client)
  } finally {
    client.close()
  }
}

export interface ShellOptions {
  readonly commands?: readonly ShellCommand[]
}

/** Runs the shell on this process's terminal or stdin; returns the exit code of the first failed command, 0 without one. */
export async function attachShell(
  io: Io,
  client: Client,
  options: ShellOptions = {},
): Promise<number> {
  const shell: string = '../../client/repl/shell.js'
  const { runShell } = await import(shell)
  return runShell({ client, input: io.stdin, output: io.stdout, commands: options.commands ?? [] })
}
