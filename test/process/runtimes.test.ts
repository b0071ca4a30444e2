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
  temporaryDirectory,
} from './harness.ts'

const RUNTIMES: readonly RuntimeName[] = ['node', 'bun', 'deno']
/** A leader is killed until each runtime has led once, or this often. */
const KILLS_MAX = 12

const mixed = suite('mixed runtimes')
mixed.after(cleanUp)

let nodes: NodeProcess[] = []

function runtimeName(status: { readonly runtime: string }): string {
  return status.runtime.split(/[ /]/)[0]?.toLowerCase() ?? ''
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
    const led = new Set<string>()
    for (let kill = 1; kill <= KILLS_MAX && led.size < RUNTIMES.length; kill++) {
      const leader = await leaderOf(nodes)
      led.add(leader.options.runtime ?? '')
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
    // Who is elected is drawn by lot; that only one or two ever lead in so many elections is next to impossible.
    assert.equal([...led].sort(), [...RUNTIMES].sort())
  },
)

mixed('each ends politely', async () => {
  for (const node of nodes) assert.equal(await node.stop(), { code: 0, signal: null })
})

mixed.run()
