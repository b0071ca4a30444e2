/** The log of one node: merging, truncation, what is stable (ABA included), configurations, conflict back-up. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import { RaftLog } from '../../node/raft/log.ts'
import type { ConfigurationRecord, Entry, Index, Term } from '../../node/raft/types.ts'
import { bytesOf, configurationOf } from '../support/raft-cluster.ts'

function entry(term: Term, index: Index, payload = `${term}/${index}`): Entry {
  return { term, index, kind: 'command', payload: bytesOf(payload) }
}

/** Entries with these terms, the first one behind `after`. */
function entries(terms: readonly Term[], after: Index = 0): Entry[] {
  return terms.map((term, at) => entry(term, after + at + 1))
}

function logOf(terms: readonly Term[], commitIndex = 0): RaftLog {
  return new RaftLog({ base: { term: 0, index: 0 }, entries: entries(terms), commitIndex })
}

function termsIn(log: RaftLog): Term[] {
  return Array.from({ length: log.lastIndex }, (_, at) => log.termAt(at + 1) as Term)
}

function recordOf(size: number): ConfigurationRecord {
  const configuration = configurationOf(size)
  return { clusterId: '0'.repeat(32), foundingSet: [], settings: {}, configuration }
}

function configuration(term: Term, index: Index, size: number): Entry {
  const payload = encodeConfigurationRecord(recordOf(size))
  return { term, index, kind: 'configuration', payload }
}

const log = suite('raft log')

log('merge skips what it has, removes what conflicts, appends the rest', () => {
  for (const [own, prevIndex, sent, after, match] of [
    [[], 0, [1, 1], [1, 1], 2],
    [[1, 1], 2, [2], [1, 1, 2], 3],
    [[1, 1, 2], 1, [1, 2], [1, 1, 2], 3],
    [[1, 1, 2], 1, [1], [1, 1, 2], 2],
    [[1, 1, 2], 3, [], [1, 1, 2], 3],
    [[1, 1, 2], 1, [], [1, 1, 2], 1],
    [[1, 1, 2, 2], 1, [1, 3], [1, 1, 3], 3],
    [[1, 2, 2, 2], 1, [3], [1, 3], 2],
    [[1, 2, 2, 2], 0, [1, 2, 2, 2, 4], [1, 2, 2, 2, 4], 5],
  ] as const) {
    const one = logOf(own)
    assert.is(one.merge(entries(sent, prevIndex), prevIndex), match)
    assert.equal(termsIn(one), after, `${own} + ${sent} behind ${prevIndex}`)
  }
})

log('a gap, a falling term, and the loss of a committed entry are refused', () => {
  assert.throws(() => logOf([1, 1]).append(entry(1, 4)), /gap/)
  assert.throws(() => logOf([1, 2]).append(entry(1, 3)), /terms/)
  assert.throws(() => logOf([1, 1, 1], 2).merge([entry(2, 2)], 1), /committed/)
  assert.throws(() => logOf([1]).commitTo(2), /beyond/)
  const holed = [entry(1, 1), entry(1, 3)]
  const base = { term: 0, index: 0 }
  assert.throws(() => new RaftLog({ base, entries: holed, commitIndex: 0 }), /gap/)
  assert.throws(() => new RaftLog({ base, entries: entries([1]), commitIndex: 2 }), /outside/)
})

log('stable advances only where (index, term) still match', () => {
  for (const [what, start, batch, meanwhile, stable] of [
    ['nothing happened', [1], [1, 1], null, 3],
    ['more arrived', [1], [1, 1], { behind: 3, terms: [1] }, 3],
    ['all of it was rewritten', [1], [1, 1], { behind: 1, terms: [2, 2] }, 1],
    ['its end was rewritten', [1], [1, 1, 1], { behind: 2, terms: [2] }, 2],
    ['the log became shorter', [1], [1, 1, 1], { behind: 1, terms: [2] }, 1],
    [
      'what was stable before was rewritten too',
      [1, 1, 1],
      [1],
      { behind: 1, terms: [2, 2, 2] },
      1,
    ],
  ] as const) {
    const one = logOf(start)
    const saving = entries(batch, start.length)
    one.merge(saving, start.length)
    if (meanwhile !== null) one.merge(entries(meanwhile.terms, meanwhile.behind), meanwhile.behind)
    one.stabilise(saving)
    assert.is(one.stableIndex, stable, what)
  }
})

log('ABA: rewritten and rewritten back while the save was under way is what the disk holds', () => {
  const one = logOf([1])
  const saving = entries([2, 2], 1)
  one.merge(saving, 1)
  one.merge(entries([3], 1), 1)
  assert.is(one.stableIndex, 1)
  one.merge([...saving], 0 + 1)
  assert.equal(termsIn(one), [1, 2, 2])
  assert.is(one.stableIndex, 1, 'not before the save has ended')
  one.stabilise(saving)
  assert.is(one.stableIndex, 3)
})

log('a truncation below what was stable takes the mark back', () => {
  const one = logOf([1, 1, 1, 1])
  assert.is(one.stableIndex, 4)
  one.merge([entry(2, 3)], 2)
  assert.equal([one.stableIndex, one.lastIndex], [2, 3])
  one.stabilise([])
  assert.is(one.stableIndex, 2)
})

log('the newest configuration is in force when appended, and truncation rolls it back', () => {
  const one = new RaftLog({
    base: { term: 0, index: 0 },
    entries: [configuration(1, 1, 3), entry(1, 2)],
    commitIndex: 1,
  })
  const voters = () => one.configuration?.record.configuration.voters.length
  assert.is(voters(), 3)
  one.merge([configuration(1, 3, 4), configuration(1, 4, 5)], 2)
  assert.is(voters(), 5)
  assert.is(one.configurationAt(3)?.index, 3)
  assert.is(one.configurationAt(2)?.index, 1)
  one.merge([entry(2, 4)], 3)
  assert.is(voters(), 4)
  one.merge([entry(3, 2)], 1)
  assert.is(voters(), 3)
  assert.is(one.configurationAt(0), null)
})

log('back-up goes to the last index whose term is not later, a term at a time', () => {
  const one = logOf([1, 1, 1, 4, 4, 5, 5, 6, 6, 6])
  for (const [index, term, found] of [
    [10, 6, 10],
    [99, 6, 10],
    [10, 5, 7],
    [10, 4, 5],
    [10, 3, 3],
    [10, 1, 3],
    [2, 6, 2],
    [10, 0, 0],
    [0, 9, 0],
  ] as const) {
    assert.is(one.lastIndexNotAfter(index, term), found, `${index}/${term}`)
  }
})

log('slices stay within the bytes, but are never empty', () => {
  const one = logOf([])
  one.merge([entry(1, 1, 'aaaa'), entry(1, 2, 'bbbb'), entry(1, 3, 'c')], 0)
  const indexes = (bytesMax: number) => one.slice(1, 3, bytesMax).map(({ index }) => index)
  assert.equal(indexes(100), [1, 2, 3])
  assert.equal(indexes(8), [1, 2])
  assert.equal(indexes(7), [1])
  assert.equal(indexes(0), [1])
})

log('committed entries are handed out once, in order, in portions', () => {
  const one = logOf([1, 1, 1, 1, 1], 2)
  const take = (max: number) => one.takeCommitted(max).map(({ index }) => index)
  assert.equal(take(10), [1, 2])
  assert.equal(take(10), [])
  one.commitTo(5)
  one.commitTo(3)
  assert.is(one.commitIndex, 5, 'never back')
  assert.equal(take(2), [3, 4])
  assert.equal(take(2), [5])
  assert.is(one.appliedIndex, 5)
})

const snapshotAt = (term: Term, index: Index) => ({
  id: { term, index },
  configuration: { index: 1, record: recordOf(3) },
})

log('compaction forgets what a durable snapshot covers, and keeps the term of the base', () => {
  const one = logOf([1, 1, 2, 2, 3], 5)
  one.takeCommitted(4)
  one.noteSnapshot(4)
  one.compactTo(3)
  assert.equal([one.firstIndex, one.lastIndex, one.snapshotIndex], [4, 5, 4])
  assert.equal([one.termAt(2), one.termAt(3), one.termAt(4)], [undefined, 2, 2])
  assert.ok(one.matches({ term: 2, index: 3 }), 'an Append may begin behind the base')
  one.compactTo(2)
  assert.is(one.firstIndex, 4, 'never back')
  assert.is(one.lastIndexNotAfter(2, 9), 2, 'what lies before the base is not judged')
})

log('nothing is forgotten that no durable snapshot covers', () => {
  const one = logOf([1, 1, 1], 2)
  assert.throws(() => one.noteSnapshot(1), /not applied/)
  one.takeCommitted(9)
  one.append(entry(1, 4))
  one.commitTo(4)
  one.takeCommitted(9)
  assert.throws(() => one.noteSnapshot(4), /past the durable log/)
  one.noteSnapshot(2)
  assert.throws(() => one.noteSnapshot(1), /older/)
  assert.throws(() => one.compactTo(3), /beyond the snapshot/)
})

log('the configuration in force outlives the entry that brought it', () => {
  const all = [configuration(1, 1, 3), entry(1, 2), configuration(1, 3, 5), entry(1, 4)]
  const one = new RaftLog({ base: { term: 0, index: 0 }, entries: all, commitIndex: 4 })
  one.takeCommitted(2)
  one.noteSnapshot(2)
  one.compactTo(2)
  assert.is(one.configurationAt(2)?.index, 1, 'as of the snapshot, not the newest')
  assert.is(one.configuration?.index, 3)
  one.takeCommitted(9)
  one.noteSnapshot(4)
  one.compactTo(4)
  assert.is(one.configuration?.index, 3)
})

log('an installed snapshot takes the place of the log once its save has ended', () => {
  const one = logOf([1, 1, 1], 1)
  const { id, configuration } = snapshotAt(3, 7)
  one.reset(id, configuration)
  assert.equal([one.firstIndex, one.lastIndex, one.lastTerm], [8, 7, 3])
  assert.equal([one.commitIndex, one.appliedIndex, one.snapshotIndex], [7, 7, 7])
  assert.is(one.stableIndex, 3, 'what was durable before is, and no more')
  // The save that was in flight speaks of a log that is no more.
  one.stabilise(entries([1], 3))
  assert.is(one.stableIndex, 3)
  one.append(entry(3, 8))
  one.stabilise(entries([3], 7), id)
  assert.equal([one.stableIndex, one.unsavedBase], [8, null])
  assert.throws(() => one.reset({ term: 3, index: 7 }, configuration), /committed here already/)
})

log('of two snapshots installed in a row, the save of the first does not count', () => {
  const one = logOf([1], 1)
  const [first, second] = [snapshotAt(2, 5), snapshotAt(2, 9)]
  one.reset(first.id, first.configuration)
  one.reset(second.id, second.configuration)
  one.stabilise([], first.id)
  assert.equal([one.stableIndex, one.unsavedBase], [1, second.id])
  one.stabilise([], second.id)
  assert.is(one.stableIndex, 9)
})

log('a recovered log begins at its snapshot, which it must know', () => {
  const base = { term: 2, index: 4 }
  const tail = entries([2, 2, 3], 4)
  const one = new RaftLog({ base, entries: tail, commitIndex: 5, snapshot: snapshotAt(2, 6) })
  assert.equal([one.firstIndex, one.lastIndex, one.appliedIndex], [5, 7, 6])
  assert.is(one.commitIndex, 6, 'what a snapshot covers is committed')
  assert.is(one.configuration?.index, 1)
  const refused = (snapshot: ReturnType<typeof snapshotAt> | null) => () =>
    new RaftLog({ base, entries: tail, commitIndex: 5, snapshot })
  assert.throws(refused(null), /behind the snapshot/)
  assert.throws(refused(snapshotAt(2, 3)), /behind the snapshot/)
  assert.throws(refused(snapshotAt(2, 7)), /does not know/)
  assert.throws(refused(snapshotAt(3, 8)), /does not know/)
})

log('who is more up to date (paper 5.4.1)', () => {
  const one = logOf([1, 2, 3])
  for (const [term, index, upToDate] of [
    [3, 3, true],
    [3, 4, true],
    [4, 1, true],
    [3, 2, false],
    [2, 9, false],
  ] as const) {
    assert.is(one.isUpToDate(term, index), upToDate)
  }
  assert.ok(logOf([]).isUpToDate(0, 0))
})

log.run()
