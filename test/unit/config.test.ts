/** Options of `join`: who wins, what each accepts, what is refused and how the refusal calls it. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  envNameOf,
  gatherOptions,
  JOIN_FLAGS,
  LIMITS,
  type NodeOptions,
  overruledFlags,
  parseBytes,
  parseDurationMs,
  parseHostPort,
  parseNodeUrl,
  printableConfig,
  resolveOptions,
  seedSettings,
  tickMsFor,
  UsageError,
} from '../../node/config.ts'

interface Case {
  flags?: Record<string, unknown>
  env?: Record<string, string>
  file?: unknown
  isPhrase?: boolean
}

const KEYS = ['c', 'a', 'b'].map((digit) => digit.repeat(64))

function options({ flags = {}, env = {}, file, isPhrase = false }: Case = {}): NodeOptions {
  const text = typeof file === 'string' ? file : JSON.stringify(file)
  const source = file === undefined ? null : { path: 'node.json', text }
  const given = gatherOptions({ flags, env, file: source })
  return resolveOptions(given, { topic: 'secret-topic', isPhrase, isTty: true })
}

function refusal(wrong: Case): string {
  try {
    options(wrong)
  } catch (error) {
    assert.instance(error, UsageError)
    return (error as UsageError).message
  }
  throw new Error(`${JSON.stringify(wrong)} was accepted`)
}

test('the defaults are those of CONTRACT', () => {
  const plain = options()
  assert.is(plain.expect, 3)
  assert.is(plain.maxVoters, 5)
  assert.is(plain.replaceAfterMs, 600_000)
  assert.equal(plain.listen, { host: '0.0.0.0', port: 7700 })
  assert.is(plain.heartbeatMs, 100)
  assert.is(plain.electionMs, 1000)
  assert.is(plain.maxStateBytes, 2 ** 30)
  assert.is(plain.maxKeyBytes, 1024)
  assert.is(plain.maxValueBytes, 2 ** 20)
  assert.is(plain.maxClients, 10_000)
  assert.is(plain.lan && plain.local, true)
  assert.is(plain.explicit.size, 0)
})

test('flag over environment over file', () => {
  const file = { expect: 5, name: 'file', 'max-voters': 7 }
  const env = { RAFT_P2P_EXPECT: '4', RAFT_P2P_NAME: 'env' }
  const merged = options({ flags: { expect: '1' }, env, file })
  assert.is(merged.expect, 1)
  assert.is(merged.name, 'env')
  assert.is(merged.maxVoters, 7)
  assert.equal([...merged.explicit].sort(), ['expect', 'max-voters', 'name'])
})

test('every flag is an environment variable and a key of the file', () => {
  const accepted: Record<string, string> = {
    founders: KEYS.join(','),
    expect: '3',
    'max-voters': '9',
    'replace-after': '1h',
    admit: 'approve',
    listen: '127.0.0.1:0',
    advertise: 'wss://a.example/x',
    'tls-cert': 'c.pem',
    'tls-key': 'k.pem',
    dht: 'private',
    bootstrap: '127.0.0.1:1,127.0.0.1:2',
    'dht-port': '4000',
    peer: 'ws://a:1,b:2',
    heartbeat: '50',
    election: '500ms',
    'snapshot-entries': '1000',
    'max-state': '64MiB',
    'max-key': '100',
    'max-value': '1KiB',
    'max-clients': '10',
    log: 'json',
    'log-level': 'debug',
  }
  const exclusive = ['machine-exec']
  const entries = JOIN_FLAGS.filter(({ flag }) => !exclusive.includes(flag)).map(
    ({ flag, takes }) => [flag, accepted[flag] ?? (takes === null ? 'true' : 'text')] as const,
  )
  const byEnv = options({
    env: Object.fromEntries(entries.map(([flag, text]) => [envNameOf(flag), text])),
  })
  const byFile = options({ file: Object.fromEntries(entries) })
  const byFlag = options({ flags: Object.fromEntries(entries) })
  assert.equal(byFile, byEnv)
  assert.equal(byFlag, byEnv)
  assert.equal(byEnv.founders, [...KEYS].sort())
  assert.equal(byEnv.bootstrap, [
    { host: '127.0.0.1', port: 1 },
    { host: '127.0.0.1', port: 2 },
  ])
  assert.equal(byEnv.peers, ['ws://a:1', 'ws://b:2'])
  assert.is(byEnv.lan || byEnv.local, false)
  assert.is(byEnv.requireToken && byEnv.repl, true)
  const printed = printableConfig(byEnv, 'rp1abcd...')
  const named = JOIN_FLAGS.map(({ flag }) => flag)
  assert.equal(Object.keys(printed).sort(), ['topic', ...named].sort())
})

test('a printed configuration can be used as a file, and shows no topic', () => {
  const first = options({ flags: { listen: '[::1]:80', 'no-lan': true, heartbeat: '80ms' } })
  const printed = printableConfig(first, 'rp1abcd...')
  assert.not.match(JSON.stringify(printed), 'secret-topic')
  const { topic, ...file } = printed
  assert.is(topic, 'rp1abcd...')
  const second = options({ file: JSON.parse(JSON.stringify(file)) })
  assert.equal({ ...second, explicit: null }, { ...first, explicit: null })
})

test('an empty variable counts as not set', () => {
  assert.is(options({ env: { RAFT_P2P_EXPECT: '' } }).expect, 3)
})

test('a refusal calls the option as it was written', () => {
  assert.match(
    refusal({ flags: { expect: 'x' } }),
    '--expect takes a whole number from 1 to 31, not "x"',
  )
  assert.match(
    refusal({ env: { RAFT_P2P_HEARTBEAT: '1d' } }),
    'RAFT_P2P_HEARTBEAT takes a duration',
  )
  assert.match(refusal({ file: { dht: 'maybe' } }), '"dht" in node.json takes private, public, off')
  assert.match(refusal({ file: { maxVoters: 3 } }), 'did you mean "max-voters"?')
  assert.match(refusal({ file: { expect: { a: 1 } } }), '"expect" in node.json must be')
  assert.match(refusal({ file: '{' }), '--config node.json is not JSON')
  assert.match(refusal({ file: [] }), 'one JSON object')
})

test('values out of range or malformed are refused', () => {
  const wrong: Record<string, string[]> = {
    expect: ['0', '32', '1.5', '-1', '1e1', ''],
    heartbeat: ['0', '9ms', '2 weeks', '61s'],
    listen: ['host', 'a b:1', '1.2.3.4:70000', '::1:7700', 'http://x:1'],
    founders: ['abc', `${KEYS[0]},`],
    peer: ['ftp://x', 'ws://', 'ws://user:pw@x:1', 'ws://x:1?a=b'],
    bootstrap: ['10.0.0.1', ':4000'],
    'dht-port': ['0', 'x'],
    'max-state': ['1', '1GB', '-5'],
    'no-lan': ['maybe'],
    name: ['a\nb', ' ', 'x'.repeat(65), '\u001b[2J'],
    'log-level': ['trace'],
  }
  for (const [flag, texts] of Object.entries(wrong)) {
    for (const text of texts) assert.match(refusal({ flags: { [flag]: text } }), `--${flag}`)
  }
})

test('options that contradict each other are refused', () => {
  assert.match(refusal({ flags: { election: '250ms' } }), 'three heartbeats')
  assert.match(refusal({ flags: { 'tls-cert': 'c' } }), '--tls-cert and --tls-key')
  assert.match(refusal({ flags: { machine: 'a', 'machine-exec': 'b' } }), 'exclude each other')
  assert.match(refusal({ flags: { founders: KEYS.join(), expect: '2' } }), 'names 3 nodes')
  assert.match(refusal({ flags: { expect: '5', 'max-voters': '3' } }), 'less than the 5 founders')
  assert.match(refusal({ flags: { bootstrap: '10.0.0.1:1', dht: 'public' } }), 'private DHT')
})

test('founders say how many are expected, and more founders raise the voters', () => {
  assert.is(options({ flags: { founders: KEYS.slice(0, 2).join(',') } }).expect, 2)
  assert.is(options({ flags: { expect: '7' } }).maxVoters, 7)
})

test('the DHT is public for a generated topic only', () => {
  assert.is(options().dht, 'public')
  assert.is(options({ isPhrase: true }).dht, 'private')
  assert.is(options({ isPhrase: true, flags: { dht: 'public' } }).dht, 'public')
  assert.is(options({ flags: { bootstrap: '10.0.0.1:1' } }).dht, 'private')
  assert.is(options({ env: { RAFT_P2P_DHT: 'private' } }).dht, 'private')
})

test('durations, sizes and addresses', () => {
  assert.equal(
    ['250', '250ms', '1.5s', '10m', '2h', '1 s', 's', '-1', '1e3', '0x10'].map(parseDurationMs),
    [250, 250, 1500, 600_000, 7_200_000, null, null, null, null, null],
  )
  assert.equal(['1', '1KiB', '1.5MiB', '2gib', '1KB', '0.3', 'KiB'].map(parseBytes), [
    1,
    1024,
    1_572_864,
    2 ** 31,
    null,
    null,
    null,
  ])
  assert.equal(parseHostPort('[::1]:0', null), { host: '::1', port: 0 })
  assert.equal(parseHostPort(':80', 'any'), { host: 'any', port: 80 })
  assert.equal(parseHostPort('80', 'any'), { host: 'any', port: 80 })
  assert.is(parseNodeUrl('localhost:7700'), 'ws://localhost:7700')
  assert.is(parseNodeUrl('https://a.example/p/'), 'wss://a.example/p')
})

test('no text makes a parser throw or return something out of range', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const ms = parseDurationMs(text)
      const bytes = parseBytes(text)
      assert.ok(ms === null || (Number.isSafeInteger(ms) && ms >= 0))
      assert.ok(bytes === null || (Number.isSafeInteger(bytes) && bytes >= 0))
      const address = parseHostPort(text, null)
      assert.ok(address === null || (address.port >= 0 && address.port <= 65_535))
      const url = parseNodeUrl(text)
      assert.ok(url === null || /^wss?:\/\/./.test(url))
    }),
    { numRuns: 3000 },
  )
})

test('what only seeds the replicated settings is named when the cluster overrules it', () => {
  const mine = options({ flags: { expect: '3', heartbeat: '50ms' } })
  const settings = { ...seedSettings(options()), expect: 3 }
  assert.equal(overruledFlags(mine, settings), [
    '--heartbeat 50 is ignored: the cluster has it at 100; see: raft-p2p config',
  ])
  assert.equal(overruledFlags(options(), { heartbeatMs: 50 }), [])
})

test('timeouts are whole ticks, at least one', () => {
  assert.is(tickMsFor(1), LIMITS.tickMsMin)
  assert.is(tickMsFor(50), 50)
  assert.is(tickMsFor(1000), LIMITS.tickMsMax)
})

test.run()
