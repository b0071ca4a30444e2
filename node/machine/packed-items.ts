/**
 * An ordered map of items, packed into blocks of bytes: a million small items are some ten thousand objects, not millions, so that
 * they take little more memory than their bytes and the garbage collector has nothing to walk. Copy-on-write by block: a clone
 * costs nothing, and whoever changes a block that the other shares copies it first. Pure.
 *
 * A block is a run of items in the order of their keys, without gaps:
 *   i32 lane a, i32 lane b (the hash), u64 revision, u32 key length, u32 value length, key, value
 *
 * Invariants: a block holds the keys from its low key (inclusive) to the next block's; the first low key is empty, and its block
 * is always there. A block of more than one item has at most BLOCK_BYTES_MAX bytes, so that a large value has a block of its own.
 */
import { compareBytes } from '../../client/bytes.ts'
import type { Lanes } from './hash.ts'
import { createOrderedMap, type OrderedMap } from './ordered-map.ts'

/** Moving this many bytes costs less than the rest of a write; smaller blocks would cost more memory for themselves. */
const BLOCK_BYTES_MAX = 8 * 1024
/** A block below this looks whether a neighbour has room for it, so that deleting gives memory back. */
const BLOCK_BYTES_MIN = BLOCK_BYTES_MAX / 4
const HEADER_BYTES = 4 + 4 + 8 + 4 + 4
const TWO_32 = 0x1_0000_0000
const LOWEST = new Uint8Array(0)

/** Whoever holds the same token may change the block in place. */
type Owner = object

interface Block {
  readonly owner: Owner
  bytes: Uint8Array
  /** Bytes used; the rest is room. */
  used: number
  /** Where each item begins. */
  readonly starts: number[]
}

/** An item where it lies: key and value are views, valid until the next change of the map. */
export interface PackedItem {
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly revision: number
  readonly lanes: Lanes
}

export class PackedItems {
  readonly #blocks: OrderedMap<Block>
  #owner: Owner = {}
  #size: number
  /** Reused by look-ups, which would otherwise allocate a pair each. */
  readonly #found: [Uint8Array, Block]

  constructor(from?: PackedItems) {
    if (from === undefined) {
      this.#blocks = createOrderedMap()
      this.#size = 0
      this.#blocks.set(LOWEST, emptyBlock(this.#owner))
    } else {
      this.#blocks = from.#blocks.clone()
      this.#size = from.#size
      // Neither side may change in place what both hold now.
      from.#owner = {}
    }
    this.#found = [LOWEST, emptyBlock(this.#owner)]
  }

  get size(): number {
    return this.#size
  }

  /** What the blocks take, used or not. Walks them all. */
  get roomBytes(): number {
    let sum = 0
    for (const [, block] of this.#blocks.entries(LOWEST)) sum += block.bytes.length
    return sum
  }

  /** Asserts the invariants above. Walks everything: for tests. */
  check(): void {
    let last: Uint8Array | null = null
    for (const [low, block] of this.#blocks.entries(LOWEST)) {
      const { bytes, starts, used } = block
      const isTooLarge = starts.length > 1 && used > BLOCK_BYTES_MAX
      if (isTooLarge || used > bytes.length || (used === 0 && low.length > 0)) {
        throw new Error(`bug: a block of ${starts.length} items and ${used} bytes`)
      }
      let end = 0
      for (let i = 0; i < starts.length; i++) {
        const { key, value } = itemAt(block, i)
        const follows = last === null || compareBytes(last, key) < 0
        if (starts[i] !== end || !follows || compareBytes(low, key) > 0) {
          throw new Error('bug: items out of place')
        }
        end += HEADER_BYTES + key.length + value.length
        last = key
      }
      if (end !== used) throw new Error('bug: a block with bytes between its items')
    }
  }

  get(key: Uint8Array): PackedItem | undefined {
    const { block } = this.#blockOf(key)
    const at = search(block, key)
    return at < 0 ? undefined : itemAt(block, at)
  }

  /** Bytes are copied. `lanes` is the hash of the item, kept so that taking it out does not hash it again. */
  set(item: PackedItem): void {
    const { low, block: shared } = this.#blockOf(item.key)
    const found = search(shared, item.key)
    const at = found < 0 ? ~found : found
    const bytes = HEADER_BYTES + item.key.length + item.value.length
    const replaced = found < 0 ? 0 : itemEnd(shared, found) - (shared.starts[found] as number)
    const isLast = found < 0 && at === shared.starts.length
    if (isLast && at > 0 && shared.used + bytes > BLOCK_BYTES_MAX) {
      // In ascending order, as a snapshot is read back, blocks end up full instead of half full.
      const block = emptyBlock(this.#owner)
      this.#blocks.set(item.key.slice(), block)
      splice(block, 0, { removed: 0, item, bytes })
    } else {
      const block = this.#own(low, shared)
      splice(block, at, { removed: replaced, item, bytes })
      if (block.used > BLOCK_BYTES_MAX) this.#split(low, block)
    }
    if (found < 0) this.#size++
  }

  delete(key: Uint8Array): void {
    const { low, block: shared } = this.#blockOf(key)
    const at = search(shared, key)
    if (at < 0) return
    const block = this.#own(low, shared)
    splice(block, at, { removed: itemEnd(block, at) - (block.starts[at] as number) })
    this.#size--
    if (block.used === 0 && low.length > 0) this.#blocks.delete(low)
    else if (block.used < BLOCK_BYTES_MIN) this.#merge(low, block)
  }

  /** In order, from the first key that is not below `from`. Nothing may change the map meanwhile. */
  *entries(from: Uint8Array = LOWEST): Generator<PackedItem> {
    const { low, block: first } = this.#blockOf(from)
    const found = search(first, from)
    let at = found < 0 ? ~found : found
    for (const [, block] of this.#blocks.entries(low)) {
      for (; at < block.starts.length; at++) yield itemAt(block, at)
      at = 0
    }
  }

  #blockOf(key: Uint8Array): { readonly low: Uint8Array; readonly block: Block } {
    const pair = this.#blocks.getPairOrNextLower(key, this.#found)
    if (pair === undefined) throw new Error('bug: no block holds this key')
    return { low: pair[0], block: pair[1] }
  }

  /** The block, or its copy if a clone shares it. */
  #own(low: Uint8Array, block: Block): Block {
    if (block.owner === this.#owner) return block
    const own = copyOf(block, 0, block.starts.length, this.#owner)
    this.#blocks.set(low, own)
    return own
  }

  /**
   * Cuts a block in the middle of its bytes. The right part is then small enough, because only one item has come; the left part may end
   * with that item and need another cut.
   */
  #split(low: Uint8Array, block: Block): void {
    const count = block.starts.length
    if (count < 2 || block.used <= BLOCK_BYTES_MAX) return
    let at = 1
    while (at < count - 1 && (block.starts[at] as number) < block.used / 2) at++
    const left = copyOf(block, 0, at, this.#owner)
    const right = copyOf(block, at, count, this.#owner)
    const middle = itemAt(block, at).key.slice()
    this.#blocks.set(low, left)
    this.#blocks.set(middle, right)
    this.#split(low, left)
  }

  /** With a neighbour on either side: keys are often deleted in order, and then only one of the two is small already. */
  #merge(low: Uint8Array, block: Block): void {
    const next = this.#blocks.nextHigherPair(low)
    if (next !== undefined && this.#join(low, block, next)) return
    const previous = this.#blocks.nextLowerPair(low)
    if (previous !== undefined) this.#join(previous[0], previous[1], [low, block])
  }

  #join(low: Uint8Array, left: Block, [rightLow, right]: [Uint8Array, Block]): boolean {
    const used = left.used + right.used
    // Room is left, so that the next write does not split again.
    if (used > BLOCK_BYTES_MAX / 2) return false
    const bytes = new Uint8Array(roomFor(used))
    bytes.set(left.bytes.subarray(0, left.used))
    bytes.set(right.bytes.subarray(0, right.used), left.used)
    const starts = [...left.starts, ...right.starts.map((start) => start + left.used)]
    this.#blocks.set(low, { owner: this.#owner, bytes, used, starts })
    this.#blocks.delete(rightLow)
    return true
  }
}

function emptyBlock(owner: Owner): Block {
  return { owner, bytes: LOWEST, used: 0, starts: [] }
}

/** Room in steps: growing by each item's size would copy the block at each write. */
function roomFor(bytes: number): number {
  const step = bytes <= BLOCK_BYTES_MAX ? BLOCK_BYTES_MAX / 8 : 64
  return Math.ceil(bytes / step) * step
}

/** The items [from, to) in a block of their own. */
function copyOf(block: Block, from: number, to: number, owner: Owner): Block {
  const start = block.starts[from] ?? block.used
  const used = (block.starts[to] ?? block.used) - start
  const bytes = new Uint8Array(roomFor(used))
  bytes.set(block.bytes.subarray(start, start + used))
  const starts = block.starts.slice(from, to)
  for (let i = 0; i < starts.length; i++) starts[i] = (starts[i] as number) - start
  return { owner, bytes, used, starts }
}

/** Takes `removed` bytes (one item, or none) out at item `at`, and puts `item` of `bytes` bytes there. */
function splice(
  block: Block,
  at: number,
  change: { readonly removed: number; readonly item?: PackedItem; readonly bytes?: number },
): void {
  const { removed, item, bytes = 0 } = change
  const { starts } = block
  const start = starts[at] ?? block.used
  const used = block.used - removed + bytes
  const from = start + removed
  const isMuchTooLarge = block.bytes.length > 2 * roomFor(used)
  if (used > block.bytes.length || isMuchTooLarge) {
    const grown = new Uint8Array(roomFor(used))
    grown.set(block.bytes.subarray(0, start))
    grown.set(block.bytes.subarray(from, block.used), start + bytes)
    block.bytes = grown
  } else block.bytes.copyWithin(start + bytes, from, block.used)
  block.used = used
  if (item === undefined) starts.splice(at, 1)
  else if (removed === 0) starts.splice(at, 0, start)
  const moved = bytes - removed
  const first = item === undefined ? at : at + 1
  if (moved !== 0) for (let i = first; i < starts.length; i++) (starts[i] as number) += moved
  if (item !== undefined) writeItem(block.bytes, start, item)
}

function writeItem(bytes: Uint8Array, at: number, item: PackedItem): void {
  writeU32(bytes, at, item.lanes.a)
  writeU32(bytes, at + 4, item.lanes.b)
  writeU32(bytes, at + 8, Math.floor(item.revision / TWO_32))
  writeU32(bytes, at + 12, item.revision)
  writeU32(bytes, at + 16, item.key.length)
  writeU32(bytes, at + 20, item.value.length)
  bytes.set(item.key, at + HEADER_BYTES)
  bytes.set(item.value, at + HEADER_BYTES + item.key.length)
}

function itemAt({ bytes, starts }: Block, index: number): PackedItem {
  const at = starts[index] as number
  const keyEnd = at + HEADER_BYTES + readU32(bytes, at + 16)
  return {
    lanes: { a: readU32(bytes, at) | 0, b: readU32(bytes, at + 4) | 0 },
    revision: readU64(bytes, at + 8),
    key: bytes.subarray(at + HEADER_BYTES, keyEnd),
    value: bytes.subarray(keyEnd, keyEnd + readU32(bytes, at + 20)),
  }
}

function itemEnd(block: Block, index: number): number {
  return block.starts[index + 1] ?? block.used
}

/** The place of the key, or the complement of the place where it belongs. */
function search({ bytes, starts }: Block, key: Uint8Array): number {
  let low = 0
  let high = starts.length - 1
  while (low <= high) {
    const middle = (low + high) >>> 1
    const order = compareAt(bytes, starts[middle] as number, key)
    if (order === 0) return middle
    if (order < 0) low = middle + 1
    else high = middle - 1
  }
  return ~low
}

/** As compareBytes, of the key of the item at `at`, without making a view of it. */
function compareAt(bytes: Uint8Array, at: number, key: Uint8Array): number {
  const length = readU32(bytes, at + 16)
  const start = at + HEADER_BYTES
  const shared = Math.min(length, key.length)
  for (let i = 0; i < shared; i++) {
    const difference = (bytes[start + i] as number) - (key[i] as number)
    if (difference !== 0) return difference
  }
  return length - key.length
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

function readU32(bytes: Uint8Array, at: number): number {
  const low =
    ((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)
  return (bytes[at] as number) * 0x100_0000 + low
}

/** A small integer stays one to the engine: `0 * TWO_32 + low` would not. */
function readU64(bytes: Uint8Array, at: number): number {
  const high = readU32(bytes, at)
  const low = readU32(bytes, at + 4)
  return high === 0 ? low : high * TWO_32 + low
}
