/**
 * What goes wrong in a simulated world, and when it is mended. Each fault is one small function; the weights decide which come. What
 * destroys a disk for good (rot, truncation, a wiped log) is kept to a minority of the founders, because that is what Raft promises
 * to survive.
 */

import {
  decodeRecord,
  decodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  storageSeed,
} from '../../node/storage/segment.ts'
import { ALWAYS_PPM, type Dice } from '../../node/testing/dice.ts'
import { DATA_DIRECTORY, type SimMachine } from '../../node/testing/sim-machine.ts'
import { CALM, type SimNetwork } from '../../node/testing/sim-network.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import { drawWeather, FAULT_KINDS, type FaultKind, type SimOptions } from './options.ts'

export interface FaultWorld {
  readonly timeline: Timeline
  readonly dice: Dice
  readonly network: SimNetwork
  readonly machines: readonly SimMachine[]
  readonly options: SimOptions
  /** Machines whose disk is damaged for good: they must refuse to start, or come back unharmed. */
  readonly ruined: Set<number>
  /** The founders, once there is a cluster that all of them are bound to. */
  readonly members: () => readonly number[] | null
  readonly leader: () => SimMachine | null
  /** So many of those who come to lead are killed soon after. */
  readonly doomLeaders: (count: number) => void
  /** False: not now, or never in this world. */
  readonly corrupt: (machine: SimMachine) => boolean
  readonly count: (fault: string) => void
  readonly tell: (text: () => string) => void
}

const SECOND_US = 1_000_000
const WAL = `${DATA_DIRECTORY}/wal/`
const IDENTITY = `${DATA_DIRECTORY}/identity.json`

export class Faults {
  readonly #world: FaultWorld
  readonly #kinds: readonly [FaultKind, number][]
  readonly #total: number
  #standing = 0
  #isOver = false
  /** Machines that will be started anyway. */
  readonly #insisting = new Set<SimMachine>()

  constructor(world: FaultWorld) {
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
    switch (kind) {
      case 'partition':
      case 'isolateLeader':
      case 'oneWay':
      case 'bridge':
      case 'ring':
      case 'clog':
      case 'reset':
      case 'weather':
      case 'slowNetwork':
        return this.#onNetwork(kind)
      case 'kill':
      case 'powerCut':
      case 'killAll':
      case 'killAtEffect':
      case 'killNewLeaders':
      case 'restartStorm':
      case 'stop':
      case 'pause':
      case 'pauseAll':
      case 'stallLeader':
      case 'slow':
      case 'transfer':
        return this.#onProcess(kind)
      case 'corruptState':
        return this.#world.corrupt(this.#target())
      default:
        return this.#onDisk(kind)
    }
  }

  // --- network ------------------------------------------------------------------------------------------------------

  #onNetwork(kind: FaultKind): boolean {
    const { dice, network, machines, options } = this.#world
    const all = dice.shuffle(machines.map(({ index }) => index))
    const n = all.length
    if (kind === 'weather' || kind === 'slowNetwork') {
      const before = network.weather
      network.weather = drawWeather(dice, 4)
      if (kind === 'slowNetwork') {
        // As slow as elections: votes are split, and answers come when the question is no longer asked.
        const delayUsMax = options.electionMs * dice.magnitude(100, 1500)
        network.weather = { ...network.weather, delayUsMax }
      }
      this.#until(SECOND_US, 10 * SECOND_US, () => {
        network.weather = before
      })
      return true
    }
    if (n < 2) return false
    const [a, b] = all as [number, number]
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
    const ways = this.#waysOf(kind, all, options)
    for (const [from, to] of ways) network.cut(from, to)
    this.#until(SECOND_US / 4, 20 * SECOND_US, () => {
      for (const [from, to] of ways) network.mend(from, to)
    })
    return ways.length > 0
  }

  /** Which directions carry nothing. */
  #waysOf(
    kind: FaultKind,
    all: readonly number[],
    options: SimOptions,
  ): readonly (readonly [number, number])[] {
    const { dice, leader } = this.#world
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
        return true
      case 'killNewLeaders':
        this.#world.doomLeaders(dice.between(1, 5))
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
   * The leader stands still in the middle of something; others go on without it. It wakes up to new requests, and to answers that
   * were sent before anybody had replaced it (HAZARDS, reads: after a stall).
   */
  #stallLeader(): boolean {
    const { dice, leader, network, machines, timeline } = this.#world
    const machine = leader()
    const process = machine?.process ?? null
    if (machine === null || process === null) return false
    const stallUs = dice.between(2 * SECOND_US, 8 * SECOND_US)
    for (const { index } of machines) {
      if (index !== machine.index) network.clog(index, machine.index, stallUs + dice.below(200_000))
    }
    timeline.after(dice.magnitude(100, 30_000), () => {
      if (!this.#isOver) process.pause()
    })
    this.#until(stallUs, stallUs, () => process.resume())
    return true
  }

  // --- disks --------------------------------------------------------------------------------------------------------

  #onDisk(kind: FaultKind): boolean {
    const { dice } = this.#world
    const machine = this.#target()
    const { mood } = machine
    switch (kind) {
      case 'slowDisk': {
        const { writeUsMax } = mood
        mood.writeUsMax = dice.magnitude(writeUsMax, 2 * SECOND_US)
        this.#until(SECOND_US, 10 * SECOND_US, () => {
          mood.writeUsMax = writeUsMax
        })
        return true
      }
      case 'stuckLeader':
        return this.#stickLeader()
      case 'hungDisk':
        mood.hangUs = dice.magnitude(SECOND_US / 4, 30 * SECOND_US)
        return true
      case 'fullDisk':
        mood.fullPpm = dice.pick([300_000, ALWAYS_PPM, ALWAYS_PPM])
        this.#until(SECOND_US / 10, 15 * SECOND_US, () => {
          mood.fullPpm = 0
        })
        return true
      case 'brokenDisk':
        mood.ioPpm = dice.magnitude(1000, 500_000)
        this.#until(SECOND_US / 10, 5 * SECOND_US, () => {
          mood.ioPpm = 0
        })
        return true
      default:
        return this.#ruin(kind, machine)
    }
  }

  /**
   * The leader's disk hangs while nobody hears it: others go on, and rewrite what it is still saving when they meet again.
   */
  #stickLeader(): boolean {
    const { dice, leader, network, machines } = this.#world
    const machine = leader()
    if (machine === null) return false
    const others = machines.filter((other) => other !== machine)
    machine.mood.hangUs = dice.between(3 * SECOND_US, 12 * SECOND_US)
    for (const { index } of others) {
      network.cut(machine.index, index)
      network.cut(index, machine.index)
    }
    this.#until(2 * SECOND_US, 6 * SECOND_US, () => {
      for (const { index } of others) {
        network.mend(machine.index, index)
        network.mend(index, machine.index)
      }
    })
    return true
  }

  /** The machine is down, and its disk is found damaged when it comes back. */
  #ruin(kind: FaultKind, machine: SimMachine): boolean {
    const { dice, ruined, members } = this.#world
    const founders = members()
    if (founders === null || !founders.includes(machine.index)) return false
    if (!ruined.has(machine.index) && ruined.size >= Math.floor((founders.length - 1) / 2)) {
      return false
    }
    const segments = machine.disk.paths().filter((path) => path.startsWith(WAL))
    if (segments.length === 0) return false
    machine.kill('killed')
    ruined.add(machine.index)
    if (kind === 'rot') this.#rot(machine, segments)
    else if (kind === 'truncate') {
      machine.disk.truncate(dice.pick(segments), dice.below(this.#world.options.segmentBytes))
    } else {
      machine.disk.erase(dice.below(3) === 0 ? IDENTITY : WAL)
    }
    this.#restartLater(machine, 2 * SECOND_US)
    return true
  }

  /** Anywhere but in the last batch: rot there cannot be told from a torn write (CORRECTNESS, rule 12). */
  #rot({ disk }: SimMachine, segments: readonly string[]): void {
    const { dice } = this.#world
    const contents = segments.map((path) => disk.rot(path) as Uint8Array)
    const ends = contents.map(lastRecordAt)
    const newest = ends.findLastIndex((at) => at !== null)
    const place = dice.below(segments.length + 1)
    const bytes = contents[place] ?? disk.rot(IDENTITY)
    if (bytes === null) return
    const bound = place === newest ? (ends[newest] as number) : bytes.length
    for (let flips = dice.magnitude(1, 8); flips > 0; flips--) {
      const at = dice.below(bound)
      bytes[at] = (bytes[at] as number) ^ (1 << dice.below(8))
    }
  }
}

/** Where the last whole record of a segment begins; null when there is none. */
function lastRecordAt(bytes: Uint8Array): number | null {
  const header = decodeSegmentHeader(bytes)
  if (typeof header === 'string') return null
  const seed = storageSeed(header.storageId)
  let last: number | null = null
  for (let at = SEGMENT_HEADER_BYTES; ; ) {
    const decoded = decodeRecord(bytes, at, seed)
    if (!decoded.ok) return last
    last = at
    at = decoded.record.end
  }
}

/** Everything is well again from here on, for these machines. */
export function mend(network: SimNetwork, machines: readonly SimMachine[], diskUs: number): void {
  network.heal()
  network.weather = { ...CALM, delayUsMax: 2000 }
  for (const { mood, process } of machines) {
    Object.assign(mood, { ioPpm: 0, fullPpm: 0, hangUs: 0, writeUsMax: diskUs })
    mood.writeUsMin = Math.min(mood.writeUsMin, diskUs)
    if (process === null) continue
    process.armed = null
    process.slowUs = 0
    process.resume()
  }
}
