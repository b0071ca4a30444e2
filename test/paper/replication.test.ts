/** The extended Raft paper on the log: sections 5.3 to 5.5 with figures 3, 7 and 8. Each test quotes what it checks. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Append } from '../../node/raft/messages.ts'
import { Random } from '../../node/raft/random.ts'
import type { Entry, Term } from '../../node/raft/types.ts'
import {
  bytesOf,
  Cluster,
  type ClusterNode,
  type Flight,
  termsOf,
} from '../support/raft-cluster.ts'

function propose(node: ClusterNode, text: string): number {
  const result = node.raft.propose('command', bytesOf(text))
  assert.ok(result.ok)
  return result.ok ? result.id.index : 0
}

function others(cluster: Cluster, node: ClusterNode): ClusterNode[] {
  return cluster.nodes.filter((other) => other !== node)
}

const replication = suite('5.3 log replication')

replication(
  '"The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of the other servers to replicate the entry."',
  () => {
    const cluster = new Cluster({ size: 5 })
    const leader = cluster.lead('n1')
    const index = propose(leader, 'x')
    assert.is(leader.raft.log.lastIndex, index)
    cluster.flights = []
    cluster.drain(leader)
    const appends = cluster.flights.filter(({ message }) => message.type === 'append')
    assert.equal(
      appends.map(({ to }) => to).sort(),
      others(cluster, leader).map(({ peer }) => peer),
    )
  },
)

replication(
  '"A log entry is committed once the leader that created the entry has replicated it on a majority of the servers"; "When the entry has been safely replicated, the leader applies the entry to its state machine"',
  () => {
    const cluster = new Cluster({ size: 5 })
    const leader = cluster.lead('n1')
    for (const name of ['n3', 'n4', 'n5']) cluster.cut.add(`n1>${name}`)
    const index = propose(leader, 'x')
    cluster.settle()
    assert.ok(leader.raft.log.commitIndex < index, 'two of five')
    cluster.cut.delete('n1>n3')
    cluster.tick(8)
    assert.is(leader.raft.log.commitIndex, index)
    assert.is(leader.applied.at(-1)?.index, index)
  },
)

replication(
  '"Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in log order)."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    for (let i = 0; i < 300; i++) propose(leader, `${i}`)
    cluster.settle()
    for (const node of cluster.nodes) {
      assert.equal(
        node.applied.map(({ index }) => index),
        Array.from({ length: 302 }, (_, i) => i + 1),
        node.name,
      )
    }
  },
)

replication(
  '"If two entries in different logs have the same index and term, then the logs are identical in all preceding entries": "If the follower does not find an entry in its log with the same index and term, then it refuses the new entries."',
  () => {
    for (const [prevIndex, prevTerm, accepted] of [
      [3, 2, true],
      [2, 1, true],
      [3, 1, false],
      [3, 3, false],
      [4, 2, false],
      [9, 2, false],
    ] as const) {
      const cluster = new Cluster({ size: 3, logs: { n1: [1, 1, 2] } })
      const node = cluster.node('n1')
      const entry: Entry = { term: 5, index: prevIndex + 1, kind: 'noop', payload: bytesOf('') }
      const append: Append = {
        type: 'append',
        term: 5,
        prevIndex,
        prevTerm,
        entries: [entry],
        commit: 0,
      }
      node.raft.step(cluster.node('n2').peer, append)
      cluster.drain(node)
      cluster.finishSave(node)
      cluster.drain(node)
      const answers = cluster.flights.map(({ message }) => message)
      const [answer] = answers.filter(({ type }) => type === 'appendResponse')
      assert.is(
        answer?.type === 'appendResponse' && answer.accepted,
        accepted,
        `${prevIndex}/${prevTerm}`,
      )
      assert.is(node.raft.log.matches(entry), accepted)
      if (!accepted) assert.equal(termsOf(node), [1, 1, 2])
    }
  },
)

replication(
  'Figure 2: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)"',
  () => {
    // What lies behind the last new entry was not compared: it may be an old leader's.
    for (const [prevIndex, prevTerm, count, commit, commitIndex] of [
      [2, 1, 0, 4, 2],
      [2, 1, 0, 1, 1],
      [2, 1, 1, 4, 3],
      [4, 2, 0, 4, 4],
      [4, 2, 0, 99, 4],
    ] as const) {
      const cluster = new Cluster({ size: 3, logs: { n1: [1, 1, 2, 2] } })
      const node = cluster.node('n1')
      const entries = node.disk.entries.slice(prevIndex, prevIndex + count)
      const append: Append = { type: 'append', term: 5, prevIndex, prevTerm, entries, commit }
      node.raft.step(cluster.node('n2').peer, append)
      assert.is(node.raft.log.commitIndex, commitIndex, `${prevIndex} + ${count}, ${commit}`)
      assert.equal(termsOf(node), [1, 1, 2, 2])
    }
  },
)

const FIGURE_7: Readonly<Record<string, readonly Term[]>> = {
  n1: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
  n2: [1, 1, 1, 4, 4, 5, 5, 6, 6],
  n3: [1, 1, 1, 4],
  n4: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
  n5: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
  n6: [1, 1, 1, 4, 4, 4, 4],
  n7: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}

replication(
  'Figure 7: "conflicting entries in follower logs will be overwritten with entries from the leader\'s log."',
  () => {
    const cluster = new Cluster({ size: 7, logs: FIGURE_7 })
    const leader = cluster.node('n1')
    const appends = new Map<string, number>()
    cluster.hold = ({ to, message }) => {
      if (message.type === 'append') appends.set(to, (appends.get(to) ?? 0) + 1)
      return false
    }
    // The first attempt only learns of term 7, as in the figure; the second wins term 8.
    for (let i = 0; i < 2 && leader.raft.role !== 'leader'; i++) {
      cluster.campaign('n1')
      cluster.settle()
    }
    assert.is(leader.raft.role, 'leader')
    assert.is(leader.raft.term, 8)
    for (const node of cluster.nodes) {
      assert.equal(termsOf(node), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8], node.name)
      assert.is(node.raft.log.commitIndex, 11)
      assert.equal(
        node.disk.entries.map(({ term }) => term),
        termsOf(node),
      )
    }
    for (const [peer, count] of appends) assert.ok(count <= 5, `${count} Appends to ${peer}`)
  },
)

replication(
  '"one AppendEntries RPC will be required for each term with conflicting entries, rather than one RPC per entry."',
  () => {
    const long = [1, ...new Array(300).fill(2), ...new Array(300).fill(3)]
    const cluster = new Cluster({
      size: 3,
      logs: { n1: [1, 4], n2: [1, 4], n3: long },
    })
    let refused = 0
    cluster.hold = ({ message }) => {
      if (message.type === 'appendResponse' && !message.accepted) refused++
      return false
    }
    const leader = cluster.lead('n1')
    cluster.tick(3)
    assert.equal(termsOf(cluster.node('n3')), termsOf(leader))
    assert.ok(refused <= 3, `${refused} refusals`)
  },
)

replication(
  '"If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs indefinitely"',
  () => {
    for (const lost of ['append', 'appendResponse'] as const) {
      const cluster = new Cluster({
        size: 3,
        options: { window: { messagesMax: 2, bytesMax: 1000 } },
      })
      const leader = cluster.lead('n1')
      // The window fills with what is lost.
      cluster.hold = ({ message }) => message.type === lost
      for (let i = 0; i < 20; i++) {
        propose(leader, `${i}`.padEnd(100))
        cluster.tick()
      }
      cluster.held = []
      cluster.hold = null
      cluster.tick(20)
      for (const node of cluster.nodes) {
        assert.is(
          node.raft.log.commitIndex,
          leader.raft.log.lastIndex,
          `${node.name}, lost ${lost}`,
        )
      }
      assert.is(cluster.leader, leader)
    }
  },
)

replication(
  '"A leader never overwrites or deletes entries in its own log (the Leader Append-Only Property in Figure 3)."',
  () => {
    const cluster = new Cluster({ size: 5, logs: FIGURE_7 })
    const leader = cluster.node('n1')
    cluster.isolate('n5')
    cluster.lead('n1')
    const before = termsOf(leader)
    const random = new Random(7)
    for (let i = 0; i < 500; i++) {
      const from = cluster.nodes[1 + random.below(4)]?.peer as string
      const { term } = leader.raft
      const index = random.below(20)
      if (random.below(2) === 0) {
        const hint = { hintIndex: random.below(20), hintTerm: random.below(9) }
        leader.raft.step(from, {
          type: 'appendResponse',
          term,
          accepted: false,
          rejectedIndex: index,
          ...hint,
        })
      } else if (index < 5) {
        leader.raft.step(from, { type: 'appendResponse', term, accepted: true, matchIndex: index })
      }
      if (i % 50 === 0) propose(leader, `${i}`)
      cluster.settle()
      assert.equal(termsOf(leader).slice(0, before.length), before)
    }
    assert.is(leader.raft.role, 'leader')
  },
)

const figure8 = suite('5.4.2 figure 8')

/** Plays figure 8 up to (c): n1 leads term 4, and its entry of term 2 stands on three of five. */
function playFigure8(): { cluster: Cluster; first: ClusterNode; fifth: ClusterNode } {
  const cluster = new Cluster({ size: 5 })
  const [first, fifth] = [cluster.node('n1'), cluster.node('n5')]
  const toOnly = (allowed: (flight: Flight) => boolean) => {
    cluster.held = []
    cluster.hold = (flight) => flight.message.type === 'append' && !allowed(flight)
  }
  // (a) n1 leads term 2 and reaches n2 alone.
  toOnly(({ to }) => to === cluster.node('n2').peer)
  cluster.lead('n1')
  assert.equal(
    cluster.nodes.map((node) => termsOf(node).at(-1)),
    [2, 2, 1, 1, 1],
  )
  // (b) n1 crashes, n5 leads term 3 with the votes of n3 and n4, and reaches nobody.
  cluster.crash(first)
  cluster.isolate('n2')
  toOnly(() => false)
  cluster.lead('n5')
  assert.equal(termsOf(fifth), [1, 3])
  // (c) n5 crashes, n1 leads term 4; what it sends of term 2 arrives, its entries of term 4 do not.
  cluster.crash(fifth)
  cluster.heal()
  cluster.restart(first)
  cluster.held = []
  cluster.hold = ({ from, to, message }) => {
    if (message.type !== 'append') return false
    const entries = message.entries.filter(({ term }) => term < 4)
    cluster.nodes.find(({ peer }) => peer === to)?.raft.step(from, { ...message, entries })
    return true
  }
  for (let i = 0; i < 3 && first.raft.role !== 'leader'; i++) {
    cluster.campaign('n1')
    cluster.settle()
  }
  cluster.tick(3)
  assert.is(first.raft.role, 'leader')
  assert.is(first.raft.term, 4)
  assert.equal(
    cluster.nodes.slice(0, 4).map((node) => termsOf(node)[1]),
    [2, 2, 2, 2],
  )
  return { cluster, first, fifth }
}

figure8(
  '"Raft never commits log entries from previous terms by counting replicas. Only log entries from the leader\'s current term are committed by counting replicas"',
  () => {
    const { cluster, first, fifth } = playFigure8()
    assert.is(
      first.raft.log.commitIndex,
      1,
      'the entry of term 2 is on a majority, and not committed',
    )
    // (d) n1 crashes; n5 can still be elected, and replaces the entry everywhere.
    cluster.crash(first)
    cluster.hold = null
    cluster.restart(fifth)
    for (let i = 0; i < 3 && fifth.raft.role !== 'leader'; i++) {
      cluster.campaign('n5')
      cluster.settle()
    }
    assert.is(fifth.raft.role, 'leader')
    cluster.restart(first)
    cluster.tick(10)
    for (const node of cluster.nodes) {
      assert.is(termsOf(node)[1], 3)
      assert.is(node.applied[1]?.term, 3)
    }
  },
)

figure8(
  '"once an entry from the current term has been committed in this way, then all prior entries are committed indirectly because of the Log Matching Property."',
  () => {
    const { cluster, first, fifth } = playFigure8()
    // (e) the entry of term 4 reaches a majority: both are committed, and n5 can not win any more.
    cluster.hold = null
    cluster.tick(20)
    assert.is(first.raft.log.commitIndex, 3)
    cluster.crash(first)
    cluster.restart(fifth)
    for (let i = 0; i < 10; i++) {
      cluster.campaign('n5')
      cluster.settle()
      assert.is.not(fifth.raft.role, 'leader')
    }
    const next = cluster.elect()
    assert.equal(termsOf(next).slice(0, 3), [1, 2, 4])
  },
)

const crashes = suite('5.5 crashes')

crashes(
  '"Raft RPCs are idempotent": "if a follower receives an AppendEntries request that includes log entries already present in its log, it ignores those entries in the new request."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const seen: Flight[] = []
    cluster.hold = (flight) => {
      seen.push(flight)
      return false
    }
    const leader = cluster.lead('n1')
    for (let i = 0; i < 20; i++) {
      propose(leader, `${i}`)
      cluster.tick()
    }
    const before = cluster.nodes.map((node) => [termsOf(node), node.raft.log.commitIndex])
    // Everything that was ever said is said again, and once more backwards.
    cluster.hold = null
    for (const flight of [...seen, ...seen.reverse()]) {
      cluster.deliver(flight)
      for (const node of cluster.nodes) {
        cluster.drain(node)
        assert.is(node.raft.log.lastIndex, before[0]?.[0] ? (before[0][0] as Term[]).length : 0)
      }
    }
    assert.equal(
      cluster.nodes.map((node) => [termsOf(node), node.raft.log.commitIndex]),
      before,
    )
    assert.is(leader.raft.role, 'leader')
  },
)

crashes(
  '"if a server crashes after completing an RPC but before responding, then it will receive the same RPC again after it restarts"',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    cluster.isolate('n3')
    const follower = cluster.node('n2')
    const index = propose(leader, 'x')
    cluster.hold = ({ from, message }) =>
      from === follower.peer && message.type === 'appendResponse'
    cluster.settle()
    assert.is(follower.disk.entries.length, index, 'saved, and the answer is lost')
    assert.ok(leader.raft.log.commitIndex < index)
    cluster.crash(follower)
    cluster.held = []
    cluster.hold = null
    cluster.restart(follower)
    cluster.tick(8)
    assert.is(leader.raft.log.commitIndex, index)
    assert.is(follower.disk.entries.length, index)
  },
)

crashes('a cluster that is stopped as a whole goes on from its disks', () => {
  const cluster = new Cluster({ size: 3 })
  for (let round = 1; round <= 3; round++) {
    const leader = cluster.elect()
    propose(leader, `round ${round}`)
    cluster.settle()
    for (const node of cluster.nodes) cluster.crash(node)
    cluster.flights = []
    for (const node of cluster.nodes) cluster.restart(node)
  }
  const leader = cluster.elect()
  cluster.tick(2)
  const texts = leader.applied.filter(({ kind }) => kind === 'command')
  assert.equal(
    texts.map(({ payload }) => new TextDecoder().decode(payload)),
    ['round 1', 'round 2', 'round 3'],
  )
})

replication.run()
figure8.run()
crashes.run()
