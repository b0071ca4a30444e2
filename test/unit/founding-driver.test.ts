/** The class around the rules: time (F9, F10), saves before messages, the bound role, and what the operator is told. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { foundersOf, hashFounders, toHex } from '../../node/founding/record.ts'
import {
  blankRecord,
  Founding,
  type FoundingDrain,
  type FoundingOptions,
  type FoundingRecord,
  type Notice,
} from '../../node/founding.ts'
import {
  clusterId,
  type Disk,
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

/** One node under test; its peers are only the messages they send. */
class Bench {
  readonly founding: Founding
  readonly notices: Notice[] = []
  readonly randomBounds: number[] = []
  sent: { to: string; record: FoundingRecord | undefined }[] = []
  ids = 0

  constructor(self: Disk, options: Partial<FoundingOptions> = {}) {
    this.founding = new Founding({
      self: { ...self, urls: () => self.urls },
      bootId: '00000000000000aa',
      record: blankRecord,
      expect: 3,
      founders: null,
      mayFound: true,
      inviteClusterId: null,
      settings: {},
      random: (boundExclusive) => {
        this.randomBounds.push(boundExclusive)
        return boundExclusive - 1
      },
      randomId: () => clusterId(100 + this.ids++),
      ...options,
    })
  }

  drain(): FoundingDrain {
    const drained = this.founding.drain()
    this.notices.push(...drained.notices)
    this.sent.push(
      ...drained.send.map(({ to, message }) => ({ to, record: message.records[0]?.record })),
    )
    return drained
  }

  link(peer: Disk, clusterIdOf: string | null = null): void {
    this.founding.linkUp(peer.nodeKey, {
      ...peer,
      bootId: '00000000000000bb',
      clusterId: clusterIdOf,
    })
  }

  hear(peer: Disk, fields: Parameters<typeof messageFrom>[1] = {}): void {
    this.founding.receive(peer.nodeKey, messageFrom(peer, fields))
  }

  /** Links every peer to every other and to the node under test. */
  meet(self: Disk, peers: readonly Disk[], fields: Parameters<typeof messageFrom>[1] = {}): void {
    const everybody = [self, ...peers].map((peer) => peer.nodeKey)
    for (const peer of peers) {
      this.link(peer)
      this.hear(peer, {
        linkedTo: everybody.filter((key) => key !== peer.nodeKey),
        ...fields,
      })
    }
  }

  /** Ticks on until a save is asked for; the ms it took, or null after `maxMs`. */
  untilSave(maxMs: number): { ms: number; save: FoundingRecord } | null {
    for (let ms = 0; ms <= maxMs; ms += 50) {
      const { save } = this.drain()
      if (save !== null) return { ms, save }
      this.founding.tick(50)
    }
    return null
  }

  /** Saves whatever is asked for until nothing is. */
  settle(): void {
    for (let { save } = this.drain(); save !== null; { save } = this.drain()) {
      this.founding.recordSaved(save.seq)
    }
  }

  wait(ms: number): void {
    for (let passed = 0; passed < ms; passed += 50) {
      this.founding.tick(50)
      this.drain()
    }
  }

  said(kind: string): readonly string[] {
    return this.notices.filter((notice) => notice.kind === kind).map((notice) => notice.text)
  }
}

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
