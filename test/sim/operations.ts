/** What the clients of a world write, as bytes. */
import { encodeCommand, encodeKvOperation } from '../../client/protocol.ts'
import { encodeAppend } from './register-machine.ts'

const ENCODER = new TextEncoder()

/** As the gateway makes it from a request with an Idempotency-Key; the name and the request have no more to them here. */
export function keyedCommand(
  name: { readonly client: number; readonly number: number; readonly accepted: number },
  operation: Uint8Array,
): { readonly id: string; readonly command: Uint8Array } {
  const hashes = new Uint8Array(64)
  new DataView(hashes.buffer).setUint32(0, name.client)
  new DataView(hashes.buffer).setUint32(4, name.number)
  hashes.copyWithin(32, 0, 32)
  const command = encodeCommand({
    kind: 'keyed',
    session: 0,
    sequence: name.accepted,
    firstOutstanding: 0,
    operation: Uint8Array.from([...hashes, ...operation]),
  })
  return { id: Buffer.from(hashes.subarray(0, 32)).toString('hex'), command }
}

export function encodeOperation(
  kind: 'put' | 'cas' | 'append' | 'delete',
  keyText: string,
  valueText: string | null,
  expected: string | null,
): Uint8Array {
  const key = ENCODER.encode(keyText)
  const value = ENCODER.encode(valueText ?? '')
  switch (kind) {
    case 'append':
      return encodeAppend(key, value)
    case 'delete':
      return encodeKvOperation({ type: 'delete', key, condition: { type: 'none' } })
    case 'put':
      return encodeKvOperation({ type: 'put', key, value, condition: { type: 'none' } })
    case 'cas': {
      const condition =
        expected === null
          ? ({ type: 'absent' } as const)
          : ({ type: 'value', value: ENCODER.encode(expected) } as const)
      return encodeKvOperation({ type: 'put', key, value, condition })
    }
  }
}
