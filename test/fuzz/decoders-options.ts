/** The decoders of what an operator writes: durations, sizes, addresses, whole sets of options, and topics. */
import { writeFileSync } from 'node:fs'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { CommandError } from '../../node/commands/command.ts'
import { readTopicFile } from '../../node/commands/find-cluster.ts'
import {
  gatherOptions,
  type HostPort,
  JOIN_FLAGS,
  type NodeOptions,
  parseBytes,
  parseDurationMs,
  parseHostPort,
  parseNodeUrl,
  printableConfig,
  resolveOptions,
  UsageError,
} from '../../node/config.ts'
import { type ParsedTopic, parseTopic, randomTopic, TopicError } from '../../node/topic.ts'
import { temporaryDirectory } from '../support/storage.ts'
import { clusterId, nodeKey, url } from './arbitraries.ts'
import { anyText } from './mutations.ts'
import { type AnyRow, orNull, row, throwing } from './rows.ts'

const CONFIG = 'node/config.ts'
const AROUND = { topic: 'demo', isPhrase: true, isTty: false }

// --- single values ----------------------------------------------------------------------------------------------------

const number = fc.oneof(fc.nat(5000).map(String), fc.double({ min: 0, noNaN: true }).map(String))
const quantity = fc
  .tuple(
    number,
    fc.constantFrom('', ' ', '  '),
    fc.constantFrom('', 'ms', 's', 'm', 'h', 'B', 'KiB', 'gib'),
  )
  .map((parts) => parts.join(''))

const VALUES: readonly AnyRow[] = [
  row<string, number>({
    name: 'duration',
    covers: [`${CONFIG}#parseDurationMs`],
    kind: 'text',
    values: fc.oneof(fc.nat(), fc.maxSafeNat()),
    encode: (ms) => `${ms}ms`,
    decode: orNull(parseDurationMs),
    sound: (ms) => assert.ok(Number.isSafeInteger(ms) && ms >= 0),
    noise: quantity,
  }),
  row<string, number>({
    name: 'size in bytes',
    covers: [`${CONFIG}#parseBytes`],
    kind: 'text',
    values: fc.maxSafeNat(),
    encode: String,
    decode: orNull(parseBytes),
    sound: (size) => assert.ok(Number.isSafeInteger(size) && size >= 0),
    noise: quantity,
  }),
  row<string, HostPort>({
    name: 'host and port',
    covers: [`${CONFIG}#parseHostPort`],
    kind: 'text',
    values: fc.record({
      host: fc.oneof(
        fc.ipV4(),
        fc.domain(),
        fc.ipV6().filter((host) => !/%/.test(host)),
      ),
      port: fc.nat(65_535),
    }),
    encode: ({ host, port }) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`),
    decode: orNull((text) => parseHostPort(text, null)),
    sound: ({ host, port }) => assert.ok(host !== '' && port >= 0 && port <= 65_535),
    noise: fc
      .array(
        fc.constantFrom(
          '[',
          ']',
          ':',
          '::1',
          '7',
          '70000',
          'h',
          '.',
          ' ',
          '/',
          'h:65536',
          ':70000',
        ),
        {
          maxLength: 8,
        },
      )
      .map((parts) => parts.join('')),
    // A bracketed word without a colon is read as a name, which is written without brackets.
  }),
  row<string, string>({
    name: 'address of a node',
    covers: [`${CONFIG}#parseNodeUrl`],
    kind: 'text',
    values: url.map((text) => parseNodeUrl(text) as string),
    encode: (text) => text,
    decode: orNull(parseNodeUrl),
    sound: (text) => assert.match(text, /^wss?:\/\/[^/?#@]+(\/[^?#]*[^/?#])?$/),
    noise: fc.webUrl({
      validSchemes: ['ws', 'wss', 'http', 'https', 'ftp', 'javascript'],
      withFragments: true,
      withQueryParameters: true,
      authoritySettings: { withPort: true, withUserInfo: true, withIPv6: true },
    }),
  }),
]

// --- whole sets of options ------------------------------------------------------------------------------------------------

/** What somebody could write for any flag, right or wrong. */
const flagText = fc.oneof(
  fc.constantFrom(
    '',
    'true',
    'no',
    'on',
    'private',
    'off',
    'auto',
    'approve',
    'json',
    'debug',
    'x',
  ),
  fc.constantFrom('0', '1', '3', '31', '32', '-1', '1.5', '1e3', '99999999999999999999', '7700'),
  fc.constantFrom('10ms', '1s', '2m', '1h', '64KiB', '1GiB', ' 3 ', '127.0.0.1:1', ':0', '[::]:7'),
  fc.constantFrom('ws://h', 'wss://h/a/,http://g', 'ws://u@h', ','),
  nodeKey,
  fc.array(nodeKey, { minLength: 1, maxLength: 3 }).map((keys) => keys.join(',')),
  anyText,
)
const FLAGS = JOIN_FLAGS.map(({ flag }) => flag)
const flags = fc.dictionary(fc.constantFrom(...FLAGS), fc.oneof(flagText, flagText, fc.boolean()), {
  maxKeys: 4,
  noNullPrototype: true,
})

/** Options as the file of `--config` would hold them: of all that is known, what was not left to its default. */
function fileOf(options: NodeOptions): string {
  const { topic: _, ...written } = printableConfig(options, '')
  const lists = (value: unknown): unknown =>
    Array.isArray(value) && value.length === 0 ? undefined : value
  const entries = Object.entries(written).map(([flag, value]) => [flag, lists(value)])
  return JSON.stringify(Object.fromEntries(entries))
}

const options = (text: string): NodeOptions =>
  resolveOptions(gatherOptions({ flags: {}, env: {}, file: { path: 'file', text } }), AROUND)

/** Any valid set, as somebody could have written it. */
const optionSet: fc.Arbitrary<NodeOptions> = fc
  .record({
    expect: fc.integer({ min: 1, max: 5 }),
    voters: fc.integer({ min: 5, max: 31 }),
    listen: fc.tuple(fc.ipV4(), fc.nat(65_535)).map((parts) => parts.join(':')),
    peer: fc.array(
      url.filter((text) => !text.includes(',')),
      { maxLength: 3 },
    ),
    heartbeat: fc.integer({ min: 10, max: 1000 }),
    name: fc.option(fc.constantFrom('n', 'a node', '\u00e4-1')),
    lan: fc.boolean(),
  })
  .map(({ expect, voters, listen, peer, heartbeat, name, lan }) =>
    options(
      JSON.stringify({
        expect,
        'max-voters': voters,
        listen,
        peer,
        heartbeat,
        election: `${heartbeat * 5}ms`,
        ...(name === null ? {} : { name }),
        'no-lan': lan,
      }),
    ),
  )

function optionsAreSound(made: NodeOptions): void {
  assert.ok(made.expect >= 1 && made.expect <= made.maxVoters && made.maxVoters <= 31)
  assert.ok(made.electionMs >= 3 * made.heartbeatMs && made.heartbeatMs >= 10)
  assert.ok(made.founders.length === 0 || made.founders.length === made.expect)
  assert.equal(made.founders, [...new Set(made.founders)].sort())
  for (const value of Object.values(made)) {
    if (typeof value === 'number') assert.ok(Number.isSafeInteger(value) && value >= 0)
  }
}

const SETS: readonly AnyRow[] = [
  row<string, NodeOptions>({
    name: 'options in a file',
    covers: [`${CONFIG}#gatherOptions`, `${CONFIG}#resolveOptions`],
    kind: 'text',
    inner: 'json',
    values: optionSet,
    encode: fileOf,
    decode: throwing(options, UsageError),
    // Which of them were written down is not part of their meaning.
    shown: ({ explicit: _, ...rest }) => rest,
    sound: optionsAreSound,
    noise: flags.map((all) => JSON.stringify(all)),
    weightMax: 1024,
  }),
  row<unknown, NodeOptions>({
    name: 'options in flags and environment',
    covers: [`${CONFIG}#gatherOptions`, `${CONFIG}#resolveOptions`],
    kind: 'json',
    values: optionSet,
    encode: (made) => ({ flags: JSON.parse(fileOf(made)), env: {} }),
    decode: throwing((given) => {
      const { flags: typed, env } = (given ?? {}) as { flags?: unknown; env?: unknown }
      const sources = { flags: plain(typed), env: texts(env) }
      return resolveOptions(gatherOptions(sources), AROUND)
    }, UsageError),
    shown: ({ explicit: _, ...rest }) => rest,
    sound: optionsAreSound,
    noise: fc.record({
      flags,
      env: fc.dictionary(
        fc.constantFrom(
          ...FLAGS.map((flag) => `RAFT_P2P_${flag.toUpperCase().replaceAll('-', '_')}`),
        ),
        flagText,
        { maxKeys: 3, noNullPrototype: true },
      ),
    }),
    weightMax: 1024,
  }),
]

function plain(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

/** An environment holds texts. */
function texts(value: unknown): Record<string, string> {
  const entries = Object.entries(plain(value)).filter(([, one]) => typeof one === 'string')
  return Object.fromEntries(entries) as Record<string, string>
}

// --- topics -----------------------------------------------------------------------------------------------------------------

const generated = fc
  .array(fc.constantFrom(...'ybndrfg8ejkmcpqxot1uwisza345h769'), { minLength: 58, maxLength: 58 })
  .map((chars) => `rp1${chars.join('')}`)

const TOPICS: readonly AnyRow[] = [
  row<string, ParsedTopic>({
    name: 'topic',
    covers: ['node/topic.ts#parseTopic'],
    kind: 'text',
    values: fc
      .record({
        text: fc.oneof(
          fc.constantFrom(...Array.from({ length: 8 }, randomTopic)),
          fc.constant('demo'),
        ),
        invite: fc.option(clusterId),
      })
      .map(({ text, invite }) => ({ text, isPhrase: text === 'demo', clusterId: invite })),
    encode: ({ text, clusterId: id }) => (id === null ? text : `${text}.${id}`),
    decode: throwing(parseTopic, TopicError),
    sound: ({ text, isPhrase, clusterId: id }) => {
      assert.ok(Buffer.byteLength(text) >= 1 && Buffer.byteLength(text) <= 128)
      assert.is(isPhrase, !text.startsWith('rp1'))
      assert.ok(id === null || /^[0-9a-f]{32}$/.test(id))
    },
    noise: fc.oneof(
      generated,
      fc.tuple(anyText, clusterId).map(([text, id]) => `${text}.${id}`),
      fc.constant('').map(randomTopic),
    ),
  }),
]

const TOPIC_FILE = `${temporaryDirectory()}/topic`

const TOPIC_FILES: readonly AnyRow[] = [
  row<Uint8Array, string>({
    name: 'topic in a file',
    covers: ['node/commands/find-cluster.ts#readTopicFile'],
    kind: 'bytes',
    values: fc.string({ unit: 'binary' }).filter((text) => text.trim() === text && text !== ''),
    encode: (text) => new TextEncoder().encode(`${text}\n`),
    decode: throwing((input) => {
      writeFileSync(TOPIC_FILE, input)
      return readTopicFile(TOPIC_FILE)
    }, CommandError),
    sound: (text) => assert.ok(text !== '' && text.trim() === text),
  }),
]

export const OPTION_DECODERS: readonly AnyRow[] = [...VALUES, ...SETS, ...TOPICS, ...TOPIC_FILES]
