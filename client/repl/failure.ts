/** A failed command, as an exit code and as a sentence that says what to try next. */

import { EXIT } from './types.ts'
import { harmless } from './words.ts'

const EXIT_OF: Readonly<Record<string, number>> = {
  usage: EXIT.usage,
  'not-found': EXIT.absent,
  'compare-failed': EXIT.absent,
  'no-leader': EXIT.unavailable,
  'not-founded': EXIT.unavailable,
  timeout: EXIT.unavailable,
  unreachable: EXIT.unavailable,
  closing: EXIT.unavailable,
  unauthorised: EXIT.unauthorised,
  'forbidden-origin': EXIT.unauthorised,
}

const NEXT: Readonly<Record<string, string>> = {
  'no-leader': 'STATUS shows which members are missing; a majority must be alive.',
  'not-founded': 'STATUS shows which nodes are waited for; start them.',
  timeout: 'STATUS shows the state of the cluster.',
  unreachable: 'Check that a node runs: raft-p2p status',
  closing: 'The node is stopping; the same command works again once another one leads.',
  unauthorised:
    'Print one on a machine that runs a node: raft-p2p token, or raft-p2p token --role admin',
  'forbidden-origin': 'Call the node as 127.0.0.1, or with a token: raft-p2p token',
  'too-large': 'Split the value, or raise the limit of the nodes: --max-value',
  overloaded: 'Wait a moment and try again.',
  'disk-full': 'Make room on the disks of the nodes; they recover by themselves.',
  quota: 'Delete keys with DEL, or raise --max-state.',
}

export interface Failure {
  readonly code: string
  readonly exitCode: number
  readonly message: string
  /** What to try next, or null. */
  readonly hint: string | null
  readonly maybeApplied: boolean
}

export function failureOf(thrown: unknown): Failure {
  const known = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as {
    code?: unknown
    hint?: unknown
    maybeApplied?: unknown
  }
  const code = typeof known.code === 'string' ? known.code : 'internal'
  return {
    code,
    exitCode: EXIT_OF[code] ?? EXIT.error,
    message: thrown instanceof Error ? thrown.message : String(thrown),
    hint: typeof known.hint === 'string' ? known.hint : (NEXT[code] ?? null),
    maybeApplied: known.maybeApplied === true,
  }
}

/** One or two lines. */
export function sentenceOf(failure: Failure): string {
  const { code, message, hint, maybeApplied } = failure
  const doubt = maybeApplied ? ' It may have been applied: GET shows what holds.' : ''
  const text = code === 'aborted' ? 'cancelled.' : message
  const first = `${harmless(text, 'layout')}${doubt}\n`
  return hint === null ? first : `${first}  ${harmless(hint, 'layout')}\n`
}
