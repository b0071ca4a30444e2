/**
 * Exactly once, whatever order and however often: sessions against the plainest idea of them, with clients that keep the rules and with
 * clients that keep none. And the applied state: the same entries make the same state, however they are cut into batches.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type Command,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
  type KvOperation,
} from '../../client/protocol.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { RaftLog } from '../../node/raft/log.ts'
import type { Entry } from '../../node/raft/types.ts'
import { Sessions } from '../../node/sessions.ts'
import { holds } from './runs.ts'

const NOTHING = new Uint8Array(0)

// --- sessions ---------------------------------------------------------------------------------------------------------

interface KnownSession {
  /** The highest word of the client that everything below is done with. */
  floor: number
  /** By sequence: how often it ran, and what the first answer was. */
  readonly ran: Map<number, { times: number; reply: string }>
}

/** Applies commands and checks each answer against what any correct table of sessions may say. */
class Table {
  readonly sessions = new Sessions()
  readonly #open = new Map<number, KnownSession>()
  #index = 0
  #runs = 0
  repeats = 0
  forgotten = 0

  open(): number {
    const { status } = this.#apply(command('openSession', 0, 0, 0))
    assert.is(status, 'done')
    this.#open.set(this.#index, { floor: 0, ran: new Map() })
    return this.#index
  }

  close(id: number): void {
    assert.is(this.#apply(command('closeSession', id, 0, 0)).status, 'done')
    this.#open.delete(id)
  }

  operate(id: number, sequence: number, firstOutstanding: number): string {
    const before = this.#runs
    const { status, reply } = this.#apply(command('operation', id, sequence, firstOutstanding))
    const ranNow = this.#runs > before
    const session = this.#open.get(id)
    if (session === undefined) {
      assert.equal([status, ranNow], ['expired', false], 'a session that is not there')
      return status
    }
    this.#judge(session, { sequence, firstOutstanding, status, reply, ranNow })
    return status
  }

  #judge(
    session: KnownSession,
    answer: {
      readonly sequence: number
      readonly firstOutstanding: number
      readonly status: string
      readonly reply: string
      readonly ranNow: boolean
    },
  ): void {
    const { sequence, firstOutstanding, status, reply, ranNow } = answer
    const known = session.ran.get(sequence)
    if (known !== undefined) {
      this.repeats++
      assert.not(ranNow, `operation ${sequence} ran twice`)
      if (status === 'done') assert.is(reply, known.reply, 'another answer the second time')
      // Its reply may be given up only when the client has said that it has it.
      else assert.ok(status === 'forgotten' && sequence < session.floor)
    } else if (sequence < session.floor) {
      this.forgotten++
      assert.equal([status, ranNow], ['forgotten', false], 'below the floor')
    } else {
      assert.equal([status, ranNow], ['done', true])
      session.ran.set(sequence, { times: 1, reply })
    }
    // An operation that runs says itself how far its client is, and never that it is done with this very one.
    if (ranNow) session.floor = Math.max(session.floor, Math.min(firstOutstanding, sequence))
  }

  #apply(one: Command): { status: string; reply: string } {
    this.#index++
    const bytes = this.sessions.apply(one, this.#index, () => {
      this.#runs++
      return new TextEncoder().encode(`run ${this.#runs}`)
    })
    const { status, body } = decodeOutcome(bytes)
    return { status, reply: new TextDecoder().decode(body) }
  }
}

function command(
  kind: Command['kind'],
  session: number,
  sequence: number,
  firstOutstanding: number,
): Command {
  const operation = kind === 'operation' ? new Uint8Array(1) : NOTHING
  return { kind, session, sequence, firstOutstanding, operation }
}

const anyOp = fc.record({
  op: fc.constantFrom('open', 'close', 'run', 'run', 'run', 'run', 'run', 'run', 'run', 'run'),
  session: fc.nat(3),
  sequence: fc.oneof(
    { weight: 30, arbitrary: fc.nat(12) },
    { weight: 1, arbitrary: fc.maxSafeNat() },
  ),
  firstOutstanding: fc.oneof(
    { weight: 30, arbitrary: fc.nat(5) },
    { weight: 1, arbitrary: fc.maxSafeNat() },
  ),
})

const sessions = suite('sessions')

sessions(
  'any commands at all: nothing runs twice, and every answer is one that may be given',
  () => {
    const sum = { repeats: 0, forgotten: 0 }
    holds(
      fc.property(fc.array(anyOp, { maxLength: 80, size: 'max' }), (ops) => {
        const table = new Table()
        const ids = [table.open()]
        for (const { op, session, sequence, firstOutstanding } of ops) {
          const id = ids[session % ids.length] as number
          if (op === 'open') ids.push(table.open())
          else if (op === 'close') table.close(id)
          else table.operate(id, sequence, firstOutstanding)
        }
        sum.repeats += table.repeats
        sum.forgotten += table.forgotten
      }),
      1500,
    )
    console.log(`${sum.repeats} repeats, ${sum.forgotten} too late to run`)
    assert.ok(sum.repeats > 0 && sum.forgotten > 0)
  },
)

/** A client that keeps the rules, over a network that loses, repeats and delays. */
const clientOp = fc.record({
  op: fc.constantFrom(
    'write',
    'write',
    'write',
    'send',
    'send',
    'send',
    'arrive',
    'arrive',
    'late',
  ),
  which: fc.nat(9),
})

sessions('a client that keeps the rules gets the answer of its one and only run', () => {
  holds(
    fc.property(fc.array(clientOp, { maxLength: 100, size: 'max' }), (ops) => {
      const table = new Table()
      const id = table.open()
      const waiting = new Map<number, null>()
      /** Frames on their way: each may arrive late, or several times. */
      const frames: { sequence: number; firstOutstanding: number }[] = []
      const answers: number[] = []
      let next = 1
      const firstOutstanding = (): number => Math.min(next, ...waiting.keys())
      for (const { op, which } of ops) {
        if (op === 'write') waiting.set(next++, null)
        else if (op === 'send') {
          const sequence = [...waiting.keys()][which % (waiting.size || 1)]
          if (sequence !== undefined)
            frames.push({ sequence, firstOutstanding: firstOutstanding() })
        } else if (op === 'arrive') {
          const frame = frames[which % (frames.length || 1)]
          if (frame === undefined) continue
          const status = table.operate(id, frame.sequence, frame.firstOutstanding)
          if (waiting.has(frame.sequence)) {
            assert.is(status, 'done', 'a client waits, and its reply is gone')
            answers.push(frame.sequence)
          }
        } else {
          const answered = answers.splice(which % (answers.length || 1), 1)[0]
          if (answered !== undefined) waiting.delete(answered)
        }
      }
    }),
    1500,
  )
})

// --- the applied state ----------------------------------------------------------------------------------------------------

const key = fc.constantFrom('', 'a', 'b', 'ab').map((text) => new TextEncoder().encode(text))
const small = fc.uint8Array({ maxLength: 4 })
const condition = fc.oneof(
  fc.constantFrom(
    { type: 'none' as const },
    { type: 'absent' as const },
    { type: 'exists' as const },
  ),
  fc.record({ type: fc.constant('value' as const), value: small }),
  fc.record({ type: fc.constant('revision' as const), revision: fc.nat(30) }),
)
const operation: fc.Arbitrary<KvOperation> = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key, value: small, condition }),
  fc.record({ type: fc.constant('delete' as const), key, condition }),
)

/** Payloads of a log: commands of a few sessions, repeats, operations that are none, no-ops. */
const payload = fc.oneof(
  { weight: 1, arbitrary: fc.constant(encodeCommand(command('openSession', 0, 0, 0))) },
  {
    weight: 8,
    arbitrary: fc
      .record({
        session: fc.nat(6),
        sequence: fc.nat(8),
        firstOutstanding: fc.nat(8),
        operation: fc.oneof(
          { weight: 5, arbitrary: operation.map(encodeKvOperation) },
          { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 9 }) },
        ),
      })
      .map((one) => encodeCommand({ kind: 'operation', ...one })),
  },
  { weight: 1, arbitrary: fc.nat(6).map((id) => encodeCommand(command('closeSession', id, 0, 0))) },
  { weight: 1, arbitrary: fc.constant(null) },
)

function entriesOf(payloads: readonly (Uint8Array | null)[]): Entry[] {
  return payloads.map((one, at) => ({
    term: 1,
    index: at + 1,
    kind: one === null ? 'noop' : 'command',
    payload: one?.slice() ?? NOTHING,
  }))
}

function freshState(): AppliedState {
  return new AppliedState({
    machine: new KvMachine(),
    hashEveryEntries: 4,
    hashesKept: 8,
    sessionTtlMs: 5000,
    keyTtlMs: 2000,
  })
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** Through the log, as a node does: so many entries at a time. `scribbles`: each payload is overwritten once it was applied. */
function applied(
  payloads: readonly (Uint8Array | null)[],
  portions: readonly number[],
  scribbles = false,
) {
  const state = freshState()
  const entries = entriesOf(payloads)
  const base = { term: 0, index: 0 }
  const log = new RaftLog({ base, entries, commitIndex: 0 })
  const outcomes: string[] = []
  for (let turn = 0; log.appliedIndex < log.lastIndex; turn++) {
    const portion = 1 + ((portions[turn % (portions.length || 1)] ?? 0) % 7)
    log.commitTo(Math.min(log.lastIndex, log.commitIndex + portion))
    for (const entry of log.takeCommitted(portion)) {
      outcomes.push(hex(state.apply(entry)))
      // The state keeps nothing of the buffer that the entry came in.
      if (scribbles) entry.payload.fill(0xee)
    }
  }
  const query = encodeKvQuery({
    type: 'list',
    prefix: NOTHING,
    after: null,
    limit: 99,
    keysOnly: false,
  })
  return { state, outcomes, contents: hex(state.query(query)) }
}

const state = suite('applied state')

state('the same entries make the same state, however they are cut', () => {
  holds(
    fc.property(
      fc.array(payload, { maxLength: 60, size: 'max' }),
      fc.array(fc.nat(9), { maxLength: 8 }),
      (payloads, portions) => {
        const one = applied(payloads, [])
        const other = applied(payloads, portions, true)
        assert.equal(other.outcomes, one.outcomes)
        assert.is(other.contents, one.contents)
        assert.is(other.state.hash(), one.state.hash())
        assert.equal(other.state.hashes, one.state.hashes)
        const noted = one.state.hashes.map(({ index }) => index)
        const expected = Array.from(
          { length: Math.floor(payloads.length / 4) },
          (_, i) => 4 * (i + 1),
        )
        assert.equal(noted, expected.slice(-8))
        // A hash that was noted on the way is the hash of the state after exactly so many entries.
        for (const { index, hash } of one.state.hashes) {
          assert.is(applied(payloads.slice(0, index), portions).state.hash(), hash)
        }
      },
    ),
    400,
  )
})

state('an outcome is that of the machine, and a repeat is the outcome of the first time', () => {
  holds(
    fc.property(
      fc.array(operation, { minLength: 1, maxLength: 20, size: 'max' }),
      fc.nat(30),
      (all, again) => {
        const one = freshState()
        const machine = new KvMachine()
        const write = (index: number, sequence: number): Uint8Array => {
          const body = encodeKvOperation(all[sequence - 1] as KvOperation)
          const made = encodeCommand({
            kind: 'operation',
            session: 1,
            sequence,
            firstOutstanding: 1,
            operation: body,
          })
          return one.apply({ term: 1, index, kind: 'command', payload: made })
        }
        one.apply({
          term: 1,
          index: 1,
          kind: 'command',
          payload: encodeCommand(command('openSession', 0, 0, 0)),
        })
        const outcomes = all.map((operated, at) => {
          const outcome = write(at + 2, at + 1)
          const expected = machine.apply(encodeKvOperation(operated), { index: at + 2 })
          assert.equal(decodeKvResult(decodeOutcome(outcome).body), decodeKvResult(expected))
          return hex(outcome)
        })
        const before = one.hash()
        const sequence = 1 + (again % all.length)
        assert.is(hex(write(all.length + 2, sequence)), outcomes[sequence - 1])
        assert.is(one.hash(), before, 'a repeat changes nothing')
      },
    ),
    500,
  )
})

sessions.run()
state.run()
