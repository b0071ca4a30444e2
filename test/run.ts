/**
 * The only runner: `npm test`, or `npm test -- substring...`, or `npm test -- path/to/file.ts`.
 * Every test file is a process of its own; a file counts as passed only when uvu's own figures prove that it ran to its
 * end (runner/verdict.ts says why an exit code of 0 is not enough). The last line is always `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Plan, readPlan } from './runner/plan.ts'
import { type Finished, killAll, runFile } from './runner/run-file.ts'
import { judge, type Verdict } from './runner/verdict.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const JOBS = 2
/** Compiled into dist, so that a change of one of them makes dist stale. */
const SOURCES = ['node', 'discovery', 'client', 'tsconfig.build.json', 'tsconfig.base.json']
const BUILT = 'dist/node/cli.js'

interface Result {
  readonly plan: Plan
  readonly finished: Finished
  readonly verdict: Verdict
}

function filesUnder(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : filesUnder(path)
    return [path]
  })
}

/** An argument that is a file is that file, whatever its name (the runner's own fixtures); else it is a filter. */
function select(args: readonly string[]): string[] {
  const named = args.filter((arg) => arg.endsWith('.ts') && existsSync(resolve(ROOT, arg)))
  const filters = args.filter((arg) => !named.includes(arg))
  const exact = named.map((arg) => relative(ROOT, resolve(ROOT, arg)))
  if (args.length > 0 && filters.length === 0) return exact
  const found = filesUnder(join(ROOT, 'test'))
    .map((path) => relative(ROOT, path))
    .filter((path) => path.endsWith('.test.ts'))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
  return [...new Set([...exact, ...found])].sort()
}

function newestMs(path: string): number {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(0, ...filesUnder(path).map((file) => statSync(file).mtimeMs))
}

function buildIfNeeded(): boolean {
  const built = join(ROOT, BUILT)
  const sourceMs = Math.max(...SOURCES.map((path) => newestMs(join(ROOT, path))))
  if (existsSync(built) && statSync(built).mtimeMs > sourceMs) return true
  console.log('building dist')
  const build = spawnSync('npm', ['run', '--silent', 'build'], { cwd: ROOT, stdio: 'inherit' })
  return build.status === 0
}

function describe({ plan, finished, verdict }: Result): string {
  const seconds = (finished.durationMs / 1000).toFixed(1)
  const mark = verdict.problems.length > 0 ? 'FAIL' : verdict.passed === 0 ? 'skip' : 'ok  '
  return `${mark} ${plan.path}  ${verdict.passed} passed  ${seconds} s`
}

async function runOne(plan: Plan, scratch: string): Promise<Result> {
  const finished = await runFile(plan, { root: ROOT, scratch })
  const verdict = judge(plan, finished, { ci: process.env.CI === 'true' })
  const result = { plan, finished, verdict }
  console.log(describe(result))
  if (verdict.problems.length > 0) {
    console.log(finished.output.trimEnd().replace(/^/gm, '    '))
    for (const problem of verdict.problems) console.log(`  -> ${plan.path}: ${problem}`)
  }
  return result
}

/** Two files at a time, those with the longest allowance first; then the ones that must be alone. */
async function runAll(plans: readonly Plan[], scratch: string): Promise<Result[]> {
  const results: Result[] = []
  const shared = plans
    .filter((plan) => !plan.alone)
    .sort((a, b) => b.timeoutMs - a.timeoutMs || (a.path < b.path ? -1 : 1))
  const lane = async (): Promise<void> => {
    for (let plan = shared.shift(); plan !== undefined; plan = shared.shift()) {
      results.push(await runOne(plan, scratch))
    }
  }
  await Promise.all(Array.from({ length: JOBS }, lane))
  for (const plan of plans.filter((candidate) => candidate.alone)) {
    results.push(await runOne(plan, scratch))
  }
  return results
}

function report(results: readonly Result[], startedMs: number): number {
  let passed = 0
  let failed = 0
  let skipped = 0
  for (const { verdict } of results) {
    passed += verdict.passed
    failed += verdict.failed
    skipped += verdict.skipped
  }
  console.log(`\n${results.length} files in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`)
  for (const { plan, verdict } of results) {
    for (const reason of verdict.skipReasons) console.log(`SKIPPED ${plan.path}: ${reason}`)
  }
  for (const { plan, verdict } of results) {
    for (const problem of verdict.problems) console.log(`FAILED ${plan.path}: ${problem}`)
  }
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
  return failed === 0 && results.length > 0 ? 0 : 1
}

async function main(): Promise<number> {
  const startedMs = Date.now()
  const args = process.argv.slice(2)
  const paths = select(args.filter((arg) => !arg.startsWith('--')))
  if (paths.length === 0) {
    console.log('no test file matches\n0 passed, 1 failed')
    return 1
  }
  if (!args.includes('--no-build') && !buildIfNeeded()) {
    console.log('the build failed\n0 passed, 1 failed')
    return 1
  }
  const scratch = mkdtempSync(join(tmpdir(), 'rp-'))
  try {
    const results = await runAll(
      paths.map((path) => readPlan(ROOT, path)),
      scratch,
    )
    return report(results, startedMs)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    killAll()
    console.log(`interrupted by ${signal}\n0 passed, 1 failed`)
    process.exit(1)
  })
}
process.exitCode = await main()
