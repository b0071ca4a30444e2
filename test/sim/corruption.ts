/**
 * Machines whose state goes wrong, as memory or a bug would do it: not what they answer, so that the other checks still hold for them,
 * but what they would answer if anybody asked for it. The cluster has to notice (CORRECTNESS, rule 13), and nobody else may be
 * suspected.
 */
import { majority } from '../../node/raft/quorum.ts'
import type { PeerId } from '../../node/raft/types.ts'
import type { SimMachine, SimProcess } from '../../node/testing/sim-machine.ts'
import { wrong } from './failure.ts'
import { RegisterMachine } from './register-machine.ts'

/** Fewer voters have no majority without one of them. */
const VOTERS_MIN = 3

export class Corruption {
  readonly #states = new Map<number, RegisterMachine>()
  readonly #corrupt = new Set<SimProcess>()

  /** For the life that begins now. */
  makeStateMachine(index: number): RegisterMachine {
    const state = new RegisterMachine()
    this.#states.set(index, state)
    return state
  }

  /** A minority, and one at a time, so that a majority can know better. */
  strike(machine: SimMachine, voters: number): boolean {
    const { process } = machine
    const state = this.#states.get(machine.index)
    const isMember = process?.runtime?.replica?.committed != null
    if (process === null || state === undefined || !isMember) return false
    if (voters < VOTERS_MIN || this.#living.length > 0) return false
    state.corrupt()
    this.#corrupt.add(process)
    return true
  }

  isCorrupt(process: SimProcess): boolean {
    return this.#corrupt.has(process)
  }

  look(process: SimProcess): void {
    if (!comparisonOf(process)?.quarantined || this.isCorrupt(process)) return
    wrong('quarantine', `${process.machine.options.name} is in quarantine, and its state is right`)
  }

  /** Null: everybody whose state is wrong knows it; or, where too few are left to know better, somebody raises an alarm. */
  unnoticed(members: readonly SimMachine[], voters: readonly PeerId[]): string | null {
    const [process] = this.#living.filter((one) => !comparisonOf(one)?.quarantined)
    if (process === undefined) return null
    const all = members.flatMap((machine) => machine.process ?? [])
    const right = all.filter((one) => voters.includes(one.peer) && !this.isCorrupt(one))
    const isAlarmed = all.some((one) => comparisonOf(one)?.alarm != null)
    if (isAlarmed && right.length < majority(voters.length)) return null
    return `nobody has noticed that the state of ${process.machine.options.name} is wrong`
  }

  /** A restart makes the state anew from the log. */
  get #living(): SimProcess[] {
    return [...this.#corrupt].filter((process) => process.machine.process === process)
  }
}

function comparisonOf(process: SimProcess) {
  return process.runtime?.replica?.comparison
}
