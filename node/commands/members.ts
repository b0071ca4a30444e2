/** `raft-p2p members`: who belongs to the cluster, and `members add|remove|promote|replace`, which change that. */
import {
  addMember,
  type ChangeOptions,
  type ChangeResult,
  promoteMember,
  removeMember,
  replaceMember,
} from '../../client/admin.ts'
import type { Client } from '../../client/client.ts'
import { UsageError } from '../config.ts'
import {
  CommandError,
  EXIT,
  type Invocation,
  type Io,
  printable,
  printJson,
  printLine,
  switchFlag,
  textFlag,
} from './command.ts'
import { explained } from './explained.ts'
import { ELSEWHERE, isWaiting, memberLines, waitingText } from './status.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const [action, ...ids] = invocation.args
  if (action === undefined || action === 'list') return list(invocation, ids)
  const change = changeOf(action, ids, invocation)
  const options = changeOptionsOf(invocation)
  const result = await withClient(invocation, (client) => explained(change(client, options)))
  printChange(invocation, result)
  return EXIT.ok
}

async function list(invocation: Invocation, extra: readonly string[]): Promise<number> {
  if (extra.length > 0) throw new UsageError('members list takes no arguments')
  const status = await withClient(invocation, (client) => client.status(), {
    followLeader: false,
  })
  if (status.clusterId === null) {
    throw new CommandError('not-founded', 'the cluster is not founded yet')
  }
  if (isWaiting(status)) throw new CommandError('not-founded', waitingText(status), ELSEWHERE)
  if (invocation.json) printJson(invocation.io, status.members)
  else for (const line of memberLines(status)) printLine(invocation.io, line)
  return EXIT.ok
}

type Change = (client: Client, options: ChangeOptions) => Promise<ChangeResult>

function changeOf(action: string, ids: readonly string[], invocation: Invocation): Change {
  const [id, second, ...more] = ids
  const named = textFlag(invocation, 'with')
  if (action !== 'replace' && named !== null) {
    throw new UsageError('--with is for members replace')
  }
  if (id === undefined && isChange(action)) throw new UsageError(`members ${action} takes a member`)
  const one = id ?? ''
  switch (action) {
    case 'add':
    case 'remove':
    case 'promote': {
      if (second !== undefined) {
        throw new UsageError(`members ${action} takes one member: each change is one step`)
      }
      const run = { add: addMember, remove: removeMember, promote: promoteMember }[action]
      return (client, options) => run(client, one, options)
    }
    case 'replace': {
      if (more.length > 0 || (second !== undefined && named !== null)) {
        throw new UsageError('members replace takes a voter and the stand-by that votes instead')
      }
      return (client, options) => replaceMember(client, one, second ?? named, options)
    }
    default:
      throw new UsageError(
        `members ${action} is unknown; there are list, add, remove, promote and replace`,
      )
  }
}

function isChange(action: string): boolean {
  return ['add', 'remove', 'promote', 'replace'].includes(action)
}

export function changeOptionsOf(invocation: Invocation): ChangeOptions {
  const text = textFlag(invocation, 'if-config')
  if (text !== null && !/^[1-9]\d{0,14}$/.test(text)) {
    throw new UsageError(
      `--if-config takes the index of a configuration, not ${JSON.stringify(text)}`,
    )
  }
  return {
    dryRun: switchFlag(invocation, 'dry-run'),
    ifConfig: text === null ? undefined : Number(text),
  }
}

export function printChange(
  { io, json }: { readonly io: Io; readonly json: boolean },
  result: ChangeResult,
): void {
  if (json) return printJson(io, result)
  const { changes, dryRun, voters, learners, configIndex } = result
  for (const change of changes) printLine(io, printable(change))
  const who = `${countOf(voters, 'voter')}, ${countOf(learners, 'stand-by')}`
  printLine(
    io,
    dryRun
      ? `This would leave ${who}. Nothing was changed; the configuration is ${configIndex}.`
      : `Now ${who} (configuration ${configIndex})`,
  )
}

function countOf(ids: readonly number[], what: string): string {
  return `${ids.length} ${what}${ids.length === 1 ? '' : 's'}`
}
