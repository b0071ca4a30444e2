/** Which snapshot files stay while one is taken and another is fetched: never less than what a restart needs. */
import { createHash } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { AppliedState } from '../../node/applied-state.ts'
import { capture } from '../../node/capture.ts'
import { LIMITS } from '../../node/limits.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import { RaftLog } from '../../node/raft/log.ts'
import type { Entry } from '../../node/raft/types.ts'
import { peerIdOf } from '../../node/raft/types.ts'
import { Replica } from '../../node/replica.ts'
import { appliedOptions, replicaOptions } from '../../node/replica-options.ts'
import { SnapshotDriver } from '../../node/snapshot-driver.ts'
import { metaOf } from '../../node/snapshot-parts.ts'
import type { Disk } from '../../node/storage/disk.ts'
import { MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openSnapshots } from '../../node/storage/snapshot-folder.ts'
import {
  type SnapshotInfo,
  type SnapshotMeta,
  type SnapshotStorage,
  type SnapshotWriter,
  snapshotFor,
} from '../../node/storage/snapshots.ts'
import { configurationOf, memberIdentity } from '../support/raft-cluster.ts'
import { temporaryDirectory } from '../support/storage.ts'

const CLUSTER = 'c'.repeat(32)
const NOTHING = new Uint8Array(0)
const limits = { ...LIMITS, snapshotEntries: 5, snapshotTailEntries: 0 }

function entriesTo(index: number): Entry[] {
  const payload = encodeConfigurationRecord({
    clusterId: CLUSTER,
    foundingSet: [],
    settings: {},
    configuration: configurationOf(3),
  })
  return Array.from({ length: index }, (_, i) =>
    i === 0
      ? { term: 1, index: 1, kind: 'configuration', payload }
      : { term: 1, index: i + 1, kind: 'noop', payload: NOTHING },
  )
}

/** Callbacks of a storage, run when the test says so. */
class Later {
  readonly #waiting: (() => void)[] = []

  readonly soon = (run: () => void): void => {
    this.#waiting.push(run)
  }

  /** Until it is so, or nothing comes any more. */
  runUntil(isSo: () => boolean): void {
    while (!isSo()) {
      const run = this.#waiting.shift()
      if (run === undefined) return
      run()
    }
  }
}

/** What is written gets its name when the test says so. */
class SlowToFinish extends MemorySnapshots {
  readonly held: (() => void)[] = []

  override write(meta: SnapshotMeta): SnapshotWriter {
    const writer = super.write(meta)
    return { ...writer, finish: (done) => this.held.push(() => writer.finish(done)) }
  }
}

/** What a leader would send: the file of its state at `index`. */
function foreign(index: number): { info: SnapshotInfo; bytes: Uint8Array } {
  const entries = entriesTo(index)
  const log = new RaftLog({ base: { term: 0, index: 0 }, entries, commitIndex: index })
  const applied = new AppliedState(appliedOptions(new KvMachine(), limits))
  for (const entry of log.takeCommitted(index)) applied.apply(entry)
  const captured = capture(log, applied)
  if (captured === null) throw new Error('nothing to capture')
  const later = new Later()
  const storage = new MemorySnapshots({ soon: later.soon })
  const writer = storage.write(metaOf(CLUSTER, captured))
  for (const piece of captured.pieces()) writer.append(piece, () => {})
  writer.finish(() => {})
  later.runUntil(() => false)
  const [file] = storage.files.whole.values()
  if (file === undefined) throw new Error('no file')
  return file
}

/** A node with 20 entries, to which a leader offers its state at 40. */
function follower() {
  const later = new Later()
  const storage = new SlowToFinish({ soon: later.soon })
  const { info, bytes } = foreign(40)
  const [self, leader] = [memberIdentity(2), peerIdOf(memberIdentity(1))]
  const entries = entriesTo(20)
  const base = { term: 0, index: 0 }
  const machine = new KvMachine()
  const driver: SnapshotDriver = new SnapshotDriver({
    storage,
    logStorage: {
      recovered: { hardState: null, base, firstIndex: 1, entries, tornTailCut: false },
      compact: () => {},
    },
    clusterId: CLUSTER,
    limits,
    tickMs: 100,
    restorer: () => AppliedState.restorer(appliedOptions(machine, limits)),
    alarms: { raise: () => {}, clear: () => {} },
    send: (to, frames) => {
      for (const frame of frames) {
        if (frame.type !== 'snapshotPull') continue
        const { checksum, offset, lengthBytes } = frame
        const part = bytes.slice(offset, offset + lengthBytes)
        const chunk = { type: 'snapshotChunk', checksum, offset, bytes: part } as const
        later.soon(() => driver.receive(to, chunk))
      }
    },
    wake: () => {},
    note: () => {},
    fatal: (code) => assert.unreachable(code),
  })
  const settings = { self, machine, electionMs: 1000, heartbeatMs: 100, seed: 1, autopilot: null }
  const start = { hardState: { term: 1, vote: null, commit: 20 }, entries }
  const replica = new Replica(
    replicaOptions(settings, limits, start, { snapshot: null, applied: null }),
  )
  driver.attach(replica)

  return { later, storage, info, leader, driver, replica }
}

const kept = suite('snapshot files that stay')

kept('one that is being loaded, when an older one of this node is finished meanwhile', () => {
  const { later, storage, info, leader, driver, replica } = follower()
  replica.drain()
  driver.step([])
  later.runUntil(() => storage.held.length > 0)
  assert.is(driver.progress.state, 'writing')
  const { term, index, sizeBytes, checksum } = info
  driver.step([{ from: leader, id: { term, index }, sizeBytes, checksum }])
  later.runUntil(() => driver.progress.state === 'loading' && storage.files.whole.size > 0)
  storage.held.shift()?.()
  later.runUntil(() => false)
  assert.is(replica.raft.log.base.index, 40)
  const { save } = replica.drain()
  if (save === null) throw new Error('no save')
  replica.saved()
  driver.saved(save)

  const { found } = new MemorySnapshots({ files: storage.files })
  assert.is(snapshotFor({ base: { term, index }, entries: [] }, found, CLUSTER)?.index, 40)
})

kept('one that is in force, when the node closes before the save that says so has ended', () => {
  const { later, storage, info, leader, driver, replica } = follower()
  replica.drain()
  const { term, index, sizeBytes, checksum } = info
  driver.step([{ from: leader, id: { term, index }, sizeBytes, checksum }])
  later.runUntil(() => replica.raft.log.base.index === 40)
  const { save } = replica.drain()
  if (save === null) throw new Error('no save')
  driver.close()
  replica.saved()
  driver.saved(save)
  later.runUntil(() => false)
  const { found } = new MemorySnapshots({ files: storage.files })
  assert.is(snapshotFor({ base: { term, index }, entries: [] }, found, CLUSTER)?.index, 40)
})

kept('whoever waits for a backup gets what a leader has sent meanwhile', () => {
  const { later, storage, info, leader, driver, replica } = follower()
  replica.drain()
  const { term, index, sizeBytes, checksum } = info
  driver.step([{ from: leader, id: { term, index }, sizeBytes, checksum }])
  const given: (number | string)[] = []
  driver.backup((backup) => given.push('code' in backup ? backup.code : backup.info.index))
  const turn = (): void => {
    const { save } = replica.drain()
    if (save !== null) replica.saved()
    if (save !== null) driver.saved(save)
    driver.step([])
    later.runUntil(() => false)
  }
  for (let turns = 0; turns < 10; turns++) turn()
  assert.is(replica.raft.log.appliedIndex, 40)
  // Nothing more is written: nobody else would take another snapshot for it.
  assert.equal(given, [40])
  assert.is(storage.files.whole.size, 1)
})

kept('a backup is never of a file that is damaged where it lies', () => {
  const { later, storage, driver, replica } = follower()
  const turn = (): void => {
    const { save } = replica.drain()
    if (save !== null) replica.saved()
    driver.step([])
    later.runUntil(() => false)
    storage.held.shift()?.()
    later.runUntil(() => false)
  }
  turn()
  const [file] = storage.files.whole.values()
  if (file === undefined) throw new Error('no snapshot')
  const at = file.bytes.length >> 1
  for (const damage of [0, 1]) {
    file.bytes[at] = (file.bytes[at] as number) ^ damage
    const given: (number | string)[] = []
    driver.backup((backup) => given.push('code' in backup ? backup.code : backup.info.index))
    for (let turns = 0; turns < 3; turns++) turn()
    assert.equal(given, [20])
    for (const { info, bytes } of storage.files.whole.values()) {
      assert.is(createHash('sha256').update(bytes).digest('hex'), info.checksum)
    }
  }
})

kept('the log behind a file that is pulled, for who has it and goes on from there', () => {
  const { later, storage, leader, driver, replica } = follower()
  const turns = (): void => {
    for (let turn = 0; turn < 4; turn++) {
      const { save } = replica.drain()
      if (save !== null) replica.saved()
      driver.step([])
      later.runUntil(() => false)
      storage.held.shift()?.()
      later.runUntil(() => false)
    }
  }
  const grown = (index: number): number[] => {
    const { lastIndex: prevIndex } = replica.raft.log
    const entries = entriesTo(index).slice(prevIndex)
    const message = {
      type: 'append',
      term: 1,
      prevIndex,
      prevTerm: 1,
      entries,
      commit: index,
    } as const
    replica.receive(leader, { type: 'raft', message })
    turns()
    const { base, snapshotIndex } = replica.raft.log
    return [base.index, snapshotIndex]
  }
  turns()
  assert.is(replica.raft.log.base.index, 20)
  const [file] = storage.files.whole.values()
  const checksum = file?.info.checksum ?? ''
  driver.receive('t', { type: 'snapshotPull', checksum, offset: 0, lengthBytes: 100 })
  assert.equal(grown(30), [20, 30])
  const idle = Math.ceil(limits.snapshotSendIdleMs / 100)
  for (let tick = 0; tick < idle; tick++) driver.tick()
  assert.equal(grown(40), [40, 40], 'nobody has asked for a while')
})

/** What a start begins with, given whole and damaged files and a log that starts behind `base`. */
function restored(files: { readonly whole: number[]; readonly damaged: number[] }, base: number) {
  const later = new Later()
  const made = new MemorySnapshots({ soon: later.soon })
  for (const index of [...files.whole, ...files.damaged]) {
    const { info, bytes } = foreign(index)
    const at = bytes.length >> 1
    if (files.damaged.includes(index)) bytes[at] = (bytes[at] as number) ^ 1
    made.files.whole.set(info.checksum, { info, bytes })
  }
  const entries = entriesTo(20).slice(base)
  const id = { term: base === 0 ? 0 : 1, index: base }
  const ends: (number | string | null)[] = []
  const driver = new SnapshotDriver({
    storage: new MemorySnapshots({ files: made.files, soon: later.soon }),
    logStorage: {
      recovered: { hardState: null, base: id, firstIndex: base + 1, entries, tornTailCut: false },
      compact: () => {},
    },
    clusterId: CLUSTER,
    limits,
    tickMs: 100,
    restorer: () => AppliedState.restorer(appliedOptions(new KvMachine(), limits)),
    alarms: { raise: () => {}, clear: () => {} },
    send: () => {},
    wake: () => {},
    note: () => {},
    fatal: (code) => ends.push(code),
  })
  driver.restore(({ snapshot, applied }) => {
    assert.is(applied?.index, snapshot?.id.index)
    ends.push(snapshot?.id.index ?? null)
  })
  later.runUntil(() => false)
  return ends
}

kept('a start passes over a damaged file where an older one or the log has the rest', () => {
  assert.equal(restored({ whole: [10, 15], damaged: [] }, 0), [15])
  assert.equal(restored({ whole: [10], damaged: [15] }, 8), [10])
  assert.equal(restored({ whole: [5], damaged: [10, 15] }, 5), [5])
  assert.equal(restored({ whole: [], damaged: [10, 15] }, 0), [null])
  assert.equal(restored({ whole: [5], damaged: [15] }, 8), ['corrupt-snapshot'])
})

/** A folder on a disk that gives files their names at once, and tells it when the test says so. */
function folder(): { open: () => SnapshotStorage; moves: (() => void)[] } {
  const directory = `${temporaryDirectory()}/snapshots`
  const moves: (() => void)[] = []
  const disk: Disk = {
    ...nodeDisk,
    move: (from, to, done) => nodeDisk.move(from, to, (error) => moves.push(() => done(error))),
  }
  return { open: () => openSnapshots({ disk, directory }), moves }
}

const META: SnapshotMeta = {
  clusterId: CLUSTER,
  index: 9,
  term: 1,
  configuration: { index: 1, payload: NOTHING },
}

const turn = (): Promise<void> => new Promise((settle) => setImmediate(settle))

kept('one that has just got its name, before the disk has said so', async () => {
  const { open, moves } = folder()
  const storage = open()
  let info: SnapshotInfo | null = null
  storage.write(META).finish((_, made) => {
    info = made
  })
  while (moves.length === 0) await turn()
  storage.keepOnly([])
  moves.shift()?.()
  // What keepOnly removes goes before the next file gets its name.
  storage.write({ ...META, index: 10 }).finish(() => {})
  while (moves.length === 0) await turn()
  assert.not.equal(info, null)
  assert.equal(
    open().found.map(({ index }) => index),
    [10, 9],
  )
})

kept('one that is aborted while it gets its name makes room for the next', async () => {
  const { open, moves } = folder()
  const storage = open()
  const writer = storage.write(META)
  writer.finish(() => assert.unreachable('after abort'))
  while (moves.length === 0) await turn()
  writer.abort()
  const next = new Promise((settle) => {
    storage.write({ ...META, index: 10 }).finish((_, info) => settle(info?.index))
  })
  moves.shift()?.()
  while (moves.length === 0) await turn()
  moves.shift()?.()
  assert.is(await next, 10)
})

kept.run()
