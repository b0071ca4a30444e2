/** A connection to the cluster that the command line means, for the time of one command. */
import type { Client } from '../../client/client.ts'
import { parseDurationMs, UsageError } from '../config.ts'
import { type Invocation, switchFlag, textFlag } from './command.ts'
import { findCluster, type Target } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'

export interface ClientTarget extends Target {
  readonly timeoutMs: number
  /** False stays with the node that was named. Default true. */
  readonly followLeader?: boolean
}

const TIMEOUT_MS_DEFAULT = 10_000

/** The library is loaded only here: commands that need no connection start without it. */
export async function openClient(target: ClientTarget): Promise<Client> {
  const { connect } = await import('../../client/node.ts')
  const { urls, token, timeoutMs, followLeader } = target
  const options = { timeoutMs, followLeader: followLeader ?? true }
  return connect(urls, token === null ? options : { ...options, token })
}

export async function withClient<T>(
  invocation: Invocation,
  work: (client: Client) => Promise<T>,
  options: { readonly followLeader?: boolean } = {},
): Promise<T> {
  const timeoutMs = timeoutOf(invocation)
  const client = await openClient({
    ...(await findCluster(wantedOf(invocation))),
    timeoutMs,
    ...options,
  })
  try {
    return await work(client)
  } finally {
    client.close()
  }
}

export function timeoutOf(invocation: Invocation): number {
  const text = textFlag(invocation, 'timeout')
  if (text === null) return TIMEOUT_MS_DEFAULT
  const ms = parseDurationMs(text)
  if (ms === null || ms < 1) {
    throw new UsageError(`--timeout takes a duration such as 500ms or 10s, not "${text}"`)
  }
  return ms
}

export function readOptionsOf(invocation: Invocation): { consistency: 'linearizable' | 'stale' } {
  return { consistency: switchFlag(invocation, 'stale') ? 'stale' : 'linearizable' }
}
