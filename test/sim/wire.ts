/** What a world says in the bytes of production. */
import { encodeCommand, encodeKvQuery } from '../../client/protocol.ts'
import { decodeBatch, encodeBatch } from '../../node/transport/codec.ts'
import type { PeerFrame } from '../../node/transport/transport.ts'

/** Through the bytes that would travel. */
export function recode(
  clusterId: string | null,
  frames: readonly PeerFrame[],
): readonly PeerFrame[] {
  return decodeBatch(encodeBatch(clusterId, frames)).frames as PeerFrame[]
}

/** Harmless, and it needs a quorum. */
export const PROBE = encodeCommand({
  kind: 'openSession',
  session: 0,
  sequence: 0,
  firstOutstanding: 0,
  operation: new Uint8Array(0),
})

/** The same of a read. */
export const READ_PROBE = encodeKvQuery({ type: 'get', key: Uint8Array.of(112) })
