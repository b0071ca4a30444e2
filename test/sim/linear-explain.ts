/** Says in a few lines why a history is not linearizable. Decides nothing. */
import type { Operation } from './history.ts'

/** What the checker found on the key that no register could have done. */
export interface Violation {
  readonly ok: false
  readonly key: string
  /**
   * The longest order that a register could have followed, in real time, counted in operations that took effect. What an unknown
   * outcome adds is left out where nothing depends on it.
   */
  readonly prefix: readonly Operation[]
  /** What the register holds after `prefix`. */
  readonly value: string | null
  /** One of these would have to come next, because one of them returned before anything else was called; none of them can. */
  readonly blocked: readonly Operation[]
  /** The other operations on the key that may matter, by call. */
  readonly others: readonly Operation[]
  /** Configurations visited on this key. */
  readonly states: number
}

const PREFIX_SHOWN = 8
const UNKNOWN_SHOWN = 8
const VALUE_SHOWN_MAX = 48

/** Legal: the value afterwards. */
export type Step =
  | { readonly legal: true; readonly value: string | null }
  | { readonly legal: false; readonly why: string }

/** What a plain register does with an operation that takes effect. */
export function step(value: string | null, operation: Operation): Step {
  const { op, status, expected, output } = operation
  const refuse = (what: string): Step => ({
    legal: false,
    why: `${what}, but the value is ${show(value)}`,
  })
  switch (op) {
    case 'put':
    case 'delete':
      return { legal: true, value: operation.value }
    case 'append':
      return { legal: true, value: (value ?? '') + operation.value }
    case 'get':
      return value === output ? { legal: true, value } : refuse(`it read ${show(output)}`)
    case 'cas':
      if (status === 'fail') {
        if (value !== expected) return { legal: true, value }
        return refuse(`its comparison with ${show(expected)} failed`)
      }
      if (value === expected) return { legal: true, value: operation.value }
      return refuse(`it found ${show(expected)}`)
  }
}

/** The violation as lines of text. */
export function explain(violation: Violation): string {
  const { key, prefix, value, blocked, others } = violation
  const steps = replay(prefix)
  const required = prefix.filter(({ status }) => status !== 'unknown').length
  const total = required + [...blocked, ...others].filter(isRequired).length
  const from = Math.max(0, steps.length - PREFIX_SHOWN)
  const missed = blocked.map((operation) => lastSeen(operation, steps, others))
  const also = missed.flatMap(({ steps }) => steps).filter((index) => index < from)
  const shown = [...new Set(also)].sort((a, b) => a - b)
  const lines = [
    `key ${JSON.stringify(key)} is not linearizable.`,
    `The longest order found has ${required} of ${total} operations with a known outcome:`,
    ...shown.map((index) => stepLine(steps, index)),
    ...(from > shown.length ? [`  ... ${from - shown.length} more before`] : []),
    ...steps.slice(from).map((_, offset) => stepLine(steps, from + offset)),
    `The value is now ${show(value)}, and one of these would have to be next:`,
  ]
  for (const [index, operation] of blocked.entries()) {
    const outcome = step(value, operation)
    const why = outcome.legal ? 'nothing leads on from there' : outcome.why
    lines.push(`  ${describe(operation)}`, `    ${why}; ${missed[index]?.text}`)
  }
  return [...lines, ...unknownLines(violation)].join('\n')
}

function unknownLines({ blocked, others }: Violation): string[] {
  const endUs = Math.min(...blocked.map(({ returnUs }) => returnUs ?? Number.POSITIVE_INFINITY))
  const open = others.filter(({ status, callUs }) => status === 'unknown' && callUs <= endUs)
  if (open.length === 0) return []
  const shown = open.slice(-UNKNOWN_SHOWN).map((operation) => `  ${describe(operation)}`)
  const more = open.length - shown.length
  return [
    'Of unknown outcome, called by then, and of no use:',
    ...(more > 0 ? [`  ... ${more} more before`] : []),
    ...shown,
  ]
}

export interface Replayed {
  readonly operation: Operation
  readonly value: string | null
}

/** What the register holds after each operation. Throws when a register does not do that. */
export function replay(prefix: readonly Operation[]): Replayed[] {
  let value: string | null = null
  return prefix.map((operation) => {
    const outcome = step(value, operation)
    if (!outcome.legal) throw new Error(`bug: the order found does not replay: ${outcome.why}`)
    value = outcome.value
    return { operation, value }
  })
}

/** Where the register held what a blocked operation found, and which steps of the order show it. */
function lastSeen(
  { op, status, expected, output }: Operation,
  steps: readonly Replayed[],
  others: readonly Operation[],
): { readonly text: string; readonly steps: readonly number[] } {
  const wanted = op === 'get' ? output : expected
  if (status === 'fail') {
    const since = steps.findLastIndex(({ value }) => value !== wanted) + 1
    return { text: since < steps.length ? `so it is since #${since + 1}` : 'so it is', steps: [] }
  }
  const index = steps.findLastIndex(({ value }) => value === wanted)
  if (index >= 0) {
    return { text: `${show(wanted)} ended with #${index + 2}`, steps: [index, index + 1] }
  }
  if (wanted === null && steps.length > 0) return { text: 'absent ended with #1', steps: [0] }
  const writer = others.find(({ op: other, value }) => other !== 'get' && value === wanted)
  const where = writer === undefined ? '' : `; outside it: ${describe(writer)}`
  return { text: `this order never had ${show(wanted)}${where}`, steps: [] }
}

function isRequired({ status }: Operation): boolean {
  return status !== 'unknown'
}

function stepLine(steps: readonly Replayed[], index: number): string {
  const { operation, value } = steps[index] as Replayed
  return `  #${index + 1} ${describe(operation)} -> ${show(value)}`
}

function describe(operation: Operation): string {
  const { client, op, value, expected, callUs, returnUs, status, output } = operation
  const words: string[] = [op]
  if (op === 'cas') words.push(`${show(expected)} to`)
  if (op === 'get') words.push(`= ${show(output)}`)
  if (value !== null) words.push(show(value))
  const time = returnUs === null ? `${callUs}.. us` : `${callUs}..${returnUs} us`
  return `${time} client ${client} ${words.join(' ')}${status === 'ok' ? '' : ` (${status})`}`
}

/** Long values keep both ends: what was appended last is what differs. */
function show(value: string | null): string {
  if (value === null) return 'absent'
  const text = JSON.stringify(value)
  if (text.length <= VALUE_SHOWN_MAX) return text
  const half = VALUE_SHOWN_MAX / 2
  return `${text.slice(0, half)} ... ${text.slice(-half)} (${value.length} characters)`
}
