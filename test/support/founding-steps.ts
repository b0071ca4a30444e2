/**
 * The walk in single steps: each message heard, decision, finished save, record told and crash is a step of its own. The
 * network is the set of all records ever told: any of them may arrive at any time, late, twice, or never. A crash forgets
 * what is not durable. Breadth first. It shows that the folded walk (founding-folded.ts) leaves nothing out.
 */
import { blankRecord } from '../../node/founding/record.ts'
import { historiesOf, NOTHING, RecordBook } from './founding-book.ts'
import { KindWorld } from './founding-kind.ts'
import type { Limits, Verdict, World } from './founding-model.ts'
import { NumberMap, TupleTable } from './founding-table.ts'

/** Everything about one node; interned, so that a state is a tuple of small numbers. */
interface NodeState {
  /** All it has had durable, in order. */
  readonly saved: readonly number[]
  /** A record decided and not durable, or -1. */
  readonly saving: number
  /** All records it ever told, in ascending order. */
  readonly told: readonly number[]
  /** By node: the newest record heard of it, -1 for none. */
  readonly known: readonly number[]
  /** By node: the bound record behind the cluster that its hello named, -1 for none. */
  readonly claims: readonly number[]
}

/** A step that a node takes by itself. */
interface Move {
  readonly step: string
  readonly to: number
  readonly fault: string | null
}

const STOP_EVERY = 256
const RECORDS_MAX = 4096

class StepWalk {
  readonly #world: World
  readonly #limits: Limits
  readonly #book: RecordBook
  readonly #kind: KindWorld
  readonly #nobody: readonly number[]
  readonly #nodes: NodeState[] = []
  readonly #ids = new Map<string, number>()
  /** By node number and interned state. */
  readonly #moves: readonly Map<number, readonly Move[]>[]
  readonly #heard = new NumberMap()
  readonly #states: TupleTable
  readonly #from: number[] = []

  constructor(world: World, limits: Limits) {
    this.#world = world
    this.#limits = limits
    this.#book = new RecordBook(this.#world, true)
    this.#kind = new KindWorld(this.#world, this.#book)
    this.#nobody = world.nodes.map(() => -1)
    this.#moves = world.nodes.map(() => new Map())
    this.#states = new TupleTable(world.nodes.length)
  }

  run(): Verdict {
    const blank = this.#book.intern(blankRecord)
    const [known, claims] = [this.#nobody, this.#nobody]
    const node = this.#intern({ saved: [blank], saving: -1, told: [blank], known, claims })
    this.#arrive(
      this.#nobody.map(() => node),
      -1,
    )
    const { statesMax = Number.POSITIVE_INFINITY, stop } = this.#limits
    const state: number[] = []
    for (let at = 0; at < this.#states.count; at++) {
      if (at % STOP_EVERY === 0 && stop?.()) return this.#verdict(null, false)
      this.#states.read(at, state)
      const wrong = this.#check(state)
      if (wrong !== null) return this.#verdict({ what: wrong, trace: this.#trace(at) }, false)
      for (const { step, node: moved, to, fault } of this.#steps(state)) {
        if (fault !== null) {
          const trace = [...this.#trace(at), step]
          return this.#verdict({ what: fault, trace }, false)
        }
        this.#arrive(state.with(moved, to), at)
        if (this.#states.count >= statesMax) return this.#verdict(null, false)
      }
    }
    return this.#verdict(null, true)
  }

  #verdict(violation: Verdict['violation'], complete: boolean): Verdict {
    const { states: kindStates, waits } = this.#kind
    const states = this.#states.count
    return { states, kindStates, waits: [...waits].sort(), complete, violation }
  }

  #intern(node: NodeState): number {
    const { saved, saving, told, known, claims } = node
    const key = `${saved}|${saving}|${told}|${known}|${claims}`
    const found = this.#ids.get(key)
    if (found !== undefined) return found
    this.#nodes.push(node)
    this.#ids.set(key, this.#nodes.length - 1)
    return this.#nodes.length - 1
  }

  #node(id: number): NodeState {
    return this.#nodes[id] as NodeState
  }

  #arrive(state: readonly number[], from: number): void {
    if (!this.#states.add(state)) return
    this.#from.push(from)
    if (this.#limits.histories === undefined) return
    const nodes = state.map((id) => this.#node(id))
    const saved = nodes.map((node) => node.saved)
    const durable = nodes.map((node) => newest(node))
    this.#limits.histories.add(historiesOf(this.#book, durable, saved))
  }

  #check(state: readonly number[]): string | null {
    const nodes = state.map((id) => this.#node(id))
    const durable = nodes.map((node) => newest(node))
    const ids = new Set<string>()
    for (const id of durable) {
      const { bound } = this.#book.get(id)
      if (bound?.how === 'founded') ids.add(bound.clusterId)
    }
    if (ids.size > 1) return `two clusters: ${[...ids].join(' and ')}`
    if (this.#world.kind === false) return null
    return this.#kind.check(
      durable,
      nodes.map((node) => node.told),
    )
  }

  *#steps(state: readonly number[]): Generator<Move & { readonly node: number }> {
    for (const [i, id] of state.entries()) {
      for (const move of this.#movesOf(i, id)) yield { ...move, node: i }
      // A bound node decides nothing any more: what it hears, and whether it crashes, is all the same.
      if (this.#book.isBound(newest(this.#node(id)))) continue
      for (const [j, other] of state.entries()) {
        if (j === i) continue
        const { told, saved } = this.#node(other)
        for (const record of told) yield* this.#hears(i, id, { j, record, hello: false })
        const bound = saved[saved.length - 1] as number
        if (this.#book.isBound(bound)) yield* this.#hears(i, id, { j, record: bound, hello: true })
      }
    }
  }

  *#hears(
    i: number,
    id: number,
    { j, record, hello }: { readonly j: number; readonly record: number; readonly hello: boolean },
  ): Generator<Move & { readonly node: number }> {
    if (record >= RECORDS_MAX) throw new Error('too many records')
    const key = ((id * 8 + j) * RECORDS_MAX + record) * 2 + (hello ? 1 : 0)
    let to = this.#heard.get(key)
    if (to < 0) {
      const node = this.#node(id)
      const before = node.known[j] as number
      const news = before < 0 || this.#seq(record) > this.#seq(before)
      if (hello) to = this.#intern({ ...node, claims: node.claims.with(j, record) })
      else to = news ? this.#intern({ ...node, known: node.known.with(j, record) }) : id
      this.#heard.set(key, to)
    }
    if (to === id) return
    const what = hello ? 'has a cluster' : this.#show(record)
    yield { step: `n${i + 1} hears that n${j + 1} ${what}`, node: i, to, fault: null }
  }

  #movesOf(i: number, id: number): readonly Move[] {
    const memo = this.#moves[i] as Map<number, readonly Move[]>
    const before = memo.get(id)
    if (before !== undefined) return before
    const moves: Move[] = []
    const node = this.#node(id)
    const add = (step: string, next: Partial<NodeState>) => {
      const to = this.#intern({ ...node, ...next })
      moves.push({ step: `n${i + 1} ${step}`, to, fault: null })
    }
    const durable = newest(node)
    if (!node.told.includes(durable)) {
      const told = [...node.told, durable].sort((a, b) => a - b)
      add(`tells ${this.#show(durable)}`, { told })
    }
    const forgotten = { saving: -1, known: this.#nobody, claims: this.#nobody }
    if (!this.#book.isBound(durable)) {
      add('crashes', forgotten)
      if (node.saving < 0) moves.push(...this.#decisions(i, node))
      else {
        const saved = [...node.saved, node.saving]
        const rest = this.#book.isBound(node.saving) ? forgotten : {}
        add('has saved', { saving: -1, saved, ...rest })
      }
    }
    memo.set(id, moves)
    return moves
  }

  #decisions(i: number, node: NodeState): readonly Move[] {
    const heard = node.known.map((record, j) => {
      const claim = node.claims[j] as number
      if (j === i) return NOTHING
      return { record, clusterId: claim < 0 ? null : this.#book.clusterOf(claim) }
    })
    const outcomes = this.#book.outcomes({ node: i, own: newest(node), heard })
    return outcomes.map(({ rule, record, fault }) => {
      const name = `n${i + 1} ${rule}`
      if (fault !== null) return { step: name, to: -1, fault }
      const to = this.#intern({ ...node, saving: record })
      return { step: `${name}: ${this.#show(record)}`, to, fault }
    })
  }

  #seq(id: number): number {
    return this.#book.get(id).seq
  }

  #show(id: number): string {
    return `#${this.#seq(id)} ${this.#book.show(id)}`
  }

  /** The steps to a state, found again by walking them. */
  #trace(at: number): readonly string[] {
    const steps: string[] = []
    const [state, parent]: [number[], number[]] = [[], []]
    for (let now = at; now > 0; now = this.#from[now] as number) {
      this.#states.read(now, state)
      this.#states.read(this.#from[now] as number, parent)
      const found = [...this.#steps(parent)].find(
        ({ node, to }) => to === state[node] && parent.with(node, to).join() === state.join(),
      )
      steps.unshift(found?.step ?? 'a step that is not found again')
    }
    return steps
  }
}

function newest(node: NodeState): number {
  return node.saved[node.saved.length - 1] as number
}

export function walkSteps(world: World, limits: Limits = {}): Verdict {
  return new StepWalk(world, limits).run()
}
