/** What goes wrong on disks: slow, hung, full and failing ones, and a minority that is damaged for good. */
import {
  decodeRecord,
  decodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  storageSeed,
} from '../../node/storage/segment.ts'
import { ALWAYS_PPM, type Dice } from '../../node/testing/dice.ts'
import { DATA_DIRECTORY, type SimMachine } from '../../node/testing/sim-machine.ts'
import type { FaultTools } from './faults.ts'
import type { FaultKind } from './options.ts'

export const DISK_FAULTS = [
  'slowDisk',
  'hungDisk',
  'stuckLeader',
  'fullDisk',
  'brokenDisk',
  'rot',
  'truncate',
  'wipe',
] as const satisfies readonly FaultKind[]
export type DiskFault = (typeof DISK_FAULTS)[number]

const SECOND_US = 1_000_000
const WAL = `${DATA_DIRECTORY}/wal/`
const IDENTITY = `${DATA_DIRECTORY}/identity.json`

/** False: it could not be done here and now. */
export function strikeDisk(kind: DiskFault, tools: FaultTools): boolean {
  const { world, until } = tools
  const { dice } = world
  const machine = tools.target()
  const { mood } = machine
  switch (kind) {
    case 'slowDisk': {
      const { writeUsMax } = mood
      mood.writeUsMax = dice.magnitude(writeUsMax, 2 * SECOND_US)
      until(SECOND_US, 10 * SECOND_US, () => {
        mood.writeUsMax = writeUsMax
      })
      return true
    }
    case 'stuckLeader':
      return stickLeader(tools)
    case 'hungDisk':
      mood.hangUs = dice.magnitude(SECOND_US / 4, 30 * SECOND_US)
      return true
    case 'fullDisk':
      mood.fullPpm = dice.pick([300_000, ALWAYS_PPM, ALWAYS_PPM])
      until(SECOND_US / 10, 15 * SECOND_US, () => {
        mood.fullPpm = 0
        if (dice.below(2) === 0) dieAfter(machine, tools)
      })
      return true
    case 'brokenDisk':
      mood.ioPpm = dice.magnitude(1000, 500_000)
      until(SECOND_US / 10, 5 * SECOND_US, () => {
        mood.ioPpm = 0
      })
      return true
    default:
      return ruin(kind, machine, tools)
  }
}

/** It has room again and dies soon: its next start reads what the failed writes have left, before the log grows beyond that. */
function dieAfter(machine: SimMachine, { until, restartLater }: FaultTools): void {
  until(1000, SECOND_US / 2, () => {
    if (machine.process === null) return
    machine.kill('killed')
    restartLater(machine, 2 * SECOND_US)
  })
}

/**
 * The leader's disk hangs while nobody hears it: others go on, and rewrite what it is still saving when they meet again.
 */
function stickLeader({ world, until }: FaultTools): boolean {
  const { dice, leader, network, machines } = world
  const machine = leader()
  if (machine === null) return false
  const others = machines.filter((other) => other !== machine)
  machine.mood.hangUs = dice.between(3 * SECOND_US, 12 * SECOND_US)
  for (const { index } of others) {
    network.cut(machine.index, index)
    network.cut(index, machine.index)
  }
  until(2 * SECOND_US, 6 * SECOND_US, () => {
    for (const { index } of others) {
      network.mend(machine.index, index)
      network.mend(index, machine.index)
    }
  })
  return true
}

/** The machine is down, and its disk is found damaged when it comes back. */
function ruin(kind: DiskFault, machine: SimMachine, tools: FaultTools): boolean {
  const { dice, ruined, rotten, mayLose, options } = tools.world
  if (!ruined.has(machine.index) && !mayLose(machine)) return false
  // One damage at a time: whether the log is found to be well must not hide what has become of the snapshot.
  if (rotten.has(machine.index)) return false
  const inLog = (path: string): boolean => path.startsWith(WAL)
  const paths = machine.disk.paths()
  // Without both of them the disk would be a blank one, on which a machine that may found founds by right (FOUNDING: 2N - 1 counts disks).
  if (!paths.some(inLog) || (kind === 'wipe' && !paths.includes(IDENTITY))) return false
  if (kind === 'rot' && dice.below(3) === 0 && rotSnapshot(machine, tools)) return true
  machine.kill('killed')
  // A segment whose removal was under way is gone now, or not.
  const segments = machine.disk.paths().filter(inLog)
  ruined.add(machine.index)
  if (kind === 'rot') rot(machine, segments, tools)
  else if (kind === 'truncate') {
    machine.disk.truncate(dice.pick(segments), dice.below(options.segmentBytes))
  } else {
    machine.disk.erase(dice.below(3) === 0 ? IDENTITY : WAL)
  }
  tools.restartLater(machine, 2 * SECOND_US)
  return true
}

/** One that it takes in while it runs, or finds at its next start. False: there is none. */
function rotSnapshot(machine: SimMachine, tools: FaultTools): boolean {
  const { dice, ruined, rotten } = tools.world
  const files = machine.disk.paths().filter((path) => path.endsWith('.snapshot'))
  if (files.length === 0 || ruined.has(machine.index)) return false
  ruined.add(machine.index)
  const isFound = dice.below(2) === 0
  if (isFound) machine.kill('killed')
  // The kill may have undone that it got its name.
  const bytes = machine.disk.rot(dice.pick(files))
  rotten.set(machine.index, bytes === null ? () => {} : flip(bytes, bytes.length, dice))
  if (isFound) tools.restartLater(machine, 2 * SECOND_US)
  return true
}

/** Anywhere but in the last batch: rot there cannot be told from a torn write (CORRECTNESS, rule 12). */
function rot({ disk }: SimMachine, segments: readonly string[], tools: FaultTools): void {
  const { dice } = tools.world
  const contents = segments.map((path) => disk.rot(path) as Uint8Array)
  const ends = contents.map(lastRecordAt)
  const newest = ends.findLastIndex((at) => at !== null)
  const place = dice.below(segments.length + 1)
  const bytes = contents[place] ?? disk.rot(IDENTITY)
  if (bytes === null) return
  const bound = place === newest ? (ends[newest] as number) : bytes.length
  flip(bytes, bound, dice)
}

/** Returns how to undo it. */
function flip(bytes: Uint8Array, bound: number, dice: Dice): () => void {
  const bits = Array.from({ length: dice.magnitude(1, 8) }, () => {
    return { at: dice.below(bound), bit: 1 << dice.below(8) }
  })
  const turn = (): void => {
    for (const { at, bit } of bits) bytes[at] = (bytes[at] as number) ^ bit
  }
  turn()
  return turn
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
