/** The extended Raft paper on clients (section 8, and what 5.1 and 5.3 say of them), and the rules 4, 10, 11 and 13 on whole replicas. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { decodeKvResult, decodeOutcome } from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { Random } from '../../node/raft/random.ts'
import { Replica } from '../../node/replica.ts'
import type { ServiceAnswer } from '../../node/request.ts'
import { Cluster } from '../support/raft-cluster.ts'
import {
  type FrameFlight,
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  TICK_MS,
  valueIn,
} from '../support/raft-replicas.ts'

/** A cluster with a leader, and a session opened through it. */
function start(options: ConstructorParameters<typeof ReplicaCluster>[0] = {}) {
  const cluster = new ReplicaCluster(options)
  const leader = cluster.elect()
  const [follower, other] = cluster.followers() as [ReplicaNode, ReplicaNode]
  leader.replica.request(1, openSession())
  const opened = cluster.answerOf(leader, 1)
  assert.ok(opened.ok)
  cluster.tick(3)
  return { cluster, leader, follower, other, session: opened.ok ? opened.index : 0 }
}

/** The bytes of a command's outcome, and the revision that the write got. */
function resultOf(answer: ServiceAnswer | null): { body: Uint8Array; revision: number } {
  assert.ok(answer?.ok)
  const body = answer?.ok ? answer.body : new Uint8Array(0)
  return { body, revision: decodeKvResult(decodeOutcome(body).body).revision }
}

const isRaft = (flight: FrameFlight, type: string): boolean =>
  flight.frame.type === 'raft' && flight.frame.message.type === type

/** Reads without any guarantee: what this node's machine holds now. */
function valueAt(node: ReplicaNode, key: string): string | null {
  node.replica.request(9_999_999, get(key, { consistency: 'stale' }))
  return valueIn(node.replica.drain().answers.at(-1)?.answer ?? null)
}

const writes = suite('8 clients, writes')

writes(
  '"Clients of Raft send all of their requests to the leader."; 5.1: "(if a client contacts a follower, the follower redirects it to the leader)"',
  () => {
    const { cluster, leader, follower, session } = start()
    const { lastIndex } = follower.replica.raft.log
    const write = put({ session, sequence: 1 }, 'k', 'v')
    assert.equal(follower.replica.raft.propose('command', new Uint8Array(0)), {
      ok: false,
      reason: 'not-leader',
    })
    assert.not.ok(follower.replica.raft.readIndex(1))
    follower.replica.request(2, write)
    follower.replica.request(3, get('k'))
    const { frames, save } = follower.replica.drain()
    assert.is(save, null, 'nothing enters its own log')
    assert.equal([...frames.keys()], [leader.peer])
    const bodies = (frames.get(leader.peer) ?? []).map((frame) =>
      frame.type === 'forward' ? [frame.operation, frame.body] : [],
    )
    assert.equal(bodies, [
      ['command', write.type === 'command' && write.command],
      ['readIndex', new Uint8Array(0)],
    ])
    assert.is(follower.replica.raft.log.lastIndex, lastIndex)
    // These frames are lost; what was asked is asked again.
    assert.is(outcomeOf(cluster.answerOf(follower, 2)).status, 'done')
    assert.ok(cluster.answerOf(follower, 3).ok)
  },
)

writes(
  '5.3: "When the entry has been safely replicated ... the leader applies the entry to its state machine and returns the result of that execution to the client."; figure 2: "respond after entry applied to state machine"',
  () => {
    for (const through of ['leader', 'follower'] as const) {
      const { cluster, session, ...nodes } = start()
      const asked = nodes[through]
      cluster.hold = (flight) => isRaft(flight, 'appendResponse')
      asked.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
      cluster.settle()
      assert.is(asked.answer(2), null, 'it stands on every disk, and is not known to be committed')
      assert.is(valueAt(nodes.leader, 'k'), null)
      cluster.release()
      cluster.settle()
      assert.equal(outcomeOf(asked.answer(2)), { status: 'done', succeeded: true })
      assert.is(valueAt(nodes.leader, 'k'), 'v')
      const { revision } = resultOf(asked.answer(2))
      assert.is(revision, nodes.leader.replica.raft.log.commitIndex)
      // A second write on a condition that fails: what comes back is the result of running it.
      asked.replica.request(3, put({ session, sequence: 2 }, 'k', 'w', true))
      assert.equal(outcomeOf(cluster.answerOf(asked, 3)), { status: 'done', succeeded: false })
    }
  },
)

writes(
  '"if the leader crashes after committing the log entry but before responding to the client, the client will retry the command with a new leader"; 10: the retry is exactly once across a change of leader',
  () => {
    const { cluster, leader, session } = start()
    leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'once', true))
    // Everything happens but the leader's last turn, in which it would have answered.
    cluster.drain(leader)
    cluster.finishSave(leader)
    const appends = cluster.flights.splice(0)
    for (const flight of appends) cluster.deliver(flight)
    for (const node of cluster.followers()) {
      cluster.drain(node)
      cluster.finishSave(node)
      cluster.drain(node)
    }
    for (const flight of cluster.flights.splice(0)) cluster.deliver(flight)
    const index = leader.replica.raft.log.commitIndex
    assert.is(leader.replica.raft.log.lastIndex, index, 'committed')
    assert.is(leader.answer(2), null)
    cluster.crash(leader)
    const next = cluster.elect()
    next.replica.request(3, put({ session, sequence: 1 }, 'k', 'once', true))
    const { revision } = resultOf(cluster.answerOf(next, 3))
    assert.equal(outcomeOf(next.answer(3)), { status: 'done', succeeded: true })
    assert.is(revision, index, 'the result of the first time')
  },
)

writes(
  '"the state machine tracks the latest serial number processed for each client, along with the associated response. If it receives a command whose serial number has already been executed, it responds immediately without re-executing the request."; 10: at any node, under any leader, after any restart',
  () => {
    const { cluster, session } = start({ seed: 3 })
    const first = new Map<number, Uint8Array>()
    let requestId = 100
    const write = (node: ReplicaNode, sequence: number) => {
      const numbers = { session, sequence, firstOutstanding: 1 }
      node.replica.request(++requestId, put(numbers, `k${sequence % 3}`, `${sequence}`, true))
      return resultOf(cluster.answerOf(node, requestId)).body
    }
    for (let round = 1; round <= 9; round++) {
      const node = cluster.nodes[round % 3] as ReplicaNode
      first.set(round, write(node, round))
      for (const [sequence, body] of first) {
        assert.equal(write(cluster.nodes[(round + sequence) % 3] as ReplicaNode, sequence), body)
      }
      // One node after the other is killed, and all of them at once.
      const victims = round % 3 === 0 ? cluster.nodes : [cluster.elect()]
      for (const victim of victims) cluster.crash(victim)
      for (const victim of victims) cluster.restart(victim)
      cluster.elect()
    }
    assert.is(new Set(first.values()).size, 9)
  },
)

writes(
  '10: what has no session is not run, and asking makes none: "expired" says that it may have run before (HAZARDS: retry after expiry)',
  () => {
    const { cluster, leader, follower, session } = start()
    for (const [at, node] of [leader, follower, leader].entries()) {
      node.replica.request(10 + at, put({ session: session + 1000, sequence: 1 }, 'k', 'x'))
      assert.equal(outcomeOf(cluster.answerOf(node, 10 + at)), {
        status: 'expired',
        succeeded: false,
      })
    }
    leader.replica.request(20, get('k'))
    assert.is(valueIn(cluster.answerOf(leader, 20)), null)
  },
)

const reads = suite('8 clients, reads')

reads('"Read-only operations can be handled without writing anything into the log."', () => {
  const { cluster, leader, session } = start()
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.answerOf(leader, 2)
  cluster.tick(3)
  const before = cluster.nodes.map(({ disk }) => [disk.hardState, disk.entries.length])
  for (let i = 0; i < 10; i++) {
    for (const node of cluster.nodes) {
      node.replica.request(100 + i, get('k'))
      assert.is(valueIn(cluster.answerOf(node, 100 + i)), 'v')
    }
  }
  assert.equal(
    cluster.nodes.map(({ disk }) => [disk.hardState, disk.entries.length]),
    before,
  )
})

reads(
  '"each leader commit a blank no-op entry into the log at the start of its term"; 4: a no-op of this term is committed first',
  () => {
    const cluster = new Cluster({ size: 3 })
    for (const name of ['n1', 'n2', 'n3', 'n1', 'n3']) {
      const before = cluster.node(name).raft.log.lastIndex
      const leader = cluster.campaign(name)
      while (leader.raft.role !== 'leader') {
        for (const node of cluster.nodes) {
          cluster.drain(node)
          cluster.finishSave(node)
        }
        for (const flight of cluster.flights.splice(0)) cluster.deliver(flight)
      }
      const first = leader.raft.log.entryAt(before + 1)
      assert.equal([first?.kind, first?.term], ['noop', leader.raft.term])
      assert.is(first?.payload.length, 0, 'blank')
      assert.not.ok(leader.raft.termCommitted)
      cluster.settle()
      assert.ok(leader.raft.termCommitted)
      assert.is(leader.raft.log.commitIndex, before + 1)
    }
  },
)

reads(
  '"at the start of its term, it may not know which those are": 4: a new leader answers no read with less than what its predecessor had committed',
  () => {
    const { cluster, leader, session } = start()
    // The write is committed and acknowledged; the followers hold it, and do not know that it is committed.
    cluster.hold = (flight) =>
      (flight.frame.type === 'raft' &&
        flight.frame.message.type === 'append' &&
        flight.frame.message.entries.length === 0) ||
      isRaft(flight, 'heartbeat')
    leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
    cluster.settle()
    assert.is(outcomeOf(leader.answer(2)).status, 'done')
    cluster.crash(leader)
    for (const node of cluster.followers()) assert.is(valueAt(node, 'k'), null)
    // Elected, echoed by its follower, but its no-op is not acknowledged.
    cluster.hold = (flight) => isRaft(flight, 'appendResponse')
    for (let i = 0; i < 60 && cluster.leader === undefined; i++) cluster.tick()
    const next = cluster.leader as ReplicaNode
    next.replica.request(3, get('k'))
    cluster.tick(5)
    assert.is(next.answer(3), null)
    assert.is(next.replica.raft.role, 'leader')
    cluster.release()
    assert.is(valueIn(cluster.answerOf(next, 3)), 'v')
  },
)

reads(
  '"having the leader exchange heartbeat messages with a majority of the cluster before responding to read-only requests"; 4: leadership is confirmed after the commit index was noted',
  () => {
    for (const through of ['leader', 'follower'] as const) {
      const { cluster, ...nodes } = start({ size: 5 })
      const asked = nodes[through]
      cluster.hold = (flight) => isRaft(flight, 'heartbeatResponse')
      asked.replica.request(2, get('k'))
      cluster.settle()
      assert.is(asked.answer(2), null)
      const echoes = cluster.held.splice(0)
      assert.is(echoes.length, 4)
      cluster.hold = null
      cluster.deliver(echoes[0] as FrameFlight)
      cluster.settle()
      assert.is(asked.answer(2), null, 'two of five')
      cluster.deliver(echoes[1] as FrameFlight)
      cluster.settle()
      assert.is(valueIn(asked.answer(2)), null)
    }
  },
)

reads(
  '"Linearizable reads must not return stale data": 4: a leader that was superseded without knowing it answers nothing, and its clients hear the new value',
  () => {
    const { cluster, leader, session } = start()
    leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'old'))
    cluster.answerOf(leader, 2)
    cluster.tick(2)
    cluster.isolate(leader.name)
    // The others' clocks run, its own stands still: it goes on believing that it leads.
    const others = cluster.nodes.filter((node) => node !== leader)
    const next = () => others.find(({ replica }) => replica.raft.termCommitted)
    for (let i = 0; i < 100 && next() === undefined; i++) {
      for (const { replica } of others) replica.tick()
      cluster.settle()
    }
    next()?.replica.request(3, put({ session, sequence: 2 }, 'k', 'new'))
    cluster.settle()
    assert.ok(next()?.answer(3)?.ok)
    leader.replica.request(4, get('k'))
    cluster.settle()
    assert.is(leader.replica.raft.role, 'leader')
    assert.is(valueAt(leader, 'k'), 'old', 'this is what it would answer')
    assert.is(leader.answer(4), null)
    cluster.heal()
    assert.is(valueIn(cluster.answerOf(leader, 4)), 'new')
  },
)

reads(
  'thesis 6.4: "The leader waits for its state machine to advance at least as far as the readIndex", and so does a follower that asked it',
  () => {
    const { cluster, leader, follower, session } = start()
    cluster.hold = (flight) => flight.to === follower.peer && isRaft(flight, 'append')
    // More than is applied in one turn: when the echoes are there, the leader has not come to the last of them.
    let sequence = 0
    while (sequence < 300) {
      sequence++
      const numbers = { session, sequence, firstOutstanding: 1 }
      leader.replica.request(1000 + sequence, put(numbers, 'k', `${sequence}`))
    }
    cluster.drain(leader)
    cluster.finishSave(leader)
    for (const flight of cluster.flights.splice(0)) cluster.deliver(flight)
    for (const node of cluster.followers()) {
      cluster.drain(node)
      cluster.finishSave(node)
      cluster.drain(node)
    }
    for (const flight of cluster.flights.splice(0)) cluster.deliver(flight)
    for (const node of [leader, follower]) node.replica.request(2, get('k'))
    cluster.settle()
    assert.is(valueIn(leader.answer(2)), '300')
    assert.is(follower.answer(2), null)
    cluster.release()
    assert.is(valueIn(cluster.answerOf(follower, 2)), '300')
  },
)

const replicated = suite('rules 11 and 13: time and state')

replicated(
  '11: clocks that run ahead, stand still or jump break nothing, and no session ends by them',
  () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { cluster, session } = start({ seed })
      const [slow, fast, jumps] = cluster.nodes as [ReplicaNode, ReplicaNode, ReplicaNode]
      const timeoutMs = 1_000_000 * TICK_MS
      const asked: [ReplicaNode, number][] = []
      for (let round = 1; round <= 200; round++) {
        if (round % 10 === 0) slow.replica.tick()
        for (let i = 0; i < 5; i++) fast.replica.tick()
        if (round % 50 === 0) for (let i = 0; i < 1000; i++) jumps.replica.tick()
        cluster.settle()
        if (round % 4 !== 0) continue
        const node = cluster.nodes[cluster.random.below(3)] as ReplicaNode
        const write = { session, sequence: round / 4, firstOutstanding: 1, timeoutMs }
        node.replica.request(1000 + round, put(write, `k${round}`, `${round}`, true))
        asked.push([node, 1000 + round])
      }
      cluster.tick(50)
      for (const [node, requestId] of asked) {
        const outcome = outcomeOf(cluster.answerOf(node, requestId))
        assert.equal(outcome, { status: 'done', succeeded: true }, `seed ${seed}, ${requestId}`)
      }
      // The very first reply is still known everywhere.
      const again = put({ session, sequence: 1, firstOutstanding: 1, timeoutMs }, 'k4', '4', true)
      for (const node of cluster.nodes) {
        node.replica.request(1, again)
        node.answers = []
        assert.equal(outcomeOf(cluster.answerOf(node, 1)), { status: 'done', succeeded: true })
      }
      cluster.tick(10)
      assert.is(new Set(cluster.nodes.map(({ replica }) => replica.stateHash.hash)).size, 1)
    }
  },
)

/** A member of its own that applies what a node's disk holds, so many entries at a time. */
function replay(node: ReplicaNode, applyCountMax: number): Replica {
  const { entries, hardState } = node.disk
  return new Replica({
    raft: {
      self: node.peer,
      hardState: { term: hardState?.term ?? 0, vote: null, commit: entries.length },
      entries,
      tickMs: 100,
      electionTicks: 10,
      heartbeatTicks: 1,
      random: new Random(1),
      window: { messagesMax: 8, bytesMax: 1 << 20 },
      appendBytesMax: 1 << 16,
      saveBytesMax: 1 << 20,
      uncommittedBytesMax: 1 << 20,
      applyCountMax,
    },
    machine: new KvMachine(),
    tickMs: TICK_MS,
    pendingRequestsMax: 10,
    pendingRequestBytesMax: 1 << 20,
    leaderViewTicks: 5,
    autopilot: null,
    hashEveryEntries: 8,
    hashesKept: 1000,
  })
}

replicated(
  '13: index and state change in one step: the hash at an index is the same however many entries are applied at a time (HAZARDS: hash sampled at the end of a batch)',
  () => {
    const { cluster, leader, session } = start()
    for (let i = 1; i <= 60; i++) {
      const numbers = { session, sequence: i, firstOutstanding: Math.max(1, i - 5) }
      leader.replica.request(100 + i, put(numbers, `k${i % 7}`, `${i}`, i % 3 === 0))
      if (i % 4 === 0) cluster.settle()
    }
    cluster.tick(5)
    const oneByOne = replay(leader, 1)
    const at = new Map<number, string>()
    for (let more = true; more; ) {
      more = oneByOne.drain().more
      at.set(oneByOne.stateHash.index, oneByOne.stateHash.hash)
    }
    assert.is(at.size, leader.disk.entries.length)
    assert.ok(new Set(at.values()).size > 55, 'every write shows in the hash')
    for (const applyCountMax of [2, 3, 7, 8, 10, 64]) {
      const portions = replay(leader, applyCountMax)
      for (let more = true; more; ) {
        more = portions.drain().more
        const { index, hash } = portions.stateHash
        assert.is(index, portions.raft.log.appliedIndex)
        assert.is(hash, at.get(index), `after ${index}, ${applyCountMax} at a time`)
      }
      assert.equal(portions.stateHashes, oneByOne.stateHashes)
      for (const { index, hash } of portions.stateHashes) assert.is(hash, at.get(index))
    }
    assert.ok(oneByOne.stateHashes.every(({ index }) => index % 8 === 0))
    assert.ok(oneByOne.stateHashes.length >= 7)
  },
)

replicated(
  "13: every node's stateHash at the same index is equal, through crashes and leaders",
  () => {
    const { cluster, session } = start({ seed: 2 })
    const at = new Map<number, string>()
    const compare = () => {
      for (const { replica, up } of cluster.nodes) {
        if (!up) continue
        for (const { index, hash } of [...replica.stateHashes, replica.stateHash]) {
          assert.is(at.get(index) ?? hash, hash, `at ${index}`)
          at.set(index, hash)
        }
      }
    }
    for (let i = 1; i <= 240; i++) {
      const node = cluster.nodes[cluster.random.below(3)] as ReplicaNode
      const numbers = { session, sequence: i, firstOutstanding: Math.max(1, i - 3) }
      if (node.up) node.replica.request(100 + i, put(numbers, `k${i % 5}`, `${i}`))
      cluster.tick()
      compare()
      if (i % 30 === 0) cluster.crash(cluster.elect())
      if (i % 30 === 10) for (const one of cluster.nodes) if (!one.up) cluster.restart(one)
    }
    for (const node of cluster.nodes) if (!node.up) cluster.restart(node)
    cluster.elect()
    cluster.tick(20)
    compare()
    assert.is(new Set(cluster.nodes.map(({ replica }) => replica.stateHash.index)).size, 1)
    assert.ok(at.size > 100, `${at.size} indexes compared`)
  },
)

writes.run()
reads.run()
replicated.run()
