// timeout: 120 s
/** Proves that the runner sees every way in which uvu, or a test file, can look as if it had passed. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parsePlan } from './plan.ts'
import { judge } from './verdict.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

function run(names: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const files = names.map((name) => `test/runner/fixtures/${name}.fixture.ts`)
  const outer = { ...process.env, CI: '', ...env }
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'test/run.ts', '--no-build', ...files],
    { cwd: ROOT, env: outer, encoding: 'utf8', timeout: 60_000 },
  )
  return { status, stdout, lastLine: stdout.trimEnd().split('\n').at(-1) ?? '' }
}

function assertGone(stdout: string): void {
  const pids = [...stdout.matchAll(/left behind: (\d+)/g)].map((match) => Number(match[1]))
  assert.ok(pids.length > 0, 'the fixtures name their processes')
  for (const pid of pids) assert.not(lives(pid), `process ${pid} still lives`)
}

/** A process that was killed but not reaped yet is dead enough. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

const whole = suite('the runner on whole files')

whole('a passing file passes', () => {
  const { status, lastLine } = run(['passes'])
  assert.is(status, 0)
  assert.is(lastLine, '2 passed, 0 failed')
})

const SILENT: readonly (readonly [string, RegExp])[] = [
  ['assertion-fails', /1 of 2 tests passed/],
  ['before-throws', /0 of 1 tests passed/],
  ['after-each-throws', /0 of 1 tests passed/],
  ['rejects-undefined', /0 of 1 tests passed/],
  ['run-forgotten', /suite "test" is declared but never run/],
  ['suite-forgotten', /suite "second" is declared but never run/],
  ['never-resolves', /never ran its tests to the end/],
  ['exits-early', /never ran its tests to the end/],
  ['throws-at-import', /never ran its tests to the end/],
  ['only', /uses \.only/],
  ['skipped-silently', /ran no test/],
  ['server-leaks', /did not end within 3 s/],
  ['hangs-with-child', /did not end within 3 s/],
  ['process-leaks', /left processes behind/],
]

whole('every silent pass is caught, and what passed beside it still counts', () => {
  const { status, stdout, lastLine } = run(['passes', ...SILENT.map(([name]) => name)])
  assert.is(status, 1)
  for (const [name, problem] of SILENT) {
    const lines = stdout.split('\n').filter((line) => line.startsWith('FAILED '))
    const mine = lines.filter((line) => line.includes(`/${name}.fixture.ts: `))
    assert.ok(
      mine.some((line) => problem.test(line)),
      `${name}: expected ${problem}, got ${JSON.stringify(mine)}`,
    )
  }
  assert.match(stdout, /^ok {3}test\/runner\/fixtures\/passes\.fixture\.ts {2}2 passed/m)
  assert.match(lastLine, /^\d+ passed, 14 failed, 2 skipped$/)
  assertGone(stdout)
})

whole('a skip needs a printed reason, and in CI an allowed one', () => {
  const lenient = run(['skipped'])
  assert.is(lenient.status, 0)
  assert.match(lenient.stdout, /SKIPPED .*skipped\.fixture\.ts: the moon is not full/)
  assert.is(lenient.lastLine, '0 passed, 0 failed, 1 skipped')
  const strict = run(['skipped'], { CI: 'true' })
  assert.is(strict.status, 1)
  assert.match(strict.stdout, /not allowed in CI: the moon is not full/)
})

whole('a filter that matches nothing fails', () => {
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'test/run.ts', '--no-build', 'no-such-test-anywhere'],
    { cwd: ROOT, encoding: 'utf8', timeout: 60_000 },
  )
  assert.is(status, 1)
  assert.match(stdout, /\n0 passed, 1 failed\n$/)
})

const parts = suite('reading files and output')

parts('the head of a file gives its time limit and whether it runs alone', () => {
  assert.equal(parsePlan('// timeout: 90 s\n// alone\n'), {
    timeoutMs: 90_000,
    alone: true,
    forgottenSuites: [],
  })
  assert.is(parsePlan('const a = 1\n').timeoutMs, 60_000)
  assert.is(parsePlan(`${'\n'.repeat(30)}// alone\n`).alone, false)
})

parts('a skipped part of a passing file is counted and listed', () => {
  const output =
    ' a • • SKIP tmpfs mount: not permitted here\n•\n  Total:     3\n  Passed:    3\n  Skipped:   0\n'
  const verdict = judge(
    { path: 'x', timeoutMs: 1, alone: false, forgottenSuites: [] },
    { exitCode: 0, signal: null, timedOut: false, leftover: false, durationMs: 1, output },
    { ci: true },
  )
  assert.equal(verdict, {
    passed: 3,
    failed: 0,
    skipped: 1,
    skipReasons: ['tmpfs mount: not permitted here'],
    problems: [],
  })
})

whole.run()
parts.run()
