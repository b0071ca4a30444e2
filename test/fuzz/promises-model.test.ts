/**
 * What is kept back until it is true: read rounds against a plain list, and promises against the disk that they speak of. A promise
 * (a vote, an acknowledgement) leaves only when the disk holds all that it says; a read is answered once, and never with an index from
 * before it was asked.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Durability } from '../../node/raft/durability.ts'
import { RaftLog } from '../../node/raft/log.ts'
import type { Outgoing } from '../../node/raft/messages.ts'
import { ReadRounds } from '../../node/raft/read-rounds.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import type { Entry, Index, PeerId, Term } from '../../node/raft/types.ts'
import { type DiskImage, writeTo } from '../support/raft-cluster.ts'
import { holds } from './runs.ts'

// --- reads ------------------------------------------------------------------------------------------------------------

const reads = suite('read rounds')

type ReadOp = 'add' | 'start' | 'confirm' | 'commit' | 'abandon'

reads('each read is answered once, or lost once, and never with an older index', () => {
  const op = fc.constantFrom<ReadOp>(
    'add',
    'add',
    'start',
    'confirm',
    'commit',
    'commit',
    'abandon',
  )
  holds(
    fc.property(fc.array(op, { maxLength: 60, size: 'max' }), (ops) => {
      const rounds = new ReadRounds()
      /** What was committed when the read came. */
      const asked = new Map<number, Index>()
      const ended = new Set<number>()
      let [commit, next, started] = [0, 1, 0]
      const end = (requestId: number): void => {
        assert.ok(asked.has(requestId) && !ended.has(requestId), 'answered twice, or never asked')
        ended.add(requestId)
      }
      for (const one of ops) {
        if (one === 'commit') commit++
        else if (one === 'add') {
          asked.set(next, commit)
          rounds.add(next++)
        } else if (one === 'start' && !rounds.underWay) {
          assert.is(rounds.start(commit), ++started)
          assert.is(rounds.waitingCount, 0)
        } else if (one === 'confirm' && rounds.underWay) {
          for (const { requestId, index } of rounds.confirm()) {
            end(requestId)
            assert.ok(index >= (asked.get(requestId) as Index) && index <= commit, 'a stale answer')
          }
        } else if (one === 'abandon') {
          for (const requestId of rounds.abandon()) end(requestId)
          assert.is(ended.size, asked.size, 'a read was forgotten')
        }
        assert.is(rounds.round, started)
      }
      for (const requestId of rounds.abandon()) end(requestId)
      assert.is(ended.size, asked.size, 'a read was forgotten')
    }),
    3000,
  )
})

// --- promises ----------------------------------------------------------------------------------------------------------

interface Promised {
  readonly term: Term
  readonly vote: PeerId | null
  /** The entries that are acknowledged, by term. */
  readonly terms: readonly Term[]
}

type SaveOp =
  | { readonly op: 'term'; readonly vote: boolean }
  | { readonly op: 'vote' | 'take' | 'tick' | 'saved' | 'failed' }
  | { readonly op: 'merge'; readonly back: number; readonly count: number }
  | { readonly op: 'promise'; readonly back: number }

const saveOp: fc.Arbitrary<SaveOp> = fc.oneof(
  fc.record({ op: fc.constant('term' as const), vote: fc.boolean() }),
  fc.record({
    op: fc.constantFrom('vote' as const, 'take', 'take', 'saved', 'saved', 'failed', 'tick'),
  }),
  fc.record({ op: fc.constant('merge' as const), back: fc.nat(4), count: fc.nat(3) }),
  fc.record({ op: fc.constant('promise' as const), back: fc.nat(3) }),
)

/** A node that only saves: its log and votes change as Raft may change them, and its disk is a plain copy of what was saved. */
class Node {
  readonly log = new RaftLog({ base: { term: 0, index: 0 }, entries: [], commitIndex: 0 })
  readonly disk: DiskImage = { hardState: null, entries: [] }
  readonly #durability: Durability
  #saving: SaveBatch | null = null
  readonly #promises = new Map<string, Promised>()
  #term = 0
  #vote: PeerId | null = null
  /** Up to here the log was acknowledged to the leader of this term, who has the same there. */
  #matched: Index = 0
  released = 0
  held = 0

  constructor(saveBytesMax: number) {
    const parts = { hardState: null, log: this.log, electionTicks: 3, saveBytesMax }
    this.#durability = new Durability(parts)
  }

  run(one: SaveOp): void {
    const disk = this.#durability
    switch (one.op) {
      case 'term':
        this.#term++
        this.#vote = one.vote ? `n${this.#term}` : null
        // Promises of the old term are void.
        this.#promises.clear()
        this.#matched = 0
        return disk.change(this.#term, this.#vote)
      case 'vote':
        if (this.#vote !== null) return
        this.#vote = `late${this.#term}`
        return disk.change(this.#term, this.#vote)
      case 'take':
        return this.#take()
      case 'tick':
        return disk.tick()
      case 'saved':
        if (this.#saving === null) return
        writeTo(this.disk, this.#saving)
        this.#saving = null
        return disk.saved()
      case 'failed':
        if (this.#saving === null) return
        this.#saving = null
        return disk.failed()
      case 'merge':
        return this.#merge(one.back, one.count)
      case 'promise':
        return this.#promise(one.back)
    }
  }

  #take(): void {
    const batch = this.#durability.take()
    if (batch === null) return
    assert.is(this.#saving, null, 'two saves at a time')
    this.#saving = batch
    const first = batch.entries[0]?.index ?? this.log.stableIndex + 1
    assert.ok(first <= this.disk.entries.length + 1, 'a save that leaves a gap')
    assert.equal(batch.hardState.term, this.#term)
    assert.is(batch.hardState.vote, this.#vote)
  }

  /** A leader of this term writes: behind what it shares, its own entries. Only a later term writes over them. */
  #merge(back: number, count: number): void {
    const { log } = this
    let prevIndex = log.lastIndex
    for (let i = 0; i < back; i++) if (log.termAt(prevIndex) !== this.#term) prevIndex--
    prevIndex = Math.max(0, this.#matched, prevIndex)
    const entries = Array.from({ length: count }, (_, i): Entry => {
      const index = prevIndex + 1 + i
      return { index, term: this.#term, kind: 'command', payload: new Uint8Array(index % 5) }
    })
    // Another entry of this very term there would be a second leader.
    if (entries.every(({ index }) => log.termAt(index) !== this.#term))
      log.merge(entries, prevIndex)
  }

  #promise(back: number): void {
    const index = Math.max(0, this.log.lastIndex - back)
    const terms = Array.from({ length: index }, (_, at) => this.log.termAt(at + 1) as Term)
    this.#matched = Math.max(this.#matched, index)
    const to = `promise ${this.held++}`
    this.#promises.set(to, { term: this.#term, vote: this.#vote, terms })
    this.#durability.hold({ to, message: { type: 'resigned', term: 0 } }, index)
  }

  check(): void {
    for (const outgoing of this.#durability.release()) this.#checkPromise(outgoing)
    const { log, disk } = this
    for (let index = 1; index <= log.stableIndex; index++) {
      assert.is(disk.entries[index - 1]?.term, log.termAt(index), 'stable, and not on the disk')
    }
    const { hardState } = disk
    if (this.#durability.durable) {
      assert.equal([hardState?.term ?? 0, hardState?.vote ?? null], [this.#term, this.#vote])
    }
  }

  #checkPromise({ to }: Outgoing): void {
    const promised = this.#promises.get(to)
    assert.ok(promised !== undefined, 'a promise that is void, or was kept before')
    this.#promises.delete(to)
    this.released++
    const { hardState, entries } = this.disk
    assert.is(hardState?.term ?? 0, promised.term, 'the term is not on the disk')
    if (promised.vote !== null)
      assert.is(hardState?.vote, promised.vote, 'the vote is not on the disk')
    const onDisk = entries.slice(0, promised.terms.length).map(({ term }) => term)
    assert.equal(onDisk, promised.terms, 'acknowledged, and not on the disk')
  }

  /** Saves until nothing is left to save; then nothing may be held back. */
  settle(): void {
    for (let i = 0; i < 20 || this.log.stableIndex < this.log.lastIndex; i++) {
      assert.ok(i < 500, 'the disk is kind, and saving never ends')
      this.run({ op: 'tick' })
      this.run({ op: 'take' })
      this.run({ op: 'saved' })
      this.check()
    }
    this.check()
    assert.is(this.log.stableIndex, this.log.lastIndex)
    assert.is(this.#promises.size, 0, 'a promise is held for ever')
  }
}

const promises = suite('promises and the disk')

promises('leave only when the disk holds what they say, and then they do leave', () => {
  const sum = { held: 0, released: 0 }
  holds(
    fc.property(
      fc.array(saveOp, { maxLength: 80, size: 'max' }),
      fc.constantFrom(0, 6, 1000),
      (ops, saveBytesMax) => {
        const node = new Node(saveBytesMax)
        for (const one of ops) {
          node.run(one)
          node.check()
        }
        node.settle()
        sum.held += node.held
        sum.released += node.released
      },
    ),
    3000,
  )
  console.log(`${sum.held} promises, ${sum.released} kept, the others void`)
  assert.ok(sum.released > 0 && sum.released < sum.held)
})

reads.run()
promises.run()
