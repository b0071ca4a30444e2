/** `raft-p2p cas`: compare and set. A comparison that fails is exit code 3 and changes nothing. */
import type { Expected } from '../../client/client.ts'
import { UsageError } from '../config.ts'
import { CommandError, EXIT, type Invocation, printable, switchFlag, textFlag } from './command.ts'
import { printWritten } from './put.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<number> {
  const { key, expected, value } = parse(invocation)
  const { succeeded, revision } = await withClient(invocation, (client) =>
    client.cas(key, expected, value),
  )
  if (!succeeded) {
    const now = revision === 0 ? 'does not exist' : `is at revision ${revision}`
    throw new CommandError(
      'compare-failed',
      `the comparison failed, nothing was written: ${printable(key)} ${now}`,
    )
  }
  printWritten(invocation, { key, value, revision })
  return EXIT.ok
}

function parse(invocation: Invocation): { key: string; expected: Expected; value: string } {
  const [key = '', ...words] = invocation.args
  const revision = textFlag(invocation, 'revision')
  const isAbsent = switchFlag(invocation, 'absent')
  if (revision !== null && isAbsent) {
    throw new UsageError('--revision and --absent exclude each other')
  }
  if (revision === null && !isAbsent) {
    const [expected, value, ...more] = words
    if (expected === undefined || value === undefined || more.length > 0) {
      throw new UsageError('cas takes KEY EXPECTED NEW: quote what has several words')
    }
    return { key, expected, value }
  }
  const [value, ...more] = words
  if (value === undefined || more.length > 0) {
    throw new UsageError(
      `cas ${isAbsent ? '--absent' : '--revision N'} takes KEY NEW: quote what has several words`,
    )
  }
  if (revision === null) return { key, expected: null, value }
  if (!/^\d{1,15}$/.test(revision) || Number(revision) < 1) {
    throw new UsageError(`--revision takes a whole number from 1, not ${JSON.stringify(revision)}`)
  }
  return { key, expected: { revision: Number(revision) }, value }
}
