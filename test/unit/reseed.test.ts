/** A new cluster from an old state: everything is kept, nothing that was given out comes again, and only this node counts. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeCommand, encodeKvOperation, encodeKvQuery } from '../../client/protocol.ts'
import { AppliedState } from '../../node/applied-state.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { Entry } from '../../node/raft/types.ts'
import { INDEX_GAP, loadSnapshot, readState, writeCluster } from '../../node/reseed.ts'
import { MemoryLog } from '../../node/storage/memory.ts'
import { MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import type { SnapshotInfo } from '../../node/storage/snapshots.ts'
import { configurationOf } from '../support/raft-cluster.ts'

const reseed = suite('a new cluster from an old state')

const OLD = 'a'.repeat(32)
const NEW = 'b'.repeat(32)
const ENCODER = new TextEncoder()

function put(index: number, term: number, key: string): Entry {
  const bytes = ENCODER.encode(key)
  const operation = encodeKvOperation({
    type: 'put',
    key: bytes,
    value: bytes,
    condition: { type: 'none' },
  })
  const payload = encodeCommand({
    kind: 'operation',
    session: 2,
    sequence: index,
    firstOutstanding: index,
    operation,
  })
  return { index, term, kind: 'command', payload }
}

function entries(): Entry[] {
  const record = {
    clusterId: OLD,
    foundingSet: [],
    settings: { maxVoters: 5 },
    configuration: configurationOf(3),
    removed: ['c'.repeat(32)],
  }
  const configuration = encodeConfigurationRecord(record)
  const none = new Uint8Array(0)
  const opening = {
    kind: 'openSession',
    session: 0,
    sequence: 0,
    firstOutstanding: 0,
    operation: none,
  } as const
  return [
    { index: 1, term: 1, kind: 'configuration', payload: configuration },
    { index: 2, term: 2, kind: 'command', payload: encodeCommand(opening) },
    put(3, 2, 'x'),
    put(4, 3, 'y'),
  ]
}

const options = () => ({ machine: new KvMachine(), hashEveryEntries: 1024, hashesKept: 16 })
const self = { nodeKey: '1'.repeat(64), storageId: '2'.repeat(32), name: 'n9', urls: [] }

function logOf(all: readonly Entry[]) {
  const base = { term: 0, index: 0 }
  return {
    recovered: {
      hardState: { term: 9, vote: null, commit: 1 },
      base,
      firstIndex: 1,
      entries: all,
      tornTailCut: false,
    },
  }
}

reseed('everything in the log is kept, committed or not', async () => {
  const old = await readState(logOf(entries()), new MemorySnapshots(), OLD, options())
  assert.equal(old.last, { term: 3, index: 4 })
  for (const key of ['x', 'y']) {
    assert.ok(
      old.applied.query(encodeKvQuery({ type: 'get', key: ENCODER.encode(key) })).length > 1,
    )
  }
})

reseed('the new cluster has one voter under a new id, and starts far above', async () => {
  const old = await readState(logOf(entries()), new MemorySnapshots(), OLD, options())
  const snapshots = new MemorySnapshots()
  const log = new MemoryLog()
  const made = await writeCluster(
    { snapshots, createLog: () => log, clusterId: NEW, self, reason: 'recover' },
    old,
  )
  assert.equal(made.start, { term: 4, index: 4 + INDEX_GAP })
  assert.equal(made.record.configuration.voters, [4])
  assert.is(made.record.configuration.nextMemberId, 5)
  assert.is(made.record.removed, undefined)
  assert.equal(made.record.settings, { maxVoters: 5 })
  const again = await readState(
    { recovered: log.stored() },
    new MemorySnapshots({ files: snapshots.files }),
    NEW,
    options(),
  )
  assert.equal(again.last, made.start)
  assert.is(again.applied.hash(), old.applied.hash())
  assert.equal(again.record, made.record)
  assert.is(again.applied.index, made.start.index)
})

/** The file of the state at `index` of `entries()`. */
async function snapshotAt(index: number, snapshots: MemorySnapshots): Promise<SnapshotInfo> {
  const applied = new AppliedState(options())
  for (const entry of entries().slice(0, index)) applied.apply(entry)
  const [first] = entries()
  const payload = first?.payload ?? new Uint8Array(0)
  const term = entries()[index - 1]?.term ?? 0
  const configuration = { index: 1, payload }
  const writer = snapshots.write({ clusterId: OLD, index, term, configuration })
  for (const piece of applied.capture().pieces()) writer.append(piece, () => {})
  return await new Promise((settle) => writer.finish((_, made) => settle(made as SnapshotInfo)))
}

function damage(snapshots: MemorySnapshots, { checksum }: SnapshotInfo): void {
  const bytes = snapshots.files.whole.get(checksum)?.bytes ?? new Uint8Array(0)
  const at = bytes.length >> 1
  bytes[at] = (bytes[at] as number) ^ 1
}

reseed(
  'a damaged snapshot is passed over where the log, or an older one, has the rest',
  async () => {
    const files = new MemorySnapshots()
    const whole = await readState(logOf(entries()), new MemorySnapshots(), OLD, options())
    await snapshotAt(2, files)
    damage(files, await snapshotAt(3, files))
    for (const cut of [0, 2]) {
      const { recovered } = logOf(entries().slice(cut))
      const base = { term: cut, index: cut }
      const log = { recovered: { ...recovered, base, firstIndex: cut + 1 } }
      const snapshots = new MemorySnapshots({ files: files.files })
      const old = await readState(log, snapshots, OLD, options())
      assert.equal(old.last, { term: 3, index: 4 })
      assert.is(old.applied.hash(), whole.applied.hash())
    }
    const { recovered } = logOf(entries().slice(3))
    const log = { recovered: { ...recovered, base: { term: 2, index: 3 }, firstIndex: 4 } }
    try {
      await readState(log, new MemorySnapshots({ files: files.files }), OLD, options())
      assert.unreachable()
    } catch (error) {
      assert.is((error as { code: string }).code, 'corrupt-snapshot')
    }
  },
)

reseed('without a configuration there is nothing to recover', async () => {
  const bare = logOf([])
  try {
    await readState(bare, new MemorySnapshots(), OLD, options())
    assert.unreachable()
  } catch (error) {
    assert.is((error as { code: string }).code, 'storage-lost')
  }
})

reseed('a file whose checksums hold, and which is no state, is refused', async () => {
  const storage = new MemorySnapshots()
  const [configuration] = entries()
  if (configuration === undefined) throw new Error('no configuration')
  const { payload } = configuration
  for (const pieces of [['?'], []]) {
    const writer = storage.write({
      clusterId: OLD,
      index: 4,
      term: 3,
      configuration: { index: 1, payload },
    })
    for (const piece of pieces) writer.append(ENCODER.encode(piece), () => {})
    const info = await new Promise<SnapshotInfo | null>((settle) =>
      writer.finish((_, made) => settle(made)),
    )
    try {
      await loadSnapshot(storage, info as SnapshotInfo, options())
      assert.unreachable()
    } catch (error) {
      assert.is((error as { code: string }).code, 'corrupt-snapshot')
    }
  }
})

reseed.run()
