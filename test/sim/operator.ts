/**
 * Somebody who changes the members while the world is cruel: admits who waits, promotes, demotes, replaces and removes, through
 * whatever node is at hand, as `raft-p2p members` does. What a change has led to is compared with what is committed.
 */
import {
  type ChangeReport,
  type ChangeRequest,
  encodeChangeRequest,
} from '../../node/change-request.ts'
import { type Configuration, peerIdOf } from '../../node/raft/types.ts'
import type { ServiceAnswer } from '../../node/service.ts'
import type { Dice } from '../../node/testing/dice.ts'
import type { SimMachine, SimProcess } from '../../node/testing/sim-machine.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import type { Half } from './configurations.ts'
import { wrong } from './failure.ts'
import type { OperatorOptions } from './options.ts'
import type { Oracle } from './oracle.ts'

export interface OperatorWorld {
  readonly timeline: Timeline
  readonly dice: Dice
  readonly oracle: Oracle
  readonly options: OperatorOptions
  readonly machines: readonly SimMachine[]
  /** The processes that can be asked. */
  readonly processes: () => readonly SimProcess[]
  /** These voters could still decide: what they would need is not lost for good. */
  readonly canDecide: (halves: readonly Half[]) => boolean
  readonly count: (what: string) => void
  readonly tell: (text: () => string) => void
}

const DECODER = new TextDecoder()
const RECHECK_US = 1_000_000
const RECHECKS = 300
const HOP_US = 1000
/** A change with fewer voters than this is not asked for: a world of one voter shows nothing. */
const VOTERS_MIN = 2

type Wish = Pick<ChangeRequest, 'verb' | 'id' | 'with' | 'settings'>

export class Operator {
  readonly #world: OperatorWorld
  isOver = false
  /** A change was asked for, and its end is not known. */
  isAsking = false

  constructor(world: OperatorWorld) {
    this.#world = world
  }

  start(): void {
    const { timeline, dice, options } = this.#world
    if (!options.works) return
    timeline.after(dice.between(options.pauseUsMin, options.pauseUsMax), () => {
      if (this.isOver) return
      if (!this.isAsking) this.#ask()
      this.start()
    })
  }

  #ask(): void {
    const { dice, oracle } = this.#world
    const newest = oracle.configurations.newest
    const processes = this.#world.processes()
    if (newest === null || processes.length === 0) return
    const wish = this.#wish(newest.record.configuration)
    if (wish === null) return
    // Now and then it must be the configuration that the operator has seen.
    const ifConfig = dice.below(4) === 0 ? { ifConfig: newest.index } : {}
    this.#send(dice.pick(processes), { ...wish, ...ifConfig })
  }

  #wish(configuration: Configuration): Wish | null {
    const { dice, machines, oracle, options } = this.#world
    const { voters, learners, members } = configuration
    const known = new Set(members.map(peerIdOf))
    // Who was removed must first be told: it comes back as somebody new.
    const waiting = machines.flatMap(({ process }) => {
      if (process?.clusterId == null || known.has(process.peer)) return []
      return oracle.configurations.isRemoved(process.storageId) ? [] : [process]
    })
    const wishes: Wish[] = []
    const add = (weight: number, wish: Wish): void => {
      for (let i = 0; i < weight; i++) wishes.push(wish)
    }
    const some = (ids: readonly number[]): string => String(dice.pick(ids))
    // Other settings make the autopilot change two voters at once.
    if (options.hasAutopilot)
      add(2, { verb: 'settings', settings: { maxVoters: dice.pick([3, 5]) } })
    if (waiting.length > 0) add(4, { verb: 'add', id: dice.pick(waiting).nodeKey })
    if (learners.length > 0) {
      add(4, { verb: 'promote', id: some(learners) })
      add(1, { verb: 'remove', id: some(learners) })
      add(3, { verb: 'replace', id: some(voters), with: some(learners) })
    }
    const id = some(voters)
    const others = voters.filter((voter) => String(voter) !== id)
    if (others.length >= VOTERS_MIN && this.#couldDecide(configuration, others)) {
      add(1, { verb: 'demote', id })
      add(2, { verb: 'remove', id })
    }
    return wishes.length === 0 ? null : dice.pick(wishes)
  }

  #couldDecide({ members }: Configuration, voters: readonly number[]): boolean {
    const half = members.filter(({ memberId }) => voters.includes(memberId)).map(peerIdOf)
    return this.#world.canDecide([half])
  }

  #send(process: SimProcess, request: ChangeRequest): void {
    const { timeline, count, tell, options } = this.#world
    const { timeoutMs } = options
    tell(() => `OPERATOR asks ${process.machine.options.name}: ${JSON.stringify(request)}`)
    this.isAsking = true
    let over = false
    const end = (how: string): void => {
      if (over) return
      over = true
      this.isAsking = false
      patience.run = null
      count(`operator: ${request.verb} ${how}`)
      tell(() => `OPERATOR hears of ${request.verb}: ${how}`)
    }
    const patience = timeline.after(2 * timeoutMs * 1000, () => end('no answer'))
    const body = encodeChangeRequest(request)
    process.request({ type: 'change', body, timeoutMs }, (answer) => {
      timeline.after(HOP_US, () => {
        end(answer.ok ? 'done' : answer.error.code)
        this.#check(answer)
      })
    })
  }

  #check(answer: ServiceAnswer, triesLeft = RECHECKS): void {
    if (!answer.ok) {
      if (answer.error.code !== 'internal') return
      wrong('answers', `a change was answered ${answer.error.code}: ${answer.error.message}`)
    }
    const { configIndex, voters, learners } = JSON.parse(
      DECODER.decode(answer.body),
    ) as ChangeReport
    const known = this.#world.oracle.configurations.committedAt(configIndex)
    if (known === undefined) {
      // Whoever applied it died before its turn was over, and the oracle hears of it from the next who does.
      if (triesLeft > 0)
        this.#world.timeline.after(RECHECK_US, () => this.#check(answer, triesLeft - 1))
      return
    }
    const text = JSON.stringify([voters, learners])
    const { configuration } = known.record
    if (JSON.stringify([configuration.voters, configuration.learners]) !== text) {
      wrong('answers', `configuration ${configIndex} is not ${text} as an operator was told`)
    }
    if (configuration?.votersOutgoing.length !== 0) {
      wrong('answers', `an operator was told of the joint configuration ${configIndex} as an end`)
    }
  }
}
