/** Comparing states: who is odd, who is told, and that only a minority can ever be in quarantine. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type HashReport, judge, StateComparison } from '../../node/divergence.ts'
import type { Quorum } from '../../node/raft/quorum.ts'
import type { PeerId, Role } from '../../node/raft/types.ts'

const INDEX = 1024
const rule = suite('judging the hashes of one index')

/** `a=X/1` is a node with hash X of version 1. */
function reportsOf(text: string): Map<PeerId, HashReport> {
  const words = text.split(' ').filter((word) => word !== '')
  return new Map(
    words.map((word): [PeerId, HashReport] => {
      const [, peer, hash, version] = /^(\w)=(\w)\/(\d)$/.exec(word) ?? []
      assert.ok(peer !== undefined && hash !== undefined)
      return [peer, { index: INDEX, hash, hashVersion: Number(version) }]
    }),
  )
}

const half = (text: string): string[] => text.split('').filter((peer) => peer !== '-')

function said(reports: string, voters: string): string {
  const [incoming = '', outgoing = ''] = voters.split('|')
  const verdict = judge(reportsOf(reports), { incoming: half(incoming), outgoing: half(outgoing) })
  if (verdict.type !== 'agreed') return verdict.type
  return `${verdict.agreed.hash}, odd: ${verdict.odd.join('') || 'nobody'}`
}

/** Reports, voters (of both halves), verdict. */
const TABLE: readonly (readonly [string, string, string])[] = [
  ['', 'abc', 'open'],
  ['a=X/1', 'abc', 'open'],
  ['a=X/1', 'a', 'X, odd: nobody'],
  ['a=X/1 b=X/1', 'abc', 'X, odd: nobody'],
  ['a=X/1 b=X/1 c=Y/1', 'abc', 'X, odd: c'],
  ['a=Y/1 b=X/1 c=X/1', 'abc', 'X, odd: a'],
  // Nobody knows who is right.
  ['a=X/1 b=Y/1', 'ab', 'disputed'],
  ['a=X/1 b=Y/1', 'abc', 'disputed'],
  ['a=X/1 b=Y/1 c=Z/1', 'abc', 'disputed'],
  ['a=X/1 b=X/1 c=Y/1 d=Y/1', 'abcd', 'disputed'],
  ['a=X/1 b=X/1 c=Y/1', 'abcde', 'disputed'],
  ['a=X/1 b=X/1 c=X/1 d=Y/1 e=Z/1', 'abcde', 'X, odd: de'],
  // Learners are judged and do not judge.
  ['a=X/1 b=X/1 l=Y/1', 'abc', 'X, odd: l'],
  ['a=X/1 l=Y/1 m=Y/1', 'abc', 'disputed'],
  ['l=Y/1 m=Y/1', 'abc', 'open'],
  // A joint configuration needs both halves.
  ['a=X/1 b=X/1 d=Y/1', 'abc|abd', 'X, odd: d'],
  ['a=X/1 b=X/1 d=Y/1 e=Y/1', 'abc|ade', 'disputed'],
  // Versions are never compared with each other.
  ['a=X/1 b=Y/2', 'abc', 'open'],
  ['a=X/1 b=X/1 c=Y/2', 'abc', 'X, odd: nobody'],
  ['a=X/2 b=X/2 c=X/1', 'abc', 'X, odd: nobody'],
  ['a=X/1 b=X/1 c=Y/2 d=Z/2 e=X/1', 'abcde', 'X, odd: nobody'],
  ['a=X/1 b=Y/1 c=Z/2', 'abc', 'disputed'],
]

for (const [reports, voters, verdict] of TABLE) {
  rule(`${reports || 'nothing'} among ${voters}: ${verdict}`, () => {
    assert.is(said(reports, voters), verdict)
  })
}

rule('whatever is reported: a quorum agrees, and no voter of it is odd', () => {
  const voters = fc.subarray([...'abcdefg'], { minLength: 1 })
  const hash = fc.record({ hash: fc.constantFrom('X', 'Y'), hashVersion: fc.constantFrom(1, 2) })
  const reports = fc.dictionary(fc.constantFrom(...'abcdefgl'), hash)
  const halves = fc.record({
    incoming: voters,
    outgoing: fc.oneof(voters, fc.constant<string[]>([])),
  })
  fc.assert(
    fc.property(reports, halves, (given, quorum) => {
      const all = Object.entries(given).map(
        ([peer, one]) => [peer, { index: INDEX, ...one }] as const,
      )
      const verdict = judge(new Map(all), quorum)
      if (verdict.type !== 'agreed') return
      for (const peers of [quorum.incoming, quorum.outgoing]) {
        const odd = peers.filter((peer) => verdict.odd.includes(peer))
        assert.ok(odd.length * 2 < peers.length || peers.length === 0, 'only a minority is odd')
      }
    }),
    { numRuns: 2000 },
  )
})

// --- a node among others ------------------------------------------------------------------------------------------------

const NOBODY = { voters: [], votersOutgoing: [], learners: [], members: [], nextMemberId: 1 }

class Node {
  readonly self: PeerId
  role: Role = 'follower'
  leader: PeerId | null = 'a'
  term = 1
  log = { commitIndex: 10_000 }
  quorum: Quorum = { incoming: ['a', 'b', 'c'], outgoing: [] }
  hashes: { index: number; hash: string }[] = []
  readonly said: string[] = []
  readonly transfers: PeerId[] = []
  readonly comparison: StateComparison

  constructor(self: PeerId, kept = 4) {
    this.self = self
    if (self === this.leader) this.role = 'leader'
    this.comparison = new StateComparison({
      raft: this,
      hashes: () => this.hashes,
      hashVersion: 1,
      options: { kept, transferTicks: 2 },
      say: (to, { index, hash }) => this.said.push(`${to}: ${hash} at ${index}`),
    })
  }

  get tracker() {
    const { incoming, outgoing } = this.quorum
    const peers = [...new Set([...incoming, ...outgoing])].filter((peer) => peer !== this.self)
    return {
      configuration: NOBODY,
      quorum: this.quorum,
      peers,
      furthestVoter: (unfit: ReadonlySet<PeerId>) => peers.find((one) => !unfit.has(one)) ?? null,
    }
  }

  transferLeadership(target: PeerId): boolean {
    this.transfers.push(target)
    return true
  }

  hear(from: PeerId, hash: string, index = INDEX, hashVersion = 1): void {
    this.comparison.hear(from, { index, hash, hashVersion })
  }

  turn(): string[] {
    this.comparison.turn()
    return this.said.splice(0)
  }
}

const node = suite('comparing states')

node('a follower tells the leader each hash once, and everything again to the next leader', () => {
  const b = new Node('b')
  b.hashes = [
    { index: 1024, hash: 'X' },
    { index: 2048, hash: 'Y' },
  ]
  assert.equal(b.turn(), ['a: X at 1024', 'a: Y at 2048'])
  assert.equal(b.turn(), [])
  b.leader = null
  assert.equal(b.turn(), [])
  b.leader = 'c'
  b.term = 2
  assert.equal(b.turn(), ['c: X at 1024', 'c: Y at 2048'])
})

node('the odd one is told, compares with what it noted itself, and stays in quarantine', () => {
  const a = new Node('a')
  a.hashes = [{ index: INDEX, hash: 'X' }]
  a.hear('b', 'X')
  a.hear('c', 'Y')
  assert.equal(a.turn(), [`c: X at ${INDEX}`])
  assert.match(a.comparison.alarm ?? '', /state of c at index 1024 is not that of the majority/)
  assert.equal([...a.comparison.odd], ['c'])

  const c = new Node('c')
  c.hashes = [{ index: INDEX, hash: 'Y' }]
  c.hear('a', 'X')
  assert.match(c.comparison.turn() ?? '', /serves no reads.*raft-p2p rejoin/)
  assert.is(c.comparison.quarantined, true)
  c.hashes = [{ index: 2048, hash: 'Z' }]
  c.hear('a', 'Z', 2048)
  assert.is(c.comparison.quarantined, true)
})

node('nobody else can put a node into quarantine, nor can a leader that is wrong about it', () => {
  const c = new Node('c')
  c.hashes = [{ index: INDEX, hash: 'X' }]
  c.hear('b', 'Y')
  c.hear('a', 'X')
  c.hear('a', 'Y', INDEX, 2)
  c.hear('a', 'Y', 2048)
  c.turn()
  assert.is(c.comparison.quarantined, false)
})

node('a leader in the minority answers no more and hands over to a voter that is right', () => {
  const a = new Node('a')
  a.hashes = [{ index: INDEX, hash: 'Y' }]
  a.hear('b', 'X')
  a.hear('c', 'X')
  assert.equal(a.transfers, [])
  a.turn()
  assert.is(a.comparison.quarantined, true)
  assert.is(a.comparison.leader, null)
  assert.equal(a.transfers, ['b'])
  a.turn()
  assert.equal(a.transfers, ['b'], 'a transfer takes its time')
  a.comparison.tick()
  a.comparison.tick()
  a.turn()
  assert.equal(a.transfers, ['b', 'b'])
})

node('an odd voter is no heir', () => {
  const a = new Node('a')
  a.quorum = { incoming: [...'abcde'], outgoing: [] }
  a.hashes = [{ index: INDEX, hash: 'Y' }]
  a.hear('b', 'Z')
  for (const peer of 'cde') a.hear(peer, 'X')
  assert.equal(a.turn(), [`b: X at ${INDEX}`])
  assert.equal(a.transfers, ['c'])
})

node('without a majority there is an alarm and nothing more, until one is found', () => {
  const a = new Node('a')
  a.hashes = [{ index: INDEX, hash: 'X' }]
  a.hear('b', 'Y')
  assert.equal(a.turn(), [])
  assert.match(a.comparison.alarm ?? '', /no majority agrees/)
  assert.is(a.comparison.quarantined, false)
  a.hear('c', 'X')
  assert.equal(a.turn(), [`b: X at ${INDEX}`])
  assert.match(a.comparison.alarm ?? '', /state of b at/)
})

node('a member that is as the others at a later index is odd no more', () => {
  const a = new Node('a')
  a.hashes = [{ index: INDEX, hash: 'X' }]
  a.hear('b', 'Y')
  a.hear('c', 'X')
  a.turn()
  a.hear('b', 'Z', 2048)
  a.turn()
  assert.equal([...a.comparison.odd], ['b'], 'alone at an index, it proves nothing')
  a.hear('c', 'Z', 2048)
  a.turn()
  assert.equal([...a.comparison.odd], [])
  assert.is(a.comparison.alarm, null)
})

node('what strangers say, or what nobody can have applied, is not kept', () => {
  const a = new Node('a')
  a.hashes = [{ index: INDEX, hash: 'X' }]
  a.hear('x', 'Y')
  for (let i = 1; i <= 100; i++) a.hear('b', 'Y', a.log.commitIndex + i)
  a.hear('c', 'Z')
  a.turn()
  assert.match(a.comparison.alarm ?? '', /index 1024, and no majority/)
})

node('of very many indexes the newest are kept', () => {
  const a = new Node('a', 4)
  for (let index = 1; index <= 100; index++) a.hear('b', 'Y', index)
  a.hashes = [
    { index: 96, hash: 'X' },
    { index: 97, hash: 'X' },
  ]
  a.hear('c', 'X', 97)
  assert.equal(a.turn(), ['b: X at 97'])
})

rule.run()
node.run()
