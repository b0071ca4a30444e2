/**
 * `npm run sim -- ...`: runs worlds, one seed or many, on all cores, and says what was found and what was reached.
 *
 *   --seed N              one world; its options are printed first
 *   --seeds A..B          these worlds
 *   --minutes M           fresh worlds until the time is over
 *   --preset NAME         lite, default or hell
 *   --nodes N             so many founders, and nobody else
 *   --trace               the story of the one seed
 *   --history FILE        what its clients saw, as JSON lines
 *   --workers N           processes; default one for each core
 *   --json                one JSON object at the end and nothing else
 *   --findings-max N      stop after so many findings; default 3
 *   --no-record           findings are not written to seeds.txt
 *
 * Exit codes: 0 nothing found, 2 wrong usage, 10 crash, 11 liveness, 12 correctness (of the first finding).
 */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { appendFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { bundleWorker } from './bundle.ts'
import { EXIT_CODES, type FailureKind } from './failure.ts'
import { writeHistory } from './history.ts'
import { drawOptions, PRESETS, type Preset } from './options.ts'
import { jsonReport, repeatLine, textReport } from './report.ts'
import { addTally, emptyTally, type Finding, type Tally } from './tally.ts'
import type { WorkerTask } from './worker.ts'
import { SimWorld } from './world.ts'

const SEEDS_FILE = fileURLToPath(new URL('./seeds.txt', import.meta.url))
const TWICE_EVERY = 64
const COUNT_MAX = 2 ** 31

interface Wanted {
  readonly preset: Preset
  readonly nodes: number | null
  readonly seed: number | null
  readonly range: readonly [number, number] | null
  readonly minutes: number | null
  readonly trace: boolean
  readonly history: string | null
  readonly workers: number
  readonly json: boolean
  readonly findingsMax: number
  readonly record: boolean
}

class Usage extends Error {}

function integer(name: string, text: string | undefined): number | null {
  if (text === undefined) return null
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Usage(`--${name} takes a whole number`)
  return value
}

function readArguments(argv: readonly string[]): Wanted {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      minutes: { type: 'string' },
      preset: { type: 'string', default: 'default' },
      nodes: { type: 'string' },
      trace: { type: 'boolean', default: false },
      history: { type: 'string' },
      workers: { type: 'string' },
      json: { type: 'boolean', default: false },
      'findings-max': { type: 'string' },
      'no-record': { type: 'boolean', default: false },
    },
  })
  const preset = values.preset as Preset
  if (!PRESETS.includes(preset)) throw new Usage(`--preset is one of ${PRESETS.join(', ')}`)
  const range = values.seeds === undefined ? null : /^(\d+)\.\.(\d+)$/.exec(values.seeds)
  if (values.seeds !== undefined && range === null) throw new Usage('--seeds takes A..B')
  const minutes = values.minutes === undefined ? null : Number(values.minutes)
  if (minutes !== null && !(minutes > 0)) throw new Usage('--minutes takes a number above 0')
  const seed = integer('seed', values.seed)
  if (seed === null && (values.trace || values.history !== undefined)) {
    throw new Usage('--trace and --history go with --seed')
  }
  return {
    preset,
    nodes: integer('nodes', values.nodes),
    seed,
    range: range === null ? null : [Number(range[1]), Number(range[2])],
    minutes,
    trace: values.trace,
    history: values.history ?? null,
    workers: integer('workers', values.workers) ?? availableParallelism(),
    json: values.json,
    findingsMax: integer('findings-max', values['findings-max']) ?? 3,
    record: !values['no-record'],
  }
}

/** One world in this process. */
function runOne(wanted: Wanted, seed: number): Tally {
  const options = drawOptions(seed, wanted.preset, wanted.nodes)
  const say = wanted.json ? () => {} : (text: string) => console.log(text)
  say(JSON.stringify(options, null, 1))
  const startedAt = process.cpuUsage()
  const result = new SimWorld(options, wanted.trace ? say : null).run()
  const tally = emptyTally()
  const used = process.cpuUsage(startedAt)
  tally.cpuSeconds = (used.user + used.system) / 1e6
  tally.seeds = 1
  tally.simulatedUs = result.simulatedUs
  tally.operations = result.operations
  tally.entries = result.entries
  tally.leaders = result.leaders
  for (const [name, count] of result.counts) tally.counts[name] = count
  if (result.failure !== null) {
    const { preset, nodes } = wanted
    tally.findings.push({ seed, preset, nodes, ...result.failure })
  }
  if (wanted.history !== null) writeFileSync(wanted.history, writeHistory(result.history))
  say(`hash ${result.hash}`)
  return tally
}

/** Many worlds, in processes of their own. */
async function runMany(wanted: Wanted): Promise<Tally> {
  const [from, to] = wanted.range ?? [randomInt(2 ** 32), null]
  const count = to === null ? COUNT_MAX : to - from + 1
  const minutes = wanted.minutes ?? (to === null ? 1 : 24 * 60)
  const deadlineMs = Date.now() + minutes * 60_000
  const tally = emptyTally()
  if (!wanted.json) {
    const until = to === null ? `${minutes} minutes from seed ${from} on` : `seeds ${from}..${to}`
    console.log(`${until}, preset ${wanted.preset}, ${wanted.workers} processes`)
  }
  const tasks = Array.from(
    { length: wanted.workers },
    (_, i): WorkerTask => ({
      from: from + i,
      step: wanted.workers,
      count: Math.ceil((count - i) / wanted.workers),
      deadlineMs,
      preset: wanted.preset,
      nodes: wanted.nodes,
      twiceEvery: TWICE_EVERY,
      findingsMax: wanted.findingsMax,
    }),
  )
  const hear = (news: Tally): void => {
    addTally(tally, news)
    if (!wanted.json) for (const finding of news.findings) console.log(shown(finding))
  }
  const worker = await bundleWorker()
  try {
    await Promise.all(tasks.map((task) => work(worker.args, task, hear)))
  } finally {
    worker.remove()
  }
  return tally
}

function shown(finding: Finding): string {
  const { seed, kind, check, what } = finding
  return `\nFOUND seed ${seed}: ${kind} (${check})\n${what}\n  ${repeatLine(finding)}\n`
}

function work(
  worker: readonly string[],
  task: WorkerTask,
  hear: (news: Tally) => void,
): Promise<void> {
  const child = spawn(process.execPath, [...worker, JSON.stringify(task)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let rest = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    for (const line of lines) hear(JSON.parse(line) as Tally)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`a worker ended with ${code}`))
    })
  })
}

function record(findings: readonly Finding[]): void {
  const lines = findings.map(
    ({ seed, preset, nodes, kind, check }) =>
      `${seed} ${preset} ${nodes ?? '-'} # ${kind}: ${check}\n`,
  )
  if (lines.length > 0) appendFileSync(SEEDS_FILE, lines.join(''))
}

async function main(): Promise<number> {
  let wanted: Wanted
  try {
    wanted = readArguments(process.argv.slice(2))
  } catch (error) {
    console.error((error as Error).message)
    return 2
  }
  const startedMs = Date.now()
  const tally = wanted.seed === null ? await runMany(wanted) : runOne(wanted, wanted.seed)
  const wallSeconds = (Date.now() - startedMs) / 1000
  if (wanted.record && wanted.seed === null) record(tally.findings)
  if (wanted.json) console.log(JSON.stringify(jsonReport(tally, wallSeconds)))
  else console.log(textReport(tally, wallSeconds))
  const [first] = tally.findings
  return first === undefined ? 0 : (EXIT_CODES[first.kind as FailureKind] ?? 1)
}

process.exitCode = await main()
