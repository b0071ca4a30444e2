/**
 * The folded walk: a state is only what each disk has had durable, in order. All that a node knows is what it may choose to
 * have heard. Breadth first, exact, and equal to the walk in single steps (founding-steps.ts), because
 *
 * - what a node knows is volatile. From any state it may crash, which changes nothing durable, and then hear of every
 *   other disk any one record that disk ever saved, or none. So each choice of one record or none from every history
 *   is a state of knowledge that the node can be in; and it can be in no other, since it keeps one record of a disk and
 *   hears only what was saved. Losing a message is never hearing it; a record nobody was told of is one nobody hears.
 * - deciding and saving are one step. Between them the own record stays (one save is in flight) and histories only
 *   grow, so the choice that led to the decision is still there when the save ends. A crash in between leaves what was.
 * - a hello's cluster is a choice of its own, beside any older record of that disk or none. Beside the bound record
 *   itself it adds nothing: the cluster is visible and founded by the record already.
 * - a bound node decides nothing any more, so its knowledge is not looked at.
 *
 * A choice is asked about once: what a state allows is what its parent allowed, and what the parent's newest record adds.
 */
import { blankRecord } from '../../node/founding/record.ts'
import {
  contentOf,
  type Heard,
  historiesOf,
  NOTHING,
  type Outcome,
  RecordBook,
} from './founding-book.ts'
import { Forgetting, setsAlwaysMeet } from './founding-forget.ts'
import { KindWorld } from './founding-kind.ts'
import type { Bugs, Limits, Verdict, World } from './founding-model.ts'
import { NumberMap, SetBook, TupleTable } from './founding-table.ts'

const STOP_EVERY = 256
const MOVER_BITS = 3
const HISTORIES_MAX = 2 ** 24

/** What one disk has had durable. The order does not matter: its newest record is `own`, and no content comes twice. */
interface History {
  readonly own: number
  /** Ascending. With a planted bug also what it has told. */
  readonly records: readonly number[]
  /** What others may have heard of it, by number; 0 is nothing. */
  readonly options: readonly number[]
}

class FoldedWalk {
  readonly #world: World
  readonly #limits: Limits
  readonly #bugs: Bugs
  readonly #book: RecordBook
  readonly #kind: KindWorld
  readonly #count: number
  readonly #outcomes: Outcome[] = []
  readonly #outcomeIds = new Map<string, number>()
  readonly #sets = new SetBook()
  /** By node: own record and choice to a set of outcomes. */
  readonly #answers: readonly NumberMap[]
  /** By node: what there ever was to hear of it; 0 is nothing. */
  readonly #options: readonly Heard[][]
  readonly #optionIds: readonly Map<string, number>[]
  readonly #histories: readonly History[][]
  readonly #historyIds: readonly Map<string, number>[]
  readonly #parts = new NumberMap()
  readonly #forgetting: Forgetting
  readonly #added = new Map<number, readonly number[]>()
  readonly #states: TupleTable
  /** By state: the one it came from and the node that moved, in one number. */
  #origins = new Uint32Array(1 << 12)
  /** Options of a choice are digits of this base. */
  readonly #base: number
  /** By node: those of whom it may hear. */
  readonly #places: readonly (readonly number[])[]
  readonly #blank: number
  readonly #setsMeet: boolean
  #fault: Outcome | null = null

  constructor(world: World, limits: Limits) {
    this.#world = world
    this.#limits = limits
    this.#bugs = world.bugs ?? {}
    this.#book = new RecordBook(this.#world, false)
    this.#setsMeet = setsAlwaysMeet(world, this.#book)
    this.#blank = this.#book.intern(blankRecord)
    this.#kind = new KindWorld(this.#world, this.#book)
    this.#forgetting = new Forgetting(this.#book)
    this.#count = world.nodes.length
    this.#answers = world.nodes.map(() => new NumberMap())
    this.#options = world.nodes.map(() => [NOTHING])
    this.#optionIds = world.nodes.map(() => new Map([['-1 null', 0]]))
    this.#histories = world.nodes.map(() => [])
    this.#historyIds = world.nodes.map(() => new Map())
    this.#states = new TupleTable(this.#count)
    const all = [...world.nodes.keys()]
    const own = world.ownCopies === true
    this.#places = all.map((node) => (own ? all : all.filter((at) => at !== node)))
    const digits = Math.max(1, own ? this.#count : this.#count - 1)
    this.#base = 2 ** Math.min(12, Math.floor(42 / digits))
  }

  run(): Verdict {
    const blank = this.#blank
    const start = this.#histories.map((_, node) => this.#history(node, blank, [blank]))
    const first = this.#arrive(start, { from: 0, mover: 0 })
    if (first !== null) return this.#verdict(first, false)
    let before = new Uint32Array(0)
    let beforeFrom = 0
    for (let from = 0; from < this.#states.count; ) {
      const to = this.#states.count
      const allowed = new Uint32Array((to - from) * this.#count)
      for (let at = from; at < to; at++) {
        const inherited = (this.#origin(at).from - beforeFrom) * this.#count
        const wrong = this.#expand(at, { before, inherited, allowed, place: at - from })
        if (wrong !== null) return this.#verdict(wrong, false)
        if (this.#states.count >= (this.#limits.statesMax ?? 2 ** 32)) {
          return this.#verdict(null, false)
        }
        if (at % STOP_EVERY === 0 && this.#limits.stop?.()) return this.#verdict(null, false)
      }
      before = allowed
      beforeFrom = from
      from = to
    }
    return this.#verdict(null, true)
  }

  #verdict(violation: Verdict['violation'], complete: boolean): Verdict {
    const { states: kindStates, waits } = this.#kind
    const states = this.#states.count
    return { states, kindStates, waits: [...waits].sort(), complete, violation }
  }

  #origin(at: number): { readonly from: number; readonly mover: number } {
    const origin = this.#origins[at] as number
    return { from: origin >>> MOVER_BITS, mover: origin & ((1 << MOVER_BITS) - 1) }
  }

  /** Computes what state `at` allows each node, from what its parent allowed, and visits what follows. */
  #expand(
    at: number,
    level: { before: Uint32Array; inherited: number; allowed: Uint32Array; place: number },
  ): Verdict['violation'] {
    const state: number[] = []
    const parent: number[] = []
    this.#states.read(at, state)
    const { from, mover } = this.#origin(at)
    this.#states.read(from, parent)
    for (let node = 0; node < this.#count; node++) {
      const all = at === 0 || node === mover
      const fresh = all ? null : { mover, options: this.#news(mover, parent, state) }
      const known = all ? 0 : (level.before[level.inherited + node] as number)
      const set = this.#allowedTo(node, state, fresh, known)
      if (this.#fault !== null) return this.#faulty(at, node, this.#fault)
      level.allowed[level.place * this.#count + node] = set
      if (this.#limits.forget === 'compare' && !this.#decidesAlike(node, state, set)) {
        return { what: `n${node + 1} needs what is forgotten`, trace: this.#trace(at) }
      }
      const wrong = this.#follow(at, node, state, set)
      if (wrong !== null) return wrong
    }
    return null
  }

  #follow(at: number, node: number, state: readonly number[], set: number): Verdict['violation'] {
    const { losesTold = [], wipes = false } = this.#bugs
    const turn = (own: number, record: number): Verdict['violation'] => {
      const { own: before, records } = this.#at(node, state[node] as number)
      const after = records.includes(record) ? records : [...records, record]
      if (own === before && after === records) return null
      const next = state.with(node, this.#history(node, own, after))
      return this.#arrive(this.#limits.forget === true ? this.#forget(next) : next, {
        from: at,
        mover: node,
      })
    }
    const { own } = this.#at(node, state[node] as number)
    const founded = this.#limits.forget === true ? this.#foundedIn(state) : null
    for (const id of this.#sets.get(set)) {
      const { record, rule } = this.#outcomes[id] as Outcome
      if (founded !== null && this.#book.clusterOf(record) === founded) continue
      const wrong = turn(record, record) ?? (losesTold.includes(rule) ? turn(own, record) : null)
      if (wrong !== null) return wrong
    }
    return wipes ? turn(this.#blank, this.#blank) : null
  }

  /** A new state: counted, and checked. */
  #arrive(
    state: readonly number[],
    { from, mover }: { readonly from: number; readonly mover: number },
  ): Verdict['violation'] {
    if (!this.#states.add(state)) return null
    const at = this.#states.count - 1
    if (at >= 2 ** (32 - MOVER_BITS)) throw new Error('too many states for their origins')
    if (at >= this.#origins.length) {
      const origins = new Uint32Array(this.#origins.length * 2)
      origins.set(this.#origins)
      this.#origins = origins
    }
    this.#origins[at] = from * (1 << MOVER_BITS) + mover
    const told = state.map((history, node) => this.#at(node, history).records)
    const durable = state.map((history, node) => this.#at(node, history).own)
    this.#limits.histories?.add(historiesOf(this.#book, durable, told))
    this.#limits.durable?.add(durable.map((id) => contentOf(this.#book.get(id))).join(' / '))
    const founded = this.#founded(this.#bugs.wipes === true ? told.flat() : durable)
    if (founded.length > 1) {
      return { what: `two clusters: ${founded.join(' and ')}`, trace: this.#trace(at) }
    }
    if (this.#world.kind === false) return null
    const wrong = this.#kind.check(durable, told)
    return wrong === null ? null : { what: wrong, trace: this.#trace(at) }
  }

  /** Leaves out the old records that can decide nothing any more, by the rules of founding-forget.ts. */
  #forget(state: readonly number[]): readonly number[] {
    const histories = state.map((history, node) => this.#at(node, history))
    const needed = this.#forgetting.needed(histories)
    return state.map((history, node) => this.#partOf(node, history, needed[node] as number))
  }

  /** The cluster that others need not bind themselves to as well (founding-forget.ts), or null. */
  #foundedIn(state: readonly number[]): string | null {
    if (!this.#setsMeet) return null
    const durable = state.map((history, node) => this.#at(node, history).own)
    return this.#founded(durable)[0] ?? null
  }

  #decidesAlike(node: number, state: readonly number[], set: number): boolean {
    return this.#allowedTo(node, this.#forget(state), null, 0) === set
  }

  /** `bound` is set once, so the newest records tell every cluster that was ever founded. */
  #founded(records: readonly number[]): readonly string[] {
    const ids: string[] = []
    for (const id of records) {
      const { bound } = this.#book.get(id)
      if (bound?.how === 'founded' && !ids.includes(bound.clusterId)) ids.push(bound.clusterId)
    }
    return ids
  }

  #at(node: number, history: number): History {
    return (this.#histories[node] as History[])[history] as History
  }

  #history(node: number, own: number, unsorted: readonly number[]): number {
    const ids = this.#historyIds[node] as Map<string, number>
    const records = [...unsorted].sort((a, b) => a - b)
    const key = `${own}|${records}`
    const found = ids.get(key)
    if (found !== undefined) return found
    const clusterId = this.#book.clusterOf(own)
    const options = [-1, ...records].flatMap((record) => {
      const alone = this.#option(node, { record, clusterId: null })
      const withHello = clusterId !== null && record !== own
      return withHello ? [alone, this.#option(node, { record, clusterId })] : [alone]
    })
    const all = this.#histories[node] as History[]
    all.push({ own, records, options })
    ids.set(key, all.length - 1)
    return all.length - 1
  }

  /** The history in which only some records are left, those with a bit in `kept`. */
  #partOf(node: number, history: number, kept: number): number {
    const key = (history * this.#count + node) * 2 ** 16 + kept
    const found = this.#parts.get(key)
    if (found >= 0) return found
    const { own, records } = this.#at(node, history)
    const part = this.#history(
      node,
      own,
      records.filter((_, place) => (kept & (1 << place)) !== 0),
    )
    this.#parts.set(key, part)
    return part
  }

  /** What there is to hear of `node` that was not there before. */
  #news(node: number, before: readonly number[], after: readonly number[]): readonly number[] {
    const [from, to] = [before[node] as number, after[node] as number]
    const key = (node * HISTORIES_MAX + from) * HISTORIES_MAX + to
    const found = this.#added.get(key)
    if (found !== undefined) return found
    const { options: old } = this.#at(node, from)
    const added = this.#at(node, to).options.filter((option) => !old.includes(option))
    this.#added.set(key, added)
    return added
  }

  #option(node: number, heard: Heard): number {
    const ids = this.#optionIds[node] as Map<string, number>
    const options = this.#options[node] as Heard[]
    const key = `${heard.record} ${heard.clusterId}`
    const found = ids.get(key)
    if (found !== undefined) return found
    if (options.length >= this.#base) throw new Error('too many things to hear for one number')
    options.push(heard)
    ids.set(key, options.length - 1)
    return options.length - 1
  }

  /** United with `known`: the choices that hold one of the `fresh` options of the mover (for null, all choices). */
  #allowedTo(
    node: number,
    state: readonly number[],
    fresh: { readonly mover: number; readonly options: readonly number[] } | null,
    known: number,
  ): number {
    const { own } = this.#at(node, state[node] as number)
    if (this.#book.isBound(own)) return 0
    const places = this.#places[node] as readonly number[]
    if (own * this.#base ** places.length >= Number.MAX_SAFE_INTEGER) {
      throw new Error('a choice does not fit into a number')
    }
    const lists = places.map((at) => {
      if (at === fresh?.mover) return fresh.options
      return this.#at(at, state[at] as number).options
    })
    return this.#visit(node, lists, 0, own, known)
  }

  #visit(
    node: number,
    lists: readonly (readonly number[])[],
    place: number,
    prefix: number,
    united: number,
  ): number {
    let set = united
    if (place === lists.length) return this.#sets.union(set, this.#answer(node, prefix))
    const list = lists[place] as readonly number[]
    const shifted = prefix * this.#base
    if (place < lists.length - 1) {
      for (const option of list) set = this.#visit(node, lists, place + 1, shifted + option, set)
      return set
    }
    const answers = this.#answers[node] as NumberMap
    for (const option of list) {
      const known = answers.get(shifted + option)
      const answer = known >= 0 ? known : this.#answer(node, shifted + option)
      if (answer !== 0) set = this.#sets.union(set, answer)
    }
    return set
  }

  /** Asks the rules about one choice, once. */
  #answer(node: number, key: number): number {
    const answers = this.#answers[node] as NumberMap
    const before = answers.get(key)
    if (before >= 0) return before
    const outcomes = this.#book.outcomes(this.#question(node, key))
    const fault = outcomes.find((outcome) => outcome.fault !== null)
    if (fault !== undefined) this.#fault ??= fault
    const ids = outcomes.filter(({ fault }) => fault === null).map((one) => this.#outcomeId(one))
    const set = this.#sets.intern(ids)
    answers.set(key, set)
    return set
  }

  #outcomeId(outcome: Outcome): number {
    const key = `${outcome.rule} ${outcome.record}`
    const found = this.#outcomeIds.get(key)
    if (found !== undefined) return found
    this.#outcomes.push(outcome)
    this.#outcomeIds.set(key, this.#outcomes.length - 1)
    return this.#outcomes.length - 1
  }

  #question(node: number, key: number) {
    const own = this.#world.ownCopies === true
    const heard: Heard[] = new Array(this.#count).fill(NOTHING)
    let rest = key
    for (let at = this.#count - 1; at >= 0; at--) {
      if (at === node && !own) continue
      heard[at] = (this.#options[at] as Heard[])[rest % this.#base] as Heard
      rest = Math.floor(rest / this.#base)
    }
    return { node, own: rest, heard }
  }

  #faulty(at: number, node: number, outcome: Outcome): Verdict['violation'] {
    const what = outcome.fault as string
    return { what, trace: [...this.#trace(at), `n${node + 1} ${outcome.rule}`] }
  }

  /** The steps to a state, each with the least that its node must have heard. */
  #trace(at: number): readonly string[] {
    const steps: string[] = []
    const [state, parent]: [number[], number[]] = [[], []]
    for (let now = at; now > 0; now = this.#origin(now).from) {
      const { from, mover } = this.#origin(now)
      this.#states.read(now, state)
      this.#states.read(from, parent)
      const before = this.#at(mover, parent[mover] as number)
      const after = this.#at(mover, state[mover] as number)
      const told = after.records.find((record) => !before.records.includes(record))
      if (told === undefined) steps.unshift(`n${mover + 1} loses its disk`)
      else {
        const lost = told === after.own ? '' : ', told, and lost by a crash before its save'
        steps.unshift(`${this.#why(mover, told, parent)}${lost}`)
      }
    }
    return steps
  }

  #why(node: number, record: number, state: readonly number[]): string {
    const { own } = this.#at(node, state[node] as number)
    let choices: readonly (readonly Heard[])[] = [[]]
    for (const at of state.keys()) {
      const options = at === node ? [0] : this.#at(at, state[at] as number).options
      choices = choices.flatMap((choice) =>
        options.map((option) => [...choice, (this.#options[at] as Heard[])[option] as Heard]),
      )
    }
    const weight = (choice: readonly Heard[]) => choice.filter((heard) => heard !== NOTHING).length
    for (const heard of [...choices].sort((a, b) => weight(a) - weight(b))) {
      const found = this.#book.outcomes({ node, own, heard }).find((one) => one.record === record)
      if (found === undefined) continue
      const told = heard.flatMap((one, at) => {
        if (one === NOTHING) return []
        const hello = one.clusterId === null ? [] : [`the hello of n${at + 1}`]
        const record = one.record < 0 ? [] : [`n${at + 1} [${this.#book.show(one.record)}]`]
        return [...record, ...hello]
      })
      const after = told.length === 0 ? '' : `, having heard ${told.join(' and ')}`
      return `n${node + 1} ${found.rule}: ${this.#book.show(record)}${after}`
    }
    throw new Error('a step of the trace has no reason')
  }
}

export function walkFolded(world: World, limits: Limits = {}): Verdict {
  return new FoldedWalk(world, limits).run()
}
