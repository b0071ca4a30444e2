/** The keys over HTTP: one handler an endpoint. Each turns a request into bytes of client/protocol.ts and an answer back. */
import {
  type Consistency,
  decodeKvGot,
  decodeKvList,
  decodeKvResult,
  encodeKvOperation,
  encodeKvQuery,
  type KvOperation,
  type KvQuery,
  type KvResult,
} from '../../client/protocol.ts'
import type { Service, ServiceAnswer } from '../service.ts'
import { etagOf, readStatus, writeCondition } from './conditions.ts'
import type { Exchange } from './exchange.ts'
import { idempotencyKeyOf, writeKeyed } from './keyed.ts'
import type { GatewayLimits } from './limits.ts'
import { errorBody, Refusal, refuse } from './problem.ts'
import type { SessionWriter, WriteAnswer } from './session.ts'
import { checkBound, checkKey, valueTooLarge } from './sizes.ts'
import { decodePercent, wordOf } from './target.ts'

export const KEY_PATH = '/v1/kv/'

export interface KvParts {
  readonly service: Service
  readonly writer: SessionWriter
  readonly limits: GatewayLimits
}

export async function putKey(parts: KvParts, exchange: Exchange): Promise<void> {
  const { limits } = parts
  const key = keyOf(parts, exchange)
  const condition = writeCondition(exchange.request.headers)
  const value = await exchange.body(limits.valueBytesMax, (length) => valueTooLarge(length, limits))
  const { revision } = await write(parts, exchange, { type: 'put', key, value, condition })
  exchange.header({ etag: etagOf(revision) })
  exchange.json({ revision })
}

export async function deleteKey(parts: KvParts, exchange: Exchange): Promise<void> {
  const key = keyOf(parts, exchange)
  const condition = writeCondition(exchange.request.headers)
  const result = await write(parts, exchange, { type: 'delete', key, condition })
  exchange.json({ revision: result.revision, deleted: result.existed })
}

export async function getKey(parts: KvParts, exchange: Exchange): Promise<void> {
  const key = keyOf(parts, exchange)
  const { body } = await read(parts, exchange, { type: 'get', key })
  const got = decodeKvGot(body)
  const status = readStatus(exchange.request.headers, got?.revision ?? 0)
  if (got !== null) exchange.header({ etag: etagOf(got.revision) })
  if (status === 412) throw refuse('compare-failed', 'the key is not at the revision of If-Match')
  if (got === null) throw refuse('not-found', 'no such key')
  if (status === 304) return exchange.reply({ status })
  const headers = { 'content-type': 'application/octet-stream' }
  exchange.reply({ status, headers, body: got.value })
}

export async function listKeys(parts: KvParts, exchange: Exchange): Promise<void> {
  const { limits } = parts
  const { query } = exchange.target
  const prefix = query.get('prefix') ?? new Uint8Array(0)
  const after = query.get('after') ?? null
  const tooLarge = checkBound(prefix, limits) ?? checkBound(after, limits)
  if (tooLarge !== null) throw new Refusal(tooLarge)
  const limit = limitOf(exchange, limits)
  const list: KvQuery = { type: 'list', prefix, after, limit, keysOnly: false }
  const { body, index } = await read(parts, exchange, list)
  const { items, more } = decodeKvList(body)
  exchange.json({
    items: items.map((item) => ({
      ...asJson('key', item.key),
      ...asJson('value', item.value),
      revision: item.revision,
    })),
    revision: index,
    more,
  })
}

/** Fatal, because what is not text goes as base64; and a byte order mark is part of the value. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function asJson(name: 'key' | 'value', bytes: Uint8Array): Record<string, string> {
  try {
    return { [name]: UTF8.decode(bytes) }
  } catch {
    const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
    return { [`${name}Base64`]: base64 }
  }
}

function keyOf({ limits }: KvParts, exchange: Exchange): Uint8Array {
  const key = decodePercent(exchange.target.path.slice(KEY_PATH.length), 'path')
  const error = checkKey(key, limits)
  if (error !== null) throw new Refusal(error)
  return key
}

function limitOf(exchange: Exchange, limits: GatewayLimits): number {
  const word = wordOf(exchange.target, 'limit')
  if (word === null) return limits.listItemsDefault
  const limit = /^\d{1,9}$/.test(word) ? Number(word) : 0
  if (limit < 1) throw refuse('bad-request', 'limit is a number of at least 1')
  // A larger one is no mistake: the answer says `more`.
  return Math.min(limit, limits.listItemsMax)
}

function consistencyOf(exchange: Exchange): Consistency {
  const word = wordOf(exchange.target, 'consistency')
  if (word === null || word === 'linearizable') return 'linearizable'
  if (word === 'stale') return 'stale'
  throw refuse('bad-request', 'consistency is linearizable or stale')
}

async function read(
  { service, limits }: KvParts,
  exchange: Exchange,
  query: KvQuery,
): Promise<ServiceAnswer & { ok: true }> {
  const consistency = consistencyOf(exchange)
  const { requestTimeoutMs: timeoutMs } = limits
  const encoded = encodeKvQuery(query)
  const answer = await exchange.ask<ServiceAnswer>('read', (done) =>
    service.request({ type: 'query', query: encoded, consistency, timeoutMs }, done),
  )
  if (!answer.ok) throw new Refusal(answer.error)
  if (consistency === 'stale') {
    const lagMs = service.lagMs()
    if (lagMs !== null) exchange.header({ 'raft-lag-ms': String(Math.round(lagMs)) })
  }
  return answer
}

async function write(
  { service, writer, limits }: KvParts,
  exchange: Exchange,
  operation: KvOperation,
): Promise<KvResult> {
  const { requestTimeoutMs: timeoutMs } = limits
  const encoded = encodeKvOperation(operation)
  const name = idempotencyKeyOf(exchange.request.headers['idempotency-key'])
  const result = decodeKvResult(
    name === null
      ? await writeInSession(writer, exchange, { operation: encoded, timeoutMs })
      : await writeKeyed(service, exchange, { name, operation: encoded, timeoutMs }),
  )
  if (result.succeeded) return result
  if (result.revision !== 0) exchange.header({ etag: etagOf(result.revision) })
  const present = result.revision === 0 ? 'absent' : `at revision ${result.revision}`
  throw new Refusal(errorBody('compare-failed', `the key is ${present}`))
}

async function writeInSession(
  writer: SessionWriter,
  exchange: Exchange,
  request: { readonly operation: Uint8Array; readonly timeoutMs: number },
): Promise<Uint8Array> {
  const answer = await exchange.ask<WriteAnswer>('write', (done) => writer.write(request, done))
  if (!answer.ok) throw new Refusal(answer.error)
  return answer.body
}
