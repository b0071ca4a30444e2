/** `raft-p2p status`: one screen of what the asked node knows of its cluster. */
import type { NodeStatus as Status } from '../../client/client.ts'
import { EXIT, type Invocation, printable, printJson, printLine } from './command.ts'
import { findCluster } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'
import { table } from './table.ts'
import { openClient, timeoutOf, withClient } from './with-client.ts'

/** It is in the same cluster, and usually near. */
const LEADER_MS_MAX = 1000

export async function run(invocation: Invocation): Promise<number> {
  const status = await withClient(invocation, (client) => client.status(), {
    followLeader: false,
  })
  if (invocation.json) {
    printJson(invocation.io, status)
    return EXIT.ok
  }
  const alarms = withoutRepeats([...status.alarms, ...(await leadersAlarms(invocation, status))])
  for (const line of describeStatus({ ...status, alarms })) printLine(invocation.io, line)
  return EXIT.ok
}

/** What is wrong with the whole cluster only the leader knows. None, if it is not this node and does not answer at once. */
async function leadersAlarms(
  invocation: Invocation,
  { leaderId, leaderUrl, memberId }: Status,
): Promise<Status['alarms']> {
  if (leaderUrl === null || leaderId === memberId) return []
  try {
    const { token } = await findCluster(wantedOf(invocation))
    const timeoutMs = Math.min(LEADER_MS_MAX, timeoutOf(invocation))
    const client = await openClient({ urls: [leaderUrl], token, timeoutMs, followLeader: false })
    try {
      return (await client.status()).alarms
    } finally {
      client.close()
    }
  } catch {
    return []
  }
}

function withoutRepeats(alarms: Status['alarms']): Status['alarms'] {
  return alarms.filter(
    ({ kind, detail }, at) =>
      alarms.findIndex((one) => one.kind === kind && one.detail === detail) === at,
  )
}

export function describeStatus(status: Status): string[] {
  const field = (name: string, value: string): string => `${name.padEnd(9)}${printable(value)}`
  return [
    field('cluster', status.clusterId ?? 'not founded yet'),
    field('topic', status.topic),
    field(
      'node',
      `${status.name} (${partOf(status)}), ${status.runtime}, raft-p2p ${status.version}`,
    ),
    field('leader', leaderText(status)),
    ...(isWaiting(status) ? [] : [field('quorum', quorumText(status))]),
    field('log', `${status.firstIndex}..${status.lastIndex}, ${progressText(status)}`),
    ...foundingLines(status),
    ...(isWaiting(status) ? ['', waitingText(status)] : []),
    ...(status.members.length === 0 ? [] : ['', ...memberLines(status)]),
    ...(status.alarms.length === 0 ? [] : ['', 'ALARMS']),
    ...status.alarms.map(({ kind, detail, since }) => printable(`${kind}  ${since}  ${detail}`)),
  ]
}

/** Bound to a cluster that has not let it in: it knows neither members nor leader. */
export function isWaiting({ clusterId, memberId, members, snapshot }: Status): boolean {
  return (
    clusterId !== null && memberId === null && members.length === 0 && snapshot?.state !== 'loading'
  )
}

/** A hint. */
export const ELSEWHERE =
  'It knows no members yet: ask another node with --data DIR or --connect URL'

/** What it waits for, and what may be done. */
export function waitingText({ name }: Status): string {
  return `${printable(name)} waits for admission: the leader lets it in by itself, or an operator on a member: raft-p2p members add ${printable(name)}`
}

function partOf(status: Status): string {
  if (isWaiting(status)) return 'waits for admission'
  return status.role === 'learner' ? 'stand-by' : status.role
}

function quorumText({ quorum }: Status): string {
  return `${quorum.needed} needed, ${quorum.alive} alive`
}

function leaderText({ leaderId, leaderUrl, members, term }: Status): string {
  if (leaderId === null) return `none, term ${term}`
  const name = members.find((member) => member.memberId === leaderId)?.name ?? `member ${leaderId}`
  return `${name}${leaderUrl === null ? '' : ` at ${leaderUrl}`}, term ${term}`
}

function progressText({ commitIndex, appliedIndex, stateHash }: Status): string {
  const hash =
    stateHash === null ? '' : `, state ${stateHash.hash.slice(0, 16)} at ${stateHash.index}`
  return `committed ${commitIndex}, applied ${appliedIndex}${hash}`
}

function foundingLines({ founding }: Status): string[] {
  if (founding === null) return []
  const { have, need, missing } = founding
  const names = missing.length === 0 ? '' : `, missing: ${missing.map(printable).join(', ')}`
  return ['', `waiting to found the cluster: ${have} of ${need} nodes are here${names}`]
}

export function memberLines({ members }: Status): string[] {
  const rows = members.map((member) => [
    String(member.memberId),
    printable(member.name),
    member.isLeader ? 'leader' : member.role === 'learner' ? 'stand-by' : member.role,
    member.link,
    member.lag === null ? '-' : String(member.lag),
    member.rttMs === null ? '-' : `${member.rttMs.toFixed(1)} ms`,
    printable(member.url ?? '-'),
    member.nodeId.slice(0, 12),
  ])
  return table(['ID', 'NAME', 'ROLE', 'LINK', 'LAG', 'RTT', 'URL', 'KEY'], rows)
}
