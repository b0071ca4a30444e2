// timeout: 120 s
/** Small random worlds in which the members change all the time, for the consensus core alone. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { membershipChaos } from '../support/membership-chaos.ts'

/** `MEMBERSHIP_SEEDS=5000` for a longer walk. */
const SEEDS = Number(process.env.MEMBERSHIP_SEEDS ?? '120')
const test = suite('membership chaos')

for (const [size, blanks] of [
  [1, 3],
  [2, 3],
  [3, 3],
  [5, 2],
] as const) {
  test(`${size} founders and ${blanks} others through ${SEEDS} random worlds`, () => {
    const sum: Record<string, number> = {}
    const count = (key: string, value: number) => {
      sum[key] = (sum[key] ?? 0) + value
    }
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { refused, ...report } = membershipChaos({
        seed: seed * 31 + size,
        size,
        blanks,
        steps: 4000,
      })
      for (const [key, value] of Object.entries(report)) count(key, value as number)
      for (const [code, value] of Object.entries(refused)) count(code, value)
    }
    console.log(`${size} founders: ${JSON.stringify(sum)}`)
    // A walk that changes nobody would prove nothing.
    const atLeast = (key: string, least: number) =>
      assert.ok((sum[key] ?? 0) >= least, `${key}: ${sum[key]}`)
    for (const key of ['leaders', 'joint', 'crashes', 'busy']) atLeast(key, SEEDS)
    for (const key of ['lost', 'leftOffice', 'unsafe', 'not-leader', 'compare-failed']) {
      atLeast(key, SEEDS / 12)
    }
    atLeast('configurations', 3 * SEEDS)
  })
}

test.run()
