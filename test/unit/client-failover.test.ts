/** The client library among faults: lost connections, elections, moving leaders, silent nodes, forgotten sessions. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { equalBytes } from '../../client/bytes.ts'
import { type Client, type ConnectOptions, connect } from '../../client/node.ts'
import { decodeCommand, type Request } from '../../client/protocol.ts'
import {
  failure,
  StandInCluster,
  until,
  type Verdict,
  within,
} from '../support/stand-in-cluster.ts'

interface Fixture {
  readonly cluster: StandInCluster
  readonly db: Client
}

/** Connects to node 1 only, so that what the client knows of the others it has learned. */
async function using(
  nodes: number,
  body: (fixture: Fixture) => Promise<void>,
  options: ConnectOptions = {},
): Promise<void> {
  const cluster = await StandInCluster.start(nodes)
  let db: Client | null = null
  try {
    db = await within(connect(cluster.node(1).url, options))
    await within(body({ cluster, db }), 25_000)
  } finally {
    db?.close()
    await cluster.stop()
  }
}

function isOperation(request: Request): boolean {
  return request.type === 'command' && decodeCommand(request.command).kind === 'operation'
}

/** The first `times` operations get the verdict, everything else is served. */
function first(times: number, verdict: Verdict): (request: Request) => Verdict {
  let left = times
  return (request) => (isOperation(request) && left-- > 0 ? verdict : 'serve')
}

const once = suite('client exactly once')

for (const verdict of ['dropBefore', 'dropAfter'] as const) {
  once(`${verdict}: a write whose connection is lost is repeated, and runs once`, () =>
    using(1, async ({ cluster, db }) => {
      const node = cluster.node(1)
      node.judge = first(1, verdict)
      await db.put('k', 'v')
      assert.is(cluster.runs, 1)
      assert.is(cluster.opened, 1)
      node.judge = first(3, verdict)
      assert.is((await db.cas('k', 'v', 'w')).succeeded, true)
      assert.is(cluster.runs, 2)
      assert.ok(node.connections >= 5)
    }),
  )
}

once('a repeat is the same bytes, in the same order, and one frame', () =>
  using(1, async ({ cluster, db }) => {
    const node = cluster.node(1)
    await db.put('first', 'opens the session')
    node.frames.length = 0
    let seen = 0
    node.judge = (request) => (isOperation(request) && ++seen === 20 ? 'dropAfter' : 'serve')
    await Promise.all(Array.from({ length: 20 }, (_, i) => db.put('k', String(i))))
    assert.equal(
      node.frames.map((frame) => frame.length),
      [20, 20],
    )
    const [before, after] = node.frames.map((frame) =>
      frame.map((request) => (request.type === 'command' ? request.command : new Uint8Array(0))),
    )
    assert.ok(before?.every((command, i) => equalBytes(command, after?.[i] ?? new Uint8Array(0))))
    assert.is(cluster.runs, 21)
    assert.is(await db.get('k'), '19')
  }),
)

once('passing refusals are waited out, in order', () =>
  using(1, async ({ cluster, db }) => {
    await db.put('first', 'opens the session')
    for (const code of ['no-leader', 'overloaded', 'closing', 'not-founded', 'timeout'] as const) {
      // Two whole rounds of refusals.
      cluster.node(1).judge = first(20, code)
      const revisions = await Promise.all(
        Array.from({ length: 10 }, async (_, i) => (await db.put(code, String(i))).revision),
      )
      assert.equal(
        revisions,
        [...revisions].sort((a, b) => a - b),
      )
      assert.is(await db.get(code), '9')
    }
    assert.is(cluster.runs, 51)
    assert.is(cluster.opened, 1)
  }),
)

once('after a lost connection a refusal proves nothing: the write may have been applied', () =>
  using(1, async ({ cluster, db }) => {
    await db.put('k', 'v')
    let attempts = 0
    cluster.node(1).judge = () => (++attempts === 1 ? 'dropAfter' : 'no-leader')
    const error = await failure(db.put('k', 'w', { timeoutMs: 300 }))
    assert.ok(attempts > 1)
    assert.is(error.code, 'timeout')
    assert.is(error.maybeApplied, true)
    cluster.node(1).judge = () => 'serve'
    assert.is(await db.get('k'), 'w')
  }),
)

once('reads survive all of it too', () =>
  using(2, async ({ cluster, db }) => {
    await db.put('k', 'v')
    for (const verdict of [
      'dropBefore',
      'no-leader',
      'overloaded',
      'closing',
      'timeout',
    ] as const) {
      let left = 3
      for (const node of cluster.nodes) node.judge = () => (left-- > 0 ? verdict : 'serve')
      assert.is(await db.get('k'), 'v')
    }
  }),
)

once(
  'a random history of faults: every write succeeds, in its turn, and exactly once',
  async () => {
    const verdicts = fc.constantFrom<Verdict>(
      'dropBefore',
      'dropAfter',
      'no-leader',
      'overloaded',
      'closing',
      'timeout',
    )
    await fc.assert(
      fc.asyncProperty(
        // One entry for each request that meets a fault: how many are served before it, and what it meets.
        fc.array(fc.tuple(fc.nat(12), verdicts), { minLength: 5, maxLength: 25 }),
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 4 }),
        async (faults, leaders) => {
          await using(
            3,
            async ({ cluster, db }) => {
              const script = faults.flatMap(([served, verdict]) => [
                ...new Array<Verdict>(served).fill('serve'),
                verdict,
              ])
              const moves = [...leaders]
              const judge = (): Verdict => {
                const verdict = script.shift() ?? 'serve'
                if (verdict === 'no-leader') {
                  const leader = moves.shift()
                  if (leader !== undefined) cluster.lead(leader)
                }
                return verdict
              }
              for (const node of cluster.nodes) node.judge = judge
              const steps = 8
              await Promise.all(
                Array.from({ length: 8 }, async (_, worker) => {
                  let before: string | null = null
                  for (let step = 0; step < steps; step++) {
                    const next = `${worker}.${step}`
                    // Run twice, or out of turn, and the comparison fails.
                    const { succeeded } = await db.cas(`k${worker}`, before, next)
                    assert.ok(succeeded, `${next} did not find ${before}`)
                    before = next
                  }
                  assert.is(await db.get(`k${worker}`), before)
                }),
              )
              assert.is(cluster.runs, 8 * steps)
            },
            { timeoutMs: 20_000 },
          )
        },
      ),
      { numRuns: 12 },
    )
  },
)

once.run()

const sessions = suite('client sessions')

sessions(
  'a forgotten session fails what it held, in doubt, and the next write opens a new one',
  () =>
    using(1, async ({ cluster, db }) => {
      await db.put('k', 'v')
      cluster.expireSessions()
      const error = await failure(db.put('k', 'w'))
      assert.is(error.code, 'session-expired')
      assert.is(error.maybeApplied, true)
      assert.is(error.retriable, true)
      await db.put('k', 'x')
      assert.is(await db.get('k'), 'x')
      assert.is(cluster.opened, 2)
      assert.is(cluster.runs, 2)
    }),
)

sessions('a write that ran, whose answer and session were lost, is reported as in doubt', () =>
  using(1, async ({ cluster, db }) => {
    await db.put('k', 'v')
    cluster.node(1).judge = (request) => {
      if (!isOperation(request)) return 'serve'
      cluster.node(1).judge = () => {
        cluster.expireSessions()
        cluster.node(1).judge = () => 'serve'
        return 'serve'
      }
      return 'dropAfter'
    }
    const error = await failure(db.put('k', 'w'))
    assert.is(error.code, 'session-expired')
    assert.is(error.maybeApplied, true)
    assert.is(await db.get('k'), 'w')
    assert.is(cluster.runs, 2)
  }),
)

sessions('the first outstanding sequence only passes what was answered or given up', () =>
  using(1, async ({ cluster, db }) => {
    const node = cluster.node(1)
    await db.put('a', '1')
    node.judge = first(1, 'ignore')
    const stuck = failure(db.put('b', '2', { timeoutMs: 300 }))
    await db.put('c', '3')
    await db.put('d', '4')
    await stuck
    await db.put('e', '5')
    const numbers = node.requests
      .filter(isOperation)
      .map((request) => (request.type === 'command' ? decodeCommand(request.command) : null))
      .map((command) => [command?.sequence, command?.firstOutstanding])
    assert.equal(numbers, [
      [1, 1],
      [2, 2],
      [3, 2],
      [4, 2],
      [5, 5],
    ])
  }),
)

sessions('a session that can not be opened for the moment is opened when it can', () =>
  using(1, async ({ cluster, db }) => {
    let left = 3
    cluster.node(1).judge = () => (left-- > 0 ? 'no-leader' : 'serve')
    await Promise.all([db.put('a', '1'), db.put('b', '2')])
    assert.is(cluster.opened, 1)
    left = 1e9
    const error = await failure(
      using(1, async (other) => {
        other.cluster.node(1).judge = () => 'no-leader'
        await other.db.put('a', '1', { timeoutMs: 150 })
      }),
    )
    assert.is(error.code, 'no-leader')
    assert.is(error.maybeApplied, false)
  }),
)

sessions.run()

const leading = suite('client and leader')

/** The only node with a connection. */
async function onlyAt(cluster: StandInCluster, memberId: number): Promise<void> {
  await until(
    () => cluster.nodes.every((node) => node.open === (node.memberId === memberId ? 1 : 0)),
    `the client to be at node ${memberId} alone`,
  )
}

leading('it goes to the leader named at the start, and to each new one', () =>
  using(3, async ({ cluster, db }) => {
    await db.put('k', 'v')
    for (const leaderId of [2, 3, 1]) {
      cluster.lead(leaderId)
      await onlyAt(cluster, leaderId)
      cluster.node(leaderId).frames.length = 0
      await db.put('k', String(leaderId))
      assert.is(cluster.node(leaderId).requests.length, 1)
      assert.is(db.leader()?.leaderId, leaderId)
    }
    assert.is(cluster.opened, 1)
    assert.is(cluster.runs, 4)
  }),
)

leading('a leader known when the client connects is followed', async () => {
  const cluster = await StandInCluster.start(2)
  cluster.lead(2)
  try {
    const db = await within(connect(cluster.node(1).url))
    await onlyAt(cluster, 2)
    await db.put('k', 'v')
    db.close()
  } finally {
    await cluster.stop()
  }
})

leading('a move waits for the answers that are due and sends nothing twice', () =>
  using(2, async ({ cluster, db }) => {
    await db.put('k', 'v')
    let release = () => {}
    const [one, two] = [cluster.node(1), cluster.node(2)]
    one.frames.length = 0
    one.hold = new Promise((resolve) => {
      release = resolve
    })
    const early = [db.put('a', '1'), db.put('b', '2')]
    await until(() => one.requests.length === 2, 'the early writes at node 1')
    cluster.lead(2)
    await until(() => two.open === 1, 'the client at node 2')
    const late = [db.put('a', '3'), db.get('b')]
    release()
    await Promise.all([...early, ...late])
    assert.is(await db.get('a'), '3')
    assert.is(one.requests.length + two.requests.filter(isOperation).length, 3)
    await onlyAt(cluster, 2)
  }),
)

leading(
  'a move does not wait for ever: the rest is sent again on the new link, and runs once',
  () =>
    using(2, async ({ cluster, db }) => {
      await db.put('k', 'v')
      cluster.node(1).judge = () => 'ignore'
      const stuck = db.put('k', 'w')
      await until(() => cluster.node(1).requests.length >= 3, 'the write at node 1')
      cluster.lead(2)
      await stuck
      assert.is(cluster.runs, 2)
      await onlyAt(cluster, 2)
    }),
)

leading('a leader that can not be reached changes nothing', () =>
  using(3, async ({ cluster, db }) => {
    await db.put('k', 'v')
    await cluster.node(3).stop()
    cluster.lead(3)
    for (let i = 0; i < 5; i++) await db.put('k', String(i))
    assert.is(cluster.node(1).connections, 1)
    assert.is(cluster.node(1).open, 1)
    assert.is(db.leader()?.leaderId, 3)
  }),
)

leading('an old leader named by a node that lags behind is ignored', () =>
  using(3, async ({ cluster, db }) => {
    cluster.lead(2)
    await onlyAt(cluster, 2)
    cluster.term -= 2
    cluster.lead(3)
    await db.put('k', 'v')
    assert.is(db.leader()?.leaderId, 2)
    assert.is(cluster.node(3).connections, 0)
  }),
)

leading('followLeader: false stays with the given nodes, whoever leads', () =>
  using(
    2,
    async ({ cluster, db }) => {
      cluster.lead(2)
      await db.put('k', 'v')
      assert.is((await db.status()).memberId, 1)
      await cluster.node(1).stop()
      const error = await failure(db.get('k', { timeoutMs: 300 }))
      assert.is(error.code, 'unreachable')
      assert.is(cluster.node(2).connections, 0)
    },
    { followLeader: false },
  ),
)

leading.run()

const nodes = suite('client and failing nodes')

nodes('a node dies: the client goes on at one it was never given', () =>
  using(3, async ({ cluster, db }) => {
    await db.put('k', 'v')
    await cluster.node(1).stop()
    await cluster.node(2).stop()
    await db.put('k', 'w')
    assert.is(await db.get('k'), 'w')
    assert.is(cluster.runs, 2)
    assert.is(cluster.node(3).open, 1)
    await cluster.node(3).stop()
    const waiting = db.put('k', 'x')
    await cluster.node(1).restart()
    await waiting
    assert.is(cluster.runs, 3)
  }),
)

nodes('a node that only refuses is left for another', () =>
  using(2, async ({ cluster, db }) => {
    await db.put('k', 'v')
    for (const code of ['no-leader', 'closing', 'timeout'] as const) {
      const at = (await db.status()).memberId as number
      const node = cluster.node(at)
      node.judge = () => code
      await db.put('k', code)
      assert.is(cluster.node(3 - at).open, 1)
      node.judge = () => 'serve'
    }
    assert.is(cluster.runs, 4)
  }),
)

nodes('a silent node, whose connection stands, is given up; the write runs once', () =>
  using(2, async ({ cluster, db }) => {
    await db.put('k', 'v')
    cluster.node(1).silent = true
    await db.put('k', 'w')
    assert.is(await db.get('k'), 'w')
    assert.is(cluster.runs, 2)
    assert.is(cluster.node(2).open, 1)
  }),
)

nodes(
  'a call that waits for a silent node is answered by another one before that one is given up',
  () =>
    using(2, async ({ cluster, db }) => {
      await db.put('k', 'v')
      cluster.node(1).silent = true
      await db.put('k', 'w', { timeoutMs: 2500 })
      assert.is(cluster.runs, 2)
      assert.is(cluster.node(2).open, 1)
    }),
)

nodes('a node that takes its time but answers questions is not given up', () =>
  using(1, async ({ cluster, db }) => {
    await db.put('k', 'v')
    let release = () => {}
    cluster.node(1).hold = new Promise((resolve) => {
      release = resolve
    })
    let questions = 0
    cluster.node(1).onStatus = () => {
      // Two questions are more silence than a node without an answer to them would be forgiven.
      if (++questions === 2) release()
    }
    await db.put('k', 'w')
    assert.is(cluster.node(1).connections, 1)
    assert.is(cluster.runs, 2)
  }),
)

nodes('bytes that are no protocol end the link, not the client', () =>
  using(2, async ({ cluster, db }) => {
    await db.put('k', 'v')
    for (const junk of [new Uint8Array([0, 0, 0, 1, 250]), new Uint8Array([9]), 'text']) {
      const before = cluster.node(1).connections + cluster.node(2).connections
      for (const node of cluster.nodes) node.sendJunk(junk)
      await db.put('k', 'w')
      await until(
        () => cluster.node(1).connections + cluster.node(2).connections > before,
        'a new connection',
      )
    }
    assert.is(await db.get('k'), 'w')
  }),
)

nodes.run()
