/** A replica's requests: forwarded, sent again, answered exactly once, and what happens when they can not be answered. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeChangeRequest } from '../../node/change-request.ts'
import type { PeerFrame } from '../../node/peer-frame.ts'
import {
  errorOf,
  get,
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  TICK_MS,
  valueIn,
} from '../support/raft-replicas.ts'

/** A cluster with a leader, two followers and a session opened through the leader. */
function start(options: ConstructorParameters<typeof ReplicaCluster>[0] = {}) {
  const cluster = new ReplicaCluster(options)
  const leader = cluster.elect()
  const [follower, other] = cluster.followers() as [ReplicaNode, ReplicaNode]
  leader.replica.request(1, openSession())
  const opened = cluster.answerOf(leader, 1)
  assert.ok(opened.ok)
  cluster.tick(3)
  return { cluster, leader, follower, other, session: opened.ok ? opened.index : 0 }
}

function valueAt(node: ReplicaNode, key: string): string | null {
  node.replica.request(9_999_999, get(key, { consistency: 'stale' }))
  const [last] = node.replica.drain().answers.slice(-1)
  return valueIn(last?.answer ?? null)
}

/** How often a put of `value` stands in a node's log. */
function copiesInLog(node: ReplicaNode, value: string): number {
  return node.disk.entries.filter((entry) =>
    new TextDecoder('latin1').decode(entry.payload).endsWith(value),
  ).length
}

const isReply = ({ frame }: { readonly frame: PeerFrame }) => frame.type === 'forwardReply'

const forwarding = suite('forwarding')

forwarding('a follower forwards a write and answers with what the leader made of it', () => {
  const { cluster, follower, session } = start()
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  const answer = cluster.answerOf(follower, 2)
  assert.equal(outcomeOf(answer), { status: 'done', succeeded: true })
  cluster.tick(2)
  for (const node of cluster.nodes) assert.is(valueAt(node, 'k'), 'v')
})

forwarding('a node that does not lead says so and never forwards a forwarded request', () => {
  const { cluster, follower, other, session } = start()
  const command = put({ session, sequence: 1 }, 'k', 'v')
  assert.ok(command.type === 'command')
  const body = command.type === 'command' ? command.command : new Uint8Array(0)
  const frame: PeerFrame = { type: 'forward', requestId: 77, operation: 'command', body }
  follower.replica.receive(other.peer, frame)
  const { frames } = follower.replica.drain()
  assert.equal([...frames.keys()], [other.peer])
  const [reply] = frames.get(other.peer) ?? []
  assert.ok(reply?.type === 'forwardReply' && reply.outcome === 'not-leader')
  cluster.settle()
})

forwarding('malformed forwarded commands never enter the log, and are answered', () => {
  const { cluster, leader, follower } = start()
  const before = leader.replica.raft.log.lastIndex
  const bodies = [
    [],
    [1],
    [0, 0, 0],
    [9, ...new Array(40).fill(0)],
    [1, 7, ...new Array(24).fill(0)],
  ]
  for (const [at, body] of bodies.entries()) {
    const frame = { requestId: 500 + at, operation: 'command', body: new Uint8Array(body) } as const
    leader.replica.receive(follower.peer, { type: 'forward', ...frame })
  }
  const replies = [...(leader.replica.drain().frames.get(follower.peer) ?? [])].flatMap((frame) =>
    frame.type === 'forwardReply' ? [frame.outcome] : [],
  )
  assert.equal(replies, new Array(bodies.length).fill('bad-request'))
  cluster.tick(3)
  assert.is(leader.replica.raft.log.lastIndex, before)
  assert.is(cluster.leader, leader)
})

forwarding('a malformed command or query of a client is a bad request', () => {
  const { cluster, leader } = start()
  const command = new Uint8Array([1, 2, 3])
  leader.replica.request(2, { type: 'command', command, timeoutMs: 100 })
  const query = new Uint8Array([99])
  leader.replica.request(3, { type: 'query', query, consistency: 'linearizable', timeoutMs: 100 })
  leader.replica.request(4, { type: 'query', query, consistency: 'stale', timeoutMs: 100 })
  for (const id of [2, 3, 4]) {
    assert.equal(errorOf(cluster.answerOf(leader, id)), {
      code: 'bad-request',
      maybeApplied: false,
    })
  }
})

forwarding('a forward that got lost is sent again', () => {
  const { cluster, follower, session } = start()
  cluster.hold = ({ frame }) => frame.type === 'forward'
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.tick(3)
  assert.is(cluster.held.length, 1)
  cluster.held = []
  cluster.hold = null
  assert.equal(outcomeOf(cluster.answerOf(follower, 2)), { status: 'done', succeeded: true })
})

forwarding('a new leader is asked at once, without waiting for the old one to answer', () => {
  const { cluster, leader, follower, other, session } = start()
  cluster.hold = ({ frame }) => frame.type === 'forward'
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  follower.replica.request(3, get('k'))
  cluster.settle()
  cluster.held = []
  cluster.hold = null
  assert.ok(leader.replica.raft.transferLeadership(other.peer))
  cluster.tick(2)
  assert.is(cluster.leader, other)
  assert.ok(follower.answer(2)?.ok)
  assert.ok(follower.answer(3)?.ok)
})

forwarding('a slow leader is not buried under repetitions', () => {
  const { cluster, leader, follower, session } = start()
  cluster.hold = isReply
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'slow'))
  cluster.tick(100)
  // Ten election timeouts without an answer: the patience grows with every repetition.
  const copies = copiesInLog(leader, 'slow')
  assert.ok(copies >= 2 && copies <= 5, `${copies} copies`)
  cluster.hold = null
  assert.equal(outcomeOf(cluster.answerOf(follower, 2)), { status: 'done', succeeded: true })
})

forwarding('a repetition that the leader refuses leaves in doubt what the first one did', () => {
  const { cluster, leader, follower, session } = start()
  cluster.hold = isReply
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.tick(3)
  assert.is(valueAt(leader, 'k'), 'v')
  cluster.held = []
  cluster.hold = ({ frame }) => frame.type === 'forward'
  while (cluster.held.length === 0) cluster.tick(1)
  const [repetition] = cluster.held
  assert.ok(repetition?.frame.type === 'forward')
  const requestId = repetition.frame.type === 'forward' ? repetition.frame.requestId : 0
  const refusal = { type: 'forwardReply', requestId, outcome: 'overloaded', index: 0 } as const
  follower.replica.receive(leader.peer, { ...refusal, body: new Uint8Array(0) })
  assert.equal(errorOf(cluster.answerOf(follower, 2)), { code: 'overloaded', maybeApplied: true })
})

const once = suite('exactly once')

once('a retry after a change of leader gives one application', () => {
  const { cluster, leader, follower, session } = start()
  // The write is replicated and committed, but the leader dies before its answer is out.
  cluster.hold = isReply
  const key = put({ session, sequence: 1 }, 'k', 'first', true)
  follower.replica.request(2, key)
  cluster.tick(2)
  assert.is(cluster.held.length, 1)
  cluster.held = []
  cluster.hold = null
  cluster.crash(leader)
  const answer = cluster.answerOf(follower, 2)
  // The condition held the first time; a second run would have failed it.
  assert.equal(outcomeOf(answer), { status: 'done', succeeded: true })
  assert.ok(copiesInLog(follower, 'first') >= 2, 'it was sent again')
  const hashes = new Set(cluster.followers().map((node) => node.replica.stateHash.hash))
  assert.is(hashes.size, 1)
})

once('what a deposed leader proposed is asked again under the next one, and answered once', () => {
  const { cluster, leader, session } = start()
  cluster.isolate(leader.name)
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'mine', true))
  cluster.tick(40)
  assert.is.not(cluster.leader, leader)
  assert.is(leader.answer(2), null)
  cluster.heal()
  assert.equal(outcomeOf(cluster.answerOf(leader, 2)), { status: 'done', succeeded: true })
  cluster.tick(30)
  assert.ok(leader.answer(2)?.ok, 'and only once')
})

once('a proposal of a peer is answered not-leader when leadership ends', () => {
  const { cluster, leader, follower, session } = start()
  leader.slowDisk = true
  for (const node of cluster.followers()) node.slowDisk = true
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.settle()
  cluster.hold = isReply
  leader.replica.receive(follower.peer, {
    type: 'raft',
    message: { type: 'heartbeatResponse', term: leader.replica.raft.term + 1, readRound: 0 },
  })
  cluster.settle()
  const outcomes = cluster.held.map(({ frame }) => frame.type === 'forwardReply' && frame.outcome)
  assert.equal(outcomes, ['not-leader'])
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.release()
  assert.equal(outcomeOf(cluster.answerOf(follower, 2)), { status: 'done', succeeded: true })
})

once('an answer to a request from before a restart answers nothing', () => {
  // HAZARDS, Reads: request ids of two lives of a process must never match.
  const { cluster, leader, follower, other, session } = start()
  cluster.crash(other)
  cluster.hold = ({ from, frame }) => from === follower.peer && frame.type === 'raft'
  follower.replica.request(2, put({ session, sequence: 1 }, 'k', 'old'))
  cluster.settle()
  cluster.held = []
  cluster.hold = null
  cluster.crash(follower, true)
  cluster.restart(follower)
  // The leader can commit the old write only now, with this follower's help.
  follower.replica.request(3, put({ session, sequence: 2 }, 'absent', 'x', true))
  cluster.tick(1)
  follower.replica.request(4, get('k'))
  const first = cluster.answerOf(follower, 3)
  cluster.answerOf(follower, 4)
  assert.is(valueAt(leader, 'absent'), 'x')
  const at = leader.replica.raft.log.entryAt(first.ok ? first.index : 0)
  const text = new TextDecoder('latin1').decode(at?.payload)
  assert.ok(text.endsWith('absentx'), 'the answer is that of the new write')
})

once('a request that timed out or was cancelled gets no second answer', () => {
  const { cluster, leader, follower, session } = start()
  for (const node of cluster.nodes) node.slowDisk = true
  leader.replica.request(2, put({ session, sequence: 1, timeoutMs: 5 * TICK_MS }, 'k', 'a'))
  leader.replica.request(3, put({ session, sequence: 2 }, 'k', 'b'))
  follower.replica.request(4, put({ session, sequence: 3, timeoutMs: 5 * TICK_MS }, 'k', 'c'))
  cluster.tick(2)
  leader.replica.cancel(3)
  cluster.tick(6)
  for (const [node, id] of [
    [leader, 2],
    [follower, 4],
  ] as const) {
    // Rule 10: a timeout is not a failure.
    assert.equal(errorOf(node.answer(id)), { code: 'timeout', maybeApplied: true })
  }
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.tick(30)
  assert.is(valueAt(leader, 'k'), 'c')
  assert.ok(leader.answer(2), 'one answer')
  assert.ok(follower.answer(4), 'one answer')
  assert.is(leader.answer(3), null)
})

const limits = suite('limits and refusals')

limits('requests beyond the limit answer overloaded and were not applied', () => {
  const { cluster, leader, session } = start({ options: { pendingRequestsMax: 3 } })
  for (let i = 0; i < 5; i++) {
    leader.replica.request(10 + i, put({ session, sequence: 1 + i }, `k${i}`, 'v'))
  }
  cluster.tick(2)
  for (const id of [10, 11, 12]) assert.is(outcomeOf(leader.answer(id)).status, 'done')
  for (const id of [13, 14]) {
    assert.equal(errorOf(leader.answer(id)), { code: 'overloaded', maybeApplied: false })
  }
  leader.replica.request(20, get('k1'))
  assert.is(valueIn(cluster.answerOf(leader, 20)), 'v')
})

limits('bytes are counted, and given back', () => {
  const { cluster, leader, session } = start({ options: { pendingRequestBytesMax: 2000 } })
  for (let round = 0; round < 5; round++) {
    const sequence = 1 + 3 * round
    for (let i = 0; i < 3; i++) {
      const write = put({ session, sequence: sequence + i }, 'k', 'x'.repeat(1200))
      leader.replica.request(10 * (round + 1) + i, write)
    }
    cluster.tick(2)
    const answers = [0, 1, 2].map((i) => leader.answer(10 * (round + 1) + i))
    assert.equal(
      answers.map((answer) => answer?.ok),
      [true, true, false],
    )
  }
})

limits('a cluster that no node leads answers no-leader', () => {
  const { cluster, leader, session } = start()
  for (const node of cluster.followers()) cluster.crash(node)
  cluster.tick(40)
  assert.is(leader.replica.raft.leader, null)
  leader.replica.request(2, put({ session, sequence: 1, timeoutMs: 5 * TICK_MS }, 'k', 'v'))
  leader.replica.request(3, get('k', { timeoutMs: 5 * TICK_MS }))
  leader.replica.request(4, get('k', { consistency: 'stale' }))
  cluster.tick(8)
  for (const id of [2, 3]) {
    assert.equal(errorOf(leader.answer(id)), { code: 'no-leader', maybeApplied: false })
  }
  assert.is(valueIn(leader.answer(4)), null)
})

limits('a full disk: leadership goes elsewhere and writes go on', () => {
  const { cluster, leader, session } = start()
  leader.fullDisk = true
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  assert.equal(errorOf(cluster.answerOf(leader, 2)), { code: 'disk-full', maybeApplied: true })
  cluster.tick(40)
  assert.is.not(cluster.leader, leader)
  leader.replica.request(5, put({ session, sequence: 1 }, 'k', 'v'))
  assert.is(outcomeOf(cluster.answerOf(leader, 5)).status, 'done')
  leader.replica.request(3, get('k'))
  assert.is(valueIn(cluster.answerOf(leader, 3)), 'v')
})

limits('a full disk and nobody else: writes answer disk-full, and go on when there is room', () => {
  const { cluster, leader, session } = start({ size: 1 })
  leader.fullDisk = true
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  assert.is(errorOf(cluster.answerOf(leader, 2)).code, 'disk-full')
  leader.replica.request(3, put({ session, sequence: 2 }, 'k', 'w'))
  assert.equal(errorOf(cluster.answerOf(leader, 3)), { code: 'disk-full', maybeApplied: false })
  leader.replica.request(4, get('k', { consistency: 'stale' }))
  cluster.settle()
  assert.is(valueIn(leader.answer(4)), null)
  leader.fullDisk = false
  cluster.tick(40)
  leader.replica.request(5, put({ session, sequence: 3 }, 'k', 'x'))
  assert.is(outcomeOf(cluster.answerOf(leader, 5)).status, 'done')
})

limits('a follower whose disk is full knows no leader once it hears none', () => {
  const { cluster, leader, follower, other, session } = start()
  follower.fullDisk = true
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.tick(3)
  assert.ok(follower.replica.raft.diskFull)
  cluster.crash(leader, true)
  cluster.crash(other, true)
  cluster.tick(40)
  assert.is(follower.replica.raft.leader, null)
  follower.replica.request(3, put({ session, sequence: 2 }, 'k', 'v'))
  assert.equal(errorOf(cluster.answerOf(follower, 3)), { code: 'disk-full', maybeApplied: false })
})

limits('close answers everything that waits, once', () => {
  const { cluster, leader, session } = start()
  for (const node of cluster.nodes) node.slowDisk = true
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.settle()
  leader.replica.request(3, put({ session, sequence: 2 }, 'k', 'v'))
  leader.replica.close()
  cluster.settle()
  assert.equal(errorOf(leader.answer(2)), { code: 'closing', maybeApplied: true })
  assert.equal(errorOf(leader.answer(3)), { code: 'closing', maybeApplied: false })
  for (const node of cluster.nodes) node.slowDisk = false
  cluster.settle()
  assert.ok(leader.answer(2), 'no second answer')
})

limits('handing over moves leadership and loses no request', () => {
  const { cluster, leader, follower, session } = start()
  assert.ok(leader.replica.handOver())
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'a'))
  follower.replica.request(3, put({ session, sequence: 2, firstOutstanding: 1 }, 'l', 'b'))
  assert.is(outcomeOf(cluster.answerOf(leader, 2)).status, 'done')
  assert.is(outcomeOf(cluster.answerOf(follower, 3)).status, 'done')
  assert.is.not(cluster.leader, leader)
})

const caughtUp = suite('caught up')

caughtUp('a follower under constant load counts as caught up', () => {
  const { cluster, leader, follower, other, session } = start()
  // The followers meet a new leader while writes never pause.
  leader.replica.handOver()
  let sequence = 1
  for (let i = 0; i < 100; i++) {
    const write = put({ session, sequence, firstOutstanding: 1 }, 'k', `${sequence++}`)
    leader.replica.request(100 + i, write)
    cluster.tick()
  }
  assert.is.not(cluster.leader, leader)
  for (const node of [leader, follower, other]) assert.ok(node.replica.caughtUp, node.name)
})

caughtUp('a follower that comes back after a while is not caught up until it is', () => {
  const { cluster, leader, follower, session } = start()
  cluster.tick(10)
  assert.ok(follower.replica.caughtUp)
  cluster.isolate(follower.name)
  cluster.tick(40)
  assert.not.ok(follower.replica.caughtUp)
  leader.replica.request(2, put({ session, sequence: 1 }, 'k', 'v'))
  cluster.answerOf(leader, 2)
  cluster.heal()
  cluster.hold = ({ to, frame }) =>
    to === follower.peer && frame.type === 'raft' && frame.message.type === 'append'
  cluster.tick(4)
  assert.is(follower.replica.raft.leader, leader.peer)
  assert.not.ok(follower.replica.caughtUp)
  cluster.release()
  cluster.tick(10)
  assert.ok(follower.replica.caughtUp)
})

forwarding(
  'a change that takes the leader longer than a forward waits is answered all the same',
  () => {
    const { cluster, follower } = start()
    cluster.hold = isReply
    const body = encodeChangeRequest({ verb: 'settings', settings: { maxVoters: 5 } })
    follower.replica.request(2, { type: 'change', body, timeoutMs: 10_000 })
    cluster.tick(50)
    assert.is(follower.answer(2), null, 'five election timeouts are no reason to give up')
    cluster.release()
    assert.ok(cluster.answerOf(follower, 2).ok)
  },
)

forwarding('a change that was on its way when the link broke is not asked for twice', () => {
  const { cluster, leader, follower } = start()
  cluster.hold = isReply
  const body = encodeChangeRequest({ verb: 'settings', settings: { maxVoters: 5 } })
  follower.replica.request(2, { type: 'change', body, timeoutMs: 10_000 })
  cluster.settle()
  follower.replica.linkClosed(leader.peer)
  assert.equal(errorOf(cluster.answerOf(follower, 2)), { code: 'timeout', maybeApplied: true })
})

forwarding('every member tells of a change, with its reason', () => {
  const { cluster, leader } = start()
  const settings = { maxVoters: 5 }
  const body = encodeChangeRequest({ verb: 'settings', settings, reason: 'as agreed' })
  leader.replica.request(2, { type: 'change', body, timeoutMs: 10_000 })
  assert.ok(cluster.answerOf(leader, 2).ok)
  cluster.tick(3)
  for (const { events } of cluster.nodes) {
    const last = events.filter(({ event }) => event === 'config.changed').at(-1)
    const { index: _, ...told } = last?.fields ?? {}
    assert.equal(told, { voters: 3, standBys: 0, reason: 'as agreed' })
  }
})

forwarding('a change that nobody answers ends when its own time is up, once', () => {
  const { cluster, follower } = start()
  cluster.hold = isReply
  const body = encodeChangeRequest({ verb: 'settings', settings: { maxVoters: 5 } })
  follower.replica.request(2, { type: 'change', body, timeoutMs: 500 })
  cluster.tick(100)
  assert.equal(errorOf(follower.answer(2)), { code: 'timeout', maybeApplied: true })
})

forwarding(
  'a change that enters the log in the turn in which leadership ends is not called done',
  () => {
    const { cluster, leader, follower, other } = start()
    const { term } = leader.replica.raft
    cluster.hold = ({ to, frame }) => to === leader.peer && frame.type === 'raft'
    const body = encodeChangeRequest({ verb: 'demote', id: other.name })
    leader.replica.request(2, { type: 'change', body, timeoutMs: 10_000 })
    cluster.settle()
    cluster.release()
    const rejected = { accepted: false, rejectedIndex: 0, hintIndex: 0, hintTerm: 0 } as const
    const message = { type: 'appendResponse', term: term + 1, ...rejected } as const
    leader.replica.receive(follower.peer, { type: 'raft', message })
    cluster.isolate(leader.name)
    cluster.settle()
    const expected = { code: 'timeout', maybeApplied: true }
    assert.equal(errorOf(leader.answer(2)), expected)
    // The next leader knows nothing of it, and makes another change in its place.
    cluster.elect()
    const next = cluster.nodes.find(
      (node) => node !== leader && node.replica.raft.role === 'leader',
    )
    const settings = encodeChangeRequest({ verb: 'settings', settings: { maxVoters: 7 } })
    next?.replica.request(3, { type: 'change', body: settings, timeoutMs: 10_000 })
    cluster.tick(5)
    cluster.heal()
    cluster.tick(50)
    assert.equal(errorOf(leader.answer(2)), expected)
  },
)

forwarding.run()
caughtUp.run()
once.run()
limits.run()
