/** The small parts of the core: the gate before the disk, the durability it depends on, read rounds, and which heartbeats are answered. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Durability } from '../../node/raft/durability.ts'
import { Echoes } from '../../node/raft/echoes.ts'
import { RaftLog } from '../../node/raft/log.ts'
import type { Outgoing, RaftMessage } from '../../node/raft/messages.ts'
import { ReadRounds } from '../../node/raft/read-rounds.ts'
import { SaveGate } from '../../node/raft/save-gate.ts'
import { TERM_LEAP_MAX } from '../../node/raft/types.ts'
import { bytesOf, Cluster } from '../support/raft-cluster.ts'

function promise(to: string): Outgoing {
  return { to, message: { type: 'voteResponse', term: 1, granted: true } }
}

const to = (released: readonly Outgoing[]): string => released.map((one) => one.to).join('')

const gate = suite('save gate')

gate('a promise leaves when both its hard state and its index are durable, in order, once', () => {
  const one = new SaveGate()
  one.hold(promise('a'), { hardVersion: 1, index: 0 })
  one.hold(promise('b'), { hardVersion: 1, index: 5 })
  one.hold(promise('c'), { hardVersion: 2, index: 0 })
  one.hold(promise('d'), { hardVersion: 1, index: 3 })
  assert.is(to(one.release({ hardVersion: 0, index: 9 })), '')
  assert.is(to(one.release({ hardVersion: 1, index: 4 })), 'ad')
  assert.is(to(one.release({ hardVersion: 1, index: 4 })), '')
  assert.is(to(one.release({ hardVersion: 2, index: 5 })), 'bc')
  assert.is(one.size, 0)
})

gate('an acknowledgement that waits already is not held again, whatever else is', () => {
  const one = new SaveGate()
  const ack = (peer: string, matchIndex: number): Outgoing => ({
    to: peer,
    message: { type: 'appendResponse', term: 1, accepted: true, matchIndex },
  })
  for (let i = 0; i < 100; i++) one.hold(ack('a', 5), { hardVersion: 1, index: 5 })
  assert.is(one.size, 1)
  one.hold(ack('b', 5), { hardVersion: 1, index: 5 })
  one.hold(ack('a', 6), { hardVersion: 1, index: 6 })
  one.hold(ack('a', 5), { hardVersion: 2, index: 5 })
  one.hold(promise('a'), { hardVersion: 1, index: 0 })
  one.hold(promise('a'), { hardVersion: 1, index: 0 })
  assert.is(one.size, 6)
  assert.is(to(one.release({ hardVersion: 1, index: 5 })), 'abaa')
})

gate('what is dropped never leaves', () => {
  const one = new SaveGate()
  one.hold(promise('a'), { hardVersion: 1, index: 0 })
  one.clear()
  assert.is(to(one.release({ hardVersion: 9, index: 9 })), '')
})

function disk(options: { saveBytesMax?: number } = {}) {
  const log = new RaftLog({ base: { term: 0, index: 0 }, entries: [], commitIndex: 0 })
  const durability = new Durability({
    hardState: { term: 1, vote: null, commit: 0 },
    log,
    electionTicks: 5,
    saveBytesMax: options.saveBytesMax ?? 1000,
  })
  const append = (index: number, text = 'x') =>
    log.append({ term: 1, index, kind: 'command', payload: bytesOf(text) })
  return { log, durability, append }
}

const durability = suite('durability')

durability('one save at a time; what comes meanwhile leaves with the next', () => {
  const { durability: one, append, log } = disk()
  assert.is(one.take(), null, 'nothing to save')
  append(1)
  assert.is(one.take()?.entries.length, 1)
  append(2)
  append(3)
  assert.is(one.take(), null)
  one.saved()
  assert.is(log.stableIndex, 1)
  assert.equal(
    one.take()?.entries.map(({ index }) => index),
    [2, 3],
  )
  one.saved()
  assert.is(one.take(), null)
  assert.throws(() => one.saved(), /no save is in flight/)
})

durability(
  'a promise waits for the save that holds its {term, vote}, not for the one under way',
  () => {
    const { durability: one, append } = disk()
    append(1)
    one.take()
    one.change(2, 'c')
    one.hold(promise('v'), 0)
    one.saved()
    assert.is(to(one.release()), '')
    assert.not.ok(one.durable)
    assert.equal(one.take()?.hardState, { term: 2, vote: 'c', commit: 0 })
    one.saved()
    assert.is(to(one.release()), 'v')
  },
)

durability('a rising term voids the promises of older ones', () => {
  const { durability: one } = disk()
  one.change(2, 'c')
  one.hold(promise('v'), 0)
  one.take()
  one.change(3, null)
  one.saved()
  assert.is(to(one.release()), '')
  assert.throws(() => one.change(2, null), /terms never fall/)
  one.change(3, 'd')
  assert.throws(() => one.change(3, 'e'), /one vote a term/)
})

durability('a save is bounded, and its commit index never lies past what it makes durable', () => {
  const { durability: one, append, log } = disk({ saveBytesMax: 10 })
  for (let index = 1; index <= 5; index++) append(index, '12345')
  log.commitTo(5)
  const commits: number[] = []
  for (let batch = one.take(); batch !== null; batch = one.take()) {
    commits.push(batch.hardState.commit)
    one.saved()
  }
  assert.equal(commits, [2, 4, 5])
})

durability(
  'a save that found no room is offered again after an election timeout, with all that came since',
  () => {
    const { durability: one, append } = disk()
    append(1)
    one.take()
    one.failed()
    append(2)
    assert.ok(one.full)
    let ticks = 0
    while (one.take() === null) {
      one.tick()
      ticks++
    }
    assert.is(ticks, 4)
    assert.ok(one.full, 'until one has succeeded')
    one.saved()
    assert.not.ok(one.full)
    assert.is(one.take(), null)
  },
)

durability('a save is stuck after an election timeout, until it ends', () => {
  const { durability: one, append } = disk()
  for (let i = 0; i < 9; i++) one.tick()
  assert.not.ok(one.stuck)
  append(1)
  one.take()
  for (let i = 0; i < 4; i++) one.tick()
  assert.not.ok(one.stuck)
  one.tick()
  assert.ok(one.stuck)
  one.saved()
  assert.not.ok(one.stuck)
})

const rounds = suite('read rounds')

rounds('reads share the next round; one that comes later waits for another', () => {
  const one = new ReadRounds()
  one.add(1)
  one.add(2)
  assert.is(one.start(10), 1)
  one.add(3)
  assert.throws(() => one.start(11), /already under way/)
  assert.equal(one.confirm(), [
    { requestId: 1, index: 10 },
    { requestId: 2, index: 10 },
  ])
  assert.throws(() => one.confirm(), /no read round/)
  assert.is(one.start(11), 2)
  assert.equal(one.confirm(), [{ requestId: 3, index: 11 }])
})

rounds('what is abandoned is given back, each once', () => {
  const one = new ReadRounds()
  one.add(1)
  one.start(10)
  one.add(2)
  assert.equal(one.abandon(), [1, 2])
  assert.equal(one.abandon(), [])
  assert.equal([one.underWay, one.waitingCount], [false, 0])
})

const echoes = suite('echoes')

echoes('a new round at once, otherwise three an election timeout, whatever is lost', () => {
  const one = new Echoes({ electionTicks: 9 })
  assert.ok(one.due(0), 'the first of a leader')
  const answered: number[] = []
  for (let tick = 1; tick <= 9; tick++) {
    one.tick()
    if (one.due(0)) answered.push(tick)
  }
  assert.equal(answered, [3, 6, 9])
  assert.ok(one.due(1))
  assert.not.ok(one.due(1))
  assert.ok(one.due(2))
  for (let tick = 0; tick < 8; tick++) one.tick()
  assert.ok(one.due(2), 'the only one that arrived')
  one.reset()
  assert.ok(one.due(2), 'another leader')
})

const terms = suite('terms')

terms('a term that no election reaches changes nothing, whatever message it comes in', () => {
  const cluster = new Cluster({ size: 3 })
  const leader = cluster.lead('n1')
  const { term } = leader.raft
  const last = { lastIndex: 99, lastTerm: term }
  const messages = (far: number): RaftMessage[] => [
    { type: 'requestVote', term: far, ...last, transfer: true },
    { type: 'voteResponse', term: far, granted: false },
    { type: 'preVoteResponse', term: far, askedTerm: term, granted: false, leaderAlive: false },
    { type: 'heartbeatResponse', term: far, readRound: 0 },
    { type: 'appendResponse', term: far, accepted: true, matchIndex: 1 },
    { type: 'heartbeat', term: far, commit: 0, readRound: 0 },
  ]
  for (const message of messages(term + TERM_LEAP_MAX + 1)) {
    for (const node of cluster.nodes) {
      const from = node === leader ? cluster.node('n2').peer : leader.peer
      node.raft.step(from, message)
      assert.is(node.raft.term, term, message.type)
    }
  }
  assert.is(cluster.leader, leader)
  // As far as that an election may have gone.
  const [message] = messages(term + TERM_LEAP_MAX) as [RaftMessage]
  leader.raft.step(cluster.node('n2').peer, message)
  assert.is(leader.raft.term, term + TERM_LEAP_MAX)
})

terms('what earlier leaders appended does not count as what this one has not committed', () => {
  const logs = { n1: Array.from({ length: 101 }, () => 1) }
  const cluster = new Cluster({ size: 3, logs, options: { uncommittedBytesMax: 100 } })
  const leader = cluster.node('n1')
  for (let i = 0; i < 3 && leader.raft.role !== 'leader'; i++) {
    cluster.campaign('n1')
    cluster.settle()
  }
  assert.ok(leader.raft.termCommitted)
  cluster.isolate('n1')
  let taken = 0
  while (taken < 1000 && leader.raft.propose('command', new Uint8Array(10)).ok) taken++
  assert.is(taken, 11, 'until it is more than the limit')
})

gate.run()
terms.run()
durability.run()
rounds.run()
echoes.run()
