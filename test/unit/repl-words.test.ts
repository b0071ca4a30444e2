/** How a line is read, and how bytes are shown so that they read back. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { linesOf } from '../../client/repl/batch.ts'
import { harmless, LineReader, shown, UsageError, wordFor } from '../../client/repl/words.ts'

const words = suite('words of a line')

const read = (line: string): string[] => new LineReader(line).words().map((word) => word.text)

words('end at white space, unless they are quoted', () => {
  assert.equal(read('  get   a\tb '), ['get', 'a', 'b'])
  assert.equal(read('get "a b" c'), ['get', 'a b', 'c'])
  assert.equal(read('get "a\\"b\\\\c\\n\\t\\u{20ac}" ""'), ['get', 'a"b\\c\n\t\u20ac', ''])
  assert.equal(read('a"b c'), ['a"b', 'c'])
  assert.equal(read(''), [])
  assert.equal([...(new LineReader('"\\xff\\x00"').word()?.bytes ?? [])], [255, 0])
})

words('the rest of a line is taken as it stands', () => {
  const line = new LineReader('PUT "a b"   "two"  words\\n  ')
  line.word()
  assert.is(line.word()?.text, 'a b')
  assert.is(line.rest(), '"two"  words\\n  ')
  assert.ok(line.atEnd)
})

words('what cannot be meant is refused', () => {
  for (const line of ['"a', '"a"b', '"\\q"', '"\\x1"', '"\\u{110000}"', '"a\\']) {
    assert.throws(
      () => read(line),
      (error: unknown) => error instanceof UsageError,
      line,
    )
  }
})

words('any bytes read back from how they are written', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const again = new LineReader(`${wordFor(bytes)} x`).word()
      assert.equal(again?.bytes, bytes)
    }),
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (text) => {
      const bytes = new TextEncoder().encode(text)
      for (const quotes of ['if needed', 'always'] as const) {
        assert.equal(new LineReader(wordFor(bytes, quotes)).word()?.bytes, bytes)
      }
    }),
  )
})

words('nothing shown drives the terminal', () => {
  assert.is(harmless('a\u001b[31mb\u009b\u202e\r'), 'a\\x1b[31mb\\u{9b}\\u{202e}\\r')
  assert.is(harmless('a\n\tb\u0007', 'layout'), 'a\n\tb\\x07')
  assert.is(shown(new Uint8Array([0x61, 0xff, 0x1b])), 'a\\xff\\x1b')
})

words('lines end with a newline and with nothing else', async () => {
  const lines: string[] = []
  const euro = new TextEncoder().encode('\u20ac')
  const chunks = ['a\r\nb\u2028c\rd\n', euro.subarray(0, 1), euro.subarray(1), '\n\nlast\r']
  async function* input() {
    yield* chunks
  }
  for await (const line of linesOf(input())) lines.push(line)
  assert.equal(lines, ['a', 'b\u2028c\rd', '\u20ac', '', 'last'])
})

words.run()
