/**
 * The hazards that attacks on the design have found, each with the rule that removes it: reads, and disks. Snapshots, membership and
 * the clock have tests of their own; what concerns sessions and hashes is in clients.test.ts.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { PeerFrame } from '../../node/peer-frame.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import { append, entriesOf, leadAtLast, propose, said, saidWhenSaved } from '../support/paper.ts'
import {
  bytesOf,
  Cluster,
  type ClusterNode,
  type Flight,
  termsOf,
} from '../support/raft-cluster.ts'
import {
  errorOf,
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  TICK_MS,
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

const answered = (node: ClusterNode) => node.reads.map(({ requestId }) => requestId)

const reads = suite('HAZARDS, reads')

reads(
  'after a stall a new read joins a round already sent: it joins only a round whose messages leave after it arrived',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    cluster.hold = ({ message }) => message.type === 'heartbeatResponse'
    leader.raft.readIndex(1)
    cluster.settle()
    const echoes = cluster.held.splice(0)
    assert.is(echoes.length, 2)
    // The leader stands still. The next one commits, and then the old one wakes up.
    cluster.hold = null
    cluster.isolate('n1')
    const next = cluster.lead('n2')
    propose(next, 'new')
    cluster.settle()
    leader.raft.readIndex(2)
    for (const { from, message } of echoes) leader.raft.step(from, message)
    leader.raft.readIndex(3)
    const beats = said(cluster, leader).filter(({ message }) => message.type === 'heartbeat')
    assert.equal(answered(leader), [1], 'the echoes answer what was asked before they were sent')
    assert.equal(
      beats.map(({ message }) => message.type === 'heartbeat' && message.readRound),
      [2, 2],
    )
    // The same echoes again serve nobody, and the next leader's term ends the rest.
    for (const { from, message } of echoes) leader.raft.step(from, message)
    cluster.drain(leader)
    assert.equal(answered(leader), [1])
    cluster.heal()
    cluster.tick(3)
    assert.equal([answered(leader), leader.readsLost], [[1], [2, 3]])
  },
)

reads(
  'an answer to a request from before a restart or reconnect matches no request, or exactly the one it answers',
  () => {
    for (const what of ['restart', 'reconnect'] as const) {
      const { cluster, leader, follower, session } = start()
      leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'old'))
      cluster.answerOf(leader, 2)
      cluster.tick(3)
      cluster.hold = ({ frame }) => frame.type === 'forwardReply'
      follower.replica.request(3, get('k'))
      cluster.settle()
      const late = cluster.held.splice(0)
      assert.is(late.length, 1)
      if (what === 'restart') {
        cluster.crash(follower)
        cluster.restart(follower)
      } else {
        follower.replica.cancel(3)
        follower.replica.linkClosed(leader.peer)
      }
      leader.replica.request(4, put({ session, sequence: 2 }, 'k', 'new'))
      cluster.answerOf(leader, 4)
      cluster.tick(4)
      follower.replica.request(5, get('k'))
      cluster.settle()
      for (const { from, frame } of late) follower.replica.receive(from, frame)
      cluster.settle()
      assert.is(follower.answer(5), null, what)
      cluster.release()
      assert.is(valueIn(cluster.answerOf(follower, 5)), 'new')
    }
  },
)

/** Each ends the leadership of n1, which has reads waiting. */
const ENDS: Readonly<Record<string, (cluster: Cluster, leader: ClusterNode) => void>> = {
  'another term in an answer': (cluster, { raft }) => {
    const answer = { type: 'heartbeatResponse', term: raft.term + 1, readRound: 0 } as const
    raft.step(cluster.node('n2').peer, answer)
  },
  'another leader': (cluster, { raft }) => {
    raft.step(cluster.node('n2').peer, append(raft.term + 1, [1, 1], []))
  },
  'no quorum': (_, { raft }) => {
    for (let i = 0; i < 30; i++) raft.tick()
  },
  'a save that hangs': (cluster, leader) => {
    propose(leader, 'x')
    cluster.drain(leader)
    for (let i = 0; i < 30; i++) {
      // It hears a quorum all the time.
      for (const name of ['n2', 'n3']) {
        const answer = { type: 'heartbeatResponse', term: leader.raft.term, readRound: 0 } as const
        leader.raft.step(cluster.node(name).peer, answer)
      }
      leader.raft.tick()
    }
    cluster.finishSave(leader)
  },
  'a full disk': (cluster, leader) => {
    propose(leader, 'x')
    cluster.drain(leader)
    leader.fullDisk = true
    cluster.finishSave(leader)
    leader.fullDisk = false
  },
}

reads(
  'the leader is replaced between note and confirm: pending rounds die with the term, however it ends',
  () => {
    for (const [how, end] of Object.entries(ENDS)) {
      const cluster = new Cluster({ size: 3 })
      const leader = cluster.lead('n1')
      const echoes: Flight[] = []
      cluster.hold = (flight) => {
        if (flight.message.type !== 'heartbeatResponse') return false
        echoes.push(flight)
        return true
      }
      leader.raft.readIndex(1)
      cluster.settle()
      leader.raft.readIndex(2)
      end(cluster, leader)
      assert.is(leader.raft.role, 'follower', how)
      cluster.drain(leader)
      assert.equal([answered(leader), leader.readsLost], [[], [1, 2]], how)
      // It leads again, and starts to count its rounds from the beginning.
      cluster.hold = ({ message }) => message.type === 'heartbeatResponse'
      for (let i = 0; i < 12; i++) {
        leader.raft.tick()
        cluster.settle()
      }
      leadAtLast(cluster, 'n1')
      leader.raft.readIndex(3)
      cluster.settle()
      for (const { from, message } of echoes) leader.raft.step(from, message)
      cluster.drain(leader)
      assert.equal([answered(leader), leader.readsLost], [[], [1, 2]], how)
    }
  },
)

reads('a forwarding loop: a node that does not lead says so and never forwards a forward', () => {
  const { cluster, leader, follower, other, session } = start()
  assert.is(follower.replica.raft.leader, leader.peer)
  const write = put({ session, sequence: 1 }, 'k', 'v')
  const body = write.type === 'command' ? write.command : new Uint8Array(0)
  const { lastIndex } = follower.replica.raft.log
  for (const operation of ['command', 'readIndex'] as const) {
    const frame: PeerFrame = { type: 'forward', requestId: 77, operation, body }
    follower.replica.receive(other.peer, frame)
    const { frames } = follower.replica.drain()
    assert.equal([...frames.keys()], [other.peer], operation)
    const expected = { requestId: 77, outcome: 'not-leader', index: 0, body: new Uint8Array(0) }
    assert.equal(frames.get(other.peer), [{ type: 'forwardReply', ...expected }])
  }
  cluster.tick(20)
  assert.is(leader.replica.raft.log.lastIndex, lastIndex)
})

const disks = suite('HAZARDS, disks and saves')

disks(
  'Appends reset follower timers as heartbeats do: a leader with a stuck save sends no leader message, and stands for nothing until it ends',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    leader.slowDisk = true
    propose(leader, 'x')
    cluster.settle()
    let led = 0
    cluster.hold = ({ from, message: { type } }) => {
      if (from === leader.peer && leader.raft.saveStuck && /^(heartbeat|append)$/.test(type)) led++
      return false
    }
    for (let i = 0; i < 14; i++) {
      for (const node of cluster.nodes) if (node !== leader) node.raft.tick()
      leader.raft.tick()
      cluster.settle()
    }
    assert.ok(leader.raft.saveStuck)
    assert.equal([leader.raft.role, led], ['follower', 0])
    const { term } = leader.raft
    const { peer } = cluster.node('n2')
    // Whatever comes, while the save hangs it neither leads, nor stands for election, nor gives a vote.
    const ask = { type: 'requestVote', lastIndex: 99, lastTerm: 99, transfer: true } as const
    const events: RaftMessage[] = [
      { type: 'heartbeat', term: term + 1, commit: 1, readRound: 0 },
      { ...ask, term: term + 2 },
      { type: 'preVote', term: term + 2, lastIndex: 99, lastTerm: 99 },
    ]
    for (const message of events) {
      leader.raft.step(peer, message)
      if (message.type === 'heartbeat')
        leader.raft.step(peer, { type: 'timeoutNow', term: term + 1 })
      for (let i = 0; i < 30; i++) leader.raft.tick()
      const types = said(cluster, leader).filter(
        ({ message: answer }) => !('granted' in answer && !answer.granted),
      )
      const isEcho = message.type === 'heartbeat'
      assert.equal(
        types.map(({ message: answer }) => answer.type),
        isEcho ? ['heartbeatResponse'] : [],
        message.type,
      )
      assert.is(leader.raft.role, 'follower', message.type)
      assert.is(leader.raft.vote === peer, false)
    }
    cluster.finishSave(leader)
    assert.not.ok(leader.raft.saveStuck)
    leader.raft.step(peer, { ...ask, term: term + 3 })
    const granted = saidWhenSaved(cluster, leader).filter(
      ({ message: { type } }) => type === 'voteResponse',
    )
    assert.ok(granted.some(({ message }) => 'granted' in message && message.granted))
  },
)

disks('a stuck save: writes that wait for it may have been applied', () => {
  const { cluster, leader, session } = start()
  leader.slowDisk = true
  for (const node of cluster.followers()) node.slowDisk = true
  leader.replica.request(2, put({ session, sequence: 1, timeoutMs: 60 * TICK_MS }, 'k', 'v', true))
  cluster.tick(15)
  assert.is(leader.replica.raft.role, 'follower')
  assert.is(leader.answer(2), null)
  cluster.tick(60)
  assert.equal(errorOf(leader.answer(2)), { code: 'timeout', maybeApplied: true })
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.elect()
  // It was applied, and asking again says so.
  leader.replica.request(3, put({ session, sequence: 1 }, 'k', 'v', true))
  assert.equal(outcomeOf(cluster.answerOf(leader, 3)), { status: 'done', succeeded: true })
})

disks(
  'a slow fsync delays heartbeat acks: what depends on no unsaved state leaves at once, all else waits for exactly the save that holds its state',
  () => {
    const table: readonly [what: string, message: RaftMessage, atOnce: boolean][] = [
      ['a heartbeat', { type: 'heartbeat', term: 2, commit: 2, readRound: 1 }, true],
      ['an Append that does not match', append(2, [2, 9], []), true],
      ['an Append of an old leader', append(1, [1, 1], []), true],
      ['entries that are on disk', append(2, [1, 1], entriesOf(2, 2, 2)), true],
      ['a pre-vote', { type: 'preVote', term: 2, lastIndex: 9, lastTerm: 2 }, true],
      ['entries under way to the disk', append(2, [1, 1], entriesOf(2, 2, 3)), false],
      ['entries behind them', append(2, [2, 3], entriesOf(2, 4, 4)), false],
      [
        'a vote',
        { type: 'requestVote', term: 5, lastIndex: 9, lastTerm: 5, transfer: true },
        false,
      ],
    ]
    for (const [what, message, atOnce] of table) {
      const cluster = new Cluster({ size: 3 })
      const node = cluster.node('n1')
      const { peer } = cluster.node('n2')
      node.raft.step(peer, append(2, [1, 1], entriesOf(2, 2, 2)))
      saidWhenSaved(cluster, node)
      // One save is under way, with the entry at 3.
      node.raft.step(peer, append(2, [2, 2], entriesOf(2, 3, 3)))
      assert.equal(said(cluster, node), [])
      assert.ok(node.saving)
      node.raft.step(peer, message)
      assert.is(said(cluster, node).length, atOnce ? 1 : 0, what)
      if (atOnce) continue
      // The rest leaves when every save has ended, and no promise before the one that holds it.
      let promises = 0
      while (node.saving !== null) {
        cluster.finishSave(node)
        const { entries, hardState } = node.disk
        for (const { message: answer } of said(cluster, node)) {
          promises++
          if (answer.type === 'voteResponse') assert.is(hardState?.vote, peer, what)
          else assert.ok('matchIndex' in answer && answer.matchIndex <= entries.length, what)
        }
      }
      assert.ok(promises >= 1, what)
    }
  },
)

disks(
  'a finished save marks rewritten entries durable: stable advances only where (index, term) still match',
  () => {
    const cluster = new Cluster({ size: 3 })
    const node = cluster.node('n1')
    node.raft.step(cluster.node('n2').peer, append(2, [1, 1], entriesOf(2, 2, 5)))
    said(cluster, node)
    // 2 and 3 stay, the rest is rewritten while it is being saved.
    const rewritten = append(3, [2, 3], entriesOf(3, 4, 5))
    node.raft.step(cluster.node('n3').peer, rewritten)
    said(cluster, node)
    cluster.finishSave(node)
    assert.is(node.raft.log.stableIndex, 3)
    assert.equal(said(cluster, node), [], 'nothing is acknowledged of what was asked in term 3')
    cluster.finishSave(node)
    assert.is(node.raft.log.stableIndex, 5)
    const ack = { type: 'appendResponse', term: 3, accepted: true, matchIndex: 5 }
    assert.equal(said(cluster, node), [{ to: 'n3', message: ack }])
  },
)

disks("a new leader's own match starts at its durable index", () => {
  // One entry a save: it is elected while most of its log is not on its disk yet.
  const cluster = new Cluster({ size: 3, options: { saveBytesMax: 1 } })
  const node = cluster.node('n1')
  node.raft.step(cluster.node('n2').peer, append(2, [1, 1], entriesOf(2, 2, 6)))
  said(cluster, node)
  node.slowDisk = true
  cluster.isolate('n3')
  cluster.campaign('n1')
  cluster.settle()
  while (node.raft.role !== 'leader') {
    cluster.finishSave(node)
    cluster.settle()
  }
  assert.ok(node.raft.log.stableIndex < node.raft.log.lastIndex)
  cluster.settle()
  const { lastIndex } = node.raft.log
  assert.is(cluster.node('n2').disk.entries.length, lastIndex, 'one disk of three has it all')
  let saves = 0
  while (node.disk.entries.length < lastIndex) {
    assert.is(node.raft.log.commitIndex, 1, `${node.disk.entries.length} of ${lastIndex}`)
    cluster.finishSave(node)
    cluster.settle()
    saves++
  }
  assert.ok(saves >= 3)
  assert.is(node.raft.log.commitIndex, lastIndex)
})

disks(
  'a candidate counts its own vote too early: RequestVote leaves in parallel, the own vote counts after its own fsync',
  () => {
    for (const way of ['timeout', 'transfer'] as const) {
      const cluster = new Cluster({ size: 3 })
      const node = cluster.node('n1')
      if (way === 'timeout') cluster.campaign('n1')
      else {
        const old = cluster.lead('n2')
        cluster.tick(2)
        node.slowDisk = true
        old.raft.transferLeadership(node.peer)
      }
      node.slowDisk = true
      cluster.hold = ({ message }) => message.type === 'requestVote'
      cluster.settle()
      assert.is(cluster.held.length, 2, 'asked, while the own vote is being saved')
      assert.ok(node.saving)
      cluster.release()
      cluster.settle()
      assert.is(node.raft.role, 'candidate', `${way}: both others have voted for it`)
      const { term } = node.raft
      // It crashes, forgets the term, and may vote for another in it: nobody can have been elected by that vote.
      cluster.crash(node)
      cluster.restart(node)
      assert.ok(node.raft.term < term)
      cluster.finishSave(node)
      assert.equal(
        cluster.leaders.filter(({ raft }) => raft.term === term),
        [],
      )
    }
  },
)

disks(
  'a restarted leader writes another entry at the same (index, term): nobody resumes leadership in a term, single voters included',
  () => {
    for (const size of [1, 2, 3]) {
      const cluster = new Cluster({ size, learners: 1 })
      const leader = cluster.lead('n1')
      const learner = cluster.node(`n${size + 1}`)
      const { term } = leader.raft
      // It reaches the learner alone, and not its own disk.
      leader.slowDisk = true
      for (let id = 2; id <= size; id++) cluster.cut.add(`n1>n${id}`)
      const index = propose(leader, 'a')
      cluster.settle()
      assert.is(termsOf(learner)[index - 1], term)
      cluster.crash(leader)
      leader.slowDisk = false
      cluster.heal()
      cluster.restart(leader)
      assert.equal(
        [leader.raft.role, leader.raft.term, leader.raft.vote],
        ['follower', term, leader.peer],
      )
      cluster.lead('n1')
      propose(leader, 'b')
      cluster.tick(3)
      assert.ok(leader.raft.term > term)
      assert.is(leader.raft.log.termAt(index), leader.raft.term)
      assert.equal(learner.disk.entries, leader.disk.entries, `${size} voters`)
    }
  },
)

disks('hung fsyncs: one save in flight, and bounded unsaved bytes', () => {
  const cluster = new Cluster({ size: 3, options: { uncommittedBytesMax: 1000 } })
  const leader = cluster.lead('n1')
  for (const node of cluster.nodes) node.slowDisk = true
  let taken = 0
  while (taken < 1000 && leader.raft.propose('command', bytesOf('x'.repeat(100))).ok) taken++
  assert.is(taken, 11, 'the bound, and the one that passes it')
  assert.equal(leader.raft.propose('command', bytesOf('x')), { ok: false, reason: 'overloaded' })
  cluster.settle()
  const saving = leader.saving
  assert.ok(saving)
  cluster.settle()
  assert.is(leader.saving, saving)
  assert.not.ok(leader.raft.propose('command', bytesOf('x')).ok)
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.settle()
  assert.ok(leader.raft.propose('command', bytesOf('x')).ok)
})

disks('hung fsyncs: a client is told that its write was refused and not applied', () => {
  const raftBytes = { pendingRequestBytesMax: 1 << 24 }
  const { cluster, leader, follower, session } = start({ options: raftBytes })
  for (const node of cluster.nodes) node.slowDisk = true
  const value = 'x'.repeat(100_000)
  for (let sequence = 1; sequence <= 12; sequence++) {
    const numbers = { session, sequence, firstOutstanding: 1 }
    leader.replica.request(100 + sequence, put(numbers, `k${sequence}`, value))
  }
  cluster.settle()
  assert.equal(errorOf(leader.answer(112)), { code: 'overloaded', maybeApplied: false })
  // Forwarded, it may have reached a leader before, so that the follower cannot say as much.
  follower.replica.request(2, put({ session, sequence: 20, firstOutstanding: 1 }, 'k', value))
  cluster.settle()
  assert.is(errorOf(follower.answer(2)).code, 'overloaded')
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.settle()
  assert.is(outcomeOf(leader.answer(101)).status, 'done')
})

reads.run()
disks.run()
