/** The decoders of `client/`: the wire format, its reader, addresses, and the lines of the shell. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { Addresses, clientUrl } from '../../client/addresses.ts'
import { ByteReader, ByteWriter, equalBytes, MalformedError } from '../../client/bytes.ts'
import {
  type Answer,
  type Command,
  type Condition,
  decodeCommand,
  decodeKvGot,
  decodeKvList,
  decodeKvOperation,
  decodeKvQuery,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvGot,
  encodeKvList,
  encodeKvOperation,
  encodeKvQuery,
  encodeKvResult,
  encodeOutcome,
  type KvItem,
  type KvOperation,
  type KvQuery,
  type Request,
  readAnswers,
  readRequests,
  writeAnswer,
  writeRequest,
} from '../../client/protocol.ts'
import { findCommand } from '../../client/repl/commands.ts'
import { LineReader, textOf, UsageError, unquote, wordFor } from '../../client/repl/words.ts'
import { bytes, u32, u64, url } from './arbitraries.ts'
import { type AnyRow, orNull, row, throwing } from './rows.ts'

const ENCODER = new TextEncoder()
const PROTOCOL = 'client/protocol.ts'

const some = fc.uint8Array({ minLength: 1, maxLength: 40 })

// --- the wire format ------------------------------------------------------------------------------------------------

const request: fc.Arbitrary<Request> = fc.oneof(
  fc.record({
    type: fc.constant('command' as const),
    requestId: u32,
    timeoutMs: u32,
    command: bytes,
  }),
  fc.record({
    type: fc.constant('query' as const),
    requestId: u32,
    timeoutMs: u32,
    consistency: fc.constantFrom('linearizable' as const, 'stale' as const),
    query: bytes,
  }),
  fc.record({ type: fc.constant('status' as const), requestId: u32 }),
  fc.record({ type: fc.constant('admin' as const), requestId: u32, name: bytes, json: bytes }),
)

const answer: fc.Arbitrary<Answer> = fc.oneof(
  fc.record({ type: fc.constant('result' as const), requestId: u32, index: u64, body: bytes }),
  fc.record({ type: fc.constantFrom('error' as const, 'json'), requestId: u32, json: bytes }),
  fc.record({ type: fc.constant('leader' as const), requestId: fc.constant(0), json: bytes }),
)

export function frameOf<T>(
  all: readonly T[],
  write: (writer: ByteWriter, one: T) => void,
): Uint8Array {
  const writer = new ByteWriter()
  for (const one of all) write(writer, one)
  return writer.finish()
}

export const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('openSession' as const, 'closeSession' as const),
    session: u64,
    sequence: u64,
    firstOutstanding: u64,
    operation: fc.constant(new Uint8Array(0)),
  }),
  fc.record({
    kind: fc.constant('operation' as const),
    session: u64,
    sequence: u64,
    firstOutstanding: u64,
    operation: some,
  }),
  fc.record({
    kind: fc.constant('keyed' as const),
    session: u64,
    sequence: u64,
    firstOutstanding: u64,
    // Few keys and few requests, so that they meet.
    operation: fc
      .tuple(fc.nat(2), fc.nat(1), some)
      .map(([key, request, operation]) =>
        Uint8Array.from([
          ...new Uint8Array(32).fill(key),
          ...new Uint8Array(32).fill(request),
          ...operation,
        ]),
      ),
  }),
)

const condition: fc.Arbitrary<Condition> = fc.oneof(
  fc.record({ type: fc.constantFrom('none' as const, 'absent' as const, 'exists' as const) }),
  fc.record({ type: fc.constant('value' as const), value: bytes }),
  fc.record({ type: fc.constant('revision' as const), revision: u64 }),
)

export const kvOperation: fc.Arbitrary<KvOperation> = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key: bytes, value: bytes, condition }),
  fc.record({ type: fc.constant('delete' as const), key: bytes, condition }),
)

export const kvQuery: fc.Arbitrary<KvQuery> = fc.oneof(
  fc.record({ type: fc.constant('get' as const), key: bytes }),
  fc.record({
    type: fc.constant('list' as const),
    prefix: bytes,
    after: fc.option(bytes),
    limit: fc.integer({ min: 1, max: 0xffff_ffff }),
    keysOnly: fc.boolean(),
  }),
)

const item: fc.Arbitrary<KvItem> = fc.record({ key: bytes, value: bytes, revision: u64 })

const WIRE: readonly AnyRow[] = [
  row<Uint8Array, Request[]>({
    name: 'requests',
    covers: [`${PROTOCOL}#readRequests`],
    kind: 'bytes',
    values: fc.array(request, { maxLength: 6 }),
    encode: (all) => frameOf(all, writeRequest),
    decode: throwing(readRequests, MalformedError),
    again: 'bytes',
  }),
  row<Uint8Array, Answer[]>({
    name: 'answers',
    covers: [`${PROTOCOL}#readAnswers`],
    kind: 'bytes',
    values: fc.array(answer, { maxLength: 6 }),
    encode: (all) => frameOf(all, writeAnswer),
    decode: throwing(readAnswers, MalformedError),
    again: 'bytes',
  }),
  row<Uint8Array, Command>({
    name: 'command',
    covers: [`${PROTOCOL}#decodeCommand`],
    kind: 'bytes',
    values: command,
    encode: encodeCommand,
    decode: throwing(decodeCommand, MalformedError),
    again: 'bytes',
  }),
  row({
    name: 'outcome',
    covers: [`${PROTOCOL}#decodeOutcome`],
    kind: 'bytes',
    values: fc.record({
      status: fc.constantFrom('done' as const, 'expired' as const, 'forgotten' as const),
      body: bytes,
    }),
    encode: encodeOutcome,
    decode: throwing(decodeOutcome, MalformedError),
    again: 'bytes',
  }),
  row<Uint8Array, KvOperation>({
    name: 'kv operation',
    covers: [`${PROTOCOL}#decodeKvOperation`],
    kind: 'bytes',
    values: kvOperation,
    encode: encodeKvOperation,
    decode: throwing(decodeKvOperation, MalformedError),
    again: 'bytes',
  }),
  row({
    name: 'kv result',
    covers: [`${PROTOCOL}#decodeKvResult`],
    kind: 'bytes',
    values: fc.record({ succeeded: fc.boolean(), revision: u64, existed: fc.boolean() }),
    encode: encodeKvResult,
    decode: throwing(decodeKvResult, MalformedError),
    again: 'bytes',
  }),
  row<Uint8Array, KvQuery>({
    name: 'kv query',
    covers: [`${PROTOCOL}#decodeKvQuery`],
    kind: 'bytes',
    values: kvQuery,
    encode: encodeKvQuery,
    decode: throwing(decodeKvQuery, MalformedError),
    again: 'bytes',
  }),
  row<Uint8Array, { value: Uint8Array; revision: number } | null>({
    name: 'kv got',
    covers: [`${PROTOCOL}#decodeKvGot`],
    kind: 'bytes',
    values: fc.option(fc.record({ value: bytes, revision: u64 })),
    encode: (got) => encodeKvGot(got === null ? null : { ...got, key: new Uint8Array(0) }),
    decode: throwing(decodeKvGot, MalformedError),
    again: 'bytes',
  }),
  row({
    name: 'kv list',
    covers: [`${PROTOCOL}#decodeKvList`],
    kind: 'bytes',
    values: fc.record({ items: fc.array(item, { maxLength: 6 }), more: fc.boolean() }),
    encode: encodeKvList,
    decode: throwing(decodeKvList, MalformedError),
    again: 'bytes',
  }),
]

// --- the reader itself: every field is announced by a byte that says what it is ---------------------------------------

type Field = readonly [kind: number, value: number | boolean | Uint8Array]

const FIELDS = ['u8', 'flag', 'u16', 'u32', 'u64', 'bytes', 'raw'] as const
const field: fc.Arbitrary<Field> = fc.oneof(
  fc.tuple(fc.constant(0), fc.nat(0xff)),
  fc.tuple(fc.constant(1), fc.boolean()),
  fc.tuple(fc.constant(2), fc.nat(0xffff)),
  fc.tuple(fc.constant(3), u32),
  fc.tuple(fc.constant(4), u64),
  fc.tuple(fc.constant(5), bytes),
  fc.tuple(fc.constant(6), fc.uint8Array({ minLength: 3, maxLength: 3 })),
)

function writeFields(fields: readonly Field[]): Uint8Array {
  const writer = new ByteWriter(0)
  for (const [kind, value] of fields) {
    writer.u8(kind)
    const name = FIELDS[kind] as (typeof FIELDS)[number]
    if (name === 'flag') writer.u8(value === true ? 1 : 0)
    else if (name === 'bytes' || name === 'raw') writer[name](value as Uint8Array)
    else writer[name](value as number)
  }
  return writer.finish()
}

function readFields(input: Uint8Array): Field[] {
  const reader = new ByteReader(input)
  const fields: Field[] = []
  while (reader.remaining > 0) {
    const kind = reader.u8()
    const name = FIELDS[kind]
    if (name === undefined) throw new MalformedError('no such field')
    fields.push([kind, name === 'raw' ? reader.raw(3) : reader[name]()])
    assert.ok(reader.remaining >= 0 && reader.remaining < input.length)
  }
  reader.end()
  return fields
}

const READER: readonly AnyRow[] = [
  row<Uint8Array, Field[]>({
    name: 'byte reader',
    covers: ['client/bytes.ts#ByteReader'],
    kind: 'bytes',
    values: fc.array(field, { maxLength: 8 }),
    encode: writeFields,
    decode: throwing(readFields, MalformedError),
    again: 'bytes',
    weightMax: 128,
  }),
]

// --- addresses and lines ----------------------------------------------------------------------------------------------

const lineText = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        'PUT',
        'get',
        '.LIST',
        'CAS',
        '--absent',
        'LIMIT',
        '#',
        '\\u{1f600}',
        '\\u{110000}',
        '\\u{ffffff}',
        '\\x4',
        '\\xff',
      ),
      fc.constantFrom('"', '\\', ' ', '\t', 'a', '"a b"', '\\n', '\\q', '\ud800'),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''))

const TEXT: readonly AnyRow[] = [
  row<string, string>({
    name: 'client address',
    covers: ['client/addresses.ts#clientUrl'],
    kind: 'text',
    values: url.map(clientUrl),
    encode: (text) => text,
    decode: throwing(clientUrl, TypeError),
    noise: fc.webUrl({ withFragments: true, withQueryParameters: true }),
  }),
  row<unknown, string>({
    name: 'address told by a node',
    covers: ['client/addresses.ts#Addresses'],
    kind: 'json',
    values: url.map(clientUrl).filter((text) => text.startsWith('wss:')),
    encode: (text) => text,
    decode: orNull((address) => {
      const known = new Addresses(['wss://given'], { learning: true })
      const learned = known.learn(address)
      assert.equal(known.round(null), [
        'wss://given/v1/client',
        ...(learned === null ? [] : [learned]),
      ])
      return learned
    }),
    // Only addresses that keep a token encrypted are learned here.
    sound: (learned) => assert.match(learned, /^wss:/),
    noise: fc.webUrl({ validSchemes: ['wss', 'ws', 'https', 'ftp'] }),
  }),
  row<string, Uint8Array[]>({
    name: 'words of a line',
    covers: ['client/repl/words.ts#LineReader'],
    kind: 'text',
    values: fc.array(bytes, { maxLength: 5 }),
    encode: (words) => words.map((word) => wordFor(word)).join(' '),
    decode: throwing((line) => new LineReader(line).words().map((word) => word.bytes), UsageError),
    noise: lineText,
  }),
  row<string, Uint8Array>({
    name: 'quoted word',
    covers: ['client/repl/words.ts#unquote'],
    kind: 'text',
    values: bytes,
    encode: (word) => wordFor(word, 'always'),
    decode: throwing((line) => {
      const { bytes: word, end, closed } = unquote(line, 0)
      assert.ok(end <= Math.max(1, line.length) && (!closed || line[end - 1] === '"'))
      return word
    }, UsageError),
    noise: lineText.map((line) => `"${line}`),
  }),
  row<string, string>({
    name: 'command of the shell',
    covers: ['client/repl/commands.ts#findCommand'],
    kind: 'text',
    values: fc.constantFrom('nothing', 'leave', 'run'),
    encode: (type) => ({ nothing: ' # x', leave: '.quit', run: 'get a' })[type] as string,
    decode: throwing((line) => findCommand(line, new Map()).type, UsageError),
    noise: lineText,
  }),
  row<Uint8Array, string>({
    name: 'text of bytes',
    covers: ['client/repl/words.ts#textOf'],
    kind: 'bytes',
    values: fc.string({ unit: 'binary' }),
    encode: (text) => ENCODER.encode(text),
    decode: orNull(textOf),
    sound: (text, input) => assert.ok(equalBytes(ENCODER.encode(text), input)),
    again: 'bytes',
  }),
]

export const CLIENT_DECODERS: readonly AnyRow[] = [...WIRE, ...READER, ...TEXT]
