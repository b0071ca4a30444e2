/** What the operator is told while a cluster is founded. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { hashFounders, toHex } from '../../node/founding/record.ts'
import { Bench } from '../support/founding-bench.ts'
import {
  clusterId,
  disk,
  foundedRecord,
  known,
  offerAmong,
  record,
} from '../support/founding-lab.ts'

const a = disk(0)
const b = disk(1)
const c = disk(2)
const d = disk(3)
const abc = offerAmong([a, b, c], 1)

const notices = suite('what the operator is told')

notices('who is here and how many are missing, once', () => {
  const bench = new Bench(a)
  bench.wait(1_000)
  bench.meet(a, [b])
  bench.wait(5_000)
  assert.equal(bench.said('waiting'), [
    '1 of 3 founders are here: n1 (0101..). 2 more must join this topic.',
    '2 of 3 founders are here: n1 (0101..) and n2 (0202..). 1 more must join this topic.',
  ])
  assert.equal(bench.founding.status, { have: 2, need: 3, missing: [] })
})

notices('the founder that all wait for, by name, after 10 s', () => {
  const bench = new Bench(a, { record: record({ pledge: abc }) })
  bench.meet(a, [b], { record: record({ pledge: abc }) })
  bench.link(c)
  bench.wait(3_000)
  bench.founding.linkDown(c.nodeKey)
  bench.wait(6_900)
  assert.equal(bench.said('waiting-for-founder'), [])
  bench.wait(60_000)
  assert.equal(bench.said('waiting-for-founder'), [
    'Founding waits for n3 (0303.., last seen 7 s ago at ws://127.0.0.1:7702). n1 and n2 have promised to ' +
      'found 0000.. with it. Start n3 with its data directory. If that directory is lost: raft-p2p founding abandon',
  ])
  assert.equal(bench.founding.status, { have: 2, need: 3, missing: ['n3'] })
  bench.link(disk(2, 1))
  bench.wait(1_000)
  assert.match(bench.said('waiting-for-founder')[1] ?? '', /here now with another data directory/)
})

notices('the patience for a founder starts anew with a new pledge', () => {
  const bench = new Bench(b)
  bench.link(a)
  bench.hear(a, { record: record({ pledge: abc }) })
  bench.settle()
  bench.wait(8_000)
  bench.hear(a, { records: [known(a, { seq: 2, pledge: abc }), known(c, { floor: 1 })] })
  bench.settle()
  const next = offerAmong([a, b, c], 2)
  bench.hear(a, { record: record({ seq: 4, pledge: next }) })
  bench.settle()
  assert.equal(bench.founding.record.pledge, next)
  bench.wait(8_000)
  assert.equal(bench.said('waiting-for-founder'), [])
  bench.wait(3_000)
  assert.is(bench.said('waiting-for-founder').length, 1)
})

notices('which pair cannot connect', () => {
  const bench = new Bench(a)
  bench.link(b)
  bench.link(c)
  bench.hear(b, { linkedTo: [a.nodeKey] })
  bench.hear(c, { linkedTo: [a.nodeKey, b.nodeKey] })
  bench.wait(5_000)
  assert.match(bench.said('cannot-connect').join(), /: n2 \(0202..\) and n3 \(0303..\)\./)
  bench.hear(b, { linkedTo: [a.nodeKey, c.nodeKey] })
  bench.founding.discoverySwept(0)
  assert.ok(bench.untilSave(5_000))
})

notices('different --expect is an alarm, and never in one set', () => {
  const bench = new Bench(a)
  bench.meet(a, [b, c], { expect: 5 })
  bench.founding.discoverySwept(0)
  assert.is(bench.untilSave(20_000), null)
  const alarms = bench.notices.filter((notice) => notice.level === 'alarm')
  assert.equal(
    alarms.map((notice) => notice.kind),
    ['expect-differs'],
  )
  assert.match(alarms[0]?.text ?? '', /n2 \(0202..\) has --expect 5/)
})

notices('different --founders is an alarm; the same ones found, in spite of others', () => {
  const founders = [c.nodeKey, a.nodeKey, b.nodeKey]
  const bench = new Bench(a, { founders, expect: 9 })
  bench.meet(a, [b, c, d], { foundersHash: hashFounders(founders) })
  bench.meet(a, [d])
  bench.founding.discoverySwept(0)
  const offered = bench.untilSave(10_000)
  assert.match(offered?.save.pledge?.entry1 ?? '', new RegExp(toHex(Buffer.from(c.nodeKey))))
  assert.is(bench.said('founders-differ').length, 1)

  const without = new Bench(a)
  without.meet(a, [b, c], { foundersHash: hashFounders(founders) })
  without.founding.discoverySwept(0)
  assert.is(without.untilSave(20_000), null)
  assert.is(without.said('founders-differ').length, 1)
})

notices('two clusters, and an invitation to another one', () => {
  const both = new Bench(d)
  both.link(a, abc.clusterId)
  both.link(b, clusterId(9))
  both.hear(a, { record: foundedRecord(abc) })
  both.wait(2_000)
  assert.is(both.founding.record.bound, null)
  assert.is(both.said('two-clusters').length, 1)

  const guest = new Bench(d, { mayFound: false, inviteClusterId: clusterId(9) })
  guest.link(a, abc.clusterId)
  guest.hear(a, { record: foundedRecord(abc) })
  guest.wait(2_000)
  assert.is(guest.said('other-cluster').length, 1)
  assert.match(guest.said('waiting')[0] ?? '', /Waiting for a member of cluster 0+9/)
})

notices('settings that differ, a second node with this key, and names that move a cursor', () => {
  const bench = new Bench(a)
  const evil = { ...b, name: 'x\u001b[2Jy' }
  bench.link(evil)
  bench.hear(evil, { settings: { expect: 4 } })
  bench.founding.linkUp(a.nodeKey, { ...a, bootId: 'x', clusterId: null })
  bench.wait(1_000)
  assert.match(bench.said('settings-differ').join(), /x\?\[2Jy/)
  assert.is(bench.said('clone').length, 1)
})

notices.run()
