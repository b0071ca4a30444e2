/** What the rules of founding stand on: offers, their death, and who can be a set. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { firstClique, unlinkedPairs } from '../../node/founding/candidates.ts'
import { blankRecord, entry1Bytes, hashFounders, makeOffer } from '../../node/founding/record.ts'
import { boundRecord, isDead } from '../../node/founding/rules.ts'
import { decodeConfigurationRecord } from '../../node/raft/configuration.ts'
import {
  clusterId,
  disk,
  joinedRecord,
  known,
  offerAmong,
  record,
} from '../support/founding-lab.ts'

const a = disk(0)
const b = disk(1)
const c = disk(2)
const e = disk(4)
const abc = offerAmong([a, b, c], 1)

const holding = record({ floor: 3, pledge: abc })

const parts = suite('the parts of the rules')

parts('an offer carries the entry that every member writes', () => {
  const offer = makeOffer({
    round: 3,
    clusterId: clusterId(5),
    founders: [c, a, b],
    settings: { expect: 3 },
  })
  assert.is(offer.proposer, a.nodeKey)
  const entry = decodeConfigurationRecord(entry1Bytes(offer))
  assert.is(entry?.clusterId, clusterId(5))
  assert.equal(entry?.foundingSet, [a.nodeKey, b.nodeKey, c.nodeKey])
  assert.equal(entry?.configuration.voters, [1, 2, 3])
  assert.equal(entry?.configuration.members[1], { memberId: 2, ...b })
  assert.equal(entry?.settings, { expect: 3 })
})

parts('founding keeps the pledge and binds last', () => {
  const bound = boundRecord(holding)
  assert.equal(bound, {
    ...holding,
    seq: holding.seq + 1,
    bound: {
      clusterId: abc.clusterId,
      foundingSet: [a.nodeKey, b.nodeKey, c.nodeKey],
      how: 'founded',
    },
  })
  assert.throws(() => boundRecord(blankRecord))
  assert.throws(() => boundRecord(bound))
})

parts('an offer is dead for good: more evidence never revives it', () => {
  const refusal = known(b, { floor: 1 })
  assert.ok(isDead(abc, [refusal]))
  assert.ok(isDead(abc, [refusal, known(a, { pledge: abc }), known(c, { pledge: abc })]))
  assert.not(isDead(abc, [known(b, { seq: 0 })]))
  assert.not(isDead(abc, [{ ...e, record: joinedRecord(abc.clusterId, [a.nodeKey]) }]))
})

const crowdOf = (links: Record<string, string>) =>
  Object.entries(links).map(([nodeKey, others]) => ({ nodeKey, linkedTo: new Set(others) }))

parts('candidates are walked by key, each linked to all taken, both ways', () => {
  const full = crowdOf({ a: 'bcd', b: 'acd', c: 'abd', d: 'abc' })
  assert.equal(firstClique(full, 3), ['a', 'b', 'c'])
  assert.equal(firstClique(full, 1), ['a'])
  assert.is(firstClique(full, 5), null)
  assert.equal(firstClique(crowdOf({ a: 'bcd', b: 'ad', c: 'ad', d: 'abc' }), 3), ['a', 'b', 'd'])
  const oneWay = crowdOf({ a: 'bc', b: 'c', c: 'ab' })
  assert.is(firstClique(oneWay, 3), null)
  assert.equal(unlinkedPairs(oneWay, 3), [['a', 'b']])
})

parts('a low key that reaches too few does not stop the others', () => {
  const crowd = crowdOf({ a: 'b', b: 'acd', c: 'bd', d: 'bc' })
  assert.equal(firstClique(crowd, 3), ['b', 'c', 'd'])
})

parts('the walk ends among many that cannot connect', () => {
  const keys = Array.from({ length: 64 }, (_, i) => String.fromCharCode(40 + i))
  const half = (key: string, i: number) => keys.filter((other, j) => other !== key && (i + j) % 2)
  const crowd = keys.map((nodeKey, i) => ({ nodeKey, linkedTo: new Set(half(nodeKey, i)) }))
  assert.is(firstClique(crowd, 20), null)
})

parts('the hash of founders ignores order and tells sets apart', () => {
  assert.is(hashFounders([a.nodeKey, b.nodeKey]), hashFounders([b.nodeKey, a.nodeKey]))
  assert.is.not(hashFounders([a.nodeKey, b.nodeKey]), hashFounders([a.nodeKey, c.nodeKey]))
  assert.match(hashFounders([a.nodeKey]), /^[0-9a-f]{16}$/)
})

parts('a cluster starts at the feature level that all its founders support', () => {
  const founders = [disk(1), disk(2)]
  const proposal = { round: 1, clusterId: clusterId(5), founders, settings: {} }
  const levelOf = (featureLevel: number) =>
    decodeConfigurationRecord(entry1Bytes(makeOffer({ ...proposal, featureLevel })))?.featureLevel
  assert.is(levelOf(2), 2)
  assert.is(levelOf(1), undefined, 'what older versions wrote stays as it was')
})

parts.run()
