/**
 * A machine with a disk, and the process of a node that runs on it: the production runtime, founding, replica, clock, log and
 * identity over simulated time, network and disk. A process can be killed at any effect, lose its power, stand still or be slow. It
 * must never add behaviour of its own: what differs from node.ts is only who brings time, links and bytes.
 */

import { type Clock, startClock, type Timers, wakeIn } from '../clock.ts'
import { FEATURE_LEVEL } from '../feature-level.ts'
import type { StateMachine } from '../machine/machine.ts'
import { type PeerId, peerIdOf } from '../raft/types.ts'
import { Runtime, type RuntimeLimits, type RuntimeParts } from '../runtime.ts'
import type { ServiceAnswer, ServiceRequest } from '../service.ts'
import { type Identity, openIdentity } from '../storage/identity.ts'
import { storageIn } from '../storage/open-storage.ts'
import { type LogStorage, StorageError } from '../storage/storage.ts'
import type { Hello } from '../transport/transport.ts'
import type { Dice } from './dice.ts'
import { type DiskFate, type Fate, SimDisk } from './sim-disk.ts'
import type { SimNetwork } from './sim-network.ts'
import type { EndpointOwner, SimTransport } from './sim-transport.ts'
import type { Event, Timeline } from './timeline.ts'

export const DATA_DIRECTORY = '/data'
/** Small, so that a short life sees many segments. */
const SEGMENT_BYTES = 16 * 1024
/** Virtual time begins here, for what is shown. */
const EPOCH_MS = Date.UTC(2026, 0, 1)
/** A node that was removed takes so long to stop. */
const STOP_US = 100_000
const HAND_OVER_US_MAX = 1_500_000

/** How a disk behaves; the owner of the world may change it at any time. */
export interface DiskMood {
  /** Chance that an operation fails for good, parts per million. */
  ioPpm: number
  /** Chance that there is no room for an operation, parts per million. */
  fullPpm: number
  /** A write and its fdatasync take so many microseconds. */
  writeUsMin: number
  writeUsMax: number
  /** The next fdatasync takes at least so long. */
  hangUs: number
}

export interface MachineOptions {
  readonly index: number
  readonly name: string
  readonly expect: number
  /** False for a node that came by invitation. */
  readonly mayFound: boolean
  readonly inviteClusterId?: string | null
  readonly heartbeatMs: number
  readonly electionMs: number
  /** Absent: members change only when somebody asks for it. */
  readonly autopilot?: RuntimeParts['autopilot']
  readonly limits?: Partial<RuntimeLimits>
  /** Of the log; default 16 KiB. */
  readonly segmentBytes?: number
  readonly makeStateMachine: () => StateMachine
  /** How fast its clock runs, parts per million of the true one. */
  readonly clockPpm: number
  /** From an input to the turn that handles it, microseconds. */
  readonly turnUs: number
}

interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

/** What the owner of the world is told. */
export interface MachineHooks {
  /** A process handled the inputs of a turn. */
  turned?(process: SimProcess): void
  /** Every effect passes here before it happens. */
  boundary?(process: SimProcess, name: string): void
  /** The code threw what it must not throw. */
  crashed(process: SimProcess, error: unknown): void
  /** The process is no more, for whatever reason. */
  ended?(process: SimProcess): void
  /** The node ended itself. */
  fatal?(process: SimProcess, code: string, message: string): void
  /** The node refused to start. */
  refused?(machine: SimMachine, error: StorageError): void
  /** May watch what is saved. */
  watchLog?(process: SimProcess, how: 'create' | 'open', log: LogStorage): LogStorage
  log?(process: SimProcess, level: string, event: string, fields: object): void
}

export interface World {
  readonly timeline: Timeline
  readonly network: SimNetwork
  readonly hooks: MachineHooks
}

export class SimMachine {
  readonly options: MachineOptions
  readonly world: World
  readonly dice: Dice
  readonly disk: SimDisk
  readonly mood: DiskMood = { ioPpm: 0, fullPpm: 0, writeUsMin: 100, writeUsMax: 400, hangUs: 0 }
  process: SimProcess | null = null
  /** What it is started with, from the next time on. */
  mayFound: boolean
  expect: number
  /** Of the first identity that was made here. */
  #keys: KeyPair | null = null
  #keepsKeys = false
  /** Why the last start was refused. */
  refusal: StorageError | null = null
  starts = 0

  constructor(world: World, dice: Dice, options: MachineOptions) {
    this.world = world
    this.options = options
    this.dice = dice
    this.disk = new SimDisk(dice)
    this.mayFound = options.mayFound
    this.expect = options.expect
  }

  get index(): number {
    return this.options.index
  }

  /** Starts a process unless one lives. Returns whether one lives now; otherwise `refusal` tells why not. */
  start(): boolean {
    if (this.process !== null) return true
    this.refusal = null
    this.starts++
    const process = new SimProcess(this)
    this.process = process
    try {
      process.boot()
    } catch (error) {
      // It may have died in the middle of its start, which is no refusal.
      if (this.process !== process) return false
      process.end()
      this.disk.detach('killed')
      if (!(error instanceof StorageError)) {
        this.world.hooks.crashed(process, error)
        return false
      }
      this.refusal = error
      this.world.hooks.refused?.(this, error)
    }
    return this.process !== null
  }

  /** Everything it had is gone. What starts here next is somebody new, with `keepKey` under the key of before. */
  wipe(keepKey: boolean): void {
    this.kill('killed')
    this.disk.erase('')
    this.#keepsKeys = keepKey
  }

  /** For an identity that is made anew. */
  makeKeyPair(): KeyPair {
    const kept = this.#keepsKeys ? this.#keys : null
    this.#keys = kept ?? keyPair(this.dice.hex(64), this.dice.hex(64))
    return this.#keys
  }

  /** kill -9, or, with `powerCut`, the machine itself goes dark and nobody is told. */
  kill(how: 'killed' | 'powerCut'): void {
    const { process } = this
    if (process === null) return
    process.end()
    this.disk.detach(how)
    this.world.network.died(this.index, how === 'powerCut')
  }
}

export class SimProcess implements EndpointOwner {
  readonly machine: SimMachine
  readonly bootId: string
  readonly #timeline: Timeline
  #runtime: Runtime | null = null
  #identity: Identity | null = null
  #transport: SimTransport | null = null
  #clock: Clock | null = null
  #isAlive = true
  #isPaused = false
  #backlog: (() => void)[] = []
  /** Every event takes this much longer. */
  slowUs = 0
  /** The process is killed, or told to stop, so many effects from now. */
  armed: { effects: number; how: 'killed' | 'powerCut' | 'stopped' } | null = null

  constructor(machine: SimMachine) {
    this.machine = machine
    this.bootId = machine.dice.hex(16)
    this.#timeline = machine.world.timeline
  }

  get index(): number {
    return this.machine.index
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  get isRunning(): boolean {
    return this.#isAlive && !this.#isPaused
  }

  /** Null until it has booted. */
  get runtime(): Runtime | null {
    return this.#runtime
  }

  get nodeKey(): string {
    return this.identity.record.publicKey
  }

  get storageId(): string {
    return this.identity.record.storageId
  }

  get peer(): PeerId {
    return peerIdOf(this)
  }

  get identity(): Identity {
    if (this.#identity === null) throw new Error('bug: asked before the identity was opened')
    return this.#identity
  }

  /** What it has pledged or is bound to, as its disk holds it. Null before it has booted. */
  get foundingRecord(): Identity['record']['founding'] | null {
    return this.#identity?.record.founding ?? null
  }

  get clusterId(): string | null {
    return this.#identity?.record.clusterId ?? null
  }

  get hello(): Hello {
    const { publicKey, storageId, bootCounter, clusterId, name } = this.identity.record
    const { bootId } = this
    const urls = [`ws://${this.machine.options.name}`]
    const featureLevel = FEATURE_LEVEL
    return {
      nodeKey: publicKey,
      storageId,
      bootId,
      bootCounter,
      clusterId,
      name,
      featureLevel,
      urls,
    }
  }

  // --- life ---------------------------------------------------------------------------------------------------------

  boot(): void {
    const { machine } = this
    const { disk, dice, options, world } = machine
    disk.attach(this.#fate())
    this.#identity = openIdentity(disk, DATA_DIRECTORY, {
      makeKeyPair: () => machine.makeKeyPair(),
      makeStorageId: () => Buffer.from(dice.hex(32), 'hex'),
      name: options.name,
    })
    if (!this.#isAlive) return
    this.#transport = world.network.createTransport(this)
    this.#runtime = this.#makeRuntime(this.#transport, this.#identity)
    const runtime = this.#runtime
    if (!this.#isAlive) return
    this.#transport.start(runtime)
    let swept = false
    this.later(dice.magnitude(10_000, 3_000_000), () => {
      swept = true
    })
    this.#clock = startClock(
      runtime.tickMs,
      (elapsedMs) => {
        runtime.discoverySwept(swept ? (this.#transport?.pendingDials ?? 1) : 1)
        runtime.tick(elapsedMs)
      },
      this.#timers(),
    )
  }

  /** Nothing of it happens any more. */
  end(): void {
    if (!this.#isAlive) return
    this.#isAlive = false
    this.#backlog = []
    if (this.machine.process === this) this.machine.process = null
    this.machine.world.hooks.ended?.(this)
  }

  pause(): void {
    if (!this.isRunning) return
    this.#isPaused = true
    this.machine.world.network.stalled(this.index)
  }

  /** What came in meanwhile is handled now, in order. */
  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const backlog = this.#backlog
    this.#backlog = []
    for (const [position, event] of backlog.entries()) {
      this.#timeline.after(position, event, this)
    }
  }

  /** SIGTERM: hands over, answers what waits, and ends with everything closed. */
  stop(): void {
    const runtime = this.#runtime
    if (runtime === null || !this.isRunning) return
    const close = (): void =>
      runtime.close(() => {
        if (!this.#isAlive) return
        this.end()
        this.machine.disk.detach('killed')
        this.machine.world.network.died(this.index, false)
      })
    if (runtime.isLeader && runtime.handOver()) this.later(HAND_OVER_US_MAX, close)
    else close()
  }

  // --- events and effects -------------------------------------------------------------------------------------------

  run(event: () => void): void {
    if (!this.#isAlive) return
    if (this.#isPaused) {
      this.#backlog.push(event)
      return
    }
    try {
      event()
    } catch (error) {
      // Whatever a process does between its death and the end of the call is void.
      if (this.#isAlive) this.machine.world.hooks.crashed(this, error)
    }
  }

  later(delayUs: number, run: () => void): Event {
    return this.#timeline.after(delayUs + this.slowUs, run, this)
  }

  boundary(name: string): boolean {
    if (!this.#isAlive) return false
    this.machine.world.hooks.boundary?.(this, name)
    const { armed } = this
    if (armed !== null && --armed.effects <= 0) {
      this.armed = null
      // A signal is heard when the process has done what it is at.
      if (armed.how === 'stopped') this.later(0, () => this.stop())
      else this.machine.kill(armed.how)
    }
    return this.#isAlive
  }

  /** A request of a client that is connected to this node. `answer` is never called after the process has died. */
  request(request: ServiceRequest, answer: (answer: ServiceAnswer) => void): void {
    this.run(() => {
      this.#runtime?.request(request, (given) => {
        if (this.boundary('answer')) answer(given)
      })
    })
  }

  // --- parts --------------------------------------------------------------------------------------------------------

  #makeRuntime(transport: SimTransport, identity: Identity): Runtime {
    const { options, dice, disk, world } = this.machine
    const { hooks } = world
    const storage = storageIn(disk, DATA_DIRECTORY, {
      storageId: identity.record.storageId,
      segmentBytes: options.segmentBytes ?? SEGMENT_BYTES,
    })
    return new Runtime({
      identity,
      transport,
      openLog: (how) => {
        const log = storage.openLog(how)
        return hooks.watchLog?.(this, how, log) ?? log
      },
      openSnapshots: () => storage.openSnapshots(),
      machine: options.makeStateMachine(),
      founding: {
        bootId: this.bootId,
        expect: this.machine.expect,
        founders: null,
        mayFound: this.machine.mayFound,
        inviteClusterId: options.inviteClusterId ?? null,
        settings: { expect: this.machine.expect },
        random: (bound) => dice.below(bound),
        randomId: () => dice.hex(32),
      },
      urls: () => [`ws://${options.name}`],
      heartbeatMs: options.heartbeatMs,
      electionMs: options.electionMs,
      autopilot: options.autopilot ?? null,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      seed: dice.next(),
      defer: (run) => {
        this.later(options.turnUs, () => {
          run()
          if (this.#isAlive) hooks.turned?.(this)
        })
      },
      wakeIn: (delayMs, run) => wakeIn(delayMs, run, this.#timers()),
      turn: () => this.#clock?.turn(),
      nowMs: () => this.#timeline.nowMs,
      wallClock: () => new Date(EPOCH_MS + this.#timeline.nowMs),
      log: (level, event, fields = {}) => hooks.log?.(this, level, event, fields),
      fatal: (code, message) => {
        if (!this.#isAlive) return
        hooks.fatal?.(this, code, message)
        // A node that may not go on for a peaceful reason closes its links in order: what it has sent arrives.
        if (code !== 'left' && code !== 'removed') return this.machine.kill('killed')
        this.later(STOP_US, () => this.machine.kill('killed'))
      },
      admin: () => Promise.reject(new Error('no admin verbs here')),
      shown: { version: 'simulated', runtime: 'simulated', topic: 'simulated' },
    })
  }

  #fate(): DiskFate {
    const { mood, dice } = this.machine
    const fails = (): Fate | null => {
      if (dice.chance(mood.fullPpm)) return 'full'
      return dice.chance(mood.ioPpm) ? 'io' : null
    }
    return {
      background: () => {
        const failed = fails()
        if (failed !== null) return failed
        const hangUs = mood.hangUs
        mood.hangUs = 0
        return hangUs + dice.between(mood.writeUsMin, mood.writeUsMax)
      },
      immediate: () => fails() ?? 0,
      boundary: (name) => this.boundary(name),
      later: (delayUs, run) => {
        this.later(delayUs, run)
      },
    }
  }

  /** The process's own clock, a little fast or slow. */
  #timers(): Timers {
    const { clockPpm } = this.machine.options
    const trueUs = (ms: number): number => Math.max(1, Math.round((ms * 1_000_000_000) / clockPpm))
    return {
      nowMs: () => (this.#timeline.nowMs * clockPpm) / 1_000_000,
      every: (periodMs, run) => {
        const periodUs = trueUs(periodMs)
        // A process that stands still may have been handed an event already: what is not the newest one counts for nothing.
        let newest = 0
        const arm = (delayUs: number): void => {
          const own = ++newest
          this.later(delayUs, () => {
            if (own !== newest) return
            arm(periodUs)
            run()
          })
        }
        arm(this.machine.dice.between(1, periodUs))
        return {
          refresh: () => arm(periodUs),
          stop: () => {
            newest++
          },
        }
      },
      once: (delayMs, run) => {
        const event = this.later(trueUs(delayMs), run)
        return () => {
          event.run = null
        }
      },
      afterInputs: (run) => {
        this.later(1000, run)
      },
    }
  }
}

/** Not a pair that could sign: links are believed here, not proved. */
function keyPair(publicKey: string, seed: string): KeyPair {
  return {
    publicKey: Buffer.from(publicKey, 'hex'),
    secretKey: Buffer.from(seed + publicKey, 'hex'),
  }
}
