/** The packed map against a plain one: any sizes, any order, clones in both directions, and memory that comes back. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { compareBytes } from '../../client/bytes.ts'
import { PackedItems } from '../../node/machine/packed-items.ts'
import { Random } from '../../node/raft/random.ts'

interface Step {
  readonly key: number
  /** Null deletes. */
  readonly size: number | null
  readonly on: number
  readonly clone: boolean
}

/** Most blocks hold dozens of items; some values need a block of their own, and some keys are long. */
const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(600) },
  { weight: 2, arbitrary: fc.integer({ min: 600, max: 8200 }) },
  { weight: 1, arbitrary: fc.integer({ min: 8200, max: 40_000 }) },
)
const step: fc.Arbitrary<Step> = fc.record({
  key: fc.nat(120),
  size: fc.option(size, { freq: 3 }),
  on: fc.nat(3),
  clone: fc.integer({ min: 0, max: 30 }).map((dice) => dice === 0),
})

function keyOf(number: number): Uint8Array {
  if (number === 0) return new Uint8Array(0)
  const length = number % 7 === 0 ? 300 : 1 + (number % 3)
  return new Uint8Array(length).fill(number)
}

function plain(items: PackedItems, from?: Uint8Array): string[] {
  return [...items.entries(from)].map(({ key, value, revision, lanes }) => {
    const [first = -1] = value
    return `${Buffer.from(key).toString('hex')}=${value.length}x${first}@${revision},${lanes.a},${lanes.b}`
  })
}

interface Pair {
  readonly items: PackedItems
  readonly model: Map<number, string>
}

function expected(model: Pair['model'], from: Uint8Array = new Uint8Array(0)): string[] {
  return [...model.entries()]
    .map(([number, rest]) => ({ key: keyOf(number), rest }))
    .filter(({ key }) => compareBytes(key, from) >= 0)
    .sort((a, b) => compareBytes(a.key, b.key))
    .map(({ key, rest }) => `${Buffer.from(key).toString('hex')}=${rest}`)
}

function perform({ items, model }: Pair, { key: number, size: bytes }: Step, at: number): void {
  const key = keyOf(number)
  if (bytes === null) {
    items.delete(key)
    model.delete(number)
    return
  }
  const value = new Uint8Array(bytes).fill(at)
  const lanes = { a: at * -7, b: at * 3 }
  const revision = 2 ** 40 + at
  items.set({ key, value, revision, lanes })
  model.set(number, `${bytes}x${bytes === 0 ? -1 : at & 255}@${revision},${lanes.a},${lanes.b}`)
  // The map holds copies.
  key.fill(0xee)
  value.fill(0xee)
}

const packed = suite('packed items')

packed('any changes, on the origin and on its clones', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 250, size: 'max' }), fc.nat(120), (steps, from) => {
      const pairs: Pair[] = [{ items: new PackedItems(), model: new Map() }]
      for (const [at, one] of steps.entries()) {
        const pair = pairs[one.on % pairs.length] as Pair
        if (one.clone && pairs.length < 4) {
          pairs.push({ items: new PackedItems(pair.items), model: new Map(pair.model) })
        }
        perform(pair, one, at)
      }
      for (const { items, model } of pairs) {
        items.check()
        assert.is(items.size, model.size)
        assert.equal(plain(items), expected(model))
        assert.equal(plain(items, keyOf(from)), expected(model, keyOf(from)))
        for (let number = 0; number <= 120; number++) {
          assert.is(items.get(keyOf(number)) !== undefined, model.has(number))
        }
      }
    }),
    { numRuns: 250 },
  )
})

function filled(count: number, bytes: number, keys: (i: number) => number): PackedItems {
  const items = new PackedItems()
  for (let i = 0; i < count; i++) {
    const key = new Uint8Array(4)
    new DataView(key.buffer).setUint32(0, keys(i))
    items.set({ key, value: new Uint8Array(bytes), revision: i, lanes: { a: i, b: i } })
  }
  return items
}

packed('ascending keys fill their blocks, and any order fills them by half at least', () => {
  const needed = 20_000 * (24 + 4 + 100)
  assert.ok(filled(20_000, 100, (i) => i).roomBytes < needed * 1.15)
  assert.ok(filled(20_000, 100, (i) => Math.imul(i, 0x9e3779b1) >>> 0).roomBytes < needed * 2)
})

packed('deleting gives memory back, whatever remains', () => {
  const random = new Random(5)
  const items = filled(20_000, 100, (i) => i)
  let left = 0
  for (let i = 0; i < 20_000; i++) {
    const key = new Uint8Array(4)
    new DataView(key.buffer).setUint32(0, i)
    if (random.below(100) === 0) left++
    else items.delete(key)
  }
  assert.is(items.size, left)
  assert.ok(items.roomBytes < left * 128 * 6, `${items.roomBytes} bytes for ${left} items`)
})

packed('a large value that is replaced by a small one gives its room back', () => {
  const items = new PackedItems()
  const item = { key: Uint8Array.of(1), revision: 1, lanes: { a: 0, b: 0 } }
  items.set({ ...item, value: new Uint8Array(1_000_000) })
  items.set({ ...item, value: new Uint8Array(10) })
  assert.ok(items.roomBytes < 10_000)
})

packed.run()
