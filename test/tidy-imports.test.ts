/** Who may import whom, and what pure code may never touch. The rules are the table in ARCHITECTURE.md. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { matches, readTable, refusal, rowOf } from './tidy/import-table.ts'
import { codeOnly, importsOf, projectFiles, read } from './tidy/source.ts'

const CODE = /^(node|discovery|client)\/.*\.ts$/
const IMPURE =
  /\b(Date|Math\.random|Promise|async|await|console|setTimeout|setInterval|setImmediate|queueMicrotask|process|performance|globalThis|crypto)\b/

const files = projectFiles()
const code = files.filter((path) => CODE.test(path) && !path.endsWith('.d.ts'))
const rows = readTable(read('ARCHITECTURE.md'))

/** What node/tsconfig.pure.json compiles without any environment, and all that it imports of ours. */
function pureFiles(): string[] {
  const { include } = JSON.parse(read('node/tsconfig.pure.json')) as { include: string[] }
  const patterns = include.map((entry) => {
    const path = entry.startsWith('../') ? entry.slice(3) : `node/${entry}`
    return path.endsWith('.ts') ? path : `${path}/`
  })
  const pure = new Set(code.filter((path) => patterns.some((pattern) => matches(pattern, path))))
  // A Set grows while it is walked, so this visits what it adds.
  for (const path of pure) {
    for (const { target } of importsOf(path, read(path)))
      if (code.includes(target)) pure.add(target)
  }
  return [...pure].sort()
}

const imports = suite('imports')

imports('there is code, and each file has a row in the table', () => {
  assert.ok(code.length > 10, `${code.length} files`)
  const without = code.filter((path) => rowOf(rows, path) === undefined)
  assert.equal(without, [])
})

imports('no file imports what its row does not name', () => {
  const refused = code.flatMap((path) => {
    const row = rowOf(rows, path)
    if (row === undefined) return []
    return importsOf(path, read(path))
      .map((found) => refusal(row, found))
      .filter((target) => target !== null)
      .map((target) => `${path} -> ${target}`)
  })
  assert.equal(refused, [])
})

imports('no row allows what nobody imports any more', () => {
  const stale = rows.flatMap((row) => {
    const targets = code
      .filter((path) => rowOf(rows, path) === row)
      .flatMap((path) => importsOf(path, read(path)).map((found) => found.target))
    return [...row.values, ...row.types]
      .filter((pattern) => !targets.some((target) => matches(pattern, target)))
      .map((pattern) => `${row.files.join(' ')} -> ${pattern}`)
  })
  assert.equal(stale, [])
})

imports('in node/storage only node-disk.ts touches node:fs', () => {
  const users = code
    .filter((path) => path.startsWith('node/storage/'))
    .filter((path) => importsOf(path, read(path)).some(({ target }) => /^node:fs/.test(target)))
  assert.equal(users, ['node/storage/node-disk.ts'])
})

imports('nothing of the product imports test or bench', () => {
  const wrong = code.filter((path) =>
    importsOf(path, read(path)).some(({ target }) => /^(test|bench)\//.test(target)),
  )
  assert.equal(wrong, [])
})

imports('every package that the product imports is a dependency', () => {
  const { dependencies } = JSON.parse(read('package.json')) as {
    dependencies: Record<string, string>
  }
  const undeclared = code.flatMap((path) =>
    importsOf(path, read(path))
      .filter(({ specifier, target }) => !/^(\.|node:)/.test(specifier) && !dependencies[target])
      .map(({ target }) => `${path} -> ${target}`),
  )
  assert.equal(undeclared, [])
})

imports('a relative import names a file that exists, with its .ts', () => {
  const typescript = files.filter((path) => path.endsWith('.ts'))
  const wrong = typescript.flatMap((path) =>
    importsOf(path, read(path))
      .filter(({ specifier }) => specifier.startsWith('.'))
      .filter(({ specifier, target }) => !specifier.endsWith('.ts') || !files.includes(target))
      .map(({ specifier }) => `${path}: ${specifier}`),
  )
  assert.equal(wrong, [])
})

const purity = suite('pure code')

purity('has no clock, timer, randomness, promise or console', () => {
  const pure = pureFiles()
  assert.ok(pure.some((path) => path.startsWith('node/raft/')))
  const wrong = pure.flatMap((path) =>
    codeOnly(read(path))
      .split('\n')
      .map((line, index) => ({ line, place: `${path}:${index + 1}` }))
      .filter(({ line }) => IMPURE.test(line))
      .map(({ line, place }) => `${place}: ${line.trim()}`),
  )
  assert.equal(wrong, [])
})

const reading = suite('how imports are read')

reading('every form is seen, and comments are not', () => {
  const source = [
    "import { a, type B } from './a.ts'",
    "import type { C } from '../c.ts'",
    "import { type D, type E } from './d.ts'",
    "export { f } from './f.ts'",
    "import 'side-effect'",
    "const late = await import('@scope/name/deep')",
    "type T = typeof import('node:fs')",
    "// import { no } from 'commented'",
    "/* import { no } from 'commented' */",
    "const url = 'ws://host' // import 'commented'",
    'import {\n  g,\n  h,\n} from "node:net"',
  ].join('\n')
  const found = importsOf('node/x/y.ts', source)
  assert.equal(found.map(({ target, typeOnly }) => `${target}${typeOnly ? ' type' : ''}`).sort(), [
    '@scope/name',
    'node/c.ts type',
    'node/x/a.ts',
    'node/x/d.ts type',
    'node/x/f.ts',
    'node:fs type',
    'node:net',
    'side-effect',
  ])
})

reading('a row refuses what it does not name, and values where only types are allowed', () => {
  const [row] = readTable(
    '| files | may import | types only | why |\n|---|---|---|---|\n| `a/` | `ws`, `node:*` | `b/` | |\n',
  )
  if (row === undefined) throw new Error('no row')
  const ask = (target: string, typeOnly = false) =>
    refusal(row, { specifier: target, target, typeOnly })
  assert.is(ask('a/x.ts'), null)
  assert.is(ask('ws'), null)
  assert.is(ask('node:fs'), null)
  assert.is(ask('b/x.ts', true), null)
  assert.is(ask('b/x.ts'), 'b/x.ts (types only)')
  assert.is(ask('c/x.ts', true), 'c/x.ts')
})

reading('words in comments and strings are not code', () => {
  assert.not.match(codeOnly("const a = 'Date' // Promise\n/* async */"), IMPURE)
  assert.match(codeOnly('const a = Date.now()'), IMPURE)
})

imports.run()
purity.run()
reading.run()
