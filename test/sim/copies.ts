/**
 * Copies of a disk that come alive beside the original, as restored images and careless backups do (CORRECTNESS, rule 14). Two of one
 * disk have one vote between them and no way to share it, so that safety lies in nobody talking to the copy: whoever sees the original,
 * or has seen a later start of it, refuses the other one, both say so, and the copy leads nobody and answers nothing.
 *
 * A copy meets only those who can tell (sim-network.ts), and is never taken of a node that could decide by itself.
 */

import type { Configuration, PeerId } from '../../node/raft/types.ts'
import type { Dice } from '../../node/testing/dice.ts'
import type { MachineHooks, SimMachine, SimProcess } from '../../node/testing/sim-machine.ts'
import type { EndpointOwner } from '../../node/testing/sim-transport.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import { halvesOf, isQuorum } from './configurations.ts'
import { wrong } from './failure.ts'
import { PROBE, READ_PROBE } from './wire.ts'

export interface CopyWorld {
  readonly timeline: Timeline
  readonly dice: Dice
  /** A blank machine beside those of the world, with the same clock, limits and state machine as this one. */
  readonly makeMachine: (original: SimMachine, hooks: MachineHooks) => SimMachine
  /** What every process of this world tells. */
  readonly hooks: MachineHooks
}

const SECOND_US = 1_000_000
const ASKED_EVERY_US = SECOND_US / 2
const ASK_MS = 2000

export class Copies {
  readonly #world: CopyWorld
  /** One at a time. */
  #copy: SimMachine | null = null
  #isOver = false
  /** What was committed when it came alive: it learns of nothing more. */
  #commitIndex: number | null = null

  constructor(world: CopyWorld) {
    this.#world = world
  }

  isCopy(owner: EndpointOwner): boolean {
    return owner.index === this.#copy?.index
  }

  /** False: this machine is not one to be copied now. */
  strike(original: SimMachine): boolean {
    const { dice, timeline, hooks, makeMachine } = this.#world
    if (this.#copy !== null || this.#isOver || !mayBeCopied(original)) return false
    const copy = makeMachine(original, {
      turned: (process) => this.#turned(process),
      crashed: (process, error) => hooks.crashed(process, error),
      refused: ({ options }, error) =>
        wrong('copy', `${options.name} does not start: ${error.message}`),
      ...(hooks.boundary === undefined ? {} : { boundary: hooks.boundary }),
      ...(hooks.log === undefined ? {} : { log: hooks.log }),
    })
    original.disk.copyTo(copy.disk)
    this.#copy = copy
    this.#commitIndex = null
    const startUs = dice.magnitude(1000, 20 * SECOND_US)
    timeline.after(startUs, () => {
      if (!this.#isOver) copy.start()
      this.#ask(copy)
    })
    timeline.after(startUs + dice.magnitude(SECOND_US, 30 * SECOND_US), () => this.#end(copy))
    return true
  }

  /** The world becomes kind: somebody has read the alarm. */
  stop(): void {
    this.#isOver = true
    if (this.#copy !== null) this.#end(this.#copy)
  }

  /** Two have refused each other, one of which is a copy: an alarm stands on both. */
  refused(a: EndpointOwner, b: EndpointOwner): void {
    for (const process of [a, b] as SimProcess[]) {
      const { runtime, isRunning, machine } = process
      if (runtime === null || !isRunning) continue
      if (runtime.status().alarms.some(({ kind }) => kind === 'clone')) continue
      wrong('copy', `${machine.options.name} refuses a copy and raises no alarm`)
    }
  }

  #end(copy: SimMachine): void {
    copy.kill('killed')
    if (this.#copy === copy) this.#copy = null
  }

  #turned({ machine, runtime }: SimProcess): void {
    const raft = runtime?.replica?.raft
    if (raft === undefined) return
    // What its disk still had may be older than what its original knew.
    const { configuration } = raft.tracker
    if (configuration === null || decidesAlone(configuration, raft.self)) return this.#end(machine)
    const { name } = machine.options
    if (raft.role === 'leader') wrong('copy', `${name} leads, and is a copy`)
    this.#commitIndex ??= raft.log.commitIndex
    if (raft.log.commitIndex > this.#commitIndex)
      wrong('copy', `${name} hears of commits, and is a copy`)
  }

  /** Clients that were led to it get no answer that could be wrong. */
  #ask(copy: SimMachine): void {
    if (copy.process === null || this.#copy !== copy) return
    const { dice, timeline } = this.#world
    const request =
      dice.below(2) === 0
        ? ({ type: 'command', command: PROBE, timeoutMs: ASK_MS } as const)
        : ({
            type: 'query',
            query: READ_PROBE,
            consistency: 'linearizable',
            timeoutMs: ASK_MS,
          } as const)
    copy.process.request(request, ({ ok }) => {
      if (ok) wrong('copy', `${copy.options.name} answers a ${request.type}, and is a copy`)
    })
    timeline.after(dice.magnitude(ASKED_EVERY_US, 4 * ASKED_EVERY_US), () => this.#ask(copy))
  }
}

/** A member that cannot decide anything by itself, by what it goes by and by what is committed. */
function mayBeCopied({ process }: SimMachine): boolean {
  const replica = process?.runtime?.replica
  const committed = replica?.committed?.configuration
  const inForce = replica?.raft.tracker.configuration
  if (process == null || committed == null || inForce == null) return false
  return [committed, inForce].every((configuration) => !decidesAlone(configuration, process.peer))
}

function decidesAlone(configuration: Configuration, peer: PeerId): boolean {
  return isQuorum(halvesOf(configuration), (voter) => voter === peer)
}
