/** What a node says to a client, as the client reads it: frames on a link, and the JSON in them. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { readErrorBody, readJsonObject } from '../../client/errors.ts'
import { type Introduction, type LeaderInfo, Link } from '../../client/link.ts'
import { type Answer, ERROR_CODES, writeAnswer } from '../../client/protocol.ts'
import { clusterId, u64, url } from './arbitraries.ts'
import { frameOf } from './decoders-client.ts'
import { anyJson, damagedTree, jsonText, treeDamages } from './mutations.ts'
import { type AnyRow, always, orNull, row } from './rows.ts'

const ENCODER = new TextEncoder()
const json = (value: unknown): Uint8Array => ENCODER.encode(JSON.stringify(value))

interface Heard {
  readonly introduction: Introduction | null
  readonly leaders: readonly LeaderInfo[]
  readonly failures: readonly string[]
}

/** A WebSocket that only hands over what a test puts into it. */
class DeafSocket {
  bufferedAmount = 0
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  send(): void {}
  close(): void {
    this.onclose?.({ code: 1000, reason: '' })
  }
}

/** Opens a link, lets the node answer the first question, and after it say `frame` again. */
function hear(frame: Uint8Array): Heard {
  let socket: DeafSocket | null = null
  const leaders: LeaderInfo[] = []
  const failures: string[] = []
  let introduction: Introduction | null = null
  const WebSocket = class extends DeafSocket {
    constructor() {
      super()
      socket = this
    }
  }
  const link = new Link(
    'ws://h/v1/client',
    { WebSocket, protocols: [] },
    {
      introduced: (_link, one) => {
        introduction = one
        return null
      },
      answered: () => assert.unreachable('nothing was asked'),
      drained: () => {},
      leader: (_link, one) => leaders.push(one),
      silent: () => {},
      down: (_link, { code }) => failures.push(code),
    },
  )
  const { onopen } = socket as unknown as DeafSocket
  onopen?.()
  const data = frame.slice().buffer
  for (let i = 0; i < 2; i++) (socket as unknown as DeafSocket).onmessage?.({ data })
  link.close()
  return { introduction, leaders, failures }
}

const leaderInfo = fc.record({
  leaderId: fc.option(fc.nat()),
  leaderUrl: fc.option(url),
  term: u64,
})
const statusJson = fc
  .record({
    clusterId: fc.option(clusterId),
    memberId: fc.option(fc.nat(9)),
    leader: leaderInfo,
    urls: fc.array(fc.option(url), { maxLength: 3 }),
  })
  .map(({ leader, urls, ...rest }) =>
    json({ ...rest, ...leader, members: urls.map((one) => ({ url: one })) }),
  )
const errorJson = fc
  .record({
    code: fc.constantFrom(...ERROR_CODES),
    message: fc.string(),
    retriable: fc.boolean(),
    maybeApplied: fc.boolean(),
  })
  .map(json)
const said: fc.Arbitrary<Answer> = fc.oneof(
  fc.record({ type: fc.constant('json' as const), requestId: fc.constant(1), json: statusJson }),
  fc.record({ type: fc.constant('error' as const), requestId: fc.nat(2), json: errorJson }),
  fc.record({
    type: fc.constant('leader' as const),
    requestId: fc.constant(0),
    json: leaderInfo.map(json),
  }),
)

/** Frames that are whole, with JSON in them that no node writes. */
const hostileAnswers = fc
  .array(
    fc.record({
      type: fc.constantFrom('json' as const, 'error' as const, 'leader' as const),
      body: fc.oneof(
        anyJson,
        fc.tuple(statusJson, treeDamages).map(([text, all]) => {
          return damagedTree(JSON.parse(new TextDecoder().decode(text)), all)
        }),
      ),
    }),
    { minLength: 1, maxLength: 4 },
  )
  .map((all) =>
    frameOf(
      all.map(({ type, body }): Answer => {
        const bytesOf = ENCODER.encode(jsonText(body))
        return type === 'leader'
          ? { type, requestId: 0, json: bytesOf }
          : { type, requestId: 1, json: bytesOf }
      }),
      writeAnswer,
    ),
  )

/** What stands in an answer of this type, heard by a link that has been introduced, or is being. */
function hearJson(type: 'json' | 'error' | 'leader'): (body: Uint8Array) => Heard {
  return (body) => {
    const known = { type: 'json' as const, requestId: 1, json: json({}) }
    if (type !== 'leader')
      return hear(frameOf<Answer>([{ type, requestId: 1, json: body }], writeAnswer))
    return hear(frameOf<Answer>([known, { type, requestId: 0, json: body }], writeAnswer))
  }
}

function heardIsSound({ introduction, leaders }: Heard): void {
  for (const { leaderId, leaderUrl, term } of leaders) {
    assert.is(typeof term, 'number')
    assert.ok(leaderId === null || typeof leaderId === 'number')
    assert.ok(leaderUrl === null || typeof leaderUrl === 'string')
  }
  if (introduction === null) return
  const { clusterId: id, memberId, memberUrls } = introduction
  assert.ok(id === null || typeof id === 'string')
  assert.ok(memberId === null || typeof memberId === 'number')
  assert.ok(Array.isArray(memberUrls))
}

const TOLD = (['json', 'error', 'leader'] as const).map((type) =>
  row<Uint8Array, unknown>({
    name: `${type} that a link hears`,
    covers: ['client/link.ts'],
    kind: 'bytes',
    inner: 'json',
    values: { json: statusJson, error: errorJson, leader: leaderInfo.map(json) }[type],
    encode: (body) => body as Uint8Array,
    decode: always(hearJson(type)),
    shown: () => 'heard',
    sound: (heard) => heardIsSound(heard as Heard),
    again: 'no',
  }),
)

export const ANSWER_DECODERS: readonly AnyRow[] = [
  ...TOLD,
  row<Uint8Array, ReturnType<typeof readErrorBody>>({
    name: 'error body',
    covers: ['client/errors.ts#readErrorBody'],
    kind: 'bytes',
    inner: 'json',
    values: errorJson.map(readErrorBody),
    encode: json,
    decode: always(readErrorBody),
    sound: (body) => assert.ok(ERROR_CODES.includes(body.code)),
  }),
  row<Uint8Array, Record<string, unknown>>({
    name: 'JSON object of a node',
    covers: ['client/errors.ts#readJsonObject'],
    kind: 'bytes',
    inner: 'json',
    values: fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
    encode: json,
    decode: orNull(readJsonObject),
    // Numbers beyond JSON are read and cannot be written.
    again: 'no',
  }),
  row<Uint8Array, unknown>({
    name: 'what a link hears',
    covers: ['client/link.ts'],
    kind: 'bytes',
    values: fc.array(said, { minLength: 1, maxLength: 4 }),
    encode: (all) => frameOf(all as Answer[], writeAnswer),
    decode: always(hear),
    shown: () => 'heard',
    again: 'no',
    noise: hostileAnswers,
    sound: (heard) => heardIsSound(heard as Heard),
  }),
]
