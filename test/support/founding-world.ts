/**
 * A few founding nodes on one thread, with a network, disks and a clock that a seed decides: the real class
 * (node/founding.ts), driven as the runtime drives it. First cruel, then kind.
 */

import {
  blankRecord,
  parseFoundingMessage,
  parseFoundingRecord,
} from '../../node/founding/record.ts'
import {
  Founding,
  type FoundingOptions,
  type FoundingRecord,
  type Notice,
} from '../../node/founding.ts'
import { type Disk, disk } from './founding-lab.ts'

export interface WorldOptions {
  readonly seed: number
  readonly expect: number
  readonly candidates: number
  readonly invited?: number
  /** 0: nothing fails. 1: everything does. */
  readonly severity?: number
  /** Nodes start within this time. */
  readonly startMsMax?: number
  /** Planted bug: a save is reported before it is durable. */
  readonly lyingDisk?: boolean
  readonly rules?: FoundingOptions['rules']
}

interface Process {
  readonly founding: Founding
  readonly bootId: string
  saving: { readonly record: FoundingRecord; doneMs: number } | null
  log: { readonly clusterId: string; readonly entry1: string; doneMs: number } | null
}

interface Machine {
  readonly disk: Disk
  mayFound: boolean
  /** Not started before. */
  startMs: number
  /** JSON of the durable record file. */
  file: string
  /** The durable log: the bytes of entry 1. */
  log: { readonly clusterId: string; readonly entry1: string } | null
  process: Process | null
  readonly notices: Notice[]
}

interface Wire {
  readonly from: number
  readonly to: number
  readonly arriveMs: number
  readonly deliver: (to: Founding) => void
}

const STEP_MS = 50

export class WorldError extends Error {}

/** Integers from a seed (mulberry32). */
export function seeded(seed: number): (boundExclusive: number) => number {
  let state = seed >>> 0
  return (boundExclusive) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * boundExclusive)
  }
}

export class World {
  readonly machines: readonly Machine[]
  readonly #options: WorldOptions
  readonly #random: (boundExclusive: number) => number
  readonly #links = new Set<string>()
  readonly #cut = new Set<string>()
  #wires: Wire[] = []
  #kind = false
  nowMs = 0
  crashes = 0
  /** Every cluster that any node was ever told to found. */
  readonly founded = new Map<string, string>()

  constructor(options: WorldOptions) {
    this.#options = options
    this.#random = seeded(options.seed)
    const { candidates, invited = 0, startMsMax = 0 } = options
    this.machines = Array.from({ length: candidates + invited }, (_, index) => ({
      disk: disk(index),
      mayFound: index < candidates,
      startMs: this.#random(startMsMax + 1),
      file: JSON.stringify(blankRecord),
      log: null,
      process: null,
      notices: [],
    }))
    if ((options.severity ?? 0) === 0) return
    // Few links at the beginning are what makes overlapping sets be offered.
    const density = this.#random(100)
    for (const [a, b] of this.#pairs()) this.setLink(a, b, this.#random(100) < density)
  }

  recordOf(index: number): FoundingRecord {
    const record = parseFoundingRecord(JSON.parse((this.machines[index] as Machine).file))
    if (record === null) throw new WorldError(`n${index + 1} cannot read its own record`)
    return record
  }

  /** From here on everything heals. */
  beKind(): void {
    this.#kind = true
    this.#cut.clear()
  }

  setLink(a: number, b: number, up: boolean): void {
    const key = pair(a, b)
    if (up) this.#cut.delete(key)
    else this.#cut.add(key)
  }

  crash(index: number): void {
    const machine = this.machines[index] as Machine
    const { process } = machine
    if (process === null) return
    this.crashes++
    // A save under way may have reached the disk, whether or not anybody heard of it.
    if (process.saving !== null && this.#random(2) === 0)
      this.#write(machine, process.saving.record)
    if (process.log !== null && this.#random(2) === 0) machine.log = process.log
    machine.process = null
    for (const key of [...this.#links]) if (touches(key, index)) this.#drop(key)
  }

  /** The operator starts it again, now with an invitation. Only while enough others may found. */
  #turnIntoGuest(machine: Machine): void {
    const founders = this.machines.filter((other) => other.mayFound).length
    if (machine.mayFound && founders > this.#options.expect) machine.mayFound = false
  }

  start(index: number): void {
    const machine = this.machines[index] as Machine
    if (machine.process !== null) return
    if (!this.#kind && this.crashes > 0 && this.#random(2) === 0) this.#turnIntoGuest(machine)
    const { expect, rules } = this.#options
    const founding = new Founding({
      self: { ...machine.disk, urls: () => machine.disk.urls },
      bootId: this.#hex(16),
      record: this.recordOf(index),
      expect,
      founders: null,
      mayFound: machine.mayFound,
      inviteClusterId: null,
      settings: { expect },
      random: this.#random,
      randomId: () => this.#hex(32),
      ...(rules === undefined ? {} : { rules }),
    })
    machine.process = { founding, bootId: this.#hex(16), saving: null, log: null }
  }

  /** Runs until `done`, or returns false at `untilMs`. */
  run(untilMs: number, done: () => boolean = () => false): boolean {
    while (this.nowMs < untilMs) {
      if (done()) return true
      this.#step()
    }
    return done()
  }

  allBound(): string | null {
    const ids = new Set(this.machines.map((_, i) => this.recordOf(i).bound?.clusterId ?? ''))
    const [only = ''] = ids
    return ids.size === 1 && only !== '' ? only : null
  }

  #step(): void {
    this.nowMs += STEP_MS
    this.#misfortune()
    for (const [index, machine] of this.machines.entries()) {
      if (machine.process === null && this.nowMs >= machine.startMs) {
        if (this.#kind || this.crashes === 0 || this.#random(20) === 0) this.start(index)
      }
    }
    this.#connect()
    this.#arrive()
    for (const [index, machine] of this.machines.entries()) {
      const { process } = machine
      if (process === null) continue
      this.#finish(index, machine, process)
      process.founding.tick(STEP_MS)
      if (this.#random(3) > 0) process.founding.discoverySwept(0)
      this.#drain(index, machine, process)
      const busy = process.saving !== null || process.log !== null
      if (busy && !this.#kind && this.#random(100) < 30 * (this.#options.severity ?? 0)) {
        this.crash(index)
        continue
      }
      const { bound } = process.founding.record
      if (bound !== null && this.#random(20) === 0) this.#raft(index, bound.clusterId)
    }
  }

  #misfortune(): void {
    const { severity = 0 } = this.#options
    if (this.#kind || severity === 0) return
    const chance = (perSecond: number) =>
      this.#random(1_000_000) < (perSecond * severity * 1_000_000 * STEP_MS) / 1_000
    const anyone = () => this.#random(this.machines.length)
    if (chance(0.2)) this.crash(anyone())
    if (chance(0.02)) for (const index of this.machines.keys()) this.crash(index)
    if (chance(0.2)) this.setLink(anyone(), anyone(), false)
    if (chance(0.2)) this.setLink(anyone(), anyone(), true)
    if (chance(0.05)) {
      const side = this.machines.map(() => this.#random(2))
      for (const [a, b] of this.#pairs()) this.setLink(a, b, side[a] === side[b])
    }
    if (chance(0.05)) this.#cut.clear()
  }

  #pairs(): readonly (readonly [number, number])[] {
    return this.machines.flatMap((_, b) => Array.from({ length: b }, (__, a) => [a, b] as const))
  }

  #connect(): void {
    for (const [a, b] of this.#pairs()) {
      const key = pair(a, b)
      const wanted =
        this.machines[a]?.process != null &&
        this.machines[b]?.process != null &&
        !this.#cut.has(key)
      if (this.#links.has(key) && !wanted) this.#drop(key)
      if (!this.#links.has(key) && wanted && this.#random(4) === 0) {
        this.#links.add(key)
        this.#meet(a, b)
        this.#meet(b, a)
      }
    }
  }

  #meet(index: number, other: number): void {
    const peer = this.machines[other] as Machine
    const { disk: its, process } = peer
    this.machines[index]?.process?.founding.linkUp(its.nodeKey, {
      ...its,
      bootId: process?.bootId ?? '',
      clusterId: process?.founding.record.bound?.clusterId ?? null,
    })
  }

  #drop(key: string): void {
    if (!this.#links.delete(key)) return
    this.#wires = this.#wires.filter((wire) => pair(wire.from, wire.to) !== key)
    const [a = 0, b = 0] = key.split('-').map(Number)
    this.machines[a]?.process?.founding.linkDown((this.machines[b] as Machine).disk.nodeKey)
    this.machines[b]?.process?.founding.linkDown((this.machines[a] as Machine).disk.nodeKey)
  }

  #send(from: number, to: number, deliver: (to: Founding) => void): void {
    if (!this.#links.has(pair(from, to))) return
    const { severity = 0 } = this.#options
    if (!this.#kind && this.#random(100) < 20 * severity) return
    const delay = this.#random(this.#kind ? 50 : 50 + Math.floor(1_500 * severity))
    this.#wires.push({ from, to, arriveMs: this.nowMs + delay, deliver })
  }

  #arrive(): void {
    const due = this.#wires.filter((wire) => wire.arriveMs <= this.nowMs)
    this.#wires = this.#wires.filter((wire) => wire.arriveMs > this.nowMs)
    for (const { to, deliver } of due) {
      const { process } = this.machines[to] as Machine
      if (process !== null) deliver(process.founding)
    }
  }

  #raft(index: number, clusterId: string): void {
    const { nodeKey } = (this.machines[index] as Machine).disk
    for (const to of this.machines.keys()) {
      if (to !== index) this.#send(index, to, (founding) => founding.raftFrame(nodeKey, clusterId))
    }
  }

  #finish(index: number, machine: Machine, process: Process): void {
    const { saving, log } = process
    if (log !== null && log.doneMs <= this.nowMs) {
      machine.log = log
      process.log = null
      process.founding.logWritten()
    }
    if (saving !== null && saving.doneMs <= this.nowMs) {
      this.#write(machine, saving.record)
      process.saving = null
      if (!this.#options.lyingDisk) process.founding.recordSaved(saving.record.seq)
    }
    const { bound } = this.recordOf(index)
    if (bound?.how === 'founded' && machine.log?.clusterId !== bound.clusterId) {
      throw new WorldError(`n${index + 1} is bound and has no log`)
    }
  }

  #drain(index: number, machine: Machine, process: Process): void {
    const { founding } = process
    const { save, send, outcome, notices } = founding.drain()
    machine.notices.push(...notices)
    for (const { to, message } of send) {
      const text = JSON.stringify(message)
      const shown = JSON.stringify(message.records[0]?.record)
      if (!this.#options.lyingDisk && shown !== machine.file) {
        throw new WorldError(`n${index + 1} shows a record that is not durable`)
      }
      const peer = this.machines.findIndex((other) => other.disk.nodeKey === to)
      this.#send(index, peer, (receiver) => {
        const parsed = parseFoundingMessage(JSON.parse(text))
        if (parsed === null) throw new WorldError(`a message is refused: ${text}`)
        receiver.receive(machine.disk.nodeKey, parsed)
      })
    }
    const doneMs = this.nowMs + this.#random(this.#kind ? 20 : 200)
    if (save !== null) {
      if (process.saving !== null && !this.#options.lyingDisk) throw new WorldError('two saves')
      process.saving = { record: save, doneMs: this.#options.lyingDisk ? doneMs + 500 : doneMs }
      if (this.#options.lyingDisk) founding.recordSaved(save.seq)
    }
    if (outcome === null || outcome.type === 'join') return
    if (outcome.type === 'fatal') throw new WorldError(`n${index + 1}: ${outcome.detail}`)
    const { clusterId } = outcome
    const entry1 = Buffer.from(outcome.entry1).toString('hex')
    process.log = { clusterId, entry1, doneMs }
    if ((this.founded.get(clusterId) ?? entry1) !== entry1) throw new WorldError('entry 1 differs')
    this.founded.set(clusterId, entry1)
    if (this.founded.size > 1) throw new WorldError('two clusters')
  }

  #write(machine: Machine, record: FoundingRecord): void {
    machine.file = JSON.stringify(record)
  }

  #hex(digits: number): string {
    return Array.from({ length: digits }, () => this.#random(16).toString(16)).join('')
  }
}

function pair(a: number, b: number): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`
}

function touches(key: string, index: number): boolean {
  return key.split('-').map(Number).includes(index)
}
