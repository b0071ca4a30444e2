/**
 * The founding records that a walk meets, each with a small number, and what the real rules answer to what a node may have
 * heard. Both walks, the one in single steps and the folded one, ask here.
 */
import { type FoundingRecord, foundersOf, type KnownRecord } from '../../node/founding/record.ts'
import { boundRecord, type Claim, type Decision, type View } from '../../node/founding/rules.ts'
import { type Disk, disk, viewOf } from './founding-lab.ts'
import type { Flags, World } from './founding-model.ts'

/** What one node may have heard of another: a record (its number, or -1) and the cluster its hello named. */
export interface Heard {
  readonly record: number
  readonly clusterId: string | null
}

export const NOTHING: Heard = { record: -1, clusterId: null }

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
  readonly proposal: readonly number[] | null
  readonly reachable: readonly number[]
  readonly roundsMax: number
}

export class RecordBook {
  readonly disks: readonly Disk[]
  readonly records: FoundingRecord[] = []
  readonly #world: World
  readonly #numbered: boolean
  readonly #ids = new Map<string, number>()
  readonly #copies = new Map<number, FoundingRecord>()
  readonly #proposals = new Map<string, readonly (readonly number[])[]>()
  /** How often the rules were asked. */
  asked = 0

  /**
   * `numbered: false` leaves `seq` out of a record. The rules compare it only with a copy of the node's own record, and
   * the content of one disk's records never comes back: the floor rises, a pledge ends, or `bound` is set.
   */
  constructor(world: World, numbered: boolean) {
    this.#world = world
    this.#numbered = numbered
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
    const { roundsMax } = this.#world
    const add = (outcome: Outcome | null): void => {
      const known = (other: Outcome) =>
        other.record === outcome?.record && other.fault === outcome.fault
      if (outcome !== null && !all.some(known)) all.push(outcome)
    }
    for (const flags of flagsOf(this.#world, question.node)) {
      const ask = { ...question, flags, reachable: [], roundsMax }
      const first = this.ask({ ...ask, proposal: null })
      add(first)
      // `proposal` is read by F2 alone, and F2 is asked last: after another rule it changes nothing.
      if (first !== null) continue
      for (const proposal of this.#sets(question, flags)) add(this.ask({ ...ask, proposal }))
    }
    return all
  }

  /** Every set of disks with different keys whose lowest is mine, all of whom I have heard of. */
  #sets({ node, heard }: Question, flags: Flags): readonly (readonly number[])[] {
    const size = flags.founders?.length ?? flags.expect
    const key = (at: number) => (this.disks[at] as Disk).nodeKey
    const others = heard.flatMap(({ record }, at) => {
      return at !== node && record >= 0 && key(at) > key(node) ? [at] : []
    })
    const memo = `${node}/${size}/${others.join()}`
    const before = this.#proposals.get(memo)
    if (before !== undefined) return before
    const sets = subsets(others, size - 1).filter(
      (set) => new Set(set.map(key)).size === set.length,
    )
    const all = sets.map((set) => [node, ...set])
    this.#proposals.set(memo, all)
    return all
  }

  ask(ask: Ask): Outcome | null {
    this.asked++
    const own = this.get(ask.own)
    const { rules, ignoreF8 = false } = this.#world
    let decision = (rules as NonNullable<World['rules']>)(own, this.#view(ask, '0'.repeat(32)))
    if (decision.rule === 'F2') {
      if (decision.record.floor > ask.roundsMax) return null
      // A cluster id is random and never comes again. One of proposer, round and set is as good: a disk makes one offer a round.
      const members = (ask.proposal as readonly number[]).map((member) => member.toString(16))
      const id = `${ask.node}${decision.record.floor.toString(16).padStart(2, '0')}${members.join('')}`
      const named = this.#view(ask, id.padStart(32, '0'))
      decision = (rules as NonNullable<World['rules']>)(own, named)
    }
    switch (decision.rule) {
      case 'none':
        return null
      case 'F6':
        return this.#outcome('F6', boundRecord(own))
      case 'F8':
        if (ignoreF8) return null
        return { rule: 'F8', record: -1, fault: `F8 without a fault: ${decision.detail}` }
      default:
        return this.#outcome(decision.rule, decision.record)
    }
  }

  #outcome(rule: Decision['rule'], record: FoundingRecord): Outcome {
    return { rule, record: this.intern(record), fault: null }
  }

  #view(ask: Ask, clusterId: string): View {
    const { node, flags, heard, proposal, reachable } = ask
    const { expect, mayFound = true, founders } = flags
    const others: KnownRecord[] = []
    const claims: Claim[] = []
    for (const [at, told] of heard.entries()) {
      const { nodeKey, storageId } = this.disks[at] as Disk
      if (told.record >= 0) {
        const record = at === node ? this.#olderCopy(told.record) : this.get(told.record)
        others.push({ nodeKey, storageId, record })
      }
      if (told.clusterId !== null) claims.push({ nodeKey, storageId, clusterId: told.clusterId })
    }
    return viewOf(this.disks[node] as Disk, {
      expect: founders?.length ?? expect,
      mayFound,
      founders: founders?.map((member) => (this.disks[member] as Disk).nodeKey) ?? null,
      others,
      claims,
      reachable: reachable.map((member) => this.disks[member] as Disk),
      proposal:
        proposal === null
          ? null
          : {
              clusterId,
              founders: proposal.map((member) => this.disks[member] as Disk),
              settings: {},
            },
    })
  }

  /** In a book without numbers a copy of a node's own record is an old one. */
  #olderCopy(id: number): FoundingRecord {
    if (this.#numbered) return this.get(id)
    const before = this.#copies.get(id)
    if (before !== undefined) return before
    const copy = { ...this.get(id), seq: -1 }
    this.#copies.set(id, copy)
    return copy
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

/** A record without its number. */
export function contentOf({ floor, pledge, bound }: FoundingRecord): string {
  const offer = pledge === null ? '' : `${pledge.clusterId}@${pledge.round}`
  return `${floor}|${offer}|${bound === null ? '' : `${bound.clusterId}${bound.how}`}`
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
