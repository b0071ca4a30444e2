/**
 * Damage: bytes, text and JSON that were valid and are changed a little. What is cut, doubled and overwritten is drawn by fast-check,
 * so that a failure shrinks to the smallest damage.
 */
import fc from 'fast-check'

// --- bytes ----------------------------------------------------------------------------------------------------------

/** Lengths and counts that somebody might believe. */
const HUGE_32 = [0xffff_ffff, 0xffff_fffc, 0x8000_0000, 0x7fff_ffff, 0x4000_0000, 0x1_0000, 0x100]
const HUGE_64 = [2n ** 64n - 1n, 2n ** 63n, 2n ** 53n, 2n ** 53n - 1n, 2n ** 32n]

export type Damage =
  | {
      readonly how: 'flip' | 'cut' | 'huge32' | 'huge64'
      readonly at: number
      readonly with: number
    }
  | { readonly how: 'insert' | 'overwrite'; readonly at: number; readonly bytes: Uint8Array }
  | {
      readonly how: 'repeat' | 'remove' | 'zero' | 'move'
      readonly at: number
      readonly length: number
      readonly to: number
    }

const at = fc.nat(0xffff)

export const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({
    how: fc.constantFrom('flip' as const, 'cut' as const, 'huge32' as const, 'huge64' as const),
    at,
    with: fc.nat(255),
  }),
  fc.record({
    how: fc.constantFrom('insert' as const, 'overwrite' as const),
    at,
    bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
  }),
  fc.record({
    how: fc.constantFrom('repeat' as const, 'remove' as const, 'zero' as const, 'move' as const),
    at,
    length: fc.integer({ min: 1, max: 64 }),
    to: at,
  }),
)

export const damages = fc.array(damage, { minLength: 1, maxLength: 4 })

/** A copy of `bytes` with all the damage done, one after the other. */
export function damaged(bytes: Uint8Array, all: readonly Damage[]): Uint8Array {
  let now: Uint8Array = Uint8Array.from(bytes)
  for (const one of all) now = damagedOnce(now, one)
  return now
}

function damagedOnce(bytes: Uint8Array, one: Damage): Uint8Array {
  const { length } = bytes
  const place = one.at % (length + 1)
  switch (one.how) {
    case 'flip':
      if (place < length) bytes[place] = (bytes[place] as number) ^ (1 << (one.with & 7))
      return bytes
    case 'cut':
      return bytes.slice(0, place)
    case 'huge32':
    case 'huge64':
      return withHuge(bytes, place, { width: one.how === 'huge32' ? 4 : 8, with: one.with })
    case 'insert':
      return joined([bytes.subarray(0, place), one.bytes, bytes.subarray(place)])
    case 'overwrite':
      bytes.set(one.bytes.subarray(0, length - place), place)
      return bytes
    case 'repeat': {
      const part = bytes.slice(place, place + one.length)
      return joined([bytes.subarray(0, place), part, bytes.subarray(place)])
    }
    case 'remove':
      return joined([bytes.subarray(0, place), bytes.subarray(place + one.length)])
    case 'zero':
      return bytes.fill(0, place, place + one.length)
    case 'move':
      return bytes.copyWithin(one.to % (length + 1), place, place + one.length)
  }
}

function withHuge(
  bytes: Uint8Array,
  place: number,
  { width, with: which }: { readonly width: 4 | 8; readonly with: number },
): Uint8Array {
  if (bytes.length < width) return bytes
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const start = Math.min(place, bytes.length - width)
  if (width === 4) view.setUint32(start, HUGE_32[which % HUGE_32.length] as number)
  else view.setBigUint64(start, HUGE_64[which % HUGE_64.length] as bigint)
  return bytes
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let place = 0
  for (const part of parts) {
    all.set(part, place)
    place += part.length
  }
  return all
}

// --- text -----------------------------------------------------------------------------------------------------------

/** Characters that mean something to one parser or another, or are easily mishandled. */
const SPECIAL = [
  ...'"\\%+&?=#/:@[]{}()<>*.,;\'`|~^$!-_ \t\r\n\0',
  '\u00e9',
  'e\u0301',
  '\u0130',
  '\u017f',
  '\u212a',
  '\u2028',
  '\u202e',
  '\ufeff',
  '\uffff',
  '\ud800',
  '\udc00',
  '\u{1f600}',
  '9'.repeat(20),
  '0x10',
  '1e999',
  '-1',
  'rp1',
  'ws://',
  '.'.repeat(3),
]

export interface Edit {
  readonly how: 'insert' | 'replace' | 'remove' | 'repeat' | 'cut' | 'case'
  readonly at: number
  readonly length: number
  readonly text: string
}

export const edits: fc.Arbitrary<Edit[]> = fc.array(
  fc.record({
    how: fc.constantFrom('insert', 'replace', 'remove', 'repeat', 'cut', 'case'),
    at,
    length: fc.integer({ min: 1, max: 40 }),
    text: fc.oneof(fc.constantFrom(...SPECIAL), fc.string({ unit: 'binary', maxLength: 3 })),
  }),
  { minLength: 1, maxLength: 4 },
)

export function edited(text: string, all: readonly Edit[]): string {
  let now = text
  for (const { how, at: place, length, text: inserted } of all) {
    const start = place % (now.length + 1)
    const [before, part, after] = [
      now.slice(0, start),
      now.slice(start, start + length),
      now.slice(start + length),
    ]
    if (how === 'insert') now = before + inserted + part + after
    else if (how === 'replace') now = before + inserted + after
    else if (how === 'remove') now = before + after
    else if (how === 'repeat') now = before + part + part + after
    else if (how === 'cut') now = before
    else now = before + part.toUpperCase() + after
  }
  return now
}

/** Any sequence of UTF-16 units, halves of surrogate pairs among them. */
export const units = fc
  .array(fc.nat(0xffff), { maxLength: 40 })
  .map((codes) => String.fromCharCode(...codes))

export const anyText = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  units,
  fc.array(fc.constantFrom(...SPECIAL, 'a', '1'), { maxLength: 20 }).map((parts) => parts.join('')),
)

// --- JSON -----------------------------------------------------------------------------------------------------------

const DEPTH = 500
/** Written by JSON.stringify, and then replaced by a number that JSON.parse reads as Infinity. */
const INFINITE = '@infinite@'

function nested(depth: number): unknown {
  let value: unknown = []
  for (let i = 0; i < depth; i++) value = [value]
  return value
}

/** What a reader of JSON may stumble over. Built anew for each use: whoever gets it may change it. */
const HOSTILE: readonly (() => unknown)[] = [
  () => null,
  () => true,
  () => 0,
  () => -0,
  () => -1,
  () => 0.5,
  () => 2 ** 53,
  () => 2 ** 53 - 1,
  () => -(2 ** 53),
  () => 2 ** 32,
  () => 1e308,
  () => INFINITE,
  () => '',
  () => 'x',
  () => 'x'.repeat(10_000),
  () => '\ud800',
  () => '\u001b[2J\n',
  () => 'ws://',
  () => `ws://h/${'a'.repeat(600)}`,
  () => [],
  () => [[]],
  () => [null],
  () => Array.from({ length: 300 }, () => 0),
  () => Array.from({ length: 300 }, () => ({})),
  () => ({}),
  () => ({ length: 4 }),
  () => ({ toString: null }),
  () => ({ toString: 1, valueOf: 1 }),
  () => JSON.parse('{"__proto__":{"seq":1},"constructor":1,"hasOwnProperty":1}'),
  () => nested(DEPTH),
]

export interface TreeDamage {
  readonly how: 'replace' | 'remove' | 'add' | 'repeat' | 'swap'
  readonly node: number
  readonly other: number
}

export const treeDamages: fc.Arbitrary<TreeDamage[]> = fc.array(
  fc.record({
    how: fc.constantFrom('replace', 'replace', 'remove', 'add', 'repeat', 'swap'),
    node: fc.nat(4000),
    other: fc.nat(4000),
  }),
  { minLength: 1, maxLength: 3 },
)

type Container = Record<string, unknown> | unknown[]

interface Place {
  readonly of: Container
  readonly key: string
}

/** Every place of a value inside an object or an array. */
function placesIn(root: Container): Place[] {
  const places: Place[] = []
  const open: unknown[] = [root]
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) continue
    for (const key of Object.keys(value)) {
      places.push({ of: value as Container, key })
      open.push((value as Record<string, unknown>)[key] ?? null)
    }
  }
  return places
}

/** A copy of a JSON value with the damage done. */
export function damagedTree(value: unknown, all: readonly TreeDamage[]): unknown {
  const root: Container = { value: structuredClone(value) }
  for (const one of all) {
    const places = placesIn(root)
    const place = places[one.node % places.length]
    const other = places[one.other % places.length]
    if (place === undefined || other === undefined) break
    const slot = place.of as Record<string, unknown>
    const hostile = HOSTILE[one.other % HOSTILE.length] as () => unknown
    if (one.how === 'replace') slot[place.key] = hostile()
    else if (one.how === 'add') add(place.of, one.other, hostile())
    else if (one.how === 'remove') remove(place)
    else if (one.how === 'repeat') repeat(slot[place.key])
    else slot[place.key] = structuredClone((other.of as Record<string, unknown>)[other.key])
  }
  return (root as Record<string, unknown>).value
}

function add(to: Container, which: number, value: unknown): void {
  if (Array.isArray(to)) to.splice(which % (to.length + 1), 0, value)
  else to[`added ${which % 3}`] = value
}

function remove({ of, key }: Place): void {
  if (Array.isArray(of)) of.splice(Number(key), 1)
  else delete of[key]
}

function repeat(value: unknown): void {
  if (Array.isArray(value)) value.push(...structuredClone(value.slice(0, 100)))
}

/** Every value of a tree in turn is replaced by everything hostile, and left out; `visit` gets the whole tree each time. */
export function everyDamagedTree(value: unknown, visit: (tree: unknown) => void): void {
  const count = placesIn({ value }).length
  for (let node = 0; node < count; node++) {
    for (let other = 0; other < HOSTILE.length; other++) {
      visit(damagedTree(value, [{ how: 'replace', node, other }]))
    }
    visit(damagedTree(value, [{ how: 'remove', node, other: 0 }]))
  }
}

/** As text, with numbers in it that only a writer of text can make. */
export function jsonText(value: unknown): string {
  return (JSON.stringify(value) ?? 'null').replaceAll(`"${INFINITE}"`, '1e999')
}

export function damagedJson(text: string, all: readonly TreeDamage[]): string {
  return jsonText(damagedTree(JSON.parse(text), all))
}

export const anyJson: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<unknown>,
  fc.constantFrom(...HOSTILE).map((make) => make()),
)
