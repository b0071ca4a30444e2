/**
 * How every property of this folder runs: fresh seeds each time, printed before anything else, so that a failure (a hang too) can
 * be repeated. `FUZZ_RUNS=10` runs each property ten times as often, `FUZZ_SEED=123` starts from a printed seed.
 */
import fc from 'fast-check'

/** A factor for every number of runs; below 1 it makes them fewer. */
const TIMES = Number(process.env.FUZZ_RUNS ?? '1')
if (!(TIMES > 0)) throw new Error('FUZZ_RUNS takes a number above 0')

/** What fast-check itself would draw. */
const given = process.env.FUZZ_SEED
export const SEED = given === undefined ? (Date.now() ^ (Math.random() * 2 ** 32)) | 0 : +given | 0

console.log(`FUZZ_SEED=${SEED} repeats this run`)

export function times(runs: number): number {
  return Math.max(1, Math.round(runs * TIMES))
}

/** Asserts a property. A failure names the seed, the path to the shrunk example, the example, and what was wrong with it. */
export function holds<Args>(property: fc.IProperty<Args>, runs: number): void {
  fc.assert(property, { numRuns: times(runs), seed: SEED, includeErrorInReport: true })
}

/** The same for a property that has to wait. */
export function holdsLater<Args>(property: fc.IAsyncProperty<Args>, runs: number): Promise<void> {
  return fc.assert(property, { numRuns: times(runs), seed: SEED, includeErrorInReport: true })
}
