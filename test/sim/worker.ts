/**
 * Runs seeds one after the other until its share is done or its time is over, and tells what it found in JSON lines: a tally about
 * once a second, and at the end. Started by cli.ts, one for each core.
 */
import { drawOptions, type Preset } from './options.ts'
import { addResult, emptyTally, type Tally } from './tally.ts'
import { type SimResult, SimWorld } from './world.ts'

export interface WorkerTask {
  readonly from: number
  readonly step: number
  /** How many seeds at most. */
  readonly count: number
  readonly deadlineMs: number
  readonly preset: Preset
  readonly nodes: number | null
  /** Every so many seeds one is run twice; 0: none. */
  readonly twiceEvery: number
  readonly findingsMax: number
}

const TELL_MS = 1000

function runSeed(task: WorkerTask, seed: number): SimResult {
  return new SimWorld(drawOptions(seed, task.preset, task.nodes)).run()
}

function judge(task: WorkerTask, seed: number, result: SimResult, tally: Tally): void {
  const { preset, nodes } = task
  if (result.failure !== null) {
    tally.findings.push({ seed, preset, nodes, ...result.failure })
  } else if (task.twiceEvery > 0 && seed % task.twiceEvery === 0) {
    const again = runSeed(task, seed)
    tally.twice++
    if (again.hash !== result.hash) {
      const what = `the same seed gave ${result.hash} and then ${again.hash}`
      tally.findings.push({ seed, preset, nodes, kind: 'correctness', check: 'determinism', what })
    }
  }
}

function main(task: WorkerTask): void {
  let tally = emptyTally()
  let found = 0
  let toldMs = Date.now()
  let cpu = process.cpuUsage()
  const tell = (): void => {
    const used = process.cpuUsage(cpu)
    cpu = process.cpuUsage()
    tally.cpuSeconds = (used.user + used.system) / 1e6
    process.stdout.write(`${JSON.stringify(tally)}\n`)
    tally = emptyTally()
    toldMs = Date.now()
  }
  for (let i = 0; i < task.count && found < task.findingsMax && Date.now() < task.deadlineMs; i++) {
    const seed = (task.from + i * task.step) % 2 ** 32
    const result = runSeed(task, seed)
    addResult(tally, result)
    judge(task, seed, result, tally)
    found += tally.findings.length
    if (tally.findings.length > 0 || Date.now() - toldMs >= TELL_MS) tell()
  }
  tell()
}

main(JSON.parse(process.argv[2] as string) as WorkerTask)
