/** A state machine that is not the key-value store, as somebody who embeds a node would write one. */
import type { StateMachine } from '../../node/machine/machine.ts'

/** Adds up the bytes that it is given. */
export class Counter implements StateMachine {
  sum = 0

  apply(operation: Uint8Array): Uint8Array {
    for (const byte of operation) this.sum += byte
    return Uint8Array.of(this.sum)
  }

  query(): Uint8Array {
    return Uint8Array.of(this.sum)
  }

  hash(): string {
    return this.sum.toString(16).padStart(16, '0')
  }

  clone(): Counter {
    return Object.assign(new Counter(), { sum: this.sum })
  }

  pieces(): Uint8Array[] {
    return [new TextEncoder().encode(String(this.sum))]
  }

  restorer() {
    const copy = new Counter()
    return {
      write: (piece: Uint8Array) => {
        copy.sum = Number(new TextDecoder().decode(piece))
      },
      finish: () => copy,
    }
  }
}
