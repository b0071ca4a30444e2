/** The decoders of a snapshot's state: the whole of it, the machine's part, and the sessions' part. */
import fc from 'fast-check'
import { ByteReader, ByteWriter, MalformedError } from '../../client/bytes.ts'
import { encodeCommand, encodeKvQuery } from '../../client/protocol.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { IdempotencyKeys } from '../../node/idempotency-keys.ts'
import { decodeLogTime, encodeLogTime } from '../../node/log-clock.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { Sessions } from '../../node/sessions.ts'
import { command } from './decoders-client.ts'
import { type AnyRow, orNull, row, throwing } from './rows.ts'

const OPTIONS = { hashEveryEntries: 4, hashesKept: 4, sessionTtlMs: 5000, keyTtlMs: 2000 }
const NOTHING = new Uint8Array(0)
const ALL = encodeKvQuery({
  type: 'list',
  prefix: NOTHING,
  after: null,
  limit: 1000,
  keysOnly: false,
})

function freshState(): AppliedState {
  return new AppliedState({ ...OPTIONS, machine: new KvMachine() })
}

/** Commands of any kind, most of which come to nothing, behind two sessions that are there; and time that passes. */
const step = fc.oneof(
  command,
  command.map((one) => ({ ...one, session: 1 + (one.session % 2) })),
  fc.nat(9000),
)
const state = fc.array(step, { maxLength: 12 }).map((steps) => {
  const made = freshState()
  const open = { sequence: 0, firstOutstanding: 0, session: 0, operation: NOTHING }
  const opened = { kind: 'openSession' as const, ...open }
  for (const [at, one] of [opened, opened, ...steps].entries()) {
    const id = { term: 1, index: at + 1 }
    if (typeof one === 'number') made.apply({ ...id, kind: 'time', payload: encodeLogTime(one) })
    else made.apply({ ...id, kind: 'command', payload: encodeCommand(one) })
  }
  return made
})

const put = fc.record({
  key: fc.uint8Array({ maxLength: 3 }),
  value: fc.uint8Array({ maxLength: 8 }),
})
const machine = fc.array(put, { maxLength: 12 }).map((puts) => {
  const made = new KvMachine()
  for (const [at, { key, value }] of puts.entries()) {
    const operation = new ByteWriter().u8(1).u8(0).bytes(key).raw(value).finish()
    made.apply(operation, { index: at + 1 })
  }
  return made
})

/** The files that hold pieces keep their boundaries. */
function framed(pieces: Iterable<Uint8Array>): Uint8Array {
  const writer = new ByteWriter()
  for (const piece of pieces) writer.bytes(piece)
  return writer.finish()
}

function restored<T>(
  input: Uint8Array,
  restorer: { write(piece: Uint8Array): void; finish(): T },
): T {
  const reader = new ByteReader(input)
  while (reader.remaining > 0) restorer.write(reader.bytes())
  return restorer.finish()
}

export const STATE_DECODERS: readonly AnyRow[] = [
  row<Uint8Array, AppliedState>({
    name: 'the applied state of a snapshot',
    covers: ['node/applied-state.ts#AppliedState', 'node/machine/pieces.ts#PieceJoiner'],
    kind: 'bytes',
    values: state,
    encode: (value) => framed(value.capture().pieces()),
    decode: throwing(
      (input) => restored(input, AppliedState.restorer({ ...OPTIONS, machine: new KvMachine() })),
      MalformedError,
    ),
    shown: (value) => [value.index, value.hash(), value.hashes, value.query(ALL)],
  }),
  row<Uint8Array, KvMachine>({
    name: "the key-value machine's part of a snapshot",
    covers: ['node/machine/kv.ts#KvMachine'],
    kind: 'bytes',
    values: machine,
    encode: (value) => framed(value.pieces()),
    decode: throwing((input) => restored(input, new KvMachine().restorer()), MalformedError),
    shown: (value) => [value.size, value.bytes, value.hash(), value.query(ALL)],
  }),
  row<Uint8Array, Sessions>({
    name: "the sessions' part of a snapshot",
    covers: ['node/sessions.ts#Sessions'],
    kind: 'bytes',
    values: fc.array(command, { maxLength: 12 }).map((commands) => {
      const made = new Sessions()
      for (const [at, one] of commands.entries()) {
        if (one.kind === 'keyed') continue
        const session = 1 + (one.session % 3)
        made.apply({ ...one, session }, at + 1, (operation) => operation)
      }
      return made
    }),
    encode: (value) => framed(value.pieces()),
    decode: throwing((input) => restored(input, Sessions.restorer()), MalformedError),
    shown: (value) => [value.count, value.hash(), ...value.pieces()],
  }),
  row<Uint8Array, IdempotencyKeys>({
    name: "the idempotency keys' part of a snapshot",
    covers: ['node/idempotency-keys.ts#IdempotencyKeys'],
    kind: 'bytes',
    values: fc.array(fc.oneof(command, fc.nat(9000)), { maxLength: 16 }).map((steps) => {
      const made = new IdempotencyKeys()
      let timeMs = 0
      for (const one of steps) {
        if (typeof one === 'number') {
          timeMs += 1 + one
          made.advance(timeMs, 5000)
        } else if (one.kind === 'keyed') made.apply(one.operation, false, (operation) => operation)
      }
      return made
    }),
    encode: (value) => framed(value.pieces()),
    decode: throwing((input) => restored(input, IdempotencyKeys.restorer()), MalformedError),
    shown: (value) => [value.count, value.lanes, ...value.pieces()],
  }),
  row<Uint8Array, number>({
    name: 'log time',
    covers: ['node/log-clock.ts#decodeLogTime'],
    kind: 'bytes',
    again: 'bytes',
    values: fc.maxSafeNat(),
    encode: encodeLogTime,
    decode: orNull(decodeLogTime),
  }),
]
