// timeout: 300 s
// alone
/**
 * A cluster lives through what becomes of its machines, under load all the while: it grows from three nodes to nine, loses two
 * voters to kill -9 for good, is back at full strength by itself, and shrinks again by `leave`. What the clients saw is
 * linearizable, no acknowledged write is lost, and none was applied twice.
 */
import { readdirSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Client, connect, RaftError } from '../../client/node.ts'
import type { Status } from '../../node/service.ts'
import type { Operation } from '../sim/history.ts'
import { checkLinearizable, explain } from '../sim/linearizable.ts'
import { agreed, cleanUp, eventually, NodeProcess, raft, temporaryDirectory } from './harness.ts'

const membership = suite('a cluster that grows, loses members and shrinks')
membership.after(cleanUp)

const CLIENTS = 4
/** Registers that are used at a time; others take their place later, so that each history stays short. */
const REGISTERS = 3
const OPERATIONS_EACH = 300
const PAUSE_MS = 10
const FLAGS = ['--no-lan', '--heartbeat', '100ms', '--election', '600ms', '--replace-after', '4s']
const STAGE_MS_MAX = 60_000

// --- the load -----------------------------------------------------------------------------------------------------

class Load {
  readonly history: Operation[] = []
  /** Keys that were written once, with the revision of the acknowledged write. */
  readonly written = new Map<string, number>()
  readonly #clients: Client[] = []
  readonly #running: Promise<void>[] = []
  readonly #startNs = process.hrtime.bigint()
  #stopped = false
  #serial = 0

  static async start(urls: readonly string[]): Promise<Load> {
    const load = new Load()
    for (let number = 1; number <= CLIENTS; number++) {
      const client = await connect(urls, { timeoutMs: 20_000 })
      load.#clients.push(client)
      load.#running.push(load.#run(client, number))
    }
    return load
  }

  /** Waits until the clients have got answers to so many more writes. */
  async more(writes: number): Promise<void> {
    const wanted = this.written.size + writes
    await eventually(`${writes} more writes`, () => this.written.size >= wanted)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
    this.close()
  }

  /** At once, whatever is on its way: a test that has failed must end. */
  close(): void {
    this.#stopped = true
    for (const client of this.#clients) client.close()
  }

  get #nowUs(): number {
    return Number((process.hrtime.bigint() - this.#startNs) / 1000n)
  }

  async #run(client: Client, number: number): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const key = `once/${number}/${i}`
      await this.#once(client, key)
      await this.#register(client, number, i)
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }

  async #once(client: Client, key: string): Promise<void> {
    try {
      const { revision } = await client.put(key, `value of ${key}`)
      this.written.set(key, revision)
    } catch (error) {
      if (!(error instanceof RaftError)) throw error
    }
  }

  async #register(client: Client, number: number, i: number): Promise<void> {
    const serial = this.#serial++
    const key = `register/${Math.floor(serial / OPERATIONS_EACH)}/${serial % REGISTERS}`
    const value = `${number}.${i}`
    const op = (['put', 'get', 'get', 'cas'] as const)[serial % 4] ?? 'get'
    const before = this.history.findLast((one) => one.key === key && one.op === 'put')
    const expected = op === 'cas' ? (before?.value ?? null) : null
    const callUs = this.#nowUs
    const base = { client: number, op, key, value: op === 'get' ? null : value, expected, callUs }
    const note = (status: Operation['status'], output: string | null = null): void => {
      const returnUs = status === 'unknown' ? null : this.#nowUs
      this.history.push({ ...base, output, status, returnUs })
    }
    try {
      if (op === 'put') {
        await client.put(key, value)
        note('ok')
      } else if (op === 'get') note('ok', await client.get(key))
      else note((await client.cas(key, expected, value)).succeeded ? 'ok' : 'fail')
    } catch (error) {
      if (!(error instanceof RaftError)) throw error
      // What certainly had no effect is no operation; a read without an answer says nothing.
      if (error.maybeApplied) note('unknown')
    }
  }
}

// --- the cluster --------------------------------------------------------------------------------------------------

const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }

function startNode(): NodeProcess {
  return new NodeProcess({ topic: 'members', env, data: temporaryDirectory(), args: FLAGS })
}

const countOf = ({ members }: Status, role: 'voter' | 'learner'): number =>
  members.filter((member) => member.role === role).length

/** Asks the node until its view of the cluster is as wanted. */
async function untilSeen(
  node: NodeProcess,
  what: string,
  holds: (status: Status) => boolean,
): Promise<Status> {
  let last: Status | null = null
  return eventually(
    () => `${what}; seen: ${JSON.stringify(last?.members)} ${JSON.stringify(last?.alarms)}`,
    async () => {
      const status = await node.status()
      last = status
      return holds(status) ? status : false
    },
    STAGE_MS_MAX,
  )
}

async function nodeIdOf(node: NodeProcess): Promise<string> {
  return (await node.status()).nodeId
}

async function leave(node: NodeProcess): Promise<void> {
  const data = node.options.data ?? ''
  const left = await raft(['leave', '--data', data, '--timeout', '30s'], {
    env,
    deadlineMs: STAGE_MS_MAX,
  })
  assert.is(left.code, 0, `${left.stderr}\n${node.running.tail()}`)
  assert.equal(await node.running.ended(), { code: 0, signal: null })
  assert.ok(readdirSync(data).includes('archive-1'), 'its data is archived')
}

membership('from three to nine, minus two for good, and back to three, under load', async () => {
  const nodes = [startNode(), startNode(), startNode()]
  await agreed(nodes)
  const urls = await Promise.all(
    nodes.map(async (node) => (await node.url()).replace('http', 'ws')),
  )
  const load = await Load.start(urls)
  membership.after(() => load.close())
  await load.more(50)

  for (let i = 0; i < 6; i++) nodes.push(startNode())
  const [first] = nodes as [NodeProcess]
  const isNine = (status: Status): boolean =>
    countOf(status, 'voter') === 5 && countOf(status, 'learner') === 4
  const grown = await untilSeen(first, 'five voters and four stand-bys', isNine)
  await Promise.all(nodes.map((node) => node.ready(STAGE_MS_MAX)))
  await load.more(50)

  // The leader, when it is not the node that this test asks, and another voter.
  const voters = grown.members.filter(
    ({ role, nodeId }) => role === 'voter' && nodeId !== grown.nodeId,
  )
  const victims = [...voters].sort((a, b) => Number(b.isLeader) - Number(a.isLeader)).slice(0, 2)
  const byId = new Map<string, NodeProcess>()
  for (const node of nodes) byId.set(await nodeIdOf(node), node)
  for (const { nodeId } of victims) await byId.get(nodeId)?.kill()
  const isGone = (nodeId: string): boolean => victims.some((victim) => victim.nodeId === nodeId)
  const healed = await untilSeen(first, 'five other voters, all alive', (status) => {
    const present = status.members.filter(({ role }) => role === 'voter')
    const isWell = present.every(({ nodeId, link }) => !isGone(nodeId) && link !== 'down')
    return present.length === 5 && isWell && status.quorum.alive === 5
  })
  assert.is(healed.members.length, 9, 'nothing is removed on time alone')
  await load.more(50)

  const living = nodes.filter((node) => node.running.exit === null)
  assert.is(living.length, 7)
  const leaving = living.filter((node) => node !== first).slice(-4)
  for (const node of leaving) {
    const nodeId = await nodeIdOf(node)
    await leave(node)
    await untilSeen(first, `${nodeId} is gone`, ({ members }) =>
      members.every((member) => member.nodeId !== nodeId),
    )
    await load.more(20)
  }
  for (const { memberId } of victims) {
    const removed = await raft(
      ['members', 'remove', String(memberId), '--data', first.options.data ?? ''],
      { env },
    )
    assert.is(removed.code, 0, removed.stderr)
  }
  // What the leader raised while there were four it takes back with its next word.
  await untilSeen(first, 'three voters, nobody else and no alarm', (status) => {
    const areThree = countOf(status, 'voter') === 3 && status.members.length === 3
    return areThree && status.alarms.length === 0
  })

  // The same command on the directory of one that left: a new member.
  const [again] = leaving as [NodeProcess]
  again.restart()
  const back = await untilSeen(first, 'a newcomer', ({ members }) => members.length === 4)
  assert.is(countOf(back, 'learner'), 1, 'a fourth node is a stand-by')
  await again.ready(STAGE_MS_MAX)
  await load.more(50)
  await load.stop()
  await check(load, urls)
})

async function check(load: Load, urls: readonly string[]): Promise<void> {
  const verdict = checkLinearizable(load.history)
  assert.is(verdict.ok, true, verdict.ok === false ? explain(verdict) : JSON.stringify(verdict))
  const reader = await connect(urls)
  for (const [key, revision] of load.written) {
    const item = await reader.getItem(key)
    // Lost would be null; applied twice would be a later revision than the one that was acknowledged.
    assert.is(item?.revision, revision, key)
  }
  reader.close()
  const unknown = load.history.filter(({ status }) => status === 'unknown').length
  console.log(
    `${load.history.length} operations on registers (${unknown} of unknown outcome) are linearizable; ` +
      `${load.written.size} writes are there, each once`,
  )
}

membership.run()
