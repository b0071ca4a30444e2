/**
 * The log of one node against a plain array: any sequence of appends, merges, commits, saves, snapshots, compactions and
 * installations, legal or not.
 */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { InvariantError } from '../../node/raft/assert.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
} from '../../node/raft/configuration.ts'
import { type ConfigurationAt, RaftLog } from '../../node/raft/log.ts'
import type { Entry, EntryId, Index, Term } from '../../node/raft/types.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { comparable } from './laws.ts'
import { holds } from './runs.ts'

const CONFIGURATIONS = [1, 3, 4].map((size) =>
  encodeConfigurationRecord({
    clusterId: '0'.repeat(32),
    foundingSet: [],
    settings: {},
    configuration: configurationOf(size),
  }),
)

/** Everything is looked up by walking an array; `null` stands at every index before the log begins. */
class Model {
  base: EntryId
  entries: Entry[] = []
  stable: Index
  commit: Index
  applied: Index
  snapshot: Index
  unsavedBase: EntryId | null = null
  /** Of the snapshot that the log began with, or that was installed last. */
  installed: Index

  constructor(base: EntryId) {
    this.base = base
    this.stable = this.commit = this.applied = this.snapshot = this.installed = base.index
  }

  get last(): Index {
    return this.entries.at(-1)?.index ?? this.base.index
  }

  at(index: Index): Entry | undefined {
    return this.entries.find((entry) => entry.index === index && index > this.base.index)
  }

  get kept(): Entry[] {
    return this.entries.filter(({ index }) => index > this.base.index)
  }

  termAt(index: Index): Term | undefined {
    return index === this.base.index ? this.base.term : this.at(index)?.term
  }

  /** Null: refused by an invariant, and then nothing more is asked of this log. */
  append(entry: Entry): null | undefined {
    if (entry.index !== this.last + 1 || entry.term < (this.termAt(this.last) as Term)) return null
    this.entries.push(entry)
  }

  merge(entries: readonly Entry[], prevIndex: Index): Index | null {
    for (const entry of entries) {
      if (this.termAt(entry.index) === entry.term) continue
      if (entry.index <= this.last) {
        if (entry.index <= this.commit) return null
        this.entries = this.entries.filter((one) => one.index < entry.index)
        this.stable = Math.min(this.stable, this.last)
      }
      if (this.append(entry) === null) return null
    }
    return entries.at(-1)?.index ?? prevIndex
  }

  commitTo(index: Index): null | undefined {
    if (index > this.last) return null
    this.commit = Math.max(this.commit, index)
  }

  noteSnapshot(index: Index): null | undefined {
    if (index < this.snapshot || index > this.applied || index > this.stable) return null
    this.snapshot = index
  }

  /** What is compacted away is only not looked at any more, so that configurations of before are still known. */
  compactTo(index: Index): null | undefined {
    if (index <= this.base.index) return
    if (index > this.snapshot) return null
    this.base = { term: this.termAt(index) as Term, index }
  }

  reset(id: EntryId): null | undefined {
    if (id.index <= this.commit) return null
    this.stable = Math.min(this.stable, id.index - 1)
    this.base = this.unsavedBase = id
    this.entries = []
    this.commit = this.applied = this.snapshot = this.installed = id.index
  }

  stabilise({ entries, base }: Saving): void {
    if (this.unsavedBase !== null) {
      if (this.unsavedBase.index !== base?.index) return
      this.unsavedBase = null
      this.stable = base.index
    }
    for (const { index, term } of entries) {
      if (this.termAt(index) === term) this.stable = Math.max(this.stable, index)
    }
  }

  take(count: number): Entry[] {
    const from = this.applied
    this.applied = Math.min(this.commit, from + count)
    return this.entries.filter(({ index }) => index > from && index <= this.applied)
  }

  slice(from: Index, to: Index, bytesMax: number): Entry[] {
    const wanted = this.kept.filter(({ index }) => index >= from && index <= to)
    for (let count = wanted.length; count > 1; count--) {
      const taken = wanted.slice(0, count)
      if (taken.reduce((sum, { payload }) => sum + payload.length, 0) <= bytesMax) return taken
    }
    return wanted.slice(0, 1)
  }

  notAfter(index: Index, term: Term): Index {
    let found = Math.min(index, this.last)
    while (found > this.base.index && (this.termAt(found) as Term) > term) found--
    return found
  }

  /** The index of the newest one; that of a snapshot stands at its own index in these worlds. */
  configurationAt(index: Index): Index | undefined {
    const inLog = this.entries.filter((one) => one.kind === 'configuration' && one.index <= index)
    const found = inLog.at(-1)?.index ?? this.installed
    return found === 0 || found > index ? undefined : found
  }
}

interface Saving {
  readonly entries: readonly Entry[]
  readonly base: EntryId | null
}

function configurationOfSnapshot(index: Index): ConfigurationAt {
  const record = decodeConfigurationRecord(CONFIGURATIONS[0] as Uint8Array)
  if (record === null) throw new Error('no configuration')
  return { index, record }
}

type Op =
  | { readonly op: 'append'; readonly rise: number; readonly kind: number; readonly gap: boolean }
  | {
      readonly op: 'merge'
      readonly back: number
      readonly same: number
      readonly fresh: number
      readonly kind: number
      readonly below: boolean
    }
  | {
      readonly op: 'commit' | 'take' | 'save' | 'snapshot' | 'compact' | 'install'
      readonly by: number
    }
  | { readonly op: 'saved' }
  | { readonly op: 'look'; readonly from: number; readonly to: number; readonly bytes: number }

const small = fc.nat(5)
const rarely = fc.nat(100).map((dice) => dice === 0)
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ op: fc.constant('append' as const), rise: fc.nat(1), kind: fc.nat(9), gap: rarely }),
  fc.record({
    op: fc.constant('merge' as const),
    back: small,
    same: small,
    fresh: small,
    kind: fc.nat(9),
    below: rarely,
  }),
  fc.record({
    op: fc.constantFrom('commit' as const, 'take' as const, 'save' as const),
    by: small,
  }),
  fc.record({ op: fc.constantFrom('snapshot' as const, 'compact' as const), by: fc.nat(3) }),
  fc.record({ op: fc.constant('install' as const), by: small }),
  fc.record({ op: fc.constant('saved' as const) }),
  fc.record({ op: fc.constant('look' as const), from: small, to: small, bytes: fc.nat(12) }),
)

class Pair {
  readonly log: RaftLog
  readonly model: Model
  #term: Term
  /** What saves are under way: they may end late, when the log has changed. */
  readonly #saves: Saving[] = []
  refusals = 0

  constructor(base: EntryId) {
    const configuration = configurationOfSnapshot(base.index)
    const snapshot = base.index === 0 ? null : { id: base, configuration }
    this.log = new RaftLog({ base, entries: [], commitIndex: base.index, snapshot })
    this.model = new Model(base)
    this.#term = base.term
  }

  /** False: both have refused, and the log is not used any more. */
  run(one: Op): boolean {
    const { model, log } = this
    switch (one.op) {
      case 'append': {
        this.#term += one.rise
        const entry = this.#entry(model.last + 1 + (one.gap ? 1 : 0), one.kind)
        return this.#both(
          () => log.append(entry),
          () => model.append(entry),
        )
      }
      case 'merge': {
        const { entries, prevIndex } = this.#leaders(one)
        return this.#both(
          () => log.merge(entries, prevIndex),
          () => model.merge(entries, prevIndex),
        )
      }
      case 'commit': {
        const index = model.commit + one.by
        return this.#both(
          () => log.commitTo(index),
          () => model.commitTo(index),
        )
      }
      case 'take':
        assert.equal(log.takeCommitted(one.by), model.take(one.by))
        return true
      case 'save': {
        const base = model.unsavedBase
        const from = (base?.index ?? model.stable) + 1
        this.#saves.push({ entries: model.slice(from, model.last, one.by * 4), base })
        return true
      }
      case 'saved': {
        const batch = this.#saves.shift() ?? { entries: [], base: null }
        log.stabilise(batch.entries, batch.base)
        model.stabilise(batch)
        return true
      }
      case 'snapshot': {
        const index = model.applied - one.by
        if (one.by > 0 && index < model.snapshot) return true
        return this.#both(
          () => log.noteSnapshot(index),
          () => model.noteSnapshot(index),
        )
      }
      case 'compact': {
        const index = model.base.index + one.by
        return this.#both(
          () => log.compactTo(index),
          () => model.compactTo(index),
        )
      }
      case 'install': {
        const id = { term: ++this.#term, index: model.commit + one.by }
        return this.#both(
          () => log.reset(id, configurationOfSnapshot(id.index)),
          () => model.reset(id),
        )
      }
      case 'look':
        this.#look(one)
        return true
    }
  }

  #entry(index: Index, kind: number): Entry {
    const configuration = CONFIGURATIONS[kind]
    return configuration === undefined
      ? { index, term: this.#term, kind: 'command', payload: new Uint8Array(index % 4) }
      : { index, term: this.#term, kind: 'configuration', payload: configuration }
  }

  /** What a leader of a new term could send: some entries that are here, then some of its own. */
  #leaders({ back, same, fresh, kind, below }: Op & { op: 'merge' }) {
    const { model } = this
    const from = below ? model.last - back : Math.max(model.commit, model.last - back)
    const prevIndex = Math.max(model.base.index, from)
    const entries = model.slice(prevIndex + 1, Math.min(model.last, prevIndex + same), 1e9)
    this.#term++
    const behind = prevIndex + entries.length
    const own = Array.from({ length: fresh }, (_, i) => this.#entry(behind + 1 + i, kind + i))
    return { entries: [...entries, ...own], prevIndex }
  }

  #both(real: () => unknown, expected: () => unknown): boolean {
    const wanted = expected()
    try {
      assert.is(real(), wanted)
      return true
    } catch (error) {
      if (!(error instanceof InvariantError)) throw error
      assert.is(wanted, null, error.message)
      this.refusals++
      return false
    }
  }

  #look({ from, to, bytes }: Op & { op: 'look' }): void {
    const { model, log } = this
    const [first, last] = [model.base.index + 1, model.last]
    for (let index = 0; index <= last + 2; index++) {
      assert.is(log.termAt(index), model.termAt(index))
      assert.is(log.entryAt(index), model.at(index))
      assert.is(log.lastIndexNotAfter(index, from), model.notAfter(index, from))
      if (index < model.base.index) continue
      assert.is(log.configurationAt(index)?.index, model.configurationAt(index))
    }
    const start = first + from
    const end = Math.min(last, start + to)
    if (start <= end) assert.equal(log.slice(start, end, bytes), model.slice(start, end, bytes))
    const ownTerm = model.termAt(last) as Term
    for (const [term, index] of [
      [ownTerm, last + to - from],
      [ownTerm + to - from, last],
    ] as const) {
      const upToDate = term !== ownTerm ? term > ownTerm : index >= last
      assert.is(log.isUpToDate(term, index), upToDate)
    }
  }

  check(): void {
    const { model, log } = this
    const { firstIndex, lastIndex, lastTerm, stableIndex, commitIndex, appliedIndex } = log
    assert.equal([firstIndex, lastIndex], [model.base.index + 1, model.last])
    assert.is(lastTerm, model.termAt(model.last))
    assert.equal(
      [stableIndex, commitIndex, appliedIndex],
      [model.stable, model.commit, model.applied],
    )
    assert.equal([log.snapshotIndex, log.unsavedBase], [model.snapshot, model.unsavedBase])
    const bytes = model.kept.reduce((sum, { payload }) => sum + payload.length, 0)
    assert.is(log.payloadBytes, bytes)
    const index = model.configurationAt(model.last)
    assert.is(log.configuration?.index, index)
    const entry = model.entries.find((one) => one.index === index)
    if (entry === undefined || log.configuration === null) return
    assert.equal(encodeConfigurationRecord(log.configuration.record), entry.payload)
  }
}

const log = suite('raft log against an array')

log('every sequence of calls', () => {
  const sum = { calls: 0, refusals: 0 }
  const base = fc.record({ term: fc.nat(3), index: fc.nat(3) })
  holds(
    fc.property(base, fc.array(op, { maxLength: 60, size: 'max' }), (start, ops) => {
      const pair = new Pair(start.index === 0 ? { term: 0, index: 0 } : start)
      for (const one of ops) {
        sum.calls++
        if (!pair.run(one)) break
        pair.check()
      }
      sum.refusals += pair.refusals
    }),
    3000,
  )
  console.log(`${sum.calls} calls, ${sum.refusals} sequences end with a refusal`)
  assert.ok(sum.refusals > 0)
})

log('what was recovered is what was there', () => {
  holds(
    fc.property(fc.array(op, { maxLength: 40, size: 'max' }), (ops) => {
      const pair = new Pair({ term: 0, index: 0 })
      for (const one of ops) if (!pair.run(one)) return
      const { kept, commit, base, snapshot: index } = pair.model
      const configuration = pair.log.configurationAt(index)
      const id = { term: pair.log.termAt(index) as Term, index }
      const snapshot = configuration === null ? null : { id, configuration }
      if (snapshot === null && base.index > 0) return
      const again = new RaftLog({ base, entries: kept, commitIndex: commit, snapshot })
      assert.equal([again.lastIndex, again.stableIndex], [pair.model.last, pair.model.last])
      assert.is(again.appliedIndex, snapshot === null ? 0 : index)
      assert.is(comparable(again.configuration), comparable(pair.log.configuration))
    }),
    500,
  )
})

log.run()
