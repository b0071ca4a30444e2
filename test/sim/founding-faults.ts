/** What goes wrong while a cluster is founded, beyond the network: somebody is started with other flags than the rest. */
import { foundersOf } from '../../node/founding/record.ts'
import type { SimMachine } from '../../node/testing/sim-machine.ts'
import type { FaultTools } from './faults.ts'

const SECOND_US = 1_000_000
const LOOK_US = 20_000
const LOOKS_MAX = 1000

/**
 * Waits for an offer that names somebody who has not answered yet, and starts that one anew with a larger `--expect`: it can pledge
 * this offer no more, and must refuse it (F4). One at a time, so that nobody founds with it. Mended by the flags of the rest.
 */
export function mistakeExpect(tools: FaultTools): boolean {
  const { world, until } = tools
  const { machines, timeline, options } = world
  if (options.expect < 2 || machines.some((one) => one.expect !== options.expect)) return false
  // Beside a cluster the flag means nothing.
  if (machines.some(({ process }) => process?.clusterId != null)) return false
  const look = (looks: number): void => {
    if (world.isKind()) return
    const machine = named(machines)
    if (machine === null || machines.some((one) => one.expect !== options.expect)) {
      if (looks < LOOKS_MAX) timeline.after(LOOK_US, () => look(looks + 1))
      return
    }
    startWith(machine, options.expect + 1, tools)
    until(2 * SECOND_US, 15 * SECOND_US, () => startWith(machine, options.expect, tools))
  }
  look(0)
  return true
}

function startWith(machine: SimMachine, expect: number, { restartLater }: FaultTools): void {
  machine.kill('killed')
  machine.expect = expect
  restartLater(machine, 100_000)
}

/** A blank node that an offer names and that holds none. */
function named(machines: readonly SimMachine[]): SimMachine | null {
  const records = machines.flatMap(({ process }) => process?.foundingRecord ?? [])
  for (const machine of machines) {
    const { process } = machine
    const own = process?.foundingRecord
    if (process == null || own == null || own.pledge !== null || own.bound !== null) continue
    const isNamed = records.some(
      ({ pledge }) =>
        pledge !== null && pledge.round > own.floor && names(pledge, process.storageId),
    )
    if (isNamed) return machine
  }
  return null
}

function names(pledge: Parameters<typeof foundersOf>[0], storageId: string): boolean {
  return foundersOf(pledge).some((founder) => founder.storageId === storageId)
}
