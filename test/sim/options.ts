/**
 * What a seed decides before anything happens: how large the world is, how bad its network and disks are, which faults exist in it
 * and how often they come. Each probability is itself drawn, so that every seed is another kind of bad day (swarm testing). Integers
 * only.
 */

import type { AutopilotDefaults } from '../../node/autopilot-driver.ts'
import { KEY_TTL_MS } from '../../node/idempotency-keys.ts'
import type { RuntimeLimits } from '../../node/runtime.ts'
import { SESSION_TTL_MS } from '../../node/sessions.ts'
import { Dice } from '../../node/testing/dice.ts'
import type { Weather } from '../../node/testing/sim-network.ts'
import type { ModelLives } from './model.ts'

export const PRESETS = ['lite', 'default', 'hell'] as const
export type Preset = (typeof PRESETS)[number]

/** Faults of the world, each with a weight; 0: not in this world. */
export const FAULT_KINDS = [
  'partition',
  'isolateLeader',
  'oneWay',
  'bridge',
  'ring',
  'clog',
  'reset',
  'weather',
  'slowNetwork',
  'kill',
  'powerCut',
  'killAll',
  'killAtEffect',
  'killNewLeaders',
  'restartStorm',
  'stop',
  'pause',
  'pauseAll',
  'stallLeader',
  'slow',
  'slowDisk',
  'hungDisk',
  'stuckLeader',
  'fullDisk',
  'brokenDisk',
  'rot',
  'truncate',
  'wipe',
  'transfer',
  'replaceMachine',
  'loseDisk',
  'returnRemoved',
  'splitJoint',
  'mistakeExpect',
  'corruptState',
  'copyDisk',
] as const
export type FaultKind = (typeof FAULT_KINDS)[number]

export interface ClientOptions {
  readonly count: number
  readonly keys: number
  /** Requests without an answer that one client has at most. */
  readonly depthMax: number
  readonly pauseUsMin: number
  readonly pauseUsMax: number
  /** Clients do nothing now and then, so that the cluster falls quiet. */
  readonly restPpm: number
  readonly restUsMax: number
  readonly timeoutMs: number
  /** How often a request is sent again before the client gives up. */
  readonly attemptsMax: number
  readonly valueBytesMax: number
  /** Of all operations, parts per thousand; the rest are puts. */
  readonly getPpt: number
  readonly stalePpt: number
  readonly casPpt: number
  readonly appendPpt: number
  readonly deletePpt: number
  /** Of the writes, those that go without a session and under a name of their own. */
  readonly keyedPpt: number
}

/** Somebody who changes the members. */
export interface OperatorOptions {
  readonly works: boolean
  readonly pauseUsMin: number
  readonly pauseUsMax: number
  readonly timeoutMs: number
  readonly hasAutopilot: boolean
}

export interface SimOptions {
  readonly seed: number
  readonly preset: Preset
  /** N: the founders of a cluster. */
  readonly expect: number
  /** Blank machines that may found, N to 2N - 1. */
  readonly candidates: number
  /** Further machines that came by an invitation. */
  readonly guests: number
  /** And those that are started when there is a cluster, to join it. */
  readonly joiners: number
  readonly startUsMax: number
  readonly cruelUs: number
  /** After healing, the world must have agreed within this time. */
  readonly kindUs: number
  /** After the cruel phase everybody is well again, or only a majority. */
  readonly healAll: boolean
  readonly heartbeatMs: number
  readonly electionMs: number
  readonly turnUsMax: number
  readonly clockPpmSpread: number
  readonly useCodec: boolean
  readonly weather: Weather
  readonly diskUsMin: number
  readonly diskUsMax: number
  readonly segmentBytes: number
  readonly limits: Partial<RuntimeLimits>
  readonly clients: ClientOptions
  readonly operator: OperatorOptions
  /** Null: the members change only when the operator asks for it. */
  readonly autopilot: AutopilotDefaults | null
  /** Chance that two machines cannot reach each other at first, for up to `strangersUsMax`. */
  readonly strangersPpm: number
  readonly strangersUsMax: number
  /** Before this nothing fails, so that half of the worlds see their trouble as a cluster and not while founding one. */
  readonly calmUs: number
  readonly faultUsMin: number
  readonly faultUsMax: number
  readonly faultsAtOnceMax: number
  /** What is to die in the middle of something is told to stop there, now and then. */
  readonly stopsAtEffect: boolean
  readonly faults: Readonly<Record<FaultKind, number>>
}

const SECOND_US = 1_000_000
/** Not in `lite`. */
const TOO_BAD: readonly FaultKind[] = [
  'rot',
  'truncate',
  'wipe',
  'brokenDisk',
  'powerCut',
  'replaceMachine',
  'loseDisk',
  'copyDisk',
]

/** `nodes` fixes the number of founders, with no candidate beside them. */
export function drawOptions(seed: number, preset: Preset, nodes: number | null = null): SimOptions {
  const options = drawWorld(seed, preset, nodes)
  // With dice of their own, so that all else about a world is what it was.
  const dice = new Dice(seed ^ 0x5a95)
  if (dice.below(4) === 0) return options
  return {
    ...options,
    limits: { ...options.limits, ...drawSnapshotLimits(dice) },
    // A restart cures a state that went wrong only as long as it is made anew from the log: a snapshot of it would stay wrong.
    faults: { ...options.faults, corruptState: 0 },
  }
}

function drawWorld(seed: number, preset: Preset, nodes: number | null): SimOptions {
  const dice = new Dice(seed)
  const severity = { lite: 1, default: 2, hell: 4 }[preset]
  const expect = nodes ?? dice.pick([1, 2, 3, 3, 3, 4, 5, 5, 5, 5])
  // In some worlds founding itself is what is tried: as many blank nodes as there may be, and trouble from the first moment on.
  const isFounding = nodes === null && expect > 1 && dice.below(6) === 0
  const extra = nodes === null && dice.below(3) === 0 ? dice.below(expect) : 0
  // An fsync that takes longer than a tick, for as long as the world stands.
  const isSlow = dice.below(16) === 0
  const heartbeatMs = dice.pick([100, 100, 100, 50, 200])
  const options = {
    seed,
    preset,
    expect,
    candidates: isFounding ? 2 * expect - 1 : expect + extra,
    guests: nodes === null && dice.below(8) === 0 ? 1 : 0,
    startUsMax: dice.magnitude(10_000, 5 * SECOND_US),
    cruelUs: dice.between(30, 20 + 35 * severity) * SECOND_US,
    kindUs: 180 * SECOND_US,
    healAll: dice.below(2) === 0,
    heartbeatMs,
    electionMs: heartbeatMs * dice.pick([10, 10, 10, 5, 20]),
    turnUsMax: dice.magnitude(1, 2000),
    clockPpmSpread: dice.pick([0, 1000, 50_000, 200_000]),
    useCodec: dice.below(8) === 0,
    weather: isFounding ? slowly(drawWeather(dice, severity), dice) : drawWeather(dice, severity),
    diskUsMin: isSlow ? 120_000 : dice.magnitude(20, 1000),
    diskUsMax: isSlow ? 300_000 : dice.magnitude(1000, 20_000),
    segmentBytes: dice.pick([8192, 8192, 16_384, 65_536]),
    limits: drawLimits(dice),
    clients: drawClients(dice, preset),
    strangersPpm: isFounding ? dice.pick([0, 150_000, 350_000]) : 0,
    strangersUsMax: dice.between(5, 30) * SECOND_US,
    calmUs: isFounding || dice.below(3) === 0 ? 0 : 8 * SECOND_US,
    faultUsMin: 200_000 / severity ** 2,
    faultUsMax: dice.magnitude((2 * SECOND_US) / severity, (16 * SECOND_US) / severity),
    faultsAtOnceMax: dice.between(1, 1 + severity),
    stopsAtEffect: new Dice(seed + STOPS_DICE).below(2) === 0,
    faults: isFounding ? foundingFaults(drawFaults(dice, preset)) : drawFaults(dice, preset),
  }
  const members = drawMembers(new Dice(seed + MEMBERS_DICE), preset, nodes)
  // Where voters may become fewer than three, one whose state went wrong may be all that are left (seed 901).
  const isSafe = !members.operator.works && (members.autopilot?.maxVoters ?? 3) >= 3
  const faults = isSafe ? options.faults : { ...options.faults, corruptState: 0 }
  return withLogTime({ ...options, ...members, faults }, new Dice(seed + LOG_TIME_DICE))
}

/** How long sessions and keys live in this world. */
export function livesOf({ limits }: SimOptions): ModelLives {
  const { sessionTtlMs = SESSION_TTL_MS, keyTtlMs = KEY_TTL_MS } = limits
  return { sessionTtlMs, keyTtlMs }
}

/** With dice of its own, so that the worlds of before are the same in everything else. */
const LOG_TIME_DICE = 0x7a3e
const MEMBERS_DICE = 0x3e3b
const STOPS_DICE = 0x570b

/** In half of the worlds sessions and keys live for seconds, and some writes go without a session. */
function withLogTime(options: SimOptions, dice: Dice): SimOptions {
  if (dice.below(2) === 0) return options
  const sessionTtlMs = dice.magnitude(1000, 30_000)
  const keyTtlMs = dice.magnitude(1000, 30_000)
  return {
    ...options,
    limits: { ...options.limits, sessionTtlMs, keyTtlMs },
    clients: { ...options.clients, keyedPpt: dice.pick([0, 100, 400]) },
  }
}

/** Most worlds are nearly calm, some lose a message in ten. */
export function drawWeather(dice: Dice, severity: number): Weather {
  const bad = (ppmMax: number): number =>
    dice.below(2) === 0 ? 0 : dice.magnitude(100, ppmMax * severity)
  const delayUsMin = dice.magnitude(20, 2000)
  return {
    delayUsMin,
    delayUsMax: delayUsMin + dice.magnitude(50, 20_000 * severity),
    spikeUsMax: dice.magnitude(10_000, 500_000 * severity),
    spikePpm: bad(10_000),
    lossPpm: bad(25_000),
    duplicatePpm: bad(25_000),
    reorderPpm: bad(25_000),
  }
}

/** Half of the worlds have the limits of production; in the others batches split and windows fill. */
function drawLimits(dice: Dice): Partial<RuntimeLimits> {
  const hashes = { hashEveryEntries: 16, hashesKept: 16 }
  if (dice.below(2) === 0) return hashes
  return {
    ...hashes,
    appendBytesMax: dice.pick([1, 200, 1 << 20]),
    maxSaveBytes: dice.pick([1, 300, 4 << 20]),
    inflightAppendsMax: dice.pick([1, 2, 16]),
    inflightBytesMax: dice.pick([100, 2000, 16 << 20]),
    unsavedBytesMax: dice.pick([500, 5000, 64 << 20]),
    applyCountMax: dice.pick([1, 3, 4096]),
    pendingRequestsMax: dice.pick([4, 20_000]),
  }
}

/** Nodes take snapshots all the time, and keep so little of their logs that whoever was away needs one. */
function drawSnapshotLimits(dice: Dice): Partial<RuntimeLimits> {
  return {
    snapshotEntries: dice.pick([2, 10, 30, 60, 200, 200]),
    snapshotLogBytes: dice.pick([1000, 10_000, 64 << 20, 64 << 20]),
    snapshotTailEntries: dice.pick([0, 0, 3, 20]),
    snapshotTailBytes: dice.pick([0, 500, 16 << 20]),
    snapshotPinnedBytesMax: dice.pick([0, 5000, 256 << 20]),
    snapshotChunkBytes: dice.pick([150, 1000, 64 << 10]),
    snapshotPullsMax: dice.pick([1, 4]),
    snapshotPullAgainMs: dice.pick([500, 2000]),
    snapshotPatienceMs: dice.pick([2000, 10_000]),
    snapshotRetryMs: dice.pick([1000, 10_000]),
    snapshotSendIdleMs: dice.pick([1000, 30_000]),
  }
}

function drawClients(dice: Dice, preset: Preset): ClientOptions {
  // Where nearly all that is asked are reads, they meet rounds that are under way.
  const isReading = dice.below(5) === 0
  const isBusy = preset === 'hell' || isReading || dice.below(3) === 0
  const depthMax = dice.pick([1, 1, 1, 4, 16])
  // Whoever asks for much at once asks less often, so that a busy world is one of many clients and not of many entries.
  const pauseUsMax = isBusy
    ? depthMax * dice.magnitude(SECOND_US / 4, 2 * SECOND_US)
    : dice.magnitude(SECOND_US, 20 * SECOND_US)
  return {
    count: dice.between(1, preset === 'hell' ? 8 : 4),
    keys: dice.between(1, 6),
    depthMax,
    pauseUsMin: dice.magnitude(1000, 100_000),
    pauseUsMax,
    restPpm: dice.pick([0, 10_000, 50_000]),
    restUsMax: 10 * SECOND_US,
    timeoutMs: dice.pick([500, 2000, 10_000]),
    attemptsMax: dice.pick([1, 3, 20]),
    valueBytesMax: dice.pick([0, 0, 0, 200, 3000]),
    getPpt: isReading ? 800 : dice.between(100, 600),
    stalePpt: dice.pick([0, 50]),
    casPpt: dice.between(0, isReading ? 50 : 150),
    appendPpt: dice.between(0, isReading ? 50 : 150),
    deletePpt: dice.between(0, 50),
    keyedPpt: 0,
  }
}

/** Who changes the members in this world, and how many machines come late. */
function drawMembers(
  dice: Dice,
  preset: Preset,
  nodes: number | null,
): Pick<SimOptions, 'joiners' | 'operator' | 'autopilot'> {
  const autopilot = {
    maxVoters: dice.pick([1, 3, 5, 5, 5, 7]),
    replaceAfterMs: dice.magnitude(3000, 60_000),
    admit: dice.pick(['auto', 'auto', 'approve'] as const),
  }
  const hasAutopilot = dice.below(2) === 0
  const pauseUsMin = dice.magnitude(SECOND_US / 10, 2 * SECOND_US)
  const operator = {
    works: dice.below(4) < { lite: 1, default: 2, hell: 3 }[preset],
    pauseUsMin,
    pauseUsMax: pauseUsMin + dice.magnitude(SECOND_US, 8 * SECOND_US),
    timeoutMs: dice.pick([2000, 10_000]),
    hasAutopilot,
  }
  const joiners = nodes === null && (operator.works || hasAutopilot) ? dice.below(4) : 0
  return { joiners, operator, autopilot: hasAutopilot ? autopilot : null }
}

/** Half of the kinds are missing from each world; in `hell` nothing is. */
function drawFaults(dice: Dice, preset: Preset): Record<FaultKind, number> {
  const weights = {} as Record<FaultKind, number>
  for (const kind of FAULT_KINDS) {
    const weight = dice.magnitude(1, 64)
    weights[kind] = preset === 'hell' || dice.below(2) === 0 ? weight : 0
  }
  if (preset === 'lite') for (const kind of TOO_BAD) weights[kind] = 0
  return weights
}

/** Founding is a matter of milliseconds: only where messages take longer are two offers under way at once. */
function slowly(weather: Weather, dice: Dice): Weather {
  if (dice.below(2) === 0) return weather
  return {
    ...weather,
    delayUsMax: weather.delayUsMin + dice.magnitude(SECOND_US / 10, 3 * SECOND_US),
  }
}

/** Links that come and go are what makes blank nodes disagree about who is there. */
function foundingFaults(drawn: Record<FaultKind, number>): Record<FaultKind, number> {
  return {
    ...drawn,
    ...{ partition: 64, bridge: 64, oneWay: 64, ring: 64, reset: 32, kill: 32, mistakeExpect: 32 },
  }
}
