/**
 * The client library, for browsers, Node, Bun and Deno. It must import nothing outside client/, and nothing native: what a page
 * bundles is this folder's few small files. `client/node.ts` adds the package `ws` for runtimes without a global WebSocket.
 *
 * A call finds a node, follows the leader, and is repeated across lost connections and elections until its time is up. Each
 * write runs exactly once, or fails with an error that says whether it may have run. Calls that do not wait for one another
 * leave in one frame, and are applied in the order in which they were made unless a failure makes one be sent again.
 */
import { Addresses } from './addresses.ts'
import { MalformedError } from './bytes.ts'
import type { CallOptions, CallResult } from './call.ts'
import { Dispatcher } from './dispatcher.ts'
import { RaftError } from './errors.ts'
import type { LeaderInfo, WebSocketConstructor } from './link.ts'
import {
  type Condition,
  type Consistency,
  decodeKvGot,
  decodeKvList,
  decodeKvResult,
  encodeKvOperation,
  encodeKvQuery,
  type KvItem,
  type KvList,
  type KvOperation,
  type KvResult,
  SUBPROTOCOL,
  TOKEN_SUBPROTOCOL_PREFIX,
} from './protocol.ts'
import type { NodeStatus } from './status.ts'

export * from './admin.ts'
export type { CallOptions, CallResult } from './call.ts'
export { RaftError, type RaftErrorCode } from './errors.ts'
export type { LeaderInfo, WebSocketConstructor } from './link.ts'
export type { Consistency, KvItem, KvList } from './protocol.ts'
export type { Alarm, MemberStatus, NodeStatus, StateHash } from './status.ts'

/** How long a call may take, retries included, unless it says otherwise. */
export const TIMEOUT_MS_DEFAULT = 10_000
const LIST_LIMIT_DEFAULT = 1_000
const U32_MAX = 0xffff_ffff

/** Keys and values are bytes; a string stands for its UTF-8. */
export type BytesLike = string | Uint8Array

/** What a key must hold: a value, null for "absent", a revision, or anything at all. */
export type Expected = BytesLike | null | { readonly revision: number } | { readonly exists: true }

export interface ConnectOptions extends CallOptions {
  /** What `raft-p2p token` prints. Not needed on the node's own machine. */
  readonly token?: string | undefined
  /** The WebSocket class to use instead of the global one. */
  readonly WebSocket?: WebSocketConstructor | undefined
  /** Refuse nodes of any other cluster. Without it the first one met is kept to. */
  readonly clusterId?: string | undefined
  /** False stays with the given nodes, for questions to one particular node. Default true. */
  readonly followLeader?: boolean | undefined
}

export interface ReadOptions extends CallOptions {
  /** `stale` answers from the node's own state, which may lag behind. */
  readonly consistency?: Consistency | undefined
}

export interface ListOptions extends ReadOptions {
  /** At most so many items, 1,000 by default; large items end a page earlier. */
  readonly limit?: number | undefined
  /** Only keys after this one: the last key of the page before. */
  readonly after?: BytesLike | undefined
  /** Leaves the values out. */
  readonly keysOnly?: boolean | undefined
}

/**
 * Connects to the cluster that the node at any of `urls` belongs to. Fails with `unreachable` when none answers in time, with
 * `unauthorised` or `wrong-cluster` as soon as all refuse. `timeoutMs` holds for connecting and is the default of every
 * call; `signal` closes the client, now or later.
 */
export async function connect(
  urls: string | readonly string[],
  options: ConnectOptions = {},
): Promise<Client> {
  if (options.signal?.aborted === true) {
    const message = 'connecting was aborted'
    throw new RaftError({ code: 'aborted', message, retriable: false, maybeApplied: false })
  }
  const client = new Client(typeof urls === 'string' ? [urls] : urls, options)
  try {
    await client.status()
    return client
  } catch (error) {
    client.close()
    throw error
  }
}

/** A connection to a cluster. Made by `connect`; `close` it, or it keeps the process alive. */
export class Client {
  readonly #dispatcher: Dispatcher
  readonly #signal: AbortSignal | undefined
  readonly #abort = () => this.close()

  /** Use `connect`, which also waits for the first node. Throws TypeError on options that can not work. */
  constructor(urls: readonly string[], options: ConnectOptions = {}) {
    const WebSocket =
      options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket
    if (WebSocket === undefined) {
      throw new TypeError(
        'this runtime has no global WebSocket: pass one, connect(urls, { WebSocket }), for example of the package "ws"',
      )
    }
    const protocols = protocolsFor(options.token)
    const followLeader = options.followLeader ?? true
    this.#dispatcher = new Dispatcher({
      WebSocket,
      protocols,
      addresses: new Addresses(urls, { learning: followLeader }),
      followLeader,
      clusterId: options.clusterId ?? null,
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS_DEFAULT,
    })
    this.#signal = options.signal
    this.#signal?.addEventListener('abort', this.#abort)
  }

  /** Sets a key. `revision` is the log index of this write. */
  async put(
    key: BytesLike,
    value: BytesLike,
    options: CallOptions = {},
  ): Promise<{ revision: number }> {
    const { revision } = await this.#unconditional(
      { type: 'put', key: bytesOf(key), value: bytesOf(value), condition: { type: 'none' } },
      options,
    )
    return { revision }
  }

  /** `deleted` tells whether the key was there. */
  async delete(
    key: BytesLike,
    options: CallOptions = {},
  ): Promise<{ revision: number; deleted: boolean }> {
    const { revision, existed } = await this.#unconditional(
      { type: 'delete', key: bytesOf(key), condition: { type: 'none' } },
      options,
    )
    return { revision, deleted: existed }
  }

  /**
   * Compare and set: writes `value`, or deletes the key when it is null, if the key holds what is `expected`. When it does
   * not, `succeeded` is false and `revision` is the key's present one, 0 if it is absent.
   */
  async cas(
    key: BytesLike,
    expected: Expected,
    value: BytesLike | null,
    options: CallOptions = {},
  ): Promise<{ succeeded: boolean; revision: number }> {
    const condition = conditionOf(expected)
    const operation: KvOperation =
      value === null
        ? { type: 'delete', key: bytesOf(key), condition }
        : { type: 'put', key: bytesOf(key), value: bytesOf(value), condition }
    const { succeeded, revision } = await this.#write(operation, options)
    return { succeeded, revision }
  }

  /** The value as text (UTF-8), or null when the key is absent. */
  async get(key: BytesLike, options: ReadOptions = {}): Promise<string | null> {
    const item = await this.getItem(key, options)
    return item === null ? null : new TextDecoder().decode(item.value)
  }

  /** The value, or null when the key is absent. */
  async getBytes(key: BytesLike, options: ReadOptions = {}): Promise<Uint8Array | null> {
    const item = await this.getItem(key, options)
    return item === null ? null : item.value
  }

  /** The key with its value and revision, or null when it is absent. */
  async getItem(key: BytesLike, options: ReadOptions = {}): Promise<KvItem | null> {
    const keyBytes = bytesOf(key).slice()
    const answer = await this.query(encodeKvQuery({ type: 'get', key: keyBytes }), options)
    const got = decoded(() => decodeKvGot(answer.body))
    if (got === null) return null
    return { key: keyBytes, value: got.value.slice(), revision: got.revision }
  }

  /** One page of the keys that begin with `prefix`, in the order of bytes. `more`: ask again `after` the last one. */
  async list(prefix: BytesLike = '', options: ListOptions = {}): Promise<KvList> {
    const limit = options.limit ?? LIST_LIMIT_DEFAULT
    if (!Number.isInteger(limit) || limit < 1 || limit > U32_MAX) {
      throw new TypeError(`a list needs a limit of at least 1, not ${limit}`)
    }
    const query = encodeKvQuery({
      type: 'list',
      prefix: bytesOf(prefix),
      after: options.after === undefined ? null : bytesOf(options.after),
      limit,
      keysOnly: options.keysOnly ?? false,
    })
    const answer = await this.query(query, options)
    const { items, more } = decoded(() => decodeKvList(answer.body))
    const copies = items.map(({ key, value, revision }) => ({
      key: key.slice(),
      value: value.slice(),
      revision,
    }))
    return { items: copies, more }
  }

  /** Applies one operation, encoded for the cluster's state machine, exactly once. */
  command(operation: Uint8Array, options: CallOptions = {}): Promise<CallResult> {
    if (operation.length === 0) return Promise.reject(new TypeError('an operation needs bytes'))
    return this.#dispatcher.call({ type: 'write', operation }, options)
  }

  /** Asks the cluster's state machine an encoded question. */
  query(query: Uint8Array, options: ReadOptions = {}): Promise<CallResult> {
    const consistency = options.consistency ?? 'linearizable'
    return this.#dispatcher.call({ type: 'query', query, consistency }, options)
  }

  /** How the node at the other end sees itself and the cluster. */
  async status(options: CallOptions = {}): Promise<NodeStatus> {
    const { body } = await this.#dispatcher.call({ type: 'status' }, options)
    return readJson(body) as NodeStatus
  }

  /**
   * A privileged verb for the connected node. Never done twice: a lost connection fails it, with `maybeApplied`. `stop` and `leave` are
   * about the node that was asked, and never go to another one.
   */
  async admin(name: string, args: unknown = {}, options: CallOptions = {}): Promise<unknown> {
    const json = bytesOf(JSON.stringify(args))
    const ofNode = name === 'stop' || name === 'leave'
    const request = { type: 'admin', name: bytesOf(name), json, ofNode } as const
    const { body } = await this.#dispatcher.call(request, options)
    return readJson(body)
  }

  /** Who leads, as far as this client has heard; null before it has heard anything. */
  leader(): LeaderInfo | null {
    return this.#dispatcher.leaderInfo
  }

  /** Fails what is unanswered with `aborted`. Idempotent. */
  close(): void {
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#dispatcher.close()
  }

  async #write(operation: KvOperation, options: CallOptions): Promise<KvResult> {
    const answer = await this.command(encodeKvOperation(operation), options)
    return decoded(() => decodeKvResult(answer.body), true)
  }

  /** A write without a condition fails only where the machine could not read it. */
  async #unconditional(operation: KvOperation, options: CallOptions): Promise<KvResult> {
    const result = await this.#write(operation, options)
    if (result.succeeded) return result
    const message = 'the state machine does not know this operation'
    throw new RaftError({ code: 'bad-request', message, retriable: false, maybeApplied: false })
  }
}

function bytesOf(value: BytesLike): Uint8Array {
  if (typeof value === 'string') return new TextEncoder().encode(value)
  if (value instanceof Uint8Array) return value
  throw new TypeError('keys and values are strings or Uint8Arrays')
}

function conditionOf(expected: Expected): Condition {
  if (expected === null) return { type: 'absent' }
  if (typeof expected === 'string' || expected instanceof Uint8Array) {
    return { type: 'value', value: bytesOf(expected) }
  }
  if ('exists' in expected) return { type: 'exists' }
  const { revision } = expected
  if (!Number.isSafeInteger(revision) || revision < 0) {
    throw new TypeError(`${revision} is not a revision`)
  }
  return { type: 'revision', revision }
}

/** Browsers can send no header with a WebSocket, so the token travels as a subprotocol. */
function protocolsFor(token: string | undefined): string[] {
  if (token === undefined) return [SUBPROTOCOL]
  if (!/^[A-Za-z0-9_.~-]+$/.test(token)) {
    throw new TypeError('this is not a token: give connect what `raft-p2p token` prints')
  }
  return [SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX + token]
}

/** An answer the key-value machine can not have given: another machine, or another version. */
function decoded<T>(decode: () => T, maybeApplied = false): T {
  try {
    return decode()
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error
    const message = `the answer is not one of the key-value machine: ${error.message}`
    throw new RaftError({ code: 'internal', message, retriable: false, maybeApplied })
  }
}

function readJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    const message = 'the node answered with what is not JSON'
    throw new RaftError({ code: 'internal', message, retriable: false, maybeApplied: false })
  }
}
