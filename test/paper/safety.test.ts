/**
 * Figure 3 of the extended Raft paper: five properties, each watched in the same small worlds, where messages are lost, repeated and
 * reordered, disks are slow and nodes crash. Below them what sections 5.3 to 5.5 say that the tests of replication do not quote.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Entry } from '../../node/raft/types.ts'
import { append, entriesOf, leadAtLast, propose, said, saidWhenSaved } from '../support/paper.ts'
import { bytesOf, Cluster, type ClusterNode, termsOf, textOf } from '../support/raft-cluster.ts'

function textOfEntry({ term, index, kind, payload }: Entry): string {
  return `${term}/${index}/${kind}/${kind === 'command' ? textOf(payload) : ''}`
}

/** The log of a node as it stands in memory, as text. */
function logOf(node: ClusterNode): string[] {
  const { log } = node.raft
  return log.slice(1, log.lastIndex, Number.POSITIVE_INFINITY).map(textOfEntry)
}

/** What has to hold after every step; made anew for every world. */
type Property = (cluster: Cluster) => { check: () => void; seen: () => number }

/** One random step of one world. Elections are frequent, so that terms and conflicts are. */
function step(cluster: Cluster, nextText: () => string): void {
  const { nodes, flights, random } = cluster
  const node = nodes[random.below(nodes.length)] as ClusterNode
  const dice = random.below(100)
  if (dice < 50) {
    const [flight] = flights.splice(random.below(flights.length || 1), 1)
    if (flight === undefined) return
    if (random.below(12) === 0) flights.push(flight)
    if (random.below(12) !== 0) cluster.deliver(flight)
  } else if (dice < 70) cluster.finishSave(node)
  else if (dice < 80) node.raft.propose('command', bytesOf(nextText()))
  else if (dice < 98) for (let i = random.below(4); i > 0; i--) node.raft.tick()
  else {
    cluster.crash(node)
    cluster.restart(node)
  }
  cluster.drain(node)
  if (flights.length > 60) flights.splice(0, 20)
}

/** Runs worlds of three and of five nodes; returns how much the property has seen. */
function holds(property: Property): number {
  let seen = 0
  for (let seed = 1; seed <= 100; seed++) {
    // Small batches show what large ones hide (figure 8).
    const small = seed % 2 === 0 ? { appendBytesMax: 1, saveBytesMax: 1 } : {}
    const options = { electionTicks: 4, ...small }
    const cluster = new Cluster({ size: seed % 3 === 0 ? 5 : 3, seed, options })
    const watched = property(cluster)
    let proposed = 0
    for (let i = 0; i < 1500; i++) {
      step(cluster, () => `${proposed++}`)
      watched.check()
    }
    seen += watched.seen()
  }
  return seen
}

const figure3 = suite('figure 3')

figure3('Election Safety: "at most one leader can be elected in a given term."', () => {
  const elections = holds((cluster) => {
    const leaderOf = new Map<number, ClusterNode>()
    return {
      check() {
        for (const node of cluster.leaders) {
          const { term } = node.raft
          assert.is(leaderOf.get(term) ?? node, node, `term ${term}`)
          leaderOf.set(term, node)
        }
      },
      seen: () => leaderOf.size,
    }
  })
  assert.ok(elections > 300, `${elections} elections`)
})

figure3(
  'Election Safety, where two stand for election in one term and crash between any two steps: "at most one candidate can win the election for a particular term"',
  () => {
    let won = 0
    for (let seed = 1; seed <= 400; seed++) {
      const cluster = new Cluster({ size: 3 + (seed % 3), seed })
      const { nodes, random } = cluster
      cluster.hold = ({ message }) => message.type === 'requestVote'
      for (const node of nodes) node.slowDisk = true
      for (const { name } of nodes.slice(0, 2)) cluster.candidate(name)
      cluster.settle()
      cluster.hold = null
      const flights = cluster.held
      assert.equal(
        nodes.slice(0, 2).map(({ raft }) => [raft.role, raft.term]),
        new Array(2).fill(['candidate', 2]),
      )
      const leaders = new Set<ClusterNode>()
      for (let i = 0; i < 80; i++) {
        const node = nodes[random.below(nodes.length)] as ClusterNode
        const dice = random.below(20)
        const flight = flights[random.below(flights.length)]
        // Messages stay in the air: they may come twice, and long after a crash.
        if (dice < 12 && flight !== undefined) cluster.deliver(flight)
        else if (dice < 18) cluster.finishSave(node)
        else {
          cluster.crash(node)
          cluster.restart(node)
        }
        for (const one of nodes) {
          cluster.drain(one)
          if (one.raft.role === 'leader' && one.raft.term === 2) leaders.add(one)
        }
        flights.push(...cluster.flights.splice(0).filter(({ message }) => 'granted' in message))
      }
      assert.ok(leaders.size <= 1, `seed ${seed}: ${[...leaders].map(({ name }) => name)}`)
      won += leaders.size
    }
    assert.ok(won > 50, `${won} elections of 400 were won`)
  },
)

figure3(
  'Leader Append-Only: "a leader never overwrites or deletes entries in its log; it only appends new entries."',
  () => {
    const appended = holds((cluster) => {
      const before = new Map<ClusterNode, { term: number; log: string[] }>()
      let count = 0
      return {
        check() {
          for (const node of cluster.leaders) {
            const { term } = node.raft
            const known = before.get(node)
            if (known?.term === term && known.log.length === node.raft.log.lastIndex) continue
            const log = logOf(node)
            if (known?.term === term) {
              assert.equal(log.slice(0, known.log.length), known.log)
              count += log.length - known.log.length
            }
            before.set(node, { term, log })
          }
        },
        seen: () => count,
      }
    })
    assert.ok(appended > 500, `${appended} entries`)
  },
)

figure3(
  'Log Matching: "if two logs contain an entry with the same index and term, then the logs are identical in all entries up through the given index."; 5.3: "a leader creates at most one entry with a given log index in a given term"',
  () => {
    const compared = holds((cluster) => {
      const made = new Map<string, string>()
      let count = 0
      let steps = 0
      return {
        check() {
          if (++steps % 20 !== 0) return
          const logs = cluster.nodes.flatMap((node) => [
            logOf(node),
            node.disk.entries.map(textOfEntry),
          ])
          for (const [at, log] of logs.entries()) {
            for (const text of log) {
              const place = text.split('/').slice(0, 2).join('/')
              assert.is(made.get(place) ?? text, text, 'one entry for an index and a term')
              made.set(place, text)
            }
            for (const other of logs.slice(at + 1)) {
              const last = other.findLastIndex((text, i) => log[i] === text)
              assert.equal(other.slice(0, last + 1), log.slice(0, last + 1))
              if (other.length !== log.length || last + 1 < log.length) count++
            }
          }
        },
        seen: () => count,
      }
    })
    assert.ok(compared > 1000, `${compared} pairs of logs that differ`)
  },
)

figure3(
  'Leader Completeness: "if a log entry is committed in a given term, then that entry will be present in the logs of the leaders for all higher-numbered terms."',
  () => {
    const checked = holds((cluster) => {
      /** In order of index, each with the term that was the highest anywhere when it was committed. */
      const committed: { text: string; knownAt: number }[] = []
      const complete = new Set<string>()
      let count = 0
      return {
        check() {
          const knownAt = Math.max(...cluster.nodes.map(({ raft }) => raft.term))
          for (const { raft } of cluster.nodes) {
            for (let index = committed.length + 1; index <= raft.log.commitIndex; index++) {
              committed.push({ text: textOfEntry(raft.log.entryAt(index) as Entry), knownAt })
            }
          }
          for (const { name, raft } of cluster.leaders) {
            if (complete.has(`${name}/${raft.term}`)) continue
            complete.add(`${name}/${raft.term}`)
            for (const [at, entry] of committed.entries()) {
              if (entry.knownAt >= raft.term) continue
              const own = raft.log.entryAt(at + 1)
              assert.is(own && textOfEntry(own), entry.text, `${name} leads term ${raft.term}`)
              count++
            }
          }
        },
        seen: () => count,
      }
    })
    assert.ok(checked > 1000, `${checked} entries`)
  },
)

figure3(
  'State Machine Safety: "if a server has applied a log entry at a given index to its state machine, no other server will ever apply a different log entry for the same index."; 5.4.3: "Raft requires servers to apply entries in log index order."',
  () => {
    const applied = holds((cluster) => {
      const first: string[] = []
      return {
        check() {
          for (const node of cluster.nodes) {
            // `applied` is emptied by a restart, which applies from the beginning again.
            for (const [at, entry] of node.applied.entries()) {
              assert.is(entry.index, at + 1, `${node.name}, in order`)
              const text = textOfEntry(entry)
              assert.is(first[at] ?? text, text, node.name)
              first[at] = text
            }
          }
        },
        seen: () => first.length,
      }
    })
    assert.ok(applied > 1000, `${applied} entries`)
  },
)

const replication = suite('5.3 log replication, of followers behind')

replication(
  '"The leader keeps track of the highest index it knows to be committed, and it includes that index in future AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    cluster.tick(3)
    // The followers have the entry, and the Append that would tell them of the commit is lost.
    cluster.hold = ({ message }) =>
      message.type === 'append' && message.commit === leader.raft.log.lastIndex
    const index = propose(leader, 'x')
    cluster.settle()
    assert.is(leader.raft.log.commitIndex, index)
    for (const name of ['n2', 'n3']) assert.is(cluster.node(name).raft.log.commitIndex, index - 1)
    cluster.tick(1)
    for (const name of ['n2', 'n3']) assert.is(cluster.node(name).raft.log.commitIndex, index)
  },
)

replication(
  'a heartbeat tells a follower of no commit beyond what it is known to hold: there may lie what an old leader sent',
  () => {
    // n3's log is as long as what is committed, and differs from it.
    const cluster = new Cluster({ size: 3, logs: { n3: [1, 2, 2, 2] } })
    const stale = cluster.node('n3')
    cluster.hold = ({ to, message }) => message.type === 'append' && to === stale.peer
    cluster.isolate('n3')
    const leader = cluster.lead('n2')
    for (const text of ['x', 'y', 'z']) propose(leader, text)
    cluster.settle()
    assert.is(leader.raft.log.commitIndex, 5)
    cluster.heal()
    // Its term is older or the same: it follows, hears heartbeats, and has got no Append yet.
    cluster.tick(20)
    assert.is(stale.raft.leader, cluster.leader?.peer)
    assert.is(stale.raft.log.commitIndex, 1)
    assert.equal(termsOf(stale), [1, 2, 2, 2])
    cluster.release()
    cluster.tick(5)
    assert.equal(termsOf(stale), termsOf(leader))
  },
)

replication(
  '"a new entry can be replicated with a single round of RPCs to a majority of the cluster; and a single slow follower will not impact performance."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    cluster.tick(3)
    cluster.node('n3').slowDisk = true
    for (let i = 0; i < 50; i++) {
      const index = propose(leader, `${i}`)
      const appends = said(cluster, leader).filter(({ to }) => to === 'n2')
      assert.is(appends.length, 1, 'one request')
      cluster.finishSave(leader)
      const follower = cluster.node('n2')
      for (const { message } of appends) follower.raft.step(leader.peer, message)
      const answers = saidWhenSaved(cluster, follower)
      assert.is(answers.length, 1, 'one answer')
      for (const { message } of answers) leader.raft.step(follower.peer, message)
      assert.is(leader.raft.log.commitIndex, index)
      // The commit travels with the next Append.
      for (const { to, message } of said(cluster, leader)) {
        if (to === 'n2') follower.raft.step(leader.peer, message)
      }
      saidWhenSaved(cluster, follower)
    }
    assert.ok(cluster.node('n3').raft.log.commitIndex < leader.raft.log.commitIndex)
  },
)

const previous = suite('5.4.2 entries of previous terms')

previous(
  '"log entries retain their original term numbers when a leader replicates entries from previous terms."',
  () => {
    const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2, 5] } })
    const leader = leadAtLast(cluster, 'n1')
    const written = leader.disk.entries.slice(0, 4)
    cluster.tick(3)
    assert.ok(leader.raft.term > 5)
    for (const node of cluster.nodes) {
      assert.equal(node.disk.entries.slice(0, 4), written, node.name)
      assert.equal(termsOf(node), [1, 2, 2, 5, leader.raft.term])
    }
  },
)

const crashes = suite('5.5 crashes, however long')

crashes(
  '"Raft handles these failures by retrying indefinitely; if the crashed server restarts, then the RPC will complete successfully."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    const follower = cluster.node('n3')
    cluster.crash(follower)
    for (let i = 0; i < 100; i++) {
      propose(leader, `${i}`)
      cluster.tick(20)
    }
    cluster.restart(follower)
    cluster.tick(10)
    assert.is(cluster.leader, leader)
    assert.equal(follower.disk.entries, leader.disk.entries)
    assert.equal(follower.applied.length, leader.raft.log.commitIndex)
  },
)

crashes(
  'the candidate too: a vote that was lost with a crash is asked for again, and the election goes on',
  () => {
    const cluster = new Cluster({ size: 3 })
    cluster.crash(cluster.node('n3'))
    cluster.hold = ({ message }) => message.type === 'requestVote'
    const candidate = cluster.campaign('n1')
    cluster.settle()
    assert.is(candidate.raft.role, 'candidate')
    cluster.held = []
    cluster.hold = null
    const { term } = candidate.raft
    for (const name of ['n1', 'n2']) {
      const node = cluster.node(name)
      cluster.crash(node)
      cluster.restart(node)
    }
    const leader = cluster.elect()
    assert.ok(leader.raft.term > term, 'nobody is elected twice in the term before the crash')
    cluster.restart(cluster.node('n3'))
    cluster.tick(5)
    assert.is(cluster.node('n3').raft.leader, leader.peer)
  },
)

const matching = suite('5.3 log matching, by hand')

matching(
  '"conflicting entries in follower logs will be overwritten": also those that were saved, and what is overwritten is never acknowledged',
  () => {
    const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2, 2] } })
    const node = cluster.node('n1')
    const { peer } = cluster.node('n2')
    node.raft.step(peer, append(3, [2, 2], entriesOf(3, 3, 3)))
    assert.is(node.raft.log.stableIndex, 2, 'what was stable there is not what is there now')
    const first = said(cluster, node)
    assert.equal(first, [])
    const saved = saidWhenSaved(cluster, node)
    assert.equal(
      saved.map(({ message }) => message.type === 'appendResponse' && message),
      [{ type: 'appendResponse', term: 3, accepted: true, matchIndex: 3 }],
    )
    assert.equal(node.disk.entries.map(textOfEntry).slice(2), ['3/3/command/3/3'])
  },
)

figure3.run()
replication.run()
previous.run()
crashes.run()
matching.run()
