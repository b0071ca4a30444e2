/**
 * Walks every interleaving of founding to its end, for the worlds of test/support/founding-worlds.ts and the planted bugs:
 *
 *   npx tsx test/sim/founding-exhaustive.ts [--world TEXT] [--minutes M] [--list]
 *
 * `--world` takes the worlds whose name contains the text; `--minutes` is the longest time for one world. Exit code 1 on
 * a violation, with its shortest trace, or when a planted bug is not found; 0 also when a world was cut short.
 */
import { parseArgs } from 'node:util'
import { plantedBugs, plantedInFour } from '../support/founding-bugs.ts'
import { walkFolded } from '../support/founding-folded.ts'
import type { Verdict } from '../support/founding-model.ts'
import { isAsExpected, type NamedWorld, walkWorld, worlds } from '../support/founding-worlds.ts'

const { values } = parseArgs({
  options: {
    world: { type: 'string', default: '' },
    minutes: { type: 'string', default: '60' },
    list: { type: 'boolean', default: false },
  },
})

function row(name: string, verdict: Verdict, startedMs: number, note: string): void {
  const { states, kindStates, complete } = verdict
  const end = complete ? 'complete' : 'not complete'
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1)
  const megabytes = Math.round(process.memoryUsage().rss / 1e6)
  const figures = `${states} states, ${kindStates} kind states, ${end}, ${seconds} s, ${megabytes} MB`
  console.log(`${name}: ${figures}${note === '' ? '' : `; ${note}`}`)
}

function showTrace({ violation }: Verdict): void {
  console.log(`  ${violation?.what ?? 'nothing found'}`)
  for (const step of violation?.trace ?? []) console.log(`    ${step}`)
}

function walkNamed(named: NamedWorld, minutes: number): boolean {
  const startedMs = Date.now()
  let cut = false
  const stop = () => {
    cut = Date.now() - startedMs > minutes * 60_000
    return cut
  }
  const verdict = walkWorld(named, { stop })
  const wrong = isAsExpected(named, verdict, cut)
  row(named.name, verdict, startedMs, wrong ?? verdict.waits.join(', '))
  if (wrong !== null || named.finds !== undefined) showTrace(verdict)
  return wrong === null
}

function main(): number {
  const chosen = worlds.filter(({ name }) => name.includes(values.world))
  const allBugs = [...plantedBugs, ...plantedInFour]
  const bugs = allBugs.filter(({ name }) => name.includes(values.world))
  if (values.list || chosen.length + bugs.length === 0) {
    for (const { name } of [...worlds, ...allBugs]) console.log(name)
    return values.list ? 0 : 1
  }
  let good = true
  for (const { name, world, finds } of bugs) {
    const startedMs = Date.now()
    const verdict = walkFolded(world)
    const found = finds.test(verdict.violation?.what ?? '')
    row(`bug: ${name}`, verdict, startedMs, found ? 'found' : 'NOT FOUND')
    showTrace(verdict)
    good &&= found
  }
  for (const named of chosen) {
    if (!walkNamed(named, Number(values.minutes))) good = false
  }
  return good ? 0 : 1
}

process.exitCode = main()
