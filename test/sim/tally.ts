/** What many seeds together have shown: sums, and the findings. */
import type { Preset } from './options.ts'
import type { SimResult } from './world.ts'

export interface Finding {
  readonly seed: number
  readonly preset: Preset
  /** As given by --nodes, or null. */
  readonly nodes: number | null
  readonly kind: string
  readonly check: string
  readonly what: string
}

export interface Tally {
  seeds: number
  simulatedUs: number
  /** Seconds of processor time. */
  cpuSeconds: number
  operations: number
  entries: number
  leaders: number
  /** Seeds that were run twice, and had the same hash both times. */
  twice: number
  readonly counts: Record<string, number>
  readonly findings: Finding[]
}

export function emptyTally(): Tally {
  return {
    seeds: 0,
    simulatedUs: 0,
    cpuSeconds: 0,
    operations: 0,
    entries: 0,
    leaders: 0,
    twice: 0,
    counts: {},
    findings: [],
  }
}

export function addResult(tally: Tally, result: SimResult): void {
  tally.seeds++
  tally.simulatedUs += result.simulatedUs
  tally.operations += result.operations
  tally.entries += result.entries
  tally.leaders += result.leaders
  for (const [name, count] of result.counts) {
    tally.counts[name] = (tally.counts[name] ?? 0) + count
  }
}

export function addTally(tally: Tally, other: Tally): void {
  tally.seeds += other.seeds
  tally.simulatedUs += other.simulatedUs
  tally.cpuSeconds += other.cpuSeconds
  tally.operations += other.operations
  tally.entries += other.entries
  tally.leaders += other.leaders
  tally.twice += other.twice
  for (const [name, count] of Object.entries(other.counts)) {
    tally.counts[name] = (tally.counts[name] ?? 0) + count
  }
  tally.findings.push(...other.findings)
}
