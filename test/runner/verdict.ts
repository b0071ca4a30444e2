/**
 * Decides whether a test file passed. uvu ends with exit code 0 when a `before` hook throws, when `after.each` throws,
 * when a test rejects with `undefined` and when `.run()` is forgotten, so the exit code alone proves nothing: the file
 * must print exactly one summary with Passed = Total > 0. Pure.
 */
import type { Plan } from './plan.ts'
import type { Finished } from './run-file.ts'

/** Reasons for which a test may be skipped in CI. Anything else skipped there is a failure: it would go unseen. */
const SKIPS_ALLOWED_IN_CI: readonly RegExp[] = [
  /^network namespaces: not permitted here$/,
  /^tmpfs mount: not permitted here$/,
  /^version 1: its commit is not in the history here$/,
]

export interface Verdict {
  readonly passed: number
  /** At least 1 when there is a problem. */
  readonly failed: number
  readonly skipped: number
  readonly skipReasons: readonly string[]
  /** Empty when the file passed. */
  readonly problems: readonly string[]
}

interface Summary {
  readonly total: number
  readonly passed: number
  readonly skipped: number
}

export function judge(plan: Plan, finished: Finished, options: { readonly ci: boolean }): Verdict {
  const text = stripColour(finished.output)
  const summaries = readSummaries(text)
  const skipReasons = readSkipReasons(text)
  const [summary] = summaries
  const problems = [
    ...processProblems(plan, finished),
    ...summaryProblems(summaries, skipReasons),
    ...plan.forgottenSuites.map((name) => `suite "${name}" is declared but never run`),
  ]
  if (options.ci) {
    for (const reason of skipReasons) {
      if (SKIPS_ALLOWED_IN_CI.some((allowed) => allowed.test(reason))) continue
      problems.push(`skipped for a reason that is not allowed in CI: ${reason}`)
    }
  }
  const passed = summary?.passed ?? 0
  const unfinished = (summary?.total ?? 0) - passed
  return {
    passed,
    failed: problems.length > 0 ? Math.max(1, unfinished) : 0,
    skipped: Math.max(summary?.skipped ?? 0, skipReasons.length),
    skipReasons,
    problems,
  }
}

function processProblems(plan: Plan, finished: Finished): string[] {
  if (finished.timedOut) {
    return [`did not end within ${plan.timeoutMs / 1000} s (a leaked server or timer?); killed`]
  }
  const problems: string[] = []
  if (finished.signal !== null) problems.push(`ended by ${finished.signal}`)
  else if (finished.exitCode !== 0) problems.push(`exit code ${finished.exitCode}`)
  if (finished.leftover) problems.push('left processes behind; killed')
  return problems
}

function summaryProblems(summaries: readonly Summary[], reasons: readonly string[]): string[] {
  const [summary] = summaries
  if (summary === undefined) return ['printed no summary: it never ran its tests to the end']
  if (summaries.length > 1) return ['printed more than one summary']
  const problems: string[] = []
  if (summary.passed !== summary.total) {
    problems.push(`${summary.passed} of ${summary.total} tests passed`)
  }
  if (summary.total === 0 && reasons.length === 0) problems.push('ran no test')
  if (summary.skipped > 0 && reasons.length === 0) {
    problems.push('skipped tests without a printed `SKIP <reason>` line (or uses .only)')
  }
  return problems
}

function readSummaries(text: string): Summary[] {
  const pattern =
    /^ {2}Total: {5}(\d+)\n(?:[^\n]*\n)*? {2}Passed: {4}(\d+)\n(?:[^\n]*\n)*? {2}Skipped: {3}(\d+)$/gm
  return [...text.matchAll(pattern)].map(([, total, passed, skipped]) => ({
    total: Number(total),
    passed: Number(passed),
    skipped: Number(skipped),
  }))
}

/** uvu prints its bullets without a newline, so a reason may follow them on one line. */
function readSkipReasons(text: string): string[] {
  return [...text.matchAll(/^(?:.*• )?SKIP (.+)$/gm)].map((match) => (match[1] ?? '').trim())
}

function stripColour(text: string): string {
  return text.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g'), '')
}
