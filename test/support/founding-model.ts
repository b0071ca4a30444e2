/**
 * Walks every interleaving of a few nodes that found, with the real rules (node/founding/rules.ts). The network is the
 * set of all records ever published: any of them may arrive at any time, late, twice, or never. A crash forgets what is
 * not durable. Breadth first, so that a violation comes with a shortest trace.
 */
import { firstClique } from '../../node/founding/candidates.ts'
import {
  blankRecord,
  type FoundingRecord,
  foundersOf,
  type KnownRecord,
} from '../../node/founding/record.ts'
import { boundRecord, type Decision, decide, type View } from '../../node/founding/rules.ts'
import { type Disk, disk, viewOf } from './founding-lab.ts'

export type Rules = (own: FoundingRecord, view: View) => Decision

export interface NodeSpec {
  readonly expect: number
  readonly mayFound?: boolean
  readonly founders?: readonly number[]
}

export interface World {
  readonly nodes: readonly NodeSpec[]
  /** No offer above this round is made while the network is cruel: bounds the walk. */
  readonly roundsMax: number
  /** Deciding, saving and publishing are separate steps, with a crash at each. */
  readonly stepwise?: boolean
  readonly rules?: Rules
  /** Planted bug: what is not durable yet is published (needs stepwise). */
  readonly sendBeforeSave?: boolean
  /** Planted bug: a crash may lose the whole record, and the disk keeps its identity. */
  readonly wipes?: boolean
  readonly statesMax?: number
  /** False: only safety is checked, not that a kind world ends well. */
  readonly kind?: boolean
  /** Nodes do not stop when they see that they were rolled back: shows what a planted bug leads to without that net. */
  readonly ignoreF8?: boolean
}

export interface Verdict {
  readonly states: number
  /** Distinct sets of durable records, from each of which a kind world was tried in every order. */
  readonly kindStates: number
  readonly complete: boolean
  readonly violation: { readonly what: string; readonly trace: readonly string[] } | null
}

interface NodeState {
  readonly durable: number
  /** A record decided and not durable, or -1. */
  readonly saving: number
  /** The newest record known of each node, -1 for none. */
  readonly known: readonly number[]
  /** All records ever published. */
  readonly history: readonly number[]
}

type State = readonly NodeState[]

const KIND_STEPS_MAX = 40

class Walk {
  readonly #world: World
  readonly #disks: readonly Disk[]
  readonly #rules: Rules
  readonly #records: FoundingRecord[] = []
  readonly #ids = new Map<string, number>()
  readonly #decisions = new Map<string, { record: number; rule: string } | string | null>()
  readonly #kindDone = new Set<string>()

  constructor(world: World) {
    this.#world = world
    this.#disks = world.nodes.map((_, index) => disk(index))
    this.#rules = world.rules ?? decide
  }

  get kindStates(): number {
    return this.#kindDone.size
  }

  run(): Verdict {
    const blank = this.#intern(blankRecord)
    const nobody = this.#disks.map(() => -1)
    const start = this.#disks.map(
      (): NodeState => ({ durable: blank, saving: -1, known: nobody, history: [blank] }),
    )
    const seen = new Map<string, readonly [string, string] | null>([[encode(start), null]])
    const queue: string[] = [encode(start)]
    const { statesMax = Number.POSITIVE_INFINITY } = this.#world
    const verdict = (violation: Verdict['violation'], complete: boolean): Verdict => ({
      states: seen.size,
      kindStates: this.kindStates,
      complete,
      violation,
    })
    for (let at = 0; at < queue.length; at++) {
      const key = queue[at] as string
      const state = decode(key, this.#disks.length)
      const wrong = this.#world.kind === false ? null : this.#kind(state)
      if (wrong !== null) return verdict({ what: wrong, trace: trace(seen, key) }, false)
      for (const [step, next] of this.#steps(state)) {
        if (typeof next === 'string') {
          return verdict({ what: next, trace: [...trace(seen, key), step] }, false)
        }
        const nextKey = encode(next)
        if (seen.has(nextKey)) continue
        if (seen.size >= statesMax) return verdict(null, false)
        seen.set(nextKey, [key, step])
        queue.push(nextKey)
      }
    }
    return verdict(null, true)
  }

  #intern(record: FoundingRecord): number {
    const { seq, floor, pledge, bound } = record
    const offer = pledge === null ? '' : `${pledge.clusterId}@${pledge.round}`
    const key = `${seq}|${floor}|${offer}|${bound?.clusterId ?? ''}${bound?.how ?? ''}`
    const found = this.#ids.get(key)
    if (found !== undefined) return found
    this.#records.push(record)
    this.#ids.set(key, this.#records.length - 1)
    return this.#records.length - 1
  }

  /** Every way the state can go on. A string instead of a state is a violation. */
  *#steps(state: State): Generator<readonly [string, State | string]> {
    const { stepwise = false, wipes = false } = this.#world
    for (const [i, node] of state.entries()) {
      // A bound node decides nothing any more; only what it has published counts.
      if (!wipes && (this.#records[node.durable] as FoundingRecord).bound !== null) continue
      const name = `n${i + 1}`
      for (const [j, other] of state.entries()) {
        if (j === i) continue
        for (const record of other.history) {
          const now = node.known[j] as number
          if (now >= 0 && this.#seq(record) <= this.#seq(now)) continue
          const known = node.known.map((old, at) => (at === j ? record : old))
          const told = `${name} hears n${j + 1}: ${this.#show(record)}`
          yield [told, replace(state, i, { ...node, known })]
        }
      }
      const forgotten = this.#disks.map(() => -1)
      if (node.saving >= 0 || node.known.some((record) => record >= 0)) {
        const crashed = { ...node, saving: -1, known: forgotten }
        yield [`${name} crashes`, replace(state, i, crashed)]
      }
      if (wipes && this.#seq(node.durable) > 0) {
        const blank = this.#intern(blankRecord)
        const wiped = { ...node, durable: blank, saving: -1, known: forgotten }
        yield [`${name} loses its disk`, replace(state, i, wiped)]
      }
      if (node.saving >= 0) {
        yield [`${name} has saved`, this.#saved(state, i, node.saving)]
        continue
      }
      for (const proposal of this.#proposals(i, node)) {
        const decision = this.#decide(i, node.durable, node.known, proposal, [])
        if (decision === null) continue
        if (typeof decision === 'string') {
          yield [name, decision]
          continue
        }
        const step = `${name} ${decision.rule}: ${this.#show(decision.record)}`
        const next = stepwise
          ? replace(state, i, this.#saving(node, decision.record))
          : this.#saved(state, i, decision.record)
        yield [step, next]
      }
    }
  }

  #saving(node: NodeState, record: number): NodeState {
    const { sendBeforeSave = false } = this.#world
    const history = sendBeforeSave ? published(node.history, record) : node.history
    return { ...node, saving: record, history }
  }

  #saved(state: State, i: number, record: number): State | string {
    const node = state[i] as NodeState
    const history = published(node.history, record)
    const { bound } = this.#records[record] as FoundingRecord
    const known = bound === null ? node.known : node.known.map(() => -1)
    const next = replace(state, i, { durable: record, saving: -1, known, history })
    const founded = new Set(
      next.flatMap((other) =>
        other.history.flatMap((id) => {
          const bound = (this.#records[id] as FoundingRecord).bound
          return bound?.how === 'founded' ? [bound.clusterId] : []
        }),
      ),
    )
    return founded.size > 1 ? `two clusters: ${[...founded].join(' and ')}` : next
  }

  /** Every set this node could offer by what it knows, and no set. Which ones links allow is left open. */
  *#proposals(i: number, node: NodeState): Generator<readonly number[]> {
    yield []
    const { nodes } = this.#world
    const { expect, founders } = nodes[i] as NodeSpec
    const size = founders?.length ?? expect
    const later = nodes.flatMap((_, j) => (j > i && (node.known[j] as number) >= 0 ? [j] : []))
    for (const rest of subsets(later, size - 1)) yield [i, ...rest]
  }

  #decide(
    i: number,
    own: number,
    known: readonly number[],
    proposal: readonly number[],
    reachable: readonly number[],
  ): { record: number; rule: string } | string | null {
    const key = `${i}/${own}/${known.join()}/${proposal.join()}/${reachable.join()}`
    const before = this.#decisions.get(key)
    if (before !== undefined) return before
    const answer = this.#ask(i, own, known, proposal, reachable)
    this.#decisions.set(key, answer)
    return answer
  }

  #ask(
    i: number,
    own: number,
    known: readonly number[],
    proposal: readonly number[],
    reachable: readonly number[],
  ): { record: number; rule: string } | string | null {
    const { expect, mayFound = true, founders } = this.#world.nodes[i] as NodeSpec
    const record = this.#records[own] as FoundingRecord
    const mask = proposal.reduce((sum, member) => sum + 2 ** member, 0)
    const name = `${i}${record.seq.toString(16).padStart(4, '0')}${mask.toString(16)}`
    const view = viewOf(this.#disks[i] as Disk, {
      expect: founders?.length ?? expect,
      mayFound,
      founders: founders?.map((member) => (this.#disks[member] as Disk).nodeKey) ?? null,
      others: known.flatMap((id, j): KnownRecord[] =>
        id < 0
          ? []
          : [{ ...(this.#disks[j] as Disk), record: this.#records[id] as FoundingRecord }],
      ),
      reachable: reachable.map((member) => this.#disks[member] as Disk),
      proposal:
        proposal.length === 0
          ? null
          : {
              clusterId: name.padStart(32, '0'),
              founders: proposal.map((member) => this.#disks[member] as Disk),
              settings: {},
            },
    })
    const decision = this.#rules(record, view)
    switch (decision.rule) {
      case 'none':
        return null
      case 'F6':
        return { rule: 'F6', record: this.#intern(boundRecord(record)) }
      case 'F8':
        return this.#world.ignoreF8 ? null : `F8 without a fault: ${decision.detail}`
      default:
        if (decision.rule === 'F2' && decision.record.floor > this.#roundsMax) return null
        return { rule: decision.rule, record: this.#intern(decision.record) }
    }
  }

  #roundsMaxNow: number | null = null

  get #roundsMax(): number {
    return this.#roundsMaxNow ?? this.#world.roundsMax
  }

  /**
   * From here on nothing fails and everybody knows the newest of all. In every order of steps it must end, with everybody
   * bound to one cluster, if there are enough founders at all.
   */
  #kind(state: State): string | null {
    const durable = state.map((node) => node.durable)
    if (this.#kindDone.has(durable.join())) return null
    this.#roundsMaxNow = Number.POSITIVE_INFINITY
    const wrong = this.#kindStep(durable, [])
    this.#roundsMaxNow = null
    return wrong
  }

  #kindStep(durable: readonly number[], path: readonly string[]): string | null {
    const key = durable.join()
    if (this.#kindDone.has(key)) return null
    if (path.length > KIND_STEPS_MAX) return `kind world never ends: ${path.join('; ')}`
    let moved = false
    const everybody = durable.map((_, j) => j)
    for (const i of everybody) {
      const known = durable.map((record, j) => (j === i ? -1 : record))
      const others = everybody.filter((j) => j !== i)
      const proposal = this.#kindProposal(i, durable)
      const key = `kind/${i}/${durable.join()}`
      let decision = this.#decisions.get(key)
      if (decision === undefined) {
        decision = this.#ask(i, durable[i] as number, known, proposal, others)
        this.#decisions.set(key, decision)
      }
      if (decision === null) continue
      if (typeof decision === 'string') return decision
      moved = true
      const { rule, record } = decision
      const next = durable.map((old, j) => (j === i ? record : old))
      const wrong = this.#kindStep(next, [...path, `n${i + 1} ${rule}: ${this.#show(record)}`])
      if (wrong !== null) return wrong
    }
    this.#kindDone.add(key)
    if (moved) return null
    const ends = new Set(
      durable.map((id) => (this.#records[id] as FoundingRecord).bound?.clusterId),
    )
    if (ends.size === 1 && !ends.has(undefined)) return null
    return `kind world ends unfounded: ${durable.map((id) => this.#show(id)).join('; ')}`
  }

  /** What the driver would offer: the first free keys that agree with each other (all are linked). */
  #kindProposal(i: number, durable: readonly number[]): readonly number[] {
    const { nodes } = this.#world
    const own = nodes[i] as NodeSpec
    const mode = (spec: NodeSpec) => spec.founders?.join() ?? spec.expect
    const free = nodes.flatMap((spec, j) => {
      const { pledge, bound } = this.#records[durable[j] as number] as FoundingRecord
      const capable = spec.mayFound !== false && mode(spec) === mode(own)
      const named = own.founders === undefined || own.founders.includes(j)
      return capable && named && pledge === null && bound === null ? [j] : []
    })
    const keys = free.map((j) => (this.#disks[j] as Disk).nodeKey)
    const crowd = keys.map((nodeKey) => ({ nodeKey, linkedTo: new Set(keys) }))
    const clique = firstClique(crowd, own.founders?.length ?? own.expect) ?? []
    return free.filter((j) => clique.includes((this.#disks[j] as Disk).nodeKey))
  }

  #seq(id: number): number {
    return (this.#records[id] as FoundingRecord).seq
  }

  #show(id: number): string {
    const { seq, floor, pledge, bound } = this.#records[id] as FoundingRecord
    const set = pledge === null ? [] : foundersOf(pledge).map((founder) => founder.name)
    const offer = pledge === null ? '-' : `{${set.join()}}@${pledge.round}`
    return `#${seq} floor ${floor} pledge ${offer}${bound === null ? '' : ` ${bound.how}`}`
  }
}

function published(history: readonly number[], record: number): readonly number[] {
  return history.includes(record) ? history : [...history, record]
}

function replace(state: State, i: number, node: NodeState): State {
  return state.map((old, at) => (at === i ? node : old))
}

function* subsets(items: readonly number[], size: number): Generator<readonly number[]> {
  if (size === 0) yield []
  for (const [at, first] of items.entries()) {
    if (size < 1) return
    for (const rest of subsets(items.slice(at + 1), size - 1)) yield [first, ...rest]
  }
}

/** One character a number: a state is a short string, and equality is exact. */
function encode(state: State): string {
  let text = ''
  for (const { durable, saving, known, history } of state) {
    text += String.fromCharCode(durable, saving + 1, ...known.map((id) => id + 1), history.length)
    text += String.fromCharCode(...history)
  }
  return text
}

function decode(text: string, count: number): State {
  let at = 0
  const next = () => text.charCodeAt(at++)
  return Array.from({ length: count }, () => {
    const durable = next()
    const saving = next() - 1
    const known = Array.from({ length: count }, () => next() - 1)
    const history = Array.from({ length: next() }, next)
    return { durable, saving, known, history }
  })
}

function trace(
  seen: ReadonlyMap<string, readonly [string, string] | null>,
  key: string,
): readonly string[] {
  const steps: string[] = []
  for (let from = seen.get(key); from; from = seen.get(from[0])) steps.unshift(from[1])
  return steps
}

export function walk(world: World): Verdict {
  return new Walk(world).run()
}
