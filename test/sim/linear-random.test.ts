// timeout: 120 s
/**
 * The judge of histories on random ones: small ones against a search of all orders, larger ones that are right by
 * construction, and larger ones with one certain error. LINEAR_ROUNDS=20 runs that many times as many.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Random } from '../../node/raft/random.ts'
import { type Operation, writeHistory } from './history.ts'
import { step, type Violation } from './linear-explain.ts'
import { atomicHistory, type HistoryOptions, mutate } from './linear-histories.ts'
import { checkLinearizable, explain } from './linearizable.ts'

const ROUNDS = Number(process.env.LINEAR_ROUNDS ?? 1)

type Mix = HistoryOptions['mix']

const MIXES: Readonly<Record<string, Mix>> = {
  everything: { put: 25, get: 40, cas: 15, append: 15, delete: 5 },
  registers: { put: 45, get: 50, cas: 0, append: 0, delete: 5 },
  comparisons: { put: 15, get: 20, cas: 55, append: 0, delete: 10 },
  appends: { put: 0, get: 30, cas: 5, append: 65, delete: 0 },
  overwrittenAppends: { put: 10, get: 25, cas: 10, append: 50, delete: 5 },
  hidden: { put: 5, get: 10, cas: 50, append: 30, delete: 5 },
  writes: { put: 55, get: 20, cas: 10, append: 10, delete: 5 },
}

/**
 * The definition, word by word and without any thought of speed: some order of the operations that took effect, and of some of
 * the unknown ones, in which nothing stands before what precedes it, and which a register could have followed.
 */
function isLinearizableByDefinition(history: readonly Operation[]): boolean {
  const keys = new Set(history.map(({ key }) => key))
  return [...keys].every((key) => {
    const all = history.filter((operation) => operation.key === key)
    const required = all.filter(
      ({ op, status }) => status === 'ok' || (op === 'cas' && status === 'fail'),
    )
    const optional = all.filter(({ op, status }) => op !== 'get' && status === 'unknown')
    return canGoOn(required, optional, null)
  })
}

function canGoOn(
  required: readonly Operation[],
  optional: readonly Operation[],
  value: string | null,
): boolean {
  if (required.length === 0) return true
  for (const operation of [...required, ...optional]) {
    const isPreceded = required.some(
      ({ returnUs }) => returnUs !== null && returnUs < operation.callUs,
    )
    if (isPreceded) continue
    const after = registerAfter(operation, value)
    if (after === 'impossible') continue
    const others = (one: Operation): boolean => one !== operation
    if (canGoOn(required.filter(others), optional.filter(others), after.value)) return true
  }
  return false
}

function registerAfter(
  operation: Operation,
  value: string | null,
): { value: string | null } | 'impossible' {
  if (operation.op === 'put') return { value: operation.value }
  if (operation.op === 'delete') return { value: null }
  if (operation.op === 'append') return { value: (value ?? '').concat(operation.value ?? '') }
  if (operation.op === 'get') return operation.output === value ? { value } : 'impossible'
  const isEqual = operation.expected === value
  if (operation.status === 'fail') return isEqual ? 'impossible' : { value }
  return isEqual ? { value: operation.value } : 'impossible'
}

/** A few operations on one key that nobody performed: most of these histories are impossible, and many barely so. */
function wildHistory(random: Random, mix: Mix): Operation[] {
  const values = ['a', 'b', 'ab', '']
  const ops = (Object.entries(mix) as [Operation['op'], number][]).flatMap(([op, weight]) =>
    Array.from({ length: weight }, () => op),
  )
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)] as T
  const text = (): string => pick(values)
  return Array.from({ length: 2 + random.below(5) }, (_, client) => {
    const op = pick(ops)
    const callUs = random.below(12)
    const status = pick<Operation['status']>(['ok', 'ok', 'ok', 'unknown', 'fail'])
    const writes = op === 'put' || op === 'append' || op === 'cas'
    return {
      client,
      op,
      key: 'k',
      value: writes ? text() : null,
      expected: op === 'cas' ? pick([null, ...values]) : null,
      callUs,
      returnUs: status === 'unknown' ? null : callUs + random.below(6),
      status,
      output: op === 'get' && status === 'ok' ? pick([null, 'ba', ...values]) : null,
    }
  })
}

function shuffle(history: readonly Operation[], random: Random): Operation[] {
  return history
    .map((operation) => ({ operation, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ operation }) => operation)
}

/** Compares with the definition, in the order given and in another; counts both verdicts, so that neither is missing. */
function compare(
  history: readonly Operation[],
  random: Random,
  counts: Counts,
  name: string,
): void {
  const expected = isLinearizableByDefinition(history)
  for (const given of [history, shuffle(history, random)]) {
    const verdict = checkLinearizable(given)
    if (verdict.ok !== expected) {
      const reason = verdict.ok === false ? explain(verdict) : 'it was accepted'
      throw new Error(`${name}: expected ${expected}\n${reason}\n${writeHistory(given)}`)
    }
    if (verdict.ok === false) checkExplanation(verdict)
  }
  if (expected) counts.good++
  else counts.bad++
}

interface Counts {
  good: number
  bad: number
}

/** What the explanation claims: the prefix is possible and respects real time, and no operation that could be next fits. */
function checkExplanation(violation: Violation): void {
  const { key, prefix, value, blocked, others } = violation
  let present: string | null = null
  let latestCallUs = 0
  for (const operation of prefix) {
    assert.is(operation.key, key)
    const after = registerAfter(operation, present)
    if (after === 'impossible') throw new Error('the prefix is impossible')
    present = after.value
    latestCallUs = Math.max(latestCallUs, operation.callUs)
    assert.ok((operation.returnUs ?? latestCallUs) >= latestCallUs, 'the prefix is out of order')
  }
  assert.is(present, value)
  assert.ok(blocked.length > 0)
  for (const operation of blocked) {
    assert.not.equal(operation.status, 'unknown')
    assert.is(registerAfter(operation, value), 'impossible')
    assert.not(step(value, operation).legal)
  }
  const endUs = Math.min(...blocked.map(({ returnUs }) => returnUs as number))
  for (const { callUs, status } of others) assert.ok(status === 'unknown' || callUs > endUs)
  // Everything that returned before the call of something in the prefix is in the prefix as well.
  assert.ok(endUs >= latestCallUs, 'the prefix leaves a gap')
  assert.match(explain(violation), 'is not linearizable')
}

const small = suite('against the definition')

for (const [name, mix] of Object.entries(MIXES)) {
  small(`wild histories: ${name}`, () => {
    const counts = { good: 0, bad: 0 }
    for (let seed = 1; seed <= 1500 * ROUNDS; seed++) {
      const random = new Random(seed)
      compare(wildHistory(random, mix), random, counts, `${name}, wild ${seed}`)
    }
    assert.ok(counts.good > 100 && counts.bad > 100, JSON.stringify(counts))
  })

  small(`mutated histories: ${name}`, () => {
    const counts = { good: 0, bad: 0 }
    for (let seed = 1; seed <= 1500 * ROUNDS; seed++) {
      const random = new Random(seed)
      let history: readonly Operation[] = atomicHistory({
        seed,
        clients: 2 + random.below(3),
        operations: 4 + random.below(4),
        keys: 1 + random.below(2),
        unknownPercent: random.below(50),
        mix,
        values: random.below(2) === 0 ? null : 2,
        delayUsMax: 4 + random.below(20),
      })
      compare(history, random, counts, `${name}, not mutated ${seed}`)
      for (let times = random.below(6); times >= 0; times--) history = mutate(history, random)
      if (history.length <= 8) compare(history, random, counts, `${name}, mutated ${seed}`)
    }
    assert.ok(counts.good > 100 && counts.bad > 100, JSON.stringify(counts))
  })
}

const large = suite('larger than the definition can judge')

function largeHistory(seed: number, mix: Mix, values: number | null): Operation[] {
  const random = new Random(seed)
  return atomicHistory({
    seed,
    clients: 1 + random.below(12),
    operations: 20 + random.below(280),
    keys: 1 + random.below(5),
    unknownPercent: random.below(4) * 10,
    mix,
    values,
    delayUsMax: 10 ** (1 + random.below(4)),
  })
}

function accept(history: readonly Operation[], name: string): number {
  const verdict = checkLinearizable(history)
  if (verdict.ok === true) return verdict.states
  throw new Error(`${name}: ${verdict.ok === false ? explain(verdict) : 'gave up'}`)
}

for (const [name, mix] of Object.entries(MIXES)) {
  large(`what is atomic by construction is accepted: ${name}`, () => {
    for (let seed = 1; seed <= 100 * ROUNDS; seed++) {
      accept(largeHistory(seed, mix, null), `${name}, seed ${seed}`)
    }
  })

  large(`and not refused where values repeat, which can be too much to decide: ${name}`, () => {
    for (let seed = 1; seed <= 30 * ROUNDS; seed++) {
      const history = largeHistory(seed, mix, 20)
      const verdict = checkLinearizable(history, { statesMax: 20_000 })
      if (verdict.ok === false) throw new Error(`${name}, seed ${seed}: ${explain(verdict)}`)
    }
  })
}

/**
 * Each value is written once, appends included: what was read and then overwritten cannot be read any more. Makes one later get read
 * such a value, or returns null when no three operations suit.
 */
function withStaleRead(history: readonly Operation[], random: Random): Operation[] | null {
  const isRead = ({ op, output }: Operation): boolean => op === 'get' && output !== null
  const early = shuffle(history.filter(isRead), random)
  for (const { key, output, returnUs } of early.slice(0, 10)) {
    const follows = (operation: Operation, us: number | null): boolean =>
      operation.key === key && operation.status === 'ok' && operation.callUs > (us as number)
    const overwrite = history.find(
      (operation) => /put|delete/.test(operation.op) && follows(operation, returnUs),
    )
    if (overwrite === undefined) continue
    const late = history.filter((one) => one.op === 'get' && follows(one, overwrite.returnUs))
    const victim = late[random.below(Math.max(1, late.length))]
    if (victim !== undefined) {
      return history.map((one) => (one === victim ? { ...victim, output } : one))
    }
  }
  return null
}

large('one stale read in a long history is found', () => {
  let found = 0
  for (const [name, mix] of Object.entries(MIXES)) {
    for (let seed = 1; seed <= 60 * ROUNDS; seed++) {
      const random = new Random(seed)
      const history = withStaleRead(largeHistory(seed, mix, null), random)
      if (history === null) continue
      const verdict = checkLinearizable(history)
      if (verdict.ok !== false) throw new Error(`${name}, seed ${seed}: ${verdict.ok}`)
      checkExplanation(verdict)
      found++
    }
  }
  assert.ok(found > 100, `${found} histories`)
})

large('2,000 operations of 8 clients on one key need few configurations', () => {
  for (const [name, mix] of Object.entries(MIXES)) {
    for (const unknownPercent of [5, 25]) {
      const shape = { clients: 8, operations: 2000, keys: 1, unknownPercent, delayUsMax: 1000 }
      const history = atomicHistory({ seed: 1, mix, values: null, ...shape })
      const states = accept(history, name)
      assert.ok(states < 40_000, `${name}, ${unknownPercent} % unknown: ${states} configurations`)
    }
  }
})

small.run()
large.run()
