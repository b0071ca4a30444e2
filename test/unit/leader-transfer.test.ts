/** Leadership is handed over on request, in a whole simulated cluster: through any node, to anybody who may lead, or not at all. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKvOperation } from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { SimulatedCluster, SimulatedRequestError } from '../../node/testing/testing.ts'

const transfer = suite('leader.transfer')

function made(seed: number, nodes = 3): SimulatedCluster {
  const cluster = new SimulatedCluster({ machine: () => new KvMachine(), seed, nodes })
  cluster.untilReady()
  return cluster
}

function put(cluster: SimulatedCluster, node: number, key: string): void {
  const bytes = new TextEncoder().encode(key)
  const operation = { type: 'put', key: bytes, value: bytes, condition: { type: 'none' } } as const
  cluster.apply(node, encodeKvOperation(operation))
}

function refusal(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (error instanceof SimulatedRequestError) return error.code
    throw error
  }
  return 'none'
}

transfer('to a named voter, asked for through any node; writes go on', () => {
  const cluster = made(1)
  for (const asked of [0, 1, 2]) {
    const before = cluster.leader as number
    const to = (before + 1) % 3
    const report = cluster.changeMembers(asked, { verb: 'transfer', id: `n${to + 1}` })
    assert.match(
      report.changes[0] ?? '',
      new RegExp(`leadership goes to member \\d \\(n${to + 1}\\)`),
    )
    cluster.until(() => cluster.leader === to)
    put(cluster, asked, `k${asked}`)
  }
})

transfer('without a name it goes to another voter', () => {
  const cluster = made(2)
  const before = cluster.leader as number
  cluster.changeMembers((before + 1) % 3, { verb: 'transfer' })
  cluster.until(() => cluster.leader !== null && cluster.leader !== before)
})

transfer('to the one that leads already nothing happens; a dry run does nothing either', () => {
  const cluster = made(3)
  const before = cluster.leader as number
  const term = cluster.status(before)?.term
  const self = cluster.changeMembers(before, { verb: 'transfer', id: `n${before + 1}` })
  assert.equal(self.changes, [])
  const id = `n${((before + 1) % 3) + 1}`
  assert.is(cluster.changeMembers(before, { verb: 'transfer', id, dryRun: true }).changes.length, 1)
  cluster.run(3000)
  assert.equal([cluster.leader, cluster.status(before)?.term], [before, term])
})

transfer('nobody, a stranger and a learner cannot lead', () => {
  const alone = made(4, 1)
  assert.is(
    refusal(() => alone.changeMembers(0, { verb: 'transfer' })),
    'bad-request',
  )
  const cluster = made(5)
  const { leader } = cluster
  const late = cluster.join()
  const ask = (id: string) => refusal(() => cluster.changeMembers(0, { verb: 'transfer', id }))
  assert.is(ask('n9'), 'not-found')
  cluster.until(() => refusal(() => cluster.changeMembers(0, { verb: 'add', id: 'n4' })) === 'none')
  cluster.until(() => cluster.status(late)?.role === 'learner')
  assert.is(ask('n4'), 'bad-request')
  assert.is(cluster.leader, leader)
})

transfer(
  'to a voter that is dead it is given up after an election timeout, and writes go on',
  () => {
    const cluster = made(6)
    const before = cluster.leader as number
    const dead = (before + 1) % 3
    cluster.kill(dead)
    cluster.changeMembers(before, { verb: 'transfer', id: `n${dead + 1}` })
    put(cluster, before, 'a')
    assert.is(cluster.leader, before)
  },
)

transfer.run()
