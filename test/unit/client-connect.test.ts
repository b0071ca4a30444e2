/** How the client library finds its first node: tokens, clusters, addresses, WebSocket classes. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { type Client, connect as connectInBrowser } from '../../client/client.ts'
import { connect } from '../../client/node.ts'
import { failure, plain, StandInCluster, until, within } from '../support/stand-in-cluster.ts'

const connecting = suite('client connect')

connecting(
  'the token travels as a subprotocol; without it, or with a wrong one, connect is refused at once',
  async () => {
    const cluster = await StandInCluster.start(2, { token: 'dG9rZW4tXw' })
    try {
      for (const options of [{}, { token: 'another' }]) {
        const error = await failure(connect(cluster.urls, options))
        assert.equal(plain(error), { code: 'unauthorised', retriable: false, maybeApplied: false })
      }
      const db = await within(connect(cluster.urls, { token: 'dG9rZW4tXw' }))
      await db.put('k', 'v')
      assert.is(await db.get('k'), 'v')
      db.close()
      assert.equal(cluster.node(1).offered, ['raft-p2p.v1,token.dG9rZW4tXw'])
    } finally {
      await cluster.stop()
    }
  },
)

connecting('a token that is withdrawn fails the calls that wait', async () => {
  const cluster = await StandInCluster.start(1, { token: 'right' })
  const other = await StandInCluster.start(1, { token: 'wrong' })
  let db: Client | null = null
  try {
    db = await within(connect([cluster.node(1).url, other.node(1).url], { token: 'right' }))
    await db.put('k', 'v')
    await cluster.stop()
    // The one left refuses, the other is gone: not the same as "all refuse", so the call uses its time.
    const error = await failure(db.get('k', { timeoutMs: 400 }))
    assert.is(error.code, 'unauthorised')
    assert.is(error.maybeApplied, false)
  } finally {
    db?.close()
    await Promise.all([cluster.stop(), other.stop()])
  }
})

connecting('a node of another cluster is refused', async () => {
  const cluster = await StandInCluster.start(2)
  try {
    const error = await failure(connect(cluster.urls, { clusterId: 'f'.repeat(32) }))
    assert.is(error.code, 'wrong-cluster')
    assert.match(error.message, cluster.clusterId)
    assert.match(error.message, 'f'.repeat(32))
    cluster.node(1).clusterId = 'e'.repeat(32)
    const db = await within(connect(cluster.urls, { clusterId: cluster.clusterId }))
    assert.is((await db.status()).memberId, 2)
    db.close()
  } finally {
    await cluster.stop()
  }
})

connecting(
  'the first cluster met is the only one: a stranger at a known address is not written to',
  async () => {
    const cluster = await StandInCluster.start(2)
    let db: Client | null = null
    try {
      db = await within(connect(cluster.urls))
      await db.put('k', 'v')
      cluster.node(2).clusterId = 'e'.repeat(32)
      await cluster.node(1).stop()
      const error = await failure(db.get('k', { timeoutMs: 300 }))
      assert.is(error.code, 'wrong-cluster')
      assert.is(cluster.node(2).requests.length, 0)
    } finally {
      db?.close()
      await cluster.stop()
    }
  },
)

connecting('the leader that a stranger names, in a later term, is not followed', async () => {
  const [cluster, stranger] = await Promise.all([StandInCluster.start(2), StandInCluster.start(1)])
  stranger.term = 99
  stranger.node(1).clusterId = 'e'.repeat(32)
  let db: Client | null = null
  try {
    const urls = [stranger.node(1).url, cluster.node(1).url]
    db = await within(connect(urls, { clusterId: cluster.clusterId }))
    await db.put('k', 'v')
    assert.equal(db.leader(), { leaderId: 1, leaderUrl: cluster.node(1).url, term: 1 })
  } finally {
    db?.close()
    await Promise.all([cluster.stop(), stranger.stop()])
  }
})

connecting('nothing there: unreachable, when the time is up', async () => {
  const cluster = await StandInCluster.start(1)
  const { url } = cluster.node(1)
  await cluster.stop()
  const error = await failure(connect(url, { timeoutMs: 200 }))
  assert.equal(plain(error), { code: 'unreachable', retriable: true, maybeApplied: false })
  assert.match(error.message, 'ECONNREFUSED')
})

connecting('a node that starts later is found; a dead address first costs little', async () => {
  const cluster = await StandInCluster.start(2)
  await cluster.stop()
  const connected = within(connect(cluster.urls))
  await cluster.node(2).restart()
  const db = await connected
  await db.put('k', 'v')
  db.close()
  await cluster.stop()
})

connecting('a signal gives connecting up, and closes the client later', async () => {
  const cluster = await StandInCluster.start(1)
  try {
    assert.is(
      (await failure(connect(cluster.urls, { signal: AbortSignal.abort() }))).code,
      'aborted',
    )
    const controller = new AbortController()
    const db = await within(connect(cluster.urls, { signal: controller.signal }))
    cluster.node(1).judge = () => 'ignore'
    const pending = failure(db.get('k'))
    controller.abort()
    assert.is((await pending).code, 'aborted')
    await until(() => cluster.node(1).open === 0, 'the connection to be closed')
    cluster.node(1).silent = true
    const second = new AbortController()
    const waiting = failure(connect(cluster.urls, { signal: second.signal }))
    await until(() => cluster.node(1).open === 1, 'a connection')
    second.abort()
    assert.is((await waiting).code, 'aborted')
  } finally {
    await cluster.stop()
  }
})

connecting('addresses in the forms people write', async () => {
  const cluster = await StandInCluster.start(1)
  const { host } = new URL(cluster.node(1).url)
  try {
    for (const url of [host, `ws://${host}/`, `http://${host}`, `ws://${host}/v1/client`]) {
      const db = await within(connect(url))
      assert.is((await db.status()).memberId, 1)
      db.close()
    }
  } finally {
    await cluster.stop()
  }
})

connecting(
  'the browser entry uses the global WebSocket or the one it is given, and says when there is none',
  async () => {
    const cluster = await StandInCluster.start(1)
    const scope = globalThis as { WebSocket?: unknown }
    const before = Object.getOwnPropertyDescriptor(scope, 'WebSocket')
    try {
      Object.defineProperty(scope, 'WebSocket', {
        value: undefined,
        configurable: true,
        writable: true,
      })
      await within(
        connectInBrowser(cluster.urls).then(
          () => assert.unreachable(),
          (error: Error) => {
            assert.instance(error, TypeError)
            assert.match(error.message, 'WebSocket')
          },
        ),
      )
      scope.WebSocket = WebSocket
      for (const db of [
        await within(connectInBrowser(cluster.urls)),
        await within(connectInBrowser(cluster.urls, { WebSocket })),
      ]) {
        await db.put('k', 'v')
        assert.is(await db.get('k'), 'v')
        db.close()
      }
    } finally {
      if (before === undefined) delete scope.WebSocket
      else Object.defineProperty(scope, 'WebSocket', before)
      await cluster.stop()
    }
  },
)

connecting.run()
