// timeout: 240 s
/**
 * The simulator itself: seeds that once found something stay quiet, a seed tells the same story twice, each kind of failure is seen
 * as such, and the command line keeps its promises.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EXIT_CODES, SimFailure } from './failure.ts'
import { readHistory } from './history.ts'
import { checkLinearizable } from './linearizable.ts'
import { marksInCode } from './marks-in-code.ts'
import { drawOptions, FAULT_KINDS, PRESETS, type Preset } from './options.ts'
import type { JsonReport } from './report.ts'
import { SimWorld } from './world.ts'

const CLI = fileURLToPath(new URL('./cli.ts', import.meta.url))
const SEEDS = fileURLToPath(new URL('./seeds.txt', import.meta.url))

function run(seed: number, preset: Preset, nodes: number | null = null) {
  return new SimWorld(drawOptions(seed, preset, nodes)).run()
}

const replay = suite('seeds.txt')

for (const line of readFileSync(SEEDS, 'utf8').split('\n')) {
  const [, seed, preset, nodes] = /^(\d+) (\w+) (\d+|-) #/.exec(line) ?? []
  if (seed === undefined) continue
  replay(line, () => {
    const { failure } = run(Number(seed), preset as Preset, nodes === '-' ? null : Number(nodes))
    assert.is(failure, null)
  })
}

replay('each line is a seed or a comment', () => {
  const lines = readFileSync(SEEDS, 'utf8').trimEnd().split('\n')
  assert.ok(lines.length > 0)
  for (const line of lines) assert.match(line, /^(#|\d+ (lite|default|hell) (\d+|-) # .+)/)
})

const worlds = suite('worlds')

for (const preset of PRESETS) {
  worlds(`${preset}: some worlds, and the same seed twice is the same story`, () => {
    for (const seed of [11, 12, 13]) {
      const first = run(seed, preset)
      assert.is(first.failure, null, `seed ${seed}: ${first.failure?.what}`)
      const second = run(seed, preset)
      assert.is(second.hash, first.hash)
      assert.equal(second.history, first.history)
    }
    assert.is.not(run(11, preset).hash, run(12, preset).hash)
  })
}

worlds('options: every fault is drawn in some world, and left out in some', () => {
  const drawn = Array.from({ length: 50 }, (_, seed) => drawOptions(seed, 'default').faults)
  for (const kind of FAULT_KINDS) {
    assert.ok(
      drawn.some((faults) => faults[kind] > 0) && drawn.some((faults) => faults[kind] === 0),
    )
  }
  for (let seed = 0; seed < 200; seed++) {
    const { candidates, expect } = drawOptions(seed, 'default')
    assert.ok(candidates >= expect && candidates <= 2 * expect - 1)
  }
})

worlds('a history that clients saw is written down as it was judged', () => {
  const directory = mkdtempSync(join(tmpdir(), 'rp-sim-'))
  const file = join(directory, 'history.jsonl')
  const { status } = simulate('--seed', '11', '--json', '--history', file)
  assert.is(status, 0)
  const history = readHistory(readFileSync(file, 'utf8'))
  assert.equal(history, run(11, 'default').history)
  assert.is(checkLinearizable(history).ok, true)
  rmSync(directory, { recursive: true })
})

const seen = suite('what a failure is')

/** A world whose state machines count how often they were asked, and do something bad at some point. */
function broken(wreck: (world: SimWorld) => void): SimFailure['kind'] | undefined {
  const world = new SimWorld(drawOptions(11, 'lite', 3))
  world.timeline.after(12_000_000, () => wreck(world))
  return world.run().failure?.kind
}

seen('an exception in a node is a crash', () => {
  const kind = broken((world) => {
    world.machines[0]?.process?.run(() => {
      throw new Error('planted')
    })
  })
  assert.is(kind, 'crash')
})

seen('a check that fails is a matter of correctness', () => {
  const kind = broken((world) => {
    world.machines[0]?.process?.run(() => {
      throw new SimFailure('correctness', 'planted', 'planted')
    })
  })
  assert.is(kind, 'correctness')
})

seen('a cluster that never agrees again is a matter of liveness', () => {
  const kind = broken((world) => {
    // The disks take longer than an election for ever, whatever is mended.
    for (const { mood } of world.machines) {
      Object.defineProperty(mood, 'writeUsMin', { get: () => 40_000_000, set: () => {} })
      Object.defineProperty(mood, 'writeUsMax', { get: () => 40_000_000, set: () => {} })
    }
  })
  assert.is(kind, 'liveness')
})

seen('each kind has an exit code of its own', () => {
  assert.is(new Set(Object.values(EXIT_CODES)).size, 3)
  assert.not.ok(Object.values(EXIT_CODES).some((code) => code < 3))
})

const commandLine = suite('command line')

function simulate(...args: string[]) {
  return spawnSync(process.execPath, ['--import', 'tsx', CLI, ...args], { encoding: 'utf8' })
}

commandLine('--seeds with --json is one object with all that was asked for', () => {
  const { status, stdout } = simulate('--seeds', '1..8', '--json', '--workers', '2')
  const report = JSON.parse(stdout) as JsonReport
  assert.is(status, 0)
  assert.is(report.seeds, 8)
  assert.equal(report.findings, [])
  assert.ok(report.simulatedSeconds > 100 && report.wallSeconds > 0)
  assert.ok((report.faults.loss ?? 0) > 0)
  assert.equal(Object.keys(report.marks).sort(), marksInCode())
})

commandLine('--trace tells the story of one seed, its options first', () => {
  const { status, stdout } = simulate('--seed', '5', '--nodes', '3', '--preset', 'lite', '--trace')
  assert.is(status, 0)
  assert.is(stdout.indexOf('"seed": 5'), stdout.indexOf('"seed"'))
  assert.match(stdout, /ms {2}n\d -> n\d append term \d+ after/)
  assert.match(stdout, /KIND from here on/)
  assert.match(stdout, /0 findings/)
})

commandLine('what cannot be meant is exit code 2', () => {
  for (const args of [
    ['--preset', 'cosy'],
    ['--seeds', '5'],
    ['--minutes', '0'],
    ['--trace'],
    ['--x'],
  ]) {
    assert.is(simulate(...args).status, 2, args.join(' '))
  }
})

const marks = suite('marks')

marks('every name stands in one place, as `part: what happened`', () => {
  const names = marksInCode()
  assert.ok(names.length > 30)
  assert.equal(names, [...new Set(names)])
  for (const name of names) assert.match(name, /^[a-z][a-z ]*: .+/)
})

replay.run()
worlds.run()
seen.run()
commandLine.run()
marks.run()
