/**
 * Run by .ci/run while `docker compose up --scale node=N` is up: the containers are one cluster, a write at one is read
 * at the others, and after `down` and `up` the identities and the data are what they were. The environment names the
 * project (COMPOSE_PROJECT_NAME) and the number of containers (N).
 */

import { strict as assert } from 'node:assert'
import { execFileSync } from 'node:child_process'
import type { Status } from '../../node/service.ts'

const PROJECT = process.env.COMPOSE_PROJECT_NAME ?? 'chk'
const COUNT = Number(process.env.N ?? 3)
const DEADLINE_MS = 60_000
const NODE = 'ws://127.0.0.1:7700'

const containers = Array.from({ length: COUNT }, (_, i) => `${PROJECT}-node-${i + 1}`)

function docker(...args: string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', timeout: 150_000 })
}

function statusIn(container: string): Status {
  return JSON.parse(
    docker('exec', container, 'raft-p2p', 'status', '--json', '--connect', NODE),
  ) as Status
}

/** All know one cluster and one leader. The leader may change while we ask, so it is asked again until the deadline. */
async function agreed(): Promise<Status[]> {
  const endMs = Date.now() + DEADLINE_MS
  for (;;) {
    const all = containers.map(statusIn)
    const clusters = new Set(all.map((status) => status.clusterId))
    const leaders = new Set(all.map((status) => status.leaderId))
    assert.equal(clusters.size, 1, `more than one cluster: ${[...clusters].join(', ')}`)
    if (leaders.size === 1 && !leaders.has(null)) return all
    assert.ok(Date.now() < endMs, `no common leader: ${[...leaders].join(', ')}`)
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
}

function identities(all: readonly Status[]): string[] {
  return all.map((status) => `${status.memberId} ${status.nodeId}`).sort()
}

const before = await agreed()
assert.equal(
  new Set(before.map((status) => status.nodeId)).size,
  COUNT,
  'each has its own identity',
)
const [first = '', ...others] = containers
docker('exec', first, 'raft-p2p', 'put', 'pizzatoppings', 'pepperoni', 'cheddar', '--connect', NODE)
for (const container of others) {
  const value = docker('exec', container, 'raft-p2p', 'get', 'pizzatoppings', '--connect', NODE)
  assert.equal(value, 'pepperoni cheddar')
}
console.log(`${COUNT} containers: cluster ${before[0]?.clusterId}, leader ${before[0]?.leaderId}`)

docker('compose', 'down', '-t', '10')
docker(
  ...['compose', 'up', '-d', '--no-build', '--wait', '--wait-timeout', '90'],
  ...['--scale', `node=${COUNT}`],
)
const after = await agreed()
assert.equal(after[0]?.clusterId, before[0]?.clusterId, 'the same cluster after down and up')
assert.deepEqual(identities(after), identities(before), 'the same identities after down and up')
const value = docker('exec', first, 'raft-p2p', 'get', 'pizzatoppings', '--connect', NODE)
assert.equal(value, 'pepperoni cheddar', 'the data is still there')
console.log('identities and data survived down and up')
