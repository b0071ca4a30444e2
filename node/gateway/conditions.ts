/** ETags are revisions: `"17"`. Conditional requests become conditions of the state machine, checked where the write is applied. */
import type { IncomingHttpHeaders } from 'node:http'
import type { Condition } from '../../client/protocol.ts'
import { refuse } from './problem.ts'

export function etagOf(revision: number): string {
  return `"${revision}"`
}

/** The condition of a write. Throws a Refusal for what the machine cannot check in one step. */
export function writeCondition(headers: IncomingHttpHeaders): Condition {
  const match = headers['if-match']
  const noneMatch = headers['if-none-match']
  if (match !== undefined && noneMatch !== undefined) {
    throw refuse('bad-request', 'a write takes If-Match or If-None-Match, not both')
  }
  if (noneMatch !== undefined) {
    if (noneMatch.trim() === '*') return { type: 'absent' }
    throw refuse('bad-request', 'on a write, If-None-Match takes only *')
  }
  if (match === undefined) return { type: 'none' }
  if (match.trim() === '*') return { type: 'exists' }
  const revision = revisionOf(match.trim())
  if (revision === null) {
    throw refuse('bad-request', 'If-Match takes one ETag of this key, such as "17", or *')
  }
  return { type: 'revision', revision }
}

/** What a read's conditional headers make of a key at `revision` (0: absent): 200, 304 or 412. */
export function readStatus(headers: IncomingHttpHeaders, revision: number): 200 | 304 | 412 {
  const match = headers['if-match']
  if (match !== undefined && !lists(match, revision)) return 412
  const noneMatch = headers['if-none-match']
  return noneMatch !== undefined && lists(noneMatch, revision) ? 304 : 200
}

function lists(header: string, revision: number): boolean {
  if (revision === 0) return false
  if (header.trim() === '*') return true
  return header.split(',').some((tag) => revisionOf(tag.trim().replace(/^W\//, '')) === revision)
}

function revisionOf(tag: string): number | null {
  const digits = /^"(\d{1,16})"$/.exec(tag)?.[1]
  const revision = Number(digits)
  return digits !== undefined && Number.isSafeInteger(revision) ? revision : null
}
