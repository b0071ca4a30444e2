/** Members come, change their part and go, in a whole simulated cluster: the production node, its founding, its log and its links. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKvOperation } from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { SimulatedCluster, SimulatedRequestError } from '../../node/testing/testing.ts'

const members = suite('members come and go')

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

/** `voters|learners` as the node sees them. */
function shape(cluster: SimulatedCluster, node: number): string {
  const all = cluster.status(node)?.members ?? []
  const ids = (role: string) =>
    all
      .filter((one) => one.role === role)
      .map((one) => one.memberId)
      .join(' ')
  return `${ids('voter')}|${ids('learner')}`
}

/** Starts a node and has it admitted by hand. */
function admit(cluster: SimulatedCluster, through = 0): number {
  const node = cluster.join()
  const id = `n${node + 1}`
  cluster.until(() => {
    try {
      if (cluster.status(node)?.memberId === null) {
        cluster.changeMembers(through, { verb: 'add', id })
      }
    } catch (error) {
      if (!(error instanceof SimulatedRequestError)) throw error
    }
    return cluster.status(node)?.memberId !== null && cluster.status(node)?.members.length !== 0
  })
  cluster.untilReady()
  return node
}

members('a late node is admitted, catches up, becomes a voter, and its vote is needed', () => {
  const cluster = made(1)
  for (let i = 0; i < 20; i++) put(cluster, i % 3, `k${i}`)
  const late = admit(cluster)
  assert.is(shape(cluster, 0), '1 2 3|4')
  const report = cluster.changeMembers(1, { verb: 'promote', id: 'n4' })
  assert.equal(report.voters, [1, 2, 3, 4])
  assert.equal(report.changes, ['member 4 (n4) becomes a voter'])
  cluster.untilReady()
  cluster.run(2000)
  assert.equal(cluster.stateHash(late)?.hash, cluster.stateHash(0)?.hash)
  for (const node of [1, 2]) cluster.kill(node)
  assert.throws(() => cluster.query(0, new Uint8Array(0), 'linearizable', 5000))
})

members('a voter is replaced in one step, and the one that has gone is told and stops', () => {
  const cluster = made(2)
  put(cluster, 0, 'a')
  admit(cluster)
  const { leader } = cluster
  const gone = [0, 1, 2].find((node) => node !== leader) as number
  const report = cluster.changeMembers(leader as number, {
    verb: 'replace',
    id: `n${gone + 1}`,
    with: 'n4',
  })
  assert.is(report.voters.length, 3)
  assert.ok(report.voters.includes(4))
  cluster.until(() => cluster.status(gone) === null)
  put(cluster, 3, 'b')
})

members('the leader removes itself: it hands over, and the others go on at once', () => {
  const cluster = made(3)
  put(cluster, 0, 'a')
  const leader = cluster.leader as number
  const other = (leader + 1) % 3
  cluster.changeMembers(other, { verb: 'remove', id: `n${leader + 1}` })
  cluster.until(() => cluster.status(leader) === null)
  cluster.until(() => cluster.leader !== null)
  put(cluster, other, 'b')
  assert.is(shape(cluster, other).split('|')[0]?.split(' ').length, 2)
})

members('a removed node that was away is told when it comes back', () => {
  const cluster = made(4)
  const away = [0, 1, 2].find((node) => node !== cluster.leader) as number
  cluster.kill(away)
  cluster.changeMembers(cluster.leader as number, { verb: 'remove', id: `n${away + 1}` })
  cluster.start(away)
  cluster.until(() => cluster.status(away) === null)
  const others = [0, 1, 2].filter((node) => node !== away)
  put(cluster, others[0] as number, 'b')
})

members(
  'what would cost the quorum is refused, and so is a configuration that is not the one named',
  () => {
    const cluster = made(5)
    admit(cluster)
    cluster.kill(3)
    const refusals = [
      { verb: 'promote', id: 'n4', ifConfig: 1 },
      { verb: 'promote', id: 'n9' },
      { verb: 'demote', id: 'n4' },
    ] as const
    const codes = refusals.map((request) => {
      try {
        cluster.changeMembers(0, request)
        return 'done'
      } catch (error) {
        return (error as SimulatedRequestError).code
      }
    })
    assert.equal(codes, ['compare-failed', 'not-found', 'bad-request'])
    for (const node of [0, 1, 2]) if (node !== cluster.leader) cluster.isolate(node)
    assert.throws(() =>
      cluster.changeMembers(cluster.leader as number, { verb: 'promote', id: 'n4' }),
    )
  },
)

members('a dry run tells what would be, and changes nothing', () => {
  const cluster = made(6)
  admit(cluster)
  const report = cluster.changeMembers(0, { verb: 'promote', id: 'n4', dryRun: true })
  assert.ok(report.dryRun)
  assert.equal(report.voters, [1, 2, 3, 4])
  assert.is(shape(cluster, 0), '1 2 3|4')
  const back = cluster.changeMembers(0, { verb: 'demote', id: 'n2', dryRun: true })
  assert.match(back.changes.join(), /^member \d \(n2\) becomes a stand-by$/)
})

members(
  'a node that waits for admission survives its own restarts, and a lost log is noticed',
  () => {
    const cluster = made(7)
    const late = cluster.join()
    cluster.until(() => cluster.status(late)?.clusterId !== null)
    cluster.run(3000)
    cluster.powerCut(late)
    cluster.start(late)
    cluster.until(() => cluster.status(late)?.clusterId !== null)
    cluster.run(1000)
    cluster.changeMembers(1, { verb: 'add', id: 'n4' })
    cluster.untilReady()
    assert.is(cluster.status(late)?.memberId, 4)
    cluster.kill(late)
    cluster.start(late)
    cluster.untilReady()
    assert.is(cluster.status(late)?.memberId, 4)
  },
)

members('a removed node is not let in again as it is, even before it knows', () => {
  const cluster = made(8)
  const late = admit(cluster)
  cluster.pause(late)
  cluster.changeMembers(0, { verb: 'remove', id: 'n4' })
  let code = 'done'
  try {
    cluster.changeMembers(0, { verb: 'add', id: 'n4' })
  } catch (error) {
    code = (error as SimulatedRequestError).code
  }
  assert.is(code, 'not-found')
})

members('every member shows the alarms of whoever leads', () => {
  const autopilot = { maxVoters: 3, replaceAfterMs: 60_000, admit: 'approve' } as const
  const cluster = new SimulatedCluster({ machine: () => new KvMachine(), seed: 5, autopilot })
  cluster.untilReady()
  const alarmsAt = (node: number): string[] =>
    (cluster.status(node)?.alarms ?? []).map(({ kind }) => kind)
  const first = cluster.leader as number
  const gone = (first + 1) % 3
  const others = [0, 1, 2].filter((node) => node !== gone)
  cluster.changeMembers(first, { verb: 'remove', id: `n${gone + 1}` })
  cluster.until(() => others.every((node) => alarmsAt(node).join() === 'even-voters'))
  const [{ since } = { since: '' }] = cluster.status(others[0] as number)?.alarms ?? []
  assert.match(since, /^2026-/)

  // Two voters, and a leader that is another one: what was its own alarm is now one that it hears of.
  cluster.kill(first)
  cluster.start(first)
  cluster.untilReady()
  cluster.until(() => others.every((node) => alarmsAt(node).join() === 'even-voters'))
  const late = admit(cluster, first)
  cluster.until(() => [...others, late].every((node) => alarmsAt(node).length === 0))
})

members.run()
