/** Whole replicas, one of whose states has gone wrong: who notices, what the odd one still does, and who leads afterwards. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKvOperation } from '../../client/protocol.ts'
import { bytesOf } from '../support/raft-cluster.ts'
import {
  errorOf,
  type FrameFlight,
  get,
  openSession,
  put,
  ReplicaCluster,
  type ReplicaNode,
  valueIn,
} from '../support/raft-replicas.ts'

const states = suite('states that differ')

/** A key that no command has written. */
function corrupt(node: ReplicaNode): void {
  const [key, value] = [bytesOf('ghost'), bytesOf('x')]
  const operation = encodeKvOperation({ type: 'put', key, value, condition: { type: 'none' } })
  node.machine.apply(operation, { index: 1 })
}

let requestId = 0

/** Enough entries for a hash at a multiple of eight, and the turns in which it is told. */
function write(
  cluster: ReplicaCluster,
  through: ReplicaNode,
  until: () => boolean = () => false,
): void {
  for (let i = 0; i < 10 && !until(); i++) {
    through.replica.request(++requestId, openSession())
    assert.ok(cluster.answerOf(through, requestId).ok)
  }
  cluster.tick(10)
}

function isSet(node: ReplicaNode): boolean {
  return node.replica.comparison.quarantined
}

states(
  'an odd follower serves no reads, of either kind, and still stores, votes and forwards',
  () => {
    const cluster = new ReplicaCluster()
    const leader = cluster.elect()
    const [odd, other] = cluster.followers() as [ReplicaNode, ReplicaNode]
    corrupt(odd)
    write(cluster, leader)
    assert.equal(
      cluster.nodes.map(isSet),
      cluster.nodes.map((node) => node === odd),
    )
    assert.match(odd.replica.comparison.alarm ?? '', /serves no reads.*raft-p2p rejoin/)
    assert.match(leader.replica.comparison.alarm ?? '', new RegExp(`state of ${odd.name} at index`))
    assert.is(odd.replica.caughtUp, false)
    for (const consistency of ['stale', 'linearizable'] as const) {
      odd.replica.request(++requestId, get('ghost', { consistency }))
      assert.is(errorOf(cluster.answerOf(odd, requestId)).code, 'no-leader')
      other.replica.request(++requestId, get('ghost', { consistency }))
      assert.is(valueIn(cluster.answerOf(other, requestId)), null)
    }
    cluster.isolate(other.name)
    write(cluster, odd)
    assert.is(cluster.leader, leader, 'its disk and its vote count as ever')
  },
)

states('a leader whose state is odd answers nothing more and hands over', () => {
  const cluster = new ReplicaCluster()
  const leader = cluster.elect()
  corrupt(leader)
  write(cluster, leader)
  assert.ok(isSet(leader))
  const next = cluster.elect()
  assert.is.not(next, leader)
  leader.replica.request(++requestId, openSession())
  assert.ok(cluster.answerOf(leader, requestId).ok, 'it forwards')
  const opened = cluster.answerOf(leader, requestId)
  assert.ok(opened.ok)
  next.replica.request(++requestId, put({ session: opened.index, sequence: 0 }, 'key', 'value'))
  assert.ok(cluster.answerOf(next, requestId).ok)
})

states(
  'a leader in quarantine with nobody to relieve it answers no write from its own state',
  () => {
    const cluster = new ReplicaCluster()
    const leader = cluster.elect()
    corrupt(leader)
    // The transfer never arrives.
    cluster.hold = ({ frame }) => frame.type === 'raft' && frame.message.type === 'timeoutNow'
    write(cluster, leader, () => isSet(leader))
    assert.ok(isSet(leader))
    assert.is(cluster.leader, leader)
    leader.replica.request(++requestId, openSession(50))
    assert.is(errorOf(cluster.answerOf(leader, requestId)).code, 'no-leader')
    cluster.hold = null
    cluster.tick(60)
    assert.is.not(cluster.elect(), leader, 'it tries again')
  },
)

states(
  'what was on its way when a leader fell into quarantine is not answered from its state',
  () => {
    const cluster = new ReplicaCluster()
    const leader = cluster.elect()
    corrupt(leader)
    const isTelling = ({ to, frame }: FrameFlight): boolean =>
      to === leader.peer && frame.type === 'stateHash'
    const isLate = ({ frame }: FrameFlight): boolean =>
      frame.type === 'raft' && /^(timeoutNow|appendResponse)$/.test(frame.message.type)
    cluster.hold = isTelling
    write(cluster, leader)
    assert.not.ok(isSet(leader))
    const told = cluster.held
    cluster.held = []
    cluster.hold = isLate
    leader.replica.request(++requestId, openSession(50))
    cluster.settle()
    for (const { from, frame } of told) leader.replica.receive(from, frame)
    cluster.settle()
    assert.ok(isSet(leader))
    cluster.hold = null
    for (const { from, frame } of cluster.held) {
      if (frame.type === 'raft' && frame.message.type === 'appendResponse')
        leader.replica.receive(from, frame)
    }
    cluster.drain(leader)
    assert.is(cluster.leader, leader)
    assert.ok(leader.replica.raft.log.appliedIndex === leader.replica.raft.log.lastIndex)
    assert.is(leader.answer(requestId), null, 'it is asked for again, of the next leader')
  },
)

states('of two, nobody knows who is right: an alarm, and nothing else', () => {
  const cluster = new ReplicaCluster({ size: 2 })
  const leader = cluster.elect()
  corrupt(leader)
  write(cluster, leader)
  assert.equal(cluster.nodes.map(isSet), [false, false])
  assert.match(leader.replica.comparison.alarm ?? '', /no majority agrees/)
})

states('a restart makes the state anew, and the alarm ends', () => {
  const cluster = new ReplicaCluster()
  const leader = cluster.elect()
  const [odd] = cluster.followers() as [ReplicaNode]
  corrupt(odd)
  write(cluster, leader)
  assert.ok(isSet(odd))
  cluster.crash(odd)
  cluster.restart(odd)
  write(cluster, cluster.elect())
  assert.equal(cluster.nodes.map(isSet), [false, false, false])
  assert.is(cluster.elect().replica.comparison.alarm, null)
})

states.run()
