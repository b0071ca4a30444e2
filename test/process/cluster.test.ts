// timeout: 120 s
/** Three `join demo` with nothing but a common data root are one cluster, and stay it through kill -9. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  http,
  leaderOf,
  NodeProcess,
  put,
  putUntilAcknowledged,
  startCluster,
  statusOf,
  temporaryDirectory,
} from './harness.ts'

const cluster = suite('cluster of processes')
cluster.after(cleanUp)

let nodes: NodeProcess[] = []

cluster('three processes found one cluster', async () => {
  nodes = startCluster(3)
  const all = await agreed(nodes)
  assert.match(all[0]?.clusterId ?? '', /^[0-9a-f]{32}$/)
  assert.equal(all.map((status) => status.memberId).sort(), [1, 2, 3])
  assert.is(new Set(all.map((status) => status.nodeId)).size, 3)
  for (const status of all) {
    assert.is(status.runtime.split(/[ /]/)[0]?.toLowerCase(), 'node')
    assert.equal(
      status.members.map((member) => member.role),
      ['voter', 'voter', 'voter'],
    )
    assert.equal(status.founding, null)
    assert.not.match(status.topic, /^demo$/, 'the topic is masked')
  }
})

cluster('a write at any node is read at all of them', async () => {
  for (const writer of nodes) {
    const written = await put(await writer.url(), `by ${writer.pid}/ü`, 'pepperoni cheddar')
    assert.is(written.status, 200, written.text)
    const { revision } = JSON.parse(written.text) as { revision: number }
    assert.is(written.headers.get('etag'), `"${revision}"`)
    for (const reader of nodes) {
      assert.is(await get(await reader.url(), `by ${writer.pid}/ü`), 'pepperoni cheddar')
    }
  }
  assert.is(await get((await nodes[0]?.url()) ?? '', 'never written'), null)
})

cluster('a follower forwards a compare-and-set, and its failure is 412', async () => {
  const leader = await leaderOf(nodes)
  const follower = nodes.find((node) => node !== leader)
  assert.ok(follower)
  const url = await follower.url()
  const absent = { method: 'PUT', body: 'first', headers: { 'If-None-Match': '*' } }
  assert.is((await http(url, '/v1/kv/once', absent)).status, 200)
  const refused = await http(url, '/v1/kv/once', { ...absent, body: 'second' })
  assert.is(refused.status, 412)
  assert.is((JSON.parse(refused.text) as { code: string }).code, 'compare-failed')
  assert.is(await get(url, 'once'), 'first')
})

for (const turn of [0, 1, 2]) {
  cluster(`kill -9 of node ${turn + 1}: the others go on, it comes back as itself`, async () => {
    const victim = nodes[turn]
    assert.ok(victim)
    const before = await victim.status()
    const others = nodes.filter((node) => node !== victim)
    await victim.kill()
    const key = `while ${turn} was away`
    await putUntilAcknowledged((await others[0]?.url()) ?? '', key, 'still here')
    victim.restart()
    const url = await victim.ready()
    const after = await statusOf(url)
    assert.is(after.nodeId, before.nodeId)
    assert.is(after.memberId, before.memberId)
    assert.is(after.clusterId, before.clusterId)
    assert.is(await get(url, key), 'still here')
    await agreed(nodes)
  })
}

cluster('all applied the same: equal indexes have equal hashes', async () => {
  await eventually('one applied index and one hash', async () => {
    const all = await Promise.all(nodes.map((node) => node.status()))
    if (new Set(all.map((status) => status.appliedIndex)).size > 1) return false
    const shared = all.flatMap((status) => status.stateHashes)
    for (const a of shared) {
      for (const b of shared) if (a.index === b.index) assert.is(a.hash, b.hash)
    }
    return true
  })
})

cluster('a fourth node of another topic stays out of it', async () => {
  const stranger = new NodeProcess({
    topic: 'another word',
    data: temporaryDirectory(),
    args: nodes.length > 0 ? ['--peer', (await nodes[0]?.url())?.replace('http', 'ws') ?? ''] : [],
  })
  await stranger.running.waitForEvent('cluster.waiting')
  const status = await stranger.status()
  assert.is(status.clusterId, null)
  assert.is(status.role, 'blank')
  assert.is((await nodes[0]?.status())?.members.length, 3)
  await stranger.kill()
})

cluster('SIGTERM ends each of them with exit code 0', async () => {
  for (const exit of await Promise.all(nodes.map((node) => node.stop()))) {
    assert.equal(exit, { code: 0, signal: null })
  }
})

cluster('all three started again find each other and the data', async () => {
  for (const node of nodes) node.restart()
  await agreed(nodes)
  for (const node of nodes) assert.is(await get(await node.url(), 'once'), 'first')
})

cluster.run()
