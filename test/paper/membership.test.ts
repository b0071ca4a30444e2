/** Changes of the members: section 6 of the paper, and 4.1 to 4.3 of Ongaro's thesis. Each test quotes what it checks. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ask,
  change,
  changeHeld,
  demote,
  entering,
  promote,
  remove,
  shapeOf,
} from '../support/membership.ts'
import { propose } from '../support/paper.ts'
import { Cluster, type ClusterNode, termsOf } from '../support/raft-cluster.ts'

/** Five nodes, of which n4 and n5 are learners; n1 leads. */
function start(): { cluster: Cluster; leader: ClusterNode } {
  const cluster = new Cluster({ size: 3, learners: 2 })
  const leader = cluster.lead('n1')
  cluster.settle()
  return { cluster, leader }
}

/** From {n1 n2 n3} to {n1 n4 n5}. */
const SWAP = [remove(2), remove(3), promote(4), promote(5)] as const

const paper = suite('6 cluster membership changes')

paper(
  '"In Raft the cluster first switches to a transitional configuration we call joint consensus; once the joint consensus has been committed, the system then transitions to the new configuration."',
  () => {
    const { cluster, leader } = start()
    const index = changeHeld(cluster, leader, ...SWAP)
    for (const node of cluster.nodes) assert.is(shapeOf(cluster, node), 'n1 n4 n5|n1 n2 n3|')
    cluster.tick(5)
    assert.is(leader.raft.log.lastIndex, index, 'it is not committed')
    cluster.release()
    cluster.tick(2)
    assert.is(leader.raft.log.commitIndex, index + 1)
    assert.is(leader.raft.log.entryAt(index + 1)?.kind, 'configuration')
    for (const name of ['n1', 'n4', 'n5']) {
      assert.is(shapeOf(cluster, cluster.node(name)), 'n1 n4 n5||')
    }
  },
)

paper('"Log entries are replicated to all servers in both configurations."', () => {
  const { cluster, leader } = start()
  changeHeld(cluster, leader, ...SWAP)
  const index = propose(leader, 'x')
  cluster.settle()
  for (const { disk } of cluster.nodes) assert.is(disk.entries.length, index)
})

paper('"Any server from either configuration may serve as leader."', () => {
  for (const name of ['n1', 'n2', 'n3', 'n4', 'n5']) {
    const { cluster, leader } = start()
    changeHeld(cluster, leader, ...SWAP)
    cluster.crash(leader)
    cluster.restart(leader)
    cluster.hold = ({ message }) => message.type === 'appendResponse'
    cluster.lead(name)
    assert.is(shapeOf(cluster, cluster.node(name)), 'n1 n4 n5|n1 n2 n3|')
  }
})

paper(
  '"Agreement (for elections and entry commitment) requires separate majorities from both the old and new configurations."',
  () => {
    // For every set of nodes that can be reached: by definition, not by what the core computes.
    const both = (up: readonly string[]) =>
      [
        ['n1', 'n2', 'n3'],
        ['n1', 'n4', 'n5'],
      ].every((half) => half.filter((name) => up.includes(name)).length >= 2)
    for (let bits = 0; bits < 16; bits++) {
      const others = ['n2', 'n3', 'n4', 'n5'].filter((_name, at) => (bits >> at) & 1)
      const { cluster, leader } = start()
      const index = changeHeld(cluster, leader, ...SWAP)
      for (const name of ['n2', 'n3', 'n4', 'n5']) {
        if (!others.includes(name)) cluster.isolate(name)
      }
      cluster.release()
      cluster.settle()
      const commits = leader.raft.log.commitIndex >= index
      assert.is(commits, both(['n1', ...others]), `commit with ${others}`)
      for (const candidate of others) {
        const again = start()
        changeHeld(again.cluster, again.leader, ...SWAP)
        again.cluster.crash(again.leader)
        for (const name of ['n2', 'n3', 'n4', 'n5']) {
          if (!others.includes(name)) again.cluster.isolate(name)
        }
        again.cluster.campaign(candidate)
        again.cluster.settle()
        const isElected = again.cluster.node(candidate).raft.role !== 'preCandidate'
        assert.is(isElected && again.cluster.leader !== undefined, both(others), `${others}`)
      }
    }
  },
)

paper(
  '"Once a given server adds the new configuration entry to its log, it uses that configuration for all future decisions (a server always uses the latest configuration in its log, regardless of whether the entry is committed)."',
  () => {
    const { cluster, leader } = start()
    const index = changeHeld(cluster, leader, promote(4))
    for (const node of cluster.nodes) {
      assert.is(shapeOf(cluster, node), 'n1 n2 n3 n4|n1 n2 n3|n5')
      assert.ok(node.raft.log.commitIndex < index)
    }
    // After a restart too: it is in the log, and nowhere else.
    const node = cluster.node('n3')
    cluster.crash(node)
    cluster.restart(node)
    assert.is(shapeOf(cluster, node), 'n1 n2 n3 n4|n1 n2 n3|n5')
  },
)

paper(
  '"If the leader crashes, a new leader may be chosen under either Cold or Cold,new, depending on whether the winning candidate has received Cold,new."',
  () => {
    for (const reached of [true, false]) {
      const { cluster, leader } = start()
      cluster.hold = ({ message }) => message.type === 'append' && message.entries.length > 0
      const index = change(cluster, leader, promote(4))
      const flights = cluster.held.filter(({ to }) => to === cluster.node('n2').peer)
      cluster.held = []
      cluster.hold = null
      if (reached) for (const flight of flights) cluster.deliver(flight)
      cluster.settle()
      cluster.crash(leader)
      const next = cluster.lead('n2')
      const hasIt = next.raft.log.entryAt(index)?.kind === 'configuration'
      assert.is(hasIt, reached)
      assert.is(shapeOf(cluster, next), reached ? 'n1 n2 n3 n4||n5' : 'n1 n2 n3||n4 n5')
    }
  },
)

paper(
  'without Cold,new nobody is elected once it is committed: "the Leader Completeness Property ensures that only servers with the Cold,new log entry can be elected as leader"',
  () => {
    const { cluster, leader } = start()
    cluster.isolate('n3')
    const { lastIndex } = leader.raft.log
    change(cluster, leader, ...SWAP)
    assert.ok(leader.raft.log.commitIndex > lastIndex)
    cluster.crash(leader)
    cluster.heal()
    // n3 is a voter of Cold by its own log, and n2 would make a majority of it.
    cluster.campaign('n3')
    cluster.settle()
    assert.is.not(cluster.node('n3').raft.role, 'leader')
    const next = cluster.elect()
    assert.ok(next.raft.log.lastIndex > lastIndex)
    assert.ok(['n4', 'n5'].includes(next.name), next.name)
  },
)

paper(
  '"the new servers join the cluster as non-voting members (the leader replicates log entries to them, but they are not considered for majorities)"',
  () => {
    const cluster = new Cluster({ size: 3, blanks: 1 })
    const leader = cluster.lead('n1')
    const newcomer = cluster.node('n4')
    const index = change(cluster, leader, entering(newcomer))
    assert.is(shapeOf(cluster, leader), 'n1 n2 n3||n4')
    assert.is(newcomer.disk.entries.length, index)
    cluster.isolate('n2')
    cluster.isolate('n3')
    const next = propose(leader, 'x')
    cluster.settle()
    assert.is(newcomer.disk.entries.length, next)
    assert.is(leader.raft.log.commitIndex, index, 'two disks of four, and one that counts')
  },
)

paper(
  '"the leader steps down (returns to follower state) once it has committed the Cnew log entry"; until then "it replicates log entries but does not count itself in majorities"',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    cluster.cut.add('n3>n1')
    // n1 and n2 are a majority of Cold; of Cnew = {n2 n3} only n2 answers, so that not even Cold,new is committed.
    const before = leader.raft.log.lastIndex
    assert.is(ask(cluster, leader, remove(1)), null)
    assert.is(leader.raft.log.lastIndex, before)
    cluster.cut.clear()
    leader.raft.linkClosed(cluster.node('n3').peer)
    cluster.hold = ({ from, message }) =>
      from === cluster.node('n3').peer && message.type === 'appendResponse'
        ? message.accepted && message.matchIndex > before + 1
        : false
    cluster.tick()
    const { log } = leader.raft
    assert.equal([log.lastIndex, log.commitIndex], [before + 2, before + 1])
    assert.is(shapeOf(cluster, leader), 'n2 n3||')
    assert.is(leader.raft.role, 'leader')
    cluster.tick(5)
    assert.equal([log.commitIndex, leader.raft.role], [before + 1, 'leader'], 'n1 and n2 have it')
    cluster.release()
    cluster.settle()
    assert.is(leader.raft.role, 'follower')
    assert.is(log.commitIndex, before + 2)
    assert.ok(cluster.leader !== undefined && cluster.leader !== leader, 'it has handed over')
  },
)

paper(
  '"removed servers (those not in Cnew) can disrupt the cluster": "if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader, it does not update its term or grant its vote"',
  () => {
    const cluster = new Cluster({ size: 4 })
    const leader = cluster.lead('n1')
    cluster.isolate('n4')
    change(cluster, leader, remove(4))
    const { term } = leader.raft
    cluster.tick(40)
    cluster.heal()
    const asked = { type: 'requestVote', term: term + 9, lastIndex: 99, lastTerm: 99 } as const
    for (const name of ['n1', 'n2', 'n3']) {
      cluster.node(name).raft.step(cluster.node('n4').peer, { ...asked, transfer: false })
    }
    cluster.tick(200)
    assert.is(cluster.leader, leader)
    assert.equal(
      cluster.nodes.map(({ raft }) => raft.term),
      [term, term, term, term],
    )
  },
)

const thesis = suite('4.1 to 4.3 of the thesis')

thesis(
  '4.1: "a log entry for a configuration change can be removed (if leadership changes); in this case, a server must be prepared to fall back to the previous configuration in its log"',
  () => {
    const { cluster, leader } = start()
    for (const name of ['n2', 'n3']) cluster.cut.add(`n1>${name}`)
    // An addition asks nobody first. The learners take it, n2 and n3 never hear of it.
    const index = change(cluster, leader, remove(5))
    assert.is(shapeOf(cluster, cluster.node('n4')), 'n1 n2 n3||n4')
    cluster.isolate('n1')
    cluster.lead('n2')
    assert.is(termsOf(cluster.node('n4'))[index - 1], cluster.node('n2').raft.term)
    assert.is(shapeOf(cluster, cluster.node('n4')), 'n1 n2 n3||n4 n5')
    cluster.heal()
    cluster.tick(5)
    assert.is(shapeOf(cluster, leader), 'n1 n2 n3||n4 n5')
  },
)

thesis(
  '4.1: "A server also grants its vote to a candidate that is not part of the server\'s latest configuration (if the candidate has a sufficiently up-to-date log and a current term)"',
  () => {
    const { cluster, leader } = start()
    cluster.crash(leader)
    const stranger = 'f'.repeat(64)
    for (const name of ['n2', 'n4']) {
      const node = cluster.node(name)
      for (let i = 0; i < 10; i++) node.raft.tick()
      const { lastIndex, lastTerm } = node.raft.log
      const term = node.raft.term + 5
      const asked = { type: 'requestVote', term, lastIndex, lastTerm, transfer: false } as const
      node.raft.step(stranger, asked)
      assert.is(node.raft.vote, stranger, `${name}, voter or learner`)
    }
  },
)

thesis(
  '4.1: the 2015 correction: a leader changes nothing before an entry of its own term is committed',
  () => {
    const cluster = new Cluster({ size: 3, learners: 1 })
    cluster.hold = ({ message }) => message.type === 'appendResponse'
    const leader = cluster.lead('n1')
    const refused = ask(cluster, leader, promote(4))
    assert.is(refused?.ok === false && refused.code, 'busy')
    cluster.release()
    cluster.settle()
    change(cluster, leader, promote(4))
  },
)

thesis(
  '4.2.1: a newcomer catches up before it counts: one that is far behind, or was never heard, is not promoted',
  () => {
    const cluster = new Cluster({ size: 3, blanks: 1 })
    const leader = cluster.lead('n1')
    cluster.isolate('n4')
    change(cluster, leader, entering(cluster.node('n4')))
    const unheard = ask(cluster, leader, promote(4))
    assert.is(unheard?.ok === false && unheard.code, 'unsafe')
    cluster.heal()
    cluster.tick(6)
    cluster.isolate('n4')
    for (let i = 0; i < 1001; i++) propose(leader, 'x')
    cluster.settle()
    const behind = ask(cluster, leader, promote(4))
    assert.is(behind?.ok === false && behind.code, 'unsafe')
    assert.match(behind?.ok === false ? behind.message : '', /1001 entries behind/)
    cluster.heal()
    leader.raft.linkClosed(cluster.node('n4').peer)
    cluster.tick(3)
    change(cluster, leader, promote(4))
    assert.is(shapeOf(cluster, leader), 'n1 n2 n3 n4||')
  },
)

thesis(
  '4.2.2: "a server that is not part of its own latest configuration should still start new elections, as it might still be needed until the Cnew entry is committed"; "It does not count its own vote in elections"',
  () => {
    for (const leaving of [remove(1), demote(1)]) {
      const cluster = new Cluster({ size: 2 })
      const leader = cluster.lead('n1')
      cluster.settle()
      const other = cluster.node('n2')
      // Cnew = {n2} is on the disk of n1 and on no other.
      const { lastIndex } = leader.raft.log
      cluster.hold = ({ message }) =>
        message.type === 'append' &&
        message.prevIndex === lastIndex + 1 &&
        message.entries.length > 0
      change(cluster, leader, leaving)
      assert.equal(
        [leader.disk.entries.length, other.disk.entries.length - lastIndex],
        [lastIndex + 2, 1],
      )
      cluster.crash(leader)
      cluster.held = []
      cluster.hold = null
      cluster.restart(leader)
      cluster.campaign('n2')
      cluster.settle()
      assert.is(other.raft.role, 'follower', 'the log of n1 is longer')
      // Its own vote elects nobody.
      cluster.isolate('n1')
      cluster.campaign('n1')
      cluster.settle()
      assert.is(leader.raft.role, 'preCandidate')
      cluster.heal()
      const next = cluster.elect(400)
      cluster.tick(30)
      assert.is(cluster.leader, other, next.name)
      assert.is(shapeOf(cluster, other).startsWith('n2||'), true)
      // Committed: it is not needed any more, and does not campaign.
      cluster.crash(other)
      for (let i = 0; i < 100; i++) leader.raft.tick()
      assert.is(leader.raft.role, 'follower')
    }
  },
)

thesis(
  '4.3: several members change in one step, and the number of steps is two whatever it is',
  () => {
    const { cluster, leader } = start()
    const index = change(cluster, leader, ...SWAP)
    assert.is(leader.raft.log.lastIndex, index + 1)
    assert.is(shapeOf(cluster, leader), 'n1 n4 n5||')
    const again = new Cluster({ size: 1, learners: 4 })
    const alone = again.lead('n1')
    again.settle()
    change(again, alone, promote(2), promote(3), promote(4), promote(5))
    assert.is(shapeOf(again, alone), 'n1 n2 n3 n4 n5||')
    change(again, alone, remove(1), remove(2), demote(3), demote(4))
    again.tick(20)
    assert.is(again.leader?.name, 'n5')
    assert.is(shapeOf(again, again.node('n5')), 'n5||n3 n4')
  },
)

paper.run()
thesis.run()
