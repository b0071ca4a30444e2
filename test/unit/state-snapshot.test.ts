/** Capturing the applied state while writes go on, and reading it back: equal in everything that can be asked, or refused. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MalformedError } from '../../client/bytes.ts'
import {
  type Command,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
} from '../../client/protocol.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { encodeLogTime } from '../../node/log-clock.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { StateMachine } from '../../node/machine/machine.ts'
import { PIECE_BYTES_MAX } from '../../node/machine/pieces.ts'
import { Random } from '../../node/raft/random.ts'
import type { Entry } from '../../node/raft/types.ts'
import { REPLIES_MAX, Sessions } from '../../node/sessions.ts'

const OPTIONS = { hashEveryEntries: 4, hashesKept: 3, sessionTtlMs: 5000, keyTtlMs: 2000 }
const NOTHING = new Uint8Array(0)
const ALL = encodeKvQuery({
  type: 'list',
  prefix: NOTHING,
  after: null,
  limit: 1000,
  keysOnly: false,
})

function fresh(machine: StateMachine = new KvMachine()): AppliedState {
  return new AppliedState({ ...OPTIONS, machine })
}

function entryOf(index: number, command: Partial<Command>): Entry {
  const payload = encodeCommand({
    kind: 'operation',
    session: 0,
    sequence: 0,
    firstOutstanding: 0,
    operation: NOTHING,
    ...command,
  })
  return { term: 1, index, kind: 'command', payload }
}

function put(key: Uint8Array, value: Uint8Array): Uint8Array {
  return encodeKvOperation({ type: 'put', key, value, condition: { type: 'none' } })
}

/** Sessions that open, write, repeat themselves, raise their floors and close; also those that are not there. */
function life(seed: number, entries: number): Entry[] {
  const random = new Random(seed)
  return Array.from({ length: entries }, (_, at) => {
    const index = at + 1
    const dice = random.below(12)
    if (at === 0 || dice === 0) return entryOf(index, { kind: 'openSession' })
    if (dice === 5 && random.below(2) === 0) {
      return { term: 1, index, kind: 'time' as const, payload: encodeLogTime(index * 300) }
    }
    const session = 1 + random.below(Math.min(index, 9))
    if (dice === 1) return entryOf(index, { kind: 'closeSession', session })
    if (dice === 2) return { term: 1, index, kind: 'noop' as const, payload: NOTHING }
    const sequence = 1 + random.below(8)
    const key = Uint8Array.of(random.below(6))
    const condition = { type: 'none' as const }
    const operation =
      dice === 3
        ? encodeKvOperation({ type: 'delete', key, condition })
        : put(key, new Uint8Array(random.below(dice === 4 ? 20_000 : 30)).fill(index))
    const firstOutstanding = random.below(sequence + 1)
    if (dice === 6) {
      const hashes = new Uint8Array(64).fill(random.below(4))
      const named = Uint8Array.from([...hashes, ...operation])
      return entryOf(index, { kind: 'keyed', operation: named })
    }
    return entryOf(index, { session, sequence, firstOutstanding, operation })
  })
}

function shown(state: AppliedState): unknown {
  const contents = Buffer.from(state.query(ALL)).toString('hex')
  return { index: state.index, hash: state.hash(), hashes: [...state.hashes], contents }
}

function restored(pieces: Iterable<Uint8Array>, machine = new KvMachine()): AppliedState {
  const restorer = AppliedState.restorer({ ...OPTIONS, machine })
  for (const piece of pieces) {
    const lent = piece.slice()
    restorer.write(lent)
    lent.fill(0xee)
  }
  return restorer.finish()
}

const snapshots = suite('state in snapshots')

snapshots('what is captured stays as it was, however much is applied while it is written', () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(100), (seed, at) => {
      const entries = life(seed, 160)
      const state = fresh()
      for (const entry of entries.slice(0, at)) state.apply(entry)
      const before = shown(state)
      const captured = state.capture()
      assert.is(captured.index, at)
      const pieces: Uint8Array[] = []
      const source = captured.pieces()[Symbol.iterator]()
      for (const entry of entries.slice(at)) {
        state.apply(entry)
        const next = source.next()
        if (next.done !== true) pieces.push(next.value)
      }
      for (let next = source.next(); next.done !== true; next = source.next()) {
        pieces.push(next.value)
      }
      assert.equal(shown(restored(pieces)), before)
    }),
    { numRuns: 150 },
  )
})

snapshots('and who was restored answers every later entry as who never stopped', () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(120), (seed, at) => {
      const entries = life(seed, 160)
      const state = fresh()
      for (const entry of entries.slice(0, at)) state.apply(entry)
      const other = restored(state.capture().pieces())
      for (const entry of entries.slice(at)) {
        assert.equal(other.apply(entry), state.apply(entry), `entry ${entry.index}`)
      }
      assert.equal(shown(other), shown(state))
      assert.equal([other.logTimeMs, other.dueMs], [state.logTimeMs, state.dueMs])
    }),
    { numRuns: 100 },
  )
})

snapshots('who gives way first is the same after a restore', () => {
  const state = fresh()
  for (let index = 1; index <= 16_384; index++) state.apply(entryOf(index, { kind: 'openSession' }))
  const write = { sequence: 1, firstOutstanding: 1, operation: put(NOTHING, NOTHING) }
  state.apply(entryOf(16_385, { session: 1, ...write }))
  const other = restored(state.capture().pieces())
  for (const one of [state, other]) one.apply(entryOf(16_386, { kind: 'openSession' }))
  for (const session of [1, 2, 3]) {
    const entry = entryOf(16_386 + session, { session, ...write, sequence: 2 })
    const outcome = state.apply(entry)
    assert.is(outcome[0], session === 2 ? 1 : 0, 'only the least recently used has expired')
    assert.equal(other.apply(entry), outcome)
  }
})

snapshots('pieces are bounded, whatever keys, values and replies are', () => {
  const state = fresh()
  state.apply(entryOf(1, { kind: 'openSession' }))
  const sizes = [0, 65_000, 65_520, 65_535, 65_536, 65_537, 131_072, 1024 * 1024, 3_000_000]
  sizes.forEach((size, at) => {
    const value = new Uint8Array(size).fill(at)
    const operation = put(new Uint8Array(size % 2000).fill(at), value)
    state.apply(entryOf(at + 2, { session: 1, sequence: at + 1, operation }))
  })
  for (let sequence = 100; sequence < 100 + REPLIES_MAX; sequence++) {
    const operation = put(Uint8Array.of(1), NOTHING)
    state.apply(entryOf(sequence, { session: 1, sequence, firstOutstanding: 99, operation }))
  }
  const pieces = [...state.capture().pieces()]
  assert.ok(pieces.length > 60)
  for (const piece of pieces) assert.ok(piece.length <= PIECE_BYTES_MAX + 1, String(piece.length))
  assert.is(restored(pieces).hash(), state.hash())
})

/** Gives its state in pieces of every size, and takes them back only as it gave them. */
class Odd implements StateMachine {
  static readonly sizes = [0, 1, 5, 65_529, 65_530, 65_531, 65_532, 200_000, 0, 70_000]

  apply(): Uint8Array {
    return NOTHING
  }

  query(): Uint8Array {
    return NOTHING
  }

  hash(): string {
    return '00000000000000aa'
  }

  clone(): Odd {
    return new Odd()
  }

  pieces(): Uint8Array[] {
    return Odd.sizes.map((size, at) => new Uint8Array(size).fill(at))
  }

  restorer() {
    const seen: number[] = []
    return {
      write: (piece: Uint8Array) => {
        assert.ok(piece.every((byte) => byte === seen.length))
        seen.push(piece.length)
      },
      finish: () => {
        assert.equal(seen, Odd.sizes)
        return new Odd()
      },
    }
  }
}

snapshots("a machine's own pieces keep their boundaries", () => {
  const state = fresh(new Odd())
  const restorer = AppliedState.restorer({ ...OPTIONS, machine: new Odd() })
  for (const piece of state.capture().pieces()) {
    assert.ok(piece.length <= PIECE_BYTES_MAX + 1)
    restorer.write(piece)
  }
  assert.is(restorer.finish().hash(), state.hash())
})

snapshots('damage is refused: every byte, every missing, repeated, exchanged or cut piece', () => {
  const state = fresh()
  for (const entry of life(3, 60)) state.apply(entry)
  const pieces = [...state.capture().pieces()]
  assert.ok(pieces.length >= 3)
  assert.is(restored(pieces).hash(), state.hash())
  const refused = (damaged: readonly Uint8Array[], what: string) => {
    assert.throws(
      () => restored(damaged),
      (error: unknown) => error instanceof MalformedError,
      what,
    )
  }
  pieces.forEach((piece, at) => {
    const others = (instead: readonly Uint8Array[]) => pieces.toSpliced(at, 1, ...instead)
    refused(others([]), `piece ${at} is missing`)
    refused(others([piece, piece]), `piece ${at} twice`)
    refused(others([piece.subarray(0, -1)]), `piece ${at} is cut`)
    refused(others([NOTHING, piece]), `an empty piece before ${at}`)
    refused(others([Uint8Array.of(4), piece]), `an unknown piece before ${at}`)
    if (at > 0) refused(pieces.toSpliced(at - 1, 2, piece, pieces[at - 1] as never), 'exchanged')
    // The meta has fields that only a checksum can protect.
    if (at === 0) return
    for (let byte = 0; byte < piece.length; byte += 1 + (byte >> 4)) {
      const changed = Uint8Array.from(piece)
      changed[byte] = (changed[byte] as number) ^ (1 << (byte % 8))
      refused(others([changed]), `byte ${byte} of piece ${at}`)
    }
  })
})

snapshots('a hash of another version is not compared', () => {
  const state = fresh()
  for (const entry of life(3, 60)) state.apply(entry)
  const [meta, ...rest] = [...state.capture().pieces()] as [Uint8Array, ...Uint8Array[]]
  const changed = (from: string, to: string) =>
    Uint8Array.from(Buffer.from(Buffer.from(meta).toString('latin1').replace(from, to), 'latin1'))
  const { hash } = shown(state) as { hash: string }
  const other = changed(`"hash":"${hash}"`, '"hash":"0000000000000000"')
  assert.throws(() => restored([other, ...rest]), /another hash/)
  const version = Buffer.from(other)
    .toString('latin1')
    .replace('"hashVersion":1', '"hashVersion":2')
  const again = restored([Buffer.from(version, 'latin1'), ...rest])
  assert.is(again.hash(), hash)
  assert.ok(state.hashes.length > 0)
  assert.equal(again.hashes, [], 'nor what was noted on the way')
})

snapshots('sessions refuse more than there can be', () => {
  const restorer = Sessions.restorer()
  const session = new Uint8Array(26)
  session[0] = 1
  for (let id = 0; id < 16_384; id++) {
    new DataView(session.buffer).setUint32(5, id)
    restorer.write(session)
  }
  new DataView(session.buffer).setUint32(5, 20_000)
  assert.throws(() => restorer.write(session), /too many sessions/)
})

snapshots.run()
