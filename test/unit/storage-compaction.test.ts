/** Forgetting in the log on disk: whole old segments, a base in place of everything, and logs that an older format has begun. */
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Disk } from '../../node/storage/disk.ts'
import { type DumpLine, dumpLog } from '../../node/storage/dump.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { snapshotFor } from '../../node/storage/snapshots.ts'
import { type LogStorage, StorageError } from '../../node/storage/storage.ts'
import { openWal } from '../../node/storage/wal.ts'
import {
  close,
  contents,
  entries,
  HEADER_BYTES,
  hardState,
  refusal,
  SMALL_SEGMENT_BYTES,
  STORAGE_ID,
  save,
  saved,
  temporaryDirectory,
} from '../support/storage.ts'

const FIXTURE = new URL('../fixtures/wal-v1/', import.meta.url)
const name = (number: number): string => `${String(number).padStart(10, '0')}.wal`

function open(directory: string, more: { create?: boolean; disk?: Disk } = {}): LogStorage {
  return openWal({
    disk: nodeDisk,
    directory,
    storageId: STORAGE_ID,
    segmentBytes: SMALL_SEGMENT_BYTES,
    ...more,
  })
}

/** Numbers of the segments that hold batches; the next one may have been made already. */
function segments(directory: string): number[] {
  const files = [...dumpLog(nodeDisk, directory)].flatMap((line) =>
    line.type === 'record' ? [Number.parseInt(path.basename(line.file), 10)] : [],
  )
  return [...new Set(files)]
}

/** Waits until the segments before this one are gone. */
async function begun(directory: string, at: number): Promise<void> {
  while (segments(directory)[0] !== at) await new Promise((settle) => setImmediate(settle))
}

function bases(log: LogStorage): [number, number] {
  return [log.recovered.base.index, log.recovered.base.term]
}

async function reopened(log: LogStorage, directory: string): Promise<LogStorage> {
  await close(log)
  return open(directory)
}

/** A log of `count` entries of 1,500 bytes, two a segment, with a hard state in the first batch only. */
async function long(count: number): Promise<{ directory: string; log: LogStorage }> {
  const directory = `${temporaryDirectory()}/wal`
  const log = open(directory, { create: true })
  await saved(log, { hardState: hardState(1, 0, 'n.s'), entries: entries(1, 1, 1, 1500) })
  for (let index = 2; index <= count; index++) {
    await saved(log, { entries: entries(index, index, 1, 1500) })
  }
  return { directory, log }
}

const compaction = suite('compaction')

compaction('removes whole segments, and never the one in use', async () => {
  const { directory, log } = await long(9)
  assert.equal(segments(directory), [1, 2, 3, 4, 5])
  log.compact(5)
  await begun(directory, 3)
  await close(log)
  assert.equal(segments(directory), [3, 4, 5], 'entry 6 is in segment 3')
  let again = open(directory)
  assert.equal(bases(again), [4, 1])
  assert.equal(
    again.recovered.entries.map(({ index }) => index),
    [5, 6, 7, 8, 9],
  )
  assert.equal(again.recovered.hardState, hardState(1, 0, 'n.s'), 'it stood in segment 1')
  again.compact(9)
  await begun(directory, 5)
  again = await reopened(again, directory)
  assert.equal([segments(directory), bases(again)], [[5], [8, 1]])
  await saved(again, { entries: entries(10, 12, 2, 1500) })
  again = await reopened(again, directory)
  assert.equal(segments(directory), [5, 6])
  assert.equal(
    again.recovered.entries.map(({ index }) => index),
    [9, 10, 11, 12],
  )
  await close(again)
})

compaction('a base makes all segments before it needless', async () => {
  const { directory, log } = await long(9)
  await saved(log, { base: { term: 3, index: 40 }, entries: entries(41, 41, 3) })
  await begun(directory, 5)
  const again = await reopened(log, directory)
  assert.equal([segments(directory), bases(again), contents(again)], [[5], [40, 3], ['41:3:3.41']])
  assert.equal(again.recovered.hardState, hardState(1, 0, 'n.s'))
  await close(again)
})

compaction('what was rewritten before it was committed is not missed', async () => {
  const directory = `${temporaryDirectory()}/wal`
  let log = open(directory, { create: true })
  await saved(log, { entries: entries(1, 2, 1, 1500) })
  await saved(log, { entries: entries(3, 4, 1, 1500) })
  // The next leader rewrites 3 and 4, then 2, in a segment of its own.
  await saved(log, { entries: entries(3, 3, 2, 1500) })
  await saved(log, { entries: entries(2, 2, 3, 1500) })
  await saved(log, { entries: entries(3, 8, 3, 300) })
  assert.equal(segments(directory), [1, 2, 3, 4])
  log.compact(5)
  await begun(directory, 3)
  log = await reopened(log, directory)
  assert.equal(segments(directory), [3, 4])
  assert.equal(bases(log), [4, 3])
  assert.equal(
    log.recovered.entries.map(({ index, term }) => [index, term]),
    [
      [5, 3],
      [6, 3],
      [7, 3],
      [8, 3],
    ],
  )
  await close(log)
})

compaction(
  'a segment that is missing at the front shows in the base, which no snapshot reaches',
  async () => {
    const { directory, log } = await long(6)
    await close(log)
    fs.unlinkSync(`${directory}/${name(1)}`)
    const again = open(directory)
    assert.equal(bases(again), [2, 1])
    const error = refusal(() => snapshotFor(again.recovered, [], 'c'.repeat(32)))
    assert.is(error.code, 'corrupt-snapshot')
    await close(again)
    fs.unlinkSync(`${directory}/${name(3)}`)
    assert.is(refusal(() => open(directory)).code, 'corrupt-log')
  },
)

compaction(
  'the first batch of the first segment must be whole once segments before it are gone',
  async () => {
    const { directory, log } = await long(5)
    log.compact(5)
    await begun(directory, 3)
    await close(log)
    const [number] = segments(directory)
    const file = `${directory}/${name(number as number)}`
    const whole = fs.readFileSync(file)
    for (const at of [0, 10, 33, 60, 900]) {
      const bytes = Buffer.from(whole)
      bytes[HEADER_BYTES + at] = (bytes[HEADER_BYTES + at] as number) ^ 1
      fs.writeFileSync(file, bytes)
      for (const create of [false, true]) {
        const error = refusal(() => open(directory, { create }))
        assert.equal([error.code, error.offset], ['corrupt-log', HEADER_BYTES])
      }
      assert.ok(bytes.equals(fs.readFileSync(file)), 'a refusal changes nothing')
    }
  },
)

compaction(
  'a removal that fails ends the log at the next save, want of room does not',
  async () => {
    const codes: ('io' | 'disk-full')[] = ['disk-full', 'disk-full', 'io']
    const disk: Disk = {
      ...nodeDisk,
      discard(target, done) {
        const code = codes.shift()
        if (code === undefined) return nodeDisk.discard(target, done)
        setImmediate(() => done(new StorageError(code, 'injected', { path: target })))
      },
    }
    const made = await long(7)
    await close(made.log)
    const { directory } = made
    const log = open(directory, { disk })
    for (let left = codes.length; left > 1; ) {
      log.compact(4)
      while (codes.length === left) await new Promise((settle) => setImmediate(settle))
      left = codes.length
      assert.is(await save(log, { hardState: hardState(2, left) }), null)
    }
    assert.equal(segments(directory), [1, 2, 3, 4])
    log.compact(4)
    await new Promise((settle) => setImmediate(settle))
    assert.is((await save(log, { hardState: hardState(3) }))?.code, 'io')
    await close(log)
  },
)

compaction.run()

const older = suite('a log that format version 1 has begun')

const WRITTEN = {
  hardState: hardState(2, 9, 'm.s'),
  entries: ['1:1', '2:1', '3:1', '4:1', '5:2', '6:2', '7:2', '8:2', '9:2', '10:2', '11:2'],
}

function fixture(): string {
  const directory = `${temporaryDirectory()}/wal`
  fs.mkdirSync(directory)
  for (const file of fs.readdirSync(FIXTURE)) {
    fs.copyFileSync(new URL(file, FIXTURE), `${directory}/${file.replace(/\.bin$/, '')}`)
  }
  return directory
}

function ids(log: LogStorage): string[] {
  return log.recovered.entries.map(({ index, term }) => `${index}:${term}`)
}

const versions = (directory: string): number[] =>
  [...dumpLog(nodeDisk, directory)].flatMap((line) =>
    line.type === 'segment' ? [line.version] : [],
  )

older('is read, and goes on in segments of version 2', async () => {
  const directory = fixture()
  let log = open(directory)
  assert.equal(log.recovered.hardState, WRITTEN.hardState)
  assert.equal([bases(log), ids(log)], [[0, 0], WRITTEN.entries])
  assert.is(log.recovered.entries[8]?.kind, 'noop')
  for (let index = 12; index < 18; index++) {
    await saved(log, { entries: entries(index, index, 3, 1000) })
  }
  log = await reopened(log, directory)
  assert.is(ids(log).length, 17)
  await close(log)
  const found = versions(directory)
  assert.ok(found.indexOf(2) > 2 && !found.slice(found.indexOf(2)).includes(1), `${found}`)
  assert.not.ok([...dumpLog(nodeDisk, directory)].some(({ type }) => type === 'damage'))
})

older('a base never stands in a segment of version 1', async () => {
  const directory = fixture()
  const log = open(directory)
  await saved(log, { base: { term: 3, index: 30 }, entries: entries(31, 31, 3) })
  const first = [...dumpLog(nodeDisk, directory)].filter(
    (line): line is DumpLine & { type: 'record' } => line.type === 'record' && line.base !== null,
  )
  assert.equal(
    first.map(({ base, start }) => [base, start]),
    [['30.3', '11.2']],
  )
  const again = await reopened(log, directory)
  assert.equal([bases(again), contents(again)], [[30, 3], ['31:3:3.31']])
  again.compact(30)
  while (versions(directory).includes(1)) await new Promise((settle) => setImmediate(settle))
  await close(again)
})

/** Files as they are after each removal. */
function removals(directory: string): { disk: Disk; states: Map<string, Buffer>[] } {
  const states: Map<string, Buffer>[] = []
  const disk: Disk = {
    ...nodeDisk,
    discard(target, done) {
      nodeDisk.discard(target, (error) => {
        const files = fs.readdirSync(directory)
        states.push(new Map(files.map((file) => [file, fs.readFileSync(`${directory}/${file}`)])))
        done(error)
      })
    },
  }
  return { disk, states }
}

older('its segments go all together or not at all, and an interruption is continued', async () => {
  const directory = fixture()
  const { disk, states } = removals(directory)
  const log = open(directory, { disk })
  await saved(log, { entries: entries(12, 12, 3, 5000) })
  log.compact(10)
  await saved(log, { entries: entries(13, 13, 3, 5000) })
  assert.is(versions(directory).filter((version) => version === 1).length, 3)
  log.compact(11)
  while (versions(directory).includes(1)) await new Promise((settle) => setImmediate(settle))
  await close(log)
  assert.is(states.length, 3)
  for (const state of states) {
    const copy = `${temporaryDirectory()}/wal`
    fs.mkdirSync(copy)
    for (const [file, bytes] of state) fs.writeFileSync(`${copy}/${file}`, bytes)
    let again = open(copy)
    assert.equal(
      [bases(again), ids(again)],
      [
        [11, 2],
        ['12:3', '13:3'],
      ],
    )
    assert.equal(again.recovered.hardState, WRITTEN.hardState)
    again.compact(11)
    while (versions(copy).includes(1)) await new Promise((settle) => setImmediate(settle))
    again = await reopened(again, copy)
    assert.equal(
      [bases(again), ids(again)],
      [
        [11, 2],
        ['12:3', '13:3'],
      ],
    )
    await close(again)
  }
  const rest = fixture()
  fs.unlinkSync(`${rest}/${name(1)}`)
  assert.is(
    refusal(() => open(rest)).code,
    'corrupt-log',
    'without version 2 nothing says where it begins',
  )
})

older('an empty segment of it is made anew', async () => {
  const directory = fixture()
  const spare = fs.readFileSync(`${directory}/${name(1)}`)
  fs.rmSync(directory, { recursive: true })
  fs.mkdirSync(directory)
  fs.writeFileSync(`${directory}/${name(1)}`, spare.fill(0, HEADER_BYTES))
  const log = open(directory, { create: true })
  assert.equal(segments(directory), [])
  await saved(log, { entries: entries(1, 1) })
  assert.equal(versions(directory), [2])
  await close(log)
})

older.run()
