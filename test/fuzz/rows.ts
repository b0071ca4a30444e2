/**
 * What the fuzzing knows of one decoder: how to make valid input for it, how to call it, and how it refuses. One row a decoder; the
 * properties that every row must have are in laws.ts.
 */
import type fc from 'fast-check'

export type Outcome<Value> =
  | { readonly ok: true; readonly value: Value }
  /** Refused in the way this decoder documents. */
  | { readonly ok: false }

export interface Row<Input = never, Value = never> {
  readonly name: string
  /** The exports this row calls, `path#name`; checked to exist, and counted by the test of completeness. */
  readonly covers: readonly string[]
  readonly kind: 'bytes' | 'text' | 'json'
  /** The bytes or the text are JSON: it is mutated as a tree too. */
  readonly inner?: 'json'
  /** Values that the encoder takes. */
  readonly values: fc.Arbitrary<Value>
  encode(value: Value): Input
  /** Throws only what the decoder is not allowed to throw. */
  decode(input: Input): Outcome<Value>
  /** What a decoded value is compared by; without it, all of it. */
  shown?(value: Value): unknown
  /** Nearer to the grammar than plain noise. */
  readonly noise?: fc.Arbitrary<Input>
  /** Makes the checksums of mutated bytes right again, so that what lies behind them is reached. */
  reseal?(bytes: Uint8Array): Uint8Array
  /** Throws when an accepted value breaks a promise of its decoder. */
  sound?(value: Value, input: Input): void
  /**
   * What is accepted is written again as... `bytes`: exactly the input. `value` (default): something that is read as the same value.
   * `no`: not every accepted value can be written.
   */
  readonly again?: 'bytes' | 'value' | 'no'
  /** Weight of the result for each unit of input (see laws.ts); default 64. */
  readonly weightMax?: number
  /** The largest single buffer it may allocate beyond four times its input; default 4 KiB. */
  readonly bufferBytesMax?: number
}

// biome-ignore lint/suspicious/noExplicitAny: the table holds rows of every type; each is consistent in itself.
export type AnyRow = Row<any, any>

export function row<Input, Value>(made: Row<Input, Value>): AnyRow {
  return made
}

type ErrorClass = abstract new (...args: never[]) => Error

/** A decoder that refuses by throwing exactly this class. */
export function throwing<Input, Value>(
  decode: (input: Input) => Value,
  refusal: ErrorClass,
): (input: Input) => Outcome<Value> {
  return (input) => {
    try {
      return { ok: true, value: decode(input) }
    } catch (error) {
      if (error instanceof refusal) return { ok: false }
      throw error
    }
  }
}

/** A decoder that refuses with null. */
export function orNull<Input, Value>(
  decode: (input: Input) => Value | null,
): (input: Input) => Outcome<Value> {
  return (input) => {
    const value = decode(input)
    return value === null ? { ok: false } : { ok: true, value }
  }
}

/** A predicate: what it accepts is the input itself. */
export function guard<Input>(accepts: (input: Input) => boolean): (input: Input) => Outcome<Input> {
  return (input) => (accepts(input) ? { ok: true, value: input } : { ok: false })
}

/** A decoder that makes something of any input. */
export function always<Input, Value>(
  decode: (input: Input) => Value,
): (input: Input) => Outcome<Value> {
  return (input) => ({ ok: true, value: decode(input) })
}
