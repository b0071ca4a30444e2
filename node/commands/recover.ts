/**
 * `raft-p2p recover`: after a lost quorum, on one node that is not running: a new cluster with the data of this node, which leads it
 * alone (docs/operating.md). The old data is archived, never deleted.
 */
import { randomBytes } from 'node:crypto'
import { LIMITS } from '../config.ts'
import { KvMachine } from '../machine/kv.ts'
import { type NewCluster, type OldState, readState } from '../reseed.ts'
import { finishReseed, isReseedOpen, reseed } from '../reseed-directory.ts'
import { holdsNode, takeDirectory } from '../storage/directory.ts'
import { type IdentityRecord, LOG_FOLDER, readIdentity } from '../storage/identity.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { openSnapshots, SNAPSHOT_FOLDER } from '../storage/snapshot-folder.ts'
import { openWal } from '../storage/wal.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { confirm } from './confirm.ts'
import { theDirectory } from './local-data.ts'

/** The digits of the old clusterId that are typed as confirmation. */
const DIGITS = 8

export async function run(invocation: Invocation): Promise<number> {
  const { path } = await theDirectory(invocation, 'stopped node', (slot) =>
    slot.slot === 0 ? !slot.live : !slot.live && holdsNode(nodeDisk, slot.path),
  )
  // Before the lock, which would leave its folder in a directory of something else.
  if (!holdsNode(nodeDisk, path)) throw belongsNowhere(path)
  const { lock } = await takeDirectory(nodeDisk, { data: path })
  try {
    if (isReseedOpen(nodeDisk, path)) {
      finishReseed(nodeDisk, path)
      const identity = readIdentity(nodeDisk, path)
      report(invocation, path, identity?.clusterId ?? '', null)
      return EXIT.ok
    }
    const identity = readIdentity(nodeDisk, path)
    if (identity === null || identity.clusterId === null) {
      throw belongsNowhere(path)
    }
    const old = await stateOf(path, identity, identity.clusterId)
    const { clusterId } = identity
    await confirm(invocation, { word: clusterId.slice(0, DIGITS), what: warning(clusterId, old) })
    const made = await reseed(
      {
        disk: nodeDisk,
        directory: path,
        identity,
        clusterId: randomBytes(16).toString('hex'),
        urls: identity.members.find((one) => one.nodeKey === identity.publicKey)?.urls ?? [],
        reason: `recovered from cluster ${clusterId}`,
      },
      old,
    )
    report(invocation, path, made.record.clusterId, made)
    return EXIT.ok
  } finally {
    await lock.release()
  }
}

function belongsNowhere(path: string): CommandError {
  return new CommandError(
    'no-data',
    `no node in ${path} belongs to a cluster`,
    'Name the data directory of the survivor with --data DIR',
  )
}

async function stateOf(
  path: string,
  identity: IdentityRecord,
  clusterId: string,
): Promise<OldState> {
  const { storageId } = identity
  const log = openWal({ disk: nodeDisk, directory: `${path}/${LOG_FOLDER}`, storageId })
  try {
    const snapshots = openSnapshots({ disk: nodeDisk, directory: `${path}/${SNAPSHOT_FOLDER}` })
    return await readState(log, snapshots, clusterId, { machine: new KvMachine(), ...LIMITS })
  } finally {
    await new Promise<void>((resolve) => log.close(resolve))
  }
}

function warning(clusterId: string, old: OldState): string[] {
  const { voters, members } = old.record.configuration
  const names = members
    .filter((member) => voters.includes(member.memberId))
    .map((member) => member.name)
  return [
    `Cluster ${clusterId}, log up to index ${old.last.index} of term ${old.last.term}; its voters were ${names.join(', ')}.`,
    'If a majority of them can still run, start them instead: nothing is lost then.',
    'Otherwise this node becomes a new cluster with all that its log holds. What only the others had is lost, and none of them may',
    'go on with its old data: run `raft-p2p rejoin` there.',
  ]
}

function report(
  { io, json }: Invocation,
  path: string,
  clusterId: string,
  made: NewCluster | null,
): void {
  const index = made?.start.index ?? null
  if (json) return printJson(io, { data: path, clusterId, index })
  printLine(io, `The data of ${path} is now cluster ${clusterId}.`)
  // Whoever starts it as before with an invitation to the old cluster would be refused, and told to give up what is here.
  printLine(io, `Start it with: raft-p2p join <topic>, or <topic>.${clusterId}`)
  printLine(io, `On the other machines: raft-p2p rejoin, then raft-p2p join <topic>.${clusterId}`)
}
