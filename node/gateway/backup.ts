/** `GET /v1/snapshot`: the whole state as one checksummed file, streamed as fast as the client reads it. */
import type { ErrorBody } from '../../client/protocol.ts'
import type { Backup, Service } from '../service.ts'
import type { Exchange } from './exchange.ts'
import { Refusal } from './problem.ts'

const READ_BYTES = 256 * 1024

export async function sendBackup(service: Service, exchange: Exchange): Promise<void> {
  const made = await exchange.ask<Backup | ErrorBody>('read', (answer) => service.backup(answer))
  if ('code' in made) throw new Refusal(made)
  const { clusterId, index, sizeBytes, checksum } = made.info
  const headers = {
    'content-type': 'application/octet-stream',
    'raft-cluster-id': clusterId,
    'raft-index': String(index),
    'raft-snapshot-sha256': checksum,
  }
  let offset = 0
  exchange.stream({
    headers,
    sizeBytes,
    next: (give) => {
      made.read(offset, READ_BYTES, (bytes) => {
        offset += bytes?.length ?? 0
        give(bytes)
      })
    },
    close: () => made.close(),
  })
}
