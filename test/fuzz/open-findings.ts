/**
 * Inputs that break a law today. Each is forgiven by exactly its own error, and must still fail: whoever mends the decoder removes the
 * entry, and from then on the law holds without exception.
 */

import { ByteWriter } from '../../client/bytes.ts'
import { writeAnswer } from '../../client/protocol.ts'
import { examine } from './laws.ts'
import type { AnyRow } from './rows.ts'

export interface Finding {
  /** The name of the row. */
  readonly row: string
  readonly what: string
  /** The smallest input that shows it. */
  readonly example: unknown
  /** Whether this is how the law is broken. */
  matches(error: Error, input: unknown): boolean
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

/** A frame with one answer to request 1, an error. */
function answerWith(text: string): Uint8Array {
  const writer = new ByteWriter()
  writeAnswer(writer, { type: 'error', requestId: 1, json: bytesOf(text) })
  return writer.finish()
}

const member = {
  memberId: 1,
  nodeKey: 'a'.repeat(64),
  storageId: 'b'.repeat(32),
  name: '',
  urls: [],
}
const RECORD = {
  format: 1,
  clusterId: 'c'.repeat(32),
  foundingSet: [],
  settings: { setting: 7 },
  configuration: {
    voters: [1],
    votersOutgoing: [],
    learners: [],
    members: [member],
    nextMemberId: 3,
  },
}

/** A configuration record that differs from a valid one in a few fields. */
function recordWith(change: object): Uint8Array {
  const configuration = { ...RECORD.configuration, ...change }
  return bytesOf(JSON.stringify({ ...RECORD, configuration }))
}

const textOf = (input: unknown): string => Buffer.from(input as Uint8Array).toString('latin1')

const noPrimitive = (error: Error): boolean =>
  error instanceof TypeError && /convert object to primitive/.test(error.message)

export const OPEN_FINDINGS: readonly Finding[] = [
  {
    row: 'error body',
    what: 'a code that is an object without a usable toString throws while the message is made',
    example: bytesOf('{"code":{"toString":null}}'),
    matches: noPrimitive,
  },
  {
    row: 'error that a link hears',
    what: 'the same in the first answer of a node, which ends the process of the client',
    example: bytesOf('{"code":{"toString":null}}'),
    matches: noPrimitive,
  },
  {
    row: 'what a link hears',
    what: 'the same in any answer',
    example: answerWith('{"code":{"toString":null}}'),
    matches: noPrimitive,
  },
  {
    row: 'identity file',
    what: 'a format that is an object without a usable toString throws while the message is made',
    example: bytesOf('{"format":{"toString":null}}'),
    matches: noPrimitive,
  },
  {
    row: 'configuration record',
    what: 'a setting that is Infinity is taken, and what a later entry repeats of it is refused',
    example: bytesOf(JSON.stringify(RECORD).replace('7', '1e999')),
    matches: (error, input) =>
      /refused when it is written again/.test(error.message) && /1e999/.test(textOf(input)),
  },
  {
    row: 'configuration record',
    what: 'a voter that is listed twice counts twice',
    example: recordWith({ voters: [1, 1] }),
    matches: (error) => /counts twice in one half/.test(error.message),
  },
  {
    row: 'configuration record',
    what: 'one disk with two member ids counts as two voters',
    example: recordWith({ voters: [1, 2], members: [member, { ...member, memberId: 2 }] }),
    matches: (error) => /one disk is two members/.test(error.message),
  },
]

/** As `examine`, and forgives what is known to be broken. */
export function examined(row: AnyRow, input: unknown): void {
  try {
    examine(row, input)
  } catch (error) {
    if (!isOpen(row.name, error, input)) throw described(error, input)
  }
}

/** Bytes that are text are easier to read as such. */
function described(error: unknown, input: unknown): unknown {
  if (error instanceof Error && input instanceof Uint8Array) {
    error.message += `\n  input: ${JSON.stringify(Buffer.from(input).toString('latin1'))}`
  }
  return error
}

/** True when the law is known to be broken in this way. */
function isOpen(row: string, error: unknown, input: unknown): boolean {
  return OPEN_FINDINGS.some(
    (finding) => finding.row === row && error instanceof Error && finding.matches(error, input),
  )
}

/** Decoders that do not manage a large input, and how that shows. */
export const HANGS: Readonly<Record<string, RegExp>> = {
  // A pattern for slashes at the end is tried anew at each slash: quadratic. The address may come from a node.
  'client address': /timed out/,
  'address told by a node': /timed out/,
  'address of a node': /timed out/,
  // Lists in lists are made into a text by recursion, for a message.
  'error body': /call stack/,
  'error that a link hears': /call stack/,
  // The checksum of lists in lists is made by recursion.
  'identity file': /call stack/,
}

export function isHanging(row: string, error: unknown): boolean {
  return error instanceof Error && HANGS[row]?.test(error.message) === true
}
