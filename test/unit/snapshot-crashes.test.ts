// timeout: 120 s
/**
 * Snapshot files on a cruel disk: the process dies at every effect, or the disk fails there. A file that has its name is whole, what was
 * acknowledged is there, what was removed may be, and what was received in part is continued.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import { openSnapshots } from '../../node/storage/snapshot-folder.ts'
import type { SnapshotInfo, SnapshotMeta, SnapshotStorage } from '../../node/storage/snapshots.ts'
import type { StorageError } from '../../node/storage/storage.ts'
import { Dice } from '../../node/testing/dice.ts'
import { type Fate, SimDisk } from '../../node/testing/sim-disk.ts'
import { Timeline } from '../../node/testing/timeline.ts'

type Death = 'killed' | 'powerCut'

const CHUNK_BYTES = 65_536

function meta(index: number): SnapshotMeta {
  const configuration = { index: 1, payload: new Uint8Array(100).fill(index) }
  return { clusterId: 'c'.repeat(32), index, term: 2, configuration }
}

const STATES = new Map<number, Uint8Array[]>()

/** About 1.9 MiB, so that there are several writes. */
function pieces(index: number): Uint8Array[] {
  const known = STATES.get(index)
  if (known !== undefined) return known
  const made = Array.from({ length: 7 }, (_, at) => {
    const piece = new Uint8Array(280_000).fill(at + 1)
    for (let i = index; i < piece.length; i += 97) piece[i] = i
    return piece
  })
  STATES.set(index, made)
  return made
}

/** The file that another node offers, made in memory. */
interface Foreign {
  readonly info: SnapshotInfo
  readonly bytes: Uint8Array
}

async function foreign(index: number): Promise<Foreign> {
  const storage = new MemorySnapshots()
  const writer = storage.write(meta(index))
  for (const piece of pieces(index)) writer.append(piece, () => {})
  const info = await new Promise<SnapshotInfo | null>((settle) =>
    writer.finish((_, made) => settle(made)),
  )
  const kept = storage.files.whole.get(info?.checksum ?? '')
  if (kept === undefined) throw new Error('not made')
  return kept
}

class Machine {
  readonly disk: SimDisk
  readonly #timeline = new Timeline()
  effects = 0
  background = 0
  died = false

  constructor(seed: number) {
    this.disk = new SimDisk(new Dice(seed))
  }

  /** Dies at the `nth` effect (0: never), or the disk fails at the `failsAt`th thing in the background. */
  process(
    how: Death,
    run: () => void,
    ends: { readonly nth?: number; readonly failsAt?: number; readonly fate?: Fate } = {},
  ): void {
    let alive = true
    this.effects = this.background = 0
    this.died = false
    const { disk } = this
    disk.attach({
      background: () => (++this.background === ends.failsAt ? (ends.fate ?? 'io') : 100),
      immediate: () => 0,
      boundary: () => {
        if (alive && ++this.effects === ends.nth) {
          alive = false
          this.died = true
          disk.detach(how)
        }
        return alive
      },
      later: (delayUs, later) => void this.#timeline.after(delayUs + 10, () => alive && later()),
    })
    run()
    this.#timeline.runUntil(this.#timeline.nowUs + 60_000_000)
    if (alive) disk.detach(how)
    alive = false
  }

  open(): SnapshotStorage {
    return openSnapshots({ disk: this.disk, directory: '/d/snapshots' })
  }
}

function write(
  storage: SnapshotStorage,
  index: number,
  done: (error: StorageError | null, info: SnapshotInfo | null) => void,
): void {
  const writer = storage.write(meta(index))
  const [...left] = pieces(index)
  const next = (error: StorageError | null): void => {
    const piece = left.shift()
    if (error !== null || piece === undefined) return writer.finish(done)
    writer.append(piece, next)
  }
  next(null)
}

/** Chunk after chunk, with a link that breaks in the middle of it. */
function receive(
  storage: SnapshotStorage,
  { info, bytes }: Foreign,
  done: (error: StorageError | null) => void,
): void {
  let receiver = storage.receive(info)
  let chunks = 0
  const next = (error: StorageError | null): void => {
    if (error !== null) return done(error)
    if (++chunks === 12) {
      receiver.close()
      receiver = storage.receive(info)
    }
    const at = receiver.position
    if (at === bytes.length) return receiver.finish((failure) => done(failure))
    receiver.write(bytes.subarray(at, at + CHUNK_BYTES), next)
  }
  next(null)
}

/** What must be there after a crash. */
interface Expected {
  must: Set<number>
  may: Set<number>
}

/** Writes 5, receives 20, forgets 5, begins 30 and gives it up, and writes 40. */
function script(storage: SnapshotStorage, other: Foreign, expected: Expected): void {
  const succeeds = (error: StorageError | null) => assert.is(error, null)
  expected.may.add(5)
  write(storage, 5, (error) => {
    succeeds(error)
    expected.must.add(5)
    expected.may.add(20)
    receive(storage, other, (failure) => {
      succeeds(failure)
      expected.must = new Set([20])
      storage.keepOnly([other.info])
      const given = storage.write(meta(30))
      given.append(new Uint8Array(1_000_000).fill(1), () => {
        given.abort()
        expected.may.add(40)
        write(storage, 40, (last) => {
          succeeds(last)
          expected.must.add(40)
        })
      })
    })
  })
}

/** Each file that is found holds what it must. */
function check(machine: Machine, expected: Expected, place: string): void {
  machine.process('killed', () => {
    const storage = machine.open()
    const indexes = storage.found.map(({ index }) => index)
    for (const index of expected.must) assert.ok(indexes.includes(index), `${place}: ${index}`)
    for (const info of storage.found) {
      assert.ok(expected.may.has(info.index), `${place}: ${info.index} never was`)
      const found: Uint8Array[] = []
      storage.load(info, {
        piece: (bytes) => void found.push(bytes),
        done: (error) => {
          assert.is(error, null, place)
          const wanted = pieces(info.index)
          assert.is(found.length, wanted.length, place)
          for (const [i, piece] of wanted.entries()) {
            assert.is(Buffer.compare(found[i] as Uint8Array, piece), 0, place)
          }
          loads++
        },
      })
    }
  })
}

function unfinished({ disk }: Machine): string[] {
  return disk.paths().filter((path) => !path.endsWith('.snapshot'))
}

let loads = 0

const crashes = suite('crashes and failures of snapshot files')

for (const how of ['killed', 'powerCut'] as const) {
  crashes(`at every effect: ${how}`, async () => {
    const other = await foreign(20)
    const whole = new Machine(1)
    whole.process(how, () => script(whole.open(), other, { must: new Set(), may: new Set() }))
    const { effects } = whole
    assert.equal(unfinished(whole), [], 'what was given up is removed')
    assert.ok(effects > 40, `${effects}`)
    let continued = 0
    loads = 0
    for (let nth = 1; nth <= effects; nth++) {
      for (let seed = 1; seed <= 3; seed++) {
        const place = `seed ${seed}, effect ${nth}`
        const machine = new Machine(seed)
        const expected: Expected = { must: new Set(), may: new Set() }
        machine.process(how, () => script(machine.open(), other, expected), { nth })
        assert.ok(machine.died, place)
        check(machine, expected, place)
        // The next process receives the rest.
        machine.process('killed', () => {
          const storage = machine.open()
          const begun = storage.receive(other.info)
          if (begun.position > 0) continued++
          begun.close()
          receive(storage, other, (error) => {
            assert.is(error, null, place)
            expected.must.add(20)
            expected.may.add(20)
          })
        })
        assert.ok(expected.must.has(20), place)
        check(machine, expected, `${place}, afterwards`)
        assert.equal(unfinished(machine), [], place)
      }
    }
    console.log(`${effects} effects, ${loads} files verified, ${continued} receptions continued`)
    assert.ok(continued > 0)
  })
}

crashes('what a start has found stays, also when the power goes then', async () => {
  const other = await foreign(20)
  const none = (): Expected => ({ must: new Set(), may: new Set() })
  const whole = new Machine(1)
  whole.process('killed', () => script(whole.open(), other, none()))
  let found = 0
  for (let nth = 1; nth <= whole.effects; nth++) {
    for (let seed = 1; seed <= 4; seed++) {
      const machine = new Machine(seed)
      machine.process('killed', () => script(machine.open(), other, none()), { nth })
      const indexes = (how: Death): number[] => {
        let opened: SnapshotStorage | null = null
        machine.process(how, () => {
          opened = machine.open()
        })
        return (opened as SnapshotStorage | null)?.found.map(({ index }) => index) ?? []
      }
      const before = indexes('powerCut')
      found += before.length
      const after = indexes('killed')
      // The log may have forgotten what they hold.
      for (const index of before)
        assert.ok(after.includes(index), `seed ${seed}, effect ${nth}: ${index}`)
    }
  }
  assert.ok(found > 20)
})

crashes(
  'a disk that fails anywhere: a typed error, nothing half there, and another try works',
  async () => {
    const other = await foreign(20)
    const tries: ((
      storage: SnapshotStorage,
      done: (error: StorageError | null) => void,
    ) => void)[] = [
      (storage, done) => write(storage, 20, done),
      (storage, done) => receive(storage, other, done),
    ]
    for (const attempt of tries) {
      for (const fate of ['full', 'io'] as const) {
        let failures = 0
        for (let failsAt = 1; ; failsAt++) {
          const machine = new Machine(failsAt)
          const ends: (string | null)[] = []
          const run = () => {
            const storage = machine.open()
            attempt(storage, (error) => {
              ends.push(error?.code ?? null)
              if (error !== null) attempt(storage, (again) => ends.push(again?.code ?? null))
            })
          }
          machine.process('killed', run, { failsAt, fate })
          const place = `${fate} at ${failsAt}`
          const isFailed = ends.length === 2
          if (isFailed) {
            assert.equal(ends, [fate === 'full' ? 'disk-full' : 'io', null], place)
            failures++
          } else assert.equal(ends, [null], place)
          const { background } = machine
          assert.equal(unfinished(machine), [], place)
          check(machine, { must: new Set([20]), may: new Set([20]) }, place)
          if (background < failsAt) break
        }
        assert.ok(failures > 3, `${failures}`)
      }
    }
  },
)

crashes(
  'a damaged file is left out, or refused when it is loaded; never half a state',
  async () => {
    const other = await foreign(20)
    const machine = new Machine(1)
    machine.process('killed', () =>
      receive(machine.open(), other, (error) => assert.is(error, null)),
    )
    const path = machine.disk.paths().find((one) => one.endsWith('.snapshot')) as string
    const size = other.bytes.length
    let refused = 0
    for (const at of [
      0,
      9,
      20,
      40,
      63,
      70,
      164,
      170,
      280_000,
      1_000_000,
      size - 33,
      size - 20,
      size - 1,
    ]) {
      const bytes = machine.disk.rot(path) as Uint8Array
      bytes[at] = (bytes[at] as number) ^ 8
      machine.process('killed', () => {
        const storage = machine.open()
        for (const info of storage.found) {
          storage.load(info, {
            piece: () => {},
            done: (error) => {
              assert.is(error?.code, 'corrupt-snapshot', `byte ${at}`)
              refused++
            },
          })
        }
        if (storage.found.length === 0) refused++
      })
      bytes[at] = (bytes[at] as number) ^ 8
    }
    assert.is(refused, 13)
    machine.disk.truncate(path, size - 1)
    machine.process('killed', () => assert.is(machine.open().newest, null))
  },
)

crashes('the last write of a partial file may be torn: it is received again', async () => {
  const other = await foreign(20)
  const machine = new Machine(1)
  const path = `/d/snapshots/${other.info.checksum}.part`
  machine.process('killed', () => {
    const receiver = machine.open().receive(other.info)
    receiver.write(other.bytes.subarray(0, 1_900_000), (error) => {
      assert.is(error, null)
      receiver.close()
    })
  })
  const bytes = machine.disk.rot(path) as Uint8Array
  assert.is(bytes.length, 1_900_000, 'what waits to be gathered is written at close')
  bytes.fill(0, 1_900_000 - (1 << 20))
  machine.process('killed', () => {
    const storage = machine.open()
    assert.is(storage.receive(other.info).position, 1_900_000 - (1 << 20))
  })
  machine.process('killed', () => receive(machine.open(), other, (error) => assert.is(error, null)))
  check(machine, { must: new Set([20]), may: new Set([20]) }, 'torn')
})

crashes.run()
