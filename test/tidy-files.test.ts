/** Names, sizes and habits that a reader should be able to rely on in every file. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { projectFiles, read } from './tidy/source.ts'

const LINES_MAX = 500
const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/
// Spelled in parts, so that this file does not find itself.
const UNFINISHED = new RegExp(`\\b(TO${''}DO|FIX${''}ME|XX${''}X)\\b`)
const MACHINE_PATH = new RegExp(`(^|[\\s'"\`(=])/(${['work', 'root', 'Users'].join('|')})/\\w`, 'm')

const files = projectFiles()
const typescript = files.filter((path) => path.endsWith('.ts'))
const text = files.filter((path) => !/\.(png|ico|svg|woff2|bin)$|^package-lock\.json$/.test(path))

function linesMatching(paths: readonly string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .map((line, index) => ({ line, place: `${path}:${index + 1}` }))
      .filter(({ line }) => pattern.test(line))
      .map(({ line, place }) => `${place}: ${line.trim()}`),
  )
}

const tidy = suite('files')

tidy('no source file is longer than a reader can hold', () => {
  const long = typescript
    .map((path) => ({ path, lines: read(path).split('\n').length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX)
  assert.equal(long, [])
})

tidy('names are kebab-case, and nothing is called utils', () => {
  const inCode = files.filter((path) => /^(node|discovery|client|test|bench|docs)\//.test(path))
  const parts = inCode.flatMap((path) => path.split('/').map((part) => ({ path, part })))
  assert.equal(
    parts.filter(({ part }) => !KEBAB.test(part)).map(({ path }) => path),
    [],
  )
  assert.equal(
    parts.filter(({ part }) => /^(utils?|helpers?|misc)(\.|$)/.test(part)).map(({ path }) => path),
    [],
  )
})

tidy('no mark of unfinished work', () => {
  assert.equal(linesMatching(text, UNFINISHED), [])
  assert.match(`// TO${''}DO later`, UNFINISHED)
})

tidy('no path of one machine', () => {
  assert.equal(linesMatching(text, MACHINE_PATH), [])
})

tidy('every source file says what it is', () => {
  const silent = typescript
    .filter((path) => /^(node|discovery|client)\//.test(path))
    .filter((path) => !/^(#!.*\n)?\s*(\/\*\*|\/\/)/.test(read(path)))
  assert.equal(silent, [])
})

const packages = suite('packages')

packages('versions are pinned exactly', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<
    string,
    Record<string, string>
  >
  const loose = Object.entries({ ...dependencies, ...devDependencies }).filter(
    ([, version]) => !/^\d+\.\d+\.\d+$/.test(version),
  )
  assert.equal(loose, [])
})

packages('the lock file names no download address', () => {
  assert.not.match(read('package-lock.json'), /"resolved"/)
})

tidy.run()
packages.run()
