/** What every SnapshotStorage must do, run against the one in memory and the folder on disk. */
import { createHash } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type MemoryFiles, MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openSnapshots } from '../../node/storage/snapshot-folder.ts'
import { PIECE_BYTES_MAX } from '../../node/storage/snapshot-format.ts'
import {
  type SnapshotInfo,
  type SnapshotMeta,
  type SnapshotOffer,
  type SnapshotReceiver,
  type SnapshotStorage,
  snapshotFor,
} from '../../node/storage/snapshots.ts'
import type { StorageError } from '../../node/storage/storage.ts'
import { temporaryDirectory } from '../support/storage.ts'

const CLUSTER = 'c'.repeat(32)

/** A place that outlives the storages opened on it one after the other. */
interface Place {
  open(): SnapshotStorage
}

function memoryPlace(): Place {
  const files: MemoryFiles = { whole: new Map(), received: new Map() }
  return { open: () => new MemorySnapshots({ files, soon: setImmediate }) }
}

function meta(index: number, term = 1): SnapshotMeta {
  const payload = new TextEncoder().encode(`configuration ${index}`)
  return { clusterId: CLUSTER, index, term, configuration: { index: 1, payload } }
}

function piece(length: number, fill: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + fill) % 251)
}

const PIECES = [piece(5, 1), piece(65_536, 2), piece(1, 3), piece(300_000, 4)]

function appended(
  writer: ReturnType<SnapshotStorage['write']>,
  bytes: Uint8Array,
): Promise<StorageError | null> {
  return new Promise((settle) => writer.append(bytes, settle))
}

async function written(
  storage: SnapshotStorage,
  of: SnapshotMeta,
  pieces: readonly Uint8Array[] = PIECES,
): Promise<SnapshotInfo> {
  const writer = storage.write(of)
  for (const one of pieces) assert.is(await appended(writer, one), null)
  const [error, info] = await new Promise<[StorageError | null, SnapshotInfo | null]>((settle) =>
    writer.finish((...end) => settle(end)),
  )
  assert.is(error, null)
  if (info === null) throw new Error('no info')
  return info
}

interface Loaded {
  readonly error: StorageError | null
  readonly pieces: Uint8Array[]
}

function loaded(storage: SnapshotStorage, info: SnapshotInfo): Promise<Loaded> {
  const pieces: Uint8Array[] = []
  return new Promise((settle) => {
    storage.load(info, {
      piece: (bytes) => void pieces.push(bytes),
      done: (error) => settle({ error, pieces }),
    })
  })
}

/** All bytes of a file, in reads of this length. */
async function raw(storage: SnapshotStorage, info: SnapshotInfo, length = 65_536): Promise<Buffer> {
  const reader = storage.open(info)
  const parts: Uint8Array[] = []
  for (let at = 0; ; at += length) {
    const part = await new Promise<Uint8Array>((settle, fail) =>
      reader.read(at, length, (error, bytes) => (bytes === null ? fail(error) : settle(bytes))),
    )
    parts.push(part)
    if (part.length < length) break
  }
  reader.close()
  reader.close()
  return Buffer.concat(parts)
}

function received(to: SnapshotReceiver, bytes: Uint8Array): Promise<StorageError | null> {
  return new Promise((settle) => to.write(bytes, settle))
}

function finished(
  to: SnapshotReceiver,
): Promise<{ error: StorageError | null; info: SnapshotInfo | null }> {
  return new Promise((settle) => to.finish((error, info) => settle({ error, info })))
}

const hexOf = (pieces: readonly Uint8Array[]): string[] =>
  pieces.map((one) => createHash('md5').update(one).digest('hex'))

function contract(name: string, makePlace: () => Place) {
  const contracted = suite(`snapshot storage: ${name}`)

  contracted('is empty at first', () => {
    const storage = makePlace().open()
    assert.is(storage.newest, null)
    assert.equal(storage.found, [])
  })

  contracted('gives back what was written, piece by piece, now and after a restart', async () => {
    const place = makePlace()
    let storage = place.open()
    const info = await written(storage, meta(7, 3))
    assert.equal(
      { ...info, sizeBytes: 0, checksum: '' },
      { ...meta(7, 3), sizeBytes: 0, checksum: '' },
    )
    assert.is(storage.newest, null, 'as it was at open')
    for (let round = 0; round < 2; round++) {
      const { error, pieces } = await loaded(storage, info)
      assert.is(error, null)
      assert.equal(hexOf(pieces), hexOf(PIECES))
      const bytes = await raw(storage, info, round === 0 ? 65_536 : 10_007)
      assert.is(bytes.length, info.sizeBytes)
      assert.is(createHash('sha256').update(bytes).digest('hex'), info.checksum)
      storage = place.open()
      assert.equal(storage.newest, info)
    }
  })

  contracted('an empty state is a snapshot too', async () => {
    const place = makePlace()
    const info = await written(place.open(), meta(1), [])
    const storage = place.open()
    assert.equal(storage.newest, info)
    assert.equal(await loaded(storage, info), { error: null, pieces: [] })
  })

  contracted('the newest is that of the highest index', async () => {
    const place = makePlace()
    const storage = place.open()
    const infos: SnapshotInfo[] = []
    for (const index of [5, 1_000_000, 20]) infos.push(await written(storage, meta(index)))
    assert.equal(
      place.open().found.map(({ index }) => index),
      [1_000_000, 20, 5],
    )
    assert.equal(place.open().newest, infos[1])
  })

  contracted('answers in order and never inside the call', async () => {
    const storage = makePlace().open()
    const order: string[] = []
    let inside = true
    const writer = storage.write(meta(1))
    await new Promise<void>((settle) => {
      for (const one of PIECES) {
        writer.append(one, () => {
          assert.is(inside, false)
          order.push(`piece of ${one.length}`)
        })
      }
      writer.finish(() => {
        assert.is(inside, false)
        order.push('finished')
        settle()
      })
      inside = false
    })
    assert.equal(order, [...PIECES.map(({ length }) => `piece of ${length}`), 'finished'])
  })

  contracted('an aborted one is not there, and makes room for the next', async () => {
    const place = makePlace()
    const storage = place.open()
    const writer = storage.write(meta(4))
    assert.throws(() => storage.write(meta(5)), /bug/)
    assert.is(await appended(writer, PIECES[1] as Uint8Array), null)
    writer.append(PIECES[0] as Uint8Array, () => assert.unreachable('after abort'))
    writer.abort()
    writer.abort()
    assert.throws(() => writer.append(PIECES[0] as Uint8Array, () => {}), /bug/)
    const info = await written(storage, meta(6))
    assert.equal(place.open().found, [info])
  })

  contracted('misuse is a bug: pieces without bytes or too large, use after the end', async () => {
    const storage = makePlace().open()
    const writer = storage.write(meta(4))
    assert.throws(() => writer.append(new Uint8Array(0), () => {}), /bug/)
    assert.throws(() => writer.append(new Uint8Array(PIECE_BYTES_MAX + 1), () => {}), /bug/)
    await new Promise((settle) => writer.finish(settle))
    assert.throws(() => writer.append(PIECES[0] as Uint8Array, () => {}), /bug/)
    assert.throws(() => writer.finish(() => {}), /bug/)
    writer.abort()
    assert.is(storage.found.length, 0)
    const { index: _, ...rest } = meta(4)
    assert.throws(() => storage.write({ ...rest, index: 2 ** 53 }), /bug/)
  })

  contracted('loading can be cancelled, from within too', async () => {
    const storage = makePlace().open()
    const info = await written(storage, meta(4))
    let pieces = 0
    const cancel = storage.load(info, {
      piece: () => {
        pieces++
        cancel()
      },
      done: () => assert.unreachable('cancelled'),
    })
    storage.load(info, { piece: () => assert.unreachable(), done: () => assert.unreachable() })()
    assert.is((await loaded(storage, info)).error, null)
    assert.is(pieces, 1)
  })

  contracted('a file travels in chunks, and is then as if it had been written here', async () => {
    const from = makePlace().open()
    const info = await written(from, meta(9, 4))
    const bytes = await raw(from, info)
    const place = makePlace()
    const storage = place.open()
    const receiver = storage.receive(info)
    assert.throws(() => storage.receive(info), /bug/)
    assert.is(receiver.position, 0)
    for (let at = 0; at < bytes.length; at += 65_536) {
      assert.is(receiver.position, at)
      assert.is(await received(receiver, bytes.subarray(at, at + 65_536)), null)
    }
    const end = await finished(receiver)
    assert.equal(end, { error: null, info })
    assert.equal(hexOf((await loaded(storage, info)).pieces), hexOf(PIECES))
    assert.equal(place.open().newest, info)
  })

  contracted('what was received is continued after close, and after a restart', async () => {
    const from = makePlace().open()
    const info = await written(from, meta(9), [piece(3_000_000, 1), piece(1_000_000, 2)])
    const bytes = await raw(from, info)
    const place = makePlace()
    let storage = place.open()
    let at = 0
    for (let round = 0; at < bytes.length; round++) {
      const receiver = storage.receive(info)
      assert.ok(receiver.position >= 0 && receiver.position <= at)
      if (round > 1) assert.ok(receiver.position > 0, 'most of it is kept')
      at = receiver.position
      for (let chunks = 0; chunks < 22 && at < bytes.length; chunks++) {
        assert.is(await received(receiver, bytes.subarray(at, at + 65_536)), null)
        at = receiver.position
      }
      if (at < bytes.length) {
        receiver.close()
        receiver.close()
      } else assert.equal(await finished(receiver), { error: null, info })
      assert.equal(place.open().found, at < bytes.length ? [] : [info])
      if (round % 2 === 0) storage = place.open()
    }
    assert.equal(place.open().newest, info)
  })

  contracted(
    'a receiver that is closed while it finishes gets no answer, the next one does',
    async () => {
      const from = makePlace().open()
      const info = await written(from, meta(9))
      const bytes = await raw(from, info)
      const place = makePlace()
      const storage = place.open()
      const first = storage.receive(info)
      assert.is(await received(first, bytes), null)
      first.finish(() => assert.unreachable('closed'))
      first.close()
      assert.throws(() => first.write(bytes, () => {}), /bug/)
      const second = storage.receive(info)
      assert.is(second.position, bytes.length)
      assert.equal(await finished(second), { error: null, info })
      assert.equal(place.open().found, [info])
    },
  )

  contracted('a file that is not the offered one is refused, and received anew', async () => {
    const from = makePlace().open()
    const info = await written(from, meta(9))
    const bytes = await raw(from, info)
    const other = Buffer.from(bytes)
    other[20_000] = (other[20_000] as number) ^ 1
    const place = makePlace()
    const storage = place.open()
    const get = async (offer: SnapshotOffer, all: Uint8Array) => {
      const receiver = storage.receive(offer)
      assert.is(receiver.position, 0)
      assert.is(await received(receiver, all), null)
      return (await finished(receiver)).error?.code ?? null
    }
    assert.is(await get(info, other), 'corrupt-snapshot')
    assert.is(await get(info, bytes.subarray(0, -1)), 'corrupt-snapshot')
    for (const lie of [{ index: 10 }, { term: 2 }, { clusterId: 'd'.repeat(32) }]) {
      assert.is(await get({ ...info, ...lie }, bytes), 'corrupt-snapshot', JSON.stringify(lie))
    }
    assert.equal(place.open().found, [])
    const long = storage.receive(info)
    const error = await received(long, Buffer.concat([bytes, bytes.subarray(0, 1)]))
    assert.is(error?.code, 'corrupt-snapshot')
    long.close()
    assert.is(await get(info, bytes), null)
  })

  contracted('keeps only what it is told to', async () => {
    const place = makePlace()
    let storage = place.open()
    const infos: SnapshotInfo[] = []
    for (const index of [1, 2, 3]) infos.push(await written(storage, meta(index)))
    const [one, two, three] = infos as [SnapshotInfo, SnapshotInfo, SnapshotInfo]
    const bytes = await raw(storage, one)
    const partial = { ...one, checksum: 'a'.repeat(64) }
    const begun = storage.receive(partial)
    await received(begun, bytes.subarray(0, 70_000))
    begun.close()
    const reader = storage.open(one)
    const writer = storage.write(meta(4))
    storage.keepOnly([two, partial])
    const late = await new Promise<Uint8Array | null>((settle) =>
      reader.read(0, 100, (_, read) => settle(read)),
    )
    assert.is(late?.length, 100, 'who reads a file can finish')
    reader.close()
    await new Promise((settle) => writer.finish(settle))
    storage = place.open()
    assert.equal(
      storage.found.map(({ index }) => index),
      [4, 2],
    )
    assert.is((await loaded(storage, three)).error?.code, 'io')
    storage.keepOnly([two])
    await written(storage, meta(5))
    const again = storage.receive(partial)
    assert.is(again.position, 0, 'what was received of another one is gone')
    again.close()
  })

  contracted.run()
}

function diskPlace(): Place {
  const directory = `${temporaryDirectory()}/snapshots`
  return { open: () => openSnapshots({ disk: nodeDisk, directory }) }
}

contract('memory', memoryPlace)
contract('disk', diskPlace)

const chosen = suite('the snapshot that goes with a log')

const info = (index: number, term: number, clusterId = CLUSTER): SnapshotInfo => ({
  ...meta(index, term),
  clusterId,
  sizeBytes: 1,
  checksum: `${index}`,
})
const log = (base: [number, number], terms: readonly number[]) => ({
  base: { term: base[0], index: base[1] },
  entries: terms.map((term, i) => ({
    term,
    index: base[1] + 1 + i,
    kind: 'noop' as const,
    payload: new Uint8Array(0),
  })),
})

chosen('is the newest that the log reaches, of this cluster and the same term', () => {
  const whole = log([0, 0], [1, 1, 2])
  assert.is(snapshotFor(whole, [], CLUSTER), null)
  assert.is(snapshotFor(whole, [info(4, 2), info(3, 1)], CLUSTER), null)
  assert.is(snapshotFor(whole, [info(4, 2), info(3, 2), info(2, 1)], CLUSTER)?.index, 3)
  assert.is(snapshotFor(whole, [info(3, 2, 'd'.repeat(32)), info(2, 1)], CLUSTER)?.index, 2)
  assert.is(snapshotFor(log([4, 9], []), [info(12, 4), info(9, 4)], CLUSTER)?.index, 9)
  assert.is(snapshotFor(log([4, 9], [4]), [info(10, 4), info(9, 4)], CLUSTER)?.index, 10)
})

chosen('must be there when the log begins behind it', () => {
  for (const found of [[], [info(8, 4)], [info(9, 3)], [info(11, 4)]]) {
    assert.throws(
      () => snapshotFor(log([4, 9], [4]), found, CLUSTER),
      (error: StorageError) => error.code === 'corrupt-snapshot' && /rejoin/.test(error.message),
    )
  }
})

chosen.run()
