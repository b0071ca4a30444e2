// timeout: 120 s
/**
 * Seeded worlds of founding nodes: loss, delay, reordering, cuts, crashes around every save, late and invited nodes. Never
 * two clusters; and once the world is kind, everybody is in one.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { decide } from '../../node/founding/rules.ts'
import type { FoundingOptions } from '../../node/founding.ts'
import { World, WorldError, type WorldOptions } from '../support/founding-world.ts'

const SEEDS = 100
const CRUEL_MS = 40_000
const KIND_MS = 120_000

/** Every size, number of candidates and of guests up to the promise of at most 2N-1 candidates. */
function optionsOf(seed: number): WorldOptions {
  const expect = seed % 10 === 0 ? 1 : 2 + (seed % 2)
  return {
    seed,
    expect,
    candidates: Math.max(expect, 2 * expect - 1 - (seed % 3 === 0 ? 1 : 0)),
    invited: seed % 5 === 0 ? 1 : 0,
    severity: (seed % 7) / 6,
    startMsMax: [0, 200, 2_000, 30_000][seed % 4] as number,
  }
}

/** Null when all went well, else what went wrong. */
function live(options: WorldOptions): { wrong: string | null; world: World } {
  const world = new World(options)
  try {
    world.run(CRUEL_MS)
    world.beKind()
    const until = Math.max(CRUEL_MS, options.startMsMax ?? 0) + KIND_MS
    if (!world.run(until, () => world.allBound() !== null)) {
      const records = world.machines.map((_, i) => JSON.stringify(world.recordOf(i)).slice(0, 120))
      return { wrong: `not founded in the kind world: ${records.join(' ')}`, world }
    }
    return { wrong: null, world }
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    return { wrong: error.message, world }
  }
}

const worlds = suite('founding in seeded worlds')

worlds(`${SEEDS} seeds: one cluster, everybody in it`, () => {
  let crashes = 0
  const taken: Record<string, number> = { F2: 0, F3: 0, F4: 0, F5: 0, F6: 0, F7: 0 }
  const counting: FoundingOptions['rules'] = (own, view) => {
    const decision = decide(own, view)
    if (decision.rule in taken) taken[decision.rule] = (taken[decision.rule] ?? 0) + 1
    return decision
  }
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { wrong, world } = live({ ...optionsOf(seed), rules: counting })
    crashes += world.crashes
    assert.is(wrong, null, `seed ${seed}: ${JSON.stringify(optionsOf(seed))}: ${wrong}`)
    assert.is(world.founded.size, 1)
  }
  process.stdout.write(`  ${crashes} crashes, ${JSON.stringify(taken)}\n`)
  assert.ok(crashes > SEEDS && Object.values(taken).every((count) => count > 0))
})

worlds('the same seed is the same world', () => {
  const ends = [1, 2].map(() => {
    const { world } = live(optionsOf(20))
    return JSON.stringify([world.nowMs, world.crashes, world.machines.map((m) => m.file)])
  })
  assert.is(ends[0], ends[1])
})

worlds('three nodes found within seconds when nothing fails', () => {
  const world = new World({ seed: 5, expect: 3, candidates: 3 })
  assert.ok(world.run(6_000, () => world.allBound() !== null))
  for (const machine of world.machines) {
    assert.is(machine.log?.entry1, [...world.founded.values()][0])
  }
})

worlds('late nodes and invited ones join what others founded', () => {
  const world = new World({ seed: 6, expect: 3, candidates: 5, invited: 2, startMsMax: 60_000 })
  assert.ok(world.run(90_000, () => world.allBound() !== null))
  const hows = world.machines.map((_, index) => world.recordOf(index).bound?.how)
  assert.equal(hows.filter((how) => how === 'founded').length, 3)
  assert.equal(hows.slice(5), ['joined', 'joined'])
})

worlds('invited nodes alone found nothing', () => {
  const world = new World({ seed: 7, expect: 2, candidates: 0, invited: 4 })
  world.run(60_000)
  assert.is(world.founded.size, 0)
})

worlds('too few nodes wait for ever, and half a founding waits for the rest', () => {
  const world = new World({ seed: 8, expect: 3, candidates: 2 })
  world.run(60_000)
  assert.is(world.founded.size, 0)

  const half = new World({ seed: 9, expect: 3, candidates: 3 })
  const pledged = () => half.machines.filter((_, i) => half.recordOf(i).pledge !== null).length
  assert.ok(half.run(20_000, () => pledged() >= 1))
  const last = half.machines.findLastIndex((_, i) => half.recordOf(i).pledge === null)
  assert.ok(last >= 0)
  const absent = half.machines[last]
  if (absent !== undefined) absent.startMs = 100_000
  half.crash(last)
  half.run(100_000)
  assert.is(half.founded.size, 0)
  assert.ok(
    half.run(130_000, () => half.allBound() !== null),
    'it came back, all found',
  )
})

worlds.run()

const mutants = suite('founding in seeded worlds, planted bugs')

function finds(name: string, planted: Partial<WorldOptions>, wrong: RegExp): void {
  mutants(name, () => {
    for (let seed = 1; seed <= 150; seed++) {
      const options = { ...optionsOf(seed), severity: 0.3 + (seed % 7) / 10, ...planted }
      const found = live(options).wrong
      if (found === null) continue
      process.stdout.write(`  ${name}: seed ${seed}: ${found.slice(0, 80)}\n`)
      assert.match(found, wrong)
      return
    }
    assert.unreachable('no seed found it')
  })
}

const rules = (mutant: NonNullable<FoundingOptions['rules']>) => ({ rules: mutant })

finds('a save reported before it is durable', { lyingDisk: true }, /two clusters|pledge|peer holds/)

finds(
  'a pledge dropped when nothing else is to do',
  rules((own, view) => {
    const decision = decide(own, view)
    if (decision.rule !== 'none' || own.pledge === null || own.bound !== null) return decision
    return { rule: 'F5', record: { ...own, seq: own.seq + 1, pledge: null } }
  }),
  /two clusters|pledge/,
)

finds(
  'founded without waiting for all',
  rules((own, view) => {
    if (own.pledge === null || own.bound !== null) return decide(own, view)
    return { rule: 'F6', offer: own.pledge }
  }),
  /two clusters|pledge/,
)

finds(
  'an offer refused silently',
  rules((own, view) => {
    const decision = decide(own, view)
    return decision.rule === 'F4' ? { rule: 'none' } : decision
  }),
  /not founded/,
)

mutants.run()
