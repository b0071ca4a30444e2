/** What a trace says of the world it wants, of configurations, and of what clients ask. */

import type { ConfChange } from '../../node/raft/change.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { ConfigurationRecord, Term } from '../../node/raft/types.ts'
import type { ServiceRequest } from '../../node/request.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { get, keyedPut, openSession, put, TICK_MS } from '../support/raft-replicas.ts'
import type { Arguments } from './arguments.ts'
import type { WorldOptions } from './world-node.ts'

const NODES_MAX = 9
const PLENTY_BYTES = 1 << 20

/** `cluster 3 learners=1 blanks=1 n1=1,1,2 ...`: voters first, then learners, then nodes that are in no configuration. */
export function worldOptions(kind: WorldOptions['kind'], args: Arguments): WorldOptions {
  const voters = args.count('voters')
  const learners = args.number('learners', 0)
  const size = voters + learners + args.number('blanks', 0)
  if (size < 1 || size > NODES_MAX) throw args.wrong(`1 to ${NODES_MAX} nodes, not ${size}`)
  const logs = new Map<string, readonly Term[]>()
  for (let id = 1; id <= voters + learners; id++) {
    const terms = args.numbers(`n${id}`)
    if (terms !== null) logs.set(`n${id}`, terms)
  }
  const record = recordOf(configurationOf(voters, learners), args.number('level', 1))
  return {
    kind,
    size,
    configuration: encodeConfigurationRecord(record),
    logs,
    foundersMax: voters + learners,
    lives: { sessionTtlMs: ticksOf(args, 'session-ttl'), keyTtlMs: ticksOf(args, 'key-ttl') },
    term: args.number('term', 1),
    commit: args.number('commit', 1),
    raft: {
      tickMs: TICK_MS,
      electionTicks: args.number('election-ticks', 10),
      heartbeatTicks: args.number('heartbeat-ticks', 1),
      window: {
        messagesMax: args.number('window', 8),
        bytesMax: args.number('window-bytes', PLENTY_BYTES),
      },
      appendBytesMax: args.number('append-bytes', PLENTY_BYTES),
      saveBytesMax: args.number('save-bytes', PLENTY_BYTES),
      uncommittedBytesMax: args.number('uncommitted-bytes', PLENTY_BYTES),
      applyCountMax: 64,
    },
  }
}

/** `add=4,5 promote=4 demote=1 remove=2 replace=3:5`: what becomes of the members, in this order. */
export function changesOf(args: Arguments): ConfChange[] {
  const all = configurationOf(NODES_MAX).members
  const changes: ConfChange[] = []
  for (const id of args.numbers('add') ?? []) {
    const member = all.find(({ memberId }) => memberId === id)
    if (member === undefined) throw args.wrong(`there is no node ${id}`)
    changes.push({ type: 'add', member })
  }
  for (const type of ['promote', 'demote', 'remove'] as const) {
    for (const memberId of args.numbers(type) ?? []) changes.push({ type, memberId })
  }
  const [memberId, successor] = args.pair('replace') ?? []
  if (memberId !== undefined && successor !== undefined) {
    changes.push({ type: 'replace', memberId, with: successor, keep: args.flag('keep') })
  }
  return changes
}

/** In ms of log time; undefined: it was not said. */
function ticksOf(args: Arguments, name: string): number | undefined {
  const ticks = args.number(name, 0)
  return ticks === 0 ? undefined : ticks * TICK_MS
}

function recordOf(
  configuration: ConfigurationRecord['configuration'],
  level: number,
): ConfigurationRecord {
  const record = { clusterId: '0'.repeat(32), foundingSet: [], settings: {}, configuration }
  return level === 1 ? record : { ...record, featureLevel: level }
}

/** `open-session`, `put k v key=name accepted=0`, `put k v session=3 sequence=1 [outstanding=1] [if-absent]`, `get k`; all take `timeout=<ticks>`. */
export function requestOf(args: Arguments): ServiceRequest {
  const timeoutMs = args.number('timeout', 1000) * TICK_MS
  const what = args.word('a request')
  switch (what) {
    case 'open-session':
      return openSession(timeoutMs)
    case 'get':
      return get(args.word('a key'), { timeoutMs })
    case 'put': {
      const key = args.word('a key')
      const value = args.word('a value')
      const session = args.number('session', 0)
      const sequence = args.number('sequence', 0)
      const name = args.text('key')
      if (name !== null) {
        const accepted = args.number('accepted', 0)
        return keyedPut({ name, accepted, timeoutMs }, key, value, args.flag('if-absent'))
      }
      const firstOutstanding = args.number('outstanding', sequence)
      const write = { session, sequence, firstOutstanding, timeoutMs }
      return put(write, key, value, args.flag('if-absent'))
    }
    default:
      throw args.wrong(`a request is open-session, put or get, not ${what}`)
  }
}
