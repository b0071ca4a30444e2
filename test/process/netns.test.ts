// timeout: 150 s
/** Three hosts of their own on one bridge, with nothing but the topic: they meet, part, meet again, and remember. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../node/service.ts'
import {
  cleanUp,
  DEADLINE_MS,
  eventually,
  NodeProcess,
  Running,
  temporaryDirectory,
} from './harness.ts'
import { createLab, type Lab, namespacesAllowed } from './netns.ts'

const HOSTS = 3
const PORT = 7700

/** One request to the node of a host, from that host itself: loopback needs no token. */
async function curl(host: Host, method: string, path: string, body = ''): Promise<HostAnswer> {
  const script = `
    const [method, path, body] = process.argv.slice(1)
    const init = method === 'GET' ? {} : { method, body }
    fetch('http://127.0.0.1:${PORT}' + path, { ...init, signal: AbortSignal.timeout(8000) })
      .then(async (answer) => ({ status: answer.status, text: await answer.text() }))
      .catch((error) => ({ status: 0, text: String(error) }))
      .then((answer) => console.log(JSON.stringify(answer)))`
  const command = [...host.prefix, process.execPath, '-e', script, method, path, body]
  const running = new Running({ command })
  await running.ended()
  return JSON.parse(running.stdout) as HostAnswer
}

interface HostAnswer {
  readonly status: number
  readonly text: string
}

interface Host {
  readonly prefix: readonly string[]
  readonly data: string
  node: NodeProcess
}

let lab: Lab | null = null
let hosts: Host[] = []

function start(prefix: readonly string[], data: string, args: readonly string[]): NodeProcess {
  // A data root for each host: the same-machine discovery must not find what only a network could.
  const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
  return new NodeProcess({ prefix, data, env, args, listen: `0.0.0.0:${PORT}` })
}

async function agreedHosts(some: readonly Host[]): Promise<Status[]> {
  const tails = () => some.map((host) => host.node.running.tail()).join('\n')
  return eventually(
    () => `${some.length} hosts agree on one leader\n${tails()}`,
    async () => {
      const answers = await Promise.all(some.map((host) => curl(host, 'GET', '/v1/status')))
      if (answers.some((answer) => answer.status !== 200)) return false
      const all = answers.map((answer) => JSON.parse(answer.text) as Status)
      const [first] = all
      if (first === undefined || first.leaderId === null) return false
      const same = all.every(
        (status) => status.clusterId === first.clusterId && status.leaderId === first.leaderId,
      )
      return same ? all : false
    },
    2 * DEADLINE_MS,
  )
}

async function write(host: Host, key: string): Promise<void> {
  let last = ''
  await eventually(
    () => `PUT ${key}; last answer ${last}`,
    async () => {
      const answer = await curl(host, 'PUT', `/v1/kv/${key}`, `value of ${key}`)
      last = `${answer.status} ${answer.text}`
      return answer.status === 200
    },
  )
}

async function assertReads(host: Host, key: string): Promise<void> {
  const answer = await curl(host, 'GET', `/v1/kv/${key}`)
  assert.equal(answer, { status: 200, text: `value of ${key}` })
}

const network = suite('three hosts')
network.after(async () => {
  await cleanUp()
  await lab?.close()
})

if (!namespacesAllowed()) {
  console.log('SKIP network namespaces: not permitted here')
  network.skip('nothing but the topic')
} else {
  network('nothing but the topic: they become one cluster', async () => {
    lab = await createLab(HOSTS)
    const startMs = Date.now()
    hosts = lab.hosts.map((host) => {
      const data = temporaryDirectory()
      return { prefix: host.prefix, data, node: start(host.prefix, data, []) }
    })
    const all = await agreedHosts(hosts)
    console.log(`one cluster after ${((Date.now() - startMs) / 1000).toFixed(1)} s`)
    assert.is(new Set(all.map((status) => status.clusterId)).size, 1)
    assert.equal(
      all.map((status) => status.members.length),
      [3, 3, 3],
    )
    const [first, ...others] = hosts
    assert.ok(first)
    await write(first, 'together')
    for (const host of others) await assertReads(host, 'together')
  })

  network('a host that is cut off refuses to read, and is back after the cut heals', async () => {
    const all = await agreedHosts(hosts)
    const cut = all.findIndex((status) => status.role === 'leader')
    const lonely = hosts[cut]
    assert.ok(lonely && lab)
    const clusterId = all[0]?.clusterId
    await lab.cut(cut)
    const others = hosts.filter((host) => host !== lonely)
    await agreedHosts(others)
    const [survivor] = others
    assert.ok(survivor)
    await write(survivor, 'without-it')
    const refused = await curl(lonely, 'GET', '/v1/kv/together')
    assert.is.not(refused.status, 200, 'a node without a quorum serves no linearizable read')
    const stale = await curl(lonely, 'GET', '/v1/kv/together?consistency=stale')
    assert.equal(stale, { status: 200, text: 'value of together' })
    await lab.heal(cut)
    const after = await agreedHosts(hosts)
    assert.is(after[0]?.clusterId, clusterId)
    await assertReads(lonely, 'without-it')
  })

  network('restarted without any discovery, they find each other from memory', async () => {
    const before = await agreedHosts(hosts)
    await Promise.all(hosts.map((host) => host.node.kill()))
    for (const host of hosts) {
      host.node = start(host.prefix, host.data, ['--dht', 'off', '--no-lan', '--no-local'])
    }
    const after = await agreedHosts(hosts)
    assert.is(after[0]?.clusterId, before[0]?.clusterId)
    assert.equal(
      after.map((status) => status.nodeId),
      before.map((status) => status.nodeId),
    )
    for (const host of hosts) await assertReads(host, 'without-it')
    for (const host of hosts) assert.is((await host.node.stop()).code, 0)
  })
}

network.run()
