/** Rules 1, 2 and 12 where they meet the disk: the log on disk, and the driver that performs what the core asks for. */
import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { blankRecord } from '../../node/founding.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { Entry } from '../../node/raft/types.ts'
import { Runtime } from '../../node/runtime.ts'
import type { Disk } from '../../node/storage/disk.ts'
import { dumpLog } from '../../node/storage/dump.ts'
import { MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { type LogStorage, type Save, StorageError } from '../../node/storage/storage.ts'
import { openWal } from '../../node/storage/wal.ts'
import type { Link, Transport } from '../../node/transport/transport.ts'
import { configurationOf, memberIdentity } from '../support/raft-cluster.ts'
import { openSession } from '../support/raft-replicas.ts'
import {
  close,
  contents,
  entries,
  faultyDisk,
  hardState,
  refusal,
  SMALL_SEGMENT_BYTES,
  STORAGE_ID,
  save,
  saved,
  temporaryDirectory,
} from '../support/storage.ts'

const log = suite('rule 12: the log on disk')

function openLog(directory: string, more: { disk?: Disk; create?: boolean } = {}) {
  const disk = more.disk ?? nodeDisk
  return openWal({
    segmentBytes: SMALL_SEGMENT_BYTES,
    storageId: STORAGE_ID,
    ...more,
    disk,
    directory,
  })
}

log(
  '12: a failed fsync is fatal: it is not tried again, and nothing is saved after it',
  async () => {
    const directory = `${temporaryDirectory()}/wal`
    const { disk, faults } = faultyDisk()
    const wal = openLog(directory, { disk, create: true })
    await saved(wal, { entries: entries(1, 1) })
    faults.nextWrite = { code: 'io', prefixBytes: 10_000 }
    assert.is((await save(wal, { entries: entries(2, 2) }))?.code, 'io')
    const { length } = faults.calls
    for (let i = 0; i < 3; i++) {
      assert.is((await save(wal, { hardState: hardState(2) }))?.code, 'io')
    }
    assert.is(faults.calls.length, length, 'the disk is not asked again')
    await close(wal)
  },
)

log('12: one save is in flight: a second one is a bug', async () => {
  const wal = openLog(`${temporaryDirectory()}/wal`, { create: true })
  const first = save(wal, { entries: entries(1, 1) })
  assert.throws(() => wal.save({ hardState: null, entries: entries(2, 2) }, () => {}), /in flight/)
  assert.is(await first, null)
  await close(wal)
})

/** A log of three batches, and where each begins and ends in its file. */
async function threeBatches() {
  const directory = `${temporaryDirectory()}/wal`
  const wal = openLog(directory, { create: true })
  for (const from of [1, 3, 5]) {
    await saved(wal, { hardState: hardState(1, from - 1), entries: entries(from, from + 1) })
  }
  await close(wal)
  const batches = [...dumpLog(nodeDisk, directory)].filter((line) => line.type === 'record')
  assert.is(batches.length, 3)
  const file = `${directory}/0000000001.wal`
  return { directory, file, bytes: fs.readFileSync(file), batches }
}

log('12: only the last batch can be torn, and it may be cut; what is before it stays', async () => {
  const { directory, file, bytes, batches } = await threeBatches()
  const last = batches[2] as (typeof batches)[0]
  for (let kept = 0; kept < last.bytes; kept += 5) {
    const torn = Buffer.from(bytes)
    torn.fill(0, last.offset + kept, last.offset + last.bytes)
    // The end of a payload may be zeros anyway.
    if (torn.equals(bytes)) continue
    fs.writeFileSync(file, torn)
    const wal = openLog(directory)
    assert.is(wal.recovered.tornTailCut, kept > 0, `${kept} bytes have reached the disk`)
    assert.equal(contents(wal), ['1:1:1.1x', '2:1:1.2x', '3:1:1.3x', '4:1:1.4x'])
    assert.is(wal.recovered.hardState?.commit, 2)
    const end = fs.readFileSync(file).subarray(last.offset, last.offset + last.bytes)
    assert.ok(
      end.every((byte) => byte === 0),
      'nothing of it is left that could be taken for a batch',
    )
    await saved(wal, { entries: entries(5, 5, 9) })
    await close(wal)
    const again = openLog(directory)
    assert.is(contents(again).at(-1), '5:9:9.5x')
    await close(again)
  }
})

log(
  '12: a bad record before it is never cut silently: the node refuses to start, names file and offset, and points at rejoin',
  async () => {
    const { directory, file, bytes, batches } = await threeBatches()
    for (const batch of batches.slice(0, 2)) {
      for (let at = batch.offset; at < batch.offset + batch.bytes; at += 3) {
        const damaged = Buffer.from(bytes)
        damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8))
        fs.writeFileSync(file, damaged)
        const error = refusal(() => openLog(directory))
        assert.equal([error.code, error.path, error.offset], ['corrupt-log', file, batch.offset])
        assert.ok(error.message.includes(file) && error.message.includes('raft-p2p rejoin'))
        assert.ok(damaged.equals(fs.readFileSync(file)), 'nothing was changed')
      }
    }
  },
)

const driver = suite('rules 1, 2 and 12: the driver')

/** One member of a cluster of `size`, with a log whose saves end when and as the test says. */
class Member {
  readonly saves: { batch: Save; done: (error: StorageError | null) => void }[] = []
  /** Everything that left over links, as message types with the term on disk then. */
  readonly sent: string[] = []
  readonly fatal: string[] = []
  readonly runtime: Runtime
  #deferred: (() => void)[] = []

  constructor(size: number) {
    const configuration = configurationOf(size)
    const settings = { clusterId: '0'.repeat(32), foundingSet: [], settings: {} }
    const first: Entry = {
      term: 1,
      index: 1,
      kind: 'configuration',
      payload: encodeConfigurationRecord({ ...settings, configuration }),
    }
    const storage: LogStorage = {
      recovered: {
        hardState: hardState(1, 1),
        base: { term: 0, index: 0 },
        firstIndex: 1,
        entries: [first],
        tornTailCut: false,
      },
      save: (batch, done) => void this.saves.push({ batch, done }),
      compact: () => {},
      close: (done) => done(),
    }
    const { nodeKey: publicKey, storageId } = memberIdentity(1)
    const bound = { clusterId: '0'.repeat(32), foundingSet: [publicKey], how: 'founded' } as const
    const record = {
      publicKey,
      secretKey: '',
      storageId,
      name: 'n1',
      bootCounter: 1,
      founding: { ...blankRecord, seq: 2, bound },
      members: configuration.members,
      clusterId: bound.clusterId,
      memberId: 1,
      logCreated: false,
      removed: false,
    }
    this.runtime = new Runtime({
      identity: { record, update: () => {} },
      transport: this.#transport(),
      openLog: () => storage,
      openSnapshots: () => new MemorySnapshots(),
      machine: new KvMachine(),
      founding: {
        bootId: '0'.repeat(16),
        expect: size,
        founders: null,
        mayFound: true,
        inviteClusterId: null,
        settings: {},
        random: () => 0,
        randomId: () => '1'.repeat(32),
      },
      urls: () => [],
      heartbeatMs: 20,
      electionMs: 100,
      autopilot: null,
      seed: 1,
      defer: (run) => void this.#deferred.push(run),
      wakeIn: () => () => {},
      turn: () => {},
      nowMs: () => 0,
      wallClock: () => new Date(0),
      log: () => {},
      fatal: (code) => void this.fatal.push(code),
      admin: async () => null,
      shown: { version: '', runtime: '', topic: '' },
    })
    for (let id = 2; id <= size; id++) this.runtime.linkUp(this.#link(id))
    this.turn()
  }

  #transport(): Transport {
    return {
      start: () => {},
      hint: () => {},
      keep: () => {},
      pendingDials: 0,
      links: [],
      send: (_peer, frames) => {
        for (const frame of frames) if (frame.type === 'raft') this.sent.push(frame.message.type)
        return true
      },
      setClusterId: () => {},
      requireLevel: () => {},
      disconnect: () => {},
      close: async () => {},
    }
  }

  #link(id: number): Link {
    const said = { bootId: `${id}`, bootCounter: 1, clusterId: '0'.repeat(32), featureLevel: 1 }
    const hello = { ...memberIdentity(id), ...said, name: '', urls: [] }
    return { linkId: id, hello, carrier: 'direct', rttMs: null }
  }

  hear(id: number, message: object): void {
    this.runtime.frame(this.#link(id), { type: 'raft', message } as never)
    this.turn()
  }

  /** Ends the turn of the event loop. */
  turn(): void {
    while (this.#deferred.length > 0) for (const run of this.#deferred.splice(0)) run()
  }

  tick(count: number): void {
    for (let i = 0; i < count; i++) {
      this.runtime.tick(this.runtime.tickMs)
      this.turn()
    }
  }

  endSave(error: StorageError | null = null): void {
    this.saves.shift()?.done(error)
    this.turn()
  }
}

const VOTE = { type: 'requestVote', term: 5, lastIndex: 1, lastTerm: 1, transfer: true }
const ENTRY = { term: 5, index: 2, kind: 'noop', payload: new Uint8Array(0) }
const APPEND = { type: 'append', term: 5, prevIndex: 1, prevTerm: 1, entries: [ENTRY], commit: 1 }

driver('1: a vote and an acknowledgement leave when their save has ended, not before', () => {
  for (const [asked, answer] of [
    [VOTE, 'voteResponse'],
    [APPEND, 'appendResponse'],
  ] as const) {
    const member = new Member(3)
    member.hear(2, asked)
    member.tick(2)
    assert.is(member.saves.length, 1)
    assert.equal(member.sent, [])
    member.endSave()
    assert.equal(member.sent, [answer])
  }
})

driver('2: a single voter answers a client when its own fsync has ended, not before', () => {
  const member = new Member(1)
  member.tick(1)
  assert.is(member.runtime.isLeader, false, 'its own vote is not on disk')
  member.endSave()
  assert.is(member.runtime.isLeader, true)
  const answers: boolean[] = []
  member.runtime.request(openSession(), ({ ok }) => answers.push(ok))
  member.turn()
  member.endSave()
  assert.equal(answers, [], 'the no-op is saved, the request is not')
  assert.is(member.saves.length, 1)
  member.endSave()
  assert.equal(answers, [true])
})

driver('12: a failed fsync ends the process: what waits for it is never promised', () => {
  for (const code of ['io', 'storage-lost'] as const) {
    for (const asked of [VOTE, APPEND]) {
      const member = new Member(3)
      member.hear(2, asked)
      member.endSave(new StorageError(code, 'injected'))
      assert.equal(member.fatal, [code])
      member.tick(40)
      member.hear(3, { ...VOTE, term: 6 })
      assert.not.ok(
        member.sent.some((type) => type !== 'heartbeatResponse'),
        `${member.sent}`,
      )
      assert.is(member.saves.length, 0, 'and nothing is saved any more')
    }
  }
})

driver(
  '12: want of room is no failed fsync: nothing is promised, the save is offered again',
  () => {
    const member = new Member(3)
    member.hear(2, APPEND)
    member.endSave(new StorageError('disk-full', 'injected'))
    assert.equal([member.fatal, member.sent], [[], []])
    assert.equal(
      member.runtime.status().alarms.map(({ kind }) => kind),
      ['disk-full'],
    )
    for (let i = 0; i < 100 && member.saves.length === 0; i++) {
      member.hear(2, { type: 'heartbeat', term: 5, commit: 1, readRound: 0 })
      member.tick(1)
    }
    assert.is(member.saves[0]?.batch.entries.length, 1)
    member.endSave()
    assert.ok(member.sent.includes('appendResponse'))
    assert.equal(member.runtime.status().alarms, [])
  },
)

log.run()
driver.run()
