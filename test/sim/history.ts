/**
 * What clients of a cluster saw: one record for each operation, and the JSON lines by which a history leaves the process, so
 * that an outside checker can judge the same run. linearizable.ts judges it here.
 */

const OPERATIONS = ['put', 'get', 'cas', 'append', 'delete'] as const
const STATUSES = ['ok', 'unknown', 'fail'] as const
const FIELDS = [
  'client',
  'op',
  'key',
  'value',
  'expected',
  'call_ns',
  'return_ns',
  'status',
  'output',
] as const
const NS_PER_US = 1000n

/**
 * One client operation on one key, as the client saw it. Times are integers of one clock; unit: microseconds of virtual time.
 *
 * Each key is a register of its own, absent at first. `append` concatenates `value` to the present value, absent counts as
 * empty. `cas` compares with `expected` and writes `value` in one step.
 *
 * - `ok`: it took effect, or observed `output`, at one moment between call and return. An ok `cas` succeeded.
 * - `unknown`: it may have taken effect at any one moment after the call, however late, or never; a timeout is not a failure. An
 *   unknown `get` says nothing and is dropped.
 * - `fail`: a `cas` made its comparison between call and return, and it failed: at that moment the value was not `expected`.
 *   Every other operation certainly had no effect and is dropped.
 *
 * Call and return are part of the interval: one operation precedes another only if it returned in an earlier microsecond than
 * the other was called in. A client that calls at the very time of its last return has lost that order in its history.
 * The client itself is a label for the reader; it orders nothing, so one client may have several calls under way.
 */
export interface Operation {
  readonly client: number
  readonly op: (typeof OPERATIONS)[number]
  readonly key: string
  /** put, append, cas (the new value); null for get and delete. */
  readonly value: string | null
  /** cas: null means "absent". Null for everything else. */
  readonly expected: string | null
  readonly callUs: number
  /** null: never returned, which is when and only when the status is unknown. */
  readonly returnUs: number | null
  readonly status: (typeof STATUSES)[number]
  /** get: the value read, null for absent. Null for everything else. */
  readonly output: string | null
}

/** A history that means nothing. `line` counts from 1, also in a history that was never in a file. */
export class HistoryError extends Error {
  readonly code: 'bad-json' | 'bad-field'
  readonly line: number

  constructor(code: 'bad-json' | 'bad-field', line: number, reason: string) {
    super(`history line ${line}: ${reason}`)
    this.name = 'HistoryError'
    this.code = code
    this.line = line
  }
}

/**
 * One JSON object a line: {client, op, key, value, expected, call_ns, return_ns, status, output}. Times are decimal strings of
 * nanoseconds, because they outgrow what a JSON number carries; return_ns is null when the outcome is unknown.
 */
export function writeHistory(history: readonly Operation[]): string {
  return history.map((operation) => `${writeOperation(operation)}\n`).join('')
}

function writeOperation(operation: Operation): string {
  const { client, op, key, value, expected, callUs, returnUs, status, output } = operation
  const call_ns = nanoseconds(callUs)
  const return_ns = returnUs === null ? null : nanoseconds(returnUs)
  return JSON.stringify({ client, op, key, value, expected, call_ns, return_ns, status, output })
}

function nanoseconds(us: number): string {
  return String(BigInt(us) * NS_PER_US)
}

/** Reads what `writeHistory` wrote; empty lines are skipped. Throws HistoryError at the first line that is not an operation. */
export function readHistory(text: string): Operation[] {
  const history: Operation[] = []
  for (const [index, source] of text.split('\n').entries()) {
    if (source.trim() !== '') history.push(readOperation(source, index + 1))
  }
  return history
}

function readOperation(source: string, line: number): Operation {
  const fields = readFields(source, line)
  const { client, op, key, value, expected, status, output } = fields
  const bad = (field: string): never => {
    throw new HistoryError('bad-field', line, `${field} is ${JSON.stringify(fields[field])}`)
  }
  const operation: Operation = {
    client: typeof client === 'number' ? client : bad('client'),
    op: OPERATIONS.find((known) => known === op) ?? bad('op'),
    key: typeof key === 'string' ? key : bad('key'),
    value: isText(value) ? value : bad('value'),
    expected: isText(expected) ? expected : bad('expected'),
    callUs: microseconds(fields.call_ns) ?? bad('call_ns'),
    returnUs:
      fields.return_ns === null ? null : (microseconds(fields.return_ns) ?? bad('return_ns')),
    status: STATUSES.find((known) => known === status) ?? bad('status'),
    output: isText(output) ? output : bad('output'),
  }
  checkOperation(operation, line)
  return operation
}

function readFields(source: string, line: number): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(source)
  } catch (error) {
    throw new HistoryError('bad-json', line, (error as Error).message)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new HistoryError('bad-json', line, 'not an object')
  }
  const fields = parsed as Record<string, unknown>
  for (const name of FIELDS) {
    if (!Object.hasOwn(fields, name)) throw new HistoryError('bad-field', line, `no ${name}`)
  }
  const more = Object.keys(fields).find((name) => !FIELDS.some((known) => known === name))
  if (more !== undefined) throw new HistoryError('bad-field', line, `what is ${more}?`)
  return fields
}

function isText(value: unknown): value is string | null {
  return value === null || typeof value === 'string'
}

function microseconds(value: unknown): number | undefined {
  if (typeof value !== 'string' || !/^(0|[1-9]\d{0,18})$/.test(value)) return undefined
  const ns = BigInt(value)
  return ns % NS_PER_US === 0n ? Number(ns / NS_PER_US) : undefined
}

/** Throws HistoryError when the fields of an operation contradict each other. */
export function checkOperation(operation: Operation, line: number): void {
  const { client, op, value, expected, callUs, returnUs, status, output } = operation
  const require = (holds: boolean, reason: string): void => {
    if (!holds) throw new HistoryError('bad-field', line, reason)
  }
  require(Number.isSafeInteger(client) && client >= 0, `client is ${client}`)
  require(Number.isSafeInteger(callUs) && callUs >= 0, `called at ${callUs} us`)
  if (returnUs === null) require(status === 'unknown', `${status}, but it never returned`)
  else {
    require(status !== 'unknown', 'unknown, but it returned')
    require(Number.isSafeInteger(returnUs) && returnUs >= callUs, `returned at ${returnUs} us`)
  }
  const writes = op === 'put' || op === 'append' || op === 'cas'
  require((value !== null) === writes, `${op} with the value ${JSON.stringify(value)}`)
  require(expected === null || op === 'cas', `${op} that expects something`)
  require(output === null || (op === 'get' && status === 'ok'), `${op}, ${status}, with an output`)
}
