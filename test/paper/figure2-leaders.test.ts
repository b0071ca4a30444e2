/** Figure 2 of the extended Raft paper on leaders: their state, and the rules they go by. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Term } from '../../node/raft/types.ts'
import { append, leadAtLast, propose, said } from '../support/paper.ts'
import { bytesOf, Cluster, type ClusterNode, termsOf } from '../support/raft-cluster.ts'

const leaders = suite('figure 2, leaders')

leaders(
  '"nextIndex[] ... (initialized to leader last log index + 1)" ("11 in Figure 7"), "matchIndex[] ... (initialized to 0, increases monotonically)"; "Reinitialized after election"',
  () => {
    const logs = { n1: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6], n2: [1, 1, 1, 4] }
    const cluster = new Cluster({ size: 3, logs })
    const known = (node: ClusterNode) =>
      [...node.raft.tracker.progress.values()].map((to) => [to.nextIndex, to.matchIndex])
    cluster.hold = ({ message }) => message.type === 'append'
    const leader = leadAtLast(cluster, 'n1')
    assert.equal(known(leader), [
      [11, 0],
      [11, 0],
    ])
    cluster.release()
    cluster.settle()
    assert.equal(known(leader), [
      [12, 11],
      [12, 11],
    ])
    // It steps down once; what it knew of its followers is not carried into its next term.
    cluster.hold = ({ message }) => message.type === 'append'
    leader.raft.step(cluster.node('n3').peer, { type: 'heartbeatResponse', term: 20, readRound: 0 })
    assert.equal(known(leader), [])
    leadAtLast(cluster, 'n1')
    assert.equal(known(leader), [
      [12, 0],
      [12, 0],
    ])
  },
)

leaders(
  '"send initial empty AppendEntries RPCs (heartbeat) to each server; repeat during idle periods to prevent election timeouts"',
  () => {
    const cluster = new Cluster({ size: 3, learners: 1, options: { heartbeatTicks: 3 } })
    const leader = cluster.lead('n1')
    cluster.tick(9)
    for (let i = 1; i <= 90; i++) {
      leader.raft.tick()
      const beats = said(cluster, leader).filter(({ message }) => message.type === 'heartbeat')
      const due = i % 3 === 0 ? ['n2', 'n3', 'n4'] : []
      assert.equal(
        beats.map(({ to }) => to),
        due,
        `tick ${i}`,
      )
      // They are answered, so that it stays the leader.
      for (const name of ['n2', 'n3']) {
        const answer = { type: 'heartbeatResponse', term: leader.raft.term, readRound: 0 } as const
        leader.raft.step(cluster.node(name).peer, answer)
      }
    }
  },
)

leaders(
  '"If last log index ≥ nextIndex for a follower: send AppendEntries RPC with log entries starting at nextIndex"; 5.3: "the leader includes the index and term of the entry in its log that immediately precedes the new entries"',
  () => {
    // One entry an Append, and three Appends in flight.
    const window = { messagesMax: 3, bytesMax: 1 << 20 }
    const cluster = new Cluster({ size: 3, options: { appendBytesMax: 1, window } })
    const leader = cluster.lead('n1')
    const first = leader.raft.log.lastIndex + 1
    for (let i = 0; i < 5; i++) propose(leader, `${i}`)
    const sent = said(cluster, leader)
    for (const name of ['n2', 'n3']) {
      const appends = sent.filter(({ to }) => to === name).map(({ message }) => message)
      assert.is(appends.length, 3)
      for (const [at, message] of appends.entries()) {
        const index = first + at
        const { log } = leader.raft
        const prev = [log.termAt(index - 1) as Term, index - 1] as const
        const expected = append(leader.raft.term, prev, log.slice(index, index, 1), log.commitIndex)
        assert.equal(message, expected)
      }
      assert.is(leader.raft.tracker.progress.get(cluster.node(name).peer)?.nextIndex, first + 3)
    }
  },
)

leaders(
  '"If successful: update nextIndex and matchIndex for follower"; "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry"',
  () => {
    const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2, 3, 3, 3] } })
    cluster.hold = ({ message }) => message.type === 'append'
    const leader = cluster.node('n1')
    leadAtLast(cluster, 'n1')
    const { peer } = cluster.node('n2')
    const progress = leader.raft.tracker.progress.get(peer)
    const { term } = leader.raft
    const next: number[] = []
    // A follower that knows nothing of conflicts by term: it only ever says that it does not match there.
    for (let rejectedIndex = 6; rejectedIndex >= 3; rejectedIndex--) {
      next.push(progress?.nextIndex ?? 0)
      const hint = { hintIndex: rejectedIndex - 1, hintTerm: term }
      const answer = { type: 'appendResponse', term, accepted: false, rejectedIndex } as const
      leader.raft.step(peer, { ...answer, ...hint })
      const retries = said(cluster, leader).filter(({ to }) => to === 'n2')
      assert.equal(
        retries.map(({ message }) => message.type === 'append' && message.prevIndex),
        [rejectedIndex - 1],
      )
    }
    assert.equal(next, [7, 6, 5, 4])
    leader.raft.step(peer, { type: 'appendResponse', term, accepted: true, matchIndex: 7 })
    assert.equal([progress?.matchIndex, progress?.nextIndex], [7, 8])
  },
)

leaders(
  '"If there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term == currentTerm: set commitIndex = N"',
  () => {
    for (const [matches, commitIndex] of [
      [[0, 0, 0, 0], 1],
      [[6, 0, 0, 0], 1],
      [[3, 3, 3, 3], 1],
      [[3, 3, 6, 0], 1],
      [[4, 4, 0, 0], 4],
      [[4, 3, 6, 1], 4],
      [[6, 4, 0, 0], 4],
      [[5, 3, 6, 1], 5],
      [[6, 6, 0, 0], 6],
      [[0, 0, 6, 6], 6],
    ] as const) {
      const cluster = new Cluster({ size: 5, logs: { n1: [1, 2, 3] } })
      cluster.hold = ({ message }) => message.type === 'append'
      const leader = cluster.lead('n1')
      for (let i = 0; i < 2; i++) leader.raft.propose('command', bytesOf('x'))
      cluster.settle()
      assert.equal(termsOf(leader), [1, 2, 3, 4, 4, 4])
      for (const [at, matchIndex] of matches.entries()) {
        const { peer } = cluster.node(`n${at + 2}`)
        leader.raft.step(peer, { type: 'appendResponse', term: 4, accepted: true, matchIndex })
      }
      assert.is(leader.raft.log.commitIndex, commitIndex, `${matches}`)
    }
  },
)

leaders.run()
