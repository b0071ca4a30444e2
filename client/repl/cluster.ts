/** STATUS, MEMBERS and LEADER: what the asked node knows of its cluster. */
import type { NodeStatus } from '../client.ts'
import { tableText } from './tables.ts'
import type { CommandContext, View } from './types.ts'
import { harmless } from './words.ts'

export async function showStatus({ client, signal, view }: CommandContext): Promise<void> {
  const status = await client.status({ signal })
  if (view.style === 'json') return view.print(`${JSON.stringify(status)}\n`)
  const { quorum, founding, alarms } = status
  const lines = [
    ['cluster', status.clusterId ?? 'not founded yet'],
    ['topic', status.topic],
    ['node', `${status.name} (${status.role}), ${status.runtime}, raft-p2p ${status.version}`],
    ['leader', `${leaderName(status) ?? 'none'}, term ${status.term}`],
    ['quorum', `${quorum.needed} needed, ${quorum.alive} alive`],
    ['log', `committed ${status.commitIndex}, applied ${status.appliedIndex}`],
  ]
  if (founding !== null) {
    const missing = founding.missing.length === 0 ? '' : `, missing ${founding.missing.join(', ')}`
    lines.push(['founding', `${founding.have} of ${founding.need} nodes are here${missing}`])
  }
  for (const { kind, detail, since } of alarms) lines.push(['alarm', `${kind} ${since} ${detail}`])
  const text = lines.map(([name = '', value = '']) => `${name.padEnd(9)}${harmless(value)}\n`)
  await view.print(text.join(''))
  if (status.members.length > 0) await view.print(membersText(view, status))
}

export async function showMembers({ client, signal, view }: CommandContext): Promise<void> {
  const status = await client.status({ signal })
  if (view.style === 'json') return view.print(`${JSON.stringify(status.members)}\n`)
  if (status.clusterId === null) throw notFounded(status)
  await view.print(membersText(view, status))
}

export async function showLeader({ client, signal, view }: CommandContext): Promise<void> {
  const status = await client.status({ signal })
  const { leaderId, leaderUrl, term } = status
  if (view.style === 'json') {
    return view.print(`${JSON.stringify({ leaderId, leaderUrl, term })}\n`)
  }
  const name = leaderName(status)
  if (name === null) throw status.clusterId === null ? notFounded(status) : noLeader(status)
  const where = leaderUrl === null ? '' : ` at ${leaderUrl}`
  await view.print(`${harmless(`${name} (member ${leaderId})${where}, term ${term}`)}\n`)
}

/** The leader's name, or null when there is none. */
export function leaderName({ leaderId, members }: NodeStatus): string | null {
  if (leaderId === null) return null
  return members.find((member) => member.memberId === leaderId)?.name ?? `member ${leaderId}`
}

function membersText(view: View, { members }: NodeStatus): string {
  const rows = members.map((member) =>
    [
      String(member.memberId),
      member.name,
      member.isLeader ? 'leader' : member.role === 'learner' ? 'stand-by' : member.role,
      member.link,
      member.lag === null ? '-' : String(member.lag),
      member.rttMs === null ? '-' : `${member.rttMs.toFixed(1)} ms`,
      member.url ?? '-',
    ].map((cell) => harmless(cell)),
  )
  return tableText(view, ['ID', 'NAME', 'ROLE', 'LINK', 'LAG', 'RTT', 'URL'], rows)
}

function noLeader({ term, name }: NodeStatus): Error {
  const error = new Error(`${name} knows no leader at the moment (term ${term})`)
  return Object.assign(error, { code: 'no-leader' })
}

function notFounded({ founding }: NodeStatus): Error {
  const here = founding === null ? '' : `: ${founding.have} of ${founding.need} nodes are here`
  return Object.assign(new Error(`the cluster is not founded yet${here}`), { code: 'not-founded' })
}
