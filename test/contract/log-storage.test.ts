/** What every LogStorage must do, run against the log in memory and the log on disk. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryLog } from '../../node/storage/memory.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import type { LogStorage, Save } from '../../node/storage/storage.ts'
import { openWal } from '../../node/storage/wal.ts'
import {
  close,
  contents,
  entries,
  entry,
  hardState,
  SMALL_SEGMENT_BYTES,
  STORAGE_ID,
  saved,
  temporaryDirectory,
} from '../support/storage.ts'

/** A place that outlives the logs opened on it one after the other. */
interface Place {
  open(): LogStorage
}

function memoryPlace(): Place {
  let last: MemoryLog | null = null
  return {
    open() {
      last = new MemoryLog(last === null ? {} : { recovered: last.stored() })
      return last
    },
  }
}

function diskPlace(): Place {
  const directory = `${temporaryDirectory()}/wal`
  return {
    open: () =>
      openWal({
        disk: nodeDisk,
        directory,
        storageId: STORAGE_ID,
        segmentBytes: SMALL_SEGMENT_BYTES,
        create: true,
      }),
  }
}

async function reopened(place: Place, log: LogStorage): Promise<LogStorage> {
  await close(log)
  return place.open()
}

function contract(name: string, makePlace: () => Place) {
  const contracted = suite(`log storage: ${name}`)

  contracted('is empty at first', async () => {
    const log = makePlace().open()
    assert.equal(log.recovered, {
      hardState: null,
      base: { term: 0, index: 0 },
      firstIndex: 1,
      entries: [],
      tornTailCut: false,
    })
    await close(log)
  })

  contracted('gives back what was saved, hard state and entries', async () => {
    const place = makePlace()
    let log = place.open()
    const batch = { hardState: hardState(3, 1, 'ab.cd'), entries: entries(1, 3) }
    await saved(log, batch)
    await saved(log, { entries: [{ term: 3, index: 4, kind: 'noop', payload: new Uint8Array() }] })
    await saved(log, { hardState: hardState(4, 2) })
    log = await reopened(place, log)
    assert.equal(log.recovered.hardState, { term: 4, vote: null, commit: 2 })
    assert.equal(log.recovered.firstIndex, 1)
    assert.equal(contents(log), ['1:1:1.1x', '2:1:1.2x', '3:1:1.3x', '4:3:'])
    assert.is(log.recovered.entries[3]?.kind, 'noop')
    assert.is(log.recovered.tornTailCut, false)
    await close(log)
  })

  contracted('a hard state stays when later batches bring none', async () => {
    const place = makePlace()
    let log = place.open()
    await saved(log, { hardState: hardState(7, 0, 'v') })
    await saved(log, { entries: entries(1, 2, 7) })
    log = await reopened(place, log)
    assert.equal(log.recovered.hardState, { term: 7, vote: 'v', commit: 0 })
    await close(log)
  })

  contracted('an overlapping batch replaces everything from its first index on', async () => {
    const place = makePlace()
    let log = place.open()
    await saved(log, { entries: entries(1, 9) })
    await saved(log, { entries: entries(4, 5, 2) })
    assert.throws(() => log.save({ hardState: null, entries: [entry(7)] }, () => {}), /bug/)
    await saved(log, { entries: entries(6, 6, 3) })
    log = await reopened(place, log)
    assert.equal(contents(log), [
      '1:1:1.1x',
      '2:1:1.2x',
      '3:1:1.3x',
      '4:2:2.4x',
      '5:2:2.5x',
      '6:3:3.6x',
    ])
    await saved(log, { entries: entries(1, 1, 9) })
    log = await reopened(place, log)
    assert.equal(contents(log), ['1:9:9.1x'])
    await close(log)
  })

  contracted('the first entry of all has index 1, unless there is a base', async () => {
    const log = makePlace().open()
    assert.throws(() => log.save({ hardState: null, entries: [entry(2)] }, () => {}), /bug/)
    assert.throws(() => log.save({ hardState: null, entries: [entry(1001)] }, () => {}), /bug/)
    await saved(log, { entries: [entry(1)] })
    await close(log)
  })

  contracted('a base takes the place of everything before, and entries go on from it', async () => {
    const place = makePlace()
    let log = place.open()
    await saved(log, { hardState: hardState(3, 5, 'v'), entries: entries(1, 9) })
    const base = { term: 4, index: 20 }
    await saved(log, { base, hardState: hardState(4, 20), entries: entries(21, 22, 4) })
    log = await reopened(place, log)
    assert.equal(log.recovered.base, base)
    assert.is(log.recovered.firstIndex, 21)
    assert.equal(contents(log), ['21:4:4.21', '22:4:4.22'])
    assert.equal(log.recovered.hardState, hardState(4, 20))
    await saved(log, { entries: entries(22, 23, 5) })
    await saved(log, { base: { term: 5, index: 23 } })
    log = await reopened(place, log)
    assert.equal(log.recovered.base, { term: 5, index: 23 })
    assert.equal(contents(log), [])
    assert.equal(log.recovered.hardState, hardState(4, 20), 'a hard state outlives a base')
    await saved(log, { entries: entries(24, 24, 5) })
    log = await reopened(place, log)
    assert.equal(contents(log), ['24:5:5.24'])
    await close(log)
  })

  contracted('a base may be the first batch of all', async () => {
    const place = makePlace()
    let log = place.open()
    await saved(log, { base: { term: 2, index: 7 }, hardState: hardState(2, 7) })
    await saved(log, { entries: entries(8, 9, 2) })
    log = await reopened(place, log)
    assert.equal(log.recovered.base, { term: 2, index: 7 })
    assert.equal(contents(log), ['8:2:2.8x', '9:2:2.9x'])
    await close(log)
  })

  contracted('what is compacted may be gone, what is above it stays', async () => {
    const place = makePlace()
    let log = place.open()
    for (let round = 0; round < 30; round++) {
      const first = 1 + 4 * round
      const term = 1 + Math.floor(round / 3)
      await saved(log, {
        hardState: hardState(term, first),
        entries: entries(first, first + 3, term, 600),
      })
      if (round % 4 === 3) log.compact(first - 5)
      if (round % 7 === 6) log = await reopened(place, log)
      const { base, firstIndex } = log.recovered
      assert.is(firstIndex, base.index + 1)
      assert.ok(base.index <= Math.max(0, first - 5))
    }
    log = await reopened(place, log)
    const { base, entries: held, hardState: state } = log.recovered
    assert.ok(base.index > 60, `compacted up to ${base.index}`)
    assert.is(base.term, 1 + Math.floor((base.index - 1) / 12))
    assert.equal(state, hardState(10, 117))
    assert.equal(
      held.map(({ index, term }) => `${index}:${term}`),
      Array.from({ length: 120 - base.index }, (_, i) => {
        const index = base.index + 1 + i
        return `${index}:${1 + Math.floor((index - 1) / 12)}`
      }),
    )
    await close(log)
  })

  contracted('misuse of base and compact is a bug', async () => {
    const log = makePlace().open()
    const fails = (batch: Partial<Save>) =>
      assert.throws(() => log.save({ hardState: null, entries: [], ...batch }, () => {}), /bug/)
    fails({ base: { term: 0, index: 0 } })
    fails({ base: { term: 1, index: 2 ** 53 } })
    fails({ base: { term: 1, index: 5 }, entries: entries(5, 5) })
    fails({ base: { term: 1, index: 5 }, entries: entries(7, 7) })
    assert.throws(() => log.compact(1), /bug/)
    await saved(log, { base: { term: 1, index: 5 }, entries: entries(6, 9) })
    fails({ base: { term: 1, index: 4 } })
    fails({ entries: entries(5, 5) })
    assert.throws(() => log.compact(10), /bug/)
    log.compact(3)
    log.compact(7)
    fails({ entries: entries(7, 7) })
    fails({ base: { term: 1, index: 6 } })
    await saved(log, { entries: entries(8, 8, 2) })
    await close(log)
  })

  contracted('a number that could not be read back is a bug, and nothing is written', async () => {
    const place = makePlace()
    let log = place.open()
    await saved(log, { hardState: hardState(2 ** 53 - 1), entries: [entry(1, 2 ** 53 - 1)] })
    for (const batch of [
      { hardState: hardState(2 ** 53), entries: [] },
      { hardState: hardState(1, 2 ** 53), entries: [] },
      { hardState: hardState(-1), entries: [] },
      { hardState: null, entries: [entry(2, 2 ** 53)] },
      { hardState: null, entries: [entry(2, 1.5)] },
    ]) {
      assert.throws(() => log.save(batch, () => {}), /bug: .* cannot be written/)
    }
    log = await reopened(place, log)
    assert.is(log.recovered.hardState?.term, 2 ** 53 - 1)
    assert.is(log.recovered.entries[0]?.term, 2 ** 53 - 1)
    await close(log)
  })

  contracted('what is saved goes on after a restart, many times', async () => {
    const place = makePlace()
    let log = place.open()
    for (let round = 0; round < 12; round++) {
      await saved(log, { entries: entries(1 + 5 * round, 5 + 5 * round, round + 1, 300) })
      log = await reopened(place, log)
      assert.is(log.recovered.entries.length, 5 * (round + 1))
    }
    assert.is(log.recovered.entries[57]?.term, 12)
    await close(log)
  })

  contracted('payloads of every size come back, and are copied before the save ends', async () => {
    const place = makePlace()
    let log = place.open()
    const sizes = [0, 1, 4000, 4096, 9000, 40_000, 3]
    const payloads = sizes.map((size) => Uint8Array.from({ length: size }, (_, i) => (i * 7) % 251))
    for (const [i, payload] of payloads.entries()) {
      await saved(log, { entries: [entry(i + 1, 1, payload)] })
    }
    const reused = new Uint8Array(10).fill(5)
    await saved(log, { entries: [entry(8, 1, reused)] })
    reused.fill(6)
    log = await reopened(place, log)
    const found = log.recovered.entries.map(({ payload }) => Buffer.from(payload).toString('hex'))
    const wanted = [...payloads, new Uint8Array(10).fill(5)]
    assert.equal(
      found,
      wanted.map((payload) => Buffer.from(payload).toString('hex')),
    )
    await close(log)
  })

  contracted('answers later, never inside the call, an empty batch too', async () => {
    const log = makePlace().open()
    for (const batch of [{ entries: entries(1, 1) }, { entries: [] }]) {
      let inside = true
      await new Promise<void>((settle) => {
        log.save({ hardState: null, ...batch }, () => {
          assert.is(inside, false)
          settle()
        })
        inside = false
      })
    }
    await close(log)
  })

  contracted('misuse is a bug: two saves at once, gaps, saving after close', async () => {
    const log = makePlace().open()
    const first = saved(log, { entries: entries(1, 2) })
    assert.throws(() => log.save({ hardState: null, entries: [] }, () => {}), /bug/)
    await first
    assert.throws(() => log.save({ hardState: null, entries: [entry(4)] }, () => {}), /bug/)
    const gap = [entry(3), entry(5)]
    assert.throws(() => log.save({ hardState: null, entries: gap }, () => {}), /bug/)
    await saved(log, { entries: entries(3, 3) })
    await close(log)
    assert.throws(() => log.save({ hardState: null, entries: [] }, () => {}), /bug/)
  })

  contracted('close waits for the save in flight and may be called again', async () => {
    const place = makePlace()
    const log = place.open()
    const order: string[] = []
    log.save({ hardState: null, entries: entries(1, 1) }, (error) => order.push(`saved ${error}`))
    await Promise.all([
      close(log).then(() => order.push('closed')),
      close(log).then(() => order.push('closed')),
    ])
    await close(log)
    assert.equal(order, ['saved null', 'closed', 'closed'])
    const again = place.open()
    assert.is(again.recovered.entries.length, 1)
    await close(again)
  })

  contracted.run()
}

contract('memory', memoryPlace)
contract('disk', diskPlace)
