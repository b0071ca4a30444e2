/** `raft-p2p leader`: who leads; `leader transfer [<id>]` hands leadership to that voter, or to the furthest one. */
import { transferLeadership } from '../../client/admin.ts'
import type { NodeStatus } from '../../client/client.ts'
import { UsageError } from '../config.ts'
import {
  CommandError,
  EXIT,
  type ExitCode,
  type Invocation,
  printable,
  printJson,
  printLine,
} from './command.ts'
import { explained } from './explained.ts'
import { ELSEWHERE, isWaiting, waitingText } from './status.ts'
import { timeoutOf, withClient } from './with-client.ts'

const POLL_MS = 50

export async function run(invocation: Invocation): Promise<ExitCode> {
  const [action, to, ...more] = invocation.args
  if (more.length > 0) throw new UsageError('leader transfer takes one member')
  if (action === undefined || (action === 'show' && to === undefined)) return show(invocation)
  if (action !== 'transfer') {
    throw new UsageError(`leader ${action} is unknown; there is: leader transfer [<id>]`)
  }
  return transfer(invocation, to ?? null)
}

async function show(invocation: Invocation): Promise<ExitCode> {
  const status = await withClient(invocation, (client) => client.status(), {
    followLeader: false,
  })
  return printLeader(invocation, status)
}

async function transfer(invocation: Invocation, to: string | null): Promise<ExitCode> {
  const status = await withClient(invocation, async (client) => {
    const before = await client.status()
    const begun = await explained(transferLeadership(client, to), 'leader')
    // Nothing to do: it leads already.
    if (begun.changes?.length === 0) return before
    // The answer leaves with the old leader; who asked wants to know the new one.
    const endMs = Date.now() + timeoutOf(invocation)
    for (;;) {
      const now = await client.status()
      if (now.term > before.term && now.leaderId !== null) return now
      if (Date.now() > endMs) {
        if (now.leaderId === null) {
          const what = 'the leader has stepped down, and nobody has taken over in time'
          throw new CommandError('no-leader', what)
        }
        throw new CommandError(
          'timeout',
          'leadership did not move in time',
          'The member must be a voter that is alive and has caught up: raft-p2p members',
        )
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  })
  return printLeader(invocation, status)
}

function printLeader({ io, json }: Invocation, status: NodeStatus): ExitCode {
  const { leaderId, leaderUrl, term, members, clusterId } = status
  if (json) {
    printJson(io, { leaderId, leaderUrl, term })
    return leaderId === null ? EXIT.unavailable : EXIT.ok
  }
  if (isWaiting(status)) throw new CommandError('not-founded', waitingText(status), ELSEWHERE)
  if (clusterId === null) throw new CommandError('not-founded', 'the cluster is not founded yet')
  if (leaderId === null) {
    throw new CommandError('no-leader', `no leader is known at the moment (term ${term})`)
  }
  const name = members.find((member) => member.memberId === leaderId)?.name ?? 'unnamed'
  const where = leaderUrl === null ? '' : ` at ${leaderUrl}`
  printLine(io, printable(`${name} (member ${leaderId})${where}, term ${term}`))
  return EXIT.ok
}
