/** The replicated sessions: exactly once, the floor, expiry of the least recently used, the limit on replies, and the hash. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, decodeOutcome } from '../../client/protocol.ts'
import { Random } from '../../node/raft/random.ts'
import { REPLIES_MAX, SESSIONS_MAX, Sessions } from '../../node/sessions.ts'
import { bytesOf, textOf } from '../support/raft-cluster.ts'

const NOTHING = new Uint8Array(0)

/** Sessions with a machine that only counts: the reply to every run is its number. */
class Lab {
  readonly sessions = new Sessions()
  readonly ran: string[] = []
  #index = 0

  apply(command: Command): { status: string; text: string } {
    const bytes = this.sessions.apply(command, ++this.#index, (operation) => {
      this.ran.push(textOf(operation))
      return bytesOf(`run ${this.ran.length}`)
    })
    const { status, body } = decodeOutcome(bytes)
    return { status, text: textOf(body) }
  }

  open(): number {
    this.apply({
      kind: 'openSession',
      session: 0,
      sequence: 0,
      firstOutstanding: 0,
      operation: NOTHING,
    })
    return this.#index
  }

  close(session: number): void {
    const numbers = { sequence: 0, firstOutstanding: 0 }
    this.apply({ kind: 'closeSession', session, ...numbers, operation: NOTHING })
  }

  /** Operation `sequence`; every reply below `floor` has reached the client. */
  run(session: number, sequence: number, floor = 1): { status: string; text: string } {
    const operation = bytesOf(`${session}.${sequence}`)
    return this.apply({ kind: 'operation', session, sequence, firstOutstanding: floor, operation })
  }
}

const sessions = suite('sessions')

sessions('an operation runs once, and a repeat gets the very reply of the first time', () => {
  const lab = new Lab()
  const id = lab.open()
  assert.is(id, 1, 'the id is the index')
  assert.equal(lab.run(id, 1), { status: 'done', text: 'run 1' })
  assert.equal(lab.run(id, 2), { status: 'done', text: 'run 2' })
  assert.equal(lab.run(id, 1), { status: 'done', text: 'run 1' })
  assert.equal(lab.run(id, 2), { status: 'done', text: 'run 2' })
  assert.equal(lab.ran, ['1.1', '1.2'])
})

sessions('sequences of one session may arrive in any order', () => {
  const lab = new Lab()
  const id = lab.open()
  for (const sequence of [5, 3, 4, 1, 2, 3, 5]) assert.is(lab.run(id, sequence).status, 'done')
  assert.equal(lab.ran, ['1.5', '1.3', '1.4', '1.1', '1.2'])
})

sessions('below the floor nothing runs any more', () => {
  const lab = new Lab()
  const id = lab.open()
  lab.run(id, 1)
  lab.run(id, 2)
  lab.run(id, 4, 3)
  assert.equal(lab.run(id, 1), { status: 'forgotten', text: '' })
  assert.equal(lab.run(id, 2), { status: 'forgotten', text: '' })
  assert.is(lab.run(id, 3).status, 'done', 'at the floor it still runs')
  assert.is(lab.run(id, 4).text, 'run 3')
  assert.is(lab.ran.length, 4)
})

sessions('the floor never goes back, and never past the operation that raises it', () => {
  const lab = new Lab()
  const id = lab.open()
  lab.run(id, 10, 8)
  lab.run(id, 11, 2)
  assert.is(lab.run(id, 7).status, 'forgotten')
  assert.is(lab.run(id, 12, 1_000_000).status, 'done')
  assert.is(lab.run(id, 12).status, 'done')
  assert.is(lab.run(id, 13).status, 'done')
})

sessions('an unknown session runs nothing and is not made by asking', () => {
  const lab = new Lab()
  assert.equal(lab.run(99, 1), { status: 'expired', text: '' })
  const id = lab.open()
  lab.run(id, 1)
  lab.close(id)
  assert.equal(lab.run(id, 1), { status: 'expired', text: '' })
  lab.close(id)
  assert.is(lab.sessions.count, 0)
  assert.is(lab.ran.length, 1)
})

sessions('the least recently used session gives way, and only that one', () => {
  const lab = new Lab()
  const first = lab.open()
  const second = lab.open()
  for (let i = 2; i < SESSIONS_MAX; i++) lab.open()
  lab.run(first, 1)
  lab.open()
  assert.is(lab.sessions.count, SESSIONS_MAX)
  assert.is(lab.run(second, 1).status, 'expired')
  assert.is(lab.run(first, 1).text, 'run 1')
  assert.is(lab.run(second + 1, 1).status, 'done')
})

sessions('replies are bounded: the oldest is forgotten, and does not run again', () => {
  const lab = new Lab()
  const id = lab.open()
  for (let sequence = 1; sequence <= REPLIES_MAX; sequence++) lab.run(id, sequence)
  assert.is(lab.run(id, 1).text, 'run 1')
  lab.run(id, REPLIES_MAX + 1)
  assert.is(lab.run(id, 1).status, 'forgotten')
  assert.is(lab.run(id, 2).text, 'run 2')
  assert.is(lab.ran.length, REPLIES_MAX + 1)
})

/** A random but legal client life: opens, writes, repeats, floors that rise, closes. */
function live(lab: Lab, seed: number, steps: number): void {
  const random = new Random(seed)
  const open: { id: number; next: number; floor: number }[] = []
  for (let step = 0; step < steps; step++) {
    const one = open[random.below(open.length || 1)]
    const dice = random.below(20)
    if (one === undefined || dice === 0) open.push({ id: lab.open(), next: 1, floor: 1 })
    else if (dice === 1) {
      lab.close(one.id)
      open.splice(open.indexOf(one), 1)
    } else if (dice < 6)
      lab.run(one.id, one.floor + random.below(one.next - one.floor + 1), one.floor)
    else {
      one.floor += random.below(one.next - one.floor + 1)
      lab.run(one.id, one.next++, one.floor)
    }
  }
}

sessions('the same commands give the same hash; any one more gives another', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const [a, b] = [new Lab(), new Lab()]
    live(a, seed, 300)
    live(b, seed, 300)
    assert.is(a.sessions.hash(), b.sessions.hash())
    assert.equal(a.ran, b.ran)
    const before = a.sessions.hash()
    const id = a.open()
    const opened = a.sessions.hash()
    a.run(id, 1)
    const written = a.sessions.hash()
    a.run(id, 1)
    assert.is(a.sessions.hash(), written, 'a repeat changes nothing')
    a.run(id, 2, 2)
    assert.is(new Set([before, opened, written, a.sessions.hash()]).size, 4)
    a.close(id)
    assert.is(a.sessions.hash(), before, 'what is gone leaves no trace')
  }
})

sessions('equal contents have equal hashes, whatever way led there', () => {
  const [a, b] = [new Lab(), new Lab()]
  for (const lab of [a, b]) {
    lab.open()
    lab.open()
  }
  // The machine's replies are numbered, so the same reply must come to the same operation: floors hide the difference.
  a.run(1, 1)
  a.run(2, 1)
  b.run(2, 1)
  b.run(1, 1)
  assert.is.not(a.sessions.hash(), b.sessions.hash())
  for (const lab of [a, b]) {
    lab.run(1, 2, 2)
    lab.run(2, 2, 2)
  }
  assert.is(a.sessions.hash(), b.sessions.hash())
  a.close(1)
  assert.is.not(a.sessions.hash(), b.sessions.hash())
  b.close(1)
  assert.is(a.sessions.hash(), b.sessions.hash())
})

sessions('nothing runs twice in any legal life, however often it is repeated', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const lab = new Lab()
    live(lab, seed, 500)
    assert.is(new Set(lab.ran).size, lab.ran.length)
  }
})

sessions.run()
