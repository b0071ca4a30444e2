/** The table of docs/founding.md, row by row, on the pure rules. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { blankRecord, type FoundingRecord, ROUND_MAX } from '../../node/founding/record.ts'
import { type Decision, decide, type View } from '../../node/founding/rules.ts'
import {
  clusterId,
  disk,
  foundedRecord,
  joinedRecord,
  known,
  offerAmong,
  record,
  viewOf,
} from '../support/founding-lab.ts'

const a = disk(0)
const b = disk(1)
const c = disk(2)
const d = disk(3)
const e = disk(4)
const abc = offerAmong([a, b, c], 1)
const cde = offerAmong([c, d, e], 1, 50)
const later = offerAmong([c, d, e], 2, 51)

interface Row {
  readonly name: string
  readonly self?: typeof a
  readonly own?: FoundingRecord
  readonly view?: Partial<View>
  readonly rule: Decision['rule']
  readonly saved?: Partial<FoundingRecord>
}

function check(rows: readonly Row[]): ReturnType<typeof suite> {
  const table = suite(rows[0]?.name.split(':')[0] ?? '')
  for (const row of rows) {
    table(row.name, () => {
      const own = row.own ?? blankRecord
      const decision = decide(own, viewOf(row.self ?? a, row.view))
      assert.is(decision.rule, row.rule)
      if (!('record' in decision)) return assert.is(row.saved, undefined)
      assert.is(decision.record.seq, own.seq + 1)
      assert.ok(decision.record.floor >= own.floor, 'the floor never falls')
      assert.equal(decision.record, { ...decision.record, ...row.saved })
    })
  }
  return table
}

const blanks = [known(b, { seq: 0 }), known(c, { seq: 0 })]
const proposal = { clusterId: clusterId(7), founders: [b, a, c], settings: {} }
const offered = offerAmong([a, b, c], 1, 7)

check([
  {
    name: 'F2: the lowest key offers when all of S are free',
    view: { others: blanks, proposal },
    rule: 'F2',
    saved: { floor: 1, pledge: offered },
  },
  {
    name: 'F2: the round is above every floor in S',
    own: record({ floor: 4 }),
    view: { others: [known(b, { floor: 9 }), known(c)], proposal },
    rule: 'F2',
    saved: { floor: 10 },
  },
  { name: 'F2: not before time allows', view: { others: blanks }, rule: 'none' },
  {
    name: 'F2: not by another than the lowest key',
    self: b,
    view: { others: [known(a), known(c)], proposal },
    rule: 'none',
  },
  {
    name: 'F2: not with a member whose record never came',
    view: { others: [known(b)], proposal },
    rule: 'none',
  },
  {
    name: 'F2: not with another disk of a member',
    view: { others: [known(b), known(disk(2, 1))], proposal },
    rule: 'none',
  },
  {
    name: 'F2: not with a member that holds a pledge',
    view: { others: [known(b), known(c, { pledge: cde })], proposal },
    rule: 'none',
  },
  {
    name: 'F2: not of another size',
    view: { others: blanks, proposal, expect: 2 },
    rule: 'none',
  },
  {
    name: 'F2: not with other founders than the named ones',
    view: { others: blanks, proposal, founders: [a.nodeKey, b.nodeKey, d.nodeKey] },
    rule: 'none',
  },
  {
    name: 'F2: with exactly the named founders, whatever --expect says',
    view: { others: blanks, proposal, expect: 9, founders: [a.nodeKey, b.nodeKey, c.nodeKey] },
    rule: 'F2',
  },
  {
    name: 'F2: an invited node never offers',
    view: { others: blanks, proposal, mayFound: false },
    rule: 'none',
  },
  {
    name: 'F2: not while a peer says it has a cluster',
    view: { others: blanks, proposal, claims: [{ ...d, clusterId: clusterId(9) }] },
    rule: 'none',
  },
  {
    name: 'F2: guard G, a reachable peer holds a live pledge',
    view: { others: [...blanks, known(d, { pledge: cde })], reachable: [d], proposal },
    rule: 'none',
  },
  {
    name: 'F2: guard G, a reachable peer that has not spoken yet',
    view: { others: blanks, reachable: [d], proposal },
    rule: 'none',
  },
  {
    name: 'F2: guard G lets a dead pledge pass',
    view: {
      others: [...blanks, known(d, { pledge: cde }), known(e, { floor: 1 })],
      reachable: [b, c, d],
      proposal,
    },
    rule: 'F2',
  },
  {
    name: 'F2: guard G looks only at reachable peers',
    view: { others: [...blanks, known(d, { pledge: cde })], reachable: [b, c], proposal },
    rule: 'F2',
  },
  {
    name: 'F2: rounds end before they overflow',
    own: record({ floor: ROUND_MAX }),
    view: { others: blanks, proposal },
    rule: 'none',
  },
]).run()

check([
  {
    name: 'F3: pledges an offer that names this disk',
    self: b,
    view: { others: [known(a, { pledge: abc })] },
    rule: 'F3',
    saved: { floor: 1, pledge: abc },
  },
  {
    name: 'F3: as told by anybody who holds it',
    self: b,
    view: { others: [known(c, { pledge: abc })] },
    rule: 'F3',
  },
  {
    name: 'F3: not one that names another disk of this key',
    self: disk(1, 1),
    view: { others: [known(a, { pledge: abc })] },
    rule: 'none',
  },
  {
    name: 'F3: not one at the floor',
    self: b,
    own: record({ floor: 1 }),
    view: { others: [known(a, { pledge: abc })] },
    rule: 'none',
  },
  {
    name: 'F3: not a dead one',
    self: b,
    view: { others: [known(a, { pledge: abc }), known(c, { floor: 1 })] },
    rule: 'none',
  },
  {
    name: 'F3: of two, the lower round first',
    self: c,
    view: { others: [known(d, { pledge: later }), known(a, { pledge: abc })] },
    rule: 'F3',
    saved: { pledge: abc },
  },
]).run()

check([
  {
    name: 'F4: another offer, holding a pledge, which stays',
    self: c,
    own: record({ pledge: abc }),
    view: { others: [known(d, { pledge: later })] },
    rule: 'F4',
    saved: { floor: 2, pledge: abc },
  },
  {
    name: 'F4: invited',
    self: b,
    view: { others: [known(a, { pledge: abc })], mayFound: false },
    rule: 'F4',
    saved: { floor: 1, pledge: null },
  },
  {
    name: 'F4: of another size',
    self: b,
    view: { others: [known(a, { pledge: abc })], expect: 5 },
    rule: 'F4',
  },
  {
    name: 'F4: of other founders than the named ones',
    self: b,
    view: {
      others: [known(a, { pledge: abc })],
      founders: [a.nodeKey, b.nodeKey, d.nodeKey],
    },
    rule: 'F4',
  },
  {
    name: 'F4: a cluster was seen, though none of its records',
    self: b,
    view: { others: [known(a, { pledge: abc })], claims: [{ ...d, clusterId: clusterId(9) }] },
    rule: 'F4',
  },
  {
    name: 'F4: not what is refused already',
    self: c,
    own: record({ floor: 5, pledge: abc }),
    view: { others: [known(d, { pledge: later })] },
    rule: 'none',
  },
  {
    name: 'F4: not a dead offer',
    self: c,
    own: record({ pledge: abc }),
    view: { others: [known(d, { pledge: later }), known(e, { floor: 2 })] },
    rule: 'none',
  },
]).run()

const holding = record({ floor: 3, pledge: abc })
check([
  {
    name: 'F5: another member refused it',
    own: holding,
    view: { others: [known(b, { floor: 1 })] },
    rule: 'F5',
    saved: { floor: 3, pledge: null },
  },
  {
    name: 'F5: another member is bound elsewhere',
    own: holding,
    view: { others: [{ ...b, record: joinedRecord(clusterId(9), []) }] },
    rule: 'F5',
  },
  {
    name: 'F5: a cluster was founded by one of its members, says a stranger',
    own: holding,
    view: { others: [{ ...e, record: joinedRecord(clusterId(9), [c.nodeKey]) }] },
    rule: 'F5',
  },
  {
    name: 'F5: not because a stranger is bound',
    own: holding,
    view: { others: [{ ...e, record: joinedRecord(clusterId(9), [d.nodeKey]) }] },
    rule: 'none',
  },
  {
    name: 'F5: not because a stranger has a floor',
    own: holding,
    view: { others: [known(d, { floor: 9 })] },
    rule: 'none',
  },
  {
    name: 'F5: not because another disk of a member has a floor',
    own: holding,
    view: { others: [known(disk(1, 1), { floor: 9 })] },
    rule: 'none',
  },
  {
    name: 'F5: not because a member that holds it refused others',
    own: holding,
    view: { others: [known(b, { floor: 9, pledge: abc })] },
    rule: 'none',
  },
  { name: 'F5: not because nobody is there', own: holding, rule: 'none' },
  {
    name: 'F5: not on the word of its proposer that blank members are blank',
    own: holding,
    view: { others: [known(b, { seq: 0 }), known(c, { seq: 0 })] },
    rule: 'none',
  },
  {
    name: 'F5: whatever the flags say now (F1)',
    own: holding,
    view: { others: [known(b)], mayFound: false, expect: 7 },
    rule: 'none',
  },
]).run()

const all = [known(b, { pledge: abc }), known(c, { floor: 8, pledge: abc })]
check([
  { name: 'F6: all have pledged', own: holding, view: { others: all }, rule: 'F6' },
  {
    name: 'F6: not with one short',
    own: holding,
    view: { others: [all[0] as never] },
    rule: 'none',
  },
  {
    name: 'F6: not with a pledge of another disk',
    own: holding,
    view: { others: [known(b, { pledge: abc }), known(disk(2, 1), { pledge: abc })] },
    rule: 'none',
  },
  {
    name: 'F6: one record bound to it is enough',
    own: holding,
    view: { others: [{ ...b, record: foundedRecord(abc) }] },
    rule: 'F6',
  },
  {
    name: 'F6: also that of one that joined it',
    own: holding,
    view: { others: [{ ...e, record: joinedRecord(abc.clusterId, [a.nodeKey]) }] },
    rule: 'F6',
  },
  {
    name: 'F6: a Raft frame of a member is enough',
    own: holding,
    view: { claims: [{ ...b, clusterId: abc.clusterId }] },
    rule: 'F6',
  },
  {
    name: 'F6: a Raft frame of a stranger is not',
    own: holding,
    view: { claims: [{ ...d, clusterId: abc.clusterId }] },
    rule: 'none',
  },
  {
    name: 'F6: whatever the flags say now (F1), and whatever cluster is seen',
    own: holding,
    view: {
      others: all,
      mayFound: false,
      expect: 7,
      claims: [{ ...e, clusterId: clusterId(9) }],
    },
    rule: 'F6',
  },
]).run()

const elsewhere = foundedRecord(cde)
check([
  {
    name: 'F7: a blank node binds itself to a cluster it sees',
    view: { others: [{ ...d, record: elsewhere }] },
    rule: 'F7',
    saved: {
      pledge: null,
      bound: {
        clusterId: cde.clusterId,
        foundingSet: [c, d, e].map((x) => x.nodeKey),
        how: 'joined',
      },
    },
  },
  {
    name: 'F7: not with a pledge',
    own: record({ pledge: offerAmong([a, b], 1, 60) }),
    view: { others: [{ ...d, record: elsewhere }] },
    rule: 'none',
  },
  {
    name: 'F7: not on a claim alone',
    view: { claims: [{ ...d, clusterId: cde.clusterId }] },
    rule: 'none',
  },
  {
    name: 'F7: nobody chooses between two clusters',
    view: {
      others: [{ ...d, record: elsewhere }],
      claims: [{ ...b, clusterId: clusterId(9) }],
    },
    rule: 'none',
  },
  {
    name: 'F7: an invitation does',
    view: {
      others: [{ ...d, record: elsewhere }],
      claims: [{ ...b, clusterId: clusterId(9) }],
      inviteClusterId: cde.clusterId,
      mayFound: false,
    },
    rule: 'F7',
  },
  {
    name: 'F7: an invited node joins no other cluster',
    view: {
      others: [{ ...d, record: elsewhere }],
      inviteClusterId: clusterId(9),
      mayFound: false,
    },
    rule: 'none',
  },
  {
    name: 'F7: a new disk of a founder joins when it sees that it is another disk',
    self: disk(3, 1),
    view: { others: [{ ...c, record: elsewhere }] },
    rule: 'F7',
  },
  {
    name: 'F7: until then it waits',
    self: disk(3, 1),
    view: { others: [{ ...b, record: joinedRecord(cde.clusterId, [d.nodeKey]) }] },
    rule: 'none',
  },
]).run()

check([
  {
    name: 'F8: founded by others with a pledge of this disk that is not here',
    self: c,
    view: { others: [{ ...d, record: elsewhere }] },
    rule: 'F8',
  },
  {
    name: 'F8: a newer record of this disk came back',
    own: record({ seq: 3 }),
    view: { others: [known(a, { seq: 4 })] },
    rule: 'F8',
  },
  {
    name: 'F8: another record of the same number came back',
    own: record({ seq: 3 }),
    view: { others: [known(a, { seq: 3, floor: 1 })] },
    rule: 'F8',
  },
  {
    name: 'F8: not for an old copy',
    own: record({ seq: 3 }),
    view: { others: [known(a, { seq: 2, pledge: abc })] },
    rule: 'none',
  },
  {
    name: 'F8: not for a record of another disk of this key',
    own: record({ seq: 3 }),
    view: { others: [known(disk(0, 1), { seq: 4 })] },
    rule: 'none',
  },
  {
    name: 'F8: also when bound elsewhere',
    self: c,
    own: joinedRecord(clusterId(9), []),
    view: { others: [{ ...d, record: elsewhere }] },
    rule: 'F8',
  },
  {
    name: 'F1: a bound node decides nothing',
    own: foundedRecord(abc),
    view: { others: [known(d, { pledge: later }), ...blanks], proposal },
    rule: 'none',
  },
]).run()
