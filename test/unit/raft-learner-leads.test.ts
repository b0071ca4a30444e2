/**
 * A learner may be the only one who can lead: it has the newest log, and whoever else may campaign counts on its vote (hell, seed
 * 2384723528). It leads without counting itself, makes its log safe, and hands over.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../support/raft-cluster.ts'

const learner = suite('a learner that is needed')

/** n3 led term 2 and told the learner alone of it before it died; n1 and n2 have what was before. */
function bereaved(): Cluster {
  const cluster = new Cluster({
    size: 3,
    learners: 1,
    seed: 1,
    logs: { n1: [1, 1], n2: [1, 1], n3: [1, 1, 2], n4: [1, 1, 2] },
  })
  cluster.crash(cluster.node('n3'))
  return cluster
}

/** n2 believes that n4 votes: its configuration says so, and no other has it. */
function askLearner(cluster: Cluster): void {
  const n4 = cluster.node('n4')
  const { term } = n4.raft
  n4.raft.step(cluster.node('n2').peer, { type: 'preVote', term, lastIndex: 2, lastTerm: 1 })
}

learner('without being asked it waits for ever', () => {
  const cluster = bereaved()
  for (const name of ['n1', 'n2']) cluster.isolate(name)
  cluster.tick(200)
  assert.is(cluster.node('n4').raft.role, 'follower')
})

learner('asked by somebody whose log is behind, it leads until its log is safe', () => {
  const cluster = bereaved()
  askLearner(cluster)
  const n4 = cluster.node('n4')
  let led = false
  for (let tick = 0; tick < 400; tick++) {
    cluster.tick()
    cluster.settle()
    if (n4.raft.role === 'leader' || n4.raft.term > 2) led = true
  }
  assert.ok(led, 'it stood for election')
  for (const name of ['n1', 'n2', 'n4']) {
    const { log } = cluster.node(name).raft
    assert.is(log.termAt(3), 2, 'the newest log was kept')
    assert.ok(log.commitIndex >= 3)
  }
  const leader = ['n1', 'n2'].find((name) => cluster.node(name).raft.role === 'leader')
  assert.ok(leader !== undefined, 'a voter leads in the end')
})

learner.run()
