/**
 * What a leader knows of one follower, over a network that loses, repeats and reorders, with a follower whose log is any. Whatever
 * happens it never believes more than is so; and when the network is kind again, the follower has everything soon.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { RaftLog } from '../../node/raft/log.ts'
import { Progress } from '../../node/raft/progress.ts'
import type { Entry, Index, Term } from '../../node/raft/types.ts'
import { holds } from './runs.ts'

const WINDOW = { messagesMax: 3, bytesMax: 8 }
const APPEND_BYTES = 4

interface Append {
  readonly prevIndex: Index
  readonly entries: readonly Entry[]
}

type Reply =
  | { readonly accepted: true; readonly matchIndex: Index }
  | {
      readonly accepted: false
      readonly rejected: Index
      readonly hint: Index
      readonly hintTerm: Term
    }

function entriesOf(terms: readonly Term[]): Entry[] {
  return terms.map((term, at) => ({
    term,
    index: at + 1,
    kind: 'command',
    payload: new Uint8Array(at % 3),
  }))
}

class Lab {
  readonly leader: RaftLog
  /** The follower's log is only its terms: an entry is its term and place. */
  readonly follower: Term[]
  readonly progress: Progress
  readonly appends: Append[] = []
  readonly replies: Reply[] = []
  /** The best that the follower ever acknowledged. */
  #acknowledged: Index = 0

  constructor(own: readonly Term[], others: readonly Term[]) {
    this.leader = new RaftLog({
      base: { term: 0, index: 0 },
      entries: entriesOf(own),
      commitIndex: 0,
    })
    this.follower = [...others]
    const nextIndex = own.length + 1
    this.progress = new Progress({ nextIndex, active: true, window: WINDOW })
  }

  /** As a leader does once a turn. */
  send(): void {
    const { progress, leader } = this
    if (progress.state === 'probe') {
      if (!progress.paused) this.#append()
      return
    }
    while (!progress.paused && progress.nextIndex <= leader.lastIndex) this.#append()
    if (progress.askAgain) this.#append()
  }

  #append(): void {
    const { progress, leader } = this
    const prevIndex = progress.nextIndex - 1
    assert.ok(prevIndex <= leader.lastIndex, 'an Append that starts beyond the log')
    const isEmpty = progress.paused || prevIndex === leader.lastIndex
    const entries = isEmpty ? [] : leader.slice(prevIndex + 1, leader.lastIndex, APPEND_BYTES)
    const bytes = entries.reduce((sum, entry) => sum + entry.payload.length, 0)
    const lastIndex = prevIndex + entries.length
    progress.sent({ lastIndex, count: entries.length, bytes, commit: 0 })
    this.appends.push({ prevIndex, entries })
  }

  /** `slack`: how much better than necessary the hint of a rejection is not. */
  deliverAppend(at: number, keep: boolean, slack: number): void {
    const place = at % (this.appends.length || 1)
    const append = this.appends[place]
    if (append === undefined) return
    if (!keep) this.appends.splice(place, 1)
    this.replies.push(this.#answer(append, slack))
  }

  #answer({ prevIndex, entries }: Append, slack: number): Reply {
    const { follower } = this
    if (prevIndex > 0 && follower[prevIndex - 1] !== this.leader.termAt(prevIndex)) {
      // Any index at which the logs could still match, as far as the follower can know.
      const match = this.#matching()
      const hint = Math.min(follower.length, Math.max(match, prevIndex - 1 - slack))
      return { accepted: false, rejected: prevIndex, hint, hintTerm: follower[hint - 1] ?? 0 }
    }
    for (const { index, term } of entries) {
      if (follower[index - 1] === term) continue
      follower.length = index - 1
      follower.push(term)
    }
    const matchIndex = prevIndex + entries.length
    this.#acknowledged = Math.max(this.#acknowledged, matchIndex)
    return { accepted: true, matchIndex }
  }

  /** Up to where the two logs are equal. */
  #matching(): Index {
    let index = 0
    while (index < this.follower.length && this.follower[index] === this.leader.termAt(index + 1))
      index++
    return index
  }

  deliverReply(at: number, keep: boolean): void {
    const place = at % (this.replies.length || 1)
    const reply = this.replies[place]
    if (reply === undefined) return
    if (!keep) this.replies.splice(place, 1)
    if (reply.accepted) this.progress.accepted(reply.matchIndex)
    else {
      const retry = this.leader.lastIndexNotAfter(reply.hint, reply.hintTerm)
      this.progress.rejected(reply.rejected, retry)
    }
  }

  linkClosed(): void {
    this.appends.length = 0
    this.replies.length = 0
    const { progress } = this
    progress.becomeProbe(progress.state === 'probe' ? progress.nextIndex : progress.matchIndex + 1)
  }

  propose(): void {
    const index = this.leader.lastIndex + 1
    this.leader.append({
      term: this.leader.lastTerm,
      index,
      kind: 'command',
      payload: new Uint8Array(index % 3),
    })
  }

  check(before: Index): void {
    const { progress, leader } = this
    const { matchIndex, nextIndex } = progress
    assert.ok(matchIndex >= before, 'matchIndex fell')
    assert.ok(matchIndex <= this.#acknowledged, 'believes what was never acknowledged')
    assert.ok(matchIndex <= this.#matching(), 'believes what is not so')
    assert.ok(matchIndex < nextIndex && nextIndex <= leader.lastIndex + 1)
    assert.ok(progress.inflightCount <= WINDOW.messagesMax, 'more messages than the window')
  }
}

type Move = {
  readonly move: string
  readonly at: number
  readonly keep: boolean
  readonly slack: number
}

const move: fc.Arbitrary<Move> = fc.record({
  move: fc.constantFrom(
    'send',
    'send',
    'append',
    'append',
    'append',
    'reply',
    'reply',
    'reply',
    'lose',
    'lose reply',
    'echo',
    'tick',
    'propose',
    'close',
  ),
  at: fc.nat(30),
  keep: fc.nat(5).map((dice) => dice === 0),
  slack: fc.nat(6),
})

interface Logs {
  readonly own: readonly Term[]
  readonly others: readonly Term[]
}

/** Two logs with a common beginning and then terms of their own, odd and even: the same entry never stands behind different ones. */
const logs: fc.Arbitrary<Logs> = fc
  .record({
    own: fc.array(fc.nat(2), { maxLength: 10, size: 'max' }),
    others: fc.array(fc.nat(2), { maxLength: 8, size: 'max' }),
    common: fc.nat(10),
  })
  .map(({ own, others, common }) => {
    let term = 2
    const leader = own.map((rise) => (term += rise > 1 ? 2 : 0))
    const shared = leader.slice(0, common)
    let other = (shared.at(-1) ?? 0) + 1
    return {
      own: leader,
      others: [...shared, ...others.map((rise) => (other += rise > 1 ? 2 : 0))],
    }
  })

function run(lab: Lab, { move: what, at, keep, slack }: Move): void {
  if (what === 'send') lab.send()
  else if (what === 'append') lab.deliverAppend(at, keep, slack)
  else if (what === 'reply') lab.deliverReply(at, keep)
  else if (what === 'lose') lab.appends.splice(at % (lab.appends.length || 1), 1)
  else if (what === 'lose reply') lab.replies.splice(at % (lab.replies.length || 1), 1)
  else if (what === 'echo') lab.progress.echoed(lab.leader.lastIndex)
  else if (what === 'tick') lab.progress.tick()
  else if (what === 'propose') lab.propose()
  else lab.linkClosed()
}

/** Nothing is lost any more, and heartbeats are answered: returns after how many rounds the follower has everything. */
function beKind(lab: Lab): number {
  const bound = 2 * (lab.leader.lastIndex + lab.follower.length) + 10
  for (let round = 0; round < bound; round++) {
    if (lab.progress.matchIndex === lab.leader.lastIndex) return round
    lab.send()
    while (lab.appends.length > 0) lab.deliverAppend(0, false, round % 3)
    while (lab.replies.length > 0) lab.deliverReply(0, false)
    for (let tick = 0; tick < 2; tick++) lab.progress.tick()
    lab.progress.echoed(lab.leader.lastIndex)
  }
  throw new Error(`the follower is at ${lab.progress.matchIndex} of ${lab.leader.lastIndex}`)
}

const progress = suite('progress of a follower')

progress('never more than is so, and in the end everything', () => {
  holds(
    fc.property(logs, fc.array(move, { maxLength: 80, size: 'max' }), ({ own, others }, moves) => {
      // A leader has at least its own no-op.
      const lab = new Lab([...own, (own.at(-1) ?? 0) + 40], others)
      for (const one of moves) {
        const before = lab.progress.matchIndex
        run(lab, one)
        lab.check(before)
      }
      beKind(lab)
      assert.equal(
        lab.follower.slice(0, lab.leader.lastIndex),
        Array.from({ length: lab.leader.lastIndex }, (_, at) => lab.leader.termAt(at + 1)),
      )
    }),
    10_000,
  )
})

progress.run()
