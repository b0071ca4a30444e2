/** Quorum arithmetic, joint configurations included: tables, and a slow definition that the fast one must agree with. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { agreedIndex, majority, type Quorum, voteResult } from '../../node/raft/quorum.ts'
import { Random } from '../../node/raft/random.ts'

const quorum = suite('quorum')

const names = (text: string): string[] => [...text]
const joint = (incoming: string, outgoing = ''): Quorum => ({
  incoming: names(incoming),
  outgoing: names(outgoing),
})

quorum('a majority is more than half', () => {
  assert.equal([1, 2, 3, 4, 5, 6, 7].map(majority), [1, 2, 2, 3, 3, 4, 4])
})

quorum('votes', () => {
  // Upper case: granted, lower case: refused, absent: no answer yet.
  for (const [incoming, outgoing, votes, result] of [
    ['', '', '', 'lost'],
    ['', '', 'ABC', 'lost'],
    ['a', '', '', 'pending'],
    ['a', '', 'A', 'won'],
    ['a', '', 'a', 'lost'],
    ['ab', '', 'A', 'pending'],
    ['ab', '', 'Ab', 'lost'],
    ['ab', '', 'AB', 'won'],
    ['abc', '', 'A', 'pending'],
    ['abc', '', 'AB', 'won'],
    ['abc', '', 'Ab', 'pending'],
    ['abc', '', 'Abc', 'lost'],
    ['abc', '', 'AXYZ', 'pending'],
    ['abcd', '', 'AB', 'pending'],
    ['abcd', '', 'ABcd', 'lost'],
    ['abcd', '', 'ABC', 'won'],
    ['abc', 'cde', 'AB', 'pending'],
    ['abc', 'cde', 'ABC', 'pending'],
    ['abc', 'cde', 'ABCD', 'won'],
    ['abc', 'cde', 'ABDE', 'won'],
    ['abc', 'cde', 'ABde', 'lost'],
    ['abc', 'cde', 'abDE', 'lost'],
    ['abc', 'abc', 'AB', 'won'],
    ['a', 'bcd', 'ABC', 'won'],
    ['a', 'bcd', 'BCD', 'pending'],
    ['a', 'bcd', 'aBCD', 'lost'],
  ] as const) {
    const voteOf = (voter: string): boolean | undefined => {
      if (votes.includes(voter.toUpperCase())) return true
      return votes.includes(voter) ? false : undefined
    }
    assert.is(
      voteResult(joint(incoming, outgoing), voteOf),
      result,
      `${incoming}|${outgoing} ${votes}`,
    )
  }
})

quorum('the agreed index', () => {
  for (const [incoming, outgoing, reached, index] of [
    ['', '', {}, 0],
    ['a', '', { a: 7 }, 7],
    ['ab', '', { a: 7, b: 3 }, 3],
    ['abc', '', { a: 7, b: 3 }, 3],
    ['abc', '', { a: 7 }, 0],
    ['abc', '', { a: 7, b: 7, c: 1 }, 7],
    ['abc', '', { a: 10, b: 9, c: 100 }, 10],
    ['abcd', '', { a: 9, b: 8, c: 7, d: 6 }, 7],
    ['abcde', '', { a: 9, b: 8, c: 7, d: 6, e: 5 }, 7],
    ['abc', 'cde', { a: 9, b: 9, c: 9, d: 1, e: 2 }, 2],
    ['abc', 'cde', { a: 1, b: 2, c: 9, d: 9, e: 9 }, 2],
    ['abc', 'd', { a: 9, b: 9, c: 9 }, 0],
    ['d', 'abc', { a: 5, b: 6, c: 7, d: 9 }, 6],
  ] as const) {
    const of = reached as Readonly<Record<string, number>>
    const got = agreedIndex(joint(incoming, outgoing), (voter) => of[voter] ?? 0)
    assert.is(got, index, `${incoming}|${outgoing} ${JSON.stringify(reached)}`)
  }
})

quorum('both agree with their definitions on random joint configurations', () => {
  const random = new Random(4)
  const pick = (): string[] => names('abcdefg').filter(() => random.below(2) === 0)
  for (let round = 0; round < 2000; round++) {
    const voters = { incoming: ['x', ...pick()], outgoing: pick() }
    const halves = [voters.incoming, voters.outgoing].filter((half) => half.length > 0)
    const reached = new Map(names('abcdefgx').map((name) => [name, random.below(6)]))
    const holdBy = (index: number) =>
      halves.every(
        (half) => 2 * half.filter((v) => (reached.get(v) ?? 0) >= index).length > half.length,
      )
    const agreed = agreedIndex(voters, (voter) => reached.get(voter) ?? 0)
    assert.ok(holdBy(agreed) && !holdBy(agreed + 1))

    const votes = new Map(
      names('abcdefgx').map((name) => [name, [true, false, undefined][random.below(3)]]),
    )
    const couldWin = (undecided: boolean) =>
      halves.every((half) => 2 * half.filter((v) => votes.get(v) ?? undecided).length > half.length)
    const expected = couldWin(false) ? 'won' : couldWin(true) ? 'pending' : 'lost'
    assert.is(
      voteResult(voters, (voter) => votes.get(voter)),
      expected,
    )
  }
})

quorum.run()
