/** The lines of a shell that is fed in pieces: however the bytes are cut, the lines are those of the whole. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { linesOf } from '../../client/repl/batch.ts'
import { holdsLater } from './runs.ts'

const stream = suite('lines of a stream')

/** Bytes cut at the given places, the pieces in order, some of them empty. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...sorted].map((from, at) => bytes.subarray(from, sorted[at] ?? bytes.length))
}

async function read(pieces: readonly (string | Uint8Array)[]): Promise<string[]> {
  const lines: string[] = []
  async function* input() {
    yield* pieces
  }
  for await (const line of linesOf(input())) lines.push(line)
  return lines
}

/** The plain definition: text, cut at every \n, one \r before it taken away; nothing after the last one is no line. */
function expected(bytes: Uint8Array): string[] {
  const lines = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line))
}

const text = fc.array(
  fc.oneof(
    fc.constantFrom('\n', '\r\n', '\r', '\u2028', '\u20ac', '\u{1f600}', '\ufeff', 'PUT a b', '"'),
    fc.string({ unit: 'binary', maxLength: 4 }),
  ),
  { maxLength: 20 },
)
const bytes = fc.oneof(
  text.map((parts) => new TextEncoder().encode(parts.join(''))),
  fc.uint8Array({ maxLength: 40 }),
)

stream('cut anywhere', async () => {
  await holdsLater(
    fc.asyncProperty(bytes, fc.array(fc.nat(), { maxLength: 8 }), async (all, places) => {
      assert.equal(await read(cut(all, places)), expected(all))
    }),
    1000,
  )
})

stream.run()
