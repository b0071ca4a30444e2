/** The key-value machine against a plain Map, over random histories: answers, clones, hash, size and pages. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { compareBytes, equalBytes } from '../../client/bytes.ts'
import {
  type Condition,
  decodeKvGot,
  decodeKvList,
  decodeKvResult,
  encodeKvOperation,
  encodeKvQuery,
  type KvItem,
  type KvOperation,
  type KvResult,
} from '../../client/protocol.ts'
import { ITEM_OVERHEAD_BYTES, KvMachine } from '../../node/machine/kv.ts'

/** The simplest thing that could be right: a Map from the key in hex, sorted when it is asked for. */
class Model {
  readonly items: Map<string, KvItem>

  constructor(items: Map<string, KvItem> = new Map()) {
    this.items = new Map(items)
  }

  apply(operation: KvOperation, index: number): KvResult {
    const id = hex(operation.key)
    const present = this.items.get(id)
    const existed = present !== undefined
    if (!this.#holds(operation.condition, present)) {
      return { succeeded: false, revision: present === undefined ? 0 : present.revision, existed }
    }
    if (operation.type === 'delete') this.items.delete(id)
    else this.items.set(id, { key: operation.key, value: operation.value, revision: index })
    return { succeeded: true, revision: index, existed }
  }

  #holds(condition: Condition, present: KvItem | undefined): boolean {
    if (condition.type === 'none') return true
    if (condition.type === 'absent') return present === undefined
    if (present === undefined) return false
    if (condition.type === 'value') return hex(condition.value) === hex(present.value)
    if (condition.type === 'revision') return condition.revision === present.revision
    return true
  }

  list(prefix: Uint8Array, after: Uint8Array | null): KvItem[] {
    return [...this.items.values()]
      .filter((item) => hex(item.key).startsWith(hex(prefix)))
      .filter((item) => after === null || compareBytes(item.key, after) > 0)
      .sort((a, b) => compareBytes(a.key, b.key))
  }

  bytes(): number {
    let sum = 0
    for (const item of this.items.values()) {
      sum += ITEM_OVERHEAD_BYTES + item.key.length + item.value.length
    }
    return sum
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** Few distinct bytes, so that keys repeat and are prefixes of each other. */
const keyArbitrary = fc
  .array(fc.constantFrom(0, 1, 127, 128, 255), { maxLength: 4 })
  .map((bytes) => new Uint8Array(bytes))
const valueArbitrary = fc.uint8Array({ maxLength: 6 })
const conditionArbitrary = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Condition>({ type: 'none' }) },
  { weight: 1, arbitrary: fc.constant<Condition>({ type: 'absent' }) },
  { weight: 1, arbitrary: fc.constant<Condition>({ type: 'exists' }) },
  {
    weight: 1,
    arbitrary: valueArbitrary.map((value): Condition => ({ type: 'value', value })),
  },
  {
    weight: 1,
    arbitrary: fc.nat(60).map((revision): Condition => ({ type: 'revision', revision })),
  },
)
const operationArbitrary: fc.Arbitrary<KvOperation> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('put' as const),
      key: keyArbitrary,
      value: valueArbitrary,
      condition: conditionArbitrary,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('delete' as const),
      key: keyArbitrary,
      condition: conditionArbitrary,
    }),
  },
)

function apply(machine: KvMachine, operation: KvOperation, index: number): KvResult {
  return decodeKvResult(machine.apply(encodeKvOperation(operation), { index }))
}

/** The state of the machine through its queries only, page by page. */
function contents(machine: KvMachine, prefix = new Uint8Array(0), limit = 1000): KvItem[] {
  const items: KvItem[] = []
  let after: Uint8Array | null = null
  for (;;) {
    const query = encodeKvQuery({ type: 'list', prefix, after, limit, keysOnly: false })
    const page = decodeKvList(machine.query(query))
    assert.ok(page.items.length <= limit)
    items.push(...page.items)
    if (!page.more) return items
    after = (page.items.at(-1) as KvItem).key
  }
}

function plain(items: Iterable<KvItem>): string[] {
  return [...items].map((item) => `${hex(item.key)}=${hex(item.value)}@${item.revision}`)
}

/** The same state reached the shortest way: only the surviving writes, in the order of their keys. */
function rebuilt(model: Model): KvMachine {
  const machine = new KvMachine()
  for (const { key, value, revision } of model.list(new Uint8Array(0), null)) {
    apply(machine, { type: 'put', key, value, condition: { type: 'none' } }, revision)
  }
  return machine
}

const models = suite('kv machine against a model')

models('results, reads, lists, size and hash', () => {
  fc.assert(
    fc.property(
      fc.array(operationArbitrary, { maxLength: 60 }),
      keyArbitrary,
      fc.integer({ min: 1, max: 5 }),
      (operations, probe, limit) => {
        const machine = new KvMachine()
        const model = new Model()
        for (const [i, operation] of operations.entries()) {
          assert.equal(apply(machine, operation, i + 1), model.apply(operation, i + 1))
        }
        assert.equal(plain(contents(machine)), plain(model.list(new Uint8Array(0), null)))
        assert.equal(plain(contents(machine, probe, limit)), plain(model.list(probe, null)))
        const got = decodeKvGot(machine.query(encodeKvQuery({ type: 'get', key: probe })))
        const expected = model.items.get(hex(probe))
        assert.is(got?.revision, expected?.revision)
        assert.ok(got === null || (expected !== undefined && equalBytes(got.value, expected.value)))
        assert.is(machine.size, model.items.size)
        assert.is(machine.bytes, model.bytes())
        assert.is(machine.hash(), rebuilt(model).hash())
      },
    ),
    { numRuns: 300 },
  )
})

models('a list after any key continues exactly there', () => {
  fc.assert(
    fc.property(
      fc.array(operationArbitrary, { maxLength: 60 }),
      keyArbitrary,
      keyArbitrary,
      fc.integer({ min: 1, max: 8 }),
      (operations, prefix, after, limit) => {
        const machine = new KvMachine()
        const model = new Model()
        for (const [i, operation] of operations.entries()) {
          apply(machine, operation, i + 1)
          model.apply(operation, i + 1)
        }
        const query = encodeKvQuery({ type: 'list', prefix, after, limit, keysOnly: false })
        const page = decodeKvList(machine.query(query))
        const expected = model.list(prefix, after)
        assert.equal(plain(page.items), plain(expected.slice(0, limit)))
        assert.is(page.more, expected.length > limit)
      },
    ),
    { numRuns: 300 },
  )
})

models('a clone and its origin never see each other again', () => {
  const step = fc.record({ operation: operationArbitrary, on: fc.nat(3), clone: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const machines = [{ machine: new KvMachine(), model: new Model() }]
      for (const [i, { operation, on, clone }] of steps.entries()) {
        const target = machines[on % machines.length] as (typeof machines)[number]
        if (clone && machines.length < 4) {
          machines.push({ machine: target.machine.clone(), model: new Model(target.model.items) })
        }
        assert.equal(apply(target.machine, operation, i + 1), target.model.apply(operation, i + 1))
      }
      for (const { machine, model } of machines) {
        assert.equal(plain(contents(machine)), plain(model.list(new Uint8Array(0), null)))
        assert.is(machine.hash(), rebuilt(model).hash())
        assert.is(machine.bytes, model.bytes())
      }
    }),
    { numRuns: 200 },
  )
})

models('a clone of a tree of many nodes is isolated, in both directions', () => {
  const key = (i: number) => new Uint8Array([i >> 8, i & 255])
  const condition: Condition = { type: 'none' }
  const origin = new KvMachine()
  for (let i = 0; i < 3000; i++) {
    apply(origin, { type: 'put', key: key(i), value: key(i), condition }, i + 1)
  }
  const before = plain(contents(origin))
  const hash = origin.hash()
  const clone = origin.clone()
  for (let i = 0; i < 3000; i += 2) {
    apply(origin, { type: 'delete', key: key(i), condition }, 4000 + i)
    apply(origin, { type: 'put', key: key(i + 1), value: key(0), condition }, 4000 + i)
  }
  assert.equal(plain(contents(clone)), before)
  assert.is(clone.hash(), hash)
  const after = plain(contents(origin))
  for (let i = 0; i < 3000; i += 3) {
    apply(clone, { type: 'delete', key: key(i), condition }, 9000 + i)
  }
  assert.equal(plain(contents(origin)), after)
  assert.is(clone.size, 2000)
  assert.is(origin.size, 1500)
})

models.run()
