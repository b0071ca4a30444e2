/**
 * The table of decoders is complete: every export that is named like a decoder, every type guard, and every file that reads JSON or
 * bytes as text is called by a row or stands on the list of exemptions with a reason; and neither names what is not there.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { projectFiles, read } from '../tidy/source.ts'
import { DECODERS, EXEMPT } from './decoders.ts'

/** The simulator's own code decodes nothing that comes from outside. */
const sources = projectFiles().filter(
  (path) => /^(node|client|discovery)\/.*\.ts$/.test(path) && !path.startsWith('node/testing/'),
)

const EXPORTED = /^export (?:async )?(?:function\*?|const|class) (\w+)/gm
const DECODER =
  /^(decode|parse|read|recover|unquote|find|answersIn|asksFor|is[A-Z])|(Reader|Parser|Decoder)$/
/** `value is Type` and `asserts value`: somebody relies on the answer without looking again. */
const GUARD = /^export function (\w+)\([^)]*\): (?:asserts )?\w+ is /gm
const READS_TEXT = /\bJSON\.parse\(|\.decode\(|new URL\(|parseInt\(/

function exportsOf(path: string): string[] {
  return [...read(path).matchAll(EXPORTED)].map((match) => `${path}#${match[1]}`)
}

/** What must stand in the table: exports as `path#name`, files that read text as `path`. */
function wanted(): string[] {
  return sources.flatMap((path) => {
    const source = read(path)
    const guards = [...source.matchAll(GUARD)].map((match) => `${path}#${match[1]}`)
    const named = exportsOf(path).filter((one) => DECODER.test(one.slice(one.indexOf('#') + 1)))
    const file = READS_TEXT.test(source) ? [path] : []
    return [...new Set([...named, ...guards, ...file])]
  })
}

const covered = new Set(DECODERS.flatMap((row) => row.covers))
/** A row that calls an export of a file reads what that file reads. */
const coveredFiles = new Set([...covered].map((one) => one.split('#')[0] as string))

const complete = suite('the table of decoders')

complete('holds every decoder there is, or says why not', () => {
  const all = wanted()
  assert.ok(all.length > 60, 'the search finds what there is')
  const missing = all.filter(
    (one) =>
      !covered.has(one) && !(one in EXEMPT) && !(!one.includes('#') && coveredFiles.has(one)),
  )
  assert.equal(missing, [])
})

complete('names nothing that is not there', () => {
  const there = new Set([...sources, ...sources.flatMap(exportsOf)])
  const gone = [...covered, ...Object.keys(EXEMPT)].filter((one) => !there.has(one))
  assert.equal(gone, [])
})

complete('exempts nothing that it holds, and nothing without need', () => {
  const needed = new Set(wanted())
  const idle = Object.keys(EXEMPT).filter((one) => covered.has(one) || !needed.has(one))
  assert.equal(idle, [])
  for (const [one, reason] of Object.entries(EXEMPT)) assert.ok(reason.length > 10, one)
})

complete('has one row a name', () => {
  const names = DECODERS.map((row) => row.name)
  assert.is(new Set(names).size, names.length)
})

complete.run()
