/**
 * `raft-p2p snapshot restore <file>`: a data directory that begins a new cluster from a backup. The directory must be blank; the
 * file is verified before anything of it counts.
 */
import { createHash, randomBytes } from 'node:crypto'
import { LIMITS } from '../config.ts'
import { newKeyPair } from '../key-pair.ts'
import { KvMachine } from '../machine/kv.ts'
import { decodeConfigurationRecord } from '../raft/configuration.ts'
import { loadSnapshot, type OldState } from '../reseed.ts'
import { isReseedOpen, reseed } from '../reseed-directory.ts'
import { dataRoot, foreignNames, holdsNode, takeDirectory } from '../storage/directory.ts'
import { newIdentity, RESEEDING_FOLDER, readIdentity } from '../storage/identity.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { openSnapshots } from '../storage/snapshot-folder.ts'
import {
  decodeSnapshotHeader,
  SNAPSHOT_HEADER_BYTES,
  snapshotHeaderBytes,
} from '../storage/snapshot-format.ts'
import type { SnapshotOffer } from '../storage/snapshots.ts'
import { StorageError } from '../storage/storage.ts'
import { parseTopic } from '../topic.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine, textFlag } from './command.ts'
import { derive, wantedTopic } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'

const CHUNK_BYTES = 1 << 20
/** The copy of the file while it is read. */
const COPY_FOLDER = 'restoring'

export async function run(invocation: Invocation): Promise<number> {
  const [file = ''] = invocation.args
  const offer = offerOf(file)
  const wanted = await wantedDirectory(invocation)
  // Before the lock, which would leave its folder in a directory of something else.
  if ('data' in wanted && !holdsNode(nodeDisk, wanted.data)) refuseForeign(wanted.data)
  const directory = await takeDirectory(nodeDisk, wanted)
  const { path, lock } = directory
  try {
    if (readIdentity(nodeDisk, path) !== null) {
      throw new CommandError(
        'not-empty',
        `there is a node in ${path} already`,
        'Name another directory with --data DIR, or archive what is there with: raft-p2p rejoin',
      )
    }
    if (isReseedOpen(nodeDisk, path)) {
      throw new CommandError(
        'not-empty',
        `an earlier restore was cut short in ${path}`,
        'End that one with: raft-p2p recover, or name another directory with --data DIR',
      )
    }
    refuseForeign(path)
    const old = await stateOf(path, file, offer).catch((error) => {
      const isDamaged = error instanceof StorageError && error.code === 'corrupt-snapshot'
      throw isDamaged ? damaged(`${file} is damaged, or not all of it is there`) : error
    })
    const name = textFlag(invocation, 'name')
    const identity = newIdentity({ makeKeyPair: newKeyPair })
    const made = await reseed(
      {
        disk: nodeDisk,
        directory: path,
        identity: name === null ? identity : { ...identity, name },
        clusterId: randomBytes(16).toString('hex'),
        urls: [],
        reason: `restored from cluster ${offer.clusterId} at index ${offer.index}`,
      },
      old,
    )
    report(invocation, { path, clusterId: made.record.clusterId, index: made.start.index })
    return EXIT.ok
  } finally {
    await lock.release()
  }
}

/** What moves in takes the place of folders of the same names: they, or the backup in one of them, would be gone. */
function refuseForeign(path: string): void {
  const [name] = foreignNames(nodeDisk, path, [RESEEDING_FOLDER, COPY_FOLDER])
  if (name === undefined) return
  throw new CommandError(
    'not-empty',
    `${path} is not empty: there is ${name} in it`,
    'Name a directory with --data DIR that is empty or not there yet',
  )
}

async function wantedDirectory(
  invocation: Invocation,
): Promise<{ data: string } | { dataRoot: string; discoveryKey: string }> {
  const data = textFlag(invocation, 'data')
  const wanted = wantedOf(invocation)
  const topic = wantedTopic(wanted)
  // A topic that is mistyped is so beside `--data` too.
  if (topic !== null) parseTopic(topic)
  if (data !== null) return { data }
  if (topic === null) {
    throw new CommandError(
      'usage',
      'name the directory with --data DIR, or the topic with --topic T',
    )
  }
  const { discoveryKey } = await derive(topic, wanted.env)
  return { dataRoot: dataRoot(), discoveryKey: Buffer.from(discoveryKey).toString('hex') }
}

/** Of the backup, not of a node. */
function damaged(message: string): CommandError {
  return new CommandError(
    'corrupt-snapshot',
    message,
    'Take another backup: nothing of this one can be trusted',
  )
}

/** What the file says it is. Throws CommandError `corrupt-snapshot`, or `no-data` when there is none. */
function offerOf(file: string): SnapshotOffer {
  const stat = nodeDisk.stat(file)
  if (stat?.kind !== 'file') throw new CommandError('no-data', `there is no file ${file}`)
  const head = nodeDisk.readPart(file, 0, SNAPSHOT_HEADER_BYTES) ?? new Uint8Array(0)
  const length = snapshotHeaderBytes(head)
  const header =
    typeof length === 'string'
      ? length
      : decodeSnapshotHeader(nodeDisk.readPart(file, 0, length) ?? head)
  if (typeof header === 'string') {
    throw damaged(`${file} is no snapshot: ${header}`)
  }
  const hash = createHash('sha256')
  for (let at = 0; at < stat.sizeBytes; at += CHUNK_BYTES) {
    hash.update(nodeDisk.readPart(file, at, CHUNK_BYTES) ?? new Uint8Array(0))
  }
  const { clusterId, index, term } = header.meta
  return { clusterId, index, term, sizeBytes: stat.sizeBytes, checksum: hash.digest('hex') }
}

/** Through a copy in the directory, because only files of a snapshot folder are verified and loaded. */
async function stateOf(path: string, file: string, offer: SnapshotOffer): Promise<OldState> {
  const folder = `${path}/${COPY_FOLDER}`
  nodeDisk.remove(folder)
  try {
    await copy(folder, file, offer)
    const snapshots = openSnapshots({ disk: nodeDisk, directory: folder })
    const info = snapshots.newest
    const record = info === null ? null : decodeConfigurationRecord(info.configuration.payload)
    if (info === null || record === null) {
      throw new StorageError('corrupt-snapshot', `${file} is no whole snapshot.`)
    }
    const applied = await loadSnapshot(snapshots, info, { machine: new KvMachine(), ...LIMITS })
    return { applied, last: { term: info.term, index: info.index }, record }
  } finally {
    nodeDisk.remove(folder)
  }
}

async function copy(folder: string, file: string, offer: SnapshotOffer): Promise<void> {
  const receiver = openSnapshots({ disk: nodeDisk, directory: folder }).receive(offer)
  for (let at = 0; at < offer.sizeBytes; at += CHUNK_BYTES) {
    const bytes = nodeDisk.readPart(file, at, CHUNK_BYTES) ?? new Uint8Array(0)
    await new Promise<void>((resolve, reject) => {
      receiver.write(bytes, (error) => (error === null ? resolve() : reject(error)))
    })
  }
  await new Promise<void>((resolve, reject) => {
    receiver.finish((error) => (error === null ? resolve() : reject(error)))
  })
}

function report(
  { io, json }: Invocation,
  made: { readonly path: string; readonly clusterId: string; readonly index: number },
): void {
  if (json) return printJson(io, { data: made.path, clusterId: made.clusterId, index: made.index })
  printLine(io, `${made.path} now holds cluster ${made.clusterId}, restored from the backup.`)
  printLine(io, `Start it with: raft-p2p join <topic> --data ${made.path}`)
  printLine(io, `On other machines: raft-p2p join <topic>.${made.clusterId}`)
}
