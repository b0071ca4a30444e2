/** A leader with nothing to write speaks half as often, never so seldom that a follower could miss it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bytesOf, Cluster, type ClusterNode } from '../support/raft-cluster.ts'

const test = suite('a quiet leader')

/** Lets the cluster run and counts the ticks in which the leader sent heartbeats. */
function beats(cluster: Cluster, leader: ClusterNode, ticks: number): number {
  let count = 0
  for (let i = 0; i < ticks; i++) {
    for (const node of cluster.nodes) node.raft.tick()
    cluster.drain(leader)
    const sent = cluster.flights.filter((flight) => flight.from === leader.peer)
    if (sent.some(({ message }) => message.type === 'heartbeat')) count++
    cluster.settle()
  }
  return count
}

test('leaves out every second heartbeat, and none after a write', () => {
  const cluster = new Cluster({ size: 3, seed: 11 })
  const leader = cluster.elect()
  cluster.tick(10)
  assert.is(beats(cluster, leader, 8), 4, 'quiet for an election timeout')
  leader.raft.propose('command', bytesOf('a write'))
  cluster.settle()
  assert.is(beats(cluster, leader, 8), 8, 'a write ends the quiet')
})

test('keeps every heartbeat when two of them would not leave four in an election timeout', () => {
  const cluster = new Cluster({ size: 3, seed: 12, options: { electionTicks: 7 } })
  const leader = cluster.elect()
  cluster.tick(14)
  assert.is(beats(cluster, leader, 6), 6)
})

test('stays the leader, and nobody campaigns, for as long as it is quiet', () => {
  const cluster = new Cluster({ size: 5, seed: 13 })
  const leader = cluster.elect()
  const { term } = leader.raft
  cluster.tick(500)
  assert.is(cluster.leader, leader)
  for (const node of cluster.nodes) assert.is(node.raft.term, term)
})

test.run()
