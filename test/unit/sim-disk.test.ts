/** The simulated disk and time: what survives what, sector by sector. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { DiskFile } from '../../node/storage/disk.ts'
import { StorageError } from '../../node/storage/storage.ts'
import { Dice } from '../../node/testing/dice.ts'
import { type DiskFate, type Fate, SECTOR_BYTES, SimDisk } from '../../node/testing/sim-disk.ts'
import { Timeline } from '../../node/testing/timeline.ts'

interface Lab {
  readonly disk: SimDisk
  readonly timeline: Timeline
  /** What happens to background writes from here on. */
  fate: Fate
  /** The process dies at the n-th effect from here on; 0: never. */
  diesIn: number
  attach(): void
}

function lab(seed = 1): Lab {
  const timeline = new Timeline()
  const disk = new SimDisk(new Dice(seed))
  const made: Lab = {
    disk,
    timeline,
    fate: 100,
    diesIn: 0,
    attach() {
      let alive = true
      const fate: DiskFate = {
        background: () => made.fate,
        immediate: () => (typeof made.fate === 'number' ? 0 : made.fate),
        boundary: () => {
          if (alive && made.diesIn > 0 && --made.diesIn === 0) {
            alive = false
            disk.detach('killed')
          }
          return alive
        },
        later: (delayUs, run) => void timeline.after(delayUs, () => alive && run()),
      }
      disk.attach(fate)
    },
  }
  made.attach()
  return made
}

function file(made: Lab): DiskFile {
  let opened: DiskFile | null = null
  made.disk.allocate('/d/f', Uint8Array.of(7), 8 * SECTOR_BYTES, (_, given) => {
    opened = given
  })
  made.timeline.runUntil(made.timeline.nowUs + 1000)
  if (opened === null) throw new Error('no file')
  return opened
}

function write(to: DiskFile, byte: number, position = 0): { error: StorageError | null | 'none' } {
  const end: { error: StorageError | null | 'none' } = { error: 'none' }
  to.write([new Uint8Array(4 * SECTOR_BYTES).fill(byte)], position, (error) => {
    end.error = error
  })
  return end
}

/** The first byte of each sector. */
function sectors({ disk }: Lab): number[] {
  const bytes = disk.read('/d/f') as Uint8Array
  return Array.from({ length: 8 }, (_, sector) => bytes[sector * SECTOR_BYTES + 1] as number)
}

const test = suite('simulated disk')

test('what was synced survives a power cut', () => {
  const made = lab()
  const end = write(file(made), 5)
  assert.is(end.error, 'none', 'never inside the call')
  made.timeline.runUntil(10_000)
  assert.is(end.error, null)
  made.disk.detach('powerCut')
  assert.equal(sectors(made), [5, 5, 5, 5, 0, 0, 0, 0])
})

test('a write under way is torn by a power cut: any subset of its sectors', () => {
  const seen = new Set<string>()
  for (let seed = 1; seed <= 300; seed++) {
    const made = lab(seed)
    write(file(made), 5)
    made.disk.detach('powerCut')
    seen.add(sectors(made).join(''))
  }
  assert.ok(seen.has('00000000') && seen.has('55550000'))
  assert.ok(
    [...seen].some((left) => /^0.*5/.test(left)),
    'a later sector without an earlier one',
  )
})

test('a killed process leaves a prefix, which only a sync makes durable', () => {
  let cut = 0
  for (let seed = 1; seed <= 100; seed++) {
    const made = lab(seed)
    write(file(made), 5)
    made.disk.detach('killed')
    assert.match(sectors(made).join(''), /^5*0*$/)
    const shown = sectors(made).join('')
    made.attach()
    made.disk.detach('powerCut')
    if (sectors(made).join('') !== shown) cut++
  }
  assert.ok(cut > 10, 'the page cache was lost in some')
})

test('several buffers are one write, cut at any byte', () => {
  const seen = new Set<number>()
  for (let seed = 1; seed <= 200; seed++) {
    const made = lab(seed)
    const opened = file(made)
    made.fate = seed % 2 === 0 ? 'full' : 100
    const parts = [new Uint8Array(3).fill(1), new Uint8Array(0), new Uint8Array(4).fill(2)]
    opened.write(parts, SECTOR_BYTES - 3, () => {})
    if (made.fate === 'full') made.timeline.runUntil(made.timeline.nowUs + 1000)
    else made.disk.detach('killed')
    const left = (made.disk.readPart('/d/f', SECTOR_BYTES - 3, 8) as Uint8Array).join('')
    assert.ok('11122220'.startsWith(left.replace(/0+$/, '')), left)
    seen.add(left.replace(/0+$/, '').length)
  }
  assert.is(seen.size, 8)
})

test('a durable write that makes the file larger survives a power cut whole', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const made = lab(seed)
    const opened = file(made)
    const end = write(opened, 5, 7 * SECTOR_BYTES)
    made.timeline.runUntil(10_000)
    assert.is(end.error, null)
    made.disk.detach('powerCut')
    assert.equal(made.disk.stat('/d/f'), { kind: 'file', sizeBytes: 11 * SECTOR_BYTES })
    assert.is((made.disk.read('/d/f') as Uint8Array).at(-1), 5)
  }
})

test('after a failed fsync no later one saves the same bytes; writing them again does', () => {
  let lost = 0
  for (let seed = 1; seed <= 100; seed++) {
    const made = lab(seed)
    const opened = file(made)
    made.fate = 'io'
    const failed = write(opened, 5)
    made.timeline.runUntil(made.timeline.nowUs + 1000)
    assert.is((failed.error as StorageError).code, 'io')
    made.fate = 100
    const later = write(opened, 6, 4 * SECTOR_BYTES)
    made.timeline.runUntil(made.timeline.nowUs + 1000)
    assert.is(later.error, null)
    made.disk.detach('powerCut')
    const left = sectors(made)
    assert.equal(left.slice(4), [6, 6, 6, 6])
    if (left[0] === 0) lost++
  }
  assert.ok(lost > 10)
})

test('no room: a prefix at most, and the caller is told', () => {
  const made = lab()
  const opened = file(made)
  made.fate = 'full'
  const end = write(opened, 5)
  made.timeline.runUntil(made.timeline.nowUs + 1000)
  assert.is((end.error as StorageError).code, 'disk-full')
  assert.throws(
    () => made.disk.replace('/d/other', Uint8Array.of(1)),
    (error: unknown) => error instanceof StorageError && error.code === 'disk-full',
  )
  assert.is(made.disk.stat('/d/other'), null)
})

test('a replacement is there whole or not at all, wherever the process dies', () => {
  for (const [diesIn, found] of [
    [1, 'old'],
    [2, 'new'],
  ] as const) {
    const made = lab()
    made.disk.replace('/d/x', new TextEncoder().encode('old'))
    made.diesIn = diesIn
    made.disk.replace('/d/x', new TextEncoder().encode('new'))
    assert.is(new TextDecoder().decode(made.disk.read('/d/x') as Uint8Array), found)
    made.disk.replace('/d/x', new TextEncoder().encode('dead'))
    assert.is(new TextDecoder().decode(made.disk.read('/d/x') as Uint8Array), found)
  }
})

test('a file that was being made is there whole, as .tmp, or not at all', () => {
  const seen = new Set<string>()
  for (let seed = 1; seed <= 60; seed++) {
    const made = lab(seed)
    made.disk.allocate('/d/f', Uint8Array.of(7), 2048, () => {})
    made.disk.detach('powerCut')
    seen.add(made.disk.list('/d').join())
  }
  assert.equal([...seen].sort(), ['', 'f', 'f.tmp'])
})

test('directories list what is below them, and go with all they hold', () => {
  const { disk } = lab()
  disk.makeDirectory('/d/wal')
  disk.replace('/d/wal/b', Uint8Array.of(1))
  disk.replace('/d/wal/a', Uint8Array.of(1))
  disk.replace('/d/x', Uint8Array.of(1))
  assert.equal(disk.list('/d'), ['wal', 'x'])
  assert.equal(disk.list('/d/wal'), ['a', 'b'])
  disk.rename('/d/wal', '/d/old')
  assert.equal(disk.list('/d/old'), ['a', 'b'])
  disk.remove('/d/old')
  assert.equal(disk.list('/d'), ['x'])
  assert.is(disk.read('/d/old/a'), null)
})

const time = suite('timeline')

time('runs in order of time, and of arrangement where times are equal', () => {
  const timeline = new Timeline()
  const order: string[] = []
  const dice = new Dice(4)
  const planned: { at: number; name: string }[] = []
  for (let i = 0; i < 500; i++) {
    const at = dice.below(50)
    planned.push({ at, name: `${i}` })
    timeline.after(at, () => order.push(`${i}`))
  }
  const cancelled = timeline.after(10, () => order.push('cancelled'))
  cancelled.run = null
  timeline.runUntil(25)
  assert.is(timeline.nowUs, 25)
  assert.is(order.length, planned.filter(({ at }) => at <= 25).length)
  timeline.runUntil(100)
  const sorted = planned
    .map((one, place) => ({ ...one, place }))
    .sort((a, b) => a.at - b.at || a.place - b.place)
  assert.equal(
    order,
    sorted.map(({ name }) => name),
  )
})

time('what is arranged inside an event for now runs before later ones', () => {
  const timeline = new Timeline()
  const order: string[] = []
  timeline.after(5, () => {
    order.push('a')
    timeline.after(0, () => order.push('b'))
  })
  timeline.after(6, () => order.push('c'))
  timeline.runUntil(10)
  assert.equal(order, ['a', 'b', 'c'])
})

const dice = suite('dice')

dice('magnitudes stay in their bounds and reach both ends', () => {
  const thrown = new Dice(1)
  const seen = Array.from({ length: 2000 }, () => thrown.magnitude(3, 1000))
  assert.ok(seen.every((value) => value >= 3 && value <= 1000))
  assert.ok(seen.some((value) => value < 6) && seen.some((value) => value > 800))
  assert.is(new Dice(2).magnitude(5, 5), 5)
  assert.is(new Dice(2).chance(0), false)
  assert.is(new Dice(2).chance(1_000_000), true)
})

test.run()
time.run()
dice.run()
