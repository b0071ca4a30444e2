/** What strangers may send as a founding message: everything that is not exactly right is refused, without a throw. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  blankRecord,
  entry1Bytes,
  parseFoundingMessage,
  parseFoundingRecord,
} from '../../node/founding/record.ts'
import {
  clusterId,
  disk,
  foundedRecord,
  messageFrom,
  offerAmong,
  record,
} from '../support/founding-lab.ts'

const a = disk(0)
const b = disk(1)
const c = disk(2)
const d = disk(3)
const e = disk(4)
const abc = offerAmong([a, b, c], 1)
const holding = record({ floor: 3, pledge: abc })
const elsewhere = foundedRecord(offerAmong([c, d, e], 1, 50))

const parsing = suite('founding messages from strangers')

const message = messageFrom(a, { record: holding, linkedTo: [b.nodeKey] })
const copy = () => JSON.parse(JSON.stringify(message))

parsing('a message survives JSON', () => {
  assert.equal(parseFoundingMessage(copy()), message)
  assert.equal(parseFoundingRecord(JSON.parse(JSON.stringify(elsewhere))), elsewhere)
  assert.equal(parseFoundingRecord(JSON.parse(JSON.stringify(blankRecord))), blankRecord)
})

const spoil: Record<string, (m: ReturnType<typeof copy>) => void> = {
  'no records': (m) => (m.records = []),
  'too many records': (m) => (m.records = Array(65).fill(m.records[0])),
  'the first record is not of the sender': (m) => (m.records[0].nodeKey = b.nodeKey),
  'the first record is of another disk': (m) => (m.records[0].storageId = b.storageId),
  'a key in capitals': (m) => (m.self.nodeKey = m.self.nodeKey.replace('0', 'F')),
  'a huge name': (m) => (m.self.name = 'x'.repeat(65)),
  'too many addresses': (m) => (m.self.urls = Array(17).fill('ws://x')),
  'a huge address': (m) => (m.self.urls = ['x'.repeat(513)]),
  'expect 0': (m) => (m.expect = 0),
  'expect 3.5': (m) => (m.expect = 3.5),
  'mayFound as text': (m) => (m.mayFound = 'yes'),
  'a link to nobody': (m) => (m.linkedTo = ['']),
  'too many links': (m) => (m.linkedTo = Array(257).fill(a.nodeKey)),
  'a strange boot': (m) => (m.bootId = 'x'),
  'a strange hash': (m) => (m.foundersHash = 'x'),
  'a nested setting': (m) => (m.settings = { a: {} }),
  'a negative seq': (m) => (m.records[0].record.seq = -1),
  'a floor above u32': (m) => (m.records[0].record.floor = 2 ** 32),
  'a pledge above its floor': (m) => (m.records[0].record.floor = 0),
  'round 0': (m) => (m.records[0].record.pledge.round = 0),
  'an entry that is no hex': (m) => (m.records[0].record.pledge.entry1 = 'zz'),
  'an entry cut short': (m) => (m.records[0].record.pledge.entry1 = abc.entry1.slice(0, -2)),
  'an entry of another cluster': (m) => (m.records[0].record.pledge.clusterId = clusterId(77)),
  'a proposer that is not the lowest': (m) => (m.records[0].record.pledge.proposer = b.nodeKey),
  'a huge entry': (m) => (m.records[0].record.pledge.entry1 = '00'.repeat(70_000)),
  'founded without the pledge': (m) => {
    m.records[0].record.bound = { clusterId: clusterId(9), foundingSet: [], how: 'founded' }
  },
  'bound in a way that is none': (m) => {
    m.records[0].record.bound = { clusterId: clusterId(9), foundingSet: [], how: 'dreamt' }
  },
}

for (const [name, change] of Object.entries(spoil)) {
  parsing(`refuses ${name}`, () => {
    const spoilt = copy()
    change(spoilt)
    assert.is(parseFoundingMessage(spoilt), null)
  })
}

parsing('refuses an entry whose configuration is not exactly S', () => {
  const text = new TextDecoder().decode(entry1Bytes(abc))
  for (const [from, to] of [
    ['"voters":[1,2,3]', '"voters":[1,2]'],
    ['"voters":[1,2,3]', '"voters":[3,2,1]'],
    ['"learners":[]', '"learners":[3]'],
    ['"nextMemberId":4', '"nextMemberId":9'],
    [`"foundingSet":["${a.nodeKey}",`, '"foundingSet":['],
  ] as const) {
    assert.ok(text.includes(from), from)
    const entry1 = Buffer.from(text.replace(from, to)).toString('hex')
    assert.is(parseFoundingRecord({ ...holding, pledge: { ...abc, entry1 } }), null, to)
  }
})

parsing('refuses every other shape of value without throwing', () => {
  for (const value of [null, undefined, 0, '', 'x', [], {}, [message], { records: {} }, true]) {
    assert.is(parseFoundingMessage(value), null)
    assert.is(parseFoundingRecord(value), null)
  }
  const paths = Object.keys(message) as (keyof typeof message)[]
  for (const path of paths) {
    for (const value of [null, 7, 'x', [], {}, [[]], [{}], undefined]) {
      const parsed = parseFoundingMessage({ ...copy(), [path]: value })
      const harmless = ['foundersHash', 'linkedTo', 'settings'].includes(path)
      if (!harmless && !(path === 'expect' && value === 7)) assert.is(parsed, null, path)
    }
  }
})

parsing.run()
