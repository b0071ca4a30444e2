/**
 * The history of one key, made ready for the search: operations as numbers in typed arrays, in the order of their calls, with
 * what cannot matter left out. Each omission says why it changes no verdict.
 */
import type { Operation } from './history.ts'
import { States, UNSEEN } from './linear-states.ts'

/** What an operation does to a register. */
export const WRITE = 0
export const READ = 1
/** A compare-and-set that failed: the value was not `from`. */
export const DIFFERS = 2
export const CAS = 3
export const APPEND = 4

/**
 * Operations are numbered: first the *required* ones, which took effect, then the *optional* ones, whose outcome is unknown;
 * each part by call. A rank is a place among all calls and returns of the key; a precedes b when a's return has a lower rank than
 * b's call.
 */
export interface Problem {
  readonly operations: readonly Operation[]
  readonly required: number
  readonly kind: Uint8Array
  /** The state that READ, DIFFERS and CAS compare with. */
  readonly from: Int32Array
  /** The state that WRITE and CAS leave behind. */
  readonly to: Int32Array
  /** What APPEND appends. */
  readonly text: readonly string[]
  readonly callRank: Int32Array
  /** Of required operations. */
  readonly returnRank: Int32Array
  /** Calls (i) and returns (required + i) of the required operations, by rank. */
  readonly events: Int32Array
  /** Of an optional operation: the latest one before it that does exactly the same, or -1. */
  readonly twin: Int32Array
  readonly states: States
  readonly initial: number
}

interface Effect {
  readonly kind: number
  readonly from: number
  readonly to: number
}

interface Entry extends Effect {
  readonly operation: Operation
  callRank: number
  returnRank: number
}

/** `history` holds operations of one key. */
export function problemOf(history: readonly Operation[]): Problem {
  const relevant = history.filter(matters)
  const states = statesOf(relevant)
  const anyDiffers = relevant.some(({ status }) => status === 'fail')
  const entries: Entry[] = []
  for (const operation of relevant) {
    const effect = effectOf(operation, states)
    if (operation.status === 'unknown' && !anyDiffers && isIdle(effect)) continue
    entries.push({ operation, ...effect, callRank: 0, returnRank: 0 })
  }
  rank(entries)
  const isOptional = ({ operation }: Entry): boolean => operation.status === 'unknown'
  const required = entries.filter((entry) => !isOptional(entry))
  return build([...required, ...entries.filter(isOptional)], required.length, states)
}

/**
 * What says nothing is left out: a get without an answer, and what certainly had no effect. So is an unknown compare-and-set
 * that would put back what it found.
 */
function matters({ op, status, value, expected }: Operation): boolean {
  if (status === 'unknown') return op !== 'get' && !(op === 'cas' && value === expected)
  return status === 'ok' || op === 'cas'
}

function statesOf(relevant: readonly Operation[]): States {
  const observed: (string | null)[] = []
  const refuted: (string | null)[] = []
  let appends = false
  for (const { op, status, expected, output } of relevant) {
    if (status === 'fail') refuted.push(expected)
    if (op === 'get') observed.push(output)
    else if (op === 'cas') observed.push(expected)
    else if (op === 'append') appends = true
  }
  return new States(observed, { appends, refuted })
}

function effectOf(operation: Operation, states: States): Effect {
  const { op, status, value, expected, output } = operation
  if (op === 'get') return { kind: READ, from: states.of(output), to: UNSEEN }
  if (op === 'append') {
    // Appended to anything it leaves UNSEEN, as a WRITE of UNSEEN does. Only unknown ones are worth the look.
    const isLost = status === 'unknown' && !states.mayAppear(value ?? '')
    return { kind: isLost ? WRITE : APPEND, from: UNSEEN, to: UNSEEN }
  }
  if (op !== 'cas') return { kind: WRITE, from: UNSEEN, to: states.of(value) }
  const from = states.of(expected)
  if (status === 'fail') return { kind: DIFFERS, from, to: UNSEEN }
  // It found what it wrote: whoever looks afterwards sees no more than after a READ.
  if (value === expected) return { kind: READ, from, to: UNSEEN }
  return { kind: CAS, from, to: states.of(value) }
}

/**
 * Whether an optional operation can only leave UNSEEN behind. On a key without DIFFERS it is left out, and every order stays
 * valid without it: until the next WRITE the state was UNSEEN, where no READ and no CAS fits and appends lead nowhere else, so
 * only appends can stand there, and they fit any state. The WRITE forgets what was before.
 */
function isIdle({ kind, to }: Effect): boolean {
  return kind !== APPEND && to === UNSEEN
}

interface Event {
  readonly timeUs: number
  readonly isReturn: boolean
  readonly of: Entry
}

/** Ranks the calls and returns, and sorts by call. In one microsecond calls come first: what only meets there is concurrent. */
function rank(entries: Entry[]): void {
  const events: Event[] = []
  for (const of of entries) {
    const { callUs, returnUs } = of.operation
    events.push({ timeUs: callUs, isReturn: false, of })
    if (returnUs !== null) events.push({ timeUs: returnUs, isReturn: true, of })
  }
  events.sort((a, b) => a.timeUs - b.timeUs || Number(a.isReturn) - Number(b.isReturn))
  for (const [index, { isReturn, of }] of events.entries()) {
    if (isReturn) of.returnRank = index
    else of.callRank = index
  }
  entries.sort((a, b) => a.callRank - b.callRank)
}

function build(entries: readonly Entry[], required: number, states: States): Problem {
  const size = entries.length
  const problem = {
    operations: entries.map(({ operation }) => operation),
    required,
    kind: Uint8Array.from(entries, ({ kind }) => kind),
    from: Int32Array.from(entries, ({ from }) => from),
    to: Int32Array.from(entries, ({ to }) => to),
    text: entries.map(({ operation }) => operation.value ?? ''),
    callRank: Int32Array.from(entries, ({ callRank }) => callRank),
    returnRank: new Int32Array(required),
    events: new Int32Array(2 * required),
    twin: new Int32Array(size).fill(-1),
    states,
    initial: states.of(null),
  }
  const eventAt = new Int32Array(size + required).fill(-1)
  for (let index = 0; index < required; index++) {
    const { callRank, returnRank } = entries[index] as Entry
    problem.returnRank[index] = returnRank
    eventAt[callRank] = index
    eventAt[returnRank] = required + index
  }
  problem.events.set(eventAt.filter((event) => event >= 0))
  markTwins(problem)
  return problem
}

function markTwins({ kind, from, to, text, twin, required }: Problem): void {
  const latest = new Map<string, number>()
  for (let index = required; index < kind.length; index++) {
    const appended = kind[index] === APPEND ? text[index] : ''
    const name = `${kind[index]} ${from[index]} ${to[index]} ${appended}`
    twin[index] = latest.get(name) ?? -1
    latest.set(name, index)
  }
}
