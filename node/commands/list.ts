/** `raft-p2p list [prefix]`: `key<TAB>value` lines in the order of the keys, all of them unless `--limit` says less. */
import type { Client, KvItem } from '../../client/client.ts'
import { UsageError } from '../config.ts'
import { EXIT, type Invocation, type Io, printJson, textFlag } from './command.ts'
import { jsonItem, shownBytes } from './items.ts'
import { readOptionsOf, withClient } from './with-client.ts'

const PAGE = 1000
const TAB = Uint8Array.of(9)
const NEWLINE = Uint8Array.of(10)

export async function run(invocation: Invocation): Promise<number> {
  const { io, json } = invocation
  const limit = limitOf(invocation)
  const items: KvItem[] = []
  const more = await withClient(invocation, (client) =>
    readPages(client, { invocation, limit }, (item) => {
      if (json) items.push(item)
      else printItem(io, item)
    }),
  )
  if (json) printJson(io, { items: items.map(jsonItem), more })
  return EXIT.ok
}

function limitOf(invocation: Invocation): number {
  const text = textFlag(invocation, 'limit')
  if (text === null) return Number.POSITIVE_INFINITY
  const limit = Number(text)
  if (!/^\d+$/.test(text) || limit < 1 || !Number.isSafeInteger(limit)) {
    throw new UsageError(`--limit takes a whole number from 1, not ${JSON.stringify(text)}`)
  }
  return limit
}

/** Page by page; keys that change meanwhile are seen as they were when their page was read. Returns whether more are left. */
async function readPages(
  client: Client,
  { invocation, limit }: { invocation: Invocation; limit: number },
  onItem: (item: KvItem) => void,
): Promise<boolean> {
  const [prefix = ''] = invocation.args
  let left = limit
  let after: Uint8Array | undefined
  for (;;) {
    const { items, more } = await client.list(prefix, {
      ...readOptionsOf(invocation),
      limit: Math.min(PAGE, left),
      ...(after === undefined ? {} : { after }),
    })
    for (const item of items) onItem(item)
    left -= items.length
    after = items.at(-1)?.key
    if (!more || after === undefined || left <= 0) return more
  }
}

function printItem(io: Io, { key, value }: KvItem): void {
  io.stdout.write(Buffer.concat([shownBytes(io, key), TAB, shownBytes(io, value), NEWLINE]))
}
