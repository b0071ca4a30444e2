/**
 * Fast failover: what a closed link may start, and what it must never do. The rules are in HAZARDS ("Fast failover"); the traces
 * `fast-*.txt` in test/interaction show them message by message.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster, type ClusterNode } from '../support/raft-cluster.ts'

const failover = suite('HAZARDS, fast failover')

function others(cluster: Cluster, node: ClusterNode): ClusterNode[] {
  return cluster.nodes.filter((one) => one !== node)
}

/** Its process ends, and those in `seeing` see their links to it close. */
function die(cluster: Cluster, node: ClusterNode, seeing: readonly ClusterNode[]): void {
  cluster.crash(node)
  for (const one of seeing) one.raft.linkClosed(node.peer)
}

/** The wake-ups come, one node after the other, until nobody asks for one or somebody leads. */
function wakeAll(cluster: Cluster): void {
  for (let round = 0; round < 20 && cluster.leader === undefined; round++) {
    for (const node of cluster.nodes) {
      if (!node.up) continue
      node.raft.wake()
      cluster.settle()
    }
  }
}

failover('whoever loses the last link to the leader asks at once: no tick passes', () => {
  for (const size of [3, 5]) {
    for (let seed = 1; seed <= 50; seed++) {
      const cluster = new Cluster({ size, seed })
      const old = cluster.elect()
      die(cluster, old, others(cluster, old))
      wakeAll(cluster)
      assert.ok(cluster.leader !== undefined && cluster.leader.raft.term > old.raft.term)
    }
  }
})

failover(
  'dedupe, carrier switch or queue cut looks like death: only the last link to the present leader, not closed by this node, is evidence',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    const [one, other] = others(cluster, leader) as [ClusterNode, ClusterNode]
    for (const close of [
      () => one.raft.linkClosed(leader.peer, true),
      () => one.raft.linkClosed(other.peer),
      () => leader.raft.linkClosed(one.peer),
    ]) {
      close()
      assert.equal([one.raft.leader, one.raft.role], [leader.peer, 'follower'])
      assert.is(one.raft.ready().wakeInMs, null)
    }
    one.raft.linkClosed(leader.peer)
    assert.is(one.raft.leader, null)
  },
)

failover('a flapping link gives one fast pre-vote per leader, term and second', () => {
  const cluster = new Cluster({ size: 3 })
  const leader = cluster.lead('n1')
  const node = cluster.node('n3')
  let asked = 0
  cluster.hold = ({ from, message }) => {
    if (from === node.peer && message.type === 'preVote') asked++
    return false
  }
  // Ten ticks of 100 ms: it breaks and is there again in each, and the wake-ups that are due within 10 ms come.
  for (let tick = 0; tick < 10; tick++) {
    node.raft.linkClosed(leader.peer)
    const wakeInMs = node.raft.ready().wakeInMs ?? Number.POSITIVE_INFINITY
    if (wakeInMs <= 10) node.raft.wake()
    cluster.settle()
    cluster.tick(1)
  }
  assert.is(asked, 2, 'one question, to two nodes')
  assert.is(cluster.leader, leader)
})

failover(
  'two changes of leader within ten seconds: the fast path rests for five election timeouts',
  () => {
    const cluster = new Cluster({ size: 3 })
    cluster.lead('n1')
    cluster.lead('n2')
    const last = cluster.lead('n3')
    const rest = others(cluster, last)
    die(cluster, last, rest)
    wakeAll(cluster)
    assert.is(cluster.leader, undefined)
    for (const { raft } of rest) assert.equal([raft.role, raft.leader], ['follower', null])
    // The election timeout is as good as ever.
    cluster.tick(20)
    assert.ok(cluster.leader)
  },
)

failover(
  'a peer has not seen the FIN yet and refuses: each survivor makes an attempt of its own, and the last one finds everybody free',
  () => {
    for (const size of [3, 5]) {
      const cluster = new Cluster({ size })
      const old = cluster.elect()
      const survivors = others(cluster, old)
      const last = survivors.at(-1) as ClusterNode
      cluster.crash(old)
      // One after the other, each with its attempt behind it before the next one sees anything.
      for (const one of survivors) {
        one.raft.linkClosed(old.peer)
        for (let i = 0; i < 3; i++) {
          one.raft.wake()
          cluster.settle()
        }
      }
      wakeAll(cluster)
      assert.ok(cluster.leader !== undefined && last.raft.leader === cluster.leader.peer)
    }
  },
)

failover(
  'a leader without quorum still heartbeats one node: on stepping down it resigns, which counts as a closed link',
  () => {
    const cluster = new Cluster({ size: 3 })
    const old = cluster.lead('n1')
    cluster.cut.add('n2>n1')
    cluster.cut.add('n3>n1')
    while (old.raft.role === 'leader') cluster.tick(1)
    assert.equal([cluster.node('n2').raft.leader, cluster.node('n3').raft.leader], [null, null])
    wakeAll(cluster)
    assert.ok(cluster.leader !== undefined && cluster.leader !== old)
  },
)

failover('rule d: who refuses because its own log is newer asks at once itself', () => {
  const cluster = new Cluster({ size: 3, logs: { n1: [1], n2: [1, 1, 1], n3: [1] } })
  // n3 can win with n1 alone; but n2 is asked too, and takes the matter into its own hands.
  cluster.cut.add('n3>n1')
  cluster.campaign('n3')
  cluster.settle()
  cluster.node('n2').raft.wake()
  cluster.settle()
  assert.is(cluster.leader, cluster.node('n2'))
})

/** Every set of links among the nodes, as names of the ends. */
function* linkGraphs(size: number): Generator<[number, number][]> {
  const pairs: [number, number][] = []
  for (let a = 1; a <= size; a++) for (let b = a + 1; b <= size; b++) pairs.push([a, b])
  for (let set = 0; set < 2 ** pairs.length; set++) yield pairs.filter((_, i) => (set >> i) & 1)
}

failover(
  'a leader with a quorum of links is never deposed: every graph of links of 3, 4 and 5 nodes',
  () => {
    let graphs = 0
    for (const size of [3, 4, 5]) {
      for (const cutLinks of linkGraphs(size)) {
        const linked = size - cutLinks.filter(([a]) => a === 1).length
        if (linked < Math.floor(size / 2) + 1) continue
        graphs++
        const cluster = new Cluster({ size, seed: graphs })
        const leader = cluster.lead('n1')
        for (const [a, b] of cutLinks) {
          cluster.cut.add(`n${a}>n${b}`)
          cluster.cut.add(`n${b}>n${a}`)
          cluster.node(`n${a}`).raft.linkClosed(cluster.node(`n${b}`).peer)
          cluster.node(`n${b}`).raft.linkClosed(cluster.node(`n${a}`).peer)
        }
        for (let tick = 0; tick < 45; tick++) {
          for (const { raft } of cluster.nodes) if (cluster.random.below(2) === 0) raft.wake()
          cluster.tick(1)
        }
        assert.equal([leader.raft.role, leader.raft.term], ['leader', 2], JSON.stringify(cutLinks))
      }
    }
    assert.ok(graphs > 600, `${graphs} graphs`)
  },
)

failover.run()
