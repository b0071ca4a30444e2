// timeout: 120 s
/**
 * Every interleaving of messages, saves and crashes for a few nodes, on the real rules; and the same walk with planted
 * bugs, each of which it must find (docs/founding.md, "How it is checked").
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { foundersOf } from '../../node/founding/record.ts'
import { decide, hasPledged } from '../../node/founding/rules.ts'
import {
  type NodeSpec,
  type Rules,
  type Verdict,
  type World,
  walk,
} from '../support/founding-model.ts'

const two: NodeSpec = { expect: 2 }
const three: NodeSpec = { expect: 3 }
const guest: NodeSpec = { expect: 2, mayFound: false }
const named: NodeSpec = { expect: 2, founders: [0, 2] }

function report(name: string, verdict: Verdict): void {
  const { states, kindStates, complete, violation } = verdict
  const end = complete ? 'all' : 'the first'
  process.stdout.write(`  ${name}: ${end} ${states} states, ${kindStates} kind states\n`)
  if (violation !== null) {
    process.stdout.write(`    ${violation.what}\n`)
    for (const step of violation.trace) process.stdout.write(`      ${step}\n`)
  }
}

const exhaustive = suite('founding, every interleaving')

const worlds: Record<string, World> = {
  'N=2, 2 candidates, a crash at every step': {
    nodes: [two, two],
    roundsMax: 4,
    stepwise: true,
  },
  'N=2, 3 candidates, a crash at every step': {
    nodes: [two, two, two],
    roundsMax: 2,
    stepwise: true,
  },
  'N=2, 2 candidates and an invited node': { nodes: [two, guest, two], roundsMax: 3 },
  'N=2 beside a node that expects 3': { nodes: [three, two, two], roundsMax: 1 },
  'the same two founders named on four nodes': {
    nodes: [named, named, named, named],
    roundsMax: 2,
  },
  'two founders named, beside a node that names none': {
    nodes: [named, two, named],
    roundsMax: 1,
  },
  'N=1 alone, and a guest': { nodes: [{ expect: 1 }, guest], roundsMax: 3, stepwise: true },
  'N=3, 3 candidates': { nodes: [three, three, three], roundsMax: 2 },
}

for (const [name, world] of Object.entries(worlds)) {
  exhaustive(`${name}: one cluster at most, and a kind world always ends founded`, () => {
    const verdict = walk(world)
    report(name, verdict)
    assert.is(verdict.violation, null)
    assert.ok(verdict.complete)
  })
}

exhaustive('N=3, 4 candidates: nothing wrong in the first 100,000 states', () => {
  const verdict = walk({ nodes: [three, three, three, three], roundsMax: 2, statesMax: 100_000 })
  report('N=3, 4 candidates', verdict)
  assert.is(verdict.violation, null)
  assert.is(verdict.states, 100_000)
})

exhaustive('the walk is not empty: it reaches foundings, refusals and drops', () => {
  const rulesSeen = new Set<string>()
  const rules: Rules = (own, view) => {
    const decision = decide(own, view)
    rulesSeen.add(decision.rule)
    return decision
  }
  walk({ nodes: [two, guest, two], roundsMax: 2, rules })
  assert.equal([...rulesSeen].sort(), ['F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'none'])
})

exhaustive.run()

/** What a planted bug must lead to when rule F8 does not catch it first. */
const mutants = suite('founding, planted bugs')

const candidates = { nodes: [two, two, two], roundsMax: 2, kind: false, ignoreF8: true }

function finds(name: string, world: World, wrong: RegExp): void {
  mutants(name, () => {
    const verdict = walk(world)
    report(name, verdict)
    assert.match(verdict.violation?.what ?? 'nothing found', wrong)
  })
}

const dropWhen =
  (condition: (...args: Parameters<Rules>) => boolean): Rules =>
  (own, view) => {
    const decision = decide(own, view)
    if (decision.rule !== 'none' || own.pledge === null || own.bound !== null) return decision
    if (!condition(own, view)) return decision
    return { rule: 'F5', record: { ...own, seq: own.seq + 1, pledge: null } }
  }

finds(
  'a pledge dropped after a timeout',
  { ...candidates, rules: dropWhen(() => true) },
  /two clusters/,
)

finds(
  'an own offer withdrawn',
  {
    ...candidates,
    rules: dropWhen((own, view) => own.pledge?.proposer === view.self.nodeKey),
  },
  /two clusters/,
)

finds(
  'founded with N-1 pledges',
  {
    ...candidates,
    rules: (own, view) => {
      const offer = own.pledge
      if (offer === null || own.bound !== null) return decide(own, view)
      const evidence = [...view.others, { ...view.self, record: own }]
      const founders = foundersOf(offer)
      const pledged = founders.filter((founder) => hasPledged(founder, offer, evidence))
      const enough = pledged.length >= founders.length - 1
      return enough ? { rule: 'F6', offer } : decide(own, view)
    },
  },
  /two clusters/,
)

finds(
  'the floor forgotten with the pledge',
  {
    ...candidates,
    rules: (own, view) => {
      const decision = decide(own, view)
      if (decision.rule !== 'F5') return decision
      return { rule: 'F5', record: { ...decision.record, floor: 0 } }
    },
  },
  /two clusters/,
)

finds(
  'a record told before it is durable',
  { ...candidates, stepwise: true, sendBeforeSave: true },
  /two clusters/,
)

finds('a wiped disk that keeps its identity', { ...candidates, wipes: true }, /two clusters/)

finds(
  'an offer refused silently',
  {
    nodes: [two, guest, two],
    roundsMax: 2,
    rules: (own, view) => {
      const decision = decide(own, view)
      return decision.rule === 'F4' ? { rule: 'none' } : decision
    },
  },
  /ends unfounded/,
)

mutants('F8 stops a node whose disk was rolled back before it can found twice', () => {
  const verdict = walk({ ...candidates, wipes: true, ignoreF8: false })
  assert.match(verdict.violation?.what ?? 'nothing found', /F8/)
})

mutants.run()
