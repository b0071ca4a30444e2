/** The decoders of `discovery/`: what strangers say on a local network, in a DHT, and in files that a killed node has left. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import {
  type Endpoint,
  isHintUrl,
  isHostIPv4,
  isPort,
  parseEndpoint,
} from '../../discovery/addresses.ts'
import {
  encodeIntroduction,
  type Introduction,
  parseIntroduction,
} from '../../discovery/dht-swarm.ts'
import {
  answerOf,
  answersIn,
  asksFor,
  type LanAnswer,
  type LanPacket,
  questionFor,
  serviceNameOf,
} from '../../discovery/lan-packet.ts'
import { encodeLiveRecord, type LiveRecord, parseLiveRecord } from '../../discovery/local.ts'
import { nodeKey, url, urls } from './arbitraries.ts'
import { type AnyRow, always, guard, orNull, row } from './rows.ts'

const SERVICE = serviceNameOf(new Uint8Array(32).fill(5))

const port = fc.integer({ min: 1, max: 65_535 })
const endpoint: fc.Arbitrary<Endpoint> = fc.record({ host: fc.oneof(fc.ipV4(), fc.domain()), port })
const lanAnswer: fc.Arbitrary<LanAnswer> = fc.record({
  nodeKey,
  port,
  dhtPort: fc.option(port),
  tls: fc.boolean(),
})

/** Said a second time, so that the decoders do not judge themselves. */
function isInRange(at: unknown): boolean {
  return Number.isInteger(at) && (at as number) >= 1 && (at as number) <= 0xffff
}

/** Records of the right form with anything in them. */
const record = fc.oneof(
  fc.anything(),
  fc.record({
    name: fc.oneof(fc.constant(SERVICE), fc.constant(`${'ab'.repeat(16)}.${SERVICE}`), fc.string()),
    type: fc.constantFrom('SRV', 'TXT', 'PTR', 'ANY', 'A'),
    data: fc.oneof(fc.anything(), fc.array(fc.uint8Array()), fc.record({ port: fc.anything() })),
  }),
)
const packet = fc.record({
  questions: fc.array(record, { maxLength: 80 }),
  answers: fc.array(record, { maxLength: 80 }),
  additionals: fc.array(record, { maxLength: 20 }),
})

/** As the decoder of the packets hands them over: lists of whatever was there. */
function asPacket(value: unknown): LanPacket {
  const lists = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >
  const listed = ['questions', 'answers', 'additionals'].filter((key) => Array.isArray(lists[key]))
  return Object.fromEntries(listed.map((key) => [key, lists[key]]))
}

const hintUrls = (all: readonly string[], max: number): void => {
  assert.ok(all.length <= max)
  for (const one of all) assert.ok(one.length <= 256 && URL.canParse(one) && /^wss?:/.test(one))
}

export const DISCOVERY_DECODERS: readonly AnyRow[] = [
  row<unknown, LanAnswer[]>({
    name: 'LAN answers',
    covers: ['discovery/lan-packet.ts#answersIn'],
    kind: 'json',
    values: lanAnswer.map((one) => [one]),
    encode: ([one]) => answerOf(SERVICE, one as LanAnswer),
    decode: always((value) => answersIn(asPacket(value), SERVICE)),
    sound: (answers) => {
      assert.ok(answers.length <= 64)
      for (const { nodeKey: key, port: at, dhtPort } of answers) {
        assert.match(key, /^[0-9a-f]{64}$/)
        assert.ok(isInRange(at) && (dhtPort === null || isInRange(dhtPort)))
      }
    },
    again: 'no',
    noise: packet,
  }),
  row<unknown, boolean>({
    name: 'LAN question',
    covers: ['discovery/lan-packet.ts#asksFor'],
    kind: 'json',
    values: fc.constant(true),
    encode: () => ({ questions: questionFor(SERVICE) }),
    decode: always((value) => asksFor(asPacket(value), SERVICE)),
    again: 'no',
    noise: packet,
  }),
  row<string, LiveRecord>({
    name: 'record of a live node',
    covers: ['discovery/local.ts#parseLiveRecord'],
    kind: 'text',
    inner: 'json',
    values: fc.record({
      service: fc.string(),
      nodeKey,
      urls: urls.map((all) => all.filter(isHintUrl)),
      dht: fc.option(endpoint),
    }),
    encode: encodeLiveRecord,
    decode: orNull(parseLiveRecord),
    sound: ({ urls: all }) => hintUrls(all, 16),
  }),
  row<Uint8Array, Introduction>({
    name: 'introduction on a stream',
    covers: ['discovery/dht-swarm.ts#parseIntroduction'],
    kind: 'bytes',
    inner: 'json',
    values: fc.record({ port, urls: urls.map((all) => all.filter(isHintUrl)) }),
    encode: encodeIntroduction,
    decode: orNull(parseIntroduction),
    sound: ({ port: at, urls: all }) => {
      assert.ok(isInRange(at))
      hintUrls(all, 8)
    },
  }),
  row<string, Endpoint>({
    name: 'endpoint',
    covers: ['discovery/addresses.ts#parseEndpoint'],
    kind: 'text',
    values: endpoint,
    encode: ({ host, port: at }) => `${host}:${at}`,
    decode: orNull(parseEndpoint),
    noise: fc
      .tuple(fc.domain(), fc.constantFrom(0, 65_535, 65_536, 69_999))
      .map((parts) => parts.join(':')),
    sound: ({ port: at }) => assert.ok(isInRange(at)),
  }),
  row<unknown, unknown>({
    name: 'address in a hint',
    covers: ['discovery/addresses.ts#isHintUrl'],
    kind: 'json',
    values: url.filter((text) => text.length <= 256),
    encode: (text) => text,
    decode: guard<unknown>(isHintUrl),
    sound: (text) => hintUrls([text as string], 1),
    noise: fc.webUrl({ validSchemes: ['ws', 'wss', 'http'] }),
  }),
  row<unknown, unknown>({
    name: 'port',
    covers: ['discovery/addresses.ts#isPort'],
    kind: 'json',
    values: port,
    encode: (value) => value,
    decode: guard<unknown>(isPort),
    sound: (value) => assert.ok(isInRange(value)),
    noise: fc.oneof(
      fc.double(),
      fc.integer(),
      fc.bigInt(),
      fc.constantFrom(0, 65_535, 65_536, 69_999),
    ),
  }),
  row<string, string>({
    name: 'IPv4 host',
    covers: ['discovery/addresses.ts#isHostIPv4'],
    kind: 'text',
    values: fc.ipV4().filter((host) => /^(?!0\.)([1-9]\d?|1\d\d|2[01]\d|22[0-3])\./.test(host)),
    encode: (host) => host,
    decode: guard(isHostIPv4),
    sound: (host) => assert.match(host, /^\d+\.\d+\.\d+\.\d+$/),
    noise: fc.oneof(fc.ipV4Extended(), fc.ipV6()),
  }),
]
