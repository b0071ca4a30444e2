/** What goes wrong between machines: cuts of every shape, clogs, resets, bad weather. */
import type { FaultTools } from './faults.ts'
import { drawWeather, type FaultKind } from './options.ts'

const SECOND_US = 1_000_000

export const NETWORK_FAULTS = [
  'partition',
  'isolateLeader',
  'oneWay',
  'bridge',
  'ring',
  'clog',
  'reset',
  'weather',
  'slowNetwork',
] as const satisfies readonly FaultKind[]
export type NetworkFault = (typeof NETWORK_FAULTS)[number]

/** False: it could not be done here and now. */
export function strikeNetwork(kind: NetworkFault, tools: FaultTools): boolean {
  const { world, until } = tools
  const { dice, network, machines } = world
  const all = dice.shuffle(machines.map(({ index }) => index))
  const [a, b] = all
  if (kind === 'weather' || kind === 'slowNetwork') return badWeather(kind, tools)
  if (a === undefined || b === undefined) return false
  if (kind === 'reset') {
    network.reset(a, b)
    return true
  }
  if (kind === 'clog') {
    const clogUs = dice.magnitude(10_000, 8 * SECOND_US)
    network.clog(a, b, clogUs)
    if (dice.below(2) === 0) network.clog(b, a, clogUs)
    return true
  }
  const ways = waysOf(kind, all, tools)
  for (const [from, to] of ways) network.cut(from, to)
  until(SECOND_US / 4, 20 * SECOND_US, () => {
    for (const [from, to] of ways) network.mend(from, to)
  })
  return ways.length > 0
}

function badWeather(kind: 'weather' | 'slowNetwork', { world, until }: FaultTools): boolean {
  const { dice, network, options } = world
  const before = network.weather
  network.weather = drawWeather(dice, 4)
  if (kind === 'slowNetwork') {
    // As slow as elections: votes are split, and answers come when the question is no longer asked.
    const delayUsMax = options.electionMs * dice.magnitude(100, 1500)
    network.weather = { ...network.weather, delayUsMax }
  }
  until(SECOND_US, 10 * SECOND_US, () => {
    network.weather = before
  })
  return true
}

/** Which directions carry nothing. */
function waysOf(
  kind: NetworkFault,
  all: readonly number[],
  { world }: FaultTools,
): readonly (readonly [number, number])[] {
  const { dice, leader, options } = world
  const n = all.length
  const both = (separated: (a: number, b: number) => boolean) =>
    all.flatMap((a, i) =>
      all.flatMap((b, j) => (i !== j && separated(i, j) ? [[a, b] as const] : [])),
    )
  switch (kind) {
    case 'isolateLeader': {
      const index = leader()?.index ?? all[0]
      const mode = dice.below(3)
      return both((i, j) => {
        const out = all[i] === index && mode !== 1
        const into = all[j] === index && mode !== 2
        return out || into
      })
    }
    case 'oneWay':
      return [[all[0] as number, all[1] as number]]
    case 'bridge': {
      // Two halves that only the first one reaches.
      const half = 1 + Math.floor((n - 1) / 2)
      return both((i, j) => i !== 0 && j !== 0 && i < half !== j < half)
    }
    case 'ring': {
      // Each one hears the next few: a majority, and everybody another one.
      const reach = Math.floor(n / 4) + 1
      return both((i, j) => Math.min((i - j + n) % n, (j - i + n) % n) > reach)
    }
    default: {
      const side = 1 + dice.below(Math.max(1, Math.min(n - 1, options.expect)))
      return both((i, j) => i < side !== j < side)
    }
  }
}
