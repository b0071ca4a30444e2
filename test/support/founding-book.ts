/**
 * The founding records that a walk meets, each with a small number, and what the real rules answer to what a node may have
 * heard. Both walks, the one in single steps and the folded one, ask here.
 */
import { type FoundingRecord, foundersOf, type KnownRecord } from '../../node/founding/record.ts'
import {
  boundRecord,
  type Claim,
  type Decision,
  decide,
  type View,
} from '../../node/founding/rules.ts'
import { type Disk, disk, viewOf } from './founding-lab.ts'
import type { Flags, Rules, World } from './founding-model.ts'

/** What one node may have heard of another: a record (its number, or -1) and the cluster its hello named. */
export interface Heard {
  readonly record: number
  readonly clusterId: string | null
}

export const NOTHING: Heard = { record: -1, clusterId: null }

const NOBODY: readonly number[] = []
const NO_OUTCOME: readonly Outcome[] = []
const ANY_ID = '0'.repeat(32)

/** A record to save, or with `fault` what must never happen. */
export interface Outcome {
  readonly rule: string
  readonly record: number
  readonly fault: string | null
}

export interface Question {
  readonly node: number
  readonly own: number
  /** By node; the entry of `node` itself is a copy of its own record that came back, or NOTHING. */
  readonly heard: readonly Heard[]
}

interface Ask extends Question {
  readonly flags: Flags
  /** The sets that links may allow to offer; asked for only where an offer is possible. */
  readonly sets: () => readonly (readonly number[])[]
  readonly reachable: readonly number[]
  readonly roundsMax: number
}

export class RecordBook {
  readonly disks: readonly Disk[]
  readonly records: FoundingRecord[] = []
  readonly #world: World
  readonly #numbered: boolean
  readonly #ids = new Map<string, number>()
  /** By disk and record. */
  readonly #shown: readonly KnownRecord[][]
  readonly #flags: readonly (readonly Flags[])[]
  readonly #rules: Rules
  readonly #proposals = new Map<number, readonly (readonly number[])[]>()
  /** How often the rules were asked. */
  asked = 0

  /**
   * `numbered: false` leaves `seq` out of a record. The rules compare it only with a copy of the node's own record, and
   * the content of one disk's records never comes back: the floor rises, a pledge ends, or `bound` is set.
   */
  constructor(world: World, numbered: boolean) {
    this.#world = world
    this.#numbered = numbered
    this.#rules = world.rules ?? decide
    this.#shown = world.nodes.map(() => [])
    this.#flags = world.nodes.map((_, node) => flagsOf(world, node))
    this.disks = world.nodes.map((spec, at) =>
      spec.key === undefined ? disk(at) : { ...disk(spec.key, 1), name: `n${at + 1}` },
    )
  }

  intern(record: FoundingRecord): number {
    const key = this.#numbered ? `${record.seq}|${contentOf(record)}` : contentOf(record)
    const found = this.#ids.get(key)
    if (found !== undefined) return found
    this.records.push(this.#numbered ? record : { ...record, seq: 0 })
    this.#ids.set(key, this.records.length - 1)
    return this.records.length - 1
  }

  get(id: number): FoundingRecord {
    return this.records[id] as FoundingRecord
  }

  isBound(id: number): boolean {
    return this.get(id).bound !== null
  }

  clusterOf(id: number): string | null {
    return this.get(id).bound?.clusterId ?? null
  }

  /**
   * Everything `node` may do next, whichever flags it was started with and whichever set its links let it offer. No peer
   * is called reachable: that only ever forbids (G).
   */
  outcomes(question: Question): readonly Outcome[] {
    const all: Outcome[] = []
    for (const flags of this.#flags[question.node] as readonly Flags[]) {
      const sets = () => this.#sets(question, flags)
      const { roundsMax } = this.#world
      const outcomes = this.outcomesWith({ ...question, flags, sets, reachable: NOBODY, roundsMax })
      for (const outcome of outcomes) addOutcome(all, outcome)
    }
    return all
  }

  /** What a node with these flags may do next: by itself, or by offering one of the sets. */
  outcomesWith(ask: Ask): readonly Outcome[] {
    const { own } = ask
    const view = this.#view(ask)
    const first = this.#answer(ask, view, null)
    if (first !== null) return [first]
    // `proposal` is read by F2 alone, which is asked last, and only of a node without a pledge.
    if (this.get(own).pledge !== null) return NO_OUTCOME
    const all: Outcome[] = []
    for (const set of ask.sets()) {
      const outcome = this.#answer(ask, view, set)
      if (outcome !== null) addOutcome(all, outcome)
    }
    return all
  }

  /** Every set of disks with different keys whose lowest is mine, all of whom I have heard of. */
  #sets({ node, heard }: Question, flags: Flags): readonly (readonly number[])[] {
    const size = flags.founders?.length ?? flags.expect
    const { nodeKey } = this.disks[node] as Disk
    let heardOf = 0
    for (let at = 0; at < heard.length; at++) {
      if (at === node || (heard[at] as Heard).record < 0) continue
      if ((this.disks[at] as Disk).nodeKey > nodeKey) heardOf |= 1 << at
    }
    const memo = ((heardOf << 3) | node) * 64 + size
    const before = this.#proposals.get(memo)
    if (before !== undefined) return before
    const others = [...heard.keys()].filter((at) => (heardOf & (1 << at)) !== 0)
    const keys = (set: readonly number[]) => set.map((at) => (this.disks[at] as Disk).nodeKey)
    const sets = subsets(others, size - 1).filter((set) => new Set(keys(set)).size === set.length)
    const all = sets.map((set) => [node, ...set])
    this.#proposals.set(memo, all)
    return all
  }

  #answer(
    { node, own: id, roundsMax }: Ask,
    view: View,
    set: readonly number[] | null,
  ): Outcome | null {
    this.asked++
    const own = this.get(id)
    let decision = this.#rules(own, set === null ? view : this.#proposing(view, set, ANY_ID))
    if (decision.rule === 'F2') {
      const round = decision.record.floor
      if (round > roundsMax) return null
      // A cluster id is random and never comes again. One of proposer, round and set is as good: a disk makes one offer a round.
      const members = (set as readonly number[]).map((member) => member.toString(16)).join('')
      const clusterId = `${node}${round.toString(16).padStart(2, '0')}${members}`.padStart(32, '0')
      decision = this.#rules(own, this.#proposing(view, set as readonly number[], clusterId))
    }
    switch (decision.rule) {
      case 'none':
        return null
      case 'F6':
        return this.#outcome('F6', boundRecord(own))
      case 'F8':
        if (this.#world.ignoreF8 === true) return null
        return { rule: 'F8', record: -1, fault: `F8 without a fault: ${decision.detail}` }
      default:
        return this.#outcome(decision.rule, decision.record)
    }
  }

  #outcome(rule: Decision['rule'], record: FoundingRecord): Outcome {
    return { rule, record: this.intern(record), fault: null }
  }

  #view({ node, heard, flags, reachable }: Ask): View {
    const { expect, mayFound = true, founders } = flags
    const others: KnownRecord[] = []
    const claims: Claim[] = []
    for (let at = 0; at < heard.length; at++) {
      const { record, clusterId } = heard[at] as Heard
      const disk = this.disks[at] as Disk
      if (record >= 0)
        others.push(at === node ? this.#olderCopy(node, record) : this.#known(at, record))
      if (clusterId !== null) {
        claims.push({ nodeKey: disk.nodeKey, storageId: disk.storageId, clusterId })
      }
    }
    return viewOf(this.disks[node] as Disk, {
      expect: founders?.length ?? expect,
      mayFound,
      founders: founders?.map((member) => (this.disks[member] as Disk).nodeKey) ?? null,
      others,
      claims,
      reachable: reachable.map((member) => this.disks[member] as Disk),
    })
  }

  #proposing(view: View, set: readonly number[], clusterId: string): View {
    const founders = set.map((member) => this.disks[member] as Disk)
    return { ...view, proposal: { clusterId, founders, settings: {} } }
  }

  #known(at: number, id: number): KnownRecord {
    const all = this.#shown[at] as KnownRecord[]
    const before = all[id]
    if (before !== undefined) return before
    const { nodeKey, storageId } = this.disks[at] as Disk
    const known = { nodeKey, storageId, record: this.get(id) }
    all[id] = known
    return known
  }

  /** In a book without numbers a copy of a node's own record is an old one. */
  #olderCopy(node: number, id: number): KnownRecord {
    const known = this.#known(node, id)
    return this.#numbered ? known : { ...known, record: { ...known.record, seq: -1 } }
  }

  show(id: number): string {
    const { floor, pledge, bound } = this.get(id)
    const set = pledge === null ? [] : foundersOf(pledge).map((founder) => this.#nameOf(founder))
    const offer = pledge === null ? '-' : `{${set.join()}}@${pledge.round}`
    return `floor ${floor} pledge ${offer}${bound === null ? '' : ` ${bound.how}`}`
  }

  #nameOf(founder: { readonly nodeKey: string; readonly storageId: string }): string {
    const at = this.disks.findIndex(
      (disk) => disk.nodeKey === founder.nodeKey && disk.storageId === founder.storageId,
    )
    return `n${at + 1}`
  }
}

function addOutcome(all: Outcome[], outcome: Outcome): void {
  for (const { rule, record, fault } of all) {
    if (rule === outcome.rule && record === outcome.record && fault === outcome.fault) return
  }
  all.push(outcome)
}

/** A record without its number. Nobody looks at the floor of a bound one: `bound` says what it refuses. */
export function contentOf({ floor, pledge, bound }: FoundingRecord): string {
  const offer = pledge === null ? '' : `${pledge.clusterId}@${pledge.round}`
  return bound === null ? `${floor}|${offer}|` : `|${offer}|${bound.clusterId}${bound.how}`
}

/** For comparing walks: the newest record of each disk, and all it ever had durable. */
export function historiesOf(
  book: RecordBook,
  durable: readonly number[],
  saved: readonly (readonly number[])[],
): string {
  const content = (id: number) => contentOf(book.get(id))
  const disks = durable.map((id, at) => {
    const all = (saved[at] as readonly number[]).map(content).sort()
    return `${content(id)} of ${all.join()}`
  })
  return disks.join(' / ')
}

export function flagsOf(world: World, node: number): readonly Flags[] {
  const spec = world.nodes[node] as World['nodes'][number]
  return [spec, ...(spec.restartsAs ?? [])]
}

export function subsets(items: readonly number[], size: number): readonly (readonly number[])[] {
  if (size === 0) return [[]]
  return items.flatMap((first, at) =>
    subsets(items.slice(at + 1), size - 1).map((rest) => [first, ...rest]),
  )
}
