/**
 * The worlds that are walked (docs/testing.md, "Founding, exhaustively"), by name. `quick` ones are walked to their end in
 * test/unit, all of them by test/sim/founding-exhaustive.ts.
 */
import { walkFolded } from './founding-folded.ts'
import type { Flags, Limits, NodeSpec, Verdict, World } from './founding-model.ts'
import { walkSteps } from './founding-steps.ts'

export interface NamedWorld {
  readonly name: string
  readonly world: World
  /** Each message, save and crash as a step of its own. */
  readonly steps?: boolean
  /** Without old records that can decide nothing any more. */
  readonly forget?: boolean
  readonly quick: boolean
  /** By design: what the walk must find, or the notices that stand where a world ends unfounded. */
  readonly finds?: RegExp
  readonly waits?: readonly string[]
}

const two: NodeSpec = { expect: 2 }
const three: NodeSpec = { expect: 3 }
const four: NodeSpec = { expect: 4 }
const guest: NodeSpec = { expect: 2, mayFound: false }

function many(count: number, spec: NodeSpec): readonly NodeSpec[] {
  return Array.from({ length: count }, () => spec)
}

function named(...founders: readonly number[]): NodeSpec {
  return { expect: founders.length, founders }
}

function restarting(spec: Flags, ...restartsAs: readonly Flags[]): NodeSpec {
  return { ...spec, restartsAs }
}

/** The same nodes with one bound on rounds after the other. */
function upTo(
  name: string,
  nodes: readonly NodeSpec[],
  rounds: { readonly quick: number; readonly max: number; readonly forget?: boolean },
): readonly NamedWorld[] {
  const { quick, max, forget = false } = rounds
  return Array.from({ length: max }, (_, at) => ({
    name: `${name}, ${at + 1} ${at === 0 ? 'round' : 'rounds'}${forget ? ', reduced' : ''}`,
    world: { nodes, roundsMax: at + 1 },
    forget,
    quick: at + 1 <= quick,
  }))
}

const numbers: readonly NamedWorld[] = [
  {
    name: 'N=2, 2 candidates, every step',
    world: { nodes: many(2, two), roundsMax: 4 },
    steps: true,
    quick: true,
  },
  {
    name: 'N=2, 3 candidates, 1 round, every step',
    world: { nodes: many(3, two), roundsMax: 1 },
    steps: true,
    quick: false,
  },
  {
    name: 'N=2, 3 candidates, 2 rounds, every step',
    world: { nodes: many(3, two), roundsMax: 2 },
    steps: true,
    quick: false,
  },
  ...upTo('N=2, 2 candidates', many(2, two), { quick: 2, max: 2 }),
  ...upTo('N=2, 3 candidates', many(3, two), { quick: 4, max: 7 }),
  ...upTo('N=2, 3 candidates', many(3, two), { quick: 5, max: 10, forget: true }),
  ...upTo('N=3, 3 candidates', many(3, three), { quick: 2, max: 2 }),
  ...upTo('N=3, 4 candidates', many(4, three), { quick: 2, max: 3 }),
  ...upTo('N=3, 4 candidates', many(4, three), { quick: 2, max: 5, forget: true }),
  ...upTo('N=3, 5 candidates', many(5, three), { quick: 0, max: 2 }),
  ...upTo('N=3, 5 candidates', many(5, three), { quick: 0, max: 3, forget: true }),
  ...upTo('N=4, 5 candidates', many(5, four), { quick: 0, max: 2, forget: true }),
]

const mixed: readonly NamedWorld[] = [
  {
    name: 'N=1 alone, and a guest',
    world: { nodes: [{ expect: 1 }, guest], roundsMax: 3 },
    steps: true,
    quick: true,
  },
  {
    name: 'N=2, 3 candidates, own old copies come back',
    world: { nodes: many(3, two), roundsMax: 3, ownCopies: true },
    quick: true,
  },
  {
    name: 'N=3, 4 candidates, own old copies come back',
    world: { nodes: many(4, three), roundsMax: 2, ownCopies: true },
    quick: false,
  },
  {
    name: 'N=2, 2 candidates and a guest',
    world: { nodes: [two, guest, two], roundsMax: 4 },
    quick: true,
  },
  {
    name: 'N=3, 4 candidates and a guest',
    world: { nodes: [three, three, guest, three, three], roundsMax: 2 },
    quick: false,
  },
  {
    name: 'N=2 beside a node that expects 3',
    world: { nodes: [three, two, two], roundsMax: 3 },
    quick: true,
  },
  {
    name: 'N=3 beside a node that expects 2',
    world: { nodes: [two, three, three, three], roundsMax: 3 },
    quick: false,
  },
  {
    name: 'the same two founders named on four nodes',
    world: { nodes: many(4, named(0, 2)), roundsMax: 3 },
    quick: true,
  },
  {
    name: 'the same three founders named on five nodes',
    world: { nodes: many(5, named(0, 2, 3)), roundsMax: 3 },
    quick: true,
  },
  {
    name: 'two founders named, beside a node that names none',
    world: { nodes: [named(0, 2), two, named(0, 2)], roundsMax: 3 },
    quick: true,
  },
  {
    name: 'three founders named, beside two nodes that name none',
    world: { nodes: [named(0, 2, 4), three, named(0, 2, 4), three, named(0, 2, 4)], roundsMax: 2 },
    quick: false,
  },
]

/** By design no cluster can come of these, or not in every end; then every node must say what it waits for. */
const waiting: readonly NamedWorld[] = [
  {
    name: 'two nodes of three',
    world: { nodes: many(2, three), roundsMax: 2, mayWait: true },
    quick: true,
    waits: ['waiting'],
  },
  {
    name: 'a guest and one of two',
    world: { nodes: [two, guest], roundsMax: 2, mayWait: true },
    quick: true,
    waits: ['waiting'],
  },
  {
    name: 'two nodes, one expects 2 and one 3',
    world: { nodes: [two, three], roundsMax: 2, mayWait: true },
    quick: true,
    waits: ['expect-differs', 'waiting'],
  },
  {
    name: 'three nodes that do not name the same two founders',
    world: { nodes: [named(0, 1), named(0, 2), named(0, 2)], roundsMax: 2, mayWait: true },
    quick: true,
    waits: ['founders-differ', 'waiting'],
  },
  {
    name: 'three nodes, restarted with --expect 2 or 3',
    world: {
      nodes: many(3, restarting(three, two)),
      roundsMax: 2,
      mayWait: true,
    },
    quick: true,
    waits: ['expect-differs', 'waiting'],
  },
  {
    name: 'three nodes, restarted with --expect 2, or 3, or an invitation',
    world: { nodes: many(3, restarting(three, two, guest)), roundsMax: 2, mayWait: true },
    quick: false,
    waits: ['expect-differs', 'waiting'],
  },
  {
    name: 'N=2, 3 disks: one may be lost, its key comes back on a new one',
    world: {
      nodes: [two, { ...two, lost: true }, { ...two, key: 1 }],
      roundsMax: 3,
      mayWait: true,
    },
    quick: true,
    waits: ['waiting', 'waiting-for-founder'],
  },
  ...[0, 1, 2].map((lost) => ({
    name: `N=2, 3 disks: that of n${lost + 1} may be lost`,
    world: {
      nodes: many(3, two).map((spec, at) => ({ ...spec, lost: at === lost })),
      roundsMax: 3,
      mayWait: true,
    },
    quick: true,
    waits: ['waiting', 'waiting-for-founder'],
  })),
  ...[0, 2, 4].map((lost) => ({
    name: `N=3, 5 disks: that of n${lost + 1} may be lost`,
    world: {
      nodes: many(5, three).map((spec, at) => ({ ...spec, lost: at === lost })),
      roundsMax: 1,
      mayWait: true,
    },
    quick: false,
    waits: ['waiting', 'waiting-for-founder'],
  })),
  {
    name: 'N=3, 5 disks: one may be lost, its key comes back on a new one',
    world: {
      nodes: [three, three, { ...three, lost: true }, { ...three, key: 2 }, three],
      roundsMax: 1,
      mayWait: true,
    },
    quick: false,
    waits: ['waiting', 'waiting-for-founder'],
  },
]

/** Beyond what is promised, to show that the walk would find it. */
const beyond: readonly NamedWorld[] = [
  {
    name: 'N=2, 2N candidates: two clusters are possible',
    world: { nodes: many(4, two), roundsMax: 1, kind: false },
    quick: true,
    finds: /two clusters/,
  },
  {
    name: 'a stray --expect 1 beside N=2',
    world: { nodes: [{ expect: 1 }, two, two], roundsMax: 1, kind: false },
    quick: true,
    finds: /two clusters/,
  },
]

export const worlds: readonly NamedWorld[] = [...numbers, ...mixed, ...waiting, ...beyond]

export function walkWorld({ world, steps, forget }: NamedWorld, limits: Limits = {}): Verdict {
  if (steps === true) return walkSteps(world, limits)
  return walkFolded(world, forget === true ? { forget, ...limits } : limits)
}

/** What is wrong with a verdict, or null. One that was cut short by a limit is wrong only if it found something. */
export function isAsExpected(named: NamedWorld, verdict: Verdict, cut = false): string | null {
  const { violation, complete, waits } = verdict
  if (named.finds !== undefined) {
    const found = violation?.what ?? 'nothing'
    return named.finds.test(found) ? null : `found ${found} instead of ${named.finds}`
  }
  if (violation !== null) return violation.what
  if (cut) return null
  if (!complete) return 'the walk did not end'
  const expected = named.waits ?? []
  return waits.join() === expected.join() ? null : `the notices were ${waits.join()}`
}
