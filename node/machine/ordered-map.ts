/**
 * The one place that knows how sorted-btree is imported. It is a CommonJS module marked `__esModule`: Node, tsx and
 * Deno hand over its exports object, Bun its default export. Pure.
 */
import sortedBtree from 'sorted-btree'
import { compareBytes } from '../../client/bytes.ts'

type Exports = typeof sortedBtree
type BTreeClass = Exports['default']

const imported: unknown = sortedBtree
const BTree = typeof imported === 'function' ? (imported as BTreeClass) : sortedBtree.default

/** Keys in bytewise order. `clone` shares all nodes and copies those that either side changes later. */
export type OrderedMap<V> = InstanceType<typeof BTree<Uint8Array, V>>

export function createOrderedMap<V>(): OrderedMap<V> {
  return new BTree<Uint8Array, V>(undefined, compareBytes)
}
