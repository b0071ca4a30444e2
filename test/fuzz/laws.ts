/**
 * What must be true of every decoder, whatever it decodes: it reads what its encoder wrote; on anything else it returns or refuses in
 * its own way; what it accepts it can write again; it stays inside its input, leaves it as it was, and makes nothing out of all
 * proportion to it.
 */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import {
  anyJson,
  anyText,
  type Damage,
  damaged,
  damagedJson,
  damagedTree,
  damages,
  edited,
  edits,
  everyDamagedTree,
  jsonText,
  treeDamages,
} from './mutations.ts'
import type { AnyRow, Outcome } from './rows.ts'

const WEIGHT_MAX_DEFAULT = 64
/** What even an empty input may become. */
const WEIGHT_FREE = 4096
const BUFFER_BYTES_MAX_DEFAULT = 4096

// --- one input ------------------------------------------------------------------------------------------------------

/** Decodes and checks everything that holds for any input. Throws when a law is broken. */
export function examine(row: AnyRow, input: unknown): Outcome<unknown> {
  const outcome = row.kind === 'bytes' ? fromBytes(row, input as Uint8Array) : fromValue(row, input)
  if (!outcome.ok) return outcome
  const { value } = outcome
  row.sound?.(value as never, input as never)
  writtenAgain(row, value, input)
  return outcome
}

/** The same bytes twice, among different neighbours: who reads beyond the input sees two different things. */
function fromBytes(row: AnyRow, input: Uint8Array): Outcome<unknown> {
  const [first, second] = [framed(input, 0), framed(input, 0xff)]
  const outcome = row.decode(first.inside as never)
  const other = row.decode(second.inside as never)
  assert.is(text(row, outcome), text(row, other), 'what lies around the input changes the result')
  for (const { all, fill, inside } of [first, second]) {
    assert.ok(Buffer.compare(inside, input) === 0, 'the input was written to')
    assert.ok(
      all.every((byte, i) => byte === fill || (i >= FRAME && i < FRAME + input.length)),
      'bytes around the input were written to',
    )
  }
  if (outcome.ok) weighed(row, outcome.value, input.length, first.inside)
  return outcome
}

const FRAME = 24

function framed(
  input: Uint8Array,
  fill: number,
): { all: Uint8Array; fill: number; inside: Uint8Array } {
  const all = new Uint8Array(input.length + 2 * FRAME).fill(fill)
  all.set(input, FRAME)
  return { all, fill, inside: all.subarray(FRAME, FRAME + input.length) }
}

function fromValue(row: AnyRow, input: unknown): Outcome<unknown> {
  const before = comparable(input)
  const outcome = row.decode(input as never)
  assert.is(comparable(input), before, 'the input was written to')
  if (outcome.ok) weighed(row, outcome.value, before.length, null)
  return outcome
}

function writtenAgain(row: AnyRow, value: unknown, input: unknown): void {
  const { again = 'value' } = row
  if (again === 'no') return
  const encoded: unknown = row.encode(value as never)
  if (again === 'bytes') {
    const same = Buffer.compare(encoded as Uint8Array, input as Uint8Array) === 0
    assert.ok(same, `one value has two encodings: ${hex(input)} is written as ${hex(encoded)}`)
    return
  }
  const repeated = row.decode(encoded as never)
  assert.ok(repeated.ok, 'what was accepted is refused when it is written again')
  assert.is(text(row, repeated), text(row, { ok: true, value }), 'written again, it is another')
}

function text(row: AnyRow, outcome: Outcome<unknown>): string {
  if (!outcome.ok) return 'refused'
  return comparable(row.shown === undefined ? outcome.value : row.shown(outcome.value as never))
}

function hex(bytes: unknown): string {
  return Buffer.from(bytes as Uint8Array).toString('hex')
}

// --- what a value is made of ----------------------------------------------------------------------------------------

/** Equal for values that are equal: content of typed arrays, maps and sets, and numbers that JSON does not know. */
export function comparable(value: unknown): string {
  if (value instanceof Uint8Array) return `<${hex(value)}>`
  if (Array.isArray(value)) return `[${value.map(comparable).join()}]`
  if (value instanceof Map) return `Map${comparable([...value])}`
  if (value instanceof Set) return `Set${comparable([...value])}`
  if (typeof value === 'object' && value !== null) {
    const fields = Object.keys(value)
      .filter((key) => (value as Record<string, unknown>)[key] !== undefined)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${comparable((value as Record<string, unknown>)[key])}`)
    return `{${fields.join()}}`
  }
  if (typeof value === 'number' && Object.is(value, -0)) return '0'
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}

/** Sums up everything a decoded value holds, and looks at every view of the input in it. */
function weighed(row: AnyRow, value: unknown, inputLength: number, input: Uint8Array | null): void {
  let weight = 0
  const seen = new Set<object>()
  const open: unknown[] = [value]
  while (open.length > 0) {
    const one = open.pop()
    if (typeof one === 'string') weight += 2 * one.length
    if (typeof one !== 'object' || one === null || seen.has(one)) continue
    seen.add(one)
    weight += 16
    if (ArrayBuffer.isView(one)) weight += ownBytes(one, input)
    else if (one instanceof Map || one instanceof Set) open.push(...one)
    else for (const key of Object.keys(one)) open.push((one as Record<string, unknown>)[key])
  }
  const max = (row.weightMax ?? WEIGHT_MAX_DEFAULT) * inputLength + WEIGHT_FREE
  assert.ok(weight <= max, `${inputLength} units of input became ${weight}, at most ${max}`)
}

/** A view of the input weighs nothing, and must not show anything beside it. */
function ownBytes(view: ArrayBufferView, input: Uint8Array | null): number {
  if (input === null || view.buffer !== input.buffer) return view.byteLength
  const start = view.byteOffset - input.byteOffset
  const inside = start >= 0 && start + view.byteLength <= input.length
  assert.ok(inside, `a view shows [${start}, ${start + view.byteLength}) of ${input.length} bytes`)
  return 0
}

// --- buffers --------------------------------------------------------------------------------------------------------

const ALLOCATING = ['ArrayBuffer', 'Uint8Array', 'Uint16Array', 'Uint32Array', 'Array'] as const

/** Runs `work` and returns the largest size, in elements, that anybody asked a buffer or an array of. */
export function largestAllocation(work: () => void): number {
  let largest = 0
  const globals = globalThis as unknown as Record<string, new (...args: unknown[]) => object>
  const originals = ALLOCATING.map((name) => [name, globals[name] as never] as const)
  for (const [name, original] of originals) {
    const counting: object = new Proxy(original, {
      construct(target, args: unknown[], made) {
        const [size] = args
        if (typeof size === 'number') largest = Math.max(largest, size)
        return Reflect.construct(target, args, made === counting ? target : made) as object
      },
    })
    globals[name] = counting as never
  }
  try {
    work()
  } finally {
    for (const [name, original] of originals) globals[name] = original
  }
  return largest
}

/** Every four bytes in turn become a length that promises far more than there is. */
export function announcedSizes(row: AnyRow, encoded: Uint8Array): void {
  const max = 4 * encoded.length + (row.bufferBytesMax ?? BUFFER_BYTES_MAX_DEFAULT)
  for (let at = 0; at + 4 <= Math.min(encoded.length, 96); at++) {
    for (const size of [0xffff_ffff, 0x7fff_ffff, 0x0fff_ffff]) {
      const bytes = Uint8Array.from(encoded)
      new DataView(bytes.buffer).setUint32(at, size)
      for (const input of [bytes, row.reseal?.(bytes)]) {
        if (input === undefined) continue
        const largest = largestAllocation(() => row.decode(input as never))
        assert.ok(largest <= max, `${input.length} bytes, ${size} at ${at}: asked for ${largest}`)
      }
    }
  }
}

// --- inputs ---------------------------------------------------------------------------------------------------------

const ENCODER = new TextEncoder()

/** Anything at all, and what the row says is nearer to its grammar. */
export function noiseFor(row: AnyRow): fc.Arbitrary<unknown> {
  const plain: fc.Arbitrary<unknown>[] = []
  if (row.kind === 'json') plain.push(anyJson)
  if (row.kind === 'text') plain.push(anyText)
  if (row.kind === 'text' && row.inner === 'json') plain.push(anyJson.map(jsonText))
  if (row.kind === 'bytes') plain.push(fc.uint8Array({ maxLength: 300 }))
  if (row.kind === 'bytes' && row.inner === 'json') {
    plain.push(anyJson.map((value) => ENCODER.encode(jsonText(value))))
  }
  if (row.noise !== undefined) plain.push(row.noise)
  return fc.oneof(...plain)
}

/** Valid input, damaged in one of the ways that its kind can be. */
export function damagedFor(row: AnyRow): fc.Arbitrary<unknown> {
  const valid = row.values.map((value) => row.encode(value) as unknown)
  const ways: fc.Arbitrary<unknown>[] = []
  if (row.kind === 'json') {
    ways.push(fc.tuple(valid, treeDamages).map(([value, all]) => damagedTree(value, all)))
  }
  if (row.kind === 'text') {
    ways.push(fc.tuple(valid, edits).map(([value, all]) => edited(value as string, all)))
    if (row.inner === 'json') {
      ways.push(
        fc.tuple(valid, treeDamages).map(([value, all]) => damagedJson(value as string, all)),
      )
    }
  }
  if (row.kind === 'bytes') ways.push(...damagedBytesFor(row, valid as fc.Arbitrary<Uint8Array>))
  return fc.oneof(...ways)
}

/** Every input that differs from a valid one in one place of its tree; nothing for a decoder that reads no tree. */
export function everyDamaged(row: AnyRow, encoded: unknown, visit: (input: unknown) => void): void {
  if (row.kind === 'json') return everyDamagedTree(encoded, visit)
  if (row.inner !== 'json') return
  const written =
    row.kind === 'text' ? (encoded as string) : new TextDecoder().decode(encoded as Uint8Array)
  everyDamagedTree(JSON.parse(written), (tree) => {
    const changed = jsonText(tree)
    const input = row.kind === 'text' ? changed : ENCODER.encode(changed)
    visit(input)
    if (row.reseal !== undefined) visit(row.reseal(input as Uint8Array))
  })
}

/** Every byte of a valid input in turn becomes each of the values that a reader may not expect there. */
export function everyByte(
  row: AnyRow,
  encoded: Uint8Array,
  visit: (input: Uint8Array) => void,
): void {
  for (let at = 0; at < encoded.length; at++) {
    const now = encoded[at] as number
    for (const value of new Set([0, 1, 2, 3, 0x22, 0x7f, 0x80, 0xff, now ^ 1, (now + 1) & 0xff])) {
      if (value === now) continue
      const changed = Uint8Array.from(encoded)
      changed[at] = value
      visit(changed)
      if (row.reseal !== undefined) visit(row.reseal(changed))
    }
    visit(encoded.subarray(0, at))
  }
}

function damagedBytesFor(row: AnyRow, valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array>[] {
  const plain = fc.tuple(valid, damages).map(([bytes, all]) => damaged(bytes, all))
  const ways = [plain, spliced(valid, damages)]
  const { reseal } = row
  if (reseal !== undefined) ways.push(plain.map((bytes) => reseal(bytes)))
  if (row.inner === 'json') {
    const trees = fc.tuple(valid, treeDamages).map(([bytes, all]) => {
      return ENCODER.encode(damagedJson(new TextDecoder().decode(bytes), all))
    })
    ways.push(reseal === undefined ? trees : trees.map((bytes) => reseal(bytes)))
  }
  return ways
}

/** The beginning of one and the end of another. */
function spliced(
  valid: fc.Arbitrary<Uint8Array>,
  all: fc.Arbitrary<Damage[]>,
): fc.Arbitrary<Uint8Array> {
  return fc.tuple(valid, valid, fc.nat(0xffff), all).map(([head, tail, place, more]) => {
    const [from, to] = [place % (head.length + 1), (place >> 3) % (tail.length + 1)]
    const both = new Uint8Array([...head.subarray(0, from), ...tail.subarray(to)])
    return place % 2 === 0 ? both : damaged(both, more)
  })
}
