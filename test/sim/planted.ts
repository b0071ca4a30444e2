/**
 * Plants each bug of the table in a copy of the tree and lets the simulator look for it: the check of the checks. Prints what found
 * it, after how many seeds and how long. `npx tsx test/sim/planted.ts [--seconds S] [--only WORDS,..] [--from SEED] [--share N]`; exit
 * code 1 when one was not found.
 */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PLANTED_BUGS, type PlantedBug } from './planted-bugs.ts'
import type { JsonReport } from './report.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COPIED = ['node', 'client', 'test/sim', 'package.json', 'tsconfig.json', 'tsconfig.base.json']

export interface Hunt {
  readonly bug: PlantedBug
  /** Null: not within the time. */
  readonly found: { readonly kind: string; readonly check: string; readonly seed: number } | null
  readonly seeds: number
  readonly seconds: number
  readonly simulatedSeconds: number
}

/** Throws when the text to change does not stand in the file exactly once. */
export function plant(bug: PlantedBug, source: string): string {
  const parts = source.split(bug.find)
  if (parts.length !== 2) {
    throw new Error(`${bug.file} holds the text of "${bug.name}" ${parts.length - 1} times`)
  }
  return parts.join(bug.replace)
}

/** Looks for one bug for so many seconds, in one process. */
export async function hunt(
  bug: PlantedBug,
  how: { readonly seconds: number; readonly from: number },
): Promise<Hunt> {
  const copy = mkdtempSync(join(tmpdir(), 'rp-bug-'))
  try {
    for (const path of COPIED) cpSync(join(ROOT, path), join(copy, path), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
    const target = join(copy, bug.file)
    writeFileSync(target, plant(bug, readFileSync(target, 'utf8')))
    const report = await simulate(copy, bug, how)
    const [finding] = report.findings
    const counts = finding !== undefined && (bug.check ?? finding.check) === finding.check
    return {
      bug,
      found: counts ? { kind: finding.kind, check: finding.check, seed: finding.seed } : null,
      seeds: report.seeds,
      seconds: report.wallSeconds,
      simulatedSeconds: report.simulatedSeconds,
    }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

function simulate(
  copy: string,
  bug: PlantedBug,
  { seconds, from }: { readonly seconds: number; readonly from: number },
): Promise<JsonReport> {
  const args = [
    ...['--json', '--no-record', '--workers', '1', '--findings-max', '1'],
    ...['--seeds', `${from}..${from + 2 ** 24}`, '--minutes', String(seconds / 60)],
    ...['--preset', bug.preset ?? 'default'],
  ]
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', join(copy, 'test/sim/cli.ts'), ...args],
    { cwd: copy, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let output = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    output += text
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => {
      try {
        resolve(JSON.parse(output) as JsonReport)
      } catch {
        reject(new Error(`the simulator did not report on "${bug.name}": ${output}`))
      }
    })
  })
}

export function row({ bug, found, seeds, seconds }: Hunt): string {
  const by = found === null ? 'NOT FOUND' : `${found.kind}: ${found.check}`
  const effort = `${String(seeds).padStart(6)} seeds ${seconds.toFixed(1).padStart(6)} s`
  return `${effort}  ${by.slice(0, 44).padEnd(44)}  ${bug.name} (${bug.breaks})`
}

/** All of them, on all cores. */
export async function huntAll(
  bugs: readonly PlantedBug[],
  how: { readonly seconds: number; readonly from: number; readonly told: (hunt: Hunt) => void },
): Promise<Hunt[]> {
  const waiting = [...bugs]
  const hunts: Hunt[] = []
  const lane = async (): Promise<void> => {
    for (let bug = waiting.shift(); bug !== undefined; bug = waiting.shift()) {
      const done = await hunt(bug, how)
      hunts.push(done)
      how.told(done)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, lane))
  return hunts
}

/** Every `share`-th one, beginning anywhere: each run of a bounded share looks for others, and says for which. */
function shareOf(bugs: readonly PlantedBug[], share: number): readonly PlantedBug[] {
  if (share <= 1) return bugs
  const first = randomInt(share)
  console.log(`every ${share}th of ${bugs.length} planted bugs, from number ${first + 1} on`)
  return bugs.filter((_, at) => at % share === first)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '120' },
      only: { type: 'string', default: '' },
      from: { type: 'string', default: '1' },
      share: { type: 'string', default: '1' },
    },
  })
  const words = values.only.split(',')
  const chosen = PLANTED_BUGS.filter(({ name }) => words.some((word) => name.includes(word)))
  const bugs = shareOf(chosen, Number(values.share))
  const hunts = await huntAll(bugs, {
    seconds: Number(values.seconds),
    from: Number(values.from),
    told: (done) => console.log(row(done)),
  })
  const missed = hunts.filter(({ found }) => found === null)
  console.log(`${hunts.length - missed.length} of ${hunts.length} planted bugs found`)
  return missed.length === 0 && hunts.length > 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main()
