/** The extended Raft paper on terms and elections: sections 5.1, 5.2, 5.4.1 and 5.6. Each test quotes what it checks. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { RaftMessage } from '../../node/raft/messages.ts'
import { Cluster, type ClusterNode } from '../support/raft-cluster.ts'

/** What a node wants to send now, by receiver's name; its save is not finished. */
function outbox(cluster: Cluster, node: ClusterNode): { to: string; message: RaftMessage }[] {
  cluster.flights = []
  cluster.drain(node)
  const sent = cluster.flights.map(({ to, message }) => ({
    to: cluster.nodes.find((other) => other.peer === to)?.name ?? '?',
    message,
  }))
  cluster.flights = []
  return sent
}

function askVote(cluster: Cluster, voter: ClusterNode, from: string, vote: Partial<RaftMessage>) {
  const message = { type: 'requestVote', term: 2, lastIndex: 1, lastTerm: 1, transfer: false }
  voter.raft.step(cluster.node(from).peer, { ...message, ...vote } as RaftMessage)
  const atOnce = outbox(cluster, voter)
  cluster.finishSave(voter)
  const [answer] = [...atOnce, ...outbox(cluster, voter)]
  return answer?.message.type === 'voteResponse' ? answer.message : null
}

const terms = suite('5.1 terms')

terms(
  '"Current terms are exchanged whenever servers communicate; if one server\'s current term is smaller than the other\'s, then it updates its current term to the larger value."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.elect()
    const other = cluster.nodes.find((node) => node !== leader) as ClusterNode
    leader.raft.step(other.peer, { type: 'heartbeatResponse', term: 40, readRound: 0 })
    assert.is(leader.raft.term, 40)
    other.raft.step(leader.peer, { type: 'heartbeat', term: 50, commit: 0, readRound: 0 })
    assert.is(other.raft.term, 50)
  },
)

terms(
  '"If a candidate or leader discovers that its term is out of date, it immediately reverts to follower state."',
  () => {
    const later: RaftMessage[] = [
      { type: 'voteResponse', term: 9, granted: false },
      { type: 'preVoteResponse', term: 9, askedTerm: 1, granted: false, leaderAlive: false },
      { type: 'appendResponse', term: 9, accepted: true, matchIndex: 1 },
      { type: 'heartbeatResponse', term: 9, readRound: 0 },
      { type: 'heartbeat', term: 9, commit: 0, readRound: 0 },
      { type: 'append', term: 9, prevIndex: 1, prevTerm: 1, entries: [], commit: 0 },
    ]
    for (const message of later) {
      for (const role of ['candidate', 'leader']) {
        const cluster = new Cluster({ size: 3 })
        const node = role === 'leader' ? cluster.lead('n1') : cluster.campaign('n1')
        if (role === 'candidate') {
          cluster.hold = ({ message: { type } }) => type === 'voteResponse'
          cluster.settle()
        }
        assert.is(node.raft.role, role)
        node.raft.step(cluster.node('n2').peer, message)
        assert.is(node.raft.role, 'follower', `${role} on ${message.type}`)
        assert.is(node.raft.term, 9)
      }
    }
  },
)

terms('"If a server receives a request with a stale term number, it rejects the request."', () => {
  const cluster = new Cluster({ size: 3, logs: { n1: [1, 4] } })
  const node = cluster.node('n1')
  const from = cluster.node('n2').peer
  const entries = [{ term: 2, index: 2, kind: 'noop', payload: new Uint8Array(0) }] as const
  node.raft.step(from, { type: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries, commit: 2 })
  node.raft.step(from, { type: 'heartbeat', term: 3, commit: 2, readRound: 1 })
  assert.is(node.raft.log.termAt(2), 4)
  assert.is(node.raft.log.commitIndex, 1)
  assert.is(node.raft.leader, null)
  const answers = outbox(cluster, node).map(({ message }) => message)
  assert.is(answers.length, 2)
  for (const answer of answers) {
    assert.ok(answer.type === 'appendResponse' && !answer.accepted && answer.term === 4)
  }
  assert.is(askVote(cluster, node, 'n2', { term: 3, lastIndex: 9, lastTerm: 3 })?.granted, false)
})

const elections = suite('5.2 leader election')

elections('"When servers start up, they begin as followers."', () => {
  const cluster = new Cluster({ size: 3 })
  for (const { raft } of cluster.nodes) assert.is(raft.role, 'follower')
  const leader = cluster.elect()
  cluster.crash(leader)
  cluster.restart(leader)
  assert.is(leader.raft.role, 'follower')
})

elections(
  '"A server remains in follower state as long as it receives valid RPCs from a leader or candidate."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.elect()
    const { term } = leader.raft
    cluster.tick(500)
    assert.is(cluster.leader, leader)
    assert.is(leader.raft.term, term)
  },
)

elections(
  '"To begin an election, a follower increments its current term and transitions to candidate state. It then votes for itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster."',
  () => {
    const cluster = new Cluster({ size: 5 })
    cluster.hold = ({ message }) => message.type === 'requestVote'
    const node = cluster.campaign('n3')
    cluster.settle()
    assert.is(node.raft.role, 'candidate')
    assert.is(node.raft.term, 2)
    assert.is(node.raft.vote, node.peer)
    const asked = cluster.held.map(({ to }) => cluster.nodes.find(({ peer }) => peer === to)?.name)
    assert.equal(asked.sort(), ['n1', 'n2', 'n4', 'n5'])
  },
)

elections(
  '"A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same term."',
  () => {
    for (const [size, needed] of [
      [1, 0],
      [2, 1],
      [3, 1],
      [4, 2],
      [5, 2],
    ] as const) {
      const cluster = new Cluster({ size })
      cluster.hold = ({ message }) => message.type === 'voteResponse'
      const node = cluster.campaign('n1')
      cluster.settle()
      const votes = cluster.held
      cluster.held = []
      cluster.hold = null
      for (let i = 0; i < needed; i++) {
        assert.is(node.raft.role, 'candidate', `${i} votes of others, ${size} nodes`)
        // A repeated vote is one vote, and one of another term is none.
        node.raft.step(votes[0]?.from as string, { type: 'voteResponse', term: 1, granted: true })
        if (i > 0) cluster.deliver(votes[0] as (typeof votes)[0])
        assert.is(node.raft.role, 'candidate')
        cluster.deliver(votes[i] as (typeof votes)[0])
      }
      assert.is(node.raft.role, 'leader', `${needed} votes of others, ${size} nodes`)
    }
  },
)

elections('votes of learners and strangers do not count', () => {
  const cluster = new Cluster({ size: 3, learners: 2 })
  cluster.hold = ({ message }) => message.type === 'voteResponse'
  const node = cluster.campaign('n1')
  cluster.settle()
  for (const from of [
    cluster.node('n4').peer,
    cluster.node('n5').peer,
    'stranger.1',
    'stranger.2',
  ]) {
    node.raft.step(from, { type: 'voteResponse', term: node.raft.term, granted: true })
  }
  assert.is(node.raft.role, 'candidate')
})

elections(
  '"Each server will vote for at most one candidate in a given term, on a first-come-first-served basis"',
  () => {
    const cluster = new Cluster({ size: 3 })
    const voter = cluster.node('n1')
    assert.is(askVote(cluster, voter, 'n2', {})?.granted, true)
    assert.is(askVote(cluster, voter, 'n3', { lastIndex: 9, lastTerm: 1 })?.granted, false)
    assert.is(askVote(cluster, voter, 'n2', {})?.granted, true, 'the same candidate again')
    cluster.crash(voter)
    cluster.restart(voter)
    assert.is(askVote(cluster, voter, 'n3', {})?.granted, false, 'a restart forgets no vote')
    assert.is(askVote(cluster, voter, 'n3', { term: 3 })?.granted, true, 'another term')
  },
)

elections(
  '"Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other servers to establish its authority and prevent new elections."',
  () => {
    const cluster = new Cluster({ size: 3, learners: 1 })
    cluster.hold = ({ message }) => message.type === 'heartbeat'
    cluster.lead('n1')
    const told = new Set(cluster.held.map(({ to }) => to))
    assert.equal(
      [...told].sort(),
      ['n2', 'n3', 'n4'].map((name) => cluster.node(name).peer),
    )
  },
)

elections(
  "\"If the leader's term (included in its RPC) is at least as large as the candidate's current term, then the candidate recognizes the leader as legitimate and returns to follower state. If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and continues in candidate state.\"",
  () => {
    for (const [term, role] of [
      [1, 'candidate'],
      [2, 'follower'],
      [3, 'follower'],
    ] as const) {
      for (const type of ['append', 'heartbeat'] as const) {
        const cluster = new Cluster({ size: 3 })
        cluster.hold = ({ message }) => message.type === 'requestVote'
        const node = cluster.campaign('n1')
        cluster.settle()
        assert.is(node.raft.term, 2)
        const from = cluster.node('n2').peer
        node.raft.step(
          from,
          type === 'append'
            ? { type, term, prevIndex: 1, prevTerm: 1, entries: [], commit: 1 }
            : { type, term, commit: 1, readRound: 0 },
        )
        assert.is(node.raft.role, role)
        assert.is(node.raft.leader, role === 'follower' ? from : null)
      }
    }
  },
)

elections(
  '"Raft uses randomized election timeouts to ensure that split votes are rare and that they are resolved quickly."',
  () => {
    // Every node times out between one and two election timeouts after the last word, and not always at the same tick.
    const seen = new Set<number>()
    for (let seed = 1; seed <= 200; seed++) {
      const { nodes } = new Cluster({ size: 2, seed })
      const [node] = nodes as [ClusterNode, ClusterNode]
      let ticks = 0
      while (node.raft.role === 'follower') {
        node.raft.tick()
        ticks++
      }
      assert.ok(ticks >= 10 && ticks < 20, `${ticks} ticks`)
      seen.add(ticks)
    }
    assert.is(seen.size, 10)
  },
)

elections('a lone voter can collide with nobody and leads as soon as its vote is saved', () => {
  const cluster = new Cluster({ size: 1, learners: 1 })
  cluster.tick(1)
  assert.is(cluster.leader, cluster.node('n1'))
})

elections('a split vote is resolved by another election', () => {
  const cluster = new Cluster({ size: 4 })
  cluster.hold = ({ message }) => message.type === 'requestVote'
  for (const name of ['n1', 'n2']) cluster.candidate(name)
  cluster.settle()
  const [a, b] = [cluster.node('n1'), cluster.node('n2')]
  assert.equal([a.raft.role, b.raft.role], ['candidate', 'candidate'])
  const requests = cluster.held
  cluster.held = []
  cluster.hold = null
  // n3 hears n1 first, n4 hears n2 first: two votes each, and three are needed.
  const to = (from: ClusterNode, name: string) =>
    requests.filter((flight) => flight.from === from.peer && flight.to === cluster.node(name).peer)
  for (const flight of [...to(a, 'n3'), ...to(b, 'n4'), ...to(b, 'n3'), ...to(a, 'n4')]) {
    cluster.deliver(flight)
  }
  cluster.settle()
  assert.is(cluster.leader, undefined)
  assert.ok(cluster.elect().raft.term > 2)
})

const restriction = suite('5.4.1 election restriction')

restriction(
  '"the voter denies its vote if its own log is more up-to-date than that of the candidate"; "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."',
  () => {
    const own = [1, 2, 2, 3]
    for (const [lastTerm, lastIndex, granted] of [
      [3, 4, true],
      [3, 5, true],
      [4, 2, true],
      [3, 3, false],
      [2, 9, false],
      [1, 1, false],
    ] as const) {
      const cluster = new Cluster({ size: 3, logs: { n1: own } })
      const voter = cluster.node('n1')
      const answer = askVote(cluster, voter, 'n2', { term: 9, lastTerm, lastIndex })
      assert.is(answer?.granted, granted, `against ${lastTerm}/${lastIndex}`)
      // Also the pre-vote, so that such a candidate disturbs nobody.
      const fresh = new Cluster({ size: 3, logs: { n1: own } })
      const asked = fresh.node('n1')
      asked.raft.step(fresh.node('n2').peer, { type: 'preVote', term: 9, lastTerm, lastIndex })
      const [reply] = outbox(fresh, asked)
      assert.is(reply?.message.type === 'preVoteResponse' && reply.message.granted, granted)
    }
  },
)

restriction(
  'Figure 3, leader completeness: "if a log entry is committed in a given term, then that entry will be present in the logs of the leaders for all higher-numbered terms."',
  () => {
    // n3 misses a committed entry, and however often it campaigns it is not elected by those that have it.
    const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2], n2: [1, 2, 2], n3: [1, 2] } })
    cluster.isolate('n3')
    cluster.lead('n1')
    cluster.tick(5)
    assert.ok(cluster.node('n1').raft.log.commitIndex >= 3)
    cluster.crash(cluster.node('n1'))
    cluster.heal()
    for (let i = 0; i < 20; i++) {
      cluster.campaign('n3')
      cluster.settle()
      assert.is.not(cluster.node('n3').raft.role, 'leader')
    }
    assert.is(cluster.lead('n2').raft.log.termAt(3), 2)
  },
)

const timing = suite('5.6 timing')

timing(
  '"safety must not depend on timing: the system must not produce incorrect results just because some event happens more quickly or slowly than expected."',
  () => {
    // A leader whose clock stands still is replaced; all it still says comes too late to change anything.
    const cluster = new Cluster({ size: 3 })
    const old = cluster.lead('n1')
    old.raft.propose('command', new Uint8Array([1]))
    cluster.isolate('n1')
    cluster.drain(old)
    const next = cluster.lead('n2')
    next.raft.propose('command', new Uint8Array([2]))
    cluster.settle()
    cluster.heal()
    const before = next.raft.log.lastIndex
    old.raft.propose('command', new Uint8Array([3]))
    assert.ok(old.raft.readIndex(1))
    cluster.settle()
    assert.is(old.raft.role, 'follower')
    assert.is(next.raft.log.lastIndex, before)
    assert.equal(old.reads, [])
    assert.equal(old.readsLost, [1])
  },
)

timing(
  '"Raft will be able to elect and maintain a steady leader as long as the system satisfies the following timing requirement: broadcastTime << electionTimeout << MTBF"',
  () => {
    // Nine heartbeats of ten are lost: the leader stays, since one an election timeout is enough.
    const cluster = new Cluster({ size: 3, options: { electionTicks: 30 } })
    const leader = cluster.elect()
    let ticks = 0
    cluster.hold = ({ message }) => message.type === 'heartbeat' && ticks % 10 !== 0
    for (; ticks < 500; ticks++) cluster.tick()
    assert.is(cluster.leader, leader)
  },
)

terms.run()
elections.run()
restriction.run()
timing.run()
