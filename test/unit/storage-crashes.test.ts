// timeout: 120 s
/**
 * The process dies at every effect that the log asks of its disk, with and without a power cut, and the next one at every effect
 * of its recovery: what was acknowledged is there, and nothing but the batch that was under way beside it.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { dumpLog } from '../../node/storage/dump.ts'
import type { LogStorage, Save } from '../../node/storage/storage.ts'
import { openWal } from '../../node/storage/wal.ts'
import { Dice } from '../../node/testing/dice.ts'
import { SimDisk } from '../../node/testing/sim-disk.ts'
import { Timeline } from '../../node/testing/timeline.ts'
import {
  difference,
  EMPTY_LOG,
  type LogImage,
  lastOf,
  withBatch,
  withCompact,
} from '../support/log-image.ts'
import { entries, hardState, SMALL_SEGMENT_BYTES, STORAGE_ID } from '../support/storage.ts'

type Step = Partial<Save> | { readonly compact: number }
type Death = 'killed' | 'powerCut'

/** Segments of two or three batches; terms that rewrite, compaction in the middle of it, and a snapshot that arrives. */
const SCRIPT: readonly Step[] = [
  { hardState: hardState(1, 0, 'n.s'), entries: entries(1, 2, 1, 700) },
  { entries: entries(3, 4, 1, 900) },
  { entries: entries(5, 6, 1, 900) },
  { hardState: hardState(2, 2, 'm.s'), entries: entries(4, 5, 2, 1200) },
  { entries: entries(6, 8, 2, 900) },
  { compact: 5 },
  { hardState: hardState(2, 7, 'm.s') },
  { entries: entries(9, 10, 2, 1500) },
  { compact: 8 },
  { entries: entries(10, 11, 3, 1500) },
  { base: { term: 5, index: 30 }, hardState: hardState(5, 30) },
  { entries: entries(31, 33, 5, 1000) },
  { base: { term: 6, index: 50 }, entries: entries(51, 52, 6, 900) },
  { hardState: hardState(7, 52, 'n.s'), entries: entries(53, 54, 7, 1700) },
  { compact: 53 },
  { entries: entries(55, 56, 7, 1900) },
]

/** One machine: its disk, its time, and what it has acknowledged. */
class Machine {
  readonly disk: SimDisk
  readonly #timeline = new Timeline()
  held: LogImage = EMPTY_LOG
  pending: Save | null = null
  /** Effects that a process has had so far. */
  effects = 0
  died = false

  constructor(seed: number) {
    this.disk = new SimDisk(new Dice(seed))
  }

  /** A process that dies at the `nth` effect; 0: it lives to the end. */
  process(nth: number, how: Death, run: () => void): void {
    let alive = true
    this.effects = 0
    this.died = false
    const disk = this.disk
    disk.attach({
      background: () => 100,
      immediate: () => 0,
      boundary: () => {
        if (alive && ++this.effects === nth) {
          alive = false
          this.died = true
          disk.detach(how)
        }
        return alive
      },
      later: (delayUs, later) => void this.#timeline.after(delayUs + 10, () => alive && later()),
    })
    try {
      run()
    } catch (error) {
      // Who has died finds a disk that is not its own any more.
      if (!this.died) throw error
    }
    this.#timeline.runUntil(this.#timeline.nowUs + 10_000_000)
    if (alive) disk.detach(how)
    alive = false
  }

  open(): LogStorage {
    return openWal({
      disk: this.disk,
      directory: '/d/wal',
      storageId: STORAGE_ID,
      segmentBytes: SMALL_SEGMENT_BYTES,
      create: this.held.entries.length === 0 && this.held.base.index === 0,
    })
  }

  /** The script from where the log is, one step after the other. */
  play(log: LogStorage, from: number): void {
    const step = SCRIPT[from]
    if (step === undefined || this.died) return
    if ('compact' in step) {
      log.compact(step.compact)
      this.held = withCompact(this.held, step.compact)
      return this.play(log, from + 1)
    }
    const batch: Save = { hardState: null, entries: [], ...step }
    this.pending = batch
    log.save(batch, (error) => {
      assert.is(error, null)
      this.held = withBatch(this.held, batch)
      this.pending = null
      this.play(log, from + 1)
    })
  }

  check(log: LogStorage, place: string): void {
    const kept = difference(this.held, log.recovered)
    const { pending } = this
    if (kept === null) return
    const more = pending === null ? kept : difference(withBatch(this.held, pending), log.recovered)
    assert.is(more, null, `${place}: ${kept}; with the batch under way: ${more}`)
    if (pending !== null) this.held = withBatch(this.held, pending)
    this.pending = null
  }
}

function effectsOfAll(): number {
  const machine = new Machine(1)
  machine.process(0, 'killed', () => machine.play(machine.open(), 0))
  assert.equal(lastOf(machine.held), { term: 7, index: 56 })
  return machine.effects
}

const crashes = suite('crashes of the log')

for (const how of ['killed', 'powerCut'] as const) {
  crashes(`at every effect: ${how}`, () => {
    const effects = effectsOfAll()
    assert.ok(effects > 60, `${effects} effects`)
    const found = { more: 0, compacted: 0, cut: 0 }
    for (let nth = 1; nth <= effects; nth++) {
      for (let seed = 1; seed <= 12; seed++) {
        const place = `seed ${seed}, effect ${nth}`
        const machine = new Machine(seed)
        machine.process(nth, how, () => machine.play(machine.open(), 0))
        assert.ok(machine.died, place)
        // Every other time the next process dies in its recovery, as often as there are effects in it; the last one lives.
        for (let again = seed % 2 === 0 ? 8 : 1; ; again++) {
          let log: LogStorage | null = null
          machine.process(again < 8 ? again : 0, how, () => {
            log = machine.open()
          })
          if (machine.died) continue
          if (log === null) throw new Error('not opened')
          const { held } = machine
          const opened = log as LogStorage
          machine.check(opened, place)
          if (machine.held !== held) found.more++
          if (opened.recovered.base.index > held.base.index) found.compacted++
          if (opened.recovered.tornTailCut) found.cut++
          break
        }
        goesOn(machine, place)
      }
    }
    console.log(
      `${effects} effects: ${found.more} batches under way survived, ${found.cut} torn ones were cut`,
    )
    assert.ok(found.more > 0 && found.compacted > 0 && found.cut > 0, JSON.stringify(found))
  })
}

crashes('a killed process, and then the power goes at every effect of the next one', () => {
  const effects = effectsOfAll()
  for (let nth = 1; nth <= effects; nth++) {
    for (let seed = 1; seed <= 3; seed++) {
      for (let then = 1; ; then++) {
        const machine = new Machine(seed)
        const place = `seed ${seed}, effect ${nth}, then ${then}`
        machine.process(nth, 'killed', () => machine.play(machine.open(), 0))
        machine.process(then, 'powerCut', () => {
          const log = machine.open()
          if (machine.died) return
          machine.check(log, place)
          const { index } = lastOf(machine.held)
          const batch = { hardState: null, entries: entries(index + 1, index + 2, 9, 1900) }
          machine.pending = batch
          log.save(batch, (error) => {
            assert.is(error, null)
            machine.held = withBatch(machine.held, batch)
            machine.pending = null
          })
        })
        const isOver = !machine.died
        machine.process(0, 'killed', () => machine.check(machine.open(), `${place}, afterwards`))
        if (isOver) break
      }
    }
  }
})

/** The log takes batches, forgets, and is read once more. */
function goesOn(machine: Machine, place: string): void {
  machine.process(0, 'powerCut', () => {
    const log = machine.open()
    const { index } = lastOf(machine.held)
    const batch = {
      hardState: hardState(9, index),
      entries: entries(index + 1, index + 3, 9, 1900),
    }
    log.save(batch, (error) => {
      assert.is(error, null)
      machine.held = withCompact(withBatch(machine.held, batch), index + 2)
      log.compact(index + 2)
    })
  })
  machine.process(0, 'killed', () => machine.check(machine.open(), `${place}, afterwards`))
  const damage = [...dumpLog(machine.disk, '/d/wal')].filter(({ type }) => type === 'damage')
  assert.equal(damage, [], place)
}

crashes.run()
