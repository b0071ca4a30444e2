/** Writes under a key: once, whatever fails meanwhile; the table alone, and through a simulated cluster. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  decodeKvGot,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
} from '../../client/protocol.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { IdempotencyKeys, KEY_REPLIES_BYTES_MAX, KEYS_MAX } from '../../node/idempotency-keys.ts'
import { encodeLogTime } from '../../node/log-clock.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { SimulatedCluster, SimulatedRequestError } from '../../node/testing/testing.ts'

const TTL_MS = 1000
const NOTHING = new Uint8Array(0)

function keyed(key: number, request = key, operation: Uint8Array = Uint8Array.of(1)): Uint8Array {
  const bytes = new Uint8Array(64 + operation.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, key)
  view.setUint32(32, request)
  bytes.set(operation, 64)
  return bytes
}

class Lab {
  keys = new IdempotencyKeys()
  runs = 0

  apply(key: number, request = key, isLate = false): string {
    const { status, body } = decodeOutcome(
      this.keys.apply(keyed(key, request), isLate, () =>
        new TextEncoder().encode(`run ${++this.runs}`),
      ),
    )
    return body.length === 0 ? status : new TextDecoder().decode(body)
  }
}

function restored(keys: IdempotencyKeys): IdempotencyKeys {
  const restorer = IdempotencyKeys.restorer()
  for (const piece of keys.pieces()) restorer.write(piece)
  return restorer.finish()
}

const table = suite('idempotency keys')

table('the same request under the same key runs once; another one is refused', () => {
  const lab = new Lab()
  assert.is(lab.apply(1), 'run 1')
  assert.is(lab.apply(2), 'run 2')
  assert.is(lab.apply(1), 'run 1')
  assert.is(lab.apply(1, 9), 'conflict')
  assert.is(lab.apply(1), 'run 1')
  assert.is(lab.runs, 2)
})

table('a key is kept for the TTL at least, and is gone after the second time entry', () => {
  const lab = new Lab()
  assert.is(lab.keys.dueMs(0, TTL_MS), null)
  lab.apply(1)
  assert.is(lab.keys.dueMs(500, TTL_MS), 1500)
  lab.keys.advance(1500, TTL_MS)
  lab.apply(2)
  assert.is(lab.keys.dueMs(1500, TTL_MS), 2500)
  lab.keys.advance(2499, TTL_MS)
  assert.is(lab.apply(1), 'run 1')
  lab.keys.advance(2500, TTL_MS)
  assert.is(lab.apply(2), 'run 2')
  assert.is(lab.apply(1), 'run 3', 'it expired, and runs anew')
  assert.is(lab.keys.count, 2)
})

table('a late copy gets the answer that is remembered, and does not run when there is none', () => {
  const lab = new Lab()
  assert.is(lab.apply(1), 'run 1')
  assert.is(lab.apply(1, 1, true), 'run 1')
  assert.is(lab.apply(1, 2, true), 'conflict')
  assert.is(lab.apply(2, 2, true), 'expired')
  assert.is(lab.apply(2), 'run 2', 'it was not remembered either')
})

table('what cannot be remembered does not run', () => {
  const lab = new Lab()
  for (let key = 0; key < KEYS_MAX; key++) lab.keys.apply(keyed(key), false, () => Uint8Array.of(1))
  assert.is(lab.apply(KEYS_MAX), 'full')
  assert.is(lab.runs, 0)
  assert.is(decodeOutcome(lab.keys.apply(keyed(5), false, () => Uint8Array.of(2))).body[0], 1)
  lab.keys.advance(1, TTL_MS)
  lab.keys.advance(1 + TTL_MS, TTL_MS)
  assert.is(lab.apply(KEYS_MAX), 'run 1')
  assert.is(lab.keys.count, 1)
})

table('large answers fill it sooner', () => {
  const lab = new Lab()
  const reply = new Uint8Array(KEY_REPLIES_BYTES_MAX / 4)
  for (let key = 0; key < 4; key++) lab.keys.apply(keyed(key), false, () => reply)
  assert.is(lab.apply(99), 'full')
})

const step = fc.record({
  what: fc.constantFrom('apply', 'apply', 'apply', 'apply', 'time', 'clone', 'restore'),
  key: fc.nat(12),
  request: fc.nat(1),
})

table('any life: against a plain map, with clones and restores', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
      const lab = new Lab()
      let model = new Map<number, { request: number; reply: string; lastMs: number | null }>()
      const clones: { keys: IdempotencyKeys; lanes: unknown; shown: unknown }[] = []
      let timeMs = 0
      for (const { what, key, request } of steps) {
        if (what === 'apply') {
          const known = model.get(key)
          const runs = lab.runs
          const expected =
            known === undefined
              ? `run ${runs + 1}`
              : known.request === request
                ? known.reply
                : 'conflict'
          assert.is(lab.apply(key, request), expected)
          if (known === undefined) model.set(key, { request, reply: expected, lastMs: null })
        } else if (what === 'time') {
          timeMs += 1 + key * 150
          lab.keys.advance(timeMs, TTL_MS)
          model = new Map(
            [...model]
              .filter(([, { lastMs }]) => lastMs === null || lastMs + TTL_MS > timeMs)
              .map(([one, kept]) => [one, { ...kept, lastMs: kept.lastMs ?? timeMs }]),
          )
        } else if (what === 'clone') {
          const keys = new IdempotencyKeys(lab.keys)
          clones.push({ keys, lanes: keys.lanes, shown: [...keys.pieces()] })
        } else {
          const { lanes } = lab.keys
          lab.keys = restored(lab.keys)
          assert.equal(lab.keys.lanes, lanes)
        }
        assert.is(lab.keys.count, model.size)
        const times = [...model.values()].map(({ lastMs }) => (lastMs ?? timeMs) + TTL_MS)
        assert.is(lab.keys.dueMs(timeMs, TTL_MS), times.length === 0 ? null : Math.min(...times))
      }
      for (const { keys, lanes, shown } of clones) {
        assert.equal([keys.lanes, [...keys.pieces()]], [lanes, shown])
      }
    }),
    { numRuns: 300 },
  )
})

table('equal keys have equal hashes, whatever way led there', () => {
  const [a, b] = [new Lab(), new Lab()]
  const run = () => Uint8Array.of(7)
  for (const key of [1, 2, 3]) a.keys.apply(keyed(key), false, run)
  b.keys.apply(keyed(3), false, run)
  assert.is(new IdempotencyKeys(b.keys).count, 1)
  for (const key of [2, 1]) b.keys.apply(keyed(key), false, run)
  assert.equal(a.keys.lanes, b.keys.lanes)
  b.keys.apply(keyed(4), false, run)
  assert.is.not(JSON.stringify(a.keys.lanes), JSON.stringify(b.keys.lanes))
})

table('a copy that slept for longer than keys are kept does not run again', () => {
  const state = new AppliedState({
    machine: new KvMachine(),
    hashEveryEntries: 1024,
    hashesKept: 1,
    keyTtlMs: TTL_MS,
  })
  let index = 0
  const write = (accepted: number) => {
    const payload = command(1, 'k', 'v', accepted)
    const outcome = state.apply({ term: 1, index: ++index, kind: 'command', payload })
    const { status, body } = decodeOutcome(outcome)
    return body.length === 0 ? status : decodeKvResult(body)
  }
  const pass = (ms: number) =>
    state.apply({ term: 1, index: ++index, kind: 'time', payload: encodeLogTime(ms) })
  const first = write(0)
  pass(10)
  pass(TTL_MS)
  assert.equal(write(0), first, 'nobody looks at its age while the key is known')
  pass(TTL_MS + 10)
  assert.is(write(0), 'expired')
  assert.is(write(1), 'expired')
  // Accepted later it is a request of its own, and finds the key written.
  assert.equal(write(2), { succeeded: false, revision: 1, existed: true })
})

table('the first writes after a long silence are not late, however far log time leaps', () => {
  const state = new AppliedState({
    machine: new KvMachine(),
    hashEveryEntries: 1024,
    hashesKept: 1,
  })
  const accepted = [1, 2].map((key) => command(key, `k${key}`, 'v'))
  const day = encodeLogTime(86_400_000)
  const entries = [accepted[0], day, accepted[1]] as [Uint8Array, Uint8Array, Uint8Array]
  const outcomes = entries.map((payload, at) => {
    const kind = payload === day ? 'time' : 'command'
    return state.apply({ term: 1, index: at + 1, kind, payload })
  })
  assert.equal(
    outcomes.map((outcome) => outcome[0]),
    [0, undefined, 0],
  )
})

// --- through a cluster that fails -----------------------------------------------------------------------------------------

const text = (bytes: Uint8Array = NOTHING) => new TextDecoder().decode(bytes)
const bytesOf = (value: string) => new TextEncoder().encode(value)

/** One write under one key, `if-absent`, so that a second run would show. */
function command(key: number, name: string, value: string, accepted = 0): Uint8Array {
  const operation = encodeKvOperation({
    type: 'put',
    key: bytesOf(name),
    value: bytesOf(value),
    condition: { type: 'absent' },
  })
  const numbers = { session: 0, sequence: accepted, firstOutstanding: 0 }
  return encodeCommand({ kind: 'keyed', ...numbers, operation: keyed(key, key, operation) })
}

const cluster = suite('idempotency keys through failures')

cluster('the retry after a failover gets the answer of the first time, from any node', () => {
  for (let seed = 1; seed <= 12; seed++) {
    const three = new SimulatedCluster({ machine: () => new KvMachine(), seed })
    three.untilReady()
    let answered = 0
    for (let key = 1; key <= 8; key++) {
      const write = command(key, `k${key}`, 'first')
      const first = attempt(three, key % 3, write)
      const leader = three.leader as number
      if (key % 2 === 0) three.kill(leader)
      else three.isolate(leader)
      const others = [0, 1, 2].filter((node) => node !== leader)
      for (const node of [...others, ...others]) {
        const again = retried(three, node, write)
        const result = decodeKvResult(decodeOutcome(again).body)
        assert.ok(
          result.succeeded,
          `seed ${seed}, key ${key}: the condition failed, so it ran twice`,
        )
        if (first !== null) {
          answered++
          assert.equal(again, first)
        }
      }
      if (key % 2 === 0) three.start(leader)
      three.heal()
      three.untilReady()
      assert.is(decodeKvResult(decodeOutcome(retried(three, leader, write)).body).succeeded, true)
    }
    assert.ok(answered > 0)
    three.run(2000)
    const hashes = [0, 1, 2].map((node) => three.stateHash(node)?.hash)
    assert.is(new Set(hashes).size, 1)
  }
})

cluster('all nodes lose power, and the key is still known', () => {
  const three = new SimulatedCluster({ machine: () => new KvMachine(), seed: 5 })
  three.untilReady()
  const write = command(1, 'k', 'v')
  const first = three.command(0, write)
  for (const node of [0, 1, 2]) three.powerCut(node)
  for (const node of [0, 1, 2]) three.start(node)
  three.untilReady()
  assert.equal(three.command(2, write), first)
  const other = decodeOutcome(three.command(1, command(1, 'k', 'w'))).status
  assert.is(other, 'done', 'the lab hashes the key alone')
  const got = decodeKvGot(three.query(1, encodeKvQuery({ type: 'get', key: bytesOf('k') })))
  assert.is(text(got?.value), 'v')
})

/** Null: no answer, as when the leader dies with it. */
function attempt(three: SimulatedCluster, node: number, write: Uint8Array): Uint8Array | null {
  try {
    return three.command(node, write)
  } catch (error) {
    if (error instanceof SimulatedRequestError) return null
    throw error
  }
}

function retried(three: SimulatedCluster, node: number, write: Uint8Array): Uint8Array {
  for (let i = 0; i < 20; i++) {
    const answer = attempt(three, node, write)
    if (answer !== null) return answer
    three.run(500)
  }
  throw new Error(`no answer through node ${node}`)
}

table.run()
cluster.run()
