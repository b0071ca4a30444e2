/** What must never go wrong, rule by rule: what the consensus core and the sessions owe. Rule 7 is with the thesis, 9.6. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Append, RaftMessage } from '../../node/raft/messages.ts'
import type { Entry } from '../../node/raft/types.ts'
import { leadAtLast } from '../support/paper.ts'
import {
  bytesOf,
  Cluster,
  type ClusterNode,
  type Flight,
  termsOf,
} from '../support/raft-cluster.ts'
import {
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  valueIn,
} from '../support/raft-replicas.ts'

/** The messages a node hands out now. */
function sent(cluster: Cluster, node: ClusterNode): RaftMessage[] {
  cluster.flights = []
  cluster.drain(node)
  const messages = cluster.flights.map(({ message }) => message)
  cluster.flights = []
  return messages
}

function entriesOf(term: number, from: number, to: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({
    term,
    index: from + i,
    kind: 'command' as const,
    payload: bytesOf(`${term}/${from + i}`),
  }))
}

function append(
  term: number,
  prev: [term: number, index: number],
  entries: Entry[],
  commit = 0,
): Append {
  return { type: 'append', term, prevTerm: prev[0], prevIndex: prev[1], entries, commit }
}

const durable = suite('rules 1 and 2: durable first')

durable('1: vote and term are durable before the vote is answered', () => {
  const cluster = new Cluster({ size: 3 })
  const voter = cluster.node('n1')
  const ask = { type: 'requestVote', term: 5, lastIndex: 1, lastTerm: 1, transfer: false } as const
  voter.raft.step(cluster.node('n2').peer, ask)
  assert.equal(sent(cluster, voter), [])
  assert.equal(sent(cluster, voter), [], 'and not in a later turn either')
  assert.equal(voter.saving?.hardState, { term: 5, vote: cluster.node('n2').peer, commit: 1 })
  cluster.finishSave(voter)
  assert.equal(sent(cluster, voter), [{ type: 'voteResponse', term: 5, granted: true }])
})

durable(
  '1: a vote waits for exactly the save that holds it, not for one that was under way',
  () => {
    const cluster = new Cluster({ size: 3 })
    const voter = cluster.node('n1')
    const from = cluster.node('n2').peer
    voter.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 2)))
    sent(cluster, voter)
    assert.ok(voter.saving)
    const ask = { type: 'requestVote', term: 5, lastIndex: 9, lastTerm: 2, transfer: true } as const
    voter.raft.step(cluster.node('n3').peer, ask)
    sent(cluster, voter)
    cluster.finishSave(voter)
    assert.not.ok(sent(cluster, voter).some(({ type }) => type === 'voteResponse'))
    cluster.finishSave(voter)
    assert.ok(sent(cluster, voter).some((m) => m.type === 'voteResponse' && m.granted))
  },
)

durable('1: accepted entries are durable before they are acknowledged', () => {
  const cluster = new Cluster({ size: 3 })
  const node = cluster.node('n1')
  const from = cluster.node('n2').peer
  node.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 3)))
  sent(cluster, node)
  // What arrives during the save leaves with the next one.
  node.raft.step(from, append(2, [2, 3], entriesOf(2, 4, 4)))
  assert.equal(sent(cluster, node), [])
  cluster.finishSave(node)
  const ack = (matchIndex: number) => ({
    type: 'appendResponse',
    term: 2,
    accepted: true,
    matchIndex,
  })
  assert.equal(sent(cluster, node), [ack(3)])
  cluster.finishSave(node)
  assert.equal(sent(cluster, node), [ack(4)])
})

durable(
  '1: an acknowledgement of entries that were rewritten before they were saved never leaves',
  () => {
    const cluster = new Cluster({ size: 3 })
    const node = cluster.node('n1')
    node.raft.step(cluster.node('n2').peer, append(2, [1, 1], entriesOf(2, 2, 9)))
    sent(cluster, node)
    node.raft.step(cluster.node('n3').peer, append(3, [1, 1], entriesOf(3, 2, 2)))
    sent(cluster, node)
    cluster.finishSave(node)
    assert.equal(sent(cluster, node), [])
    assert.is(node.raft.log.stableIndex, 1)
    cluster.finishSave(node)
    const ack = { type: 'appendResponse', term: 3, accepted: true, matchIndex: 2 }
    assert.equal(sent(cluster, node), [ack])
    assert.equal(
      node.disk.entries.map(({ term }) => term),
      [1, 3],
    )
  },
)

durable(
  '1: a candidate counts its own vote only after its own fsync, and so does a single voter',
  () => {
    const cluster = new Cluster({ size: 3 })
    const node = cluster.campaign('n1')
    for (const other of cluster.nodes) other.slowDisk = other === node
    cluster.settle()
    assert.is(node.raft.role, 'candidate', 'both others have voted for it')
    cluster.finishSave(node)
    assert.is(node.raft.role, 'leader')
    const alone = new Cluster({ size: 1 }).campaign('n1')
    assert.is(alone.raft.role, 'candidate')
  },
)

durable('2: the leader counts itself only after its own fsync, and so does a single voter', () => {
  for (const size of [1, 2, 3]) {
    const cluster = new Cluster({ size })
    const leader = cluster.lead('n1')
    if (size === 3) cluster.crash(cluster.node('n3'))
    const { commitIndex } = leader.raft.log
    leader.slowDisk = true
    assert.ok(leader.raft.propose('command', bytesOf('x')).ok)
    cluster.settle()
    assert.is(leader.raft.log.commitIndex, commitIndex, `${size} nodes`)
    cluster.finishSave(leader)
    assert.is(leader.raft.log.commitIndex, commitIndex + 1, `${size} nodes`)
  }
})

const reading = suite('rules 3 and 4: commits and reads')

reading('3: what a new leader inherits commits only with an entry of its own term', () => {
  const cluster = new Cluster({ size: 3, logs: { n1: [1, 2], n2: [1, 2], n3: [1, 2] } })
  cluster.hold = ({ message }) => message.type === 'append'
  const leader = cluster.lead('n1')
  for (const name of ['n2', 'n3']) {
    const message = { type: 'appendResponse', term: leader.raft.term, accepted: true } as const
    leader.raft.step(cluster.node(name).peer, { ...message, matchIndex: 2 })
  }
  cluster.settle()
  assert.is(leader.raft.log.commitIndex, 1)
  cluster.release()
  cluster.tick(2)
  assert.is(leader.raft.log.commitIndex, 3)
})

reading('4: a deposed leader that does not know it answers no read', () => {
  const cluster = new Cluster({ size: 3 })
  const old = cluster.lead('n1')
  cluster.isolate('n1')
  const next = cluster.lead('n2')
  assert.ok(next.raft.propose('command', bytesOf('x')).ok)
  cluster.settle()
  assert.is(old.raft.role, 'leader')
  assert.ok(old.raft.readIndex(1))
  cluster.tick(5)
  assert.equal(old.reads, [])
  cluster.heal()
  cluster.tick(30)
  assert.equal(old.reads, [])
  assert.equal(old.readsLost, [1])
})

reading('4: a late or repeated answer cannot serve a newer request with an older index', () => {
  const cluster = new Cluster({ size: 3 })
  const leader = cluster.lead('n1')
  const echoes: Flight[] = []
  cluster.hold = (flight) => {
    if (flight.message.type !== 'heartbeatResponse') return false
    echoes.push(flight)
    return true
  }
  leader.raft.readIndex(1)
  cluster.tick(4)
  const before = [...echoes]
  assert.ok(before.length >= 2)
  // A newer request, while every answer to the older one is still on its way, twice.
  cluster.isolate('n1')
  leader.raft.readIndex(2)
  cluster.drain(leader)
  for (const { from, message } of [...before, ...before]) leader.raft.step(from, message)
  cluster.drain(leader)
  assert.equal(
    leader.reads.map(({ requestId }) => requestId),
    [1],
  )
  // An answer to a round that was never asked counts for nothing either.
  const term = leader.raft.term
  for (const name of ['n2', 'n3']) {
    leader.raft.step(cluster.node(name).peer, { type: 'heartbeatResponse', term, readRound: 99 })
  }
  cluster.drain(leader)
  assert.equal(
    leader.reads.map(({ requestId }) => requestId),
    [1],
  )
})

reading(
  '15: a leader that stood still and wakes up serves no read and commits nothing from before',
  () => {
    const cluster = new Cluster({ size: 3 })
    const old = cluster.lead('n1')
    const frozen: Flight[] = []
    cluster.hold = (flight) => {
      if (flight.to !== old.peer) return false
      frozen.push(flight)
      return true
    }
    // Its last round and its last Append were answered; the answers lie in its sockets while it stands still.
    old.raft.readIndex(1)
    assert.ok(old.raft.propose('command', bytesOf('before')).ok)
    cluster.settle()
    assert.ok(frozen.some(({ message }) => message.type === 'heartbeatResponse'))
    const asleep = frozen.length
    cluster.cut.add('n1>n2')
    cluster.cut.add('n1>n3')
    const next = cluster.lead('n2')
    assert.ok(next.raft.propose('command', bytesOf('after')).ok)
    cluster.settle()
    assert.is(old.raft.role, 'leader')
    const { commitIndex } = next.raft.log
    // It wakes. A client asks before the sockets are read; then the old answers come.
    cluster.hold = null
    old.raft.readIndex(2)
    old.raft.tick()
    cluster.drain(old)
    for (const flight of frozen.slice(0, asleep)) cluster.deliver(flight)
    cluster.drain(old)
    assert.equal(
      old.reads.map(({ requestId }) => requestId),
      [1],
      'asked before it was deposed',
    )
    cluster.tick(3)
    for (const flight of frozen.slice(asleep)) cluster.deliver(flight)
    cluster.tick(3)
    assert.equal(
      old.reads.map(({ requestId }) => requestId),
      [1],
    )
    assert.ok(old.raft.log.commitIndex <= commitIndex)
    assert.is.not(old.raft.role, 'leader')
  },
)

const logs = suite('rule 9: what is committed stays')

logs('9: truncation never touches a committed entry', () => {
  const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2, 2] } })
  const node = cluster.node('n1')
  const from = cluster.node('n2').peer
  node.raft.step(from, append(3, [2, 3], entriesOf(3, 4, 5), 4))
  assert.equal(termsOf(node), [1, 2, 2, 3, 3])
  assert.is(node.raft.log.commitIndex, 4)
  // Late and repeated Appends of this leader, some with entries before the commit index.
  node.raft.step(from, append(3, [1, 1], []))
  node.raft.step(from, append(3, [2, 2], [...entriesOf(2, 3, 3), ...entriesOf(3, 4, 4)]))
  assert.equal(termsOf(node), [1, 2, 2, 3, 3])
  // No leader can send this; if one does, the node stops instead of losing what was promised.
  const before = node.raft.log.entryAt(4)
  assert.throws(() => {
    node.raft.log.merge(entriesOf(4, 4, 4), 3)
  }, /a committed entry would be truncated/)
  assert.is(node.raft.log.entryAt(4), before)
})

logs(
  '9: matchIndex never moves back within a term; a reordered or repeated AppendResponse is harmless',
  () => {
    const cluster = new Cluster({ size: 3 })
    const answers: Flight[] = []
    cluster.hold = (flight) => {
      if (flight.message.type === 'appendResponse') answers.push(flight)
      return false
    }
    const leader = cluster.lead('n1')
    for (let i = 0; i < 30; i++) {
      assert.ok(leader.raft.propose('command', bytesOf(`${i}`)).ok)
      cluster.settle()
    }
    cluster.hold = null
    const peers = ['n2', 'n3'].map((name) => cluster.node(name).peer)
    const matches = () =>
      peers.map((peer) => leader.raft.tracker.progress.get(peer)?.matchIndex ?? -1)
    const before = matches()
    const { lastIndex, commitIndex } = leader.raft.log
    assert.equal(before, [lastIndex, lastIndex])
    for (const flight of answers.reverse()) {
      leader.raft.step(flight.from, flight.message)
      assert.equal(matches(), before)
    }
    const { term } = leader.raft
    const rejected = { accepted: false, rejectedIndex: 5, hintIndex: 1, hintTerm: 1 } as const
    for (const peer of peers) {
      leader.raft.step(peer, { type: 'appendResponse', term, ...rejected })
      // Of an older term, or past the end of the log: not of this leadership.
      leader.raft.step(peer, {
        type: 'appendResponse',
        term: term - 1,
        accepted: true,
        matchIndex: 99,
      })
      leader.raft.step(peer, { type: 'appendResponse', term, accepted: true, matchIndex: 99 })
    }
    assert.equal(matches(), before)
    cluster.settle()
    assert.is(leader.raft.log.commitIndex, commitIndex)
    assert.ok(leader.raft.propose('command', bytesOf('on')).ok)
    cluster.settle()
    assert.is(leader.raft.log.commitIndex, lastIndex + 1)
  },
)

logs('9: what was acknowledged in an earlier term counts for nothing in a later one', () => {
  const cluster = new Cluster({ size: 3 })
  const leader = cluster.lead('n1')
  const before = leader.raft.term
  // It steps down over a word of a later term, and leads again in one later still.
  const [n2, n3] = ['n2', 'n3'].map((name) => cluster.node(name).peer) as [string, string]
  leader.raft.step(n2, { type: 'heartbeatResponse', term: before + 1, readRound: 0 })
  cluster.hold = ({ message }) => message.type === 'append'
  leadAtLast(cluster, 'n1')
  cluster.settle()
  const { lastIndex, commitIndex } = leader.raft.log
  assert.ok(lastIndex > commitIndex, 'its first entry is on no other disk')
  // Both had a log as long in the earlier term. What stands there now may be something else.
  for (const peer of [n2, n3]) {
    const late = { type: 'appendResponse', accepted: true, matchIndex: lastIndex } as const
    leader.raft.step(peer, { ...late, term: before })
    assert.is(leader.raft.tracker.progress.get(peer)?.matchIndex, 0)
  }
  assert.is(leader.raft.log.commitIndex, commitIndex)
  const late = { type: 'appendResponse', accepted: false, hintIndex: 0, hintTerm: 0 } as const
  leader.raft.step(n2, { ...late, term: before, rejectedIndex: lastIndex - 1 })
  assert.is(leader.raft.tracker.progress.get(n2)?.nextIndex, lastIndex, 'nor what was denied')
})

const doubt = suite('rules 10 and 12: doubt and disks')

doubt(
  '10: a timeout is not a failure: the write may have been applied, and the retry is exactly once',
  () => {
    const cluster = new ReplicaCluster()
    const leader = cluster.elect()
    leader.replica.request(1, openSession())
    const opened = cluster.answerOf(leader, 1)
    const session = opened.ok ? opened.index : 0
    cluster.isolate(leader.name)
    for (const node of cluster.nodes) node.slowDisk = node !== leader
    leader.replica.request(2, put({ session, sequence: 1, timeoutMs: 20 }, 'k', 'once', true))
    cluster.tick(4)
    const answer = leader.answer(2)
    assert.ok(answer !== null && !answer.ok)
    assert.equal(!answer?.ok && [answer?.error.code, answer?.error.maybeApplied], ['timeout', true])
    cluster.heal()
    for (const node of cluster.nodes) node.slowDisk = false
    cluster.tick(5)
    const [other] = cluster.followers()
    other?.replica.request(3, put({ session, sequence: 1 }, 'k', 'once', true))
    const again = cluster.answerOf(other as NonNullable<typeof other>, 3)
    assert.equal(outcomeOf(again), { status: 'done', succeeded: true })
    leader.replica.request(4, get('k'))
    assert.is(valueIn(cluster.answerOf(leader, 4)), 'once')
  },
)

doubt('12: one save is in flight, and a save that failed counts for nothing', () => {
  const cluster = new Cluster({ size: 3 })
  const node = cluster.node('n1')
  const from = cluster.node('n2').peer
  node.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 2)))
  sent(cluster, node)
  const first = node.saving
  assert.is(first?.entries.length, 1)
  node.raft.step(from, append(2, [2, 2], entriesOf(2, 3, 3)))
  assert.is(node.raft.ready().save, null, 'the first one has not ended')
  node.fullDisk = true
  cluster.finishSave(node)
  assert.equal(sent(cluster, node), [])
  assert.ok(node.raft.diskFull)
  const ask = { type: 'requestVote', term: 3, lastIndex: 9, lastTerm: 2, transfer: true } as const
  node.raft.step(cluster.node('n3').peer, ask)
  for (let i = 0; i < 50; i++) {
    node.raft.tick()
    const granted = sent(cluster, node).some((m) => 'granted' in m && m.granted)
    assert.not.ok(granted, 'no promise without a disk')
    cluster.finishSave(node)
  }
  assert.is(node.raft.role, 'follower', 'and no campaign')
  assert.is(node.disk.entries.length, 1)
  node.fullDisk = false
  for (let i = 0; i < 20 && node.disk.entries.length < 3; i++) {
    node.raft.tick()
    cluster.drain(node)
    cluster.finishSave(node)
  }
  assert.equal(
    node.disk.entries.map(({ term }) => term),
    [1, 2, 2],
  )
  assert.not.ok(node.raft.diskFull)
})

doubt(
  '12: a leader with a save that hangs steps down, neither campaigns nor votes, and comes back',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    leader.slowDisk = true
    assert.ok(leader.raft.propose('command', bytesOf('x')).ok)
    cluster.tick(11)
    assert.is(leader.raft.role, 'follower')
    assert.ok(leader.raft.saveStuck)
    cluster.crash(cluster.node('n3'))
    cluster.isolate('n2')
    cluster.tick(100)
    assert.is(leader.raft.role, 'follower')
    cluster.heal()
    cluster.tick(100)
    assert.is(cluster.leader, undefined, 'the one vote that is missing is not given')
    leader.slowDisk = false
    cluster.settle()
    assert.ok(cluster.elect())
    cluster.tick(8)
    for (const name of ['n1', 'n2']) {
      assert.is(new TextDecoder().decode(cluster.node(name).raft.log.entryAt(3)?.payload), 'x')
    }
  },
)

durable.run()
reading.run()
logs.run()
doubt.run()
