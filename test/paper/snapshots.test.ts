/** Log compaction: section 7 and figure 13 of the extended Raft paper, chapter 5 of the thesis. Each test quotes what it checks. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { InstallSnapshot } from '../../node/raft/messages.ts'
import type { SnapshotAt } from '../../node/raft/snapshots.ts'
import type { Index, Term } from '../../node/raft/types.ts'
import { append, entriesOf, propose, said, saidWhenSaved } from '../support/paper.ts'
import { Cluster, type ClusterNode, type ClusterOptions } from '../support/raft-cluster.ts'

/** Of what the node has applied. Durable at once, and the core is told. */
function snapshot(node: ClusterNode): SnapshotAt {
  const { log } = node.raft
  const index = log.appliedIndex
  const configuration = log.configurationAt(index)
  if (configuration === null) throw new Error('there is no configuration')
  const id = { term: log.termAt(index) as Term, index }
  const checksum = `${node.name.slice(1)}${index.toString(16)}`.padStart(64, '0')
  const made = { id, configuration, sizeBytes: 1, checksum }
  node.disk.snapshot = made
  node.raft.snapshotSaved(made)
  return made
}

function offerOf(snapshotAt: SnapshotAt, term: Term): InstallSnapshot {
  const { id, sizeBytes, checksum } = snapshotAt
  return {
    type: 'installSnapshot',
    term,
    lastIncludedIndex: id.index,
    lastIncludedTerm: id.term,
    sizeBytes,
    checksum,
  }
}

/** n1 leads and has a snapshot of everything; n3 has nothing but the first entry. */
function behind(options: Partial<ClusterOptions> = {}) {
  const cluster = new Cluster({ size: 3, ...options })
  cluster.isolate('n3')
  const leader = cluster.lead('n1')
  for (const text of ['a', 'b', 'c']) propose(leader, text)
  cluster.settle()
  const taken = snapshot(leader)
  leader.raft.compactTo(taken.id.index)
  cluster.settle()
  cluster.heal()
  return { cluster, leader, taken, follower: cluster.node('n3') }
}

/** As a driver does once the file is whole and its state is loaded. */
function install(node: ClusterNode, taken: SnapshotAt): boolean {
  const isOfUse = node.raft.installed(taken)
  if (isOfUse) node.disk.snapshot = taken
  return isOfUse
}

function indexesOf(node: ClusterNode): [first: Index, last: Index] {
  return [node.raft.log.firstIndex, node.raft.log.lastIndex]
}

const section7 = suite('7 log compaction')

section7(
  '"In snapshotting, the entire current system state is written to a snapshot on stable storage, then the entire log up to that point is discarded."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    const index = propose(leader, 'x')
    cluster.settle()
    assert.throws(() => leader.raft.compactTo(index), /beyond the snapshot/)
    snapshot(leader)
    leader.raft.compactTo(index)
    assert.equal(indexesOf(leader), [index + 1, index])
  },
)

section7(
  '"the last included index is the index of the last entry in the log that the snapshot replaces (the last entry the state machine had applied), and the last included term is the term of this entry. These are preserved to support the AppendEntries consistency check for the first log entry following the snapshot"',
  () => {
    const { cluster, leader, taken } = behind()
    propose(leader, 'd')
    const [first] = said(cluster, leader).filter(({ to }) => to === 'n2')
    assert.ok(first?.message.type === 'append')
    assert.equal([first.message.prevIndex, first.message.prevTerm], [taken.id.index, taken.id.term])
    // And on a log that begins behind a snapshot: the right predecessor matches, another one does not.
    const follower = cluster.node('n3')
    const { term } = leader.raft
    follower.raft.step(leader.peer, offerOf(taken, term))
    install(follower, taken)
    const { index } = taken.id
    follower.raft.step(
      leader.peer,
      append(term, [term, index], entriesOf(term, index + 1, index + 1)),
    )
    assert.is(follower.raft.log.lastIndex, index + 1)
  },
)

section7(
  '"To enable cluster membership changes (Section 6), the snapshot also includes the latest configuration in the log as of last included index."',
  () => {
    const cluster = new Cluster({ size: 3, blanks: 1 })
    const leader = cluster.lead('n1')
    const inForce = leader.raft.log.configuration?.index
    const taken = snapshot(leader)
    assert.is(taken.configuration.index, inForce)
    leader.raft.compactTo(taken.id.index)
    assert.is(leader.raft.log.configuration?.index, inForce, 'it outlives its entry')
    // A snapshot that carried a later one could never be rolled back with the log.
    const later = { ...taken.configuration, index: taken.id.index + 1 }
    const index = leader.raft.log.commitIndex + 5
    const wrong = {
      ...taken,
      id: { ...taken.id, index },
      configuration: { ...later, index: index + 1 },
    }
    assert.throws(() => cluster.node('n2').raft.installed(wrong), /later configuration/)
  },
)

section7(
  '"the leader must occasionally send snapshots to followers that lag behind. This happens when the leader has already discarded the next log entry that it needs to send to a follower."',
  () => {
    const { cluster, leader, taken, follower } = behind()
    leader.raft.linkClosed(follower.peer)
    const sent = said(cluster, leader).filter(({ to }) => to === 'n3')
    assert.equal(
      sent.map(({ message }) => message),
      [offerOf(taken, leader.raft.term)],
    )
    // With a tail that still holds it, the entry is sent.
    const other = new Cluster({ size: 3 })
    other.isolate('n3')
    const second = other.lead('n1')
    propose(second, 'a')
    other.settle()
    snapshot(second)
    second.raft.compactTo(1)
    second.raft.linkClosed(follower.peer)
    const [first] = said(other, second).filter(({ to }) => to === 'n3')
    assert.is(first?.message.type, 'append')
  },
)

section7(
  '"Usually the snapshot will contain new information not already in the recipient\'s log. In this case, the follower discards its entire log; it is all superseded by the snapshot and may possibly have uncommitted entries that conflict with the snapshot."',
  () => {
    const { cluster, leader, taken, follower } = behind({
      logs: { n1: [1, 3], n2: [1, 3], n3: [1, 2, 2, 2, 2, 2, 2, 2, 2] },
    })
    follower.raft.step(leader.peer, offerOf(taken, leader.raft.term))
    assert.ok(install(follower, taken))
    assert.equal(indexesOf(follower), [taken.id.index + 1, taken.id.index])
    const answers = saidWhenSaved(cluster, follower)
    assert.equal(follower.disk.entries, [])
    assert.equal(follower.disk.base, taken.id)
    assert.ok(answers.some(({ message }) => message.type === 'appendResponse' && message.accepted))
  },
)

section7(
  '"If instead the follower receives a snapshot that describes a prefix of its log (due to retransmission or by mistake), then log entries covered by the snapshot are deleted but entries following the snapshot are still valid and must be retained."',
  () => {
    const { cluster, leader, taken } = behind()
    const second = cluster.node('n2')
    propose(leader, 'd')
    cluster.settle()
    const before = indexesOf(second)
    second.raft.step(leader.peer, offerOf(taken, leader.raft.term))
    assert.not.ok(install(second, taken), 'it is of no use')
    assert.equal(
      indexesOf(second),
      before,
      'nothing that follows is lost; the prefix goes with an own snapshot',
    )
  },
)

section7('"followers can take snapshots without the knowledge of the leader"', () => {
  const { cluster, leader } = behind()
  const second = cluster.node('n2')
  const { index } = snapshot(second).id
  second.raft.compactTo(index)
  propose(leader, 'd')
  cluster.settle()
  assert.is(second.raft.log.commitIndex, index + 1)
  assert.equal(indexesOf(second), [index + 1, index + 1])
})

const figure13 = suite('figure 13, InstallSnapshot')

figure13('1. "Reply immediately if term < currentTerm"', () => {
  const { cluster, leader, taken, follower } = behind()
  const before = leader.raft.term
  follower.raft.step(leader.peer, { type: 'heartbeat', term: before + 5, commit: 0, readRound: 0 })
  said(cluster, follower)
  follower.raft.step(cluster.node('n2').peer, offerOf(taken, before))
  const [answer] = said(cluster, follower)
  assert.ok(answer?.message.type === 'appendResponse' && !answer.message.accepted)
  assert.is(answer.message.term, before + 5)
})

figure13(
  '6. "If existing log entry has same index and term as snapshot\'s last included entry, retain log entries following it and reply"',
  () => {
    const { cluster, leader, taken, follower } = behind()
    const { term } = leader.raft
    const { index } = taken.id
    const known = leader.disk.entries.filter((entry) => entry.index > 1)
    follower.raft.step(
      leader.peer,
      append(term, [1, 1], [...known, ...entriesOf(term, index + 1, index + 1)]),
    )
    saidWhenSaved(cluster, follower)
    follower.raft.step(leader.peer, offerOf(taken, term))
    const [answer] = saidWhenSaved(cluster, follower)
    assert.equal(answer?.message, {
      type: 'appendResponse',
      term,
      accepted: true,
      matchIndex: index,
    })
    assert.is(follower.raft.log.lastIndex, index + 1)
    assert.is(follower.raft.log.commitIndex, index, 'what a snapshot covers is committed')
  },
)

figure13('6. the same, when the entries have come while the snapshot was on its way', () => {
  const { leader, taken, follower, cluster } = behind()
  const { term } = leader.raft
  const { index } = taken.id
  follower.raft.step(leader.peer, offerOf(taken, term))
  assert.equal(saidWhenSaved(cluster, follower), [], 'it is fetched')
  const known = leader.disk.entries.filter((entry) => entry.index > 1)
  const more = entriesOf(term, index + 1, index + 1)
  // Nothing here says that they are committed, but they are acknowledged: a commit may count on them.
  follower.raft.step(leader.peer, append(term, [1, 1], [...known, ...more]))
  saidWhenSaved(cluster, follower)
  assert.is(follower.raft.log.commitIndex, 1)
  assert.not.ok(install(follower, taken), 'the log has gone on without it')
  saidWhenSaved(cluster, follower)
  assert.equal(indexesOf(follower), [1, index + 1])
  assert.is(follower.disk.entries.at(-1)?.index, index + 1)
})

figure13(
  '8. "Reset state machine using snapshot contents (and load snapshot\'s cluster configuration)"',
  () => {
    const { cluster, leader, taken, follower } = behind()
    follower.raft.step(leader.peer, offerOf(taken, leader.raft.term))
    install(follower, taken)
    const { log, tracker } = follower.raft
    assert.is(log.appliedIndex, taken.id.index, 'what it covers is never applied one by one')
    assert.equal(tracker.configuration, taken.configuration.record.configuration)
    saidWhenSaved(cluster, follower)
    cluster.crash(follower)
    cluster.restart(follower)
    assert.is(follower.raft.log.appliedIndex, taken.id.index)
    assert.is(follower.raft.log.configuration?.index, taken.configuration.index)
  },
)

figure13(
  '8. the same with a configuration that is news to the follower: it is in force at once',
  () => {
    const { cluster, leader, taken, follower } = behind()
    const { record } = taken.configuration
    // Its vote was taken away while it was behind.
    const configuration = { ...record.configuration, voters: [1, 2], learners: [3] }
    const at = { index: taken.id.index, record: { ...record, configuration } }
    follower.raft.step(leader.peer, offerOf(taken, leader.raft.term))
    assert.ok(follower.raft.tracker.selfIsVoter)
    assert.ok(install(follower, { ...taken, configuration: at }))
    const { log, tracker } = follower.raft
    assert.equal(tracker.configuration, configuration)
    assert.equal(log.configuration, at)
    saidWhenSaved(cluster, follower)
    for (let i = 0; i < 100; i++) follower.raft.tick()
    assert.is(follower.raft.role, 'follower', 'it has no vote, and does not campaign')
  },
)

const rule8 = suite('rule 8')

rule8('8: a late Append after a snapshot does not truncate', () => {
  const { cluster, leader, taken, follower } = behind()
  const { term } = leader.raft
  follower.raft.step(leader.peer, offerOf(taken, term))
  install(follower, taken)
  saidWhenSaved(cluster, follower)
  for (const message of [
    append(term, [1, 1], entriesOf(term, 2, 3)),
    append(term, [term, 3], []),
    append(term, [9, 2], entriesOf(9, 3, 4)),
  ]) {
    follower.raft.step(leader.peer, { ...message, term })
    assert.equal(indexesOf(follower), [taken.id.index + 1, taken.id.index])
  }
})

rule8('8: a stale InstallSnapshot is ignored', () => {
  const { cluster, leader, taken, follower } = behind()
  const { term } = leader.raft
  follower.raft.step(leader.peer, offerOf(taken, term))
  install(follower, taken)
  saidWhenSaved(cluster, follower)
  follower.raft.step(
    leader.peer,
    offerOf({ ...taken, id: { term, index: taken.id.index - 1 } }, term),
  )
  const ready = follower.raft.ready()
  assert.equal(ready.offers, [])
  assert.equal(
    ready.messages.map(({ message }) => message),
    [{ type: 'appendResponse', term, accepted: true, matchIndex: taken.id.index }],
  )
})

rule8("8: a snapshot index never lies past the log's start, and never past what is durable", () => {
  const { cluster, leader } = behind()
  const { log } = leader.raft
  assert.ok(log.snapshotIndex >= log.firstIndex - 1)
  leader.slowDisk = true
  propose(leader, 'd')
  cluster.settle()
  // The followers have committed it; this leader's disk has not got it yet.
  assert.is(log.appliedIndex, log.stableIndex)
  assert.throws(() => log.noteSnapshot(log.lastIndex), /not applied|past the durable log/)
})

const thesis5 = suite('thesis, 5 log compaction')

thesis5(
  '5: "each server compacts the committed prefix of its log independently"; "Once it has done so, it tells Raft to discard the corresponding prefix of the log."',
  () => {
    const cluster = new Cluster({ size: 3 })
    const leader = cluster.lead('n1')
    for (const name of ['n2', 'n3']) cluster.cut.add(`n1>${name}`)
    propose(leader, 'not committed')
    cluster.settle()
    const { log } = leader.raft
    assert.ok(log.lastIndex > log.commitIndex)
    snapshot(leader)
    leader.raft.compactTo(log.commitIndex)
    assert.throws(() => leader.raft.compactTo(log.lastIndex), /beyond the snapshot/)
    assert.is(log.lastIndex - log.firstIndex, 0, 'what is not committed stays')
  },
)

thesis5(
  '5: "the state machine will need to load the state corresponding to the discarded log entries from disk before it can apply any entries from the Raft log"',
  () => {
    const { cluster, leader, taken } = behind()
    const index = propose(leader, 'd')
    cluster.settle()
    cluster.crash(leader)
    cluster.restart(leader)
    assert.is(leader.raft.log.appliedIndex, taken.id.index)
    cluster.drain(leader)
    for (const { index: applied } of leader.applied) assert.ok(applied > taken.id.index)
    assert.ok(leader.raft.log.lastIndex === index)
  },
)

section7.run()
figure13.run()
rule8.run()
thesis5.run()
