/**
 * A starter for the lock test. Reads lines: `lock <directory>` tries to lock it and prints `won` or `lost <code>`;
 * `release` gives it up and prints `released`. Ends with its stdin.
 */
import { createInterface } from 'node:readline'
import { acquireLock, type DirectoryLock } from '../../node/storage/lock.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'

let held: DirectoryLock | null = null

async function act(line: string): Promise<string> {
  if (line === 'release') {
    await held?.release()
    held = null
    return 'released'
  }
  try {
    held = await acquireLock(nodeDisk, line.slice('lock '.length))
    return 'won'
  } catch (failure) {
    const { code, message } = failure as { code?: string; message: string }
    return `lost ${code ?? message}`
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  void act(line).then((answer) => process.stdout.write(`${answer}\n`))
})
lines.on('close', () => process.exit(0))
process.stdout.write('ready\n')
