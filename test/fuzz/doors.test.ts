/**
 * From one door to the next: what the first decoder lets in is stored, sent or decoded again by a second one, which must take it too.
 * Each of them is tested by itself elsewhere; here their limits have to agree.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { gatherOptions, parseNodeUrl, resolveOptions } from '../../node/config.ts'
import { founderOf, makeOffer, parseFoundingRecord } from '../../node/founding/record.ts'
import { openIdentity, readIdentity } from '../../node/storage/identity.ts'
import { parseTopic, TopicError } from '../../node/topic.ts'
import { decodeHello, encodeHello, peerUrl } from '../../node/transport/hello.ts'
import { clusterId, url } from './arbitraries.ts'
import { MemoryDisk } from './memory-disk.ts'
import { anyText } from './mutations.ts'
import { holds } from './runs.ts'

const RUNS = 500
const SELF = { nodeKey: '1'.repeat(64), storageId: '2'.repeat(32) }

const doors = suite('from one door to the next')

/** `--name` as the options give it, or null when they refuse it. */
function nameOf(text: string): string | null {
  try {
    const given = gatherOptions({ flags: { name: text }, env: {} })
    return resolveOptions(given, { topic: 'demo', isPhrase: true, isTty: false }).name
  } catch {
    return null
  }
}

function stored(name: string): string | undefined {
  const disk = new MemoryDisk()
  openIdentity(disk, '/d', {
    makeKeyPair: () => ({
      publicKey: new Uint8Array(32),
      secretKey: new Uint8Array(64),
    }),
    name,
  })
  return readIdentity(disk, '/d')?.name
}

function greeted(name: string, urls: readonly string[]): ReturnType<typeof decodeHello> {
  const rest = { bootId: '3'.repeat(16), bootCounter: 1, clusterId: null, featureLevel: 1 }
  return decodeHello(encodeHello({ ...SELF, ...rest, name, urls }), SELF.nodeKey)
}

const nameText = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 64, size: 'max' }),
  fc
    .array(fc.constantFrom('a', ' ', '-', '\u00e9', '\u{1f600}', '\u4e2d', '\u202e'), {
      maxLength: 66,
    })
    .map((parts) => parts.join('')),
)

doors('a name that --name takes is stored, told in a hello, and founded with', () => {
  holds(
    fc.property(nameText, (text) => {
      const name = nameOf(text)
      if (name === null) return
      assert.is(stored(name), name)
      assert.is(greeted(name, [])?.name, name)
      const founder = founderOf(SELF, { name, urls: [] })
      assert.is(founder.name, name)
      const pledge = makeOffer({
        round: 1,
        clusterId: '4'.repeat(32),
        founders: [founder],
        settings: {},
      })
      assert.ok(parseFoundingRecord({ seq: 1, floor: 1, pledge, bound: null }) !== null)
    }),
    RUNS,
  )
})

doors('a name is as long as everybody else counts it', () => {
  assert.is(nameOf('\u{1f600}'.repeat(33)), null)
  assert.is(nameOf('\u{1f600}'.repeat(32))?.length, 64)
})

const longUrl = fc
  .tuple(url, fc.nat(700))
  .map(([text, length]) => `${text.replace(/\/+$/, '')}/${'a'.repeat(length)}`)

doors('an address that --advertise takes is told in a hello', () => {
  holds(
    fc.property(fc.oneof(url, longUrl), (text) => {
      const advertised = parseNodeUrl(text)
      if (advertised === null) return
      assert.equal(greeted('n', [advertised])?.urls, [advertised])
    }),
    RUNS,
  )
})

doors('an address of more than 512 characters is refused where it is typed', () => {
  assert.is(parseNodeUrl(`ws://h/${'a'.repeat(600)}`), null)
  assert.is(parseNodeUrl(`ws://h/${'\u20ac'.repeat(100)}`), null, 'its normal form is longer')
})

doors('the normal form of an address is its own normal form', () => {
  holds(
    fc.property(fc.oneof(url, longUrl, fc.webUrl({ validSchemes: ['ws', 'wss'] })), (text) => {
      const normal = peerUrl(text)
      if (normal === null) return
      assert.ok(normal.length <= 512)
      assert.is(peerUrl(normal), normal)
    }),
    RUNS,
  )
})

doors('a hint whose normal form no peer would take is none', () => {
  assert.is(peerUrl(`ws://h/${'\u20ac'.repeat(100)}`), null)
})

function topicOf(text: string): string | null {
  try {
    return parseTopic(text).text
  } catch (error) {
    if (error instanceof TopicError) return null
    throw error
  }
}

const invited = fc
  .tuple(anyText, fc.array(clusterId, { maxLength: 2 }))
  .map(([text, ids]) => [text, ...ids].join('.'))

doors('a topic without its invitation is itself a topic, and the same', () => {
  holds(
    fc.property(invited, (text) => {
      const topic = topicOf(text)
      if (topic !== null) assert.is(topicOf(topic), topic)
    }),
    RUNS,
  )
})

doors('a topic with two invitations is none: it would be another one each time it is read', () => {
  const [first, second] = ['a'.repeat(32), 'b'.repeat(32)]
  assert.is(topicOf(`demo.${first}.${second}`), null)
  assert.is(topicOf(`demo.${first}`), 'demo')
})

doors.run()
