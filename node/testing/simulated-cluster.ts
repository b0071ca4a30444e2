/**
 * A whole cluster in one process and in virtual time, for testing an application's own state machine against crashes, power cuts and
 * partitions: the production node, over simulated links, disks and clocks. One seed, one story; nothing here waits for real time.
 */
import {
  type Consistency,
  decodeOutcome,
  type ErrorBody,
  encodeCommand,
} from '../../client/protocol.ts'

import { type ChangeReport, type ChangeRequest, encodeChangeRequest } from '../change-request.ts'
import type { StateMachine } from '../machine/machine.ts'
import type { RuntimeParts } from '../runtime.ts'
import type { ServiceAnswer, ServiceRequest, Status } from '../service.ts'
import { Dice } from './dice.ts'
import { SimMachine, type SimProcess } from './sim-machine.ts'
import { CALM, SimNetwork, type Weather } from './sim-network.ts'
import { Timeline } from './timeline.ts'

export interface SimulatedClusterOptions {
  /** The application. Called for each start of each node: state lives in the log, not in the machine. */
  readonly machine: () => StateMachine
  /** Founders; default 3. */
  readonly nodes?: number
  /** Decides everything that is left to chance; default 1. */
  readonly seed?: number
  /** Delays in microseconds and chances in parts per million; default a calm network. */
  readonly weather?: Partial<Weather>
  readonly heartbeatMs?: number
  readonly electionMs?: number
  /** Default null: members change only when somebody asks for it. */
  readonly autopilot?: RuntimeParts['autopilot']
}

/** A request that was answered with an error; the fields are those of the client protocol. */
export class SimulatedRequestError extends Error {
  override readonly name = 'SimulatedRequestError'
  readonly code: ErrorBody['code'] | 'no-answer'
  readonly maybeApplied: boolean

  constructor(code: ErrorBody['code'] | 'no-answer', message: string, maybeApplied: boolean) {
    super(message)
    this.code = code
    this.maybeApplied = maybeApplied
  }
}

const NOTHING = new Uint8Array(0)
const STEP_US = 10_000
const REQUEST_MS = 30_000

export class SimulatedCluster {
  readonly #timeline = new Timeline()
  readonly #network: SimNetwork
  readonly #machines: SimMachine[] = []
  readonly #makeMachine: (mayFound: boolean) => SimMachine
  #crash: unknown = null
  #session: number | null = null
  #sequence = 0

  /** All nodes start at once; `untilReady` runs until they are one cluster. */
  constructor(options: SimulatedClusterOptions) {
    const { nodes = 3, seed = 1, heartbeatMs = 100, electionMs = 1000 } = options
    const dice = new Dice(seed)
    const weather = { ...CALM, ...options.weather }
    this.#network = new SimNetwork(this.#timeline, new Dice(dice.next()), weather, { recode: null })
    const hooks = {
      crashed: (_: SimProcess, error: unknown) => {
        this.#crash ??= error
      },
    }
    const world = { timeline: this.#timeline, network: this.#network, hooks }
    this.#makeMachine = (mayFound) =>
      new SimMachine(world, new Dice(dice.next()), {
        index: this.#machines.length,
        name: `n${this.#machines.length + 1}`,
        expect: nodes,
        mayFound,
        heartbeatMs,
        electionMs,
        autopilot: options.autopilot ?? null,
        makeStateMachine: options.machine,
        clockPpm: 999_000 + dice.below(2001),
        turnUs: 1 + dice.below(100),
      })
    for (let node = 0; node < nodes; node++) this.#machines.push(this.#makeMachine(true))
    for (const machine of this.#machines) machine.start()
  }

  /** Starts one more node, which joins the cluster that stands. Returns its place. */
  join(): number {
    const machine = this.#makeMachine(false)
    this.#machines.push(machine)
    machine.start()
    return machine.index
  }

  /** Changes the members through a node, as `raft-p2p members` does. Throws SimulatedRequestError. */
  changeMembers(node: number, request: ChangeRequest, timeoutMs = REQUEST_MS): ChangeReport {
    const body = encodeChangeRequest(request)
    const answer = this.#ask(node, { type: 'change', body, timeoutMs })
    return JSON.parse(new TextDecoder().decode(answer.body)) as ChangeReport
  }

  /** Virtual time since the cluster was made. */
  get nowMs(): number {
    return this.#timeline.nowMs
  }

  /** The place of the node that leads the newest term, or null. */
  get leader(): number | null {
    let best: { index: number; term: number } | null = null
    for (const { index, process } of this.#machines) {
      const raft = process?.runtime?.replica?.raft
      if (raft?.role === 'leader' && raft.term > (best?.term ?? -1)) {
        best = { index, term: raft.term }
      }
    }
    return best?.index ?? null
  }

  /** As `GET /v1/status` of that node; null while it is not running. */
  status(node: number): Status | null {
    return this.#machine(node).process?.runtime?.status() ?? null
  }

  /** The hash of everything the node has applied, and at which index; null while it is down or blank. */
  stateHash(node: number): { readonly index: number; readonly hash: string } | null {
    return this.#machine(node).process?.runtime?.replica?.stateHash ?? null
  }

  /** Lets virtual time pass. Throws what a node threw. */
  run(ms: number): void {
    this.#timeline.runUntil(
      this.#timeline.nowUs + Math.round(ms * 1000),
      () => this.#crash !== null,
    )
    if (this.#crash !== null) throw this.#crash
  }

  /** Runs until `done`; throws after `timeoutMs` of virtual time. */
  until(done: () => boolean, timeoutMs = REQUEST_MS): void {
    const endUs = this.#timeline.nowUs + timeoutMs * 1000
    while (!done()) {
      if (this.#timeline.nowUs >= endUs)
        throw new Error(`not within ${timeoutMs} ms of virtual time`)
      this.run(STEP_US / 1000)
    }
  }

  /** Runs until every running node follows one leader and has applied what it has committed. */
  untilReady(timeoutMs = 60_000): void {
    this.until(() => {
      const running = this.#machines.flatMap(({ process }) => process?.runtime ?? [])
      return running.length > 0 && running.every((runtime) => runtime.readiness().ready)
    }, timeoutMs)
  }

  /**
   * Sends one operation of the state machine through a node and returns the machine's result. It is applied exactly once. Throws
   * SimulatedRequestError.
   */
  apply(node: number, operation: Uint8Array, timeoutMs = REQUEST_MS): Uint8Array {
    if (this.#session === null) {
      const opening = { kind: 'openSession', session: 0, sequence: 0, firstOutstanding: 0 } as const
      const command = encodeCommand({ ...opening, operation: NOTHING })
      this.#session = this.#ask(node, { type: 'command', command, timeoutMs }).index
    }
    const sequence = ++this.#sequence
    const numbers = { session: this.#session, sequence, firstOutstanding: sequence }
    const command = encodeCommand({ kind: 'operation', ...numbers, operation })
    const { body } = this.#ask(node, { type: 'command', command, timeoutMs })
    return decodeOutcome(body).body
  }

  /**
   * Sends an encoded Command (client/protocol.ts), as a client with sessions or keys of its own would, and returns the encoded Outcome.
   * Throws SimulatedRequestError.
   */
  command(node: number, command: Uint8Array, timeoutMs = REQUEST_MS): Uint8Array {
    return this.#ask(node, { type: 'command', command, timeoutMs }).body
  }

  /** Asks the state machine of a node. Throws SimulatedRequestError. */
  query(
    node: number,
    query: Uint8Array,
    consistency: Consistency = 'linearizable',
    timeoutMs = REQUEST_MS,
  ): Uint8Array {
    return this.#ask(node, { type: 'query', query, consistency, timeoutMs }).body
  }

  /** kill -9: what was not synced is still in the page cache. Its peers see the links close. */
  kill(node: number): void {
    this.#machine(node).kill('killed')
  }

  /** The machine goes dark: unsynced sectors may be lost, and nobody is told. */
  powerCut(node: number): void {
    this.#machine(node).kill('powerCut')
  }

  /** Starts a node that was killed. Throws StorageError when its data cannot be used. */
  start(node: number): void {
    const machine = this.#machine(node)
    if (!machine.start() && machine.refusal !== null) throw machine.refusal
  }

  pause(node: number): void {
    this.#machine(node).process?.pause()
  }

  resume(node: number): void {
    this.#machine(node).process?.resume()
  }

  /** Nothing arrives from `from` at `to` any more; call it both ways for a partition. */
  cut(from: number, to: number): void {
    this.#network.cut(from, to)
  }

  /** Cuts a node off from all others, both ways. */
  isolate(node: number): void {
    for (const { index } of this.#machines) {
      if (index === node) continue
      this.#network.cut(node, index)
      this.#network.cut(index, node)
    }
  }

  /** Everything arrives again. */
  heal(): void {
    this.#network.heal()
  }

  #machine(node: number): SimMachine {
    const machine = this.#machines[node]
    if (machine === undefined) throw new RangeError(`there is no node ${node}`)
    return machine
  }

  #ask(node: number, request: ServiceRequest): ServiceAnswer & { readonly ok: true } {
    const process = this.#machine(node).process
    if (process === null) {
      throw new SimulatedRequestError('no-answer', `node ${node} is not running`, false)
    }
    let answer: ServiceAnswer | null = null
    process.request(request, (given) => {
      answer = given
    })
    const endUs = this.#timeline.nowUs + 2 * request.timeoutMs * 1000
    while (answer === null && process.isAlive && this.#timeline.nowUs < endUs) {
      this.run(STEP_US / 1000)
    }
    const given = answer as ServiceAnswer | null
    if (given === null) {
      throw new SimulatedRequestError('no-answer', `node ${node} did not answer`, true)
    }
    if (!given.ok) {
      const { code, message, maybeApplied } = given.error
      throw new SimulatedRequestError(code, message, maybeApplied)
    }
    return given
  }
}
