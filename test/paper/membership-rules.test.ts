/** Rules 5, 6 and 14, and what HAZARDS says of membership and identity, as far as the consensus core owes it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Index, peerIdOf } from '../../node/raft/types.ts'
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
import { Cluster, type ClusterNode, memberIdentity } from '../support/raft-cluster.ts'

function codeOf(result: ReturnType<typeof ask>): string | null {
  return result === null ? null : result.ok ? 'ok' : result.code
}

function started(learners: number, blanks = 0): { cluster: Cluster; leader: ClusterNode } {
  const cluster = new Cluster({ size: 3, learners, blanks })
  const leader = cluster.lead('n1')
  cluster.settle()
  return { cluster, leader }
}

const rules = suite('rules 5, 6 and 14')

rules(
  '5: no membership change before an entry of this term is committed; never two in flight',
  () => {
    const cluster = new Cluster({ size: 3, learners: 1, blanks: 1 })
    cluster.hold = ({ message }) => message.type === 'appendResponse'
    const leader = cluster.lead('n1')
    const newcomer = entering(cluster.node('n5'))
    for (const one of [promote(4), newcomer, remove(4), demote(2)]) {
      assert.is(codeOf(ask(cluster, leader, one)), 'busy')
    }
    assert.is(leader.raft.log.lastIndex, 2)
    cluster.release()
    cluster.settle()
    // While both halves are asked, while the joint entry is open, and while the one that leaves it is.
    cluster.isolate('n2')
    cluster.cut.add('n3>n1')
    cluster.cut.add('n4>n1')
    assert.is(ask(cluster, leader, promote(4)), null)
    assert.is(codeOf(ask(cluster, leader, newcomer)), 'busy')
    cluster.heal()
    for (const name of ['n2', 'n3', 'n4']) leader.raft.linkClosed(cluster.node(name).peer)
    const held: Index = 3
    cluster.hold = ({ message }) =>
      message.type === 'appendResponse' && message.accepted && message.matchIndex >= held
    cluster.tick(3)
    assert.is(shapeOf(cluster, leader), 'n1 n2 n3 n4|n1 n2 n3|')
    assert.is(codeOf(ask(cluster, leader, newcomer)), 'busy')
    cluster.hold = ({ message }) =>
      message.type === 'appendResponse' && message.accepted && message.matchIndex > held
    cluster.tick(3)
    assert.is(shapeOf(cluster, leader), 'n1 n2 n3 n4||')
    assert.is(codeOf(ask(cluster, leader, newcomer)), 'busy')
    cluster.release()
    cluster.tick(3)
    change(cluster, leader, newcomer)
  },
)

rules(
  '5: the joint phase needs both majorities for votes, commits and reads, and to stay leader',
  () => {
    for (const silent of [
      ['n2', 'n3'],
      ['n4', 'n5'],
    ]) {
      const { cluster, leader } = started(2)
      const index = changeHeld(cluster, leader, remove(2), remove(3), promote(4), promote(5))
      for (const name of silent) cluster.isolate(name)
      cluster.release()
      propose(leader, 'x')
      assert.ok(leader.raft.readIndex(7))
      cluster.tick(5)
      assert.ok(leader.raft.log.commitIndex < index, `${silent} are silent`)
      assert.equal(leader.reads, [])
      cluster.tick(20)
      assert.is(leader.raft.role, 'follower')
      cluster.tick(100)
      assert.is(cluster.leader, undefined)
      cluster.heal()
      cluster.tick(5)
      assert.ok(cluster.elect(400).raft.log.commitIndex >= index)
    }
  },
)

rules(
  '5: a configuration is in force when appended; truncation rolls it back, wherever it was taken',
  () => {
    const { cluster, leader } = started(1)
    const { lastIndex } = leader.raft.log
    cluster.hold = ({ to, message }) =>
      message.type === 'append' && message.entries.length > 0 && to !== cluster.node('n3').peer
    cluster.cut.add('n3>n1')
    cluster.isolate('n4')
    cluster.cut.delete('n4>n1')
    cluster.cut.delete('n1>n4')
    change(cluster, leader, promote(4))
    const taken = 'n1 n2 n3 n4|n1 n2 n3|'
    assert.is(shapeOf(cluster, leader), taken)
    assert.is(shapeOf(cluster, cluster.node('n3')), taken)
    assert.is(shapeOf(cluster, cluster.node('n2')), 'n1 n2 n3||n4')
    cluster.held = []
    cluster.hold = null
    cluster.crash(leader)
    cluster.crash(cluster.node('n3'))
    // n2 and n1 without its memory: what it had saved of the change is lost with its disk's last entry.
    leader.disk.entries = leader.disk.entries.slice(0, lastIndex)
    cluster.restart(leader)
    cluster.lead('n2')
    cluster.restart(cluster.node('n3'))
    assert.is(shapeOf(cluster, cluster.node('n3')), taken, 'in force after a restart')
    cluster.tick(5)
    assert.is(shapeOf(cluster, cluster.node('n3')), 'n1 n2 n3||n4')
  },
)

rules('6: a removed leader commits its own removal, steps down and does not campaign', () => {
  const { cluster, leader } = started(0)
  const { term } = leader.raft
  const index = change(cluster, leader, remove(1))
  assert.equal([leader.raft.role, leader.raft.log.commitIndex >= index + 1], ['follower', true])
  assert.is(shapeOf(cluster, leader), 'n2 n3||')
  const next = cluster.elect()
  assert.ok(next !== leader && next.raft.term === term + 1, 'at once, by TimeoutNow')
  cluster.crash(cluster.node('n2'))
  cluster.crash(cluster.node('n3'))
  cluster.tick(100)
  assert.equal([leader.raft.role, leader.raft.term], ['follower', term])
})

rules('6: a removed node cannot disturb, whatever it asks', () => {
  const cluster = new Cluster({ size: 4 })
  const leader = cluster.lead('n1')
  cluster.settle()
  cluster.isolate('n4')
  change(cluster, leader, remove(4))
  cluster.tick(40)
  cluster.heal()
  const { term } = leader.raft
  cluster.tick(300)
  assert.is(cluster.node('n4').raft.term, term, 'its pre-votes are refused')
  assert.is(shapeOf(cluster, cluster.node('n4')), 'n1 n2 n3 n4||', 'it does not know')
  assert.equal([cluster.leader, leader.raft.term], [leader, term])
})

rules(
  '6: a node that is not in its own configuration never campaigns once that is committed, but still answers votes',
  () => {
    const { cluster, leader } = started(1)
    change(cluster, leader, remove(3))
    cluster.tick(30)
    const out = cluster.node('n3')
    for (const name of ['n3', 'n4']) {
      const node = cluster.node(name)
      for (let i = 0; i < 100; i++) node.raft.tick()
      assert.is(node.raft.role, 'follower', name)
      node.raft.step(leader.peer, { type: 'timeoutNow', term: node.raft.term })
      assert.is(node.raft.role, 'follower', `${name} told to`)
    }
    const { lastIndex, lastTerm } = out.raft.log
    const asked = { term: out.raft.term, lastIndex, lastTerm } as const
    out.raft.step(cluster.node('n2').peer, { type: 'preVote', ...asked })
    cluster.flights = []
    cluster.drain(out)
    assert.ok(
      cluster.flights.some(({ message }) => 'granted' in message && message.granted),
      'a pre-vote',
    )
    const term = out.raft.term + 1
    out.raft.step(cluster.node('n2').peer, {
      type: 'requestVote',
      ...asked,
      term,
      transfer: false,
    })
    assert.is(out.raft.vote, cluster.node('n2').peer)
  },
)

rules('14: member ids are never reused, and a new storageId is a new member under a new id', () => {
  const { cluster, leader } = started(0, 2)
  const record = () => leader.raft.log.configuration?.record
  const ids = () => record()?.configuration.members.map(({ memberId }) => memberId)
  change(cluster, leader, entering(cluster.node('n4')))
  change(cluster, leader, remove(4))
  change(cluster, leader, entering(cluster.node('n5')))
  assert.equal(ids(), [1, 2, 3, 5])
  assert.equal(record()?.removed, [memberIdentity(4).storageId])
  // The key of n5 with another disk is somebody else, and the same pair is nobody new.
  const wiped = { ...memberIdentity(5), storageId: 'a'.repeat(32), name: 'n5', urls: [] }
  change(cluster, leader, { type: 'add', member: wiped })
  assert.equal(ids(), [1, 2, 3, 5, 6])
  assert.is(codeOf(ask(cluster, leader, { type: 'add', member: wiped })), 'bad-request')
})

const hazards = suite('HAZARDS, membership and identity')

hazards(
  'a truncated add rolls nextMemberId back: two nodes that believe they are 4 are told apart by their pair',
  () => {
    const { cluster, leader } = started(0, 2)
    for (const name of ['n2', 'n3']) cluster.cut.add(`n1>${name}`)
    change(cluster, leader, entering(cluster.node('n4')))
    cluster.isolate('n1')
    cluster.isolate('n4')
    const next = cluster.lead('n2')
    change(cluster, next, entering(cluster.node('n5')))
    change(cluster, next, promote(4))
    const idIn = (of: ClusterNode, who: ClusterNode) =>
      of.raft.tracker.configuration.members.find((member) => peerIdOf(member) === who.peer)
        ?.memberId
    assert.equal([idIn(leader, cluster.node('n4')), idIn(next, cluster.node('n5'))], [4, 4])
    // What n4 acknowledges or votes is nothing to n2, which waits for three of {n1 n2 n3 n5}.
    cluster.isolate('n3')
    cluster.heal()
    for (const name of ['n1', 'n3']) cluster.isolate(name)
    cluster.hold = ({ from }) => from === cluster.node('n5').peer
    const { commitIndex } = next.raft.log
    const matchIndex = propose(next, 'x')
    const { term } = next.raft
    const accepted = { type: 'appendResponse', term, accepted: true, matchIndex } as const
    for (const name of ['n4', 'n5']) next.raft.step(cluster.node(name).peer, accepted)
    cluster.settle()
    assert.is(next.raft.log.commitIndex, commitIndex)
    next.raft.step(cluster.node('n3').peer, accepted)
    cluster.settle()
    assert.is(next.raft.log.commitIndex, matchIndex)
  },
)

hazards(
  'a promoted learner has not got the entry: it votes all the same, and the cluster goes on',
  () => {
    const { cluster, leader } = started(1)
    const learner = cluster.node('n4')
    cluster.hold = ({ to, message }) =>
      to === leader.peer
        ? message.type === 'appendResponse' && message.accepted && message.matchIndex > 2
        : to === learner.peer && message.type === 'append' && message.entries.length > 0
    change(cluster, leader, promote(4))
    cluster.hold = null
    cluster.held = []
    cluster.crash(leader)
    assert.is(shapeOf(cluster, learner), 'n1 n2 n3||n4')
    // Three of {n1 n2 n3 n4} are needed, and n1 is down.
    assert.is(cluster.lead('n2').raft.role, 'leader')
    assert.is(shapeOf(cluster, learner), 'n1 n2 n3 n4||')
  },
)

hazards(
  'a node exits on appending its own removal: removal is final only when committed, and it is sent to until it knows',
  () => {
    const { cluster, leader } = started(0)
    const out = cluster.node('n3')
    const { lastIndex } = leader.raft.log
    cluster.hold = ({ message }) =>
      message.type === 'appendResponse' && message.accepted && message.matchIndex > lastIndex + 1
    change(cluster, leader, remove(3))
    assert.is(shapeOf(cluster, out), 'n1 n2||')
    assert.ok(out.raft.log.commitIndex < lastIndex + 2)
    cluster.tick(40)
    assert.ok(leader.raft.tracker.progress.has(out.peer), 'while it is not committed')
    cluster.release()
    cluster.tick(3)
    assert.is(out.raft.log.commitIndex, lastIndex + 2)
    cluster.tick(10)
    assert.not.ok(leader.raft.tracker.progress.has(out.peer))
  },
)

hazards(
  'a new leader inherits an open joint entry: it counts as pending, and is left only behind the own no-op',
  () => {
    const { cluster, leader } = started(1)
    const index = changeHeld(cluster, leader, promote(4))
    cluster.crash(leader)
    cluster.hold = ({ message }) => message.type === 'appendResponse'
    const next = cluster.lead('n2')
    // All disks have the joint entry, which commits nothing.
    assert.is(next.raft.log.lastIndex, index + 1)
    assert.is(codeOf(ask(cluster, next, demote(3))), 'busy')
    cluster.release()
    cluster.settle()
    const kinds = [index + 1, index + 2].map((at) => next.raft.log.entryAt(at)?.kind)
    assert.equal(kinds, ['noop', 'configuration'])
    assert.is(shapeOf(cluster, next), 'n1 n2 n3 n4||')
  },
)

hazards(
  'joint entered with the new set not alive: both majorities answer from disk within an election timeout, or nothing is appended',
  () => {
    for (const how of ['down', 'answers lost', 'a disk that hangs'] as const) {
      const { cluster, leader } = started(2)
      for (const name of ['n4', 'n5']) {
        const node = cluster.node(name)
        if (how === 'down') cluster.crash(node)
        else if (how === 'answers lost') cluster.cut.add(`${name}>n1`)
        else node.slowDisk = true
      }
      // In flight to disks that do not end their saves: what they acknowledge next lies behind it.
      if (how === 'a disk that hangs') propose(leader, 'x')
      const { lastIndex } = leader.raft.log
      const swap = [remove(2), remove(3), promote(4), promote(5)]
      assert.is(ask(cluster, leader, ...swap), null, how)
      cluster.tick(9)
      assert.equal(leader.changes, [], how)
      cluster.tick(1)
      assert.is(leader.changes[0]?.result.ok, false, how)
      assert.is(leader.raft.log.lastIndex, lastIndex, how)
      assert.is(leader.raft.role, 'leader')
    }
  },
)

hazards('the same key is in the configuration twice: each pair counts for itself', () => {
  const { cluster, leader } = started(0)
  const twin = { nodeKey: memberIdentity(3).nodeKey, storageId: 'b'.repeat(32) }
  change(cluster, leader, { type: 'add', member: { ...twin, name: 'n3', urls: [] } })
  cluster.isolate('n2')
  cluster.isolate('n3')
  const matchIndex = propose(leader, 'x')
  cluster.settle()
  const { term, log } = leader.raft
  const accepted = { type: 'appendResponse', term, accepted: true, matchIndex } as const
  leader.raft.step(peerIdOf(twin), accepted)
  assert.ok(log.commitIndex < matchIndex, "the learner with the voter's key does not count")
  leader.raft.step(cluster.node('n3').peer, accepted)
  assert.is(log.commitIndex, matchIndex)
})

rules.run()
hazards.run()
