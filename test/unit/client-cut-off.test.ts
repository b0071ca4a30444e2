/** The client library at a node that is cut off from the others but talks to clients: it must find one that can serve. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Client, connect } from '../../client/node.ts'
import { StandInCluster, until, within } from '../support/stand-in-cluster.ts'

interface Lab {
  readonly cluster: StandInCluster
  readonly db: Client
}

/** Connects to node 1, which then refuses every write as one does that hears of no leader. */
async function atNodeCutOff(nodes: number, body: (lab: Lab) => Promise<void>): Promise<void> {
  const cluster = await StandInCluster.start(nodes)
  let db: Client | null = null
  try {
    db = await within(connect(cluster.node(1).url))
    await db.put('k', 'v')
    cluster.node(1).judge = (request) => (request.type === 'command' ? 'no-leader' : 'serve')
    await within(body({ cluster, db }), 20_000)
  } finally {
    db?.close()
    await cluster.stop()
  }
}

/** While a write waits, something is asked all the time that node 1 can answer by itself; the write must find node 2. */
async function leavesDespite(lab: Lab, ask: (lab: Lab) => Promise<unknown>): Promise<void> {
  let done = false
  const write = lab.db.put('k', 'w', { timeoutMs: 8_000 }).finally(() => {
    done = true
  })
  const asking = async (): Promise<void> => {
    while (!done) await ask(lab)
  }
  await Promise.all([write, asking()])
  assert.is(lab.cluster.node(2).open, 1)
  assert.is(lab.cluster.runs, 2)
}

const cutOff = suite('client at a node that is cut off')

for (const dead of [2, 3]) {
  cutOff(`node ${dead} is dead: the client does not ask it again and again, but goes on`, () =>
    atNodeCutOff(4, async ({ cluster, db }) => {
      await cluster.node(dead).stop()
      await db.put('k', 'w', { timeoutMs: 8_000 })
      await until(() => cluster.node(1).open === 0, 'the client to leave node 1')
      assert.is(cluster.runs, 2)
    }),
  )
}

cutOff('two nodes are dead, or refuse as well: the last one is found', () =>
  atNodeCutOff(4, async ({ cluster, db }) => {
    // Nobody knows the address of the leader, who would be gone to otherwise.
    cluster.lead(9)
    await cluster.node(2).stop()
    cluster.node(3).judge = () => 'no-leader'
    await db.put('k', 'w', { timeoutMs: 8_000 })
    await until(() => cluster.node(1).open === 0, 'the client to leave node 1')
    assert.is(cluster.node(4).open, 1)
    assert.is(cluster.runs, 2)
  }),
)

cutOff('stale reads, which any node can answer, do not keep a write there', () =>
  atNodeCutOff(2, (lab) => leavesDespite(lab, ({ db }) => db.get('k', { consistency: 'stale' }))),
)

cutOff('questions for its status do not either', () =>
  atNodeCutOff(2, (lab) => leavesDespite(lab, ({ db }) => db.status())),
)

cutOff.run()
