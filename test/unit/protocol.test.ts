/** The client protocol: what is written is read back, and any other bytes give MalformedError and nothing else. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ByteReader,
  ByteWriter,
  compareBytes,
  equalBytes,
  MalformedError,
} from '../../client/bytes.ts'
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
  type Outcome,
  type Request,
  readAnswers,
  readRequests,
  writeAnswer,
  writeRequest,
} from '../../client/protocol.ts'

const bytes = fc.uint8Array({ maxLength: 40 })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u64 = fc.oneof(
  fc.maxSafeNat(),
  fc.constantFrom(0, 1, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER),
)

const condition: fc.Arbitrary<Condition> = fc.oneof(
  fc.constantFrom<Condition>({ type: 'none' }, { type: 'absent' }, { type: 'exists' }),
  fc.record({ type: fc.constant('value' as const), value: bytes }),
  fc.record({ type: fc.constant('revision' as const), revision: u64 }),
)
const operation: fc.Arbitrary<KvOperation> = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key: bytes, value: bytes, condition }),
  fc.record({ type: fc.constant('delete' as const), key: bytes, condition }),
)
const query: fc.Arbitrary<KvQuery> = fc.oneof(
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
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    kind: fc.constant('operation' as const),
    session: u64,
    sequence: u64,
    firstOutstanding: u64,
    operation: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  }),
  fc.record({
    kind: fc.constantFrom('openSession' as const, 'closeSession' as const),
    session: u64,
    sequence: u64,
    firstOutstanding: u64,
    operation: fc.constant(new Uint8Array(0)),
  }),
)
const outcome: fc.Arbitrary<Outcome> = fc.record({
  status: fc.constantFrom('done' as const, 'expired' as const, 'forgotten' as const),
  body: bytes,
})
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
  fc.record({
    type: fc.constantFrom('error' as const, 'json' as const),
    requestId: u32,
    json: bytes,
  }),
  fc.record({
    type: fc.constant('leader' as const),
    requestId: fc.constant(0 as const),
    json: bytes,
  }),
)

function frameOf<T>(messages: readonly T[], write: (writer: ByteWriter, message: T) => void) {
  const writer = new ByteWriter(8)
  for (const message of messages) write(writer, message)
  return writer.finish()
}

/** One line for each codec: how its values are made, written and read. */
interface Codec {
  readonly name: string
  readonly values: fc.Arbitrary<unknown>
  readonly encode: (value: never) => Uint8Array
  readonly decode: (bytes: Uint8Array) => unknown
}

function codec<T>(
  name: string,
  values: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  decode: (bytes: Uint8Array) => unknown,
): Codec {
  return { name, values, encode, decode }
}

const CODECS: Codec[] = [
  codec('command', command, encodeCommand, decodeCommand),
  codec('outcome', outcome, encodeOutcome, decodeOutcome),
  codec('kv operation', operation, encodeKvOperation, decodeKvOperation),
  codec('kv query', query, encodeKvQuery, decodeKvQuery),
  codec(
    'kv result',
    fc.record({ succeeded: fc.boolean(), revision: u64, existed: fc.boolean() }),
    encodeKvResult,
    decodeKvResult,
  ),
  codec(
    'kv list',
    fc.record({ items: fc.array(item, { maxLength: 6 }), more: fc.boolean() }),
    encodeKvList,
    decodeKvList,
  ),
  codec(
    'kv got',
    fc.option(fc.record({ value: bytes, revision: u64 })),
    (got) => encodeKvGot(got === null ? null : { ...got, key: new Uint8Array(0) }),
    decodeKvGot,
  ),
  codec(
    'requests',
    fc.array(request, { maxLength: 5 }),
    (requests) => frameOf(requests, writeRequest),
    readRequests,
  ),
  codec(
    'answers',
    fc.array(answer, { maxLength: 5 }),
    (answers) => frameOf(answers, writeAnswer),
    readAnswers,
  ),
]

/** Typed arrays of different buffers compare by content. */
function comparable(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, inner) =>
      inner instanceof Uint8Array ? `bytes:${Buffer.from(inner).toString('hex')}` : inner,
    ),
  )
}

function decodesOrRefuses(decode: (bytes: Uint8Array) => unknown, input: Uint8Array): void {
  try {
    decode(input)
  } catch (error) {
    assert.ok(error instanceof MalformedError, `${(error as Error).stack}`)
  }
}

const roundTrips = suite('protocol round trips')
const hostile = suite('protocol on hostile bytes')

for (const { name, values, encode, decode } of CODECS) {
  roundTrips(name, () => {
    fc.assert(
      fc.property(values, (value) => {
        const encoded = encode(value as never)
        assert.equal(comparable(decode(encoded)), comparable(value))
        // The same out of the middle of a larger buffer, where a forgotten byteOffset shows.
        const shifted = new Uint8Array(encoded.length + 14)
        shifted.fill(0xa5)
        shifted.set(encoded, 7)
        assert.equal(comparable(decode(shifted.subarray(7, 7 + encoded.length))), comparable(value))
      }),
      { numRuns: 200 },
    )
  })

  hostile(`${name}: random bytes`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (input) => decodesOrRefuses(decode, input)),
      { numRuns: 500 },
    )
  })

  hostile(`${name}: mutated, cut and extended bytes`, () => {
    const mutation = fc.record({ at: fc.nat(), to: fc.nat(255) })
    fc.assert(
      fc.property(
        values,
        fc.array(mutation, { maxLength: 4 }),
        fc.nat(),
        bytes,
        (value, mutations, cut, tail) => {
          const encoded = encode(value as never)
          const mutated = encoded.slice()
          for (const { at, to } of mutations) {
            if (mutated.length > 0) mutated[at % mutated.length] = to
          }
          decodesOrRefuses(decode, mutated)
          decodesOrRefuses(decode, mutated.subarray(0, cut % (mutated.length + 1)))
          decodesOrRefuses(decode, new Uint8Array([...mutated, ...tail]))
        },
      ),
      { numRuns: 300 },
    )
  })
}

hostile('a keyed command has two whole hashes and an operation', () => {
  const numbers = { session: 0, sequence: 0, firstOutstanding: 0 }
  for (const [bytes, isOne] of [
    [0, false],
    [1, false],
    [64, false],
    [65, true],
  ] as const) {
    const input = encodeCommand({ kind: 'keyed', ...numbers, operation: new Uint8Array(bytes) })
    if (isOne) assert.is(decodeCommand(input).operation.length, bytes)
    else assert.throws(() => decodeCommand(input), /of operation in a command of kind keyed/)
  }
})

/** One encoding for one value: what a decoder accepts, the encoder writes again, byte for byte. */
hostile('a command, operation, query, result or list that is accepted has one encoding', () => {
  const canonical: [string, (input: Uint8Array) => Uint8Array][] = [
    ['command', (input) => encodeCommand(decodeCommand(input))],
    ['outcome', (input) => encodeOutcome(decodeOutcome(input))],
    ['kv operation', (input) => encodeKvOperation(decodeKvOperation(input))],
    ['kv query', (input) => encodeKvQuery(decodeKvQuery(input))],
    ['kv result', (input) => encodeKvResult(decodeKvResult(input))],
    ['kv list', (input) => encodeKvList(decodeKvList(input))],
    ['requests', (input) => frameOf(readRequests(input), writeRequest)],
    ['answers', (input) => frameOf(readAnswers(input), writeAnswer)],
  ]
  for (const [name, again] of canonical) {
    const { values, encode } = CODECS.find((one) => one.name === name) as Codec
    fc.assert(
      fc.property(values, fc.nat(), fc.nat(255), (value, at, to) => {
        const mutated = encode(value as never).slice()
        if (mutated.length > 0) mutated[at % mutated.length] = to
        let repeated: Uint8Array
        try {
          repeated = again(mutated)
        } catch (error) {
          assert.ok(error instanceof MalformedError, `${(error as Error).stack}`)
          return
        }
        assert.ok(equalBytes(repeated, mutated), `${name}: ${mutated} is read as ${repeated}`)
      }),
      { numRuns: 500 },
    )
  }
})

hostile('a length that promises more than there is allocates nothing', () => {
  const list = new ByteWriter().u8(0).u32(0xffff_ffff).finish()
  assert.throws(
    () => decodeKvList(list),
    (error: Error) => error instanceof MalformedError,
  )
  const frame = new Uint8Array([255, 255, 255, 255, 1])
  assert.throws(
    () => readRequests(frame),
    (error: Error) => error instanceof MalformedError,
  )
})

roundTrips.run()
hostile.run()

const numbers = suite('bytes')

numbers('what a writer has finished is its own, whatever is written next', () => {
  const text = (byte: number, count: number) => new Uint8Array(count).fill(byte)
  const finished: [Uint8Array, Uint8Array][] = []
  // Sizes on both sides of what a writer begins with, and capacities that fit exactly, are too small, and too large.
  for (const [at, count] of [0, 1, 63, 64, 65, 255, 256, 257, 5000, 70_000].entries()) {
    for (const capacity of [0, 64, count, 2 * count]) {
      const writer = new ByteWriter(capacity)
      const nested = new ByteWriter(capacity).raw(text(255 - at, count))
      finished.push([writer.raw(text(at, count)).finish(), text(at, count)])
      finished.push([nested.finish(), text(255 - at, count)])
      assert.is(writer.length, 0)
      finished.push([writer.u8(at).finish(), Uint8Array.of(at)])
    }
  }
  for (const [given, wanted] of finished) assert.ok(equalBytes(given, wanted))
})

numbers('integers at their borders', () => {
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    assert.is(new ByteReader(new ByteWriter(0).u64(value).finish()).u64(), value)
  }
  const tooLarge = new Uint8Array([0, 0x20, 0, 0, 0, 0, 0, 0])
  assert.throws(
    () => new ByteReader(tooLarge).u64(),
    (error: Error) => error instanceof MalformedError,
  )
  assert.is(new ByteReader(new ByteWriter(0).u16(0xfffe).finish()).u16(), 0xfffe)
})

numbers('the order of bytes is that of Buffer.compare', () => {
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      assert.is(Math.sign(compareBytes(a, b)), Buffer.compare(a, b))
      assert.is(equalBytes(a, b), Buffer.compare(a, b) === 0)
    }),
  )
})

numbers('a writer that grows keeps what it holds', () => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 20 }), fc.nat(8), (parts, capacityBytes) => {
      const writer = new ByteWriter(capacityBytes)
      for (const part of parts) writer.bytes(part)
      const reader = new ByteReader(writer.finish())
      for (const part of parts) assert.ok(equalBytes(reader.bytes(), part))
      reader.end()
    }),
  )
})

numbers.run()
