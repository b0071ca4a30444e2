// timeout: 300 s
/**
 * Whole directories of the log: what any sequence of saves, failures and power cuts leaves, and what any damage makes of it. A log
 * opens with what was acknowledged, or it is refused; only the last batch can go (docs/wal.md, rule 12 of the correctness list).
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type DumpLine, dumpLog } from '../../node/storage/dump.ts'
import { type Recovered, type Save, StorageError } from '../../node/storage/storage.ts'
import {
  difference,
  EMPTY_LOG,
  type LogImage,
  lastOf,
  withBatch,
  withCompact,
} from '../support/log-image.ts'
import { comparable } from './laws.ts'
import { MemoryDisk } from './memory-disk.ts'
import { damaged, damages } from './mutations.ts'
import { holds } from './runs.ts'
import { DIRECTORY, open, type Step, WalWorld } from './wal-world.ts'

const step: fc.Arbitrary<Step> = fc.record({
  back: fc.nat(3),
  sizes: fc.array(fc.oneof(fc.nat(40), fc.nat(40), fc.nat(1500), fc.nat(6000)), { maxLength: 3 }),
  rise: fc.boolean(),
  vote: fc.option(fc.constantFrom('n', 'm'.repeat(97))),
  compact: fc.nat(300),
  ahead: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(50) }),
  what: fc.constantFrom('saved', 'saved', 'saved', 'no room', 'power cut', 'fsync fails'),
  after: fc.nat(300),
  sectors: fc.nat(),
})

const world = suite('saves, failures and power cuts')

world('after each restart the log is what was acknowledged', () => {
  const sum = { restarts: 0, survived: 0, compacted: 0 }
  holds(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25, size: 'max' }), (steps) => {
      const one = new WalWorld()
      for (const each of steps) one.run(each)
      one.restart()
      sum.restarts += one.restarts
      sum.survived += one.survived
      sum.compacted += one.compacted
    }),
    1200,
  )
  const { restarts, survived, compacted } = sum
  console.log(
    `${restarts} restarts, ${survived} found more, ${compacted} less of what was compacted`,
  )
  assert.ok(compacted > restarts / 20, 'segments were removed now and then')
  assert.ok(sum.survived > 0, 'a batch that was under way was found now and then')
})

// --- damage -----------------------------------------------------------------------------------------------------------

interface Written {
  readonly disk: MemoryDisk
  /** What the log held after so many batches. */
  readonly states: readonly LogImage[]
  readonly records: readonly (DumpLine & { type: 'record' })[]
}

/** A log of these batches, with no failure. */
function written(batches: readonly (readonly number[])[]): Written {
  const disk = new MemoryDisk()
  const log = open(disk, true)
  const states = [EMPTY_LOG]
  for (const [at, sizes] of batches.entries()) {
    const held = states.at(-1) as LogImage
    const first = Math.max(1, lastOf(held).index + 1 - (at % 3))
    const entries = sizes.map((size, i) => ({
      term: at + 1,
      index: first + i,
      kind: 'command' as const,
      payload: new Uint8Array(size).fill(at),
    }))
    const batch: Save = { hardState: { term: at + 1, vote: 'n.s', commit: 0 }, entries }
    log.save(batch, (error) => assert.is(error, null))
    disk.settle()
    states.push(withBatch(held, batch))
  }
  const records = [...dumpLog(disk, DIRECTORY)].filter((line) => line.type === 'record')
  assert.is(records.length, batches.length)
  return { disk, states, records }
}

const batches = fc.array(fc.array(fc.oneof(fc.nat(60), fc.nat(1200)), { maxLength: 3 }), {
  minLength: 2,
  maxLength: 7,
})

/** The log, or null when it is refused as damaged. */
function opened(disk: MemoryDisk): Recovered | null {
  try {
    return open(disk, false).recovered
  } catch (error) {
    if (!(error instanceof StorageError)) throw error
    assert.ok(['corrupt-log', 'storage-lost'].includes(error.code), error.code)
    assert.match(error.message, /raft-p2p rejoin/)
    return null
  }
}

/** What can be compared of two starts; the second one has no torn batch left to cut. */
function heldBy(found: Recovered | null) {
  return found === null ? null : { ...found, tornTailCut: false }
}

/**
 * Without its first segments a log is one that was compacted. Only a snapshot can tell that it was not: who opens it refuses a base
 * that no snapshot reaches.
 */
function isOneOf(states: readonly LogImage[], found: Recovered): boolean {
  return states.some((state) => difference(withCompact(state, lastOf(state).index), found) === null)
}

function changed(before: MemoryDisk, after: MemoryDisk): string[] {
  const paths = new Set([...before.files.keys(), ...after.files.keys()])
  return [...paths].filter(
    (path) => comparable(before.files.get(path)) !== comparable(after.files.get(path)),
  )
}

/** What a person, a bug or a tired disk may do to the files. */
const disaster = fc.oneof(
  fc.record({ how: fc.constant('damage' as const), file: fc.nat(9), damages }),
  fc.record({
    how: fc.constantFrom('remove' as const, 'double', 'swap', 'empty', 'graft', 'graft'),
    file: fc.nat(9),
    other: fc.nat(9),
  }),
)

type Disaster = typeof disaster extends fc.Arbitrary<infer T> ? T : never

/** `elsewhere`: the same storage at another time, as a backup of one file would bring it back. */
function strike(disk: MemoryDisk, one: Disaster, elsewhere: MemoryDisk): void {
  const paths = [...disk.files.keys()].sort()
  const path = paths[one.file % paths.length]
  const bytes = path === undefined ? undefined : disk.files.get(path)
  if (path === undefined || bytes === undefined) return
  if (one.how === 'damage') {
    disk.files.set(path, damaged(bytes, one.damages))
    return
  }
  const other = paths[one.other % paths.length] as string
  if (one.how === 'remove') disk.files.delete(path)
  else if (one.how === 'graft') disk.files.set(path, elsewhere.files.get(path) ?? bytes)
  else if (one.how === 'empty') disk.files.set(path, new Uint8Array(0))
  else if (one.how === 'swap') {
    disk.files.set(path, disk.files.get(other) as Uint8Array)
    disk.files.set(other, bytes)
  } else disk.files.set(`${DIRECTORY}/${String(paths.length + 1).padStart(10, '0')}.wal`, bytes)
}

const damage = suite('damaged directories')

damage('a log opens with what it once held, or it is refused and left as it is', () => {
  const sum = { opened: 0, refused: 0, front: 0 }
  holds(
    fc.property(
      batches,
      batches,
      fc.array(disaster, { minLength: 1, maxLength: 3 }),
      (all, others, disasters) => {
        const { disk, states } = written(all)
        const elsewhere = written([...all.slice(0, 2), ...others])
        for (const one of disasters) strike(disk, one, elsewhere.disk)
        const before = disk.copy()
        const lines = [...dumpLog(disk, DIRECTORY)]
        assert.ok(lines.length < 1000, 'a dump ends')
        const found = opened(disk)
        if (found === null) {
          sum.refused++
          assert.equal(changed(before, disk), [], 'a refusal changes nothing')
          return
        }
        sum.opened++
        const known = [...states.slice(1), ...elsewhere.states.slice(1)]
        assert.ok(isOneOf(known, found), 'a log that never was')
        if (found.base.index > 0) sum.front++
        assert.is(
          comparable(heldBy(opened(disk.copy()))),
          comparable(heldBy(found)),
          'the next start finds the same',
        )
      },
    ),
    1200,
  )
  console.log(
    `${sum.opened} opened, ${sum.front} without their first segments, ${sum.refused} refused`,
  )
})

const byte = fc.record({ at: fc.nat(), flip: fc.integer({ min: 1, max: 255 }) })

damage(
  'whatever is lost of the batches before the last: refused, while its header is whole',
  () => {
    holds(
      fc.property(
        batches,
        fc.nat(),
        fc.array(byte, { minLength: 1, maxLength: 6 }),
        (all, which, flips) => {
          const { disk, records } = written(all)
          const hit = records[which % (records.length - 1)]
          if (hit === undefined) return
          const bytes = disk.files.get(hit.file) as Uint8Array
          const before = bytes.slice()
          for (const { at, flip } of flips) {
            const place = hit.offset + (at % hit.bytes)
            bytes[place] = (bytes[place] as number) ^ flip
          }
          if (comparable(before) === comparable(bytes)) return
          assert.is(opened(disk), null, 'a batch that was acknowledged is cut')
        },
      ),
      400,
    )
  },
)

damage('whatever is lost of the last batch: it is cut, or it is whole', () => {
  holds(
    fc.property(
      batches,
      fc.array(byte, { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      (all, flips, zero) => {
        const { disk, states, records } = written(all)
        const last = records.at(-1)
        if (last === undefined) return
        const bytes = disk.files.get(last.file) as Uint8Array
        for (const { at, flip } of flips) {
          const place = last.offset + (at % last.bytes)
          bytes[place] = zero ? 0 : (bytes[place] as number) ^ flip
        }
        const found = opened(disk)
        // One batch alone is the whole log: without it the storage is lost.
        if (found === null) assert.is(all.length, 1)
        else assert.ok(isOneOf(states.slice(-2), found) && found.base.index === 0)
      },
    ),
    800,
  )
})

world.run()
damage.run()
