/**
 * One simulated world: machines that run the production node, a network and disks that fail, clients that write and read, and the
 * checks that watch all of it. First cruel, then kind: nothing false may ever happen, and after healing there must be progress.
 */
import { isJoint } from '../../node/raft/change.ts'
import { listenToMarks } from '../../node/raft/marks.ts'
import type { Raft } from '../../node/raft/raft.ts'
import { Dice } from '../../node/testing/dice.ts'
import { type MachineHooks, SimMachine, type SimProcess } from '../../node/testing/sim-machine.ts'
import { SimNetwork } from '../../node/testing/sim-network.ts'
import { Timeline } from '../../node/testing/timeline.ts'
import type { PeerFrame } from '../../node/transport/transport.ts'
import { Clients } from './clients.ts'
import { halvesOf } from './configurations.ts'
import { Copies } from './copies.ts'
import { Corruption } from './corruption.ts'
import { SimFailure, wrong } from './failure.ts'
import { Faults, mend } from './faults.ts'
import { Healing } from './healing.ts'
import type { Operation } from './history.ts'
import { checkLinearizable, explain } from './linearizable.ts'
import { Operator } from './operator.ts'
import { livesOf, type SimOptions } from './options.ts'
import { Oracle } from './oracle.ts'
import { RollingHash } from './rolling-hash.ts'
import { Roster } from './roster.ts'
import { describeFrame } from './story.ts'
import { recode } from './wire.ts'

export interface SimResult {
  readonly failure: {
    readonly kind: SimFailure['kind']
    readonly check: string
    readonly what: string
  } | null
  /** Of every event, in order: the same seed gives the same one. */
  readonly hash: string
  readonly simulatedUs: number
  readonly operations: number
  readonly entries: number
  readonly leaders: number
  /** What happened how often: faults, client errors, marks reached (`mark raft: ..`). */
  readonly counts: ReadonlyMap<string, number>
  readonly history: readonly Operation[]
}

/** What the search for an order may cost a seed; beyond it the run says so. */
const HISTORY_STATES_MAX = 200_000
const SECOND_US = 1_000_000
/** Late machines come when there may be a cluster. */
const JOIN_US_MIN = 6 * SECOND_US

export class SimWorld {
  readonly options: SimOptions
  readonly timeline = new Timeline()
  readonly machines: SimMachine[]
  readonly #network: SimNetwork
  readonly #oracle: Oracle
  readonly #clients: Clients
  readonly #faults: Faults
  readonly #corruption = new Corruption()
  /** Whose voters the roster knows: configurations, and each place in a log where one was seen. */
  readonly #voters = new Set<string>()
  readonly #looked = new WeakSet<object>()
  readonly #copies: Copies
  readonly #roster: Roster
  readonly #operator: Operator
  /** Nodes that stopped because they were removed, by storageId. */
  readonly #stopped = new Map<string, string>()
  readonly #counts = new Map<string, number>()
  readonly #marks = new Map<string, number>()
  readonly #history: Operation[] = []
  readonly #hash = new RollingHash()
  readonly #tell: ((text: string) => void) | null
  #failure: SimFailure | null = null
  /** From the moment on at which everything is mended. */
  #healing: Healing | null = null
  /** So many changes of the voters to come are cut in two. */
  #splits = 0

  /** `tell`: hears the story of the world, line by line. */
  constructor(options: SimOptions, tell: ((text: string) => void) | null = null) {
    this.options = options
    this.#tell = tell
    const dice = new Dice(options.seed ^ 0x5eed)
    const [networkSeed, diskSeed, workloadSeed, faultSeed, operatorSeed] = Array.from(
      { length: 5 },
      () => dice.next(),
    ) as [number, number, number, number, number]
    this.#network = new SimNetwork(this.timeline, new Dice(networkSeed), options.weather, {
      recode: options.useCodec ? recode : null,
      sent: (from, to, frames) => this.#sent(from as SimProcess, to as SimProcess, frames),
      arrived: (from, to, frames) => this.#arrived(from as SimProcess, to as SimProcess, frames),
      fault: (kind) => this.#count(`network: ${kind}`),
      isCopy: (owner) => this.#copies.isCopy(owner),
      refusedCopy: (a, b) => {
        this.#count('copies: one is refused')
        this.#copies.refused(a, b)
      },
    })
    const disks = new Dice(diskSeed)
    const total = options.candidates + options.guests + options.joiners
    this.#roster = new Roster(total, options.expect)
    this.machines = Array.from({ length: total }, (_, i) => {
      return this.#makeMachine({ index: i, name: `n${i + 1}` }, this.#hooks(), disks, dice)
    })
    const copyDice = new Dice(options.seed ^ 0xc0b1)
    this.#copies = new Copies({
      timeline: this.timeline,
      dice: copyDice,
      hooks: this.#hooks(),
      makeMachine: ({ options: { name } }, hooks) =>
        this.#makeMachine({ index: total, name: `${name}'` }, hooks, copyDice, copyDice),
    })
    this.#oracle = new Oracle(
      livesOf(options),
      (peer) => this.#roster.diskOf(peer),
      (process) => this.#corruption.isCorrupt(process),
    )
    this.#clients = new Clients({
      timeline: this.timeline,
      dice: new Dice(workloadSeed),
      oracle: this.#oracle,
      options: options.clients,
      lives: options.limits.sessionTtlMs === undefined ? null : livesOf(options),
      processes: () => this.#serving(),
      note: (operation) => this.#history.push(operation),
      count: (what) => this.#count(what),
    })
    this.#operator = new Operator({
      timeline: this.timeline,
      dice: new Dice(operatorSeed),
      oracle: this.#oracle,
      options: options.operator,
      machines: this.machines,
      processes: () => this.#serving(),
      canDecide: (halves) => this.#roster.canDecide(halves),
      count: (what) => this.#count(what),
      tell: (text) => this.#say(text),
    })
    this.#faults = new Faults({
      timeline: this.timeline,
      dice: new Dice(faultSeed),
      network: this.#network,
      machines: this.machines,
      options,
      ruined: this.#roster.ruined,
      rotten: this.#roster.rotten,
      removed: this.#roster.removed,
      mayLose: (machine) => this.#mayLose(machine),
      wipe: (machine, keepKey) => this.#roster.wipe(machine, keepKey),
      leader: () => this.#leader(),
      corrupt: (machine) => this.#corruption.strike(machine, this.#voterCount),
      // Of a damaged disk nothing can be asked, nor of its copy.
      copy: (machine) => !this.#roster.ruined.has(machine.index) && this.#copies.strike(machine),
      isKind: () => this.#healing !== null,
      armSplit: () => {
        this.#splits++
      },
      visit: ({ process }, what) => process !== null && this.#clients.visit(process, what),
      count: (fault) => this.#count(`fault: ${fault}`),
      tell: (text) => this.#say(text),
    })
  }

  run(): SimResult {
    listenToMarks((name) => this.#marks.set(name, (this.#marks.get(name) ?? 0) + 1))
    try {
      this.#live()
    } catch (error) {
      this.#failed(error)
    } finally {
      listenToMarks(null)
    }
    for (const [name, count] of this.#marks) this.#count(`mark ${name}`, count)
    const { kind, check, message: what } = this.#failure ?? {}
    return {
      failure: kind === undefined ? null : { kind, check: check as string, what: what as string },
      hash: this.#hash.hex(),
      simulatedUs: this.timeline.nowUs,
      operations: this.#history.length,
      entries: this.#oracle.commitIndex,
      leaders: this.#oracle.leaders,
      counts: this.#counts,
      history: this.#history,
    }
  }

  // --- two phases ---------------------------------------------------------------------------------------------------

  #live(): void {
    const { options, timeline } = this
    const dice = new Dice(options.seed ^ 0x57a7)
    const { startUsMax, cruelUs, joiners } = options
    for (const machine of this.machines) {
      const isLate = machine.index >= this.machines.length - joiners
      const startUs = isLate ? dice.between(JOIN_US_MIN, cruelUs / 2) : dice.below(startUsMax)
      timeline.after(startUs, () => {
        machine.start()
        if (machine.process === null) this.#faults.ended(machine)
      })
    }
    this.#estrange(dice)
    this.#clients.start()
    this.#operator.start()
    timeline.after(options.calmUs, () => this.#faults.start())
    this.#until(options.cruelUs, () => false)
    if (this.#failure !== null) return
    this.#beKind()
    if (this.#failure !== null) return
    this.#checkRemoved()
    this.#clients.checkRefused()
    this.#checkHistory()
  }

  /** Blank nodes that do not all see each other are what makes two of them offer different sets. */
  #estrange(dice: Dice): void {
    const { strangersPpm, strangersUsMax } = this.options
    for (const { index: a } of this.machines) {
      for (let b = 0; b < a; b++) {
        if (!dice.chance(strangersPpm)) continue
        this.#network.cut(a, b)
        this.#network.cut(b, a)
        this.timeline.after(dice.between(SECOND_US, strangersUsMax), () => {
          this.#network.mend(a, b)
          this.#network.mend(b, a)
        })
      }
    }
  }

  #until(atUs: number, stop: () => boolean): void {
    this.timeline.runUntil(atUs, () => this.#failure !== null || stop())
  }

  #beKind(): void {
    const { options, timeline, machines } = this
    this.#faults.stop()
    this.#operator.isOver = true
    this.#say(() => 'KIND from here on')
    mend(this.#network, machines, options.diskUsMin)
    this.#copies.stop()
    this.#healing = new Healing({
      options,
      timeline,
      machines,
      roster: this.#roster,
      oracle: this.#oracle,
      corruption: this.#corruption,
      until: (atUs, stop) => this.#until(atUs, stop),
      hasFailed: () => this.#failure !== null,
      idle: () => this.#clients.idle,
      count: (what, by) => this.#count(what, by),
    })
    this.#healing.start()
    this.#clients.finish()
    this.#healing.run()
  }

  #checkHistory(): void {
    const verdict = checkLinearizable(this.#history, { statesMax: HISTORY_STATES_MAX })
    if (verdict.ok === 'gave-up') this.#count('history: gave up')
    else if (!verdict.ok) wrong('linearizable', explain(verdict))
  }

  // --- who is who ---------------------------------------------------------------------------------------------------

  #makeMachine(
    { index, name }: { readonly index: number; readonly name: string },
    hooks: MachineHooks,
    disks: Dice,
    dice: Dice,
  ): SimMachine {
    const { options } = this
    const spread = options.clockPpmSpread
    const machine = new SimMachine(
      { timeline: this.timeline, network: this.#network, hooks },
      new Dice(disks.next()),
      {
        index,
        name,
        expect: options.expect,
        mayFound: index < options.candidates,
        heartbeatMs: options.heartbeatMs,
        electionMs: options.electionMs,
        limits: options.limits,
        autopilot: options.autopilot,
        segmentBytes: options.segmentBytes,
        makeStateMachine: () => this.#corruption.makeStateMachine(index),
        clockPpm: 1_000_000 - spread + dice.below(2 * spread + 1),
        turnUs: 1 + dice.below(options.turnUsMax),
      },
    )
    Object.assign(machine.mood, { writeUsMin: options.diskUsMin, writeUsMax: options.diskUsMax })
    return machine
  }

  #hooks(): MachineHooks {
    return {
      turned: (process) => this.#turned(process),
      boundary: (process, name) => this.#say(() => `${process.machine.options.name}   ${name}`),
      crashed: (process, error) => {
        const text = (error as Error)?.stack ?? String(error)
        if (error instanceof SimFailure) this.#failed(error)
        else
          this.#failed(
            new SimFailure(
              'crash',
              (error as Error).message,
              `${process.machine.options.name}: ${text}`,
            ),
          )
      },
      ended: (process) => {
        this.#clients.disconnected(process)
        this.#oracle.forget(process)
        this.#say(() => `${process.machine.options.name} IS GONE`)
        this.timeline.after(1, () => this.#startAgain(process.machine))
      },
      fatal: (process, code, message) => this.#ended(process, code, message),
      refused: (machine, error) => {
        this.#count(`start refused: ${error.code}`)
        this.#say(() => `${machine.options.name} REFUSES TO START ${error.message}`)
        const { index } = machine
        const explained =
          this.#roster.ruined.has(index) || error.code === 'disk-full' || error.code === 'io'
        if (!explained)
          throw new SimFailure('crash', 'start', `${machine.options.name}: ${error.message}`)
      },
      watchLog: (process, how, log) => this.#roster.watch(process, how, log),
      log: (process, level, event, fields) =>
        this.#say(
          () => `${process.machine.options.name} ${level} ${event} ${JSON.stringify(fields)}`,
        ),
    }
  }

  /** A node ended itself: for a reason that the world has given it, or it is a finding. */
  #ended(process: SimProcess, code: string, message: string): void {
    this.#count(`node ended: ${code}`)
    this.#say(() => `${process.machine.options.name} ENDS ITSELF ${code}: ${message}`)
    if (code === 'removed' || code === 'left') return this.#wasRemoved(process)
    const isRuin = code === 'corrupt-snapshot' && this.#roster.ruined.has(process.index)
    if (code !== 'io' && code !== 'disk-full' && !isRuin) {
      throw new SimFailure('crash', `fatal ${code}`, `${process.machine.options.name}: ${message}`)
    }
  }

  #wasRemoved({ machine, storageId }: SimProcess): void {
    this.#roster.removed.add(machine.index)
    this.#stopped.set(storageId, machine.options.name)
  }

  /** Asked at the end: who stopped may have been the first and only one that knew, and have died of it (seed 4228498691, hell). */
  #checkRemoved(): void {
    for (const [storageId, name] of this.#stopped) {
      if (this.#oracle.configurations.isRemoved(storageId)) continue
      wrong('removed', `${name} stopped as removed, which no committed configuration says`)
    }
  }

  /** Whoever supervises the node does so, sooner or later. */
  #startAgain(machine: SimMachine): void {
    if (this.#roster.removed.has(machine.index)) return
    if (this.#healing === null) this.#faults.ended(machine)
    else this.#healing.ended(machine)
  }

  #serving(): SimProcess[] {
    return this.machines.flatMap(({ process }) =>
      process?.runtime?.replica?.committed != null ? [process] : [],
    )
  }

  /** A minority may lose what it has, and only while no change of the members is under way that nobody sees yet. */
  #mayLose(machine: SimMachine): boolean {
    if (!this.#roster.isFounded || this.#operator.isAsking) return false
    // Whoever a change needs has said that it lives, and must not be a liar.
    if (this.machines.some(({ process }) => process?.runtime?.replica?.raft.asksForChange))
      return false
    const { configurations, commitIndex } = this.#oracle
    if (configurations.newest === null) return false
    return this.#roster.canDecide(configurations.halves(commitIndex), machine)
  }

  get #voterCount(): number {
    return this.#oracle.configurations.newest?.record.configuration.voters.length ?? 0
  }

  #leader(): SimMachine | null {
    let best: SimMachine | null = null
    let bestTerm = -1
    for (const machine of this.machines) {
      const raft = machine.process?.runtime?.replica?.raft
      if (raft === undefined || raft.role !== 'leader' || raft.term <= bestTerm) continue
      best = machine
      bestTerm = raft.term
    }
    return best
  }

  // --- watching -----------------------------------------------------------------------------------------------------

  #turned(process: SimProcess): void {
    this.#hash.add(this.timeline.nowUs, process.index)
    this.#oracle.look(process)
    this.#corruption.look(process)
    const raft = process.runtime?.replica?.raft
    if (raft === undefined) return
    this.#hash.add(raft.log.lastIndex, raft.log.commitIndex)
    this.#noteVoters(raft)
    this.#faults.look(process, raft)
    if (this.#splits > 0 && this.#isEntering(raft)) {
      this.#splits--
      this.#say(() => `FAULT the change is split`)
      this.#faults.split(process.machine)
    }
  }

  #noteVoters({ log }: Raft): void {
    const at = log.configuration
    if (at === null || this.#looked.has(at)) return
    this.#looked.add(at)
    const { voters, votersOutgoing } = at.record.configuration
    const name = `${at.index} ${voters} ${votersOutgoing}`
    if (!this.#voters.has(name)) this.#roster.restore(halvesOf(at.record.configuration))
    this.#voters.add(name)
  }

  #isEntering({ role, log }: Raft): boolean {
    const at = role === 'leader' ? log.configuration : null
    return at !== null && at.index > log.commitIndex && isJoint(at.record.configuration)
  }

  /** What a message promises must be on the sender's disk by now (rules 1 and 2), whether or not a crash comes to show it. */
  #sent(from: SimProcess, to: SimProcess, frames: readonly PeerFrame[]): void {
    const durable = this.#roster.disk(from.index)
    for (const frame of frames) {
      this.#say(
        () => `${from.machine.options.name} -> ${to.machine.options.name} ${describeFrame(frame)}`,
      )
      if (frame.type !== 'raft') continue
      const { message } = frame
      if (message.type === 'voteResponse' && message.granted) {
        if (!durable.hasVote(message.term, to.peer)) {
          wrong('vote-durable', `${from.machine.options.name} gave a vote that is not on its disk`)
        }
      } else if (message.type === 'appendResponse' && message.accepted) {
        const raft = from.runtime?.replica?.raft
        if (raft === undefined || raft.term !== message.term) continue
        const term = this.#oracle.termAt(raft.log, message.matchIndex)
        if (!durable.holds(message.matchIndex, term)) {
          wrong(
            'append-durable',
            `${from.machine.options.name} acknowledged entry ${message.matchIndex}, which is not on its disk`,
          )
        }
      }
    }
  }

  #arrived(from: SimProcess, to: SimProcess, frames: readonly PeerFrame[]): void {
    this.#hash.add(from.index * 256 + to.index, frames.length)
  }

  #failed(error: unknown): void {
    if (this.#failure !== null) return
    this.#failure =
      error instanceof SimFailure
        ? error
        : new SimFailure('crash', 'simulator', (error as Error)?.stack ?? String(error))
    this.#say(() => `FOUND ${this.#failure?.kind}: ${this.#failure?.message}`)
  }

  #count(what: string, by = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + by)
  }

  #say(text: () => string): void {
    if (this.#tell === null) return
    this.#tell(`${(this.timeline.nowUs / 1000).toFixed(3).padStart(11)} ms  ${text()}`)
  }
}
