/** The grammar of topics and their derived keys. Known values are fixed here: another value is another cluster. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import {
  deriveTopic,
  inviteOf,
  parseTopic,
  randomTopic,
  type StretchCache,
  TopicError,
  tokenEquals,
} from '../../node/topic.ts'
import { openStretchCache } from '../../node/topic-cache.ts'

const KNOWN = 'rp1t6ib6gppeimmph5wrznui3i7uckuyyaekqo858k8xdfecewt3xijhausoo'
const CLUSTER = '0123456789abcdef0123456789abcdef'
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

function refused(text: string): TopicError {
  try {
    parseTopic(text)
  } catch (error) {
    assert.instance(error, TopicError)
    return error as TopicError
  }
  throw new Error(`${JSON.stringify(text)} was accepted`)
}

test('a random topic parses, and no two are equal', () => {
  const topic = randomTopic()
  assert.match(topic, /^rp1[ybndrfg8ejkmcpqxot1uwisza345h769]{58}$/)
  assert.equal(parseTopic(topic), { text: topic, isPhrase: false, clusterId: null })
  assert.is.not(topic, randomTopic())
})

test('every single mistyped character of a generated topic is refused with exit code 2', () => {
  for (let at = 3; at < KNOWN.length; at++) {
    const other = KNOWN[at] === 'y' ? 'b' : 'y'
    const error = refused(KNOWN.slice(0, at) + other + KNOWN.slice(at + 1))
    assert.is(error.code, 'usage')
    assert.match(error.message, /raft-p2p topic/)
  }
})

test('a missing or added character is refused; what starts with rp1 is never a phrase', () => {
  refused(KNOWN.slice(0, -1))
  refused(`${KNOWN}y`)
  refused('rp1')
  refused('rp1-rack')
  refused(KNOWN.replace('t', 'l'))
  refused(KNOWN.toUpperCase().slice(0, -1))
  refused('Rp1-rack')
})

test('the case of a generated topic does not matter', () => {
  assert.is(parseTopic(KNOWN.toUpperCase()).text, KNOWN)
})

test('an invite is the topic and the cluster id', () => {
  assert.equal(parseTopic(`${KNOWN}.${CLUSTER}`), {
    text: KNOWN,
    isPhrase: false,
    clusterId: CLUSTER,
  })
  assert.is(inviteOf(`${KNOWN}.${'f'.repeat(32)}`, CLUSTER), `${KNOWN}.${CLUSTER}`)
  assert.equal(parseTopic(`demo.${CLUSTER}`), { text: 'demo', isPhrase: true, clusterId: CLUSTER })
  assert.equal(parseTopic('demo.v2'), { text: 'demo.v2', isPhrase: true, clusterId: null })
  refused(`${KNOWN}x.${CLUSTER}`)
  refused(`demo.${CLUSTER}.${CLUSTER}`)
  refused(`${KNOWN}.${CLUSTER}.${CLUSTER}`)
})

test('a phrase has 1 to 128 bytes and is the same in both Unicode spellings', () => {
  refused('')
  refused('a'.repeat(129))
  refused('é'.repeat(65))
  assert.is(parseTopic('a'.repeat(128)).isPhrase, true)
  assert.is(parseTopic('cafe\u0301').text, parseTopic('caf\u00e9').text)
})

test('any text at all parses or is refused with a TopicError', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `rp1${text}`),
      ),
      (text) => {
        try {
          const parsed = parseTopic(text)
          assert.ok(parsed.text.length > 0)
        } catch (error) {
          assert.instance(error, TopicError)
        }
      },
    ),
    { numRuns: 2000 },
  )
})

test('the keys of a generated topic are fixed for ever', async () => {
  const derived = await deriveTopic(KNOWN)
  assert.is(
    hex(derived.discoveryKey),
    '176c7272afd8b5a2fac01edbf2cbaa0b8d5d8607f52b395646e968e4ec0b3370',
  )
  assert.is(
    hex(derived.linkCapability),
    '11d5cb8792091f0752c8ab5e8f438dd61a2ef153aa8ddd1ed919a8a2dcbd2051',
  )
  assert.is(derived.tokens('read', 0), 'CBBP-YnISsXmj8rV1Jz4_Mdnetw3h3ctetFK9qtsovE')
  assert.is(derived.masked, 'rp1t6ib...')
  assert.is(derived.isPhrase, false)
  const invited = await deriveTopic(`${KNOWN}.${CLUSTER}`)
  assert.equal(invited.discoveryKey, derived.discoveryKey)
})

test('the keys of a phrase are fixed for ever, and its mask does not show it', async () => {
  const derived = await deriveTopic('demo')
  assert.is(
    hex(derived.discoveryKey),
    'cc184d5d7092e0341f960de26d01d0c7ab40b645ba4c6a3f633e6514b62c540f',
  )
  assert.is(derived.masked, 'phrase-cc184d5d')
  assert.is(derived.isPhrase, true)
})

test('roles, epochs and topics all have tokens of their own', async () => {
  const derived = await Promise.all([KNOWN, randomTopic()].map((topic) => deriveTopic(topic)))
  const tokens = derived.flatMap((topic) =>
    (['read', 'write', 'admin'] as const).flatMap((role) => [
      topic.tokens(role, 0),
      topic.tokens(role, 1),
    ]),
  )
  assert.is(new Set(tokens).size, 12)
  for (const token of tokens) assert.match(token, /^[A-Za-z0-9_-]{43}$/)
  assert.is(tokenEquals(tokens[0] as string, tokens[0] as string), true)
  assert.is(tokenEquals(tokens[0] as string, tokens[1] as string), false)
  assert.is(tokenEquals('', tokens[1] as string), false)
})

test('a phrase is stretched once: the cache is asked first, and only for phrases', async () => {
  const asked: string[] = []
  const kept = new Map<string, Uint8Array>()
  const cache: StretchCache = {
    get: (phrase) => {
      asked.push(phrase)
      return kept.get(phrase) ?? null
    },
    set: (phrase, key) => void kept.set(phrase, key),
  }
  const fresh = await deriveTopic('once', { cache })
  const again = await deriveTopic('once', { cache })
  assert.equal(again.discoveryKey, fresh.discoveryKey)
  kept.set('once', new Uint8Array(32).fill(7))
  const planted = await deriveTopic('once', { cache })
  assert.not.equal(planted.discoveryKey, fresh.discoveryKey)
  await deriveTopic(KNOWN, { cache })
  assert.equal(asked, ['once', 'once', 'once'])
})

test('the cache is one 0600 file whose name tells nothing; a broken one costs time only', () => {
  const directory = mkdtempSync(join(tmpdir(), 'raft-p2p-topic-'))
  try {
    const cache = openStretchCache(nodeDisk, directory)
    const key = new Uint8Array(32).fill(3)
    assert.is(cache.get('demo'), null)
    cache.set('demo', key)
    assert.equal(cache.get('demo'), key)
    assert.is(cache.get('dem'), null)
    assert.equal(readdirSync(join(directory, 'raft-p2p')), ['stretched-topics.json'])
    const path = join(directory, 'raft-p2p', 'stretched-topics.json')
    assert.is(statSync(path).mode & 0o777, 0o600)
    for (let i = 0; i < 40; i++) cache.set(`phrase ${i}`, key)
    assert.is(JSON.parse(readFileSync(path, 'utf8')).length, 32)
    writeFileSync(path, '[[1,2],"x",')
    assert.is(cache.get('demo'), null)
    for (const odd of ['[["demo","zz"],[1]]', JSON.stringify([['demo', ['a'.repeat(64)]]])]) {
      writeFileSync(path, odd)
      assert.is(cache.get('demo'), null)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test.run()
