// timeout: 300 s
/**
 * One founding node and peers that say anything: calls in any order, with saves that end late, restarts, and records that no correct
 * peer would have. It never throws, and the judge finds every change of its record allowed.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  blankRecord,
  type FoundingRecord,
  foundersOf,
  hashFounders,
  type KnownRecord,
  type Offer,
  parseFoundingMessage,
} from '../../node/founding/record.ts'
import { Founding, type FoundingDrain } from '../../node/founding.ts'
import {
  clusterId,
  type Disk,
  disk,
  foundedRecord,
  joinedRecord,
  messageFrom,
  offerAmong,
} from '../support/founding-lab.ts'
import { Judge, type Terms } from './founding-judge.ts'
import { holds } from './runs.ts'

/** Five keys, one of them with two disks; the node under test is one of the first three. */
const DISKS: readonly Disk[] = [disk(0), disk(1), disk(2), disk(3), disk(4), disk(1, 1)]
/** Offers that may be on their way from before, among sets of two and three. */
const OFFERS: readonly Offer[] = [
  [0, 1, 2],
  [0, 2, 3],
  [1, 2, 4],
  [0, 5, 2],
  [1, 2],
].map((set, at) =>
  offerAmong(
    set.map((one) => DISKS[one] as Disk),
    1 + (at % 3),
    at + 1,
  ),
)

const PEER_ACTS = [
  'blank',
  'pledge mine',
  'pledge mine',
  'pledge mine',
  'pledge one',
  'refuse',
  'found',
  'found mine',
  'join',
  'back',
] as const
const CALLS = [
  'link',
  'link',
  'unlink',
  'tell',
  'tell',
  'tell',
  'tell',
  'act',
  'act',
  'wait',
  'wait',
  'tick',
  'swept',
  'frame',
  'saved',
  'saved',
  'saved',
  'written',
  'written',
  'restart',
  'wrong',
  'copy of mine',
] as const

interface Call {
  readonly call: (typeof CALLS)[number]
  readonly act: (typeof PEER_ACTS)[number]
  readonly peer: number
  readonly other: number
  readonly drain: boolean
  readonly ms: number
}

const call: fc.Arbitrary<Call> = fc.record({
  call: fc.constantFrom(...CALLS),
  act: fc.constantFrom(...PEER_ACTS),
  peer: fc.nat(5),
  other: fc.nat(9),
  drain: fc.nat(5).map((dice) => dice > 0),
  ms: fc.constantFrom(0, 20, 50, 500, 3000, 60_000),
})

interface Start extends Terms {
  readonly self: number
  /** What an earlier life has left. */
  readonly left: number
  readonly named: boolean
}

const start: fc.Arbitrary<Start> = fc.record({
  self: fc.nat(2),
  expect: fc.constantFrom(1, 2, 3, 3, 3),
  mayFound: fc.nat(4).map((dice) => dice > 0),
  inviteClusterId: fc.option(fc.constantFrom(clusterId(1), clusterId(40)), { freq: 5 }),
  left: fc.nat(8),
  named: fc.nat(4).map((dice) => dice === 0),
})

class Lab {
  readonly #terms: Start
  readonly #self: Disk
  readonly #founders: readonly string[] | null
  readonly judge: Judge
  #founding: Founding
  readonly #linked = new Map<string, Disk>()
  readonly #records = new Map<Disk, FoundingRecord>()
  #ids = 100
  outcomes = new Set<string>()

  constructor(terms: Start) {
    this.#terms = terms
    this.#self = DISKS[terms.self] as Disk
    const keys = DISKS.slice(0, terms.expect).map(({ nodeKey }) => nodeKey)
    this.#founders = terms.named ? keys : null
    this.judge = new Judge(this.#self, terms, this.#leftBehind())
    this.#founding = this.#start()
  }

  #leftBehind(): FoundingRecord {
    const offer = OFFERS[this.#terms.left]
    const isMine =
      offer !== undefined && foundersOf(offer).some(({ nodeKey }) => nodeKey === this.#self.nodeKey)
    return isMine ? { seq: 4, floor: offer.round, pledge: offer, bound: null } : blankRecord
  }

  #start(): Founding {
    const { expect, mayFound, inviteClusterId } = this.#terms
    return new Founding({
      self: { ...this.#self, urls: () => this.#self.urls },
      bootId: '00000000000000aa',
      record: this.judge.durable,
      expect,
      founders: this.#founders,
      mayFound,
      inviteClusterId,
      settings: {},
      random: (bound) => (this.#ids * 7919) % bound,
      randomId: () => clusterId(this.#ids++),
    })
  }

  run(one: Call): void {
    this.#call(one)
    const { status } = this.#founding
    assert.ok(status.have >= 0 && status.have <= status.need)
    if (one.drain) this.drain()
  }

  drain(): FoundingDrain {
    const drained = this.#founding.drain()
    for (const { to, message } of drained.send) {
      this.judge.sends(to, message, (key) => this.#linked.has(key))
    }
    if (drained.save !== null) this.judge.asks(drained.save)
    if (drained.outcome !== null) {
      this.outcomes.add(drained.outcome.type)
      this.judge.outcome(drained.outcome)
    }
    for (const { text } of drained.notices) assert.not(/undefined|\[object/.test(text), text)
    return drained
  }

  #call({ call: what, act, peer, other, ms }: Call): void {
    const founding = this.#founding
    const from = DISKS[peer] as Disk
    switch (what) {
      case 'link':
        return this.#link(from, other)
      case 'unlink':
        this.#linked.delete(from.nodeKey)
        return founding.linkDown(from.nodeKey)
      case 'act':
        this.#act(from, act, other)
        return this.#tell(from, other)
      case 'tell':
        return this.#tell(from, other)
      case 'copy of mine':
        return this.#tellOfMe(from, act)
      case 'wait':
        // Long enough for F9, as the runtime ticks.
        for (let i = 0; i < 6; i++) founding.tick(500)
        return
      case 'tick':
        return founding.tick(ms)
      case 'swept':
        return founding.discoverySwept(other < 7 ? 0 : 1)
      case 'frame':
        return this.#claim(from, clusterId(other < 5 ? other : 40))
      case 'saved':
        if (this.judge.saving === null) return
        founding.recordSaved(this.judge.saving.seq)
        return this.judge.saved()
      case 'written':
        if (this.judge.log !== 'asked') return
        this.judge.log = 'written'
        return founding.logWritten()
      case 'restart':
        return this.#restart(other % 2 === 0)
      case 'wrong':
        return this.#wrong()
    }
  }

  #link(from: Disk, other: number): void {
    const known = this.#records.get(from)?.bound?.clusterId ?? null
    const said = other < 8 ? known : clusterId(other)
    // A second link of the same key takes the place of the first.
    if (from.nodeKey !== this.#self.nodeKey) this.#linked.set(from.nodeKey, from)
    this.#founding.linkUp(from.nodeKey, { ...from, bootId: '00000000000000bb', clusterId: said })
    if (said !== null && from.nodeKey !== this.#self.nodeKey) this.judge.claimed(from, said)
  }

  #claim(from: Disk, id: string): void {
    const linked = this.#linked.get(from.nodeKey)
    if (linked !== undefined) this.judge.claimed(linked, id)
    this.#founding.raftFrame(from.nodeKey, id)
  }

  /** A peer changes its record, as it should or not. */
  #act(from: Disk, act: Call['act'], other: number): void {
    // What is told of this very disk is the business of "copy of mine".
    if (from === this.#self) return
    const before = this.#records.get(from) ?? blankRecord
    const seq = before.seq + 1
    const mine = this.judge.durable.pledge
    const one = OFFERS[other % OFFERS.length] as Offer
    const pledge = act === 'pledge mine' || act === 'found mine' ? (mine ?? one) : one
    const floor = Math.max(before.floor, pledge.round)
    if (act === 'blank') this.#records.delete(from)
    else if (act === 'back') this.#records.set(from, { ...before, seq: 0, bound: null })
    else if (act === 'refuse') this.#records.set(from, { seq, floor, pledge: null, bound: null })
    else if (act === 'join')
      this.#records.set(from, {
        ...joinedRecord(clusterId(40), [DISKS[4]?.nodeKey as string]),
        seq,
      })
    else if (act.startsWith('found'))
      this.#records.set(from, { ...foundedRecord(pledge), floor, seq })
    else this.#records.set(from, { seq, floor, pledge, bound: null })
  }

  /** The sender's record, then some that it knows. Through JSON, as on the wire. */
  #tell(from: Disk, other: number): void {
    const own = this.#records.get(from) ?? blankRecord
    const others = [...this.#records].filter(([, record]) => record !== own).slice(0, other % 4)
    const records = [[from, own] as const, ...others].map(
      ([{ nodeKey, storageId }, record]): KnownRecord => ({ nodeKey, storageId, record }),
    )
    this.#deliver(from, records, other)
  }

  /** Somebody shows a copy of this very disk's record: an old one, or one that it should not have. */
  #tellOfMe(from: Disk, act: Call['act']): void {
    const { nodeKey, storageId } = from
    const own = { nodeKey, storageId, record: this.#records.get(from) ?? blankRecord }
    const { durable } = this.judge
    const seq = act === 'back' ? durable.seq + 1 : Math.max(0, durable.seq - 1)
    const copy = { ...this.#self, record: { ...durable, seq, bound: null } }
    if (from.nodeKey !== this.#self.nodeKey) this.#deliver(from, [own, copy], 0)
  }

  #deliver(from: Disk, records: readonly KnownRecord[], other: number): void {
    const linkedTo = DISKS.map(({ nodeKey }) => nodeKey).slice(0, other === 9 ? 2 : 6)
    const message = messageFrom(from, {
      records,
      linkedTo,
      expect: other === 8 ? 5 : this.#terms.expect,
      foundersHash: this.#founders === null ? null : hashFounders(this.#founders),
      mayFound: other !== 7,
    })
    const read = parseFoundingMessage(JSON.parse(JSON.stringify(message)))
    assert.ok(read !== null, 'the test makes messages that nobody reads')
    if (this.#linked.get(from.nodeKey) === from && !this.judge.fatal) this.judge.told(read)
    this.#founding.receive(from.nodeKey, read)
  }

  #restart(savedAfterAll: boolean): void {
    this.judge.restarted(savedAfterAll)
    this.#linked.clear()
    this.#founding = this.#start()
  }

  /** Calls that no runtime makes: they are refused, and change nothing. */
  #wrong(): void {
    const { saving, log } = this.judge
    assert.throws(() => this.#founding.recordSaved((saving?.seq ?? 0) + 1), /is not being saved/)
    if (log !== 'asked') assert.throws(() => this.#founding.logWritten(), /no log was asked for/)
  }
}

const founding = suite('founding')

founding(
  'any calls, any peers: nothing throws, and nothing is saved or said that may not be',
  () => {
    const seen = new Map<string, number>()
    holds(
      fc.property(start, fc.array(call, { maxLength: 60, size: 'max' }), (terms, calls) => {
        const lab = new Lab(terms)
        for (const one of calls) lab.run(one)
        for (const outcome of [...lab.outcomes, ...lab.judge.rules])
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
        const { pledge, bound } = lab.judge.durable
        const state = bound?.how ?? (pledge === null ? 'blank' : 'pledged')
        seen.set(state, (seen.get(state) ?? 0) + 1)
      }),
      3000,
    )
    console.log(JSON.stringify(Object.fromEntries([...seen].sort())))
    for (const wanted of ['found', 'join', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F8']) {
      assert.ok(seen.has(wanted), `no sequence came to "${wanted}"`)
    }
  },
)

founding.run()
