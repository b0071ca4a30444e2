/**
 * What any founding node may do, written down a second time from the table in docs/founding.md and as plainly as possible: given every
 * record that was ever shown to it, is this change of its own record allowed?
 */
import * as assert from 'uvu/assert'
import {
  diskOf,
  type FoundingMessage,
  type FoundingRecord,
  foundersOf,
  type KnownRecord,
  type Offer,
  parseFoundingMessage,
  parseFoundingRecord,
  sameDisk,
} from '../../node/founding/record.ts'
import type { FoundingOutcome } from '../../node/founding.ts'
import type { Member } from '../../node/raft/types.ts'
import type { Disk } from '../support/founding-lab.ts'
import { comparable } from './laws.ts'

export interface Terms {
  readonly expect: number
  readonly mayFound: boolean
  readonly inviteClusterId: string | null
}

const same = (a: unknown, b: unknown): boolean => comparable(a) === comparable(b)

export class Judge {
  readonly #self: Disk
  readonly #terms: Terms
  /** Every record that was ever told, whoever told it. */
  readonly #shown: KnownRecord[] = []
  /** The newest of each disk since this process began. A peer that takes back what it said is believed again. */
  readonly #newest = new Map<string, KnownRecord>()
  /** Clusters that a live peer said it belongs to, with the peer. */
  readonly #claims: { readonly disk: Disk; readonly clusterId: string }[] = []
  durable: FoundingRecord
  saving: FoundingRecord | null = null
  log: 'none' | 'asked' | 'written' = 'none'
  fatal = false
  /** Which rules were followed, for the test to see that all of them were. */
  readonly rules = new Set<string>()

  constructor(self: Disk, terms: Terms, record: FoundingRecord) {
    this.#self = self
    this.#terms = terms
    this.durable = record
  }

  told(message: FoundingMessage): void {
    this.#shown.push(...message.records)
    for (const known of message.records) {
      const before = this.#newest.get(diskOf(known))
      if (before === undefined || before.record.seq < known.record.seq)
        this.#newest.set(diskOf(known), known)
    }
  }

  claimed(disk: Disk, clusterId: string): void {
    this.#claims.push({ disk, clusterId })
  }

  /** The process is new; what is durable stays, and so does what is true. */
  restarted(savedAfterAll: boolean): void {
    if (savedAfterAll && this.saving !== null) this.durable = this.saving
    this.saving = null
    this.log = 'none'
    this.fatal = false
    this.#newest.clear()
  }

  saved(): void {
    this.durable = this.saving as FoundingRecord
    this.saving = null
  }

  // --- what is known ----------------------------------------------------------------------------------------------------

  #others(): KnownRecord[] {
    return this.#shown.filter((known) => !sameDisk(known, this.#self))
  }

  #holds(record: FoundingRecord, offer: Offer): boolean {
    return record.bound?.clusterId === offer.clusterId || same(record.pledge, offer)
  }

  #pledged(disk: Member, offer: Offer): boolean {
    const own = sameDisk(disk, this.#self) && this.#holds(this.durable, offer)
    return (
      own || this.#others().some((one) => sameDisk(one, disk) && this.#holds(one.record, offer))
    )
  }

  /** refused(m, X), or another cluster was founded whose founding set meets S. */
  #isDead(offer: Offer, evidence: readonly KnownRecord[] = this.#others()): boolean {
    const founders = foundersOf(offer)
    return evidence.some((known) => {
      const { bound, floor } = known.record
      const isMember = founders.some((founder) => sameDisk(founder, known))
      const elsewhere = bound !== null && bound.clusterId !== offer.clusterId
      const refused =
        elsewhere || (bound === null && floor >= offer.round && !this.#holds(known.record, offer))
      if (isMember && refused) return true
      return elsewhere && founders.some(({ nodeKey }) => bound.foundingSet.includes(nodeKey))
    })
  }

  #clusters(): Set<string> {
    const bound = this.#others().flatMap(({ record }) => record.bound?.clusterId ?? [])
    return new Set([...bound, ...this.#claims.map(({ clusterId }) => clusterId)])
  }

  // --- what is allowed --------------------------------------------------------------------------------------------------

  /** A save that the node asks for. */
  asks(save: FoundingRecord): void {
    const before = this.durable
    assert.is(this.saving, null, 'two saves at a time')
    assert.not(this.fatal, 'a save after the end')
    assert.is(before.bound, null, 'a bound record changes')
    assert.is(save.seq, before.seq + 1, 'seq rises by one')
    assert.ok(save.floor >= before.floor, 'the floor falls')
    assert.equal(parseFoundingRecord(JSON.parse(JSON.stringify(save))), save, 'nobody can read it')
    if (save.bound !== null) this.#mayBind(save)
    else if (!same(save.pledge, before.pledge)) this.#mayChangePledge(save)
    else {
      assert.ok(save.floor > before.floor, 'a save that changes nothing')
      this.rules.add('F4')
    }
    this.saving = save
  }

  #mayBind(save: FoundingRecord): void {
    const { bound, pledge, floor } = save
    const before = this.durable
    assert.ok(same(pledge, before.pledge) && floor === before.floor, 'binding changes only bound')
    if (bound?.how === 'founded') {
      assert.is(this.log, 'written', 'bound before its log is durable')
      assert.is(bound.clusterId, pledge?.clusterId)
      this.log = 'none'
      this.rules.add('F6')
      return
    }
    this.rules.add('F7')
    assert.is(before.pledge, null, 'F7 with a pledge')
    const wanted = this.#terms.inviteClusterId
    assert.ok(
      wanted === null || bound?.clusterId === wanted,
      'F7 into another cluster than invited',
    )
    const told = this.#others().some(({ record }) => record.bound?.clusterId === bound?.clusterId)
    assert.ok(told, 'F7 without a record')
  }

  #mayChangePledge(save: FoundingRecord): void {
    const before = this.durable
    if (save.pledge === null) {
      assert.ok(before.pledge !== null && this.#isDead(before.pledge), 'F5 of an offer that lives')
      assert.is(save.floor, before.floor)
      this.rules.add('F5')
      return
    }
    assert.is(before.pledge, null, 'one pledge for another')
    const { pledge } = save
    const founders = foundersOf(pledge)
    assert.ok(
      founders.some((founder) => sameDisk(founder, this.#self)),
      'a pledge that leaves me out',
    )
    assert.is(save.floor, pledge.round)
    assert.ok(pledge.round > before.floor, 'a pledge that was refused before')
    assert.ok(this.#terms.mayFound, 'a guest founds')
    assert.is(founders.length, this.#terms.expect, 'a set of another size')
    const isShown = this.#others().some(({ record }) => same(record.pledge, pledge))
    this.rules.add(isShown ? 'F3' : 'F2')
    if (isShown) {
      const newest = [...this.#newest.values()].filter((known) => !sameDisk(known, this.#self))
      assert.not(this.#isDead(pledge, newest), 'F3 of a dead offer')
    } else {
      assert.is(pledge.proposer, this.#self.nodeKey, 'F3 of nothing')
      for (const founder of founders) {
        const known = this.#others().filter((one) => sameDisk(one, founder))
        assert.ok(sameDisk(founder, this.#self) || known.length > 0, 'F2 with somebody unknown')
      }
    }
  }

  outcome(outcome: FoundingOutcome): void {
    const { pledge, bound } = this.durable
    if (outcome.type === 'fatal') {
      this.fatal = true
      this.rules.add('F8')
      return
    }
    if (outcome.type === 'join') {
      assert.equal([bound?.how, bound?.clusterId], ['joined', outcome.clusterId])
      return
    }
    assert.is(this.log, 'none', 'a log is asked for twice')
    assert.ok(pledge !== null && bound === null && pledge.clusterId === outcome.clusterId)
    assert.is(Buffer.from(outcome.entry1).toString('hex'), pledge.entry1, 'its own view of entry 1')
    const everybody = foundersOf(pledge).every((founder) => this.#pledged(founder, pledge))
    assert.ok(everybody || this.#clusters().has(pledge.clusterId), 'F6 without all pledges')
    this.log = 'asked'
  }

  /** What leaves shows the durable record and nothing newer. */
  sends(to: string, message: FoundingMessage, linked: (nodeKey: string) => boolean): void {
    assert.ok(linked(to), 'a message to somebody without a link')
    assert.not(this.fatal, 'a message after the end')
    const [own, ...others] = message.records
    assert.ok(own !== undefined && sameDisk(own, this.#self))
    assert.is(comparable(own.record), comparable(this.durable), 'it shows what is not durable')
    for (const known of others) {
      const told = this.#shown.some((one) => sameDisk(one, known) && same(one.record, known.record))
      assert.ok(told, 'it tells what nobody told it')
    }
    const read = parseFoundingMessage(JSON.parse(JSON.stringify(message)))
    assert.is(comparable(read), comparable(message), 'nobody can read it')
  }
}
