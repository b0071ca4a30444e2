/**
 * Planted bugs for the walks: each must lead to two clusters, or to a kind world that ends unfounded, within a few steps. F8 is
 * ignored, or it would stop most of them before they do harm.
 */
import { foundersOf } from '../../node/founding/record.ts'
import { type Decision, decide, hasPledged } from '../../node/founding/rules.ts'
import type { NodeSpec, Rules, World } from './founding-model.ts'

export interface PlantedBug {
  readonly name: string
  readonly world: World
  readonly finds: RegExp
}

const two: NodeSpec = { expect: 2 }
const candidates: World = {
  nodes: [two, two, two],
  roundsMax: 2,
  kind: false,
  ignoreF8: true,
}
const harm = /two clusters/

function dropWhen(condition: (...args: Parameters<Rules>) => boolean): Rules {
  return (own, view): Decision => {
    const decision = decide(own, view)
    if (decision.rule !== 'none' || own.pledge === null || own.bound !== null) return decision
    if (!condition(own, view)) return decision
    return { rule: 'F5', record: { ...own, seq: own.seq + 1, pledge: null } }
  }
}

const foundWithout: Rules = (own, view) => {
  const offer = own.pledge
  if (offer === null || own.bound !== null) return decide(own, view)
  const evidence = [...view.others, { ...view.self, record: own }]
  const founders = foundersOf(offer)
  const pledged = founders.filter((founder) => hasPledged(founder, offer, evidence))
  const enough = pledged.length >= founders.length - 1
  return enough ? { rule: 'F6', offer } : decide(own, view)
}

const foundOnAnyHello: Rules = (own, view) => {
  const offer = own.pledge
  if (offer === null || own.bound !== null || view.claims.length === 0) return decide(own, view)
  return { rule: 'F6', offer }
}

const forgetFloor: Rules = (own, view) => {
  const decision = decide(own, view)
  if (decision.rule !== 'F5') return decision
  return { rule: 'F5', record: { ...decision.record, floor: 0 } }
}

const neverRefuse: Rules = (own, view) => {
  const decision = decide(own, view)
  return decision.rule === 'F4' ? { rule: 'none' } : decision
}

function inRules(name: string, rules: Rules): PlantedBug {
  return { name, world: { ...candidates, rules }, finds: harm }
}

function inEffects(name: string, bugs: NonNullable<World['bugs']>): PlantedBug {
  return { name, world: { ...candidates, bugs }, finds: harm }
}

export const plantedBugs: readonly PlantedBug[] = [
  inRules(
    'a pledge dropped after a timeout',
    dropWhen(() => true),
  ),
  inRules(
    'an own offer withdrawn',
    dropWhen((own, view) => own.pledge?.proposer === view.self.nodeKey),
  ),
  inRules('founded with N-1 pledges', foundWithout),
  inRules('founded because a hello names some cluster', foundOnAnyHello),
  inRules('the floor forgotten with the pledge', forgetFloor),
  {
    name: 'an offer refused silently',
    world: { nodes: [two, { expect: 2, mayFound: false }, two], roundsMax: 2, rules: neverRefuse },
    finds: /ends unfounded/,
  },
  inEffects('a pledge not made durable', { losesTold: ['F3'] }),
  inEffects('an own offer not made durable', { losesTold: ['F2'] }),
  // Here the floor that is lost is one above a pledge that is held: that takes three rounds.
  {
    name: 'a refusal not made durable',
    world: { ...candidates, roundsMax: 3, bugs: { losesTold: ['F4'] } },
    finds: harm,
  },
  // A refusal of a blank node is that of one started by an invitation, which is restarted without.
  {
    name: 'a refusal of an invited node not made durable',
    world: {
      ...candidates,
      nodes: [two, { ...two, restartsAs: [{ expect: 2, mayFound: false }] }, two],
      bugs: { losesTold: ['F4'] },
    },
    finds: harm,
  },
  inEffects('records told before they are durable', {
    losesTold: ['F2', 'F3', 'F4', 'F5', 'F6', 'F7'],
  }),
  inEffects('a wiped disk that keeps its identity', { wipes: true }),
]

/** Those that do harm by themselves, among four candidates of three: all of them show within three rounds. */
export const plantedInFour: readonly PlantedBug[] = plantedBugs
  .filter(({ world }) => world.nodes.every((spec) => spec === two))
  .map(({ name, world, finds }) => {
    const nodes = Array.from({ length: 4 }, () => ({ expect: 3 }))
    return { name: `${name}, N=3`, world: { ...world, nodes, roundsMax: 3 }, finds }
  })

/** The same with the net: the node that was rolled back stops by itself. */
export const wipedWithF8: World = { ...candidates, bugs: { wipes: true }, ignoreF8: false }
