/** `raft-p2p wal dump <dir>`: prints a log directory, record by record, however damaged. Reads only. */
import { dumpLog } from '../storage/dump.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { CommandError, EXIT, type Invocation, printable, printJson, printLine } from './command.ts'

export async function run({ args, io, json }: Invocation): Promise<number> {
  const directory = args[0] ?? ''
  if (nodeDisk.stat(directory)?.kind !== 'directory') {
    throw new CommandError(
      'no-data',
      `there is no directory ${directory}`,
      'Name a data directory, or the folder `wal` in one',
    )
  }
  let isDamaged = false
  for (const line of dumpLog(nodeDisk, directory)) {
    if (line.type === 'damage') isDamaged = true
    if (json) {
      printJson(io, line)
      continue
    }
    const { type, file, offset, ...fields } = line
    const shown = Object.entries(fields)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}=${printable(String(value))}`)
    const indent = type === 'segment' ? '' : type === 'entry' ? '    ' : '  '
    printLine(io, `${indent}${type} ${type === 'segment' ? file : `@${offset}`} ${shown.join(' ')}`)
  }
  return isDamaged ? EXIT.error : EXIT.ok
}
