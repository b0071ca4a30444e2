/**
 * The built-in key-value machine: an ordered map of bytes to bytes, whose revisions are log indexes. Operations, queries
 * and answers are those of client/protocol.ts. Pure: it must never read a clock, random numbers or the outside.
 */
import {
  ByteReader,
  ByteWriter,
  compareBytes,
  equalBytes,
  MalformedError,
} from '../../client/bytes.ts'
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
import { hashItem, MultisetHash } from './hash.ts'
import type { ApplyMeta, StateMachine } from './machine.ts'
import { type PackedItem, PackedItems } from './packed-items.ts'

/** A list answer holds no more bytes than this, unless its first item alone is larger. */
export const LIST_BYTES_MAX = 1024 * 1024
/** u64 revision and two u32 lengths, as encodeKvList writes them. */
const LIST_ITEM_HEADER_BYTES = 8 + 4 + 4
/** What an item is counted for beyond its key and value, so that a billion empty keys have a size too. */
export const ITEM_OVERHEAD_BYTES = 64

/** A record of a snapshot has about so many bytes, unless its only item is larger: one piece holds it. */
const RECORD_BYTES = 60 * 1024
const ITEMS = 0
const END = 1

const NOTHING = new Uint8Array(0)
/** What a malformed operation answers: nothing changed, and no key has revision 0. */
const MALFORMED: KvResult = { succeeded: false, revision: 0, existed: false }

export class KvMachine implements StateMachine {
  readonly #items: PackedItems
  readonly #hash: MultisetHash
  #bytes: number

  /** An empty machine, or the copy-on-write clone of another. */
  constructor(from?: KvMachine) {
    this.#items = new PackedItems(from === undefined ? undefined : from.#items)
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
   * key and value are copied into the machine's own blocks, never kept as views of the entry.
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

  /**
   * Called on a clone, which nobody changes meanwhile: records of items in the order of their keys, then one with their number.
   *   u8 0, then items: u64 revision, u32 key length, key, u32 value length, value
   *   u8 1, u64 number of items
   */
  *pieces(): Generator<Uint8Array> {
    let items = new ByteWriter().u8(ITEMS)
    for (const { key, value, revision } of this.#items.entries()) {
      const bytes = 8 + 4 + key.length + 4 + value.length
      if (items.length > 1 && items.length + bytes > RECORD_BYTES) {
        yield items.finish()
        items = new ByteWriter().u8(ITEMS)
      }
      items.u64(revision).bytes(key).bytes(value)
    }
    if (items.length > 1) yield items.finish()
    yield new ByteWriter(1 + 8).u8(END).u64(this.size).finish()
  }

  /** Makes a new machine; this one is not touched. */
  restorer(): { write(piece: Uint8Array): void; finish(): KvMachine } {
    const machine = new KvMachine()
    let last: Uint8Array | null = null
    let isComplete = false
    const write = (piece: Uint8Array): void => {
      if (isComplete) throw new MalformedError('a record behind the last one')
      const reader = new ByteReader(piece)
      const type = reader.u8()
      if (type === END) {
        const count = reader.u64()
        reader.end()
        if (count !== machine.size) throw new MalformedError(`${machine.size} of ${count} items`)
        isComplete = true
        return
      }
      if (type !== ITEMS || reader.remaining === 0) throw new MalformedError('no items')
      while (reader.remaining > 0) {
        const revision = reader.u64()
        const key = reader.bytes()
        if (last !== null && compareBytes(last, key) >= 0) {
          throw new MalformedError('keys that do not ascend')
        }
        last = key
        machine.#store(key, reader.bytes(), revision)
      }
      // Of the last key only: the rest of the piece may be used again.
      last = (last as Uint8Array).slice()
    }
    const finish = (): KvMachine => {
      if (!isComplete) throw new MalformedError('the last items are missing')
      return machine
    }
    return { write, finish }
  }

  #run(operation: KvOperation, index: Index): KvResult {
    const present = this.#items.get(operation.key)
    const existed = present !== undefined
    if (!holds(operation.condition, present)) {
      return { succeeded: false, revision: present?.revision ?? 0, existed }
    }
    this.#forget(present)
    if (operation.type === 'put') this.#store(operation.key, operation.value, index)
    else if (existed) this.#items.delete(operation.key)
    return { succeeded: true, revision: index, existed }
  }

  #store(key: Uint8Array, value: Uint8Array, revision: Index): void {
    const lanes = hashItem(key, value, revision)
    this.#items.set({ key, value, revision, lanes })
    this.#hash.add(lanes)
    this.#bytes += itemBytes(key, value)
  }

  /** Takes an item out of the hash and the size; the caller replaces or deletes it. */
  #forget(item: PackedItem | undefined): void {
    if (item === undefined) return
    this.#hash.remove(item.lanes)
    this.#bytes -= itemBytes(item.key, item.value)
  }

  #list(query: KvQuery & { readonly type: 'list' }): KvList {
    const { prefix, after, limit, keysOnly } = query
    const from = after !== null && compareBytes(prefix, after) < 0 ? after : prefix
    const items: KvItem[] = []
    let bytes = 0
    for (const item of this.#items.entries(from)) {
      const { key } = item
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
