/**
 * The wire format between a client and any node, and the format of the commands that lie in the log. Pure.
 *
 * A WebSocket message (binary) is a run of messages, each `u32 length, body`: all requests of one turn leave in
 * one frame, and so do the answers. A request's body is `u8 type, u32 requestId, ...`, an answer's likewise;
 * answers come in any order. Integers are big-endian, `bytes` is `u32 length` and the bytes.
 *
 *   1 command   u32 timeoutMs, rest = an encoded Command              -> result | error
 *   2 query     u32 timeoutMs, u8 consistency, rest = an encoded query -> result | error
 *   3 status                                                           -> json | error
 *   4 admin     bytes = name (ASCII), rest = JSON arguments            -> json | error
 *
 *   65 result   u64 index, rest = an encoded Outcome (command) or the machine's answer (query)
 *   66 error    JSON {code, message, retriable, maybeApplied, leaderUrl?}
 *   67 json     JSON
 *   68 leader   requestId 0, pushed when it changes: JSON {leaderId, leaderUrl, term}
 *
 * A Command is encoded once, by the client, and these bytes travel, lie in the log and are applied:
 *
 *   u8 version (1), u8 kind, u64 session, u64 sequence, u64 firstOutstanding, rest = operation
 *
 * kind 1 opens a session (session = sequence = 0): the index it is applied at is the session's id.
 * kind 2 is an operation of that session. `firstOutstanding` is the lowest sequence the client has no answer for
 * yet: replies below it may be forgotten (thesis 6.3). kind 3 closes the session. kind 4 is an operation without a
 * session that has a name of its own: 32 bytes SHA-256 of the name, 32 bytes SHA-256 of the request, then the operation;
 * `sequence` is how often log time had moved, as the node that accepted it knew: a copy that comes two moves later is not run.
 */
import { ByteReader, ByteWriter, MalformedError } from './bytes.ts'

export const PROTOCOL_VERSION = 1

/** Default limits, bytes. A node may be set to others; it answers `too-large` beyond its own. */
export const KEY_BYTES_MAX = 1024
export const VALUE_BYTES_MAX = 1024 * 1024

/** The WebSocket subprotocol; a browser that has a token offers a second one, `token.<base64url token>`. */
export const SUBPROTOCOL = 'raft-p2p.v1'
export const TOKEN_SUBPROTOCOL_PREFIX = 'token.'
export const CLIENT_PATH = '/v1/client'

export const ERROR_CODES = [
  'bad-request',
  'unauthorised',
  'forbidden-origin',
  'not-found',
  'compacted',
  'compare-failed',
  'too-large',
  'wrong-cluster',
  'overloaded',
  'no-leader',
  'not-founded',
  'closing',
  'timeout',
  'disk-full',
  'quota',
  'session-expired',
  'unsafe',
  'internal',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

/** `retriable`: the same call may succeed later. `maybeApplied`: it may have taken effect in spite of the error. */
export interface ErrorBody {
  readonly code: ErrorCode
  readonly message: string
  readonly retriable: boolean
  readonly maybeApplied: boolean
  readonly leaderUrl?: string | null
}

/** The codes after which the same call may succeed later. */
const RETRIABLE: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'no-leader',
  'not-founded',
  'closing',
  'timeout',
  'disk-full',
  'unsafe',
])

export function errorBody(code: ErrorCode, message: string, maybeApplied = false): ErrorBody {
  return { code, message, retriable: RETRIABLE.has(code), maybeApplied }
}

// --- requests and answers -------------------------------------------------------------------------------------

export type Consistency = 'linearizable' | 'stale'

export type Request =
  | {
      readonly type: 'command'
      readonly requestId: number
      readonly timeoutMs: number
      readonly command: Uint8Array
    }
  | {
      readonly type: 'query'
      readonly requestId: number
      readonly timeoutMs: number
      readonly consistency: Consistency
      readonly query: Uint8Array
    }
  | { readonly type: 'status'; readonly requestId: number }
  | {
      readonly type: 'admin'
      readonly requestId: number
      readonly name: Uint8Array
      readonly json: Uint8Array
    }

export type Answer =
  | {
      readonly type: 'result'
      readonly requestId: number
      readonly index: number
      readonly body: Uint8Array
    }
  | { readonly type: 'error'; readonly requestId: number; readonly json: Uint8Array }
  | { readonly type: 'json'; readonly requestId: number; readonly json: Uint8Array }
  | { readonly type: 'leader'; readonly requestId: 0; readonly json: Uint8Array }

const REQUEST = { command: 1, query: 2, status: 3, admin: 4 } as const
const ANSWER = { result: 65, error: 66, json: 67, leader: 68 } as const

/** Appends one length-prefixed request to a frame under construction. */
export function writeRequest(writer: ByteWriter, request: Request): void {
  const start = writer.length
  writer.u32(0).u8(REQUEST[request.type]).u32(request.requestId)
  switch (request.type) {
    case 'command':
      writer.u32(request.timeoutMs).raw(request.command)
      break
    case 'query':
      writer
        .u32(request.timeoutMs)
        .u8(request.consistency === 'stale' ? 1 : 0)
        .raw(request.query)
      break
    case 'status':
      break
    case 'admin':
      writer.bytes(request.name).raw(request.json)
      break
  }
  writer.patchU32(start, writer.length - start - 4)
}

export function writeAnswer(writer: ByteWriter, answer: Answer): void {
  const start = writer.length
  writer.u32(0).u8(ANSWER[answer.type]).u32(answer.requestId)
  if (answer.type === 'result') writer.u64(answer.index).raw(answer.body)
  else writer.raw(answer.json)
  writer.patchU32(start, writer.length - start - 4)
}

/** Splits a frame into requests. The bytes in them are views of `frame`. Throws MalformedError. */
export function readRequests(frame: Uint8Array): Request[] {
  return split(frame, readRequest)
}

/** Splits a frame into answers. The bytes in them are views of `frame`. Throws MalformedError. */
export function readAnswers(frame: Uint8Array): Answer[] {
  return split(frame, readAnswer)
}

function split<T>(frame: Uint8Array, read: (reader: ByteReader) => T): T[] {
  const reader = new ByteReader(frame)
  const found: T[] = []
  while (reader.remaining > 0) found.push(read(new ByteReader(reader.bytes())))
  return found
}

function readRequest(reader: ByteReader): Request {
  const type = reader.u8()
  const requestId = reader.u32()
  switch (type) {
    case REQUEST.command:
      return { type: 'command', requestId, timeoutMs: reader.u32(), command: reader.rest() }
    case REQUEST.query: {
      const timeoutMs = reader.u32()
      const consistency = reader.flag() ? 'stale' : 'linearizable'
      return { type: 'query', requestId, timeoutMs, consistency, query: reader.rest() }
    }
    case REQUEST.status:
      reader.end()
      return { type: 'status', requestId }
    case REQUEST.admin:
      return { type: 'admin', requestId, name: reader.bytes(), json: reader.rest() }
    default:
      throw new MalformedError(`unknown request type ${type}`)
  }
}

function readAnswer(reader: ByteReader): Answer {
  const type = reader.u8()
  const requestId = reader.u32()
  switch (type) {
    case ANSWER.result:
      return { type: 'result', requestId, index: reader.u64(), body: reader.rest() }
    case ANSWER.error:
      return { type: 'error', requestId, json: reader.rest() }
    case ANSWER.json:
      return { type: 'json', requestId, json: reader.rest() }
    case ANSWER.leader:
      if (requestId !== 0) throw new MalformedError('a pushed message answers no request')
      return { type: 'leader', requestId: 0, json: reader.rest() }
    default:
      throw new MalformedError(`unknown answer type ${type}`)
  }
}

// --- commands -------------------------------------------------------------------------------------------------

export interface Command {
  readonly kind: 'openSession' | 'operation' | 'closeSession' | 'keyed'
  readonly session: number
  readonly sequence: number
  readonly firstOutstanding: number
  /** For `operation`: what the state machine applies; for `keyed`, behind two hashes. Empty otherwise. */
  readonly operation: Uint8Array
}

const COMMAND_KINDS = ['openSession', 'operation', 'closeSession', 'keyed'] as const
/** The hashes of name and request in front of a `keyed` operation. */
export const KEYED_HEADER_BYTES = 32 + 32
/** version, kind, session, sequence, firstOutstanding. */
export const COMMAND_HEADER_BYTES = 1 + 1 + 8 + 8 + 8

export function encodeCommand(command: Command): Uint8Array {
  return new ByteWriter(COMMAND_HEADER_BYTES + command.operation.length)
    .u8(PROTOCOL_VERSION)
    .u8(COMMAND_KINDS.indexOf(command.kind) + 1)
    .u64(command.session)
    .u64(command.sequence)
    .u64(command.firstOutstanding)
    .raw(command.operation)
    .finish()
}

/** `operation` is a view of the input. Throws MalformedError. */
export function decodeCommand(bytes: Uint8Array): Command {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  if (version !== PROTOCOL_VERSION) throw new MalformedError(`unknown command version ${version}`)
  const kind = COMMAND_KINDS[reader.u8() - 1]
  if (kind === undefined) throw new MalformedError('unknown command kind')
  const session = reader.u64()
  const sequence = reader.u64()
  const firstOutstanding = reader.u64()
  const operation = reader.rest()
  if (!isWhole(kind, operation.length)) {
    throw new MalformedError(`${operation.length} bytes of operation in a command of kind ${kind}`)
  }
  return { kind, session, sequence, firstOutstanding, operation }
}

function isWhole(kind: Command['kind'], operationBytes: number): boolean {
  if (kind === 'operation') return operationBytes > 0
  return kind === 'keyed' ? operationBytes > KEYED_HEADER_BYTES : operationBytes === 0
}

/**
 * What the replicated sessions answer to a command. `done`: `body` is the machine's result (empty for open and
 * close). `expired`: no such session, the command was not run now and may have run before. `forgotten`: a repeat
 * of a sequence whose reply was given up, because the client had said it needs it no more. Of keyed commands, which were
 * then not run: `conflict`, the same name came with another request before; `full`, no more names can be remembered;
 * `expired`, it comes so late that it may have run and been forgotten.
 */
export interface Outcome {
  readonly status: 'done' | 'expired' | 'forgotten' | 'conflict' | 'full'
  readonly body: Uint8Array
}

const OUTCOMES = ['done', 'expired', 'forgotten', 'conflict', 'full'] as const

export function encodeOutcome(outcome: Outcome): Uint8Array {
  return new ByteWriter(1 + outcome.body.length)
    .u8(OUTCOMES.indexOf(outcome.status))
    .raw(outcome.body)
    .finish()
}

/** `body` is a view of the input. Throws MalformedError. */
export function decodeOutcome(bytes: Uint8Array): Outcome {
  const reader = new ByteReader(bytes)
  const status = OUTCOMES[reader.u8()]
  if (status === undefined) throw new MalformedError('unknown outcome')
  return { status, body: reader.rest() }
}

// --- operations and queries of the key-value machine -----------------------------------------------------------

/** What must hold for a write to take effect. Revisions are log indexes; 0 never occurs as one. */
export type Condition =
  | { readonly type: 'none' }
  | { readonly type: 'value'; readonly value: Uint8Array }
  | { readonly type: 'revision'; readonly revision: number }
  | { readonly type: 'absent' }
  | { readonly type: 'exists' }

export type KvOperation =
  | {
      readonly type: 'put'
      readonly key: Uint8Array
      readonly value: Uint8Array
      readonly condition: Condition
    }
  | { readonly type: 'delete'; readonly key: Uint8Array; readonly condition: Condition }

/**
 * `succeeded` false: the condition failed and nothing changed; `revision` is then the key's present revision (0: absent).
 * Otherwise `revision` is the log index of this write and `existed` tells whether the key was there before.
 */
export interface KvResult {
  readonly succeeded: boolean
  readonly revision: number
  readonly existed: boolean
}

export type KvQuery =
  | { readonly type: 'get'; readonly key: Uint8Array }
  | {
      readonly type: 'list'
      readonly prefix: Uint8Array
      /** Exclusive lower bound, or null. */
      readonly after: Uint8Array | null
      /** At least 1; the machine may return fewer to bound the size of an answer, and then says `more`. */
      readonly limit: number
      readonly keysOnly: boolean
    }

export interface KvItem {
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly revision: number
}

export interface KvList {
  readonly items: readonly KvItem[]
  readonly more: boolean
}

const CONDITIONS = ['none', 'value', 'revision', 'absent', 'exists'] as const
const KV_PUT = 1
const KV_DELETE = 2
const KV_GET = 1
const KV_LIST = 2

export function encodeKvOperation(operation: KvOperation): Uint8Array {
  const writer = new ByteWriter(64 + operation.key.length)
  writer.u8(operation.type === 'put' ? KV_PUT : KV_DELETE)
  writer.u8(CONDITIONS.indexOf(operation.condition.type))
  if (operation.condition.type === 'value') writer.bytes(operation.condition.value)
  if (operation.condition.type === 'revision') writer.u64(operation.condition.revision)
  writer.bytes(operation.key)
  if (operation.type === 'put') writer.raw(operation.value)
  return writer.finish()
}

/** Keys and values are views of the input. Throws MalformedError. */
export function decodeKvOperation(bytes: Uint8Array): KvOperation {
  const reader = new ByteReader(bytes)
  const type = reader.u8()
  const condition = readCondition(reader)
  const key = reader.bytes()
  switch (type) {
    case KV_PUT:
      return { type: 'put', key, value: reader.rest(), condition }
    case KV_DELETE:
      reader.end()
      return { type: 'delete', key, condition }
    default:
      throw new MalformedError(`unknown operation ${type}`)
  }
}

function readCondition(reader: ByteReader): Condition {
  const type = CONDITIONS[reader.u8()]
  switch (type) {
    case 'none':
    case 'absent':
    case 'exists':
      return { type }
    case 'value':
      return { type, value: reader.bytes() }
    case 'revision':
      return { type, revision: reader.u64() }
    default:
      throw new MalformedError('unknown condition')
  }
}

export function encodeKvResult(result: KvResult): Uint8Array {
  return new ByteWriter(10)
    .u8(result.succeeded ? 1 : 0)
    .u64(result.revision)
    .u8(result.existed ? 1 : 0)
    .finish()
}

export function decodeKvResult(bytes: Uint8Array): KvResult {
  const reader = new ByteReader(bytes)
  const result = {
    succeeded: reader.flag(),
    revision: reader.u64(),
    existed: reader.flag(),
  }
  reader.end()
  return result
}

export function encodeKvQuery(query: KvQuery): Uint8Array {
  if (query.type === 'get') return new ByteWriter().u8(KV_GET).raw(query.key).finish()
  const writer = new ByteWriter().u8(KV_LIST).bytes(query.prefix)
  writer.u8(query.after === null ? 0 : 1)
  if (query.after !== null) writer.bytes(query.after)
  return writer
    .u32(query.limit)
    .u8(query.keysOnly ? 1 : 0)
    .finish()
}

/** Keys are views of the input. Throws MalformedError. */
export function decodeKvQuery(bytes: Uint8Array): KvQuery {
  const reader = new ByteReader(bytes)
  const type = reader.u8()
  if (type === KV_GET) return { type: 'get', key: reader.rest() }
  if (type !== KV_LIST) throw new MalformedError(`unknown query ${type}`)
  const prefix = reader.bytes()
  const after = reader.flag() ? reader.bytes() : null
  const limit = reader.u32()
  const keysOnly = reader.flag()
  reader.end()
  if (limit < 1) throw new MalformedError('a list needs a limit of at least 1')
  return { type: 'list', prefix, after, limit, keysOnly }
}

/** The answer to `get`: the item, or null when the key is absent. */
export function encodeKvGot(item: KvItem | null): Uint8Array {
  if (item === null) return new Uint8Array([0])
  return new ByteWriter(9 + item.value.length).u8(1).u64(item.revision).raw(item.value).finish()
}

export function decodeKvGot(bytes: Uint8Array): { value: Uint8Array; revision: number } | null {
  const reader = new ByteReader(bytes)
  if (reader.flag()) return { revision: reader.u64(), value: reader.rest() }
  reader.end()
  return null
}

export function encodeKvList(list: KvList): Uint8Array {
  const writer = new ByteWriter(256).u8(list.more ? 1 : 0).u32(list.items.length)
  for (const item of list.items) writer.u64(item.revision).bytes(item.key).bytes(item.value)
  return writer.finish()
}

export function decodeKvList(bytes: Uint8Array): KvList {
  const reader = new ByteReader(bytes)
  const more = reader.flag()
  const count = reader.u32()
  const items: KvItem[] = []
  for (let i = 0; i < count; i++) {
    const revision = reader.u64()
    items.push({ revision, key: reader.bytes(), value: reader.bytes() })
  }
  reader.end()
  return { items, more }
}
