/** Inputs that broke a law once, as the smallest that showed it: the laws hold for them now. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../client/bytes.ts'
import { writeAnswer } from '../../client/protocol.ts'
import { DECODERS } from './decoders.ts'
import { examine } from './laws.ts'

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

interface Mended {
  /** The name of the row. */
  readonly row: string
  readonly what: string
  readonly input: unknown
}

const MENDED: readonly Mended[] = [
  {
    row: 'error body',
    what: 'a code that is an object without a usable toString',
    input: bytesOf('{"code":{"toString":null}}'),
  },
  {
    row: 'error that a link hears',
    what: 'the same in the first answer of a node',
    input: bytesOf('{"code":{"toString":null}}'),
  },
  {
    row: 'what a link hears',
    what: 'the same in any answer',
    input: answerWith('{"code":{"toString":null}}'),
  },
  {
    row: 'identity file',
    what: 'a format that is an object without a usable toString',
    input: bytesOf('{"format":{"toString":null}}'),
  },
  {
    row: 'configuration record',
    what: 'a setting that is Infinity, which JSON cannot write again',
    input: bytesOf(JSON.stringify(RECORD).replace('7', '1e999')),
  },
  {
    row: 'configuration record',
    what: 'a voter that is listed twice',
    input: recordWith({ voters: [1, 1] }),
  },
  {
    row: 'configuration record',
    what: 'one disk with two member ids',
    input: recordWith({ voters: [1, 2], members: [member, { ...member, memberId: 2 }] }),
  },
]

const mended = suite('what was found once')

for (const { row: name, what, input } of MENDED) {
  mended(`${name}: ${what}`, () => {
    const row = DECODERS.find((one) => one.name === name)
    assert.ok(row !== undefined)
    examine(row, input)
  })
}

mended.run()
