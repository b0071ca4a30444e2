/**
 * Inputs that break a law today. Each is forgiven by exactly its own error, and must still fail: whoever mends the decoder removes the
 * entry, and from then on the law holds without exception.
 */

import { examine } from './laws.ts'
import type { AnyRow } from './rows.ts'

export interface Finding {
  /** The name of the row. */
  readonly row: string
  readonly what: string
  /** The smallest input that shows it. */
  readonly example: unknown
  /** Whether this is how the law is broken. */
  matches(error: Error, input: unknown): boolean
}

export const OPEN_FINDINGS: readonly Finding[] = []

/** As `examine`, and forgives what is known to be broken. */
export function examined(row: AnyRow, input: unknown): void {
  try {
    examine(row, input)
  } catch (error) {
    if (!isOpen(row.name, error, input)) throw described(error, input)
  }
}

/** Bytes that are text are easier to read as such. */
function described(error: unknown, input: unknown): unknown {
  if (error instanceof Error && input instanceof Uint8Array) {
    error.message += `\n  input: ${JSON.stringify(Buffer.from(input).toString('latin1'))}`
  }
  return error
}

/** True when the law is known to be broken in this way. */
function isOpen(row: string, error: unknown, input: unknown): boolean {
  return OPEN_FINDINGS.some(
    (finding) => finding.row === row && error instanceof Error && finding.matches(error, input),
  )
}

/** Decoders that do not manage a large input, and how that shows. */
export const HANGS: Readonly<Record<string, RegExp>> = {}

export function isHanging(row: string, error: unknown): boolean {
  return error instanceof Error && HANGS[row]?.test(error.message) === true
}
