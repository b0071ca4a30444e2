/**
 * `raft-p2p rejoin`: archives the data of this machine's node, so that its next start is blank and enters as a new member.
 * Nothing is deleted: log and identity lie in `archive-<n>` in the directory.
 */
import { archive, takeDirectory } from '../storage/directory.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { EXIT, type Invocation, printJson, printLine } from './command.ts'
import { identityOf, theDirectory } from './local-data.ts'

export async function run(invocation: Invocation): Promise<number> {
  const { path } = await theDirectory(invocation, 'node that is not running', (slot) =>
    slot.slot === 0 ? true : !slot.live,
  )
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

/** With an invite, because a blank node with the bare topic could help to found a second cluster. */
function describe(
  { io }: Invocation,
  done: { path: string; archived: string; clusterId: string | null },
): void {
  printLine(io, `The data of ${done.path} now lies in ${done.archived}.`)
  const topic = done.clusterId === null ? '<topic>' : `<topic>.${done.clusterId}`
  printLine(io, `Enter again as a new member with: raft-p2p join ${topic}`)
}
