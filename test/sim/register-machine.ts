/**
 * The state machine of the simulated worlds: the key-value machine of production with one operation more, `append`, which shows
 * at once when something was applied twice, lost, or out of order.
 */
import { ByteReader, ByteWriter } from '../../client/bytes.ts'
import { decodeKvGot, encodeKvOperation, encodeKvQuery } from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { ApplyMeta, Restorer, StateMachine } from '../../node/machine/machine.ts'

/** No operation of the key-value machine begins so. */
const APPEND = 0x61

export function encodeAppend(key: Uint8Array, value: Uint8Array): Uint8Array {
  return new ByteWriter().u8(APPEND).bytes(key).raw(value).finish()
}

/** Null: it is an operation of the key-value machine. */
export function decodeAppend(operation: Uint8Array): { key: Uint8Array; value: Uint8Array } | null {
  if (operation[0] !== APPEND) return null
  const reader = new ByteReader(operation)
  reader.u8()
  return { key: reader.bytes(), value: reader.rest() }
}

export class RegisterMachine implements StateMachine {
  readonly #items: KvMachine
  #isCorrupt = false

  constructor(items: KvMachine = new KvMachine()) {
    this.#items = items
  }

  apply(operation: Uint8Array, meta: ApplyMeta): Uint8Array {
    const appended = decodeAppend(operation)
    if (appended === null) return this.#items.apply(operation, meta)
    const { key } = appended
    const present = decodeKvGot(this.#items.query(encodeKvQuery({ type: 'get', key })))
    const before = present?.value ?? new Uint8Array(0)
    const value = new Uint8Array(before.length + appended.value.length)
    value.set(before)
    value.set(appended.value, before.length)
    return this.#items.apply(
      encodeKvOperation({ type: 'put', key, value, condition: { type: 'none' } }),
      meta,
    )
  }

  query(query: Uint8Array): Uint8Array {
    return this.#items.query(query)
  }

  /** From here on the state is another than that of the same log elsewhere, in a place that no client asks for. */
  corrupt(): void {
    this.#isCorrupt = true
  }

  hash(): string {
    const hash = this.#items.hash()
    return this.#isCorrupt ? hash.replace(/^./, other) : hash
  }

  clone(): RegisterMachine {
    return new RegisterMachine(this.#items.clone())
  }

  pieces(): Iterable<Uint8Array> {
    return this.#items.pieces()
  }

  restorer(): Restorer {
    const items = this.#items.restorer()
    return {
      write: (piece) => items.write(piece),
      finish: () => new RegisterMachine(items.finish()),
    }
  }
}

/** Another hex digit. */
function other(digit: string): string {
  return digit === '0' ? '1' : '0'
}
