/**
 * Judges whether a history could be that of one register per key. By locality (Herlihy and Wing, "Linearizability", 1990) each
 * key is judged alone. What an operation means is written on `Operation` in history.ts; the search and why it may leave out what
 * it leaves out is in linear-search.ts and linear-problem.ts.
 *
 * A history that passes comes with an order of its operations, and that order is replayed here on a plain register: an error in
 * the search can raise a false alarm, but it cannot let anything pass.
 */
import { checkOperation, type Operation } from './history.ts'
import { replay, type Violation } from './linear-explain.ts'
import { type Problem, problemOf } from './linear-problem.ts'
import { Search } from './linear-search.ts'

export { explain, type Violation } from './linear-explain.ts'

/** A configuration takes about 100 bytes. Histories of a few thousand operations need a few thousand, or 100,000 when they are bad. */
const STATES_MAX_DEFAULT = 1_000_000

export type Linearizability =
  /** `states`: configurations visited, on all keys. */
  | { readonly ok: true; readonly states: number }
  | Violation
  /** Too many configurations on this key, and no violation on any other. */
  | { readonly ok: 'gave-up'; readonly key: string; readonly states: number }

/**
 * `statesMax` bounds the configurations of each key. Throws HistoryError when an operation contradicts itself; its `line` is
 * the operation's place in the history, from 1.
 */
export function checkLinearizable(
  history: readonly Operation[],
  options: { readonly statesMax?: number } = {},
): Linearizability {
  const { statesMax = STATES_MAX_DEFAULT } = options
  let states = 0
  let gaveUp: Linearizability | null = null
  for (const [key, operations] of byKey(history)) {
    const problem = problemOf(operations)
    const search = new Search(problem, statesMax)
    const verdict = search.run()
    states += search.states
    if (verdict === 'linearizable') checkWitness(problem, search.order)
    else if (verdict === 'not linearizable') return violationOf(key, problem, search)
    else gaveUp ??= { ok: 'gave-up', key, states: search.states }
  }
  return gaveUp ?? { ok: true, states }
}

function byKey(history: readonly Operation[]): Map<string, Operation[]> {
  const keys = new Map<string, Operation[]>()
  for (const [index, operation] of history.entries()) {
    checkOperation(operation, index + 1)
    const operations = keys.get(operation.key)
    if (operations === undefined) keys.set(operation.key, [operation])
    else operations.push(operation)
  }
  return keys
}

/** Throws unless `order` holds every required operation once, respects real time, and is what a register does. */
function checkWitness(problem: Problem, order: Int32Array): void {
  const required = new Set(order.filter((index) => index < problem.required))
  const refuse = (why: string): never => {
    throw new Error(`bug: the order found is none: ${why}`)
  }
  if (required.size !== problem.required) refuse('not every operation is in it')
  if (new Set(order).size !== order.length) refuse('an operation is in it twice')
  const operations = Array.from(order, (index) => problem.operations[index] as Operation)
  replay(operations)
  let latestCallUs = 0
  for (const { callUs, returnUs } of operations) {
    latestCallUs = Math.max(latestCallUs, callUs)
    if (returnUs !== null && returnUs < latestCallUs) refuse('not in real time')
  }
}

function violationOf(key: string, problem: Problem, search: Search): Violation {
  const { order } = search
  const placed = new Set(order)
  const missing = problem.operations.filter((_, index) => !placed.has(index))
  const firstReturnUs = missing.reduce(
    (first, { returnUs }) => Math.min(first, returnUs ?? first),
    Number.POSITIVE_INFINITY,
  )
  const isBlocked = ({ status, callUs }: Operation): boolean =>
    status !== 'unknown' && callUs <= firstReturnUs
  const prefix = Array.from(order, (index) => problem.operations[index] as Operation)
  return {
    ok: false,
    key,
    prefix,
    value: replay(prefix).at(-1)?.value ?? null,
    blocked: missing.filter(isBlocked),
    others: missing.filter((operation) => !isBlocked(operation)),
    states: search.states,
  }
}
