/**
 * Golden traces: every text file beside this one is a test. A difference is a change of behaviour, to be judged against the paper
 * and not to be waved through. `REWRITE=1` writes the present output into the files.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parseTrace, runTrace } from './trace-file.ts'

const FOLDER = fileURLToPath(new URL('.', import.meta.url))
const SHOWN_AS = 'test/interaction/'
const FILES_MIN = 30
const isRewriting = process.env.REWRITE === '1'

const files = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))

const traces = suite('interaction traces')

for (const name of files.sort()) {
  traces(name.replace(/\.txt$/, ''), () => {
    const text = readFileSync(`${FOLDER}${name}`, 'utf8')
    const { mistakes, differences, rewritten } = runTrace(`${SHOWN_AS}${name}`, text)
    if (isRewriting && rewritten !== null && rewritten !== text) {
      writeFileSync(`${FOLDER}${name}`, rewritten)
    }
    const problems = isRewriting ? mistakes : [...mistakes, ...differences]
    assert.ok(problems.length === 0, problems.join('\n'))
  })
}

const runner = suite('how traces are read')

runner(`there are at least ${FILES_MIN} of them`, () => {
  assert.ok(files.length >= FILES_MIN, `${files.length} files`)
})

runner('a file without a drawing, a command or an output is no trace', () => {
  const refused = (text: string, why: RegExp) => assert.throws(() => parseTrace('x.txt', text), why)
  refused('cluster 3\n----\nok\n', /x\.txt:1: a trace begins with a comment/)
  refused('# only words\n', /no command in it/)
  refused('# words\n\ncluster 3\n', /x\.txt:3: no line ---- follows/)
  refused('# words\n\ncluster 3\n\n----\nok\n', /x\.txt:3: no line ---- follows/)
  refused('# words\n\n----\nok\n', /x\.txt:3: output without a command/)
})

runner('a mistake in a command fails, unless the file says that it is one', () => {
  const trace = (...output: string[]) => ['# words', '', ...output, ''].join('\n')
  const message = 'error: unknown command: elephant'
  const unknown = runTrace('x.txt', trace('elephant 3', '----', 'ok'))
  assert.equal(unknown.mistakes, [`x.txt:3: elephant 3: ${message}`])
  assert.is(unknown.rewritten, null, 'it would be expected ever after')
  const written = runTrace('x.txt', trace('elephant 3', '----', message))
  assert.equal([written.mistakes, written.differences], [[], []])
  const wrong = runTrace('x.txt', trace('cluster 3', 'deliver n1>n2', '----', ''))
  assert.equal(wrong.mistakes.length, 1, 'nothing is in flight')
  const left = runTrace('x.txt', trace('cluster 3 elephants=4', '----', ''))
  assert.match(left.mistakes[0] ?? '', /cannot make sense of elephants/)
})

runner('a difference names the file, the line and both sides; rewriting mends it for good', () => {
  const status =
    'n1        follower in term 1, leader unknown, vote none: last=1/1 stable=1 commit=1 applied=1'
  const block = ['cluster 1', 'status', 'status', '----', status, 'n1        wrong']
  const text = ['# words', '', ...block, '', '# end', ''].join('\n')
  const first = runTrace('x.txt', text)
  assert.is(first.differences.length, 1)
  assert.match(
    first.differences[0] ?? '',
    /^x\.txt:8: the output differs\n--- expected\n\+\+\+ actual\n@@ line 7 @@\n n1 {8}follower in[^\n]*\n-n1 {8}wrong\n\+n1 {8}follower/,
  )
  const rewritten = first.rewritten ?? ''
  assert.match(rewritten, /\n\n# end\n$/)
  const second = runTrace('x.txt', rewritten)
  assert.equal(second.differences, [])
  assert.is(second.rewritten, rewritten)
})

traces.run()
runner.run()
