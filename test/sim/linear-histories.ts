/**
 * Histories of registers that are atomic by construction: each operation takes effect at one moment between its call and its
 * return, or, when its outcome is unknown, at some later moment or never. And small mutations of them, which may be anything.
 */
import { Random } from '../../node/raft/random.ts'
import type { Operation } from './history.ts'

export interface HistoryOptions {
  readonly seed: number
  readonly clients: number
  readonly operations: number
  readonly keys: number
  readonly unknownPercent: number
  /** How often each is chosen, relative to the others. */
  readonly mix: Readonly<Record<Operation['op'], number>>
  /** Null: a value of its own for each write. Else values are drawn from so many. */
  readonly values: number | null
  /** How long operations and pauses take, at most; an unknown one takes effect within 20 times as long. */
  readonly delayUsMax: number
}

interface Draft {
  readonly client: number
  readonly op: Operation['op']
  readonly key: string
  readonly value: string | null
  readonly callUs: number
  readonly returnUs: number | null
  /** Null: never. */
  readonly effectUs: number | null
}

const LATE_FACTOR = 20
const EXPECTED_RIGHT_PERCENT = 60

/** In the order of their calls. */
export function atomicHistory(options: HistoryOptions): Operation[] {
  const random = new Random(options.seed)
  const drafts = draftAll(options, random)
  const done = new Map<Draft, Operation>()
  const present = new Map<string, string | null>()
  const written = new Map<string, (string | null)[]>()
  const byEffect = drafts
    .filter(({ effectUs }) => effectUs !== null)
    .sort((a, b) => (a.effectUs as number) - (b.effectUs as number))
  for (const draft of byEffect) {
    const value = present.get(draft.key) ?? null
    const past = written.get(draft.key) ?? [null]
    const operation = perform(draft, value, past, random)
    done.set(draft, operation)
    const next = afterwards(operation, value)
    present.set(draft.key, next)
    if (next !== value) written.set(draft.key, [...past.slice(-4), next])
  }
  return drafts.map((draft) => done.get(draft) ?? { ...blank(draft), status: 'unknown' })
}

function draftAll(options: HistoryOptions, random: Random): Draft[] {
  const { clients, operations, keys, delayUsMax } = options
  const nowUs = Array.from({ length: clients }, () => random.below(delayUsMax))
  const drafts: Draft[] = []
  for (let index = 0; index < operations; index++) {
    const client = nowUs.indexOf(Math.min(...nowUs))
    const callUs = nowUs[client] as number
    const durationUs = random.below(delayUsMax)
    const isUnknown = random.below(100) < options.unknownPercent
    const op = chooseOp(options.mix, random)
    const writes = op === 'put' || op === 'cas' || op === 'append'
    drafts.push({
      client,
      op,
      key: `k${random.below(keys)}`,
      value: writes ? `${options.values === null ? index : random.below(options.values)};` : null,
      callUs,
      returnUs: isUnknown ? null : callUs + durationUs,
      effectUs: isUnknown
        ? lateEffect(callUs, delayUsMax, random)
        : within(callUs, durationUs, random),
    })
    nowUs[client] = callUs + durationUs + 1 + random.below(delayUsMax)
  }
  return drafts
}

function chooseOp(mix: HistoryOptions['mix'], random: Random): Operation['op'] {
  const entries = Object.entries(mix) as [Operation['op'], number][]
  let left = random.below(entries.reduce((sum, [, weight]) => sum + weight, 0))
  for (const [op, weight] of entries) {
    left -= weight
    if (left < 0) return op
  }
  throw new Error('bug: no operation chosen')
}

/** Fractions of a microsecond, so that hardly any two take effect at the same time. */
function within(fromUs: number, lengthUs: number, random: Random): number {
  return fromUs + lengthUs * (random.below(1_000_000) / 1_000_000)
}

function lateEffect(callUs: number, delayUsMax: number, random: Random): number | null {
  if (random.below(2) === 0) return null
  return within(callUs, random.below(2) === 0 ? delayUsMax : LATE_FACTOR * delayUsMax, random)
}

function blank({ client, op, key, value, callUs, returnUs }: Draft): Operation {
  const status = returnUs === null ? 'unknown' : 'ok'
  return { client, op, key, value, expected: null, callUs, returnUs, status, output: null }
}

function perform(
  draft: Draft,
  value: string | null,
  past: readonly (string | null)[],
  random: Random,
): Operation {
  const operation = blank(draft)
  if (draft.op === 'get') {
    return operation.status === 'ok' ? { ...operation, output: value } : operation
  }
  if (draft.op !== 'cas') return operation
  const isRight = random.below(100) < EXPECTED_RIGHT_PERCENT
  const expected = isRight ? value : (past[random.below(past.length)] ?? null)
  const failed = operation.status === 'ok' && expected !== value
  return { ...operation, expected, status: failed ? 'fail' : operation.status }
}

function afterwards(
  { op, value, expected, status }: Operation,
  before: string | null,
): string | null {
  if (op === 'get' || status === 'fail') return before
  if (op === 'cas') return expected === before ? value : before
  return op === 'append' ? `${before ?? ''}${value}` : value
}

/** One change at random: a field of one operation, one left out or one doubled. The history stays well-formed. */
export function mutate(history: readonly Operation[], random: Random): Operation[] {
  if (history.length === 0) return []
  const index = random.below(history.length)
  const victim = history[index] as Operation
  const other = history[random.below(history.length)] as Operation
  const changed = mutateOne(victim, other, random)
  return history.flatMap((operation, at) => (at === index ? changed : [operation]))
}

function mutateOne(victim: Operation, other: Operation, random: Random): Operation[] {
  const { op, status } = victim
  const found = other.op === 'get' ? other.output : other.value
  switch (random.below(6)) {
    case 0:
      return []
    case 1:
      return [{ ...victim, callUs: Math.min(other.callUs, victim.returnUs ?? other.callUs) }]
    case 2:
      if (victim.returnUs === null) return [victim]
      return [{ ...victim, returnUs: Math.max(victim.callUs, other.returnUs ?? victim.callUs) }]
    case 3:
      if (op === 'get' && status === 'ok') return [{ ...victim, output: found }]
      return [op === 'cas' ? { ...victim, expected: found } : victim]
    case 4:
      if (op === 'get') return [{ ...victim, output: null, status: 'unknown', returnUs: null }]
      if (status === 'unknown') return [{ ...victim, status: 'ok', returnUs: victim.callUs + 1 }]
      return [{ ...victim, status: 'unknown', returnUs: null }]
    default:
      if (op !== 'cas' || status === 'unknown') return [victim, { ...victim }]
      return [{ ...victim, status: status === 'ok' ? 'fail' : 'ok' }]
  }
}
