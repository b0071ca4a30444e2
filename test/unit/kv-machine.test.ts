/** The key-value machine: tables of single operations, lists, malformed input and the size of the state. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type Condition,
  decodeKvGot,
  decodeKvList,
  decodeKvResult,
  encodeKvOperation,
  encodeKvQuery,
  type KvOperation,
  type KvResult,
} from '../../client/protocol.ts'
import { hashItem, lanesOfHex, MultisetHash } from '../../node/machine/hash.ts'
import { ITEM_OVERHEAD_BYTES, KvMachine, LIST_BYTES_MAX } from '../../node/machine/kv.ts'

const NONE: Condition = { type: 'none' }

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function run(machine: KvMachine, index: number, operation: KvOperation): KvResult {
  return decodeKvResult(machine.apply(encodeKvOperation(operation), { index }))
}

function put(machine: KvMachine, index: number, key: string, value: string, condition = NONE) {
  return run(machine, index, { type: 'put', key: utf8(key), value: utf8(value), condition })
}

function remove(machine: KvMachine, index: number, key: string, condition = NONE) {
  return run(machine, index, { type: 'delete', key: utf8(key), condition })
}

function get(machine: KvMachine, key: string): [string, number] | null {
  const got = decodeKvGot(machine.query(encodeKvQuery({ type: 'get', key: utf8(key) })))
  return got === null ? null : [new TextDecoder().decode(got.value), got.revision]
}

function list(
  machine: KvMachine,
  prefix: string,
  options: { after?: string; limit?: number; keysOnly?: boolean } = {},
) {
  const answer = machine.query(
    encodeKvQuery({
      type: 'list',
      prefix: utf8(prefix),
      after: options.after === undefined ? null : utf8(options.after),
      limit: options.limit ?? 1000,
      keysOnly: options.keysOnly ?? false,
    }),
  )
  return decodeKvList(answer)
}

function keys(answer: { items: readonly { key: Uint8Array }[] }): string[] {
  return answer.items.map((item) => new TextDecoder().decode(item.key))
}

const operations = suite('kv operations')

operations('revisions are the log index of the last write', () => {
  const machine = new KvMachine()
  assert.equal(put(machine, 7, 'k', 'v'), { succeeded: true, revision: 7, existed: false })
  assert.equal(get(machine, 'k'), ['v', 7])
  assert.equal(put(machine, 9, 'k', 'w'), { succeeded: true, revision: 9, existed: true })
  assert.equal(get(machine, 'k'), ['w', 9])
  assert.equal(remove(machine, 11, 'k'), { succeeded: true, revision: 11, existed: true })
  assert.is(get(machine, 'k'), null)
  assert.equal(remove(machine, 12, 'k'), { succeeded: true, revision: 12, existed: false })
  assert.is(machine.size, 0)
})

const value = (text: string): Condition => ({ type: 'value', value: utf8(text) })
const revision = (number: number): Condition => ({ type: 'revision', revision: number })
const CONDITION_TABLE: [string, Condition, onPresent: boolean, onAbsent: boolean][] = [
  ['none', NONE, true, true],
  ['absent', { type: 'absent' }, false, true],
  ['exists', { type: 'exists' }, true, false],
  ['the same value', value('v'), true, false],
  ['another value', value('w'), false, false],
  ['a longer value', value('vv'), false, false],
  ['the empty value', value(''), false, false],
  ['the same revision', revision(3), true, false],
  ['another revision', revision(2), false, false],
  ['revision 0, which no key has', revision(0), false, false],
]

for (const [name, condition, onPresent, onAbsent] of CONDITION_TABLE) {
  operations(`condition: ${name}`, () => {
    for (const write of [
      put,
      (m: KvMachine, i: number, k: string, _v: string, c: Condition) => remove(m, i, k, c),
    ]) {
      const present = new KvMachine()
      put(present, 3, 'k', 'v')
      const before = present.hash()
      const here = write(present, 8, 'k', 'new', condition)
      assert.equal(here, { succeeded: onPresent, revision: onPresent ? 8 : 3, existed: true })
      assert.is(present.hash() === before, !onPresent)
      const absent = new KvMachine()
      const there = write(absent, 8, 'k', 'new', condition)
      assert.equal(there, { succeeded: onAbsent, revision: onAbsent ? 8 : 0, existed: false })
      if (!onAbsent) assert.is(absent.size, 0)
    }
  })
}

operations('malformed operations answer a failed result and change nothing', () => {
  const machine = new KvMachine()
  put(machine, 1, 'k', 'v')
  const before = machine.hash()
  const whole = encodeKvOperation({
    type: 'put',
    key: utf8('k'),
    value: utf8('w'),
    condition: value('v'),
  })
  const malformed = [
    new Uint8Array(0),
    new Uint8Array([1]),
    new Uint8Array([9, 0, 0, 0, 0, 0]),
    new Uint8Array([1, 9, 0, 0, 0, 0]),
    new Uint8Array([1, 0, 255, 255, 255, 255]),
    new Uint8Array([2, 0, 0, 0, 0, 1, 107, 1]),
    whole.subarray(0, 8),
    whole.subarray(0, whole.length - 2),
  ]
  for (const operation of malformed) {
    const result = decodeKvResult(machine.apply(operation, { index: 5 }))
    assert.equal(result, { succeeded: false, revision: 0, existed: false })
  }
  assert.is(machine.hash(), before)
})

operations('what is stored does not change with the buffers it came from', () => {
  const machine = new KvMachine()
  const operation = encodeKvOperation({
    type: 'put',
    key: utf8('key'),
    value: utf8('value'),
    condition: NONE,
  })
  machine.apply(operation, { index: 1 })
  operation.fill(0)
  assert.equal(get(machine, 'key'), ['value', 1])
  const query = encodeKvQuery({ type: 'get', key: utf8('key') })
  machine.query(query).fill(0)
  assert.equal(get(machine, 'key'), ['value', 1])
})

operations('the size counts keys, values and an overhead, and returns to zero', () => {
  const machine = new KvMachine()
  put(machine, 1, 'abc', '12345')
  assert.is(machine.bytes, ITEM_OVERHEAD_BYTES + 8)
  put(machine, 2, 'abc', '1')
  assert.is(machine.bytes, ITEM_OVERHEAD_BYTES + 4)
  put(machine, 3, '', '')
  assert.is(machine.bytes, 2 * ITEM_OVERHEAD_BYTES + 4)
  remove(machine, 4, 'abc')
  remove(machine, 5, '')
  assert.is(machine.bytes, 0)
  assert.is(machine.hash(), new KvMachine().hash())
})

operations.run()

const lists = suite('kv lists')

lists('by prefix, in the order of bytes', () => {
  const machine = new KvMachine()
  for (const [i, key] of ['b', 'a/2', 'a/10', 'a', 'a/', 'a0', '', 'a/\u00e9', 'a/~'].entries()) {
    put(machine, i + 1, key, 'v')
  }
  assert.equal(keys(list(machine, 'a/')), ['a/', 'a/10', 'a/2', 'a/~', 'a/\u00e9'])
  assert.equal(keys(list(machine, '')), [
    '',
    'a',
    'a/',
    'a/10',
    'a/2',
    'a/~',
    'a/\u00e9',
    'a0',
    'b',
  ])
  assert.equal(keys(list(machine, 'c')), [])
  assert.equal(keys(list(machine, 'a/', { after: 'a/2' })), ['a/~', 'a/\u00e9'])
  assert.equal(keys(list(machine, 'a/', { after: 'a/15' })), ['a/2', 'a/~', 'a/\u00e9'])
  assert.equal(keys(list(machine, 'a/', { after: 'a' })), ['a/', 'a/10', 'a/2', 'a/~', 'a/\u00e9'])
  assert.equal(keys(list(machine, 'a/', { after: 'b' })), [])
  assert.equal(keys(list(machine, '', { after: '' })).length, 8)
})

lists('a prefix of 0xff bytes has no upper bound', () => {
  const machine = new KvMachine()
  for (const [i, key] of [[255], [255, 255], [255, 255, 1], [254]].entries()) {
    run(machine, i + 1, {
      type: 'put',
      key: new Uint8Array(key),
      value: utf8('v'),
      condition: NONE,
    })
  }
  const answer = machine.query(
    encodeKvQuery({
      type: 'list',
      prefix: new Uint8Array([255, 255]),
      after: null,
      limit: 9,
      keysOnly: false,
    }),
  )
  assert.equal(
    decodeKvList(answer).items.map((item) => [...item.key]),
    [
      [255, 255],
      [255, 255, 1],
    ],
  )
})

lists('limit and more', () => {
  const machine = new KvMachine()
  for (let i = 1; i <= 5; i++) put(machine, i, `k${i}`, 'v')
  put(machine, 6, 'z', 'outside')
  assert.is(list(machine, 'k', { limit: 4 }).more, true)
  assert.is(list(machine, 'k', { limit: 5 }).more, false)
  assert.equal(keys(list(machine, 'k', { limit: 2, after: 'k2' })), ['k3', 'k4'])
  assert.is(list(machine, 'k', { limit: 2, after: 'k3' }).more, false)
})

lists('an answer stays near a mebibyte, and the pages join without gap', () => {
  const machine = new KvMachine()
  const large = 'x'.repeat(100_000)
  for (let i = 1; i <= 30; i++) put(machine, i, `k${String(i).padStart(2, '0')}`, large)
  const found: string[] = []
  for (let after: string | undefined, pages = 0; pages < 20; pages++) {
    const page = list(machine, 'k', after === undefined ? {} : { after })
    const bytes = page.items.reduce((sum, item) => sum + item.key.length + item.value.length, 0)
    assert.ok(bytes <= LIST_BYTES_MAX, `${bytes} bytes in one page`)
    found.push(...keys(page))
    after = found.at(-1)
    if (!page.more) break
  }
  assert.is(found.length, 30)
  assert.equal(found, [...found].sort())
  assert.is(list(machine, 'k', { keysOnly: true }).items.length, 30)
  assert.ok(list(machine, 'k', { keysOnly: true }).items.every((item) => item.value.length === 0))
})

lists('an item larger than the bound is an answer of its own', () => {
  const machine = new KvMachine()
  put(machine, 1, 'a', 'x'.repeat(LIST_BYTES_MAX + 1))
  put(machine, 2, 'b', 'y')
  assert.equal(keys(list(machine, '')), ['a'])
  assert.is(list(machine, '').more, true)
  assert.equal(keys(list(machine, '', { after: 'a' })), ['b'])
})

lists.run()

const hashes = suite('kv hash')

hashes('what a hash prints is read again, and nothing else is', () => {
  for (const [a, b] of [
    [0, 1],
    [-1, 2 ** 31 - 1],
    [-(2 ** 31), 0x0badcafe],
  ] as const) {
    const text = new MultisetHash({ a, b }).hex()
    assert.is(text, [a, b].map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join(''))
    assert.equal(lanesOfHex(text), { a, b })
  }
  for (const text of ['', '0', '0123456789abcde', '0123456789ABCDEF', '0123456789abcdeg']) {
    assert.is(lanesOfHex(text), null)
  }
})

hashes('the format and two fixed values, so that members of one version agree', () => {
  assert.is(new KvMachine().hash(), '0000000000000000')
  const machine = new KvMachine()
  put(machine, 1, 'k', 'v')
  assert.match(machine.hash(), /^[0-9a-f]{16}$/)
  assert.is(machine.hash(), 'bee9f76064d13ab7')
  put(machine, 2 ** 40 + 5, 'a longer key', 'and a value of some length')
  assert.is(machine.hash(), '18fa95c659147828')
})

hashes('key, value, revision and the border between key and value all count', () => {
  const variants: [string, string, number][] = [
    ['k', 'v', 1],
    ['k', 'w', 1],
    ['l', 'v', 1],
    ['k', 'v', 2],
    ['k', 'v', 1 + 2 ** 32],
    ['kv', '', 1],
    ['', 'kv', 1],
    ['k', 'v\0', 1],
    ['k\0', 'v', 1],
  ]
  const seen = new Set(
    variants.map(([key, text, index]) => {
      const lanes = hashItem(utf8(key), utf8(text), index)
      return `${lanes.a},${lanes.b}`
    }),
  )
  assert.is(seen.size, variants.length)
})

hashes(
  'each lane spreads: 20,000 near-equal items, no collision of both, every bit about half set',
  () => {
    const both = new Set<string>()
    const ones = new Array<number>(64).fill(0)
    const count = 20_000
    for (let i = 0; i < count; i++) {
      const { a, b } = hashItem(utf8(`key${i}`), utf8('v'), i)
      both.add(`${a},${b}`)
      for (let bit = 0; bit < 32; bit++) {
        ones[bit] = (ones[bit] as number) + ((a >>> bit) & 1)
        ones[bit + 32] = (ones[bit + 32] as number) + ((b >>> bit) & 1)
      }
    }
    assert.is(both.size, count)
    for (const set of ones)
      assert.ok(Math.abs(set / count - 0.5) < 0.03, `a bit is set in ${set} of ${count}`)
  },
)

hashes('removing is exact', () => {
  const hash = new MultisetHash()
  const items = Array.from({ length: 100 }, (_, i) => hashItem(utf8(`k${i}`), utf8(`v${i}`), i))
  for (const item of items) hash.add(item)
  const full = hash.hex()
  for (const item of items.slice(50)) hash.remove(item)
  for (const item of items.slice(50).reverse()) hash.add(item)
  assert.is(hash.hex(), full)
  for (const item of items) hash.remove(item)
  assert.is(hash.hex(), '0000000000000000')
})

hashes.run()
