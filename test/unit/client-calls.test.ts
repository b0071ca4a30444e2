/** The client library on a cluster without faults, and everything it refuses by itself. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Client, type ConnectOptions, connect } from '../../client/node.ts'
import { failure, plain, StandInCluster, until, within } from '../support/stand-in-cluster.ts'

interface Fixture {
  readonly cluster: StandInCluster
  readonly db: Client
}

async function using(
  options: ConnectOptions & { readonly nodes?: number },
  body: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const cluster = await StandInCluster.start(options.nodes ?? 1)
  let db: Client | null = null
  try {
    db = await within(connect(cluster.node(1).url, options))
    await within(body({ cluster, db }))
  } finally {
    db?.close()
    await cluster.stop()
  }
}

const calls = suite('client calls')

calls('put, get, delete', () =>
  using({}, async ({ db }) => {
    assert.is(await db.get('k'), null)
    const { revision } = await db.put('k', 'v')
    assert.is(await db.get('k'), 'v')
    assert.equal(await db.getItem('k'), {
      key: new TextEncoder().encode('k'),
      value: new TextEncoder().encode('v'),
      revision,
    })
    const again = await db.put('k', 'w\u00e9')
    assert.ok(again.revision > revision)
    assert.is(await db.get('k', { consistency: 'stale' }), 'w\u00e9')
    const gone = await db.delete('k')
    assert.is(gone.deleted, true)
    assert.ok(gone.revision > again.revision)
    assert.is((await db.delete('k')).deleted, false)
    assert.is(await db.getBytes('k'), null)
  }),
)

calls('keys and values are any bytes, and the caller may reuse them', () =>
  using({}, async ({ db }) => {
    const key = new Uint8Array([0, 255, 128])
    const value = new Uint8Array([254, 0, 1])
    const write = db.put(key, value)
    key.fill(7)
    value.fill(7)
    await write
    assert.equal(await db.getBytes(new Uint8Array([0, 255, 128])), new Uint8Array([254, 0, 1]))
    await db.put('empty', '')
    assert.is(await db.get('empty'), '')
    assert.equal(await db.getBytes('empty'), new Uint8Array(0))
  }),
)

calls('compare and set: by value, absence, revision and existence', () =>
  using({}, async ({ db }) => {
    assert.equal(await db.cas('k', 'v', 'w'), { succeeded: false, revision: 0 })
    assert.equal(await db.cas('k', { exists: true }, 'w'), { succeeded: false, revision: 0 })
    const first = await db.cas('k', null, 'a')
    assert.is(first.succeeded, true)
    assert.equal(await db.cas('k', null, 'b'), { succeeded: false, revision: first.revision })
    const second = await db.cas('k', 'a', 'b')
    assert.is(second.succeeded, true)
    assert.is((await db.cas('k', { revision: first.revision }, 'c')).succeeded, false)
    assert.is((await db.cas('k', { revision: second.revision }, 'c')).succeeded, true)
    assert.is(await db.get('k'), 'c')
    assert.is((await db.cas('k', 'x', null)).succeeded, false)
    assert.is((await db.cas('k', 'c', null)).succeeded, true)
    assert.is(await db.get('k'), null)
  }),
)

calls('list: prefix, limit, after, keys only', () =>
  using({}, async ({ db }) => {
    await Promise.all(['a/1', 'a/2', 'a/3', 'b'].map((key) => db.put(key, `value of ${key}`)))
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
    const page = await db.list('a/', { limit: 2 })
    assert.equal(
      page.items.map((item) => [text(item.key), text(item.value)]),
      [
        ['a/1', 'value of a/1'],
        ['a/2', 'value of a/2'],
      ],
    )
    assert.is(page.more, true)
    const rest = await db.list('a/', { after: 'a/2', keysOnly: true })
    assert.equal(
      rest.items.map((item) => [text(item.key), item.value.length]),
      [['a/3', 0]],
    )
    assert.is(rest.more, false)
    assert.is((await db.list()).items.length, 4)
  }),
)

calls('the consistency asked for is the one that travels', () =>
  using({}, async ({ cluster, db }) => {
    await db.get('k', { consistency: 'stale' })
    await db.get('k')
    await db.list('', { consistency: 'stale' })
    const seen = cluster.node(1).requests.map((one) => one.type === 'query' && one.consistency)
    assert.equal(seen, ['stale', 'linearizable', 'stale'])
  }),
)

calls(
  'requests of one turn leave in one frame, in order, and answers find their call in any order',
  () =>
    using({}, async ({ cluster, db }) => {
      await db.put('first', 'opens the session')
      const node = cluster.node(1)
      node.frames.length = 0
      node.shuffles = true
      const writes = Array.from({ length: 50 }, (_, i) => db.put(`k${i}`, `v${i}`))
      const reads = Array.from({ length: 10 }, (_, i) => db.get(`k${i}`))
      const revisions = (await Promise.all(writes)).map(({ revision }) => revision)
      assert.equal(
        await Promise.all(reads),
        Array.from({ length: 10 }, (_, i) => `v${i}`),
      )
      assert.is(node.frames.length, 1)
      assert.is(node.requests.length, 60)
      assert.equal(
        revisions,
        [...revisions].sort((a, b) => a - b),
      )
      assert.is(new Set(revisions).size, 50)
    }),
)

calls(
  'the second half of a pipeline also leaves together, when the answers come in one frame',
  () =>
    using({}, async ({ cluster, db }) => {
      await db.put('first', 'opens the session')
      const node = cluster.node(1)
      node.frames.length = 0
      await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          await db.put(`k${i}`, 'a')
          await db.put(`k${i}`, 'b')
        }),
      )
      assert.equal(
        node.frames.map((frame) => frame.length),
        [20, 20],
      )
    }),
)

calls('one session serves all writes, and its first ones wait for it', () =>
  using({}, async ({ cluster, db }) => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => db.put(`k${i}`, 'v')))
    await db.delete('k1')
    assert.is(cluster.opened, 1)
    assert.is(cluster.runs, 21)
    assert.is(cluster.sessions.count, 1)
  }),
)

calls(
  'many more writes than the window holds are all applied, in order, and never too many at once',
  () =>
    using({}, async ({ cluster, db }) => {
      let release = () => {}
      const node = cluster.node(1)
      await db.put('first', 'opens the session')
      node.frames.length = 0
      node.hold = new Promise((resolve) => {
        release = resolve
      })
      const writes = Array.from({ length: 5000 }, (_, i) => db.put('k', String(i)))
      await until(() => node.requests.length >= 1024, 'a full window')
      await db.status()
      assert.is(node.requests.length, 1024)
      release()
      node.hold = null
      const revisions = (await Promise.all(writes)).map(({ revision }) => revision)
      assert.equal(
        revisions,
        [...revisions].sort((a, b) => a - b),
      )
      assert.is(await db.get('k'), '4999')
      assert.is(cluster.runs, 5001)
    }),
)

calls('large values travel in several frames', () =>
  using({}, async ({ cluster, db }) => {
    const value = new Uint8Array(900_000).fill(1)
    await Promise.all(Array.from({ length: 12 }, (_, i) => db.put(`k${i}`, value)))
    assert.is((await db.getBytes('k11'))?.length, value.length)
    assert.ok(cluster.node(1).frames.length > 3)
  }),
)

calls('status, admin and leader', () =>
  using({ nodes: 3 }, async ({ cluster, db }) => {
    const status = await db.status()
    assert.is(status.memberId, 1)
    assert.is(status.clusterId, cluster.clusterId)
    assert.equal(await db.admin('stop', { gently: true }), {
      name: 'stop',
      args: { gently: true },
      memberId: 1,
    })
    assert.equal(db.leader(), { leaderId: 1, leaderUrl: cluster.node(1).url, term: 1 })
  }),
)

calls('command and query carry the bytes of any state machine', () =>
  using({}, async ({ cluster, db }) => {
    const operation = new Uint8Array([9, 9, 9])
    const { index, body } = await db.command(operation)
    assert.is(index, cluster.index)
    assert.is(body.length, 10)
    assert.is((await failure(db.getItem('k').then(() => db.query(body)))).code, 'bad-request')
  }),
)

calls.run()

const refusals = suite('client errors')

refusals('an error of the node keeps its code and flags', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    for (const code of [
      'too-large',
      'quota',
      'disk-full',
      'bad-request',
      'unauthorised',
    ] as const) {
      cluster.node(1).judge = () => code
      assert.equal(plain(await failure(db.put('k', 'v'))), {
        code,
        retriable: false,
        maybeApplied: false,
      })
      assert.is((await failure(db.get('k'))).code, code)
    }
    cluster.node(1).judge = () => 'internal'
    assert.is((await failure(db.put('k', 'v'))).maybeApplied, true)
    cluster.node(1).judge = () => 'serve'
    assert.is(await db.get('k'), 'v')
  }),
)

refusals('when no session can be opened, the writes that wait for it share the error', () =>
  using({}, async ({ cluster, db }) => {
    cluster.node(1).judge = () => 'unauthorised'
    const errors = await Promise.all([failure(db.put('a', '1')), failure(db.put('b', '2'))])
    assert.equal(errors.map(plain), [
      { code: 'unauthorised', retriable: false, maybeApplied: false },
      { code: 'unauthorised', retriable: false, maybeApplied: false },
    ])
    cluster.node(1).judge = () => 'serve'
    await db.put('a', '1')
  }),
)

refusals('time: a write that was sent may have been applied, a read never', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    cluster.node(1).judge = () => 'ignore'
    assert.equal(plain(await failure(db.put('k', 'w', { timeoutMs: 60 }))), {
      code: 'timeout',
      retriable: true,
      maybeApplied: true,
    })
    assert.equal(plain(await failure(db.get('k', { timeoutMs: 60 }))), {
      code: 'timeout',
      retriable: true,
      maybeApplied: false,
    })
    cluster.node(1).judge = () => 'serve'
    assert.is(await db.get('k'), 'v')
  }),
)

refusals('time: a write that never found a leader says so, and was not applied', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    cluster.node(1).judge = () => 'no-leader'
    assert.equal(plain(await failure(db.put('k', 'w', { timeoutMs: 1000 }))), {
      code: 'no-leader',
      retriable: true,
      maybeApplied: false,
    })
    assert.ok(cluster.node(1).requests.length > 3, 'it tried again')
  }),
)

refusals('a write given up can not be applied later, once a newer one was', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    const node = cluster.node(1)
    node.judge = () => 'ignore'
    await failure(db.put('k', 'late', { timeoutMs: 30 }))
    const late = node.requests.at(-1)
    node.judge = () => 'serve'
    await db.put('k', 'newer')
    assert.ok(late?.type === 'command')
    cluster.apply(late.command)
    assert.is(await db.get('k'), 'newer')
  }),
)

refusals('abort: before, while queued and while sent; one signal for many calls', () =>
  using({}, async ({ cluster, db }) => {
    const warnings: string[] = []
    const onWarning = (warning: Error) => warnings.push(warning.name)
    process.on('warning', onWarning)
    await db.put('k', 'v')
    assert.equal(plain(await failure(db.put('k', 'w', { signal: AbortSignal.abort() }))), {
      code: 'aborted',
      retriable: false,
      maybeApplied: false,
    })
    const queued = new AbortController()
    const early = failure(db.put('k', 'w', { signal: queued.signal }))
    queued.abort()
    assert.is((await early).maybeApplied, false)

    cluster.node(1).judge = () => 'ignore'
    cluster.node(1).frames.length = 0
    const sent = new AbortController()
    const { signal } = sent
    const errors = Array.from({ length: 30 }, (_, i) => failure(db.put(`k${i}`, 'w', { signal })))
    const read = failure(db.get('k', { signal }))
    await until(() => cluster.node(1).requests.length >= 31, 'the calls at the node')
    sent.abort()
    for (const error of await Promise.all(errors)) {
      assert.equal(plain(error), { code: 'aborted', retriable: false, maybeApplied: true })
    }
    assert.is((await read).maybeApplied, false)
    cluster.node(1).judge = () => 'serve'
    assert.is(await db.get('k'), 'v')
    process.off('warning', onWarning)
    assert.equal(warnings, [])
  }),
)

refusals('close fails what is unanswered, closes the session, and is final', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    assert.is(cluster.sessions.count, 1)
    cluster.node(1).judge = (request) => (request.type === 'query' ? 'ignore' : 'serve')
    const pending = failure(db.get('k'))
    await until(() => cluster.node(1).requests.some((one) => one.type === 'query'), 'the read')
    db.close()
    db.close()
    assert.is((await pending).code, 'aborted')
    assert.is((await failure(db.put('k', 'v'))).code, 'aborted')
    await until(() => cluster.node(1).open === 0, 'the connection to be closed')
    assert.is(cluster.sessions.count, 0)
  }),
)

refusals('nothing is sent twice to an admin verb', () =>
  using({}, async ({ cluster, db }) => {
    cluster.node(1).judge = (request) => (request.type === 'admin' ? 'dropAfter' : 'serve')
    assert.equal(plain(await failure(db.admin('stop'))), {
      code: 'unreachable',
      retriable: true,
      maybeApplied: true,
    })
    await db.put('k', 'v')
    assert.is(cluster.node(1).requests.filter((one) => one.type === 'admin').length, 1)
  }),
)

refusals('a request larger than the node accepts fails, and only that one', () =>
  using({}, async ({ cluster, db }) => {
    await db.put('k', 'v')
    const huge = failure(db.put('huge', new Uint8Array(5 * 1024 * 1024)))
    const small = db.put('small', 'v')
    assert.is((await huge).code, 'too-large')
    await small
    assert.is(await db.get('small'), 'v')
    assert.is(cluster.runs, 2)
  }),
)

refusals('wrong use is a TypeError', () =>
  using({}, async ({ db }) => {
    const bad = (call: Promise<unknown>) =>
      call.then(
        () => 'no error',
        (error: Error) => error.name,
      )
    assert.is(await bad(db.put(7 as never, 'v')), 'TypeError')
    assert.is(await bad(db.list('', { limit: 0 })), 'TypeError')
    assert.is(await bad(db.cas('k', { revision: -1 }, 'v')), 'TypeError')
    assert.is(await bad(db.command(new Uint8Array(0))), 'TypeError')
    assert.is(await bad(connect([])), 'TypeError')
    assert.is(await bad(connect('ftp://example.invalid')), 'TypeError')
    assert.is(await bad(connect('ws://127.0.0.1:1', { token: 'a b' })), 'TypeError')
  }),
)

refusals.run()
