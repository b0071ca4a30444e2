/**
 * The check of a client's bytes at the boundary, before they are kept or replicated: shape, and the limits on keys and values.
 * The state machine must never be the first to see that a command is malformed or too large.
 */
import { MalformedError } from '../../client/bytes.ts'
import {
  decodeCommand,
  decodeKvOperation,
  decodeKvQuery,
  type ErrorBody,
  KEYED_HEADER_BYTES,
} from '../../client/protocol.ts'
import type { GatewayLimits } from './limits.ts'
import { errorBody } from './problem.ts'

export type SizeLimits = Pick<GatewayLimits, 'keyBytesMax' | 'valueBytesMax'>

/** What the gateway asks of the bytes for the state machine. Null: they may go on. */
export interface Checks {
  readonly command: (bytes: Uint8Array, limits: SizeLimits) => ErrorBody | null
  readonly query: (bytes: Uint8Array, limits: SizeLimits) => ErrorBody | null
}

/** Of the key-value machine. */
export const KEY_VALUE_CHECKS: Checks = { command: checkCommand, query: checkQuery }

/** Of a machine of somebody's own: only it knows what its bytes mean, and the gateway bounds them as it does values. */
export const OPAQUE_CHECKS: Checks = {
  command: (bytes, limits) =>
    shaped(() => {
      const { kind, operation } = decodeCommand(bytes)
      const start = kind === 'keyed' ? KEYED_HEADER_BYTES : 0
      return checkOpaque('an operation', operation.length - start, limits)
    }),
  query: (bytes, limits) => checkOpaque('a query', bytes.length, limits),
}

function checkOpaque(what: string, length: number, limits: SizeLimits): ErrorBody | null {
  if (length <= limits.valueBytesMax) return null
  return errorBody('too-large', `${what} has at most ${limits.valueBytesMax} bytes, not ${length}`)
}

/** Null when the command may go on. */
export function checkCommand(bytes: Uint8Array, limits: SizeLimits): ErrorBody | null {
  return shaped(() => {
    const command = decodeCommand(bytes)
    if (command.kind === 'openSession' || command.kind === 'closeSession') return null
    const start = command.kind === 'keyed' ? KEYED_HEADER_BYTES : 0
    const operation = decodeKvOperation(command.operation.subarray(start))
    const { condition } = operation
    return (
      checkKey(operation.key, limits) ??
      (operation.type === 'put' ? checkValue(operation.value, limits) : null) ??
      (condition.type === 'value' ? checkValue(condition.value, limits) : null)
    )
  })
}

/** Null when the query may go on. */
export function checkQuery(bytes: Uint8Array, limits: SizeLimits): ErrorBody | null {
  return shaped(() => {
    const query = decodeKvQuery(bytes)
    if (query.type === 'get') return checkKey(query.key, limits)
    return checkBound(query.prefix, limits) ?? checkBound(query.after, limits)
  })
}

export function checkKey(key: Uint8Array, limits: SizeLimits): ErrorBody | null {
  if (key.length === 0) return errorBody('bad-request', 'a key has at least one byte')
  return checkBound(key, limits)
}

export function checkValue(value: Uint8Array, limits: SizeLimits): ErrorBody | null {
  if (value.length <= limits.valueBytesMax) return null
  return valueTooLarge(value.length, limits)
}

export function valueTooLarge(length: number, limits: SizeLimits): ErrorBody {
  return errorBody('too-large', `a value has at most ${limits.valueBytesMax} bytes, not ${length}`)
}

/** A prefix or a bound of a range: like a key, but it may be empty. */
export function checkBound(bound: Uint8Array | null, limits: SizeLimits): ErrorBody | null {
  if (bound === null || bound.length <= limits.keyBytesMax) return null
  return errorBody(
    'too-large',
    `a key has at most ${limits.keyBytesMax} bytes, not ${bound.length}`,
  )
}

function shaped(check: () => ErrorBody | null): ErrorBody | null {
  try {
    return check()
  } catch (error) {
    if (error instanceof MalformedError) return errorBody('bad-request', error.message)
    throw error
  }
}
