/**
 * `raft-p2p rejoin`: archives the data of this machine's node, so that its next start is blank and enters as a new member.
 * Nothing is deleted: log and identity lie in `archive-<n>` in the directory.
 */
import { archive, holdsNode, takeDirectory } from '../storage/directory.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { identityOf, theDirectory } from './local-data.ts'

export async function run(invocation: Invocation): Promise<number> {
  const { path } = await theDirectory(invocation, 'stopped node', (slot) =>
    slot.slot === 0 ? true : !slot.live && holdsNode(nodeDisk, slot.path),
  )
  // Before the lock, which would leave its folder there: the directory may be of something else, with folders of the same names.
  if (!holdsNode(nodeDisk, path)) {
    throw new CommandError(
      'no-data',
      `there is no data of a node in ${path}: nothing was archived`,
      'Its next start is blank: raft-p2p join <topic>; or name another directory with --data DIR',
    )
  }
  const directory = await takeDirectory(nodeDisk, { data: path })
  try {
    const clusterId = identityOf(path)?.clusterId ?? null
    const archived = archive(nodeDisk, path)
    if (invocation.json) printJson(invocation.io, { data: path, archived, clusterId })
    else describe(invocation, { path, archived, clusterId })
    return EXIT.ok
  } finally {
    await directory.lock.release()
  }
}

/**
 * With an invite, because a blank node with the bare topic could help to found a second cluster. The old one need not be meant:
 * after a `recover`, or when two clusters had one topic, the node is to enter another.
 */
function describe(
  { io }: Invocation,
  done: { path: string; archived: string; clusterId: string | null },
): void {
  printLine(io, `The data of ${done.path} now lies in ${done.archived}.`)
  const topic = done.clusterId === null ? '<topic>' : `<topic>.${done.clusterId}`
  printLine(io, `Enter again as a new member with: raft-p2p join ${topic}`)
  if (done.clusterId === null) return
  printLine(
    io,
    'Into another cluster, such as one that `recover` made, with what `raft-p2p invite` prints on its members.',
  )
}
