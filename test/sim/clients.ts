/**
 * Clients of a simulated cluster: each has a session, a few requests under way, and patience that ends. They talk to the nodes as the
 * client library does: a write is numbered and encoded once, and sent again, the very same bytes, to another node when its fate is
 * unknown. What they saw becomes the history; what they were told is compared with the model at once.
 */
import { equalBytes, MalformedError } from '../../client/bytes.ts'
import {
  decodeKvGot,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvQuery,
} from '../../client/protocol.ts'
import type { ServiceAnswer, ServiceRequest } from '../../node/service.ts'
import type { Dice } from '../../node/testing/dice.ts'
import type { SimProcess } from '../../node/testing/sim-machine.ts'
import type { Timeline } from '../../node/testing/timeline.ts'
import { wrong } from './failure.ts'
import type { Operation } from './history.ts'
import type { ModelLives } from './model.ts'
import { encodeOperation, keyedCommand } from './operations.ts'
import type { ClientOptions } from './options.ts'
import type { Oracle } from './oracle.ts'

export interface ClientWorld {
  readonly timeline: Timeline
  readonly dice: Dice
  readonly oracle: Oracle
  readonly options: ClientOptions
  /** How long sessions and keys live; null: for as long as the world. */
  readonly lives: ModelLives | null
  /** The processes a client can reach. */
  readonly processes: () => readonly SimProcess[]
  readonly note: (operation: Operation) => void
  readonly count: (what: string) => void
}

type Kind = Operation['op'] | 'stale' | 'openSession'

interface Call {
  readonly kind: Kind
  /** What the model calls it; empty for what is no write. */
  readonly id: string
  readonly key: string
  readonly value: string | null
  readonly expected: string | null
  readonly sequence: number
  readonly session: number
  readonly request: ServiceRequest
  readonly callUs: number
  /** What somebody had been told by then: a linearizable answer reflects at least this index. */
  readonly floor: number
  attempts: number
  /** Some attempt may have taken effect. */
  doubt: boolean
  done: boolean
}

const ENCODER = new TextEncoder()
const DECODER = new TextDecoder()
const HOP_US_MAX = 2000
const RETRY_US_MAX = 300_000
const LANES = 1024
/** Of true time, what passes at least while the fastest clock of a world counts a whole (options.ts: clockPpmSpread). */
const FASTEST_CLOCK = 0.8
const NOTHING = new Uint8Array(0)

export class Clients {
  readonly #all: Client[]
  /** The highest index that anybody was told of. */
  toldIndex = 0
  isOver = false

  constructor(world: ClientWorld) {
    this.#all = Array.from({ length: world.options.count }, (_, id) => new Client(id, world, this))
  }

  start(): void {
    for (const client of this.#all) client.rest()
  }

  /** Those who can come to this node and ask for something: a read, or a write. */
  visit(process: SimProcess, what: 'read' | 'write'): void {
    if (this.isOver || process.runtime?.replica == null) return
    for (const client of this.#all) if (client.mayAsk) client.visit(process, what)
  }

  /** No new operations; those under way come to their end. */
  finish(): void {
    this.isOver = true
  }

  get idle(): boolean {
    return this.#all.every((client) => client.outstanding === 0)
  }

  /** Nothing that was refused without doubt may have happened. Called at the end. */
  checkRefused(): void {
    for (const client of this.#all) client.checkRefused()
  }

  /** Every client whose call is under way at this process sees its connection break. */
  disconnected(process: SimProcess): void {
    for (const client of this.#all) client.disconnected(process)
  }
}

export class Client {
  readonly #id: number
  readonly #world: ClientWorld
  readonly #clients: Clients
  #session: number | null = null
  #opening = false
  #nextSequence = 1
  #tokens = 0
  #names = 0
  #lane = 0
  readonly #outstanding = new Map<number, Call>()
  readonly #underWay = new Map<Call, { process: SimProcess; lost: () => void }>()
  readonly #refused: Call[] = []
  /** When the last write of this session was sent that is known to have reached it: it was used no earlier. */
  #usedUs = 0
  #at: SimProcess | null = null

  constructor(id: number, world: ClientWorld, clients: Clients) {
    this.#id = id
    this.#world = world
    this.#clients = clients
  }

  get outstanding(): number {
    return this.#outstanding.size + this.#underWay.size
  }

  get mayAsk(): boolean {
    return this.#session !== null && this.#outstanding.size < this.#world.options.depthMax
  }

  visit(process: SimProcess, what: 'read' | 'write'): void {
    const { dice, options } = this.#world
    this.#at = process
    const key = `k${dice.below(options.keys)}`
    if (what === 'read') this.#get(key, 'get')
    else this.#write('put', key)
  }

  rest(): void {
    const { dice, options, timeline } = this.#world
    const long = dice.chance(options.restPpm)
    const pauseUs = dice.magnitude(options.pauseUsMin, options.pauseUsMax)
    timeline.after(long ? dice.between(pauseUs, options.restUsMax) : pauseUs, () => {
      if (this.#clients.isOver) return
      this.#act()
      this.rest()
    })
  }

  disconnected(process: SimProcess): void {
    for (const { process: at, lost } of [...this.#underWay.values()]) if (at === process) lost()
  }

  checkRefused(): void {
    const { model } = this.#world.oracle
    for (const { id } of this.#refused) {
      const index = model.ranAt(id)
      if (index !== undefined) {
        wrong('refused', `a write that was refused without doubt was applied at index ${index}`)
      }
    }
  }

  // --- deciding what to do ------------------------------------------------------------------------------------------

  #act(): void {
    const { dice, options } = this.#world
    if (this.#session === null) {
      // Sequences begin anew in the next one.
      if (!this.#opening && this.#outstanding.size === 0) this.#open()
      return
    }
    const burst = 1 + dice.below(options.depthMax)
    for (let i = 0; i < burst && this.#outstanding.size < options.depthMax; i++) this.#operate()
    // A new session now and then; the old one is closed only when nothing of it is under way.
    if (this.#outstanding.size === 0 && dice.below(60) === 0) this.#close()
  }

  #operate(): void {
    const { dice, options } = this.#world
    const key = `k${dice.below(options.keys)}`
    const roll = dice.below(1000)
    const { getPpt, stalePpt, casPpt, appendPpt, deletePpt } = options
    if (roll < getPpt) return this.#get(key, roll < stalePpt ? 'stale' : 'get')
    const kinds = [
      ['cas', casPpt],
      ['append', appendPpt],
      ['delete', deletePpt],
    ] as const
    let from = getPpt
    for (const [kind, ppt] of kinds) {
      if (roll >= from && roll < from + ppt) return this.#write(kind, key)
      from += ppt
    }
    this.#write('put', key)
  }

  #token(): string {
    const { valueBytesMax } = this.#world.options
    const text = `${this.#id}.${++this.#tokens};`
    const padding = valueBytesMax === 0 ? 0 : this.#world.dice.below(valueBytesMax)
    return text + '.'.repeat(padding)
  }

  #open(): void {
    this.#opening = true
    const numbers = { session: 0, sequence: 0, firstOutstanding: 0 }
    const command = encodeCommand({ kind: 'openSession', ...numbers, operation: NOTHING })
    this.#begin('openSession', '', null, null, 0, this.#commandRequest(command))
  }

  #close(): void {
    const session = this.#session as number
    this.#session = null
    const sequence = this.#nextSequence
    const numbers = { session, sequence, firstOutstanding: sequence }
    const command = encodeCommand({ kind: 'closeSession', ...numbers, operation: NOTHING })
    const process = this.#choose()
    process?.request(this.#commandRequest(command), () => {})
  }

  #get(key: string, kind: 'get' | 'stale'): void {
    const query = encodeKvQuery({ type: 'get', key: ENCODER.encode(key) })
    const { timeoutMs } = this.#world.options
    const consistency = kind === 'stale' ? 'stale' : 'linearizable'
    this.#begin(kind, key, null, null, 0, { type: 'query', query, consistency, timeoutMs })
  }

  #write(kind: 'put' | 'cas' | 'append' | 'delete', key: string): void {
    const { oracle, dice, options } = this.#world
    const value = kind === 'delete' ? null : this.#token()
    // Mostly what is there now, so that comparisons hold about as often as not.
    const present = oracle.model.valueAt(key, oracle.commitIndex)
    const expected = kind === 'cas' && dice.below(4) !== 0 ? present : null
    const operation = encodeOperation(kind, key, value, expected)
    if (options.keyedPpt > 0 && dice.below(1000) < options.keyedPpt) {
      const accepted = this.#choose()?.runtime?.timeMoves() ?? 0
      const name = { client: this.#id, number: ++this.#names, accepted }
      const { id, command } = keyedCommand(name, operation)
      return this.#begin(kind, key, value, expected, 0, this.#commandRequest(command), id)
    }
    const sequence = this.#nextSequence++
    const command = encodeCommand({
      kind: 'operation',
      session: this.#session as number,
      sequence,
      firstOutstanding: this.#firstOutstanding(sequence),
      operation,
    })
    const id = `${this.#session}/${sequence}`
    this.#begin(kind, key, value, expected, sequence, this.#commandRequest(command), id)
  }

  #commandRequest(command: Uint8Array): ServiceRequest {
    return { type: 'command', command, timeoutMs: this.#world.options.timeoutMs }
  }

  #firstOutstanding(next: number): number {
    for (const sequence of this.#outstanding.keys()) return sequence
    return next
  }

  // --- sending ------------------------------------------------------------------------------------------------------

  #begin(
    kind: Kind,
    key: string,
    value: string | null,
    expected: string | null,
    sequence: number,
    request: ServiceRequest,
    id = '',
  ): void {
    const call: Call = {
      kind,
      id,
      key,
      value,
      expected,
      sequence,
      session: this.#session ?? 0,
      request,
      callUs: this.#world.timeline.nowUs,
      floor: this.#clients.toldIndex,
      attempts: 0,
      doubt: false,
      done: false,
    }
    if (sequence > 0) this.#outstanding.set(sequence, call)
    this.#send(call)
  }

  #choose(): SimProcess | null {
    const { dice } = this.#world
    const processes = this.#world.processes()
    if (this.#at?.isAlive && dice.below(16) !== 0) return this.#at
    this.#at = processes.length === 0 ? null : dice.pick(processes)
    return this.#at
  }

  #send(call: Call): void {
    const { timeline, dice, options } = this.#world
    call.attempts++
    const process = this.#choose()
    if (process === null) return this.#failed(call, false)
    let over = false
    const end = (): boolean => {
      if (over) return false
      over = true
      patience.run = null
      this.#underWay.delete(call)
      return true
    }
    const lost = (): void => {
      if (!end()) return
      this.#at = null
      this.#world.count('client: no answer')
      this.#failed(call, true)
    }
    // The node answers in time or not; a client that hears nothing for twice that long gives the connection up.
    const patience = timeline.after(2 * options.timeoutMs * 1000, lost)
    this.#underWay.set(call, { process, lost })
    timeline.after(dice.between(10, HOP_US_MAX), () => {
      if (over) return
      process.request(call.request, (answer) => {
        timeline.after(dice.between(10, HOP_US_MAX), () => {
          if (end()) this.#answered(call, answer)
        })
      })
    })
  }

  #failed(call: Call, doubt: boolean): void {
    const { timeline, dice, options } = this.#world
    if (doubt) call.doubt = true
    if (call.attempts >= options.attemptsMax || call.kind === 'stale') return this.#giveUp(call)
    timeline.after(dice.between(1000, RETRY_US_MAX), () => this.#send(call))
  }

  #giveUp(call: Call): void {
    if (call.kind === 'openSession') this.#opening = false
    // What was never in doubt certainly had no effect: it says nothing, and is looked for at the end.
    if (call.doubt) this.#note(call, 'unknown', null)
    else if (call.id !== '') this.#refused.push(call)
    this.#end(call)
  }

  // --- answers ------------------------------------------------------------------------------------------------------

  #answered(call: Call, answer: ServiceAnswer): void {
    if (!answer.ok) {
      const { code, maybeApplied } = answer.error
      this.#world.count(`client: ${code}`)
      if (code === 'bad-request' || code === 'session-expired' || code === 'internal') {
        wrong('answers', `a sound request was answered ${code}: ${answer.error.message}`)
      }
      if (code !== 'overloaded' && this.#world.dice.below(2) === 0) this.#at = null
      return this.#failed(call, maybeApplied)
    }
    const { index, body } = answer
    this.#checkIndex(call, index)
    if (call.kind !== 'stale') this.#clients.toldIndex = Math.max(this.#clients.toldIndex, index)
    try {
      this.#read(call, index, body)
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      wrong('answers', `the answer to a ${call.kind} is no such answer: ${error.message}`)
    }
  }

  #read(call: Call, index: number, body: Uint8Array): void {
    switch (call.kind) {
      case 'openSession':
        this.#opening = false
        this.#session = index
        this.#usedUs = call.callUs
        this.#nextSequence = 1
        return this.#end(call)
      case 'get':
      case 'stale':
        return this.#gotValue(call, index, body)
      default:
        return this.#wrote(call, index, body)
    }
  }

  #checkIndex(call: Call, index: number): void {
    const { oracle } = this.#world
    if (index > oracle.commitIndex)
      wrong('answers', `an answer reflects index ${index}, not committed`)
    const isRead = call.kind === 'get'
    if (isRead && index < call.floor) {
      wrong('stale-read', `a read asked at index ${call.floor} was answered as of ${index}`)
    }
  }

  #gotValue(call: Call, index: number, body: Uint8Array): void {
    const got = decodeKvGot(body)
    const value = got === null ? null : DECODER.decode(got.value)
    const expected = this.#world.oracle.model.valueAt(call.key, index)
    if (value !== expected) {
      wrong('reads', `${call.key} is ${value} in an answer as of index ${index}, not ${expected}`)
    }
    this.#note(call, 'ok', value)
    this.#end(call)
  }

  #wrote(call: Call, index: number, body: Uint8Array): void {
    const { oracle } = this.#world
    const { status, body: result } = decodeOutcome(body)
    const isLost = status === 'expired' && this.#world.lives !== null
    if (status !== 'done' && !isLost) {
      wrong('sessions', `an outstanding write of an open session was answered ${status}`)
    }
    const told = oracle.model.outcomeAt(index)
    if (told === undefined || !equalBytes(told, body)) {
      wrong(
        'answers',
        `the answer to a ${call.kind} at index ${index} is not what was applied there`,
      )
    }
    if (isLost) return this.#expired(call)
    const isInSession = call.sequence > 0 && call.session === this.#session
    if (isInSession) this.#usedUs = Math.max(this.#usedUs, call.callUs)
    const ranAt = oracle.model.ranAt(call.id)
    if (ranAt === undefined || ranAt > index) {
      wrong('acknowledged', `an acknowledged ${call.kind} is not in the committed log`)
    }
    const { succeeded } = decodeKvResult(result)
    this.#note(call, call.kind === 'cas' && !succeeded ? 'fail' : 'ok', null)
    this.#end(call)
  }

  /**
   * The session is gone, or a named write came too late to be told from its repeat: it was not run now. No clock of the cluster may
   * have made it so before its life was over, as true time goes by.
   */
  #expired(call: Call): void {
    const { lives, timeline, oracle } = this.#world
    this.#world.count(call.sequence > 0 ? 'client: expired' : 'client: too late')
    if (call.sequence > 0 && call.session === this.#session) {
      const unusedMs = (timeline.nowUs - this.#usedUs) / 1000
      if (unusedMs < (lives?.sessionTtlMs ?? 0) * FASTEST_CLOCK) {
        wrong('expiry', `a session expired ${unusedMs} ms after its last use`)
      }
      this.#session = null
    }
    // What ran before stays in doubt for the client; what never ran is told apart only by the model.
    if (oracle.model.ranAt(call.id) === undefined && !call.doubt) this.#refused.push(call)
    else this.#note(call, 'unknown', null)
    this.#end(call)
  }

  #end(call: Call): void {
    if (call.done) throw new Error('bug: a call ended twice')
    call.done = true
    this.#outstanding.delete(call.sequence)
  }

  #note(call: Call, status: Operation['status'], output: string | null): void {
    const { kind, key, value, expected, callUs } = call
    if (kind === 'openSession' || kind === 'stale' || (kind === 'get' && status !== 'ok')) return
    const returnUs = status === 'unknown' ? null : this.#world.timeline.nowUs
    // Calls that overlap belong to lanes of their own.
    const client = this.#id * LANES + (this.#lane++ % LANES)
    this.#world.note({ client, op: kind, key, value, expected, callUs, returnUs, status, output })
  }
}
