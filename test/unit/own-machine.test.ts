/** A program of its own around a node, with a state machine of its own: over the public client, as README promises. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Client, connect } from '../../client/node.ts'
import { createLog } from '../../node/log.ts'
import { createNode, type RunningNode } from '../../node/node.ts'
import { Counter } from '../support/counter.ts'
import { failure, within } from '../support/stand-in-cluster.ts'
import { temporaryDirectory } from '../support/storage.ts'

const own = suite('a state machine of somebody’s own')

async function using(body: (db: Client, node: RunningNode) => Promise<void>): Promise<void> {
  const node = await createNode(
    {
      topic: 'a state machine of my own',
      data: temporaryDirectory(),
      expect: 1,
      listen: { host: '127.0.0.1', port: 0 },
      dht: 'off',
      lan: false,
      local: false,
      maxValueBytes: 1000,
    },
    { machine: new Counter(), log: createLog({ format: 'json', level: 'error', write: () => {} }) },
  )
  let db: Client | null = null
  try {
    db = await connect(node.url, { timeoutMs: 20_000 })
    await within(body(db, node), 40_000)
  } finally {
    db?.close()
    await node.stop()
  }
}

own('applies what the client sends, which means nothing to the gateway, and answers it', () =>
  using(async (db) => {
    assert.equal((await db.command(Uint8Array.of(1, 2))).body, Uint8Array.of(3))
    assert.equal((await db.command(Uint8Array.of(200))).body, Uint8Array.of(203))
    assert.equal((await db.query(Uint8Array.of(9, 9, 9))).body, Uint8Array.of(203))
    assert.equal((await db.query(new Uint8Array(0))).body, Uint8Array.of(203))
  }),
)

own('what is too large is refused all the same', () =>
  using(async (db) => {
    assert.is((await failure(db.command(new Uint8Array(1001)))).code, 'too-large')
    assert.is((await failure(db.query(new Uint8Array(1001)))).code, 'too-large')
    assert.equal((await db.command(new Uint8Array(1000))).body, Uint8Array.of(0))
  }),
)

own('keys are none of its business: there are no endpoints for them', () =>
  using(async (_db, node) => {
    const base = node.url.replace('ws:', 'http:')
    for (const path of ['/v1/kv/a', '/v1/kv']) {
      assert.is((await fetch(`${base}${path}`)).status, 404)
    }
    const put = await fetch(`${base}/v1/kv/a`, { method: 'PUT', body: 'x' })
    assert.is(put.status, 404)
    assert.is((await fetch(`${base}/v1/status`)).status, 200)
  }),
)

own.run()
