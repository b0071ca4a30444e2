/** A request that is asked for again while its first entry is on its way joins that entry; nothing else is ever taken for it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, encodeCommand, KEYED_HEADER_BYTES } from '../../client/protocol.ts'
import { Proposals } from '../../node/proposals.ts'
import type { Entry } from '../../node/raft/types.ts'

const proposals = suite('proposals')

function command(change: Partial<Command> = {}): Uint8Array {
  const base = { kind: 'operation', session: 3, sequence: 7, firstOutstanding: 7 } as const
  return encodeCommand({ ...base, operation: Uint8Array.of(1), ...change } as Command)
}

function entry(index: number, term: number): Entry {
  return { index, term, kind: 'command', payload: command() }
}

proposals(
  'the same request waits for the entry that is on its way, and all who asked are answered once',
  () => {
    const table = new Proposals<string>()
    assert.not(table.join(command(), 'early'), 'nothing is on its way yet')
    table.add({ term: 2, index: 5 }, command(), 'first')
    assert.ok(table.join(command(), 'again'))
    assert.equal(table.applied(entry(5, 2)), { askers: ['first', 'again'], same: true })
    assert.is(table.applied(entry(5, 2)), null)
    assert.not(table.join(command(), 'late'), 'what is applied is joined no more')
    table.add({ term: 4, index: 5 }, command({ sequence: 9 }), 'another')
    assert.not(table.join(command(), 'late'), 'nor is what stands in its place')
  },
)

proposals('another sequence, another session and an opening are requests of their own', () => {
  const table = new Proposals<string>()
  table.add({ term: 2, index: 4 }, command({ sequence: 71 }), 'earlier')
  table.add({ term: 2, index: 5 }, command(), 'first')
  for (const other of [
    command({ sequence: 8 }),
    command({ session: 4 }),
    command({ session: 37, sequence: 1, firstOutstanding: 1 }),
  ]) {
    assert.not(table.join(other, 'other'))
  }
  const zeros = { session: 0, sequence: 0, firstOutstanding: 0 }
  const opening = command({ kind: 'openSession', ...zeros, operation: new Uint8Array(0) })
  table.add({ term: 2, index: 6 }, opening, 'one')
  assert.not(table.join(opening, 'two'), 'each opening is another session')
})

proposals(
  'a write that names itself joins itself, and neither another name nor another request',
  () => {
    const named = (change: Partial<Command>, ...bytes: readonly [at: number, byte: number][]) => {
      const operation = new Uint8Array(KEYED_HEADER_BYTES + 1).fill(7)
      for (const [at, byte] of bytes) operation[at] = byte
      return command({
        kind: 'keyed',
        session: 0,
        sequence: 2,
        firstOutstanding: 0,
        operation,
        ...change,
      })
    }
    const table = new Proposals<string>()
    table.add({ term: 2, index: 5 }, named({}), 'first')
    assert.ok(table.join(named({}), 'again'))
    for (const other of [
      named({}, [0, 8]),
      named({}, [31, 8]),
      named({}, [32, 8]),
      named({}, [KEYED_HEADER_BYTES - 1, 8]),
      named({ sequence: 3 }),
      command({ session: 0, sequence: 2 }),
    ]) {
      assert.not(table.join(other, 'other'))
    }
  },
)

proposals('an entry of another term in its place is not what was asked for', () => {
  const table = new Proposals<string>()
  table.add({ term: 2, index: 5 }, command(), 'first')
  assert.equal(table.applied(entry(5, 3)), { askers: ['first'], same: false })
  assert.not(table.join(command(), 'again'))
})

proposals(
  'whoever waits is given back when the leadership ends, and nobody waits after that',
  () => {
    const table = new Proposals<string>()
    table.add({ term: 2, index: 5 }, command(), 'a')
    table.join(command(), 'b')
    table.add({ term: 2, index: 6 }, command({ sequence: 8 }), 'c')
    assert.equal(table.abandon(), ['a', 'b', 'c'])
    assert.equal(table.abandon(), [])
    assert.not(table.join(command(), 'd'))
  },
)

proposals('who asks without end does not fill the memory', () => {
  const table = new Proposals<number>()
  table.add({ term: 2, index: 5 }, command(), 0)
  for (let i = 1; i <= 1000; i++) table.join(command(), i)
  const askers = table.applied(entry(5, 2))?.askers ?? []
  assert.is(askers.length, 32)
  assert.is(askers.at(-1), 1000)
})

proposals(
  'who leads no more forgets what was asked for, so that later nobody joins a stranger',
  () => {
    const table = new Proposals<string>()
    table.add({ term: 2, index: 5 }, command(), 'first')
    assert.equal(table.abandon(), ['first'])
    // It leads again, and something else stands at that index.
    table.add({ term: 4, index: 5 }, command({ sequence: 9 }), 'another')
    assert.not(table.join(command(), 'first again'))
    assert.equal(table.applied(entry(5, 4))?.askers, ['another'])
  },
)

proposals.run()
