/** Log time: who moves it and when, what expires by it, and that no clock can make anything expire early. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, decodeOutcome, encodeCommand } from '../../client/protocol.ts'
import { SESSION_IDLE_MS } from '../../client/session.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { decodeLogTime, encodeLogTime, LogClock } from '../../node/log-clock.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { Entry, EntryKind } from '../../node/raft/types.ts'
import { SESSION_TTL_MS, SESSIONS_MAX, Sessions } from '../../node/sessions.ts'
import {
  openSession,
  outcomeOf,
  put,
  ReplicaCluster,
  type ReplicaNode,
  TICK_MS,
} from '../support/raft-replicas.ts'

const NOTHING = new Uint8Array(0)
const TTL_MS = 1000

/** Sessions under a clock of their own. */
class Lab {
  readonly sessions = new Sessions()
  timeMs = 0
  #index = 0

  open(): number {
    this.#apply('openSession', 0, 0)
    return this.#index
  }

  use(session: number, sequence = 1): string {
    return this.#apply('operation', session, sequence)
  }

  /** A time entry, exactly when one is due; false: not yet. */
  pass(toMs: number): boolean {
    const due = this.sessions.dueMs(this.timeMs, TTL_MS)
    if (due === null || due > toMs) return false
    this.timeMs = toMs
    this.sessions.advance(toMs, TTL_MS)
    return true
  }

  #apply(kind: Command['kind'], session: number, sequence: number): string {
    const operation = kind === 'operation' ? Uint8Array.of(1) : NOTHING
    const command = { kind, session, sequence, firstOutstanding: 0, operation }
    return decodeOutcome(this.sessions.apply(command, ++this.#index, () => NOTHING)).status
  }
}

const expiry = suite('sessions by log time')

expiry('without sessions nothing is ever due', () => {
  const lab = new Lab()
  assert.is(lab.sessions.dueMs(0, TTL_MS), null)
  const id = lab.open()
  assert.is(lab.sessions.dueMs(0, TTL_MS), TTL_MS)
  assert.ok(lab.pass(TTL_MS))
  assert.ok(lab.pass(2 * TTL_MS))
  assert.is(lab.use(id), 'expired')
  assert.is(lab.sessions.dueMs(lab.timeMs, TTL_MS), null)
})

expiry('whoever was used since the last time entry stays, whatever the time', () => {
  const lab = new Lab()
  const id = lab.open()
  for (let at = 1; at <= 20; at++) {
    assert.ok(lab.pass(at * 100_000))
    assert.is(lab.use(id, at), 'done')
  }
  // A repeat is a use, and so is what comes too late.
  assert.ok(lab.pass(3_000_000))
  assert.is(lab.use(id, 20), 'done')
  assert.ok(lab.pass(4_000_000))
  assert.is(lab.use(id, 20), 'done')
})

expiry('a clone is not aged by its origin', () => {
  const lab = new Lab()
  const id = lab.open()
  const clone = new Sessions(lab.sessions)
  const hash = clone.hash()
  lab.pass(TTL_MS)
  lab.pass(2 * TTL_MS)
  assert.is(lab.sessions.count, 0)
  assert.is(clone.count, 1)
  assert.is(clone.hash(), hash)
  assert.is(clone.dueMs(0, TTL_MS), TTL_MS)
  clone.advance(TTL_MS, TTL_MS)
  assert.is(clone.dueMs(TTL_MS, TTL_MS), 2 * TTL_MS)
  assert.is(lab.use(id), 'expired')
})

expiry('lives at least the TTL after its last use, at most twice that and a moment', () => {
  const MOMENT = 100
  const what = fc.record({ waitMs: fc.nat(700), session: fc.nat(3), open: fc.boolean() })
  fc.assert(
    fc.property(fc.array(what, { maxLength: 60, size: 'max' }), (steps) => {
      const lab = new Lab()
      const lastUse = new Map<number, number>()
      let sequence = 1
      let realMs = 0
      let entries = 0
      for (const { waitMs, session, open } of steps) {
        // The leader looks every moment, as its ticks do.
        for (const endMs = realMs + waitMs; realMs < endMs; realMs += MOMENT) {
          if (lab.pass(realMs)) entries++
        }
        const [id] = [...lastUse.keys()].slice(session)
        if (open || id === undefined) lastUse.set(lab.open(), realMs)
        else {
          const unusedMs = realMs - (lastUse.get(id) as number)
          const status = lab.use(id, sequence++)
          if (unusedMs < TTL_MS) assert.is(status, 'done', `after ${unusedMs} ms`)
          if (unusedMs > 2 * TTL_MS + 2 * MOMENT) assert.is(status, 'expired', `${unusedMs} ms`)
          if (status === 'done') lastUse.set(id, realMs)
          else lastUse.delete(id)
        }
      }
      // One entry causes at most one more, a TTL later; the first after a long silence comes at once.
      assert.ok(entries <= 2 * (realMs / TTL_MS) + 2, `${entries} entries in ${realMs} ms`)
    }),
    { numRuns: 300 },
  )
})

expiry('the table stays bounded, and who gives way is still the least recently used', () => {
  const lab = new Lab()
  const first = lab.open()
  for (let i = 1; i < SESSIONS_MAX; i++) lab.open()
  lab.pass(TTL_MS)
  lab.use(first)
  lab.open()
  assert.is(lab.sessions.count, SESSIONS_MAX)
  assert.is(lab.use(first), 'done')
  assert.is(lab.use(first + 1), 'expired')
  // Due is what the least recently used one says.
  assert.is(lab.sessions.dueMs(lab.timeMs, TTL_MS), 2 * TTL_MS)
  assert.ok(lab.pass(2 * TTL_MS))
  assert.is(lab.sessions.count, 2, 'only those who were used since')
})

expiry(
  'a time entry that is not later than the last one moves nothing, and neither does what is no time',
  () => {
    const state = new AppliedState({
      machine: new KvMachine(),
      hashEveryEntries: 1024,
      hashesKept: 1,
      sessionTtlMs: TTL_MS,
      keyTtlMs: TTL_MS,
    })
    let index = 0
    const apply = (kind: EntryKind, payload: Uint8Array) => {
      state.apply({ term: 1, index: ++index, kind, payload })
      return { hash: state.hash(), timeMs: state.logTimeMs, dueMs: state.dueMs }
    }
    const opening = { kind: 'openSession', session: 0, sequence: 0, firstOutstanding: 0 } as const
    const opened = apply('command', encodeCommand({ ...opening, operation: NOTHING }))
    assert.equal([opened.timeMs, opened.dueMs], [0, TTL_MS])
    const passed = apply('time', encodeLogTime(5000))
    assert.equal([passed.timeMs, passed.dueMs], [5000, 5000 + TTL_MS])
    assert.is.not(passed.hash, opened.hash)
    for (const payload of [encodeLogTime(5000), encodeLogTime(4000), NOTHING, new Uint8Array(9)]) {
      assert.equal(apply('time', payload), passed)
    }
    const gone = apply('time', encodeLogTime(6000))
    assert.equal([gone.timeMs, gone.dueMs], [6000, null])
  },
)

expiry('no client uses a session that is old enough to have expired', () => {
  assert.ok(SESSION_IDLE_MS * 10 < SESSION_TTL_MS)
})

// --- the leader's clock -----------------------------------------------------------------------------------------------

function clockLab() {
  const proposed: Uint8Array[] = []
  const raft = {
    role: 'leader',
    term: 3,
    termCommitted: true,
    log: { appliedIndex: 5, commitIndex: 5 },
    propose: (_kind: EntryKind, payload: Uint8Array) => {
      proposed.push(payload)
      return lab.refusing
        ? { ok: false as const, reason: 'overloaded' as const }
        : { ok: true as const, id: { term: raft.term, index: 5 + proposed.length } }
    },
  }
  const lab = { raft, proposed, refusing: false, logTimeMs: 0, dueMs: 50 as number | null }
  const clock = new LogClock({
    raft: raft as never,
    tickMs: 10,
    logTimeMs: () => lab.logTimeMs,
    dueMs: () => lab.dueMs,
  })
  const apply = (entry: Pick<Entry, 'index' | 'kind'>) =>
    clock.applied({ term: raft.term, payload: NOTHING, ...entry })
  const tick = (count: number) => {
    for (let i = 0; i < count; i++) clock.tick()
  }
  return { ...lab, lab, clock, apply, tick }
}

const clocks = suite("the leader's clock")

clocks('a leader proposes when something is due, once', () => {
  const { lab, proposed, tick, apply, clock } = clockLab()
  tick(5)
  assert.is(proposed.length, 0, '45 ms at least')
  tick(1)
  assert.equal(proposed.map(decodeLogTime), [54])
  tick(100)
  assert.is(proposed.length, 1, 'the one on its way is enough')
  lab.logTimeMs = 54
  lab.dueMs = 104
  apply({ index: 6, kind: 'time' })
  assert.is(clock.estimateMs, 54, 'it counts from what was agreed')
  tick(5)
  assert.is(proposed.length, 1)
  tick(1)
  assert.equal(proposed.map(decodeLogTime), [54, 108])
})

clocks('nobody else does, nor a leader who does not know yet what time it is', () => {
  for (const change of [
    { role: 'follower' },
    { termCommitted: false },
    { log: { appliedIndex: 4, commitIndex: 5 } },
  ]) {
    const { lab, proposed, tick } = clockLab()
    Object.assign(lab.raft, change)
    tick(100)
    assert.is(proposed.length, 0, JSON.stringify(change))
  }
  const { lab, proposed, tick } = clockLab()
  lab.dueMs = null
  tick(100)
  assert.is(proposed.length, 0)
})

clocks('what was refused, or lost with the term, is proposed again', () => {
  const { lab, proposed, tick, apply } = clockLab()
  lab.refusing = true
  tick(8)
  assert.is(proposed.length, 3)
  lab.refusing = false
  tick(3)
  assert.is(proposed.length, 4)
  lab.raft.term = 4
  tick(1)
  assert.is(proposed.length, 5)
  apply({ index: 10, kind: 'command' })
  tick(1)
  assert.is(proposed.length, 6, 'another entry took its place')
})

clocks('a state from elsewhere brings its time, and what went by before does not count', () => {
  const { lab, proposed, tick, clock } = clockLab()
  lab.dueMs = null
  tick(1000)
  lab.logTimeMs = 50_000
  lab.dueMs = 50_100
  tick(11)
  assert.is(clock.estimateMs, 50_099)
  assert.is(proposed.length, 0)
  tick(1)
  assert.equal(proposed.map(decodeLogTime), [50_108])
})

clocks('log time is eight bytes and nothing else', () => {
  for (const ms of [0, 1, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
    assert.is(decodeLogTime(encodeLogTime(ms)), ms)
  }
  for (const bytes of [
    NOTHING,
    new Uint8Array(7),
    new Uint8Array(9),
    new Uint8Array(8).fill(255),
  ]) {
    assert.is(decodeLogTime(bytes), null)
  }
})

// --- whole replicas -----------------------------------------------------------------------------------------------------

const OPTIONS = { sessionTtlMs: 1000, keyTtlMs: 1000 }
/** Of log time, which may run this much behind the ticks. */
const TTL_TICKS = Math.ceil(1000 / TICK_MS / 0.9) + 1

function open(cluster: ReplicaCluster, node: ReplicaNode, requestId: number): number {
  node.replica.request(requestId, openSession())
  const answer = cluster.answerOf(node, requestId)
  return answer.ok ? answer.index : 0
}

function timesIn(node: ReplicaNode): number {
  return node.disk.entries.filter(({ kind }) => kind === 'time').length
}

function write(cluster: ReplicaCluster, node: ReplicaNode, id: number, session: number): string {
  node.replica.request(id, put({ session, sequence: id }, 'k', 'v'))
  return outcomeOf(cluster.answerOf(node, id)).status
}

const replicas = suite('log time on replicas')

replicas('an idle cluster without sessions appends nothing', () => {
  const cluster = new ReplicaCluster({ options: OPTIONS })
  cluster.elect()
  cluster.tick(50 * TTL_TICKS)
  assert.equal(cluster.nodes.map(timesIn), [0, 0, 0])
})

replicas('a session that nobody uses costs two entries, and then there is peace', () => {
  const cluster = new ReplicaCluster({ options: OPTIONS })
  const leader = cluster.elect()
  const session = open(cluster, leader, 1)
  cluster.tick(20 * TTL_TICKS)
  assert.equal(cluster.nodes.map(timesIn), [2, 2, 2])
  assert.is(write(cluster, leader, 2, session), 'expired')
})

replicas('a session in use stays through changes of leader and restarts', () => {
  const cluster = new ReplicaCluster({ options: OPTIONS })
  const session = open(cluster, cluster.elect(), 1)
  for (let id = 2; id < 14; id++) {
    const leader = cluster.elect()
    cluster.tick(TTL_TICKS - 20)
    const node = cluster.nodes[id % 3] as ReplicaNode
    assert.is(write(cluster, node, id, session), 'done', `write ${id}`)
    if (id % 3 !== 0) continue
    cluster.crash(leader)
    cluster.restart(leader)
    cluster.elect()
  }
  const leader = cluster.elect()
  assert.ok(timesIn(leader) >= 5, 'time went on')
  cluster.tick(5)
  assert.is(new Set(cluster.nodes.map(({ replica }) => replica.stateHash.hash)).size, 1)
})

replicas('a leader that was replaced expires nothing with its own time', () => {
  const cluster = new ReplicaCluster({ options: OPTIONS })
  const old = cluster.elect()
  const session = open(cluster, old, 1)
  cluster.isolate(old.name)
  // It believes that it leads until its check of the quorum, and finds something due meanwhile or not: nothing of it commits.
  cluster.tick(2)
  for (let i = 0; i < 5 * TTL_TICKS; i++) old.replica.tick()
  cluster.settle()
  const leader = cluster.elect()
  assert.is.not(leader, old)
  assert.is(write(cluster, leader, 2, session), 'done')
  cluster.heal()
  cluster.tick(30)
  assert.is(write(cluster, old, 3, session), 'done')
})

replicas('cut off from a quorum, a whole cluster stands still in time', () => {
  const cluster = new ReplicaCluster({ options: OPTIONS })
  const leader = cluster.elect()
  const session = open(cluster, leader, 1)
  for (const { name } of cluster.nodes) cluster.isolate(name)
  cluster.tick(10 * TTL_TICKS)
  cluster.heal()
  const next = cluster.elect()
  // The first time entry finds it used; nothing has expired in the dark.
  cluster.tick(5)
  assert.is(write(cluster, next, 2, session), 'done')
})

expiry.run()
clocks.run()
replicas.run()
