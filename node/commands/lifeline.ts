/**
 * How the nodes of a demo notice that the demo is gone, whatever ended it, kill -9 included: their stdin is a pipe that
 * nobody writes to, and it ends with the process at its other end.
 */
import { basename, dirname, join } from 'node:path'
import { nodeDisk } from '../storage/node-disk.ts'

/** Internal: set by the demo for its nodes only. Its value is the demo's folder. */
export const LIFELINE_ENV = 'RAFT_P2P_DEMO_FOLDER'
export const DEMO_FOLDER_PREFIX = 'raft-p2p-demo-'
/** In the demo's folder: the process ids of its frozen nodes, which cannot notice anything by themselves. */
export const PAUSED_FILE = 'paused'

/** Calls `ended` with the demo's folder once the demo has gone; never, in a node that no demo started. */
export function onLifelineEnd(ended: (demoFolder: string) => void): void {
  const folder = process.env[LIFELINE_ENV]
  if (folder === undefined || folder === '') return
  const once = (): void => {
    process.stdin.destroy()
    ended(folder)
  }
  process.stdin.resume().once('end', once).once('error', once)
}

/**
 * The demo can no longer clean up, so its nodes do, each of them: the last one finds nothing left to remove. Refuses any
 * folder that does not bear the name of a demo's.
 */
export function removeDemoData(folder: string): void {
  if (!basename(folder).startsWith(DEMO_FOLDER_PREFIX) || dirname(folder) === folder) return
  try {
    wakePaused(folder)
    nodeDisk.remove(folder)
  } catch {
    // Another node of the demo removes it at the same time.
  }
}

/** SIGCONT does nothing to a process that runs, so an outdated id does no harm. */
function wakePaused(folder: string): void {
  const text = new TextDecoder().decode(nodeDisk.read(join(folder, PAUSED_FILE)) ?? undefined)
  for (const pid of text.split('\n').map(Number)) {
    if (!Number.isSafeInteger(pid) || pid < 2) continue
    try {
      process.kill(pid, 'SIGCONT')
    } catch {
      // It has ended.
    }
  }
}
