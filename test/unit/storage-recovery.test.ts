/** What the log on disk makes of a damaged one: only a torn last batch is cut, anything else is refused by file and offset. */
import fs from 'node:fs'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { crc32, crc32ByTable } from '../../node/storage/crc.ts'
import { type DumpLine, dumpLog } from '../../node/storage/dump.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { recoverLog } from '../../node/storage/recovery.ts'
import {
  decodeRecord,
  decodeSegmentHeader,
  encodeSegmentHeader,
  endOfContent,
  findLaterRecord,
  storageSeed,
} from '../../node/storage/segment.ts'
import { type LogStorage, type Save, StorageError } from '../../node/storage/storage.ts'
import { createWal, openWal } from '../../node/storage/wal.ts'
import {
  close,
  contents,
  entries,
  entry,
  HEADER_BYTES,
  hardState,
  refusal,
  SMALL_SEGMENT_BYTES,
  STORAGE_ID,
  saved,
  temporaryDirectory,
} from '../support/storage.ts'

const FIRST = '0000000001.wal'
const SECOND = '0000000002.wal'

function open(directory: string, more: { create?: boolean; storageId?: string } = {}): LogStorage {
  return openWal({
    disk: nodeDisk,
    directory,
    storageId: STORAGE_ID,
    segmentBytes: SMALL_SEGMENT_BYTES,
    ...more,
  })
}

/** Saves the batches into a new log and returns its directory. */
async function written(batches: readonly Partial<Save>[]): Promise<string> {
  const directory = `${temporaryDirectory()}/wal`
  const log = open(directory, { create: true })
  for (const batch of batches) await saved(log, batch)
  await close(log)
  return directory
}

function records(directory: string): Extract<DumpLine, { type: 'record' }>[] {
  return [...dumpLog(nodeDisk, directory)].filter((line) => line.type === 'record')
}

async function openedContents(directory: string): Promise<string[]> {
  const log = open(directory)
  const found = contents(log)
  await close(log)
  return found
}

const THREE = [
  { hardState: hardState(1, 0, 'n.s'), entries: entries(1, 2) },
  { entries: entries(3, 4) },
  { hardState: hardState(2, 3), entries: entries(5, 6, 2) },
]
const AFTER_TWO = ['1:1:1.1x', '2:1:1.2x', '3:1:1.3x', '4:1:1.4x']

const torn = suite('torn last batch')

torn('where content ends, whatever lies before and behind', () => {
  const size = 3 * 65_536 + 17
  for (const at of [0, 1, 255, 256, 4095, 4096, 65_535, 65_536, 65_553, 131_071, size - 1]) {
    const bytes = new Uint8Array(size)
    bytes[at] = 1
    for (const from of [0, at, at + 1, size]) {
      assert.is(endOfContent(bytes, from), Math.max(from, at + 1), `content at ${at}, from ${from}`)
    }
    assert.is(endOfContent(bytes.subarray(at + 1), 0), 0)
  }
})

torn('is cut whichever of its last bytes are missing, and writing goes on', async () => {
  const directory = await written(THREE)
  const file = `${directory}/${FIRST}`
  const whole = fs.readFileSync(file)
  const last = records(directory).at(-1)
  if (last === undefined) throw new Error('no record')
  for (let kept = 0; kept < last.bytes; kept++) {
    const bytes = Buffer.from(whole)
    bytes.fill(0, last.offset + kept, last.offset + last.bytes)
    fs.writeFileSync(file, bytes)
    const log = open(directory)
    assert.equal(contents(log), AFTER_TWO, `${kept} bytes kept`)
    assert.equal(log.recovered.hardState, { term: 1, vote: 'n.s', commit: 0 })
    assert.is(log.recovered.tornTailCut, kept > 0)
    const rest = fs.readFileSync(file).subarray(last.offset)
    assert.ok(
      rest.every((byte) => byte === 0),
      'the cut bytes are zeros on disk',
    )
    await close(log)
  }
  const log = open(directory)
  await saved(log, { entries: entries(5, 5, 3) })
  await close(log)
  assert.equal(await openedContents(directory), [...AFTER_TWO, '5:3:3.5x'])
})

torn('is cut whichever of its bytes did not reach the disk', async () => {
  const directory = await written(THREE)
  const file = `${directory}/${FIRST}`
  const whole = fs.readFileSync(file)
  const last = records(directory).at(-1)
  if (last === undefined) throw new Error('no record')
  const { offset, bytes: size } = last
  await fc.assert(
    fc.asyncProperty(fc.subarray([...Array(size).keys()], { minLength: 1 }), async (lost) => {
      const bytes = Buffer.from(whole)
      for (const at of lost) bytes[offset + at] = 0
      if (bytes.equals(whole)) return
      fs.writeFileSync(file, bytes)
      assert.equal(await openedContents(directory), AFTER_TWO)
    }),
    { numRuns: 60 },
  )
})

torn('is cut when it was the first one of a new segment', async () => {
  const directory = await written([
    { entries: entries(1, 2, 1, 1500) },
    { entries: entries(3, 4, 1, 1500) },
  ])
  const file = `${directory}/${SECOND}`
  const [, second] = records(directory)
  assert.is(second?.file, file)
  const bytes = fs.readFileSync(file)
  bytes.fill(0, HEADER_BYTES + 1000, HEADER_BYTES + 1500)
  fs.writeFileSync(file, bytes)
  const log = open(directory)
  assert.is(log.recovered.entries.length, 2)
  assert.is(log.recovered.tornTailCut, true)
  assert.ok(
    fs
      .readFileSync(file)
      .subarray(HEADER_BYTES)
      .every((byte) => byte === 0),
  )
  // A small batch fits behind the second entry, the one behind it opens the segment again.
  await saved(log, { entries: entries(3, 3, 2) })
  await saved(log, { entries: entries(4, 5, 2, 1500) })
  await close(log)
  assert.is((await openedContents(directory)).length, 5)
})

torn(
  'a log that holds nothing but one is empty: blank if the identity is, lost if not',
  async () => {
    const directory = await written([{ entries: entries(1, 1) }])
    const file = `${directory}/${FIRST}`
    const bytes = fs.readFileSync(file)
    bytes.fill(0, HEADER_BYTES + 40)
    fs.writeFileSync(file, bytes)
    assert.is(refusal(() => open(directory)).code, 'storage-lost')
    const log = open(directory, { create: true })
    assert.is(log.recovered.entries.length, 0)
    await saved(log, { entries: entries(1, 1, 4) })
    await close(log)
    assert.equal(await openedContents(directory), ['1:4:4.1x'])
  },
)

torn('a segment whose preallocation was interrupted is made again', async () => {
  const directory = await written(THREE)
  fs.writeFileSync(`${directory}/${SECOND}.tmp`, 'half a header')
  const log = open(directory)
  assert.equal(fs.readdirSync(directory), [FIRST])
  await saved(log, { entries: entries(7, 7, 2, 5000) })
  await close(log)
  assert.is((await openedContents(directory)).length, 7)
})

torn('the last batch is written again before it is trusted, so that it is synced', async () => {
  const directory = await written(THREE)
  const overwrites: string[] = []
  const disk = {
    ...nodeDisk,
    overwrite: (path: string, at: number, bytes: Uint8Array) => {
      overwrites.push(`${path} ${at} ${bytes.length}`)
      nodeDisk.overwrite(path, at, bytes)
    },
  }
  recoverLog(disk, directory, { storageId: STORAGE_ID, mayBeEmpty: false })
  const last = records(directory).at(-1)
  assert.equal(overwrites, [`${last?.file} ${last?.offset} ${last?.bytes}`])
})

torn.run()

const damage = suite('damage before the last batch')

async function refusedAt(
  directory: string,
  where: { file: string; offset: number },
): Promise<void> {
  const before = fs.readFileSync(where.file)
  const error = refusal(() => open(directory))
  assert.is(error.code, 'corrupt-log')
  assert.is(error.path, where.file)
  assert.is(error.offset, where.offset)
  assert.match(error.message, 'raft-p2p rejoin')
  assert.ok(before.equals(fs.readFileSync(where.file)), 'a refusal changes nothing')
}

damage('any flipped bit of an earlier batch is refused at the start of that batch', async () => {
  const directory = await written(THREE)
  const file = `${directory}/${FIRST}`
  const whole = fs.readFileSync(file)
  const earlier = records(directory).slice(0, -1)
  assert.is(earlier.length, 2)
  for (const { offset, bytes: size } of earlier) {
    for (let bit = 0; bit < size * 8; bit++) {
      const bytes = Buffer.from(whole)
      const at = offset + (bit >> 3)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7))
      fs.writeFileSync(file, bytes)
      await refusedAt(directory, { file, offset })
    }
  }
})

damage('any flipped bit of a segment header is refused', async () => {
  const header = encodeSegmentHeader({
    version: 2,
    storageId: STORAGE_ID,
    number: 3,
    sizeBytes: SMALL_SEGMENT_BYTES,
  })
  assert.equal(decodeSegmentHeader(header), {
    version: 2,
    storageId: STORAGE_ID,
    number: 3,
    sizeBytes: SMALL_SEGMENT_BYTES,
  })
  for (let bit = 0; bit < header.length * 8; bit++) {
    const bytes = Uint8Array.from(header)
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.type(decodeSegmentHeader(bytes), 'string', `bit ${bit}`)
  }
  const directory = await written(THREE)
  const file = `${directory}/${FIRST}`
  const bytes = fs.readFileSync(file)
  bytes[20] = (bytes[20] ?? 0) ^ 1
  fs.writeFileSync(file, bytes)
  await refusedAt(directory, { file, offset: 0 })
})

damage('an earlier batch and a torn last one: the torn one still proves the earlier', async () => {
  const directory = await written(THREE)
  const file = `${directory}/${FIRST}`
  const [, second, third] = records(directory)
  if (second === undefined || third === undefined) throw new Error('no records')
  const bytes = fs.readFileSync(file)
  bytes[second.offset + 40] = (bytes[second.offset + 40] ?? 0) ^ 4
  bytes.fill(0, third.offset + 33)
  fs.writeFileSync(file, bytes)
  await refusedAt(directory, { file, offset: second.offset })
})

damage('sectors lost in the middle, a segment with its end, or a whole segment', async () => {
  const big = Array.from({ length: 6 }, (_, i) => ({ entries: entries(i + 1, i + 1, 1, 1500) }))
  const directory = await written(big)
  const first = `${directory}/${FIRST}`
  const second = `${directory}/${SECOND}`
  const third = `${directory}/0000000003.wal`
  const wholeFirst = fs.readFileSync(first)
  const wholeSecond = fs.readFileSync(second)
  const offsets = records(directory).map((record) => record.offset)
  assert.is(records(directory)[2]?.file, second)

  const zeroed = Buffer.from(wholeFirst)
  zeroed.fill(0, HEADER_BYTES)
  fs.writeFileSync(first, zeroed)
  await refusedAt(directory, { file: first, offset: HEADER_BYTES })

  // The last batch of a segment, with the proof in the next one.
  const last = Buffer.from(wholeFirst)
  last.fill(0, offsets[1] as number)
  fs.writeFileSync(first, last)
  await refusedAt(directory, { file: first, offset: offsets[1] as number })

  fs.writeFileSync(first, wholeFirst.subarray(0, SMALL_SEGMENT_BYTES - 1))
  await refusedAt(directory, { file: first, offset: SMALL_SEGMENT_BYTES - 1 })
  fs.writeFileSync(first, wholeFirst.subarray(0, 10))
  await refusedAt(directory, { file: first, offset: 0 })
  fs.writeFileSync(first, wholeFirst)

  fs.unlinkSync(second)
  const missing = refusal(() => open(directory))
  assert.is(missing.code, 'corrupt-log')
  assert.is(missing.path, second)
  // Another segment in its place does not pass either.
  fs.copyFileSync(third, second)
  await refusedAt(directory, { file: second, offset: 32 })
  fs.writeFileSync(second, wholeSecond)
  assert.is((await openedContents(directory)).length, 6)
})

damage('batches swapped between two logs of one storage do not chain', async () => {
  const one = await written([{ entries: entries(1, 1) }, { entries: entries(2, 2) }])
  const two = await written([{ entries: entries(1, 1, 5) }, { entries: entries(2, 2, 5) }])
  const [, second] = records(one)
  if (second === undefined) throw new Error('no record')
  const bytes = fs.readFileSync(`${one}/${FIRST}`)
  fs.readFileSync(`${two}/${FIRST}`).copy(bytes, second.offset, second.offset)
  fs.writeFileSync(`${one}/${FIRST}`, bytes)
  await refusedAt(one, { file: `${one}/${FIRST}`, offset: second.offset })
})

damage.run()

const hostile = suite('hostile bytes')

hostile('a value that is itself a piece of a log is never taken for a record', async () => {
  const source = await written(THREE)
  const image = fs.readFileSync(`${source}/${FIRST}`)
  const piece = image.subarray(HEADER_BYTES, HEADER_BYTES + 400)
  const foreign = `${temporaryDirectory()}/wal`
  const other = open(foreign, { create: true, storageId: 'f'.repeat(32) })
  for (const batch of THREE) await saved(other, batch)
  for (let index = 7; index < 12; index++) await saved(other, { entries: entries(index, index, 9) })
  await close(other)
  const foreignPiece = fs.readFileSync(`${foreign}/${FIRST}`).subarray(HEADER_BYTES, 4900)

  const directory = await written([
    ...THREE,
    { entries: [entry(7, 3, piece), entry(8, 3, foreignPiece)] },
  ])
  const file = `${directory}/${FIRST}`
  const last = records(directory).at(-1)
  if (last === undefined) throw new Error('no record')
  assert.is(last.sequence, 4)
  // The batch is torn in front of both pieces: they stand there whole, and the batch is cut all the same.
  const bytes = fs.readFileSync(file)
  bytes[last.offset + 33] = (bytes[last.offset + 33] ?? 0) ^ 1
  fs.writeFileSync(file, bytes)
  assert.is((await openedContents(directory)).length, 6)
})

hostile('any bytes are decoded or refused, and nothing else', () => {
  const seed = storageSeed(STORAGE_ID)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      decodeSegmentHeader(bytes)
      assert.is(decodeRecord(bytes, 0, seed).ok, false)
      assert.is(findLaterRecord(bytes, 0, seed, 0), null)
    }),
    { numRuns: 500 },
  )
})

hostile(
  'a log with bytes changed, moved, cut or added opens with a prefix or is refused',
  async () => {
    const batches = Array.from({ length: 8 }, (_, i) => ({
      hardState: hardState(i + 1, i),
      entries: entries(2 * i + 1, 2 * i + 2, i + 1, 200),
    }))
    const directory = await written(batches)
    const files = fs.readdirSync(directory)
    assert.ok(files.length >= 2)
    const whole = new Map(files.map((name) => [name, fs.readFileSync(`${directory}/${name}`)]))
    const all = batches.flatMap((batch) =>
      batch.entries.map((one) => `${one.index}:${one.term}:${Buffer.from(one.payload)}`),
    )
    const mutation = fc.record({
      file: fc.constantFrom(...files),
      from: fc.nat(SMALL_SEGMENT_BYTES),
      to: fc.nat(SMALL_SEGMENT_BYTES),
      bytes: fc.uint8Array({ minLength: 0, maxLength: 64 }),
      how: fc.constantFrom('overwrite', 'move', 'cut', 'add'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 4 }), async (mutations) => {
        for (const [name, bytes] of whole) fs.writeFileSync(`${directory}/${name}`, bytes)
        for (const name of fs.readdirSync(directory)) {
          if (!whole.has(name)) fs.unlinkSync(`${directory}/${name}`)
        }
        for (const { file, from, to, bytes, how } of mutations) {
          const path = `${directory}/${file}`
          const now = fs.readFileSync(path)
          const room = Math.max(0, now.length - from)
          if (how === 'overwrite' && room > 0) now.set(bytes.subarray(0, room), from)
          if (how === 'move') now.copyWithin(to, from, from + 512)
          const cut = how === 'cut' ? now.subarray(0, from) : now
          fs.writeFileSync(path, how === 'add' ? Buffer.concat([cut, bytes]) : cut)
        }
        try {
          const found = await openedContents(directory)
          assert.equal(found, all.slice(0, found.length))
        } catch (failure) {
          if (!(failure instanceof StorageError)) throw failure
          assert.ok(['corrupt-log', 'storage-lost'].includes(failure.code), failure.code)
        }
      }),
      { numRuns: 250 },
    )
  },
)

hostile('both checksums agree, in one piece or in two', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, cut) => {
      assert.is(crc32(bytes), crc32ByTable(bytes))
      assert.is(crc32ByTable(bytes.subarray(cut), crc32(bytes.subarray(0, cut))), crc32(bytes))
    }),
  )
  assert.is(crc32ByTable(new TextEncoder().encode('123456789')), 0xcbf43926)
})

hostile.run()

const lost = suite('lost storage')

lost('a bound identity never gets a log that is missing, empty or of another storage', async () => {
  const missing = `${temporaryDirectory()}/wal`
  assert.is(refusal(() => open(missing)).code, 'storage-lost')
  assert.not.ok(fs.existsSync(missing))
  fs.mkdirSync(missing)
  assert.is(refusal(() => open(missing)).code, 'storage-lost')
  const preallocatedOnly = await written(THREE)
  const bytes = fs.readFileSync(`${preallocatedOnly}/${FIRST}`)
  fs.writeFileSync(`${preallocatedOnly}/${FIRST}`, bytes.fill(0, HEADER_BYTES))
  assert.is(refusal(() => open(preallocatedOnly)).code, 'storage-lost')
  const directory = await written(THREE)
  for (const create of [false, true]) {
    const error = refusal(() => open(directory, { create, storageId: '1'.repeat(32) }))
    assert.is(error.code, 'storage-lost')
    assert.is(error.path, `${directory}/${FIRST}`)
    assert.match(error.message, STORAGE_ID)
  }
})

lost('createWal starts from nothing whatever an earlier attempt has left', async () => {
  const directory = await written(THREE)
  fs.writeFileSync(`${directory}/${SECOND}.tmp`, 'rest')
  fs.writeFileSync(`${directory}/${SECOND}`, 'not a segment')
  const log = createWal({ disk: nodeDisk, directory, storageId: STORAGE_ID })
  assert.is(log.recovered.hardState, null)
  await saved(log, { hardState: hardState(1, 1), entries: entries(1, 1) })
  await close(log)
  assert.equal(await openedContents(directory), ['1:1:1.1x'])
  assert.is(fs.statSync(`${directory}/${FIRST}`).size, 16 << 20)
  assert.is(fs.statSync(`${directory}/${FIRST}`).mode & 0o777, 0o600)
})

lost.run()
