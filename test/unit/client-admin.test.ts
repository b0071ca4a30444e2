/** Privileged verbs through the client library: never sent twice where the first may have done it, and never to another node than the one meant. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Client, connect, leaveCluster, removeMember } from '../../client/node.ts'
import { failure, plain, StandInCluster, until, within } from '../support/stand-in-cluster.ts'

const admin = suite('admin verbs')

async function using(
  nodes: number,
  body: (fixture: { readonly cluster: StandInCluster; readonly db: Client }) => Promise<void>,
): Promise<void> {
  const cluster = await StandInCluster.start(nodes)
  let db: Client | null = null
  try {
    db = await within(connect(cluster.node(1).url, { timeoutMs: 3_000 }))
    await within(body({ cluster, db }), 20_000)
  } finally {
    db?.close()
    await cluster.stop()
  }
}

function askedOf(cluster: StandInCluster, memberId: number): number {
  return cluster.node(memberId).requests.filter((one) => one.type === 'admin').length
}

for (const code of ['no-leader', 'closing', 'overloaded'] as const) {
  admin(`${code}: a node that cannot leave is not left in peace by making another one leave`, () =>
    using(2, async ({ cluster, db }) => {
      cluster.node(1).judge = (request) => (request.type === 'admin' ? code : 'serve')
      const refused = failure(leaveCluster(db))
      if (code === 'overloaded') {
        await until(() => askedOf(cluster, 1) > 1, 'a second try at the same node')
        cluster.node(1).cut()
        await cluster.node(1).stop()
      }
      assert.is((await refused).maybeApplied, false)
      assert.is(askedOf(cluster, 2), 0)
    }),
  )
}

admin('a change of the members may be asked for through any node', () =>
  using(2, async ({ cluster, db }) => {
    cluster.node(1).judge = (request) => (request.type === 'admin' ? 'no-leader' : 'serve')
    await removeMember(db, 3)
    assert.is(askedOf(cluster, 2), 1)
  }),
)

admin('a verb that may have been done is not asked for again', () =>
  using(2, async ({ cluster, db }) => {
    cluster.node(1).judge = (request) => (request.type === 'admin' ? 'timeout' : 'serve')
    assert.equal(plain(await failure(removeMember(db, 3))), {
      code: 'timeout',
      retriable: true,
      maybeApplied: true,
    })
    assert.equal([askedOf(cluster, 1), askedOf(cluster, 2)], [1, 0])
  }),
)

admin.run()
