/**
 * The kind half of a world: everything is mended, for all or only for as many as a majority needs, and then there must be progress
 * within a bound. What is asked here is liveness; what must never be false is asked by the oracle all the time.
 */
import { type PeerId, peerIdOf } from '../../node/raft/types.ts'
import type { Replica } from '../../node/replica.ts'
import { Dice } from '../../node/testing/dice.ts'
import type { SimMachine } from '../../node/testing/sim-machine.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import { halvesOf, isQuorum } from './configurations.ts'
import type { Corruption } from './corruption.ts'
import { SimFailure } from './failure.ts'
import type { SimOptions } from './options.ts'
import type { Oracle } from './oracle.ts'
import type { Roster } from './roster.ts'
import { PROBE } from './wire.ts'

export interface HealingWorld {
  readonly options: SimOptions
  readonly timeline: Timeline
  readonly machines: readonly SimMachine[]
  readonly roster: Roster
  readonly oracle: Oracle
  readonly corruption: Corruption
  /** Lets the world live until then, or until it has failed or `stop` holds. */
  readonly until: (atUs: number, stop: () => boolean) => void
  readonly hasFailed: () => boolean
  /** No client waits for an answer. */
  readonly idle: () => boolean
  readonly count: (what: string, by: number) => void
}

const SECOND_US = 1_000_000
/** A fifth of a second at a time, the kind world is asked whether it has agreed. */
const LOOK_US = 200_000
/** Founding and links to machines that were away need their own time before the first question. */
const SETTLE_US = 2 * SECOND_US

export class Healing {
  readonly #world: HealingWorld
  /** Who must be well. */
  #core: readonly SimMachine[]
  readonly #endUs: number
  #asked = 0

  constructor(world: HealingWorld) {
    this.#world = world
    this.#core = this.#chooseCore()
    this.#endUs = world.timeline.nowUs + world.options.kindUs
  }

  /** Those who shall live are started, the others are gone for good. */
  start(): void {
    for (const machine of this.#world.machines) {
      if (this.#core.includes(machine)) this.#startSurely(machine)
      else machine.kill('killed')
    }
  }

  /** Whoever supervises a node of the core starts it again, unless it was removed. */
  ended(machine: SimMachine): void {
    if (this.#core.includes(machine)) this.#startSurely(machine)
  }

  run(): void {
    const { timeline, hasFailed, count } = this.#world
    const startedUs = timeline.nowUs
    this.#waitFor(() => this.#disagreement())
    if (hasFailed()) return
    count('kind: seconds to agree', Math.ceil((timeline.nowUs - startedUs) / SECOND_US))
    // The cluster is of use again: through every node that belongs to it.
    const members = this.#core.filter((machine) => this.#memberOn(machine) !== null)
    for (const machine of members) this.#probe(machine)
    if (!hasFailed()) this.#waitFor(() => this.#disagreement() ?? this.#unnoticed())
  }

  /** A state that is wrong is noticed where hashes are noted, which is every few entries: one more is written each time. */
  #unnoticed(): string | null {
    const { corruption, oracle } = this.#world
    const members = this.#core.filter((machine) => this.#memberOn(machine) !== null)
    const { newest } = oracle.configurations
    const voters = newest === null ? [] : halvesOf(newest.record.configuration).flat()
    const why = corruption.unnoticed(members, voters)
    const request = { type: 'command', command: PROBE, timeoutMs: 10_000 } as const
    if (why !== null) members[this.#asked++ % members.length]?.process?.request(request, () => {})
    return why
  }

  /** `why`: what is missing yet, null when nothing is. */
  #waitFor(why: () => string | null): void {
    const { timeline, until, hasFailed } = this.#world
    until(timeline.nowUs + SETTLE_US, () => false)
    while (!hasFailed()) {
      this.#widen()
      const missing = why()
      if (missing === null) return
      if (timeline.nowUs >= this.#endUs) {
        throw new SimFailure('liveness', 'kind', `after healing: ${missing}`)
      }
      until(timeline.nowUs + LOOK_US, () => false)
    }
  }

  /**
   * Everybody who can be, or as few as can decide whatever configuration is in some log. Those that founded nothing yet need each
   * other.
   */
  #chooseCore(): SimMachine[] {
    const { options, machines, roster } = this.#world
    const able = machines.filter(({ index }) => !roster.ruined.has(index))
    if (options.healAll || !roster.isFounded) return able
    const dice = new Dice(options.seed ^ 0xc02e)
    const well = dice.shuffle(this.#able())
    let least = 1
    while (least < well.length && !this.#decides(well.slice(0, least))) least++
    return well.slice(0, dice.between(least, Math.max(well.length, least)))
  }

  /**
   * A change that had its answers when the world became kind may come into a log only now; then whoever it needs must live, or nobody
   * could ever decide again.
   */
  #widen(): void {
    const { roster, count } = this.#world
    const more = this.#able().filter((machine) => !this.#core.includes(machine))
    while (roster.isFounded && more.length > 0 && !this.#decides(this.#core)) {
      const machine = more.shift() as SimMachine
      count('kind: one more is needed', 1)
      this.#core = [...this.#core, machine]
      this.#startSurely(machine)
    }
  }

  #decides(machines: readonly SimMachine[]): boolean {
    const { roster, oracle } = this.#world
    const peers = new Set(machines.map(({ index }) => roster.peerOn(index)))
    return isQuorum(oracle.configurations.halves(oracle.commitIndex), (peer) => peers.has(peer))
  }

  /** Machines of members whose disk is not lost. */
  #able(): SimMachine[] {
    const { machines, roster } = this.#world
    const members = this.#members()
    return machines.filter(
      ({ index }) => !roster.ruined.has(index) && members.has(roster.peerOn(index) ?? ''),
    )
  }

  /** Of every configuration that may be in force. */
  #members(): Set<PeerId> {
    const { configurations, commitIndex } = this.#world.oracle
    const newest = configurations.newest?.record.configuration.members ?? []
    return new Set([...newest.map(peerIdOf), ...configurations.halves(commitIndex).flat()])
  }

  #startSurely(machine: SimMachine): void {
    if (machine.start() || this.#world.hasFailed()) return
    const { refusal } = machine
    const text = refusal === null ? 'died at its start' : `${refusal.code}: ${refusal.message}`
    throw new SimFailure('liveness', 'start', `${machine.options.name} does not start: ${text}`)
  }

  /** Null: all members in the core follow one leader, have applied the same, the others know what they are, and no client waits. */
  #disagreement(): string | null {
    const leaders = new Set<string>()
    const { newest } = this.#world.oracle.configurations
    if (newest !== null && newest.record.configuration.votersOutgoing.length > 0) {
      return `configuration ${newest.index} is joint and was not left`
    }
    for (const machine of this.#core) {
      const why = this.#isWell(machine)
      if (why !== null) return why
      const raft = this.#memberOn(machine)?.raft
      if (raft !== undefined) leaders.add(raft.leader ?? '')
    }
    if (leaders.size !== 1) return `${leaders.size} leaders are followed`
    const unsettled = this.#unsettled()
    if (unsettled !== null) return unsettled
    return this.#world.idle() ? null : 'clients wait for answers'
  }

  #isWell(machine: SimMachine): string | null {
    const { corruption, oracle, roster } = this.#world
    const { process, options } = machine
    const { name } = options
    const runtime = process?.runtime ?? null
    const isRemoved = roster.removed.has(machine.index)
    if (process === null || runtime === null) return isRemoved ? null : `${name} is not running`
    if (oracle.configurations.isRemoved(process.storageId)) return `${name} was removed, and runs`
    if (runtime.clusterId === null) {
      // Under the key of a founder a blank disk may have to wait for its operator (docs/founding.md, F7 and F8).
      return roster.keptKeys.has(machine.index) ? null : `${name} belongs to no cluster`
    }
    const replica = this.#memberOn(machine)
    if (replica === null) return null
    const { log } = replica.raft
    const isAside = corruption.isCorrupt(process) && replica.comparison.quarantined
    if (!isAside && !runtime.readiness().ready) return `${name}: ${runtime.readiness().reason}`
    const commit = oracle.commitIndex
    if (log.commitIndex === commit && log.appliedIndex === commit) return null
    return `${name} is at index ${log.appliedIndex}/${log.commitIndex}, and ${commit} is committed`
  }

  /** With everybody well, the autopilot has let in who waits, and made the number of voters odd. */
  #unsettled(): string | null {
    const { options, oracle, corruption } = this.#world
    const { autopilot, healAll } = options
    if (autopilot === null || !healAll) return null
    const { settings, configuration } = oracle.configurations.newest?.record ?? {}
    const { voters = [], learners = [] } = configuration ?? {}
    const votersMax = Number(settings?.maxVoters ?? autopilot.maxVoters)
    const living = this.#core.filter(({ process }) => process?.clusterId != null)
    const outside = living.filter((machine) => this.#memberOn(machine) === null)
    if (autopilot.admit === 'auto' && outside.length > 0) {
      return `${outside.map((one) => one.options.name).join(', ')} waits for admission`
    }
    const able = living.filter((machine) => {
      const id = this.#memberOn(machine)?.committed?.configuration.members.find(
        (one) => peerIdOf(one) === machine.process?.peer,
      )?.memberId
      return id !== undefined && learners.includes(id)
    })
    // A machine whose state is in doubt gets no vote.
    const isAble = able.some(({ process }) => process !== null && !corruption.isCorrupt(process))
    const isEven = voters.length % 2 === 0 && voters.length < votersMax
    return isEven && isAble ? `${voters.length} vote, and another one could` : null
  }

  /** Null unless it is a member by the newest committed configuration. */
  #memberOn({ process }: SimMachine): Replica | null {
    const replica = process?.runtime?.replica ?? null
    const members = this.#world.oracle.configurations.newest?.record.configuration.members ?? []
    const isMember = process !== null && members.some((one) => peerIdOf(one) === process.peer)
    return isMember ? replica : null
  }

  /** A write through this node, asked again where it is refused or cut off: a client would do the same. */
  #probe(machine: SimMachine): void {
    const { timeline, until, hasFailed } = this.#world
    let answered = false
    const ask = (): void => {
      if (answered) return
      let refused = false
      machine.process?.request({ type: 'command', command: PROBE, timeoutMs: 10_000 }, (answer) => {
        refused = !answer.ok
        if (refused) timeline.after(LOOK_US, ask)
        else answered = true
      })
      timeline.after(20 * SECOND_US, () => !refused && ask())
    }
    ask()
    // The autopilot may find that it is needed no more.
    while (!hasFailed() && !answered && this.#memberOn(machine) !== null) {
      if (timeline.nowUs >= this.#endUs) {
        const what = `no write succeeds through ${machine.options.name}`
        throw new SimFailure('liveness', 'probe', what)
      }
      until(timeline.nowUs + LOOK_US, () => answered)
    }
  }
}
