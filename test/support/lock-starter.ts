/**
 * A starter for the lock test: tries to lock the directory it is given, says how that went, and holds what it got until its
 * stdin ends.
 */
import { acquireLock } from '../../node/storage/lock.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'

const directory = process.argv[2]
if (directory === undefined) throw new Error('usage: lock-starter <directory>')

async function main(place: string): Promise<void> {
  // All starters get ready first, and begin together at a word from the test.
  process.stdout.write('ready\n')
  await new Promise<void>((go) => process.stdin.once('data', () => go()))
  try {
    const lock = await acquireLock(nodeDisk, place)
    process.stdout.write('won\n')
    process.stdin.on('end', () => void lock.release().then(() => process.exit(0)))
  } catch (failure) {
    const { code, message } = failure as { code?: string; message: string }
    process.stdout.write(`lost ${code ?? message}\n`)
    process.stdin.on('end', () => process.exit(0))
  }
}

void main(directory)
