/** Ongaro's thesis, 6.3: sessions, their replies, and how they expire; rules 10 and 11 where they speak of it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { AppliedState } from '../../node/applied-state.ts'
import { decodeLogTime } from '../../node/log-clock.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { Entry } from '../../node/raft/types.ts'
import {
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  TICK_MS,
  valueIn,
} from '../support/raft-replicas.ts'

const LIFE_MS = 1000
/** More than a life: a tick counts for a little less than its length. */
const LIFE_TICKS = Math.ceil(LIFE_MS / TICK_MS / 0.9) + 1
const LIVES = { sessionTtlMs: LIFE_MS, keyTtlMs: LIFE_MS }

/** A cluster whose sessions live for a second, and one of them. */
function start(seed = 1) {
  const cluster = new ReplicaCluster({ seed, options: LIVES })
  const leader = cluster.elect()
  leader.replica.request(1, openSession())
  const opened = cluster.answerOf(leader, 1)
  assert.ok(opened.ok)
  return { cluster, leader, session: opened.ok ? opened.index : 0 }
}

function times(node: ReplicaNode): Entry[] {
  return node.disk.entries.filter(({ kind }) => kind === 'time')
}

let requestId = 100

function write(
  cluster: ReplicaCluster,
  node: ReplicaNode,
  numbers: { readonly session: number; readonly sequence: number; readonly floor?: number },
  value = 'v',
): { status: string; bytes: string } {
  const { floor: firstOutstanding = 1, ...rest } = numbers
  node.replica.request(++requestId, put({ ...rest, firstOutstanding }, 'k', value, true))
  const answer = cluster.answerOf(node, requestId)
  const bytes = answer.ok ? Buffer.from(answer.body).toString('hex') : ''
  return { status: outcomeOf(answer).status, bytes }
}

const sessions = suite('6.3 sessions')

sessions(
  '"If a server receives a command whose serial number has already been executed, it responds immediately without re-executing the request."; 10: across a change of leader and a restart from disk',
  () => {
    const { cluster, leader, session } = start()
    const first = write(cluster, leader, { session, sequence: 1 })
    assert.is(first.status, 'done')
    cluster.crash(leader)
    const next = cluster.elect()
    assert.equal(write(cluster, next, { session, sequence: 1 }), first)
    cluster.restart(leader)
    cluster.tick(20)
    assert.equal(write(cluster, leader, { session, sequence: 1 }), first)
  },
)

sessions(
  '"discards all responses for lower sequence numbers": those that the client says it has',
  () => {
    const { cluster, leader, session } = start()
    for (const sequence of [1, 2, 3]) write(cluster, leader, { session, sequence })
    write(cluster, leader, { session, sequence: 4, floor: 3 })
    assert.is(write(cluster, leader, { session, sequence: 2 }).status, 'forgotten')
    assert.is(write(cluster, leader, { session, sequence: 3 }).status, 'done')
  },
)

sessions(
  '"Servers must agree on when to expire a client\'s session"; 11: session expiry follows log time, never a local clock',
  () => {
    const { cluster, leader, session } = start()
    const others = cluster.followers()
    write(cluster, leader, { session, sequence: 1 })
    cluster.tick(3)
    // One clock runs ten times as fast, another one stands still: only the leader's may move log time, by entries that all apply.
    const [fast] = others as [ReplicaNode, ReplicaNode]
    const before = cluster.nodes.map(({ replica }) => replica.stateHash.hash)
    for (let i = 0; i < 9; i++) fast.replica.tick()
    assert.equal(
      cluster.nodes.map(({ replica }) => replica.stateHash.hash),
      before,
    )
    cluster.tick(3 * LIFE_TICKS)
    const [first, second, ...more] = times(leader)
    assert.equal([more, cluster.nodes.map((node) => times(node).length)], [[], [2, 2, 2]])
    assert.ok((decodeLogTime(second?.payload ?? new Uint8Array(0)) ?? 0) >= LIFE_MS)
    assert.ok((first?.index ?? 0) < (second?.index ?? 0))
    assert.is(new Set(cluster.nodes.map(({ replica }) => replica.stateHash.hash)).size, 1)
    assert.is(write(cluster, leader, { session, sequence: 2 }).status, 'expired')
  },
)

sessions(
  '"the state machines deterministically use this time input to expire inactive sessions": the log alone decides, whenever it is applied',
  () => {
    const { cluster, leader, session } = start()
    for (let round = 1; round <= 4; round++) {
      write(cluster, leader, { session, sequence: round })
      leader.replica.request(++requestId, openSession())
      cluster.tick(LIFE_TICKS)
    }
    cluster.tick(5)
    const again = new AppliedState({
      machine: new KvMachine(),
      hashEveryEntries: 8,
      hashesKept: 16,
      ...LIVES,
    })
    const { index, hash } = leader.replica.stateHash
    for (const entry of leader.disk.entries.slice(0, index)) again.apply(entry)
    assert.is(again.hash(), hash)
    assert.ok(times(leader).length >= 4)
  },
)

sessions(
  '"If a state machine encounters a command with no record of the session, it does not process the command and instead returns an error to the client."',
  () => {
    const { cluster, leader, session } = start()
    cluster.tick(3 * LIFE_TICKS)
    for (const node of cluster.nodes) {
      for (const sequence of [1, 1, 2]) {
        assert.is(write(cluster, node, { session, sequence }).status, 'expired')
      }
    }
    leader.replica.request(++requestId, get('k'))
    assert.is(valueIn(cluster.answerOf(leader, requestId)), null)
  },
)

const hazards = suite('hazards, time')

hazards(
  "HAZARDS: a new leader's clock is ahead, or a stall: all sessions expire; log time is the last one plus the leader's own ticks",
  () => {
    for (const seed of [1, 2, 3, 4]) {
      const { cluster, leader, session } = start(seed)
      // Leaders change again and again within one life, one of them after a long sleep in which its peers go on.
      for (let round = 1; round <= 16; round++) {
        const present = cluster.elect()
        write(cluster, present, { session, sequence: round })
        cluster.isolate(present.name)
        const next = (() => {
          for (let i = 0; i < 300; i++) {
            const found = cluster.nodes.find(
              (node) => node !== present && node.replica.raft.role === 'leader',
            )
            if (found?.replica.raft.termCommitted) return found
            cluster.tick()
          }
          throw new Error('nobody leads')
        })()
        // It is used at least once in a life, so that it must stay, whoever leads.
        assert.is(write(cluster, next, { session, sequence: round }).status, 'done')
        cluster.heal()
        cluster.tick(5)
      }
      assert.ok(leader.replica.raft.term > 10)
      assert.ok(times(cluster.elect()).length >= 2, 'time went on')
    }
  },
)

sessions.run()
hazards.run()
