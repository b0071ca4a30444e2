/** What a trace says of the world it wants, of configurations, and of what clients ask. */
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { ConfigurationRecord, MemberId, Term } from '../../node/raft/types.ts'
import type { ServiceRequest } from '../../node/request.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { get, openSession, put, TICK_MS } from '../support/raft-replicas.ts'
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
  const record = recordOf(configurationOf(voters, learners))
  return {
    kind,
    size,
    configuration: encodeConfigurationRecord(record),
    logs,
    foundersMax: voters + learners,
    term: args.number('term', 1),
    commit: args.number('commit', 1),
    raft: {
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

/** `voters=1,2,3 outgoing=1,4,5 learners=6`: as payload of a configuration entry. */
export function configurationPayload(args: Arguments): Uint8Array {
  const voters = args.numbers('voters') ?? []
  const votersOutgoing = args.numbers('outgoing') ?? []
  const learners = args.numbers('learners') ?? []
  const named = new Set<MemberId>([...voters, ...votersOutgoing, ...learners])
  if (voters.length === 0) throw args.wrong('a configuration needs voters')
  const all = configurationOf(NODES_MAX)
  const members = all.members.filter(({ memberId }) => named.has(memberId))
  return encodeConfigurationRecord(
    recordOf({ voters, votersOutgoing, learners, members, nextMemberId: NODES_MAX + 1 }),
  )
}

function recordOf(configuration: ConfigurationRecord['configuration']): ConfigurationRecord {
  return { clusterId: '0'.repeat(32), foundingSet: [], settings: {}, configuration }
}

/** `open-session`, `put k v session=3 sequence=1 [outstanding=1] [if-absent]`, `get k`; all take `timeout=<ticks>`. */
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
      const firstOutstanding = args.number('outstanding', sequence)
      const write = { session, sequence, firstOutstanding, timeoutMs }
      return put(write, key, value, args.flag('if-absent'))
    }
    default:
      throw args.wrong(`a request is open-session, put or get, not ${what}`)
  }
}
