/**
 * Machines that lose everything they had, and come back as somebody new, under a new key or under the old one; machines that were
 * removed, and come back all the same; and changes of the members that are cut in two.
 */
import { majority } from '../../node/raft/quorum.ts'
import { peerIdOf } from '../../node/raft/types.ts'
import type { SimMachine } from '../../node/testing/sim-machine.ts'
import type { FaultTools } from './faults.ts'
import type { FaultKind } from './options.ts'

export const MEMBER_FAULTS = [
  'replaceMachine',
  'loseDisk',
  'returnRemoved',
  'splitJoint',
] as const satisfies readonly FaultKind[]
export type MemberFault = (typeof MEMBER_FAULTS)[number]

const SECOND_US = 1_000_000

/** False: it could not be done here and now. */
export function strikeMembers(kind: MemberFault, tools: FaultTools): boolean {
  const { world } = tools
  if (kind === 'splitJoint') {
    world.armSplit()
    return true
  }
  const machine = kind === 'returnRemoved' ? someRemoved(tools) : tools.target()
  if (machine === null) return false
  if (kind === 'returnRemoved') {
    // As it is, to be told again; or after `rejoin`, as somebody new.
    if (world.dice.below(2) === 0) world.wipe(machine, world.dice.below(2) === 0)
  } else {
    if (!world.ruined.has(machine.index) && !world.mayLose(machine)) return false
    world.wipe(machine, kind === 'loseDisk')
  }
  tools.restartLater(machine, 10 * SECOND_US)
  return true
}

function someRemoved({ world }: FaultTools): SimMachine | null {
  const removed = world.machines.filter(({ index, process }) => {
    return process === null && world.removed.has(index)
  })
  return removed.length === 0 ? null : world.dice.pick(removed)
}

/**
 * A leader has just entered a joint configuration: it keeps the new voters, and a majority of the old ones is cut off before they hear
 * of it, where there is such a majority without it. Both sides are asked by clients while they cannot both be right.
 */
export function splitJoint(leader: SimMachine, { world, until }: FaultTools): boolean {
  const { dice, machines, network, timeline, options, visit } = world
  const configuration = leader.process?.runtime?.replica?.raft.tracker.configuration
  if (configuration === undefined) return false
  const { members, voters, votersOutgoing } = configuration
  const oldOnesFirst = members
    .filter(({ memberId }) => votersOutgoing.includes(memberId))
    .sort((a, b) => Number(voters.includes(a.memberId)) - Number(voters.includes(b.memberId)))
    .map(peerIdOf)
    .filter((peer) => peer !== leader.process?.peer)
  const there = new Set(oldOnesFirst.slice(0, majority(votersOutgoing.length)))
  const isThere = ({ process }: SimMachine): boolean => process !== null && there.has(process.peer)
  const ways = machines.flatMap((a) =>
    machines.flatMap((b) => (isThere(a) !== isThere(b) ? [[a.index, b.index] as const] : [])),
  )
  for (const [from, to] of ways) network.cut(from, to)
  const splitUs = dice.between(2, 4) * options.electionMs * 1000
  const others = machines.filter(isThere)
  for (let atUs = 0; atUs < splitUs; atUs += 100_000) {
    timeline.after(atUs + dice.below(100_000), () => {
      visit(leader, 'read')
      if (others.length > 0) visit(dice.pick(others), 'write')
    })
  }
  until(splitUs, splitUs, () => {
    for (const [from, to] of ways) network.mend(from, to)
  })
  return ways.length > 0
}
