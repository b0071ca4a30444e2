/** The decoders of the gateway: request targets, headers, access, sizes, frames of clients, and the machine behind them. */
import { EventEmitter } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import type { WebSocket } from 'ws'
import { ByteWriter, MalformedError } from '../../client/bytes.ts'
import {
  type Answer,
  type Condition,
  decodeKvResult,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
  type KvOperation,
  type KvQuery,
  readAnswers,
  writeRequest,
} from '../../client/protocol.ts'
import { type Caller, createAccess } from '../../node/gateway/access.ts'
import { Clients } from '../../node/gateway/clients.ts'
import { etagOf, readStatus, writeCondition } from '../../node/gateway/conditions.ts'
import { GATEWAY_LIMITS } from '../../node/gateway/limits.ts'
import { problemOf, Refusal } from '../../node/gateway/problem.ts'
import { checkCommand, checkQuery, KEY_VALUE_CHECKS } from '../../node/gateway/sizes.ts'
import { decodePercent, parseTarget, type Target, wordOf } from '../../node/gateway/target.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { isCommand } from '../../node/request-table.ts'
import { LocalService } from '../support/local-service.ts'
import { bytes, u64 } from './arbitraries.ts'
import { command, kvOperation, kvQuery } from './decoders-client.ts'
import { anyText } from './mutations.ts'
import { type AnyRow, always, guard, row, throwing } from './rows.ts'

const percent = (all: Uint8Array): string =>
  [...all].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')

// --- targets and headers ----------------------------------------------------------------------------------------------

const word = fc.string({ unit: fc.constantFrom(...'abcz019._-/%'), maxLength: 8 })

/** Only texts come out of Node's parser of headers. */
function headersOf(value: unknown): IncomingHttpHeaders {
  const fields = Object.entries(typeof value === 'object' && value !== null ? value : {})
  return Object.fromEntries(fields.filter(([, one]) => typeof one === 'string'))
}

const headerText = fc.oneof(
  fc.constantFrom(
    '*',
    '"17"',
    'W/"17"',
    '"0"',
    '"99999999999999999"',
    '17',
    '""',
    '"1", "2"',
    ' * ',
  ),
  fc.constantFrom(
    'http://localhost:7700',
    'https://evil',
    'null',
    'localhost:7700',
    '[::1]',
    '1.2.3.4',
  ),
  fc.constantFrom('Bearer token-write', 'bearer x', 'Basic x', 'raft-p2p.v1, token.token-read'),
  anyText,
)
const HEADERS = [
  'if-match',
  'if-none-match',
  'origin',
  'host',
  'authorization',
  'upgrade',
  'sec-websocket-protocol',
  'via',
  'x-forwarded-for',
]
const headers = fc.dictionary(fc.constantFrom(...HEADERS), headerText, {
  maxKeys: 5,
  noNullPrototype: true,
})

const writeHeaders: fc.Arbitrary<Condition> = fc.oneof(
  fc.record({ type: fc.constantFrom('none' as const, 'absent' as const, 'exists' as const) }),
  fc.record({ type: fc.constant('revision' as const), revision: u64 }),
)

function headersFor(condition: Condition): IncomingHttpHeaders {
  if (condition.type === 'absent') return { 'if-none-match': '*' }
  if (condition.type === 'exists') return { 'if-match': '*' }
  return condition.type === 'revision' ? { 'if-match': etagOf(condition.revision) } : {}
}

const access = createAccess({
  tokens: { read: 'token-read', write: 'token-write', admin: '' },
  requireToken: false,
  hosts: ['node.example', '10.0.0.1', '::2'],
})

function callerOf(value: unknown) {
  const { remoteAddress, ...rest } = (typeof value === 'object' && value !== null ? value : {}) as {
    remoteAddress?: unknown
  }
  const address = typeof remoteAddress === 'string' ? remoteAddress : '127.0.0.1'
  const request = { headers: headersOf(rest), socket: { remoteAddress: address } }
  const caller = access(request as unknown as IncomingMessage)
  if (!(caller instanceof Refusal)) return { ok: true as const, value: caller }
  assert.ok(JSON.parse(problemOf(caller).text).code === caller.body.code)
  return { ok: false as const }
}

const HTTP: readonly AnyRow[] = [
  row<string, Target>({
    name: 'request target',
    covers: ['node/gateway/target.ts#parseTarget'],
    kind: 'text',
    values: fc
      .record({
        path: word.map((text) => `/${text}`),
        query: fc.dictionary(fc.string({ unit: fc.constantFrom(...'abc'), maxLength: 3 }), bytes, {
          maxKeys: 3,
          noNullPrototype: true,
        }),
      })
      .map(({ path, query }) => ({ path, query: new Map(Object.entries(query)) })),
    encode: ({ path, query }) =>
      query.size === 0
        ? path
        : `${path}?${[...query].map(([name, one]) => `${name}=${percent(one)}`).join('&')}`,
    decode: throwing(parseTarget, Refusal),
    sound: (target) => {
      assert.match(target.path, /^\/[^?]*$/)
      for (const name of target.query.keys()) assert.ok((wordOf(target, name) ?? '').length <= 64)
    },
    noise: fc
      .array(fc.constantFrom('/', '?', '&', '=', '%', '%4', '%41', '%ff', '+', 'a', '\u00e9'), {
        maxLength: 14,
      })
      .map((parts) => `/${parts.join('')}`),
  }),
  row<string, Uint8Array>({
    name: 'percent-encoded bytes',
    covers: ['node/gateway/target.ts#decodePercent'],
    kind: 'text',
    values: bytes,
    encode: percent,
    decode: throwing((text) => decodePercent(text, 'path'), Refusal),
    sound: (decoded, text) => {
      const escapes = text.match(/%[0-9a-f]{2}/gi)?.length ?? 0
      assert.match(text, /^(%[0-9a-f]{2}|[\0-$&-~])*$/i)
      assert.is(decoded.length, text.length - 2 * escapes)
    },
  }),
  row<unknown, Condition>({
    name: 'condition of a write',
    covers: ['node/gateway/conditions.ts#writeCondition'],
    kind: 'json',
    values: writeHeaders,
    encode: headersFor,
    decode: throwing((value) => writeCondition(headersOf(value)), Refusal),
    noise: headers,
  }),
  row<unknown, number>({
    name: 'condition of a read',
    covers: ['node/gateway/conditions.ts#readStatus'],
    kind: 'json',
    values: fc.constant(304),
    encode: () => ({ 'if-none-match': 'W/"3", "17"' }),
    decode: always((value) => readStatus(headersOf(value), 17)),
    sound: (status) => assert.ok([200, 304, 412].includes(status)),
    again: 'no',
    noise: headers,
  }),
  row<unknown, Caller>({
    name: 'caller of a request',
    covers: ['node/gateway/access.ts#createAccess'],
    kind: 'json',
    values: fc
      .constantFrom('read' as const, 'write' as const)
      .map((role) => ({ role, origin: null })),
    encode: ({ role }) => ({ authorization: `Bearer token-${role}`, remoteAddress: '9.9.9.9' }),
    decode: callerOf,
    // The role alone says nothing of where the call came from.
    shown: ({ role }) => role,
    sound: (caller, value) => {
      // A role without a token belongs to this machine alone, and is never the one of an administrator.
      assert.is.not(caller.role, 'admin')
      const { authorization, via } = headersOf(value)
      if (authorization === undefined && via !== undefined) {
        assert.match(String(headersOf(value)['sec-websocket-protocol']), /token\.token-/)
      }
    },
    again: 'no',
    noise: fc
      .tuple(headers, fc.constantFrom('127.0.0.1', '::1', '9.9.9.9', '::ffff:127.0.0.1'))
      .map(([all, remoteAddress]) => ({ ...all, remoteAddress })),
  }),
]

// --- what a client sends ------------------------------------------------------------------------------------------------

const LIMITS = { keyBytesMax: 30, valueBytesMax: 30 }

const written = fc
  .record({ operation: kvOperation, session: u64, sequence: u64 })
  .map(({ operation, session, sequence }) =>
    encodeCommand({
      kind: 'operation',
      session,
      sequence,
      firstOutstanding: 0,
      operation: encodeKvOperation(operation),
    }),
  )

const refusedBy = (check: (input: Uint8Array) => unknown) => (input: Uint8Array) =>
  check(input) === null ? { ok: true as const, value: input } : { ok: false as const }

const queried = kvQuery.map((query) => encodeKvQuery(query))

/** What is sent in one frame: requests, two of them with bodies that are none. */
const frames = fc
  .array(fc.oneof(written, queried, bytes), { minLength: 1, maxLength: 5 })
  .map((all) => {
    const writer = new ByteWriter()
    for (const [at, body] of all.entries()) {
      const requestId = at + 1
      writeRequest(writer, { type: 'command', requestId, timeoutMs: 0, command: body })
      writeRequest(writer, {
        type: 'query',
        requestId,
        timeoutMs: 1,
        consistency: 'stale',
        query: body,
      })
      writeRequest(writer, { type: 'status', requestId })
      writeRequest(writer, { type: 'admin', requestId, name: body, json: body })
    }
    return writer.finish()
  })

/** A socket that keeps what it is given. */
class TakingSocket extends EventEmitter {
  bufferedAmount = 0
  readonly sent: Uint8Array[] = []
  readonly closed: number[] = []
  send(frame: Uint8Array): void {
    this.sent.push(frame)
  }
  close(code: number): void {
    this.closed.push(code)
  }
  terminate(): void {
    this.closed.push(1006)
  }
}

/** Never answers, so that nothing of one example is left for the next. */
class SilentService extends LocalService {
  override request(): () => void {
    return () => {}
  }
}

/** Returns the answers of one turn; a frame that is none closes the socket. */
function served(frame: Uint8Array) {
  const clients = new Clients(new SilentService(), GATEWAY_LIMITS, KEY_VALUE_CHECKS)
  const socket = new TakingSocket()
  clients.accept(socket as unknown as WebSocket, 'write')
  socket.emit('message', Buffer.from(frame.buffer, frame.byteOffset, frame.length), true)
  const { closed, sent } = socket
  clients.close()
  const answers: Answer[] = sent.flatMap((one) => readAnswers(one))
  if (closed.includes(1002)) return { ok: false as const }
  return { ok: true as const, value: answers.length }
}

const CLIENTS: readonly AnyRow[] = [
  row<Uint8Array, Uint8Array>({
    name: 'command at the boundary',
    covers: ['node/gateway/sizes.ts#checkCommand'],
    kind: 'bytes',
    values: command
      .filter(({ kind }) => kind === 'openSession' || kind === 'closeSession')
      .map(encodeCommand),
    encode: (all) => all,
    decode: refusedBy((input) => checkCommand(input, LIMITS)),
    noise: written,
    // What passes must be a command for the replica behind it.
    sound: (accepted) => assert.ok(isCommand(accepted)),
    again: 'bytes',
  }),
  row<Uint8Array, Uint8Array>({
    name: 'query at the boundary',
    covers: ['node/gateway/sizes.ts#checkQuery'],
    kind: 'bytes',
    values: fc.constant(encodeKvQuery({ type: 'get', key: new Uint8Array(3) })),
    encode: (all) => all,
    decode: refusedBy((input) => checkQuery(input, LIMITS)),
    noise: queried,
    // What passes must be a query for the machine behind it.
    sound: (accepted) => void new KvMachine().query(accepted),
    again: 'bytes',
  }),
  row<Uint8Array, Uint8Array>({
    name: 'command in the log',
    covers: ['node/request-table.ts#isCommand'],
    kind: 'bytes',
    values: command.map(encodeCommand),
    encode: (all) => all,
    decode: guard(isCommand),
    noise: written,
    again: 'bytes',
  }),
  row<Uint8Array, KvOperation | null>({
    name: 'operation of the machine',
    covers: ['node/machine/kv.ts'],
    kind: 'bytes',
    values: kvOperation,
    encode: (operation) => encodeKvOperation(operation as KvOperation),
    decode: always((input) => {
      decodeKvResult(new KvMachine().apply(input, { index: 9 }))
      return null
    }),
    shown: () => 'answered',
    again: 'no',
  }),
  row<Uint8Array, KvQuery | null>({
    name: 'query of the machine',
    covers: ['node/machine/kv.ts'],
    kind: 'bytes',
    values: kvQuery,
    encode: (query) => encodeKvQuery(query as KvQuery),
    decode: throwing((input) => {
      new KvMachine().query(input)
      return null
    }, MalformedError),
    shown: () => 'answered',
    again: 'no',
  }),
  row<Uint8Array, unknown>({
    name: 'frame of a client',
    covers: ['node/gateway/clients.ts'],
    kind: 'bytes',
    values: frames,
    // Node's own sockets and timers ask for some.
    bufferBytesMax: 1 << 16,
    encode: (frame) => frame as Uint8Array,
    decode: served,
    shown: () => 'served',
    again: 'no',
    noise: frames,
  }),
]

export const GATEWAY_DECODERS: readonly AnyRow[] = [...HTTP, ...CLIENTS]
