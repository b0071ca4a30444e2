/** What waits and who is linked, against plain lists: requests without an answer, forwards to a leader, links to peers. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Forwards } from '../../node/forwards.ts'
import { PeerBook } from '../../node/peer-book.ts'
import { type Member, type PeerId, peerIdOf } from '../../node/raft/types.ts'
import { type Pending, RequestTable } from '../../node/request-table.ts'
import type { Link } from '../../node/transport/transport.ts'
import { holds } from './runs.ts'

// --- requests without an answer -----------------------------------------------------------------------------------------

type TableOp = {
  readonly op: 'add' | 'remove' | 'requeue' | 'hurry' | 'due' | 'expired'
  readonly which: number
  readonly ticks: number
}

const tableOp: fc.Arbitrary<TableOp> = fc.record({
  op: fc.constantFrom('add', 'add', 'remove', 'requeue', 'hurry', 'due', 'due', 'expired'),
  which: fc.nat(8),
  ticks: fc.nat(4),
})

interface Waiting {
  readonly bytes: number
  readonly deadline: number
  notBefore: number
}

class TableModel {
  readonly table = new RequestTable()
  readonly #known = new Map<number, Waiting>()
  /** Ids in the order in which they must be sent. */
  #queue: number[] = []
  #next = 1
  #tick = 0

  run({ op, which, ticks }: TableOp): void {
    const { table } = this
    const ids = [...this.#known.keys()]
    // Sometimes one that has gone.
    const id = ids[which] ?? which
    if (op === 'add') this.#add(which, ticks)
    else if (op === 'remove') {
      this.#known.delete(id)
      table.remove(id)
    } else if (op === 'requeue') {
      const known = this.#known.get(id)
      if (known !== undefined) {
        known.notBefore = this.#tick + ticks
        this.#queue.push(id)
      }
      table.requeue(id, this.#tick + ticks)
    } else if (op === 'hurry') {
      table.hurry()
      for (const one of this.#queue) {
        const known = this.#known.get(one)
        if (known !== undefined) known.notBefore = 0
      }
    } else if (op === 'due') this.#due(ticks)
    else this.#expired()
  }

  #add(size: number, ticks: number): void {
    const requestId = this.#next++
    const deadline = this.#tick + ticks
    const notBefore = size % 2 === 0 ? 0 : this.#tick + 1
    const bytes = new Uint8Array(size)
    const query = { type: 'query' as const, query: bytes, consistency: 'linearizable' as const }
    const request =
      size % 3 === 0
        ? { ...query, timeoutMs: 1 }
        : { type: 'command' as const, command: bytes, timeoutMs: 1 }
    this.table.add({ requestId, request, deadline, dispatched: false, notBefore, repeats: 0 })
    this.#known.set(requestId, { bytes: size, deadline, notBefore })
    this.#queue.push(requestId)
  }

  #due(ticks: number): void {
    this.#tick += ticks
    const there = this.#queue.filter((id) => this.#known.has(id))
    const isDue = (id: number): boolean => (this.#known.get(id)?.notBefore ?? 0) <= this.#tick
    const taken = this.table.takeDue(this.#tick).map(({ requestId }) => requestId)
    assert.equal(taken, there.filter(isDue), 'what is due leaves in order')
    this.#queue = there.filter((id) => !isDue(id))
  }

  #expired(): void {
    const expected = [...this.#known].filter(([, { deadline }]) => deadline <= this.#tick)
    const found = this.table.expired(this.#tick).map(({ requestId }) => requestId)
    assert.equal(
      found,
      expected.map(([id]) => id),
    )
  }

  check(): void {
    const { table } = this
    assert.is(table.count, this.#known.size)
    assert.is(
      table.bytes,
      [...this.#known.values()].reduce((sum, { bytes }) => sum + bytes, 0),
    )
    assert.equal(
      table.all().map(({ requestId }) => requestId),
      [...this.#known.keys()],
    )
    for (const [id, { notBefore }] of this.#known) assert.is(table.get(id)?.notBefore, notBefore)
  }
}

const requests = suite('requests without an answer')

requests('are sent when they are due, in order, and none is lost', () => {
  holds(
    fc.property(fc.array(tableOp, { maxLength: 60, size: 'max' }), (ops) => {
      const model = new TableModel()
      for (const one of ops) {
        model.run(one)
        model.check()
      }
    }),
    2000,
  )
})

// --- forwards -------------------------------------------------------------------------------------------------------------

const PEERS: readonly PeerId[] = ['a', 'b', 'c']
const forwardOp = fc.record({
  op: fc.constantFrom('add', 'add', 'take', 'take', 'wrong peer', 'unknown', 'lost', 'again'),
  peer: fc.nat(2),
  which: fc.nat(6),
  repeats: fc.array(fc.nat(8), { maxLength: 3 }),
})

const forwards = suite('forwards to a leader')

forwards('are answered by the one who was asked, once', () => {
  holds(
    fc.property(
      fc.array(forwardOp, { maxLength: 50, size: 'max' }),
      fc.nat(0xffff_ffff),
      (ops, life) => {
        const table = new Forwards({ patienceTicks: 3, life })
        const known = new Map<number, { to: PeerId; againTick: number }>()
        const ids = new Set<number>()
        let tick = 0
        for (const { op, peer, which, repeats } of ops) {
          const to = PEERS[peer] as PeerId
          const id = [...known.keys()][which] ?? -1
          const asked = known.get(id)
          if (op === 'add') {
            const made = table.add(to, repeats.map(pendingWith), tick)
            assert.ok(Number.isSafeInteger(made) && !ids.has(made), 'an id that was there before')
            ids.add(made)
            const most = Math.min(5, Math.max(0, ...repeats))
            known.set(made, { to, againTick: tick + 3 * 2 ** most })
          } else if (op === 'take') {
            const taken = table.take(id, asked?.to ?? to)
            assert.is(taken?.to, asked?.to)
            assert.is(taken?.againTick, asked?.againTick)
            known.delete(id)
          } else if (op === 'wrong peer' && asked !== undefined && asked.to !== to) {
            assert.is(table.take(id, to), null)
          } else if (op === 'unknown') {
            const gone = [...ids].find((one) => !known.has(one))
            assert.is(table.take(gone ?? 0, to), null, 'a late answer')
          } else if (op === 'lost' || op === 'again') {
            tick += which
            const isLost = (one: { to: PeerId; againTick: number }): boolean =>
              op === 'lost' ? one.to === to : one.againTick <= tick
            const expected = [...known].filter(([, one]) => isLost(one))
            assert.is(table.takeWhere(isLost).length, expected.length)
            for (const [one] of expected) known.delete(one)
          }
          assert.is(table.count, known.size)
        }
      },
    ),
    2000,
  )
})

function pendingWith(repeats: number): Pending {
  const request = { type: 'command' as const, command: new Uint8Array(0), timeoutMs: 0 }
  return { requestId: 0, request, deadline: 0, dispatched: true, notBefore: 0, repeats }
}

// --- links ------------------------------------------------------------------------------------------------------------------

const linkOp = fc.record({
  op: fc.constantFrom('up', 'up', 'down', 'look'),
  peer: fc.nat(2),
  /** The same key with another disk is another peer. */
  disk: fc.nat(1),
  which: fc.nat(9),
  urls: fc.array(fc.constantFrom('ws://x', 'ws://y'), { maxLength: 2 }),
})

const links = suite('links to peers')

links('the oldest link that is up carries, and the newest words of a peer stand', () => {
  holds(
    fc.property(fc.array(linkOp, { maxLength: 50, size: 'max' }), (ops) => {
      const first = memberOf(0, 0, ['ws://remembered'])
      const book = new PeerBook([first])
      const up: Link[] = []
      const said = new Map<PeerId, readonly string[]>([[peerIdOf(first), first.urls]])
      for (const { op, peer, disk, which, urls } of ops) {
        const id = { nodeKey: `key${peer}`, storageId: `disk${disk}` }
        if (op === 'up') {
          const link = linkOf(id, urls)
          const isNews = said.get(peerIdOf(id))?.join() !== urls.join()
          up.push(link)
          said.set(peerIdOf(id), urls)
          assert.is(book.linkUp(link), isNews)
        } else if (op === 'down') {
          const [gone] = up.splice(which % (up.length || 1), 1)
          // A link that is down already is no matter.
          if (gone !== undefined) for (let i = 0; i < 1 + (which % 2); i++) book.linkDown(gone)
        }
        const carrying = up.filter(({ hello }) => peerIdOf(hello) === peerIdOf(id))
        assert.is(book.linkTo(peerIdOf(id)), carrying[0] ?? null)
        const byKey = up.find(({ hello }) => hello.nodeKey === id.nodeKey)
        const found = book.identityOfKey(id.nodeKey)
        assert.is(found === null, byKey === undefined)
        if (found !== null) assert.ok(up.some(({ hello }) => peerIdOf(hello) === peerIdOf(found)))
        const member = memberOf(peer, disk, ['ws://configured'])
        const known = said.get(peerIdOf(id)) ?? []
        assert.equal(book.urlsOf(member), known.length > 0 ? known : member.urls)
        assert.equal(book.withUrls([member])[0]?.urls, book.urlsOf(member))
      }
    }),
    2000,
  )
})

let linkCount = 0

function linkOf(id: { nodeKey: string; storageId: string }, urls: readonly string[]): Link {
  const hello = {
    ...id,
    bootId: '',
    bootCounter: 0,
    clusterId: null,
    featureLevel: 1,
    name: '',
    urls,
  }
  return { linkId: ++linkCount, hello, carrier: 'direct', rttMs: null }
}

function memberOf(peer: number, disk: number, urls: readonly string[]): Member {
  return { memberId: 1, nodeKey: `key${peer}`, storageId: `disk${disk}`, name: '', urls }
}

requests.run()
forwards.run()
links.run()
