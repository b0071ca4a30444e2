/**
 * The built-in key-value machine: an ordered map of bytes to bytes, whose revisions are log indexes. Operations, queries
 * and answers are those of client/protocol.ts. Pure: it must never read a clock, random numbers or the outside.
 */
import { compareBytes, equalBytes, MalformedError } from '../../client/bytes.ts'
import {
  type Condition,
  decodeKvOperation,
  decodeKvQuery,
  encodeKvGot,
  encodeKvList,
  encodeKvResult,
  type KvItem,
  type KvList,
  type KvOperation,
  type KvQuery,
  type KvResult,
} from '../../client/protocol.ts'
import type { Index } from '../raft/types.ts'
import { hashItem, type Lanes, MultisetHash } from './hash.ts'
import type { ApplyMeta, StateMachine } from './machine.ts'
import { createOrderedMap, type OrderedMap } from './ordered-map.ts'

/** A list answer holds no more bytes than this, unless its first item alone is larger. */
export const LIST_BYTES_MAX = 1024 * 1024
/** u64 revision and two u32 lengths, as encodeKvList writes them. */
const LIST_ITEM_HEADER_BYTES = 8 + 4 + 4
/** What an item is counted for beyond its key and value, so that a billion empty keys have a size too. */
export const ITEM_OVERHEAD_BYTES = 64

const NOTHING = new Uint8Array(0)
/** What a malformed operation answers: nothing changed, and no key has revision 0. */
const MALFORMED: KvResult = { succeeded: false, revision: 0, existed: false }

/** Never changed after it was stored, because clones share it. Key and value are the machine's own copies. */
interface StoredItem extends KvItem {
  /** Kept, so that replacing or deleting an item does not hash the old value again. */
  readonly lanes: Lanes
}

export class KvMachine implements StateMachine {
  readonly #items: OrderedMap<StoredItem>
  readonly #hash: MultisetHash
  #bytes: number

  /** An empty machine, or the copy-on-write clone of another. */
  constructor(from?: KvMachine) {
    this.#items = from === undefined ? createOrderedMap() : from.#items.clone()
    this.#hash = new MultisetHash(from === undefined ? undefined : from.#hash.lanes)
    this.#bytes = from === undefined ? 0 : from.#bytes
  }

  /** The number of keys. */
  get size(): number {
    return this.#items.size
  }

  /** Keys, values and ITEM_OVERHEAD_BYTES each: what the limit on the state counts. Equal states have equal sizes. */
  get bytes(): number {
    return this.#bytes
  }

  /**
   * A malformed operation changes nothing and answers `succeeded: false, revision: 0, existed: false`, on every member alike. The
   * key and value are copied: a view would keep the buffer that the entry arrived in (a whole frame or batch) alive for
   * as long as the key exists, and the size of the state would be unknown.
   */
  apply(operation: Uint8Array, meta: ApplyMeta): Uint8Array {
    let decoded: KvOperation
    try {
      decoded = decodeKvOperation(operation)
    } catch (error) {
      if (error instanceof MalformedError) return encodeKvResult(MALFORMED)
      throw error
    }
    return encodeKvResult(this.#run(decoded, meta.index))
  }

  query(query: Uint8Array): Uint8Array {
    const decoded = decodeKvQuery(query)
    if (decoded.type === 'get') return encodeKvGot(this.#items.get(decoded.key) ?? null)
    return encodeKvList(this.#list(decoded))
  }

  hash(): string {
    return this.#hash.hex()
  }

  clone(): KvMachine {
    return new KvMachine(this)
  }

  #run(operation: KvOperation, index: Index): KvResult {
    const present = this.#items.get(operation.key)
    const existed = present !== undefined
    if (!holds(operation.condition, present)) {
      return { succeeded: false, revision: present?.revision ?? 0, existed }
    }
    if (operation.type === 'put') {
      const key = present?.key ?? operation.key.slice()
      const value = operation.value.slice()
      this.#forget(present)
      const lanes = hashItem(key, value, index)
      this.#items.set(key, { key, value, revision: index, lanes })
      this.#hash.add(lanes)
      this.#bytes += itemBytes(key, value)
    } else if (present !== undefined) {
      this.#forget(present)
      this.#items.delete(present.key)
    }
    return { succeeded: true, revision: index, existed }
  }

  /** Takes an item out of the hash and the size; the caller replaces or deletes it. */
  #forget(item: StoredItem | undefined): void {
    if (item === undefined) return
    this.#hash.remove(item.lanes)
    this.#bytes -= itemBytes(item.key, item.value)
  }

  #list(query: KvQuery & { readonly type: 'list' }): KvList {
    const { prefix, after, limit, keysOnly } = query
    const from = after !== null && compareBytes(prefix, after) < 0 ? after : prefix
    const items: KvItem[] = []
    let bytes = 0
    for (const [key, item] of this.#items.entries(from)) {
      if (after !== null && equalBytes(key, after)) continue
      if (!startsWith(key, prefix)) break
      const value = keysOnly ? NOTHING : item.value
      bytes += LIST_ITEM_HEADER_BYTES + key.length + value.length
      if (items.length >= limit || (items.length > 0 && bytes > LIST_BYTES_MAX)) {
        return { items, more: true }
      }
      items.push({ key, value, revision: item.revision })
    }
    return { items, more: false }
  }
}

function holds(condition: Condition, present: KvItem | undefined): boolean {
  switch (condition.type) {
    case 'none':
      return true
    case 'absent':
      return present === undefined
    case 'exists':
      return present !== undefined
    case 'value':
      return present !== undefined && equalBytes(present.value, condition.value)
    case 'revision':
      return present !== undefined && present.revision === condition.revision
  }
}

function itemBytes(key: Uint8Array, value: Uint8Array): number {
  return ITEM_OVERHEAD_BYTES + key.length + value.length
}

function startsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  return key.length >= prefix.length && equalBytes(key.subarray(0, prefix.length), prefix)
}
