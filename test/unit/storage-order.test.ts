/** The write-ahead log on a simulated disk, where what happens in the background ends exactly when a test wants it to. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LogStorage, StorageError } from '../../node/storage/storage.ts'
import { createWal } from '../../node/storage/wal.ts'
import { Dice } from '../../node/testing/dice.ts'
import { type Fate, SimDisk } from '../../node/testing/sim-disk.ts'
import { Timeline } from '../../node/testing/timeline.ts'
import { entries, SMALL_SEGMENT_BYTES, STORAGE_ID } from '../support/storage.ts'

/** Everything in the background, a later turn included, takes this much longer. */
const TURN_US = 10

function lab() {
  const timeline = new Timeline()
  const disk = new SimDisk(new Dice(1))
  const fates = { write: 100 as Fate, allocation: 1000 as Fate }
  disk.attach({
    background: (bytes) => (bytes === SMALL_SEGMENT_BYTES ? fates.allocation : fates.write),
    immediate: () => 0,
    boundary: () => true,
    later: (delayUs, run) => void timeline.after(delayUs + TURN_US, run),
  })
  const log = createWal({
    disk,
    directory: '/data/wal',
    storageId: STORAGE_ID,
    segmentBytes: SMALL_SEGMENT_BYTES,
  })
  return { timeline, fates, log }
}

type Batch = Parameters<LogStorage['save']>[0]

function begin(log: LogStorage, batch: Partial<Batch>): (string | null)[] {
  const ends: (string | null)[] = []
  log.save({ hardState: null, entries: [], ...batch }, (error: StorageError | null) => {
    ends.push(error?.code ?? null)
  })
  return ends
}

const test = suite('the order of saves and segments')

/** A log whose next segment will be there 1,010 us from now, in the background. */
function preparing() {
  const made = lab()
  const first = begin(made.log, { entries: entries(1, 1) })
  made.timeline.runUntil(2000)
  const second = begin(made.log, { entries: entries(2, 2, 1, 2000) })
  made.timeline.runUntil(2000 + 100 + TURN_US)
  assert.equal([first, second], [[null], [null]])
  return made
}

test('an empty save ends once, also when a segment becomes ready meanwhile', () => {
  const { timeline, log } = preparing()
  timeline.runUntil(timeline.nowUs + 1000 + TURN_US - 5)
  const ends = begin(log, {})
  timeline.runUntil(timeline.nowUs + 10_000)
  assert.equal(ends, [null])
})

test('a save after a failure that nobody has seen ends once, with that failure', () => {
  const { timeline, log, fates } = lab()
  const first = begin(log, { entries: entries(1, 1) })
  timeline.runUntil(2000)
  // The preparation of the next segment fails while a batch is being written, and another one begins behind it.
  fates.allocation = 'io'
  begin(log, { entries: entries(2, 2, 1, 2000) })
  timeline.runUntil(2000 + 100 + TURN_US)
  fates.write = 500
  const written = begin(log, { entries: entries(3, 3) })
  fates.allocation = 1000
  timeline.runUntil(timeline.nowUs + 500 + TURN_US)
  assert.equal([first, written], [[null], [null]])
  timeline.runUntil(timeline.nowUs + 1000 + TURN_US - 5)
  const ends = begin(log, { entries: entries(4, 4) })
  timeline.runUntil(timeline.nowUs + 10_000)
  assert.equal(ends, ['io'])
})

test.run()
