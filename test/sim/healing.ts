/**
 * The kind half of a world: everything is mended, for all or only for as many as a majority needs, and then there must be progress
 * within a bound. What is asked here is liveness; what must never be false is asked by the oracle all the time.
 */
import { majority } from '../../node/raft/quorum.ts'
import { Dice } from '../../node/testing/dice.ts'
import type { SimMachine } from '../../node/testing/sim-machine.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import type { Corruption } from './corruption.ts'
import { SimFailure } from './failure.ts'
import type { SimOptions } from './options.ts'
import { PROBE } from './wire.ts'

export interface HealingWorld {
  readonly options: SimOptions
  readonly timeline: Timeline
  readonly machines: readonly SimMachine[]
  readonly ruined: ReadonlySet<number>
  readonly corruption: Corruption
  readonly members: () => readonly number[] | null
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
  readonly #core: readonly SimMachine[]
  readonly #endUs: number

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

  /** Whoever supervises a node of the core starts it again. */
  ended(machine: SimMachine): void {
    if (this.#core.includes(machine)) this.#startSurely(machine)
  }

  run(): void {
    const { timeline, corruption, hasFailed, count } = this.#world
    const startedUs = timeline.nowUs
    this.#waitFor(() => this.#disagreement())
    if (hasFailed()) return
    count('kind: seconds to agree', Math.ceil((timeline.nowUs - startedUs) / SECOND_US))
    // The cluster is of use again: through every node that belongs to it.
    const members = this.#core.filter((one) => one.process?.runtime?.replica?.committed != null)
    for (const machine of members) this.#probe(machine)
    // Hashes are noted every few entries.
    const { length: voters } = this.#world.members() ?? []
    const why = (): string | null => corruption.unnoticed(members, voters)
    for (let i = 0; i < 40 && why() !== null; i++) this.#probe(members[0] as SimMachine)
    if (!hasFailed()) this.#waitFor(() => this.#disagreement() ?? why())
  }

  /** `why`: what is missing yet, null when nothing is. */
  #waitFor(why: () => string | null): void {
    const { timeline, until, hasFailed } = this.#world
    until(timeline.nowUs + SETTLE_US, () => false)
    while (!hasFailed()) {
      const missing = why()
      if (missing === null) return
      if (timeline.nowUs >= this.#endUs) {
        throw new SimFailure('liveness', 'kind', `after healing: ${missing}`)
      }
      until(timeline.nowUs + LOOK_US, () => false)
    }
  }

  /** Everybody who can be, or a majority of the founders. Those that founded nothing yet need each other. */
  #chooseCore(): SimMachine[] {
    const { options, machines, ruined } = this.#world
    const members = this.#world.members()
    const able = machines.filter(({ index }) => !ruined.has(index))
    if (options.healAll || members === null) return able
    const dice = new Dice(options.seed ^ 0xc02e)
    const well = dice.shuffle(able.filter(({ index }) => members.includes(index)))
    const least = majority(members.length)
    return well.slice(0, dice.between(least, Math.max(well.length, least)))
  }

  #startSurely(machine: SimMachine): void {
    if (machine.start() || this.#world.hasFailed()) return
    const { refusal } = machine
    const text = refusal === null ? 'died at its start' : `${refusal.code}: ${refusal.message}`
    throw new SimFailure('liveness', 'start', `${machine.options.name} does not start: ${text}`)
  }

  /** Null: all members of the core follow one leader, have applied the same, and no client waits. */
  #disagreement(): string | null {
    const { corruption } = this.#world
    const leaders = new Set<string>()
    let commit: number | null = null
    for (const { process, options } of this.#core) {
      const { name } = options
      const runtime = process?.runtime ?? null
      if (process === null || runtime === null) return `${name} is not running`
      if (runtime.clusterId === null) return `${name} belongs to no cluster`
      const { replica } = runtime
      if (replica === null || replica.committed === null) continue
      const { raft } = replica
      const isAside = corruption.isCorrupt(process) && replica.comparison.quarantined
      if (!isAside && !runtime.readiness().ready) return `${name}: ${runtime.readiness().reason}`
      leaders.add(raft.leader ?? '')
      commit ??= raft.log.commitIndex
      if (raft.log.commitIndex !== commit || raft.log.appliedIndex !== commit) {
        return `${name} is at index ${raft.log.appliedIndex}/${raft.log.commitIndex}, another at ${commit}`
      }
    }
    if (leaders.size !== 1) return `${leaders.size} leaders are followed`
    return this.#world.idle() ? null : 'clients wait for answers'
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
    while (!hasFailed() && !answered) {
      if (timeline.nowUs >= this.#endUs) {
        const what = `no write succeeds through ${machine.options.name}`
        throw new SimFailure('liveness', 'probe', what)
      }
      until(timeline.nowUs + LOOK_US, () => answered)
    }
  }
}
