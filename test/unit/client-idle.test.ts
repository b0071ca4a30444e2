/** The client library after an hour in which nobody called: the cluster has forgotten its session, and no write is in doubt for it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { connect } from '../../client/node.ts'
import { failure, StandInCluster, until, within } from '../support/stand-in-cluster.ts'

const idle = suite('idle client')
const now = performance.now.bind(performance)
let laterMs = 0

idle.before.each(() => {
  laterMs = 0
  performance.now = () => now() + laterMs
})
idle.after.each(() => {
  performance.now = now
})

idle('a session that was not used for long is not used again', async () => {
  const cluster = await StandInCluster.start(1)
  const db = await within(connect(cluster.node(1).url))
  try {
    await db.put('k', 'v')
    laterMs += 30_000
    await db.put('k', 'w')
    assert.is(cluster.opened, 1)
    laterMs += 61_000
    cluster.expireSessions()
    await db.put('k', 'x')
    assert.is(await db.get('k'), 'x')
    assert.is(cluster.opened, 2)
  } finally {
    db.close()
    await cluster.stop()
  }
})

idle('while a write of it waits it is in use, however long that takes', async () => {
  const cluster = await StandInCluster.start(1)
  const db = await within(connect(cluster.node(1).url))
  try {
    await db.put('k', 'v')
    cluster.node(1).judge = (request) => (request.type === 'command' ? 'ignore' : 'serve')
    const stuck = failure(db.put('a', '1', { timeoutMs: 2_000 }))
    const sent = cluster.node(1).requests.length
    await until(() => cluster.node(1).requests.length > sent, 'the write at the node')
    laterMs += 61_000
    cluster.node(1).judge = () => 'serve'
    await db.put('k', 'w')
    assert.is(cluster.opened, 1)
    await stuck
  } finally {
    db.close()
    await cluster.stop()
  }
})

idle.run()
