// timeout: 240 s
/** All nodes killed with -9 at once under load, again and again: every acknowledged write is still there. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  list,
  type NodeProcess,
  put,
  QUICK_ELECTIONS,
  startCluster,
} from './harness.ts'

/** An argument when the file is run by hand for longer. */
const ROUNDS = Number(process.argv[2] ?? 20)
const CLIENTS = 8
/** Kill only after this many acknowledgements, so that each round has something to lose. */
const ACKNOWLEDGED_MIN = 40

const crashes = suite('crash rounds')
crashes.after(cleanUp)

/** Writes until told to stop; the keys that were acknowledged are added to `acknowledged`. */
async function load(
  nodes: readonly NodeProcess[],
  prefix: string,
  acknowledged: Map<string, string>,
  state: { stopped: boolean },
): Promise<void> {
  const urls = await Promise.all(nodes.map((node) => node.url()))
  const client = async (number: number): Promise<void> => {
    for (let i = 0; !state.stopped; i++) {
      const key = `${prefix}/${number}/${i}`
      const url = urls[(number + i) % urls.length] ?? ''
      const answer = await put(url, key, `value of ${key}`)
      if (answer.status === 200) acknowledged.set(key, `value of ${key}`)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number)))
}

crashes(`${ROUNDS} rounds`, async () => {
  const nodes = startCluster(3, { args: QUICK_ELECTIONS })
  const acknowledged = new Map<string, string>()
  const identities = (await agreed(nodes)).map((status) => status.nodeId).sort()
  for (let round = 1; round <= ROUNDS; round++) {
    const state = { stopped: false }
    const before = acknowledged.size
    const writing = load(nodes, `round ${round}`, acknowledged, state)
    const deadlineMs = Date.now() + 30_000
    while (acknowledged.size - before < ACKNOWLEDGED_MIN) {
      assert.ok(Date.now() < deadlineMs, `round ${round}: writes are acknowledged`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    for (const node of nodes) node.running.signal('SIGKILL')
    state.stopped = true
    await Promise.all([writing, ...nodes.map((node) => node.kill())])
    for (const node of nodes) node.restart()
    const all = await agreed(nodes)
    assert.equal(all.map((status) => status.nodeId).sort(), identities)
    // The reader changes from round to round: every node must have it all.
    const reader = nodes[round % nodes.length]
    const found = await list((await reader?.url()) ?? '', 'round ')
    const lost = [...acknowledged].filter(([key, value]) => found.get(key) !== value)
    assert.equal(lost, [], `round ${round}: ${lost.length} of ${acknowledged.size} writes are lost`)
  }
  console.log(`${ROUNDS} rounds, ${acknowledged.size} acknowledged writes, none lost`)
})

crashes.run()
