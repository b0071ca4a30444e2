/**
 * `raft-p2p demo`: three real nodes on this machine with the shell attached. Whatever ends it, no process and no file stays
 * behind; kill -9 of the demo itself is noticed by its nodes (lifeline.ts).
 */
import { rmSync } from 'node:fs'
import type { Client } from '../../client/client.ts'
import type { DotCommand } from '../../client/repl/shell.ts'
import { CommandError, type Invocation, type Io } from './command.ts'
import { DemoCluster } from './demo-cluster.ts'
import { attachShell } from './repl.ts'
import { table } from './table.ts'
import { openClient } from './with-client.ts'

/** Founding waits 2 s for others by design; a loaded machine may take several times that. */
const LEADER_MS_MAX = 30_000
const CALL_MS = 10_000

export async function run({ io, json }: Invocation): Promise<number> {
  const isInteractive = io.stdin.isTTY === true && io.stdout.isTTY === true
  if (isInteractive) io.stdout.write('Starting three nodes on this machine ...\n')
  const starting = DemoCluster.start()
  const interrupted = endOnSignal(starting)
  const cluster = await starting
  // Only reached when this process is torn down without a chance to wait.
  process.once('exit', () => {
    cluster.abandon()
    rmSync(cluster.folder, { recursive: true, force: true })
  })
  try {
    return await Promise.race([interrupted, attach({ io, json, isInteractive }, cluster)])
  } finally {
    await cluster.close()
  }
}

/** Resolves at the first signal; a second one does not wait for anything. */
function endOnSignal(starting: Promise<DemoCluster>): Promise<number> {
  return new Promise((resolve) => {
    let count = 0
    const signalled = (): void => {
      count++
      if (count > 1) process.exit(1)
      // While it starts there is nothing that waits for this promise yet.
      void starting.then(
        () => resolve(0),
        () => {},
      )
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, signalled)
  })
}

interface Surface {
  readonly io: Io
  readonly json: boolean
  readonly isInteractive: boolean
}

async function attach({ io, json, isInteractive }: Surface, cluster: DemoCluster): Promise<number> {
  const client = await openClient({ urls: cluster.urls, token: null, timeoutMs: CALL_MS })
  try {
    await client.get('demo', { timeoutMs: LEADER_MS_MAX })
    if (isInteractive) io.stdout.write(welcome(cluster))
    return await attachShell(io, client, {
      topic: 'demo',
      keepsHistory: false,
      dotCommands: demoCommands(cluster, client),
      json,
    })
  } finally {
    client.close()
  }
}

function welcome(cluster: DemoCluster): string {
  const [url = ''] = cluster.urls
  return [
    '',
    ...nodeLines(cluster),
    '',
    `HTTP and status: ${url.replace(/^ws/, 'http')}/v1/status`,
    `From another terminal: raft-p2p status --connect ${url}`,
    '',
    'Try: PUT pizzatoppings pepperoni cheddar, then .kill leader, then GET pizzatoppings.',
    'All commands: .help. Ctrl-C ends the demo and removes every trace.',
    '',
    '',
  ].join('\n')
}

function nodeLines(cluster: DemoCluster): string[] {
  const rows = cluster.nodes.map(({ name, state, url, pid }) => [
    name,
    state,
    String(pid ?? '-'),
    url ?? '-',
  ])
  return table(['NODE', 'STATE', 'PID', 'URL'], rows)
}

function demoCommands(cluster: DemoCluster, client: Client): Record<string, DotCommand> {
  const names = cluster.nodes.map(({ name }) => name)
  const all = ['leader', ...names]
  /** A command about one node: `act` says what it did. */
  const about = (
    usage: string,
    help: string,
    act: (name: string) => string | Promise<string>,
  ): DotCommand => ({
    usage,
    help,
    complete: (words) => (words.length > 1 ? [] : all),
    run: async ([name, ...more]) => {
      if (name === undefined || more.length > 0) {
        throw new CommandError('usage', `name one node: ${all.join(', ')}`)
      }
      return act(name === 'leader' ? await leaderName(client) : name)
    },
  })
  const choice = all.join('|')
  return {
    '.nodes': { help: 'the three nodes', run: async () => nodeLines(cluster) },
    '.kill': about(`.kill ${choice}`, 'kill -9 a node', async (name) => {
      await cluster.kill(name)
      return `killed ${name}; bring it back with .restart ${name}`
    }),
    '.pause': about(`.pause ${choice}`, 'freeze a node', (name) => {
      cluster.pause(name)
      return `paused ${name}; let it go on with .resume ${name}`
    }),
    '.resume': about(`.resume ${names.join('|')}`, 'let a frozen node go on', (name) => {
      cluster.resume(name)
      return `resumed ${name}`
    }),
    '.restart': about(`.restart ${choice}`, 'start a node again with its data', async (name) => {
      await cluster.restart(name)
      return `restarted ${name}`
    }),
  }
}

async function leaderName(client: Client): Promise<string> {
  const { members } = await client.status()
  const leaderId = client.leader()?.leaderId ?? null
  const leader = members.find(({ memberId, isLeader }) =>
    leaderId === null ? isLeader : memberId === leaderId,
  )
  if (leader === undefined) throw new CommandError('no-leader', 'no node leads at the moment')
  return leader.name
}
