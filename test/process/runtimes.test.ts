// timeout: 150 s
/** One member each on Node, Bun and Deno: one cluster, and whichever leads can be killed. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  leaderOf,
  NodeProcess,
  putUntilAcknowledged,
  type RuntimeName,
  raft,
  temporaryDirectory,
} from './harness.ts'

const RUNTIMES: readonly RuntimeName[] = ['node', 'bun', 'deno']

const mixed = suite('mixed runtimes')
mixed.after(cleanUp)

let nodes: NodeProcess[] = []

function runtimeName(status: { readonly runtime: string }): string {
  return status.runtime.split(/[ /]/)[0]?.toLowerCase() ?? ''
}

/** Who is elected is drawn by lot, and the quickest draws the longer straw: leadership is handed over. */
async function lead(wanted: NodeProcess): Promise<void> {
  const { runtime = '' } = wanted.options
  await eventually(`${runtime} leads`, async () => {
    const leader = await leaderOf(nodes)
    if (leader === wanted) return true
    await raft(['leader', 'transfer', runtime, '--data', String(leader.options.data)])
    return false
  })
}

mixed('Node, Bun and Deno are one cluster', async () => {
  const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
  nodes = RUNTIMES.map(
    (runtime) =>
      new NodeProcess({ runtime, data: temporaryDirectory(), env, args: ['--name', runtime] }),
  )
  const all = await agreed(nodes)
  assert.equal(all.map(runtimeName), [...RUNTIMES])
  for (const node of nodes) {
    await putUntilAcknowledged(await node.url(), `from ${node.options.runtime}`, 'here')
  }
})

mixed(
  'each runtime leads once, is killed while it leads, and comes back with its data',
  async () => {
    for (const [place, leader] of nodes.entries()) {
      const kill = place + 1
      await lead(leader)
      const others = nodes.filter((node) => node !== leader)
      const before = await leader.status()
      await leader.kill()
      const url = (await others[kill % others.length]?.url()) ?? ''
      await putUntilAcknowledged(url, `after kill ${kill}`, String(kill))
      await eventually('another leader', async () => {
        const status = await others[0]?.status()
        return (
          status !== undefined && status.leaderId !== null && status.leaderId !== before.memberId
        )
      })
      leader.restart()
      const own = await leader.ready()
      assert.is((await leader.status()).nodeId, before.nodeId)
      assert.is(await get(own, `after kill ${kill}`), String(kill))
      for (const runtime of RUNTIMES) assert.is(await get(own, `from ${runtime}`), 'here')
    }
  },
)

mixed('each ends politely', async () => {
  for (const node of nodes) assert.equal(await node.stop(), { code: 0, signal: null })
})

mixed.run()
