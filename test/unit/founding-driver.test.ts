/** The class around the rules: time (F9, F10), saves before messages, the bound role, and what the operator is told. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { foundersOf, toHex } from '../../node/founding/record.ts'
import { Bench } from '../support/founding-bench.ts'
import {
  clusterId,
  disk,
  foundedRecord,
  joinedRecord,
  known,
  messageFrom,
  offerAmong,
  record,
} from '../support/founding-lab.ts'

const a = disk(0)
const b = disk(1)
const c = disk(2)
const d = disk(3)
const abc = offerAmong([a, b, c], 1)

const time = suite('F9 and F10: what time allows')

time('an offer waits for 2 s without change, and for the sweep', () => {
  const bench = new Bench(a)
  bench.founding.discoverySwept(0)
  bench.meet(a, [b, c])
  const offered = bench.untilSave(60_000)
  assert.is(offered?.ms, 2_000)
  assert.is(offered?.save.pledge?.round, 1)
  assert.is(offered?.save.pledge?.proposer, a.nodeKey)
})

time('a peer that holds a dead pledge is passed over', () => {
  const bench = new Bench(a)
  const dead = offerAmong([c, disk(4)], 1, 60)
  bench.founding.discoverySwept(0)
  bench.meet(a, [b, c, d])
  const everybody = [a, b, c, d].map((peer) => peer.nodeKey)
  bench.hear(c, {
    records: [known(c, { pledge: dead }), known(disk(4), { floor: 1 })],
    linkedTo: everybody,
  })
  const { pledge } = bench.untilSave(5_000)?.save ?? {}
  assert.equal(pledge && foundersOf(pledge).map((founder) => founder.name), ['n1', 'n2', 'n4'])
})

time('a newly heard-of node restarts the 2 s, linked or not', () => {
  for (const surprise of ['link', 'record', 'linkedTo'] as const) {
    const bench = new Bench(a)
    bench.founding.discoverySwept(0)
    bench.meet(a, [b, c])
    assert.is(bench.untilSave(1_500), null)
    const links = [a.nodeKey, c.nodeKey]
    if (surprise === 'link') {
      bench.link(d)
      bench.hear(d)
    } else if (surprise === 'record') {
      const own = known(b, { seq: 0 })
      bench.hear(b, { linkedTo: links, records: [own, known(d, { seq: 0 })] })
    } else {
      bench.hear(b, { linkedTo: [...links, d.nodeKey] })
    }
    assert.is(bench.untilSave(60_000)?.ms, 2_000, surprise)
  }
})

time('without a sweep, or with dials that hang, it waits 10 s and no longer', () => {
  const silent = new Bench(a)
  silent.meet(a, [b, c])
  assert.is(silent.untilSave(60_000)?.ms, 10_000)

  const hanging = new Bench(a)
  hanging.founding.discoverySwept(2)
  hanging.meet(a, [b, c])
  assert.is(hanging.untilSave(4_950), null)
  hanging.founding.discoverySwept(1)
  assert.is(hanging.untilSave(3_000), null)
  hanging.founding.discoverySwept(0)
  assert.is(hanging.untilSave(60_000)?.ms, 50, 'at the next tick')
})

time('a stall is not taken for two quiet seconds', () => {
  const bench = new Bench(a)
  bench.founding.discoverySwept(0)
  bench.meet(a, [b, c])
  bench.drain()
  bench.founding.tick(60_000)
  assert.is(bench.drain().save, null)
})

time('expect 1 looks first, and joins what it sees', () => {
  const alone = new Bench(a, { expect: 1 })
  alone.founding.discoverySwept(0)
  assert.is(alone.untilSave(60_000)?.ms, 2_000)

  const late = new Bench(a, { expect: 1 })
  late.founding.discoverySwept(0)
  late.wait(1_000)
  const there = foundedRecord(offerAmong([b, c], 1))
  late.link(b, there.bound?.clusterId)
  late.hear(b, { record: there })
  assert.is(late.untilSave(60_000)?.save.bound?.how, 'joined')
})

time('a peer that claims a cluster stops every offer, even before its record comes', () => {
  const bench = new Bench(a)
  bench.founding.discoverySwept(0)
  bench.meet(a, [b, c])
  bench.link(d, clusterId(9))
  assert.is(bench.untilSave(60_000), null)
  assert.is(bench.said('cluster-seen').length, 1)
})

time('after an own dead offer it backs off longer each time, until the free peers change', () => {
  const bench = new Bench(a)
  bench.founding.discoverySwept(0)
  const waits: (number | undefined)[] = []
  let floor = 0
  let seq = 0
  const refuse = () => {
    const refusal = record({ seq: ++seq, floor })
    bench.hear(b, { record: refusal, linkedTo: [a.nodeKey, c.nodeKey] })
  }
  bench.meet(a, [b, c])
  for (let round = 0; round < 6; round++) {
    const offered = bench.untilSave(120_000)
    waits.push(offered?.ms)
    bench.settle()
    bench.founding.recordSaved(offered?.save.seq as number)
    floor = offered?.save.floor as number
    bench.drain()
    refuse()
    bench.settle()
    assert.is(bench.founding.record.pledge, null)
  }
  // The injected randomness always gives the most: 1.5 times the base.
  assert.equal(bench.randomBounds, [2_001, 4_001, 8_001, 16_001, 30_001, 30_001])
  assert.equal(waits, [2_000, 3_000, 6_000, 12_000, 24_000, 45_000])

  bench.founding.linkDown(c.nodeKey)
  bench.drain()
  bench.meet(a, [b, c], { record: record({ seq: ++seq, floor }) })
  const again = bench.untilSave(120_000)
  bench.founding.recordSaved(again?.save.seq as number)
  bench.drain()
  floor = again?.save.floor as number
  refuse()
  bench.settle()
  assert.is(bench.randomBounds.at(-1), 2_001)
})

time.run()

const effects = suite('effects and their order')

effects('only a durable record is shown, and only one save is asked for at a time', () => {
  const bench = new Bench(b)
  bench.link(a)
  bench.hear(a, { record: record({ pledge: abc }) })
  const { save } = bench.drain()
  assert.equal(save?.pledge, abc)
  bench.hear(a, { records: [known(a, { seq: 2, pledge: abc }), known(c, { floor: 1 })] })
  assert.is(bench.drain().save, null, 'one is in flight')
  bench.wait(2_000)
  assert.ok(bench.sent.length >= 4)
  assert.ok(bench.sent.every((sent) => sent.record?.seq === 0))
  bench.sent = []
  assert.throws(() => bench.founding.recordSaved(7))
  bench.founding.recordSaved(1)
  assert.is(bench.drain().save?.pledge, null, 'what came meanwhile is judged now')
  assert.equal(
    bench.sent.map((sent) => sent.record),
    [save],
  )
  assert.throws(() => bench.founding.recordSaved(1))
})

effects('founding: first the log, bound last, then everybody is told', () => {
  const bench = new Bench(a, { record: record({ pledge: abc }) })
  bench.meet(a, [b, c], { record: record({ pledge: abc }) })
  const found = bench.drain()
  assert.is(found.save, null)
  assert.is(found.outcome?.type, 'found')
  assert.is(found.outcome?.type === 'found' && toHex(found.outcome.entry1), abc.entry1)
  bench.hear(b, { record: record({ seq: 3, pledge: abc }) })
  assert.is(bench.drain().outcome, null, 'the log is being written')
  assert.is(bench.founding.record.bound, null)
  bench.founding.logWritten()
  const { save, outcome } = bench.drain()
  assert.is(outcome, null)
  assert.equal(save?.bound?.how, 'founded')
  assert.equal(save?.pledge, abc)
  bench.sent = []
  bench.founding.recordSaved(save?.seq as number)
  bench.drain()
  assert.equal(
    bench.sent.map((sent) => sent.record?.bound?.clusterId),
    [abc.clusterId, abc.clusterId],
  )
  assert.is(bench.said('founded').length, 1)
  assert.throws(() => bench.founding.logWritten())
})

effects('F1: a recovered pledge is resumed whatever the flags say', () => {
  const bench = new Bench(a, {
    record: record({ pledge: abc }),
    mayFound: false,
    expect: 7,
    inviteClusterId: clusterId(5),
  })
  bench.link(b)
  bench.link(c)
  bench.hear(b, { records: [known(b, { pledge: abc }), known(c, { pledge: abc })] })
  assert.is(bench.drain().outcome?.type, 'found')
})

effects('joining: bound first, the outcome after its save', () => {
  const bench = new Bench(d, { mayFound: false })
  bench.link(a, abc.clusterId)
  bench.hear(a, { record: foundedRecord(abc) })
  const { save, outcome } = bench.drain()
  assert.is(outcome, null)
  assert.equal(save?.bound, {
    clusterId: abc.clusterId,
    foundingSet: [a, b, c].map((founder) => founder.nodeKey),
    how: 'joined',
  })
  bench.founding.recordSaved(1)
  assert.equal(bench.drain().outcome, { type: 'join', clusterId: abc.clusterId })
  assert.is(bench.drain().outcome, null)
  assert.match(bench.said('joined')[0] ?? '', /waits until it is admitted/)
})

effects('F6: a Raft frame from a member founds, and one from a stranger does not', () => {
  const bench = new Bench(a, { record: record({ pledge: abc }) })
  bench.link(d)
  bench.link(b)
  bench.founding.raftFrame(d.nodeKey, abc.clusterId)
  assert.is(bench.drain().outcome, null)
  bench.founding.raftFrame(b.nodeKey, abc.clusterId)
  assert.is(bench.drain().outcome?.type, 'found')
})

effects('F8 ends it: no save and no message any more', () => {
  const bench = new Bench(a)
  bench.link(b)
  bench.hear(b, { record: foundedRecord(abc) })
  const fatal = bench.drain()
  assert.is(fatal.outcome?.type, 'fatal')
  assert.equal(fatal.send, [])
  bench.hear(b)
  bench.wait(5_000)
  assert.equal(bench.drain(), { save: null, send: [], outcome: null, notices: [] })
})

effects('a message that does not come from its sender is dropped', () => {
  const bench = new Bench(b)
  bench.link(c)
  bench.founding.receive(c.nodeKey, messageFrom(a, { record: record({ pledge: abc }) }))
  bench.founding.receive(a.nodeKey, messageFrom(a, { record: record({ pledge: abc }) }))
  bench.founding.receive(c.nodeKey, messageFrom(disk(2, 1), { record: record({ pledge: abc }) }))
  assert.is(bench.drain().save, null)
  bench.hear(c, { records: [known(c, { seq: 0 }), known(a, { pledge: abc })] })
  assert.is(bench.drain().save?.pledge?.clusterId, abc.clusterId)
})

effects('an old copy does not displace a newer record', () => {
  const bench = new Bench(a, { record: record({ seq: 4, pledge: abc }) })
  bench.link(b)
  bench.hear(b, { record: record({ seq: 5, pledge: abc }) })
  bench.link(c)
  bench.hear(c, {
    records: [known(c, { seq: 2, pledge: abc }), known(b, { seq: 0 })],
  })
  assert.is(bench.drain().outcome?.type, 'found')
})

effects('what it knows of others is passed on, and what they say of itself is not', () => {
  const bench = new Bench(c)
  bench.link(a)
  bench.hear(a, { records: [known(a), known(d, { floor: 4 }), known(c, { seq: 0 })] })
  const { send } = bench.drain()
  const told = send[0]?.message.records.map((one) => one.nodeKey)
  assert.equal(told, [c.nodeKey, a.nodeKey, d.nodeKey])
  assert.equal(send[0]?.message.linkedTo, [a.nodeKey])
})

effects('a flood of disks is forgotten, the ones that matter are not', () => {
  const bench = new Bench(a, { record: record({ pledge: abc }) })
  bench.link(d)
  bench.hear(d, { records: [known(d), known(b, { pledge: abc })] })
  for (let batch = 0; batch < 20; batch++) {
    const flood = Array.from({ length: 60 }, (_, i) => {
      const storageId = (batch * 60 + i).toString(16).padStart(32, '0')
      return { ...known(disk(9), { seq: 0 }), storageId }
    })
    bench.hear(d, { records: [known(d), ...flood] })
  }
  bench.hear(d, { records: [known(d), known(c, { pledge: abc })] })
  assert.is(bench.drain().outcome?.type, 'found')
  assert.ok((bench.drain().send[0]?.message.records.length ?? 0) <= 64)
})

effects.run()

const bound = suite('a bound node')

bound('answers those that look for a cluster, and is silent otherwise', () => {
  const bench = new Bench(a, { record: foundedRecord(abc) })
  bench.link(d)
  bench.drain()
  assert.is(bench.sent.length, 1, 'on link-up')
  bench.wait(60_000)
  assert.is(bench.sent.length, 1)
  bench.hear(d)
  bench.drain()
  assert.is(bench.sent.length, 2)
  assert.is(bench.sent[1]?.record?.bound?.clusterId, abc.clusterId)
  bench.hear(d, { record: joinedRecord(abc.clusterId, []) })
  bench.wait(5_000)
  assert.is(bench.sent.length, 2)
  assert.equal(bench.founding.status, { have: 3, need: 3, missing: [] })
})

bound('tells a member that has not heard that all pledged', () => {
  const founder = new Bench(a, { record: foundedRecord(abc) })
  founder.link(b)
  const { send } = founder.drain()
  const late = new Bench(b, { record: record({ pledge: abc }) })
  late.link(a)
  const [told] = send
  if (told === undefined) return assert.unreachable('nothing was sent')
  late.founding.receive(a.nodeKey, told.message)
  assert.is(late.drain().outcome?.type, 'found')
})

bound.run()
