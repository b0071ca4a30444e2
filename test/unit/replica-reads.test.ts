/** Linearizable and stale reads at leaders and followers, and what stays behind when requests are given up. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  valueIn,
} from '../support/raft-replicas.ts'

function start(options: ConstructorParameters<typeof ReplicaCluster>[0] = {}) {
  const cluster = new ReplicaCluster(options)
  const leader = cluster.elect()
  const [follower, other] = cluster.followers() as [ReplicaNode, ReplicaNode]
  leader.replica.request(1, openSession())
  const opened = cluster.answerOf(leader, 1)
  cluster.tick(3)
  return { cluster, leader, follower, other, session: opened.ok ? opened.index : 0 }
}

const reads = suite('replica reads')

reads('a read at any node sees every write that was acknowledged before it', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { cluster, session } = start({ seed })
    for (let i = 1; i <= 30; i++) {
      const writer = cluster.nodes[i % 3] as ReplicaNode
      const reader = cluster.nodes[(i * 7 + seed) % 3] as ReplicaNode
      writer.replica.request(100 + i, put({ session, sequence: i }, 'k', `${i}`))
      assert.is(outcomeOf(cluster.answerOf(writer, 100 + i)).status, 'done')
      reader.replica.request(200 + i, get('k'))
      assert.is(
        valueIn(cluster.answerOf(reader, 200 + i)),
        `${i}`,
        `${writer.name} to ${reader.name}`,
      )
    }
  }
})

reads('a follower waits until it has applied what the leader named', () => {
  const { cluster, leader, follower, other, session } = start()
  // The follower hears the answer to its question, but not the entries.
  cluster.hold = ({ to, frame }) =>
    to === follower.peer && frame.type === 'raft' && frame.message.type === 'append'
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'new'))
  cluster.answerOf(leader, 2)
  follower.replica.request(3, get('k'))
  other.replica.request(3, get('k'))
  cluster.tick(3)
  assert.is(valueIn(other.answer(3)), 'new')
  assert.is(follower.answer(3), null)
  follower.replica.request(4, get('k', { consistency: 'stale' }))
  cluster.settle()
  assert.is(valueIn(follower.answer(4)), null, 'stale is what the caller spelled out')
  cluster.release()
  assert.is(valueIn(cluster.answerOf(follower, 3)), 'new')
})

reads('a deposed leader answers no read, asked before or after its successor wrote', () => {
  const { cluster, leader, session } = start()
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'old'))
  cluster.answerOf(leader, 2)
  cluster.isolate(leader.name)
  leader.replica.request(3, get('k'))
  cluster.settle()
  for (let i = 0; i < 60 && cluster.leader === leader; i++) cluster.tick()
  const next = cluster.elect()
  assert.is.not(next, leader)
  next.replica.request(4, put({ session, sequence: 2 }, 'k', 'new'))
  cluster.answerOf(next, 4)
  leader.replica.request(5, get('k'))
  cluster.tick(5)
  for (const id of [3, 5]) assert.is(leader.answer(id), null)
  cluster.heal()
  for (const id of [3, 5]) assert.is(valueIn(cluster.answerOf(leader, id)), 'new')
})

reads('a late answer to a forwarded read does not serve a newer one', () => {
  const { cluster, leader, follower, session } = start()
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'old'))
  cluster.answerOf(leader, 2)
  cluster.tick(3)
  // The answer to the first read stays on its way; the link breaks and comes back.
  cluster.hold = ({ frame }) => frame.type === 'forwardReply'
  follower.replica.request(3, get('k'))
  cluster.settle()
  assert.is(cluster.held.length, 1)
  const late = cluster.held
  cluster.held = []
  follower.replica.cancel(3)
  follower.replica.linkClosed(leader.peer)
  cluster.cut.add(`${leader.name}>${follower.name}`)
  leader.replica.request(4, put({ session, sequence: 2 }, 'k', 'new'))
  cluster.answerOf(leader, 4)
  follower.replica.request(5, get('k'))
  cluster.settle()
  for (const { from, frame } of late) follower.replica.receive(from, frame)
  cluster.settle()
  assert.is(follower.answer(5), null)
  cluster.heal()
  cluster.hold = null
  assert.is(valueIn(cluster.answerOf(follower, 5)), 'new')
})

reads('an answer from another node than the one that was asked does not count', () => {
  const { cluster, leader, follower, other, session } = start()
  cluster.hold = ({ frame }) => frame.type === 'forwardReply'
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  follower.replica.request(3, get('k'))
  cluster.settle()
  assert.ok(cluster.held.length >= 2)
  for (const { frame } of cluster.held) follower.replica.receive(other.peer, frame)
  cluster.settle()
  assert.equal([follower.answer(2), follower.answer(3)], [null, null])
  cluster.release()
  cluster.settle()
  assert.ok(follower.answer(2)?.ok)
  assert.ok(follower.answer(3)?.ok)
  assert.is(cluster.leader, leader)
})

reads('on a full disk a node goes on answering reads under the next leader', () => {
  const { cluster, leader, session } = start()
  leader.fullDisk = true
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'a'))
  cluster.answerOf(leader, 2)
  const next = cluster.elect()
  assert.is.not(next, leader)
  for (let i = 2; i < 20; i++) {
    next.replica.request(100 + i, put({ session, sequence: i }, 'k', `${i}`))
    cluster.answerOf(next, 100 + i)
    leader.replica.request(200 + i, get('k'))
    assert.is(valueIn(cluster.answerOf(leader, 200 + i)), `${i}`)
  }
})

reads('a follower that falls further and further behind is caught up no more, and says so', () => {
  const { cluster, leader, follower, session } = start()
  cluster.tick(20)
  assert.ok(follower.replica.caughtUp)
  // It hears its leader all the time, but can acknowledge nothing, and in the end nothing is sent to it any more.
  follower.fullDisk = true
  for (let i = 1; i <= 100; i++) {
    leader.replica.request(i + 10, put({ session, sequence: i, firstOutstanding: i }, 'k', `${i}`))
    assert.ok(cluster.answerOf(leader, i + 10).ok)
    cluster.tick()
  }
  assert.is(follower.replica.raft.leader, leader.peer)
  assert.ok(follower.replica.raft.log.appliedIndex < leader.replica.raft.log.appliedIndex - 50)
  assert.not.ok(follower.replica.caughtUp)
  follower.fullDisk = false
  cluster.tick(40)
  assert.is(follower.replica.raft.log.appliedIndex, leader.replica.raft.log.appliedIndex)
  assert.ok(follower.replica.caughtUp)
})

reads('requests that are given up leave nothing behind', () => {
  const { cluster, leader, follower, session } = start({ options: { pendingRequestsMax: 50 } })
  // Far more than the limit in all: if any were still counted, the later ones would be refused.
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 10; i++) {
      for (const node of [leader, follower]) {
        const id = 1000 + round * 10 + i
        const sequence = (node === leader ? 1 : 1000) + round * 10 + i
        const write = put({ session, sequence, firstOutstanding: 1, timeoutMs: 30 }, 'k', 'v')
        node.replica.request(id, i % 2 === 0 ? write : get('k', { timeoutMs: 30 }))
        if (i % 3 === 0) node.replica.cancel(id)
      }
    }
    if (round % 4 === 3) cluster.isolate(follower.name)
    else cluster.heal()
    cluster.tick(6)
  }
  cluster.heal()
  cluster.tick(60)
  for (const node of [leader, follower]) {
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 10; i++) {
        const answer = node.answer(1000 + round * 10 + i)
        if (i % 3 === 0) assert.is(answer, null, 'cancelled')
        else assert.ok(answer, 'answered once')
        if (answer !== null && !answer.ok) assert.is.not(answer.error.code, 'overloaded')
      }
    }
  }
})

reads('every member has the same hash at the same index', () => {
  const { cluster, leader, session } = start({ seed: 5 })
  for (let i = 1; i <= 40; i++) {
    const node = cluster.nodes[i % 3] as ReplicaNode
    node.replica.request(
      100 + i,
      put({ session, sequence: i, firstOutstanding: 1 }, `k${i % 7}`, `${i}`),
    )
    if (i % 10 === 0) cluster.tick()
  }
  cluster.tick(10)
  const [first, ...rest] = cluster.nodes as [ReplicaNode, ...ReplicaNode[]]
  assert.ok(first.replica.stateHashes.length >= 5)
  for (const node of rest) {
    assert.equal(node.replica.stateHashes, first.replica.stateHashes)
    assert.equal(node.replica.stateHash, first.replica.stateHash)
  }
  // A restart makes the same of the same log, however far it replays at once.
  cluster.crash(leader)
  const known = new Map(leader.replica.stateHashes.map(({ index, hash }) => [index, hash]))
  cluster.restart(leader)
  cluster.elect()
  cluster.tick(20)
  for (const { index, hash } of leader.replica.stateHashes) {
    if (known.has(index)) assert.is(hash, known.get(index))
  }
})

reads.run()
