// timeout: 120 s
/** `recover` that is cut short at every step: it can be ended, the old data stays, and no start in between forgets the cluster. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { failureOf } from '../../node/commands/command.ts'
import { newKeyPair } from '../../node/key-pair.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { Entry } from '../../node/raft/types.ts'
import { INDEX_GAP, type OldState, readState } from '../../node/reseed.ts'
import { finishReseed, isReseedOpen, reseed } from '../../node/reseed-directory.ts'
import { archive } from '../../node/storage/directory.ts'
import type { HostDisk } from '../../node/storage/disk.ts'
import {
  newIdentity,
  openIdentity,
  RESEEDED_FOLDER,
  RESEEDING_FOLDER,
  readIdentity,
  writeIdentity,
} from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openSnapshots } from '../../node/storage/snapshot-folder.ts'
import { createWal, openWal } from '../../node/storage/wal.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { close, saved, temporaryDirectory } from '../support/storage.ts'

const OLD = 'a'.repeat(32)
const NEW = 'b'.repeat(32)
const options = () => ({ machine: new KvMachine(), hashEveryEntries: 1024, hashesKept: 16 })

/** A node's data: it has acknowledged entries 1 to 5. */
async function oldDirectory(): Promise<string> {
  const directory = temporaryDirectory()
  const identity = { ...newIdentity({ makeKeyPair: newKeyPair }), clusterId: OLD, bootCounter: 3 }
  const payload = encodeConfigurationRecord({
    clusterId: OLD,
    foundingSet: [],
    settings: {},
    configuration: configurationOf(3),
  })
  const entries = Array.from({ length: 5 }, (_, i): Entry => {
    const id = { term: 1, index: i + 1 }
    return i === 0
      ? { ...id, kind: 'configuration', payload }
      : { ...id, kind: 'noop', payload: new Uint8Array(0) }
  })
  const { storageId } = identity
  const log = createWal({ disk: nodeDisk, directory: `${directory}/wal`, storageId })
  await saved(log, { hardState: { term: 1, vote: null, commit: 5 }, entries })
  await close(log)
  openSnapshots({ disk: nodeDisk, directory: `${directory}/snapshots` })
  writeIdentity(nodeDisk, directory, identity)
  return directory
}

async function stateOf(directory: string): Promise<OldState> {
  const { storageId, clusterId } = identityOf(directory)
  const log = openWal({ disk: nodeDisk, directory: `${directory}/wal`, storageId })
  const snapshots = openSnapshots({ disk: nodeDisk, directory: `${directory}/snapshots` })
  const state = await readState(log, snapshots, clusterId ?? '', options())
  await close(log)
  return state
}

function identityOf(directory: string) {
  const identity = readIdentity(nodeDisk, directory)
  if (identity === null) throw new Error('no identity')
  return identity
}

/** What the command does, on this disk. */
async function recover(directory: string, disk: HostDisk): Promise<void> {
  if (isReseedOpen(disk, directory)) return finishReseed(disk, directory)
  const parts = { disk, directory, clusterId: NEW, urls: [], reason: 'lost' }
  await reseed({ ...parts, identity: identityOf(directory) }, await stateOf(directory))
}

/** Whatever a start finds, it is one of the two clusters or is refused: it never becomes somebody new. */
function start(directory: string, when: string): void {
  try {
    const { clusterId } = openIdentity(nodeDisk, directory, { makeKeyPair: newKeyPair }).record
    assert.ok(clusterId === OLD || clusterId === NEW, `${when}: a start forgets the cluster`)
  } catch (error) {
    assert.is((error as { code?: string }).code, 'storage-lost')
    // `rejoin` would put away what is about to move in: whoever is told of that first has lost the cluster.
    const { message } = error as Error
    if (isReseedOpen(nodeDisk, directory)) assert.match(message, /raft-p2p recover/, when)
    assert.is(failureOf(error).hint, null, when)
  }
}

/** The process dies before the `nth` of these effects. */
function dyingDisk(nth: number): { disk: HostDisk; died: () => boolean } {
  let count = 0
  const dies = (): void => {
    if (++count >= nth) throw new Error('died')
  }
  const disk: HostDisk = {
    ...nodeDisk,
    makeDirectory: (path) => {
      dies()
      nodeDisk.makeDirectory(path)
    },
    replace: (path, bytes) => {
      dies()
      nodeDisk.replace(path, bytes)
    },
    rename: (from, to) => {
      dies()
      nodeDisk.rename(from, to)
    },
    remove: (path) => {
      dies()
      nodeDisk.remove(path)
    },
  }
  return { disk, died: () => count >= nth }
}

const cut = suite('recover that is cut short')

cut('is ended by the next one, and the old data is archived whole', async () => {
  for (const startsBetween of [false, true]) {
    for (let nth = 1; ; nth++) {
      const directory = await oldDirectory()
      const { disk, died } = dyingDisk(nth)
      await recover(directory, disk).catch(() => {})
      if (startsBetween) start(directory, `cut at ${nth}`)
      if (!died()) {
        assert.ok(nth > 10)
        break
      }
      const isDone = (): boolean => readIdentity(nodeDisk, directory)?.clusterId === NEW
      if (!isDone()) await recover(directory, nodeDisk)
      assert.ok(isDone(), `cut at ${nth}`)
      const { last, record } = await stateOf(directory)
      assert.is(record.clusterId, NEW)
      assert.ok(last.index > 5)
      const held = nodeDisk
        .list(directory)
        .filter((name) => name.startsWith('archive-'))
        .flatMap((name) => nodeDisk.list(`${directory}/${name}`))
      assert.equal(held.sort(), ['identity.json', 'snapshots', 'wal'], `cut at ${nth}`)
      assert.not.ok(isReseedOpen(nodeDisk, directory))
    }
  }
})

cut(
  'what was acknowledged since by a node that was started after all is in the next one',
  async () => {
    const directory = await oldDirectory()
    const { storageId, bootCounter } = identityOf(directory)
    const disk: HostDisk = {
      ...nodeDisk,
      rename: () => {
        throw new Error('died')
      },
    }
    await recover(directory, disk).catch(() => {})
    assert.ok(nodeDisk.stat(`${directory}/${RESEEDING_FOLDER}/identity.json`) !== null)
    start(directory, 'cut before anything was moved')
    assert.is(identityOf(directory).bootCounter, bootCounter + 1)
    const log = openWal({ disk: nodeDisk, directory: `${directory}/wal`, storageId })
    const entry: Entry = { term: 1, index: 6, kind: 'noop', payload: new Uint8Array(0) }
    await saved(log, { entries: [entry] })
    await close(log)
    await recover(directory, nodeDisk)
    assert.is((await stateOf(directory)).last.index, 6 + INDEX_GAP)
  },
)

cut('a later one does not take what is left of an earlier one for its own', async () => {
  const directory = await oldDirectory()
  const disk: HostDisk = {
    ...nodeDisk,
    remove: (path) => {
      if (path.endsWith(RESEEDED_FOLDER) && nodeDisk.stat(path) !== null) throw new Error('died')
      nodeDisk.remove(path)
    },
  }
  await recover(directory, disk).catch(() => {})
  assert.is(identityOf(directory).clusterId, NEW)
  assert.ok(nodeDisk.stat(`${directory}/${RESEEDED_FOLDER}`) !== null)
  await recover(directory, nodeDisk)
  assert.is((await stateOf(directory)).last.index, 5 + 2 * INDEX_GAP)
})

cut('whoever enters anew instead is not caught up by it', async () => {
  for (const died of ['reseeding', 'reseeded']) {
    const directory = await oldDirectory()
    const disk: HostDisk = {
      ...nodeDisk,
      rename: (from, to) => {
        if (from.includes(`/${died}`)) throw new Error('died')
        nodeDisk.rename(from, to)
      },
    }
    await recover(directory, disk).catch(() => {})
    const archived = archive(nodeDisk, directory)
    assert.ok(nodeDisk.list(archived).includes(died))
    assert.not.ok(isReseedOpen(nodeDisk, directory))
    const { record } = openIdentity(nodeDisk, directory, { makeKeyPair: newKeyPair })
    assert.is(record.clusterId, null)
  }
})

cut.run()
