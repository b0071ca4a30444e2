// timeout: 120 s
/**
 * Every interleaving of messages, saves, losses and crashes for a few nodes, on the real rules; the same with planted bugs,
 * each of which must be found; and the reductions of the walk, against the walk without them. The worlds that take
 * longer: npx tsx test/sim/founding-exhaustive.ts (docs/testing.md, "Founding, exhaustively").
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { decide } from '../../node/founding/rules.ts'
import { plantedBugs, wipedWithF8 } from '../support/founding-bugs.ts'
import { walkFolded } from '../support/founding-folded.ts'
import type { NodeSpec, Rules, Verdict } from '../support/founding-model.ts'
import { walkSteps } from '../support/founding-steps.ts'
import { isAsExpected, walkWorld, worlds } from '../support/founding-worlds.ts'

const two: NodeSpec = { expect: 2 }
const three: NodeSpec = { expect: 3 }
const guest: NodeSpec = { expect: 2, mayFound: false }

function report(name: string, { states, kindStates, complete, violation }: Verdict): void {
  const end = complete ? 'all' : 'the first'
  process.stdout.write(`  ${name}: ${end} ${states} states, ${kindStates} kind states\n`)
  if (violation === null) return
  process.stdout.write(`    ${violation.what}\n`)
  for (const step of violation.trace) process.stdout.write(`      ${step}\n`)
}

const exhaustive = suite('founding, every interleaving')

for (const named of worlds.filter(({ quick }) => quick)) {
  exhaustive(named.name, () => {
    const verdict = walkWorld(named)
    report(named.name, verdict)
    assert.is(isAsExpected(named, verdict), null)
  })
}

for (const [count, statesMax] of [
  [4, 10_000],
  [5, 3_000],
] as const) {
  exhaustive(`N=3, ${count} candidates, 3 rounds: nothing wrong in the first states`, () => {
    const nodes = Array.from({ length: count }, () => three)
    const verdict = walkFolded({ nodes, roundsMax: 3 }, { statesMax, forget: true })
    report(`N=3, ${count} candidates, 3 rounds`, verdict)
    assert.is(verdict.violation, null)
    assert.ok(verdict.states >= statesMax)
  })
}

exhaustive('the walk is not empty: it reaches foundings, refusals and drops', () => {
  const rulesSeen = new Set<string>()
  const rules: Rules = (own, view) => {
    const decision = decide(own, view)
    rulesSeen.add(decision.rule)
    return decision
  }
  walkFolded({ nodes: [two, guest, two], roundsMax: 2, rules })
  assert.equal([...rulesSeen].sort(), ['F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'none'])
})

exhaustive.run()

const reductions = suite('founding, the walk leaves nothing out')

reductions('folded, it reaches the same histories as in single steps', () => {
  for (const world of [
    { nodes: [two, two], roundsMax: 4 },
    { nodes: [{ expect: 1 }, guest], roundsMax: 3 },
    { nodes: [two, guest, two], roundsMax: 1 },
    { nodes: [two, two, two], roundsMax: 1 },
  ]) {
    const [folded, single] = [new Set<string>(), new Set<string>()]
    const few = walkFolded(world, { histories: folded })
    const many = walkSteps(world, { histories: single })
    assert.ok(few.complete && many.complete && many.states > few.states)
    assert.equal([...folded].sort(), [...single].sort())
  }
})

reductions('what is left out decides nothing', () => {
  for (const world of [
    { nodes: [two, two, two], roundsMax: 4 },
    { nodes: [three, three, three, three], roundsMax: 2 },
    { nodes: [three, two, two], roundsMax: 3 },
    { nodes: [two, { ...two, restartsAs: [guest] }, two], roundsMax: 2, mayWait: true },
  ]) {
    const [all, needed] = [new Set<string>(), new Set<string>()]
    const many = walkFolded(world, { durable: all, forget: 'compare' })
    const few = walkFolded(world, { durable: needed, forget: true })
    assert.is(many.violation, null)
    assert.ok(few.complete && many.complete && many.states > few.states)
    assert.is(few.kindStates, many.kindStates)
    const oneBound = [...all].filter((text) => text.split(/founded|joined/).length <= 2)
    assert.equal([...needed].sort(), oneBound.sort())
  }
})

reductions.run()

const mutants = suite('founding, planted bugs')

for (const { name, world, finds } of plantedBugs) {
  mutants(name, () => {
    const verdict = walkFolded(world)
    report(name, verdict)
    assert.match(verdict.violation?.what ?? 'nothing found', finds)
  })
}

mutants('F8 stops a node whose disk was rolled back before it can found twice', () => {
  const verdict = walkFolded(wipedWithF8)
  report('wiped, with F8', verdict)
  assert.match(verdict.violation?.what ?? 'nothing found', /F8/)
})

mutants.run()
