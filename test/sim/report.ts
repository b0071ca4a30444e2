/** How the result of a run is told, to a person and to a program. */
import { marksInCode } from './marks-in-code.ts'
import type { Finding, Tally } from './tally.ts'

const MARK = 'mark '

export interface JsonReport {
  readonly seeds: number
  readonly findings: readonly (Finding & { readonly repeat: string })[]
  readonly simulatedSeconds: number
  readonly wallSeconds: number
  readonly cpuSeconds: number
  readonly operations: number
  readonly entries: number
  readonly leaders: number
  readonly runTwice: number
  /** How often each kind was injected. */
  readonly faults: Readonly<Record<string, number>>
  /** How often each rare path was reached, 0 for those that none was. */
  readonly marks: Readonly<Record<string, number>>
  /** Whatever else was counted: errors that clients met, nodes that ended. */
  readonly counts: Readonly<Record<string, number>>
}

export function repeatLine({ seed, preset, nodes }: Finding): string {
  const size = nodes === null ? '' : ` --nodes ${nodes}`
  return `npm run sim -- --seed ${seed} --preset ${preset}${size} --trace`
}

export function jsonReport(tally: Tally, wallSeconds: number): JsonReport {
  const faults: Record<string, number> = {}
  const marks: Record<string, number> = Object.fromEntries(marksInCode().map((name) => [name, 0]))
  const counts: Record<string, number> = {}
  for (const name of Object.keys(tally.counts).sort()) {
    const count = tally.counts[name] as number
    if (name.startsWith(MARK)) marks[name.slice(MARK.length)] = count
    else if (name.startsWith('fault: ')) faults[name.slice('fault: '.length)] = count
    else if (name.startsWith('network: ')) faults[name.slice('network: '.length)] = count
    else counts[name] = count
  }
  return {
    seeds: tally.seeds,
    findings: tally.findings.map((finding) => ({ ...finding, repeat: repeatLine(finding) })),
    simulatedSeconds: Math.round(tally.simulatedUs / 1e6),
    wallSeconds: Math.round(wallSeconds * 10) / 10,
    cpuSeconds: Math.round(tally.cpuSeconds * 10) / 10,
    operations: tally.operations,
    entries: tally.entries,
    leaders: tally.leaders,
    runTwice: tally.twice,
    faults,
    marks,
    counts,
  }
}

export function textReport(tally: Tally, wallSeconds: number): string {
  const report = jsonReport(tally, wallSeconds)
  const { seeds, simulatedSeconds, cpuSeconds } = report
  const perCpu = Math.round(simulatedSeconds / Math.max(cpuSeconds, 0.001))
  const perWall = Math.round(simulatedSeconds / Math.max(wallSeconds, 0.001))
  const rows = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `  ${String(count).padStart(9)}  ${name}`)
      .join('\n')
  const unreached = Object.entries(report.marks).filter(([, count]) => count === 0)
  return [
    `faults\n${rows(report.faults)}`,
    `what clients and nodes met\n${rows(report.counts)}`,
    `rare paths reached\n${rows(report.marks)}`,
    unreached.length === 0
      ? 'every mark was reached'
      : `NOT REACHED: ${unreached.map(([name]) => name).join('; ')}`,
    `${seeds} seeds, ${simulatedSeconds} simulated s in ${wallSeconds.toFixed(1)} s: ` +
      `${perCpu} simulated s per s of processor time, ${perWall} per s of wall time`,
    `${report.operations} operations, ${report.entries} entries, ${report.leaders} leaders, ` +
      `${report.runTwice} seeds run twice with the same hash`,
    // Said again at the end: whoever sees only the last of a long output sees how to repeat them.
    ...tally.findings.map((finding) => `FOUND ${finding.check}: ${repeatLine(finding)}`),
    `${tally.findings.length} findings`,
  ].join('\n')
}
