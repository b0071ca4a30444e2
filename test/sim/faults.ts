/**
 * What goes wrong in a simulated world, and when it is mended. Each fault is one small function; the weights decide which come. What
 * destroys a disk for good (rot, truncation, a wiped log) is kept to a minority of the founders, because that is what Raft promises
 * to survive.
 */

import type { Raft } from '../../node/raft/raft.ts'
import type { Dice } from '../../node/testing/dice.ts'
import type { SimMachine, SimProcess } from '../../node/testing/sim-machine.ts'
import { CALM, type SimNetwork } from '../../node/testing/sim-network.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import { DISK_FAULTS, strikeDisk } from './disk-faults.ts'
import { mistakeExpect } from './founding-faults.ts'
import { MEMBER_FAULTS, splitJoint, strikeMembers } from './member-faults.ts'
import { NETWORK_FAULTS, strikeNetwork } from './network-faults.ts'
import { FAULT_KINDS, type FaultKind, type SimOptions } from './options.ts'

export interface FaultWorld {
  readonly timeline: Timeline
  readonly dice: Dice
  readonly network: SimNetwork
  readonly machines: readonly SimMachine[]
  readonly options: SimOptions
  /** Machines whose disk is damaged for good: they must refuse to start, or come back unharmed. */
  readonly ruined: Set<number>
  readonly rotten: Map<number, () => void>
  /** Machines whose node was removed from the cluster and has stopped. */
  readonly removed: ReadonlySet<number>
  /** What this machine's disk holds may be lost for good: the others can still decide, and always will be able to. */
  readonly mayLose: (machine: SimMachine) => boolean
  /** The machine is down and its disk is empty; it is invited to what its next start finds. */
  readonly wipe: (machine: SimMachine, keepKey: boolean) => void
  readonly leader: () => SimMachine | null
  /** So many of those who come to lead are killed soon after. */
  /** False: not now, or never in this world. */
  readonly corrupt: (machine: SimMachine) => boolean
  readonly copy: (machine: SimMachine) => boolean
  readonly isKind: () => boolean
  /** The next change of the voters is cut in two. */
  readonly armSplit: () => void
  /** Clients come to this machine and ask for something. */
  readonly visit: (machine: SimMachine, what: 'read' | 'write') => void
  readonly count: (fault: string) => void
  readonly tell: (text: () => string) => void
}

const SECOND_US = 1_000_000

/** What the faults of all kinds share. */
export interface FaultTools {
  readonly world: FaultWorld
  /** Mends after a while, unless the world has become kind, which mends everything itself. */
  readonly until: (usMin: number, usMax: number, mend: () => void) => void
  readonly target: () => SimMachine
  /** The machine is down, and is started again within so long. */
  readonly restartLater: (machine: SimMachine, usMax: number) => void
}

export class Faults {
  readonly #world: FaultWorld
  readonly #kinds: readonly [FaultKind, number][]
  readonly #total: number
  #standing = 0
  #isOver = false
  /** Machines that will be started anyway. */
  readonly #insisting = new Set<SimMachine>()
  readonly #tools: FaultTools
  /** Processes that were told to stop: a second time they would end at once. */
  readonly #told = new WeakSet<SimProcess>()
  /** So many leaders to come have little time left. */
  #doomed = 0
  #doomedTerm = 0

  constructor(world: FaultWorld) {
    this.#tools = {
      world,
      until: (usMin, usMax, mend) => this.#until(usMin, usMax, mend),
      target: () => this.#target(),
      restartLater: (machine, usMax) => this.#restartLater(machine, usMax),
    }
    this.#world = world
    this.#kinds = FAULT_KINDS.map((kind) => [kind, world.options.faults[kind]] as const)
      .filter(([, weight]) => weight > 0)
      .map(([kind, weight]) => [kind, weight])
    this.#total = this.#kinds.reduce((sum, [, weight]) => sum + weight, 0)
  }

  start(): void {
    if (this.#total === 0 || this.#isOver) return
    const { dice, timeline, options } = this.#world
    timeline.after(dice.magnitude(options.faultUsMin, options.faultUsMax), () => {
      if (this.#isOver) return
      if (this.#standing < options.faultsAtOnceMax) this.#strike(this.#draw())
      this.start()
    })
  }

  stop(): void {
    this.#isOver = true
  }

  /** A process has had its turn. */
  look(process: SimProcess, { role, term, log }: Raft): void {
    if (this.#isOver) return
    if (this.#doomed > 0 && role === 'leader' && term > this.#doomedTerm) {
      const { dice } = process.machine
      this.#doomed--
      this.#doomedTerm = term
      const how = dice.below(2) === 0 ? 'killed' : 'powerCut'
      process.armed = { effects: dice.magnitude(1, 64), how }
    }
    // A snapshot is to take the place of the log, and the disk does not say so yet.
    const { unsavedBase } = log
    if (unsavedBase !== null && unsavedBase.index % 4 === 0 && process.armed === null) {
      this.#stopInstead(process, 1 + (term % 4))
    }
  }

  /** Told to stop in the middle of something. Without dice, so that worlds in which it does not happen are what they were. */
  #stopInstead(process: SimProcess, effects: number): void {
    const { options, count } = this.#world
    if (!options.stopsAtEffect || this.#told.has(process)) return
    this.#told.add(process)
    process.armed = { effects, how: 'stopped' }
    count('stopAtEffect')
  }

  /** A leader has just entered a joint configuration, which nobody else knows yet. */
  split(leader: SimMachine): void {
    if (!this.#isOver) splitJoint(leader, this.#tools)
  }

  #draw(): FaultKind {
    let roll = this.#world.dice.below(this.#total)
    for (const [kind, weight] of this.#kinds) {
      if (roll < weight) return kind
      roll -= weight
    }
    throw new Error('bug: the weights do not add up')
  }

  /** Mended after a while, unless the world has become kind, which mends everything itself. */
  #until(usMin: number, usMax: number, mend: () => void): void {
    const { timeline, dice } = this.#world
    this.#standing++
    timeline.after(dice.magnitude(usMin, usMax), () => {
      this.#standing--
      if (!this.#isOver) mend()
    })
  }

  #strike(kind: FaultKind): void {
    const { count, tell } = this.#world
    if (!this.#perform(kind)) return
    count(kind)
    tell(() => `FAULT ${kind}`)
  }

  #any(): SimMachine {
    return this.#world.dice.pick(this.#world.machines)
  }

  /** Leaders have more to lose. */
  #target(): SimMachine {
    const { dice, leader } = this.#world
    return (dice.below(3) === 0 ? leader() : null) ?? this.#any()
  }

  #perform(kind: FaultKind): boolean {
    if (isOf(NETWORK_FAULTS, kind)) return strikeNetwork(kind, this.#tools)
    if (isOf(DISK_FAULTS, kind)) return strikeDisk(kind, this.#tools)
    if (isOf(MEMBER_FAULTS, kind)) return strikeMembers(kind, this.#tools)
    if (kind === 'mistakeExpect') return mistakeExpect(this.#tools)
    if (kind === 'corruptState') return this.#world.corrupt(this.#target())
    if (kind === 'copyDisk') return this.#world.copy(this.#target())
    return this.#onProcess(kind)
  }

  // --- processes ----------------------------------------------------------------------------------------------------

  #restartLater(machine: SimMachine, usMax: number): void {
    this.#until(1000, usMax, () => {
      machine.start()
      this.#insist(machine)
    })
  }

  /** A start that was refused for want of room, or that was cut short, is tried again by whoever supervises the node. */
  #insist(machine: SimMachine): void {
    const { timeline, dice, ruined } = this.#world
    const isOver = machine.refusal !== null && ruined.has(machine.index)
    if (machine.process !== null || isOver || this.#insisting.has(machine)) return
    this.#insisting.add(machine)
    timeline.after(dice.magnitude(1000, 4 * SECOND_US), () => {
      this.#insisting.delete(machine)
      if (this.#isOver || machine.process !== null) return
      machine.start()
      this.#insist(machine)
    })
  }

  /** A process that has ended by itself. */
  ended(machine: SimMachine): void {
    this.#insist(machine)
  }

  #onProcess(kind: FaultKind): boolean {
    const { dice, timeline, machines, leader } = this.#world
    const machine = this.#target()
    const { process } = machine
    const how = dice.below(2) === 0 ? 'killed' : 'powerCut'
    switch (kind) {
      case 'kill':
      case 'powerCut':
        if (process === null) return false
        machine.kill(kind === 'kill' ? 'killed' : 'powerCut')
        this.#restartLater(machine, 15 * SECOND_US)
        return true
      case 'killAll':
        for (const one of machines) {
          if (one.process === null) continue
          one.kill(how)
          this.#restartLater(one, 4 * SECOND_US)
        }
        return true
      case 'killAtEffect':
        if (process === null) return false
        process.armed = { effects: dice.magnitude(1, 200), how }
        if (process.armed.effects % 2 === 0) this.#stopInstead(process, process.armed.effects)
        return true
      case 'killNewLeaders':
        this.#doomed = dice.between(1, 5)
        return true
      case 'restartStorm':
        for (let i = 0; i < 8; i++) {
          timeline.after(dice.below(3 * SECOND_US), () => {
            if (this.#isOver) return
            if (machine.process === null) machine.start()
            else machine.kill(dice.below(2) === 0 ? 'killed' : 'powerCut')
            this.#insist(machine)
          })
        }
        return true
      case 'stop':
        if (process === null) return false
        process.stop()
        this.#until(2 * SECOND_US, 8 * SECOND_US, () => {
          machine.start()
          this.#insist(machine)
        })
        return true
      case 'pause':
      case 'pauseAll': {
        const paused = (kind === 'pause' ? [machine] : machines).map((one) => one.process)
        for (const one of paused) one?.pause()
        this.#until(SECOND_US / 10, 30 * SECOND_US, () => {
          for (const one of paused) one?.resume()
        })
        return true
      }
      case 'stallLeader':
        return this.#stallLeader()
      case 'slow':
        if (process === null) return false
        process.slowUs = dice.magnitude(1000, 300_000)
        this.#until(SECOND_US, 10 * SECOND_US, () => {
          process.slowUs = 0
        })
        return true
      default:
        return leader()?.process?.runtime?.handOver() ?? false
    }
  }

  /**
   * The leader stands still with a read round under way whose echoes are late; others go on without it. It wakes up to reads that are
   * new, then to the echoes that were sent before anybody had replaced it, and only then hears of its successor (HAZARDS, reads:
   * after a stall). The stall is longer than an election, and shorter than what a link can be silent.
   */
  #stallLeader(): boolean {
    const { dice, leader, network, machines, timeline, options, visit } = this.#world
    const machine = leader()
    const process = machine?.process ?? null
    if (machine === null || process === null || machines.length < 3) return false
    const others = machines.filter((other) => other !== machine)
    const stallUs = dice.between(
      options.electionMs * 1000,
      Math.max(3_000, 2 * options.electionMs) * 1000,
    )
    for (const { index } of others) {
      network.clog(index, machine.index, stallUs + dice.below(200_000))
    }
    const at = (delayUs: number, run: () => void): void => {
      timeline.after(delayUs, () => {
        if (!this.#isOver) run()
      })
    }
    visit(machine, 'read')
    at(dice.magnitude(2000, 30_000), () => process.pause())
    for (let eighths = 4; eighths < 8; eighths++) {
      const other = dice.pick(others)
      at(Math.floor((stallUs * eighths) / 8), () => visit(other, 'write'))
    }
    at(stallUs - dice.below(100_000), () => visit(machine, 'read'))
    this.#until(stallUs, stallUs, () => {
      process.resume()
      visit(machine, 'read')
    })
    return true
  }
}

function isOf<K extends FaultKind>(kinds: readonly K[], kind: FaultKind): kind is K {
  return kinds.some((one) => one === kind)
}

/** Everything is well again from here on, for these machines. */
export function mend(network: SimNetwork, machines: readonly SimMachine[], diskUs: number): void {
  network.heal()
  network.weather = { ...CALM, delayUsMax: 2000 }
  for (const machine of machines) {
    const { mood, options } = machine
    if (machine.expect !== options.expect) machine.kill('killed')
    machine.expect = options.expect
    const { process } = machine
    Object.assign(mood, { ioPpm: 0, fullPpm: 0, hangUs: 0, writeUsMax: diskUs })
    mood.writeUsMin = Math.min(mood.writeUsMin, diskUs)
    if (process === null) continue
    process.armed = null
    process.slowUs = 0
    process.resume()
  }
}
