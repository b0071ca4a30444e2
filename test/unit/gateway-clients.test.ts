/** The clients' WebSocket: frames, limits, and what happens to requests when either side goes. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type Answer,
  decodeKvGot,
  decodeKvResult,
  decodeOutcome,
  encodeCommand,
  encodeKvOperation,
  encodeKvQuery,
} from '../../client/protocol.ts'
import {
  bytes,
  closeLabs,
  eventually,
  openLab,
  TestClient,
  TOKENS,
} from '../support/gateway-lab.ts'

const ws = suite('client WebSocket')
ws.after.each(closeLabs)

const NOTHING = new Uint8Array(0)
const none = { type: 'none' } as const

function openSession() {
  const command = encodeCommand({
    kind: 'openSession',
    session: 0,
    sequence: 0,
    firstOutstanding: 0,
    operation: NOTHING,
  })
  return { type: 'command' as const, timeoutMs: 0, command }
}

function put(session: number, sequence: number, key: string, value: string | Uint8Array) {
  const operation = encodeKvOperation({
    type: 'put',
    key: bytes(key),
    value: typeof value === 'string' ? bytes(value) : value,
    condition: none,
  })
  const command = encodeCommand({
    kind: 'operation',
    session,
    sequence,
    firstOutstanding: sequence,
    operation,
  })
  return { type: 'command' as const, timeoutMs: 0, command }
}

function get(key: string, timeoutMs = 0) {
  const query = encodeKvQuery({ type: 'get', key: bytes(key) })
  return { type: 'query' as const, timeoutMs, consistency: 'linearizable' as const, query }
}

function resultOf(answer: Answer): Answer & { type: 'result' } {
  if (answer.type !== 'result') throw new Error(`no result but ${JSON.stringify(answer)}`)
  return answer
}

async function session(client: TestClient): Promise<number> {
  const [id = 0] = client.send(openSession())
  return resultOf(await client.answerTo(id)).index
}

ws('a session, a write, a read', async () => {
  const client = await new TestClient(await openLab()).open()
  const id = await session(client)
  const [wrote = 0] = client.send(put(id, 1, 'a', 'one'))
  const written = resultOf(await client.answerTo(wrote))
  const outcome = decodeOutcome(written.body)
  assert.is(outcome.status, 'done')
  assert.equal(decodeKvResult(outcome.body), {
    succeeded: true,
    revision: written.index,
    existed: false,
  })
  const [read = 0] = client.send(get('a'))
  const got = decodeKvGot(resultOf(await client.answerTo(read)).body)
  assert.equal(got, { revision: written.index, value: bytes('one') })
})

ws('all answers of a turn leave in one frame', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  await eventually('the leader', () => client.leaders().length === 1)
  lab.service.holding = true
  const ids = client.send(get('a'), get('b'), get('c'), get('d'))
  await eventually('the requests', () => lab.service.held.length === 4)
  const before = client.frames.length
  lab.service.release()
  await client.answerTo(ids[3] as number)
  assert.is(client.frames.length, before + 1)
  assert.equal(
    client.frames.at(-1)?.map((answer) => answer.requestId),
    ids,
  )
})

ws('the leader is told at once and whenever it changes', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  await eventually('the first leader', () => client.leaders().length === 1)
  lab.service.elect({ leaderId: 2, leaderUrl: 'ws://127.0.0.1:7701', term: 4 })
  await eventually('the second leader', () => client.leaders().length === 2)
  assert.equal(client.leaders()[1], {
    leaderId: 2,
    leaderUrl: 'ws://127.0.0.1:7701',
    term: 4,
  })
})

ws('the command that is kept is not the frame it came in', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  const id = await session(client)
  lab.service.holding = true
  const ids = client.send(put(id, 1, 'a', 'one'), put(id, 2, 'b', 'two'))
  await eventually('the requests', () => lab.service.held.length === 2)
  lab.service.release()
  await client.answerTo(ids[1] as number)
  const kept = lab.service.seen.flatMap((one) => (one.type === 'command' ? [one.command] : []))
  assert.is(kept.length, 3)
  for (const command of kept) assert.is(command.buffer.byteLength, command.byteLength)
})

ws('timeouts: none named means the default, and none is without end', async () => {
  const lab = await openLab({ limits: { requestTimeoutMs: 1234, requestTimeoutMsMax: 5000 } })
  const client = await new TestClient(lab).open()
  const ids = client.send(get('a'), get('a', 77), get('a', 4_000_000_000))
  await client.answerTo(ids[2] as number)
  assert.equal(
    lab.service.seen.map((one) => one.timeoutMs),
    [1234, 77, 5000],
  )
})

ws('limits on keys and values, and malformed requests, cost only that request', async () => {
  const lab = await openLab({ limits: { keyBytesMax: 8, valueBytesMax: 100 } })
  const client = await new TestClient(lab).open()
  const id = await session(client)
  const compare = encodeKvOperation({
    type: 'delete',
    key: bytes('a'),
    condition: { type: 'value', value: new Uint8Array(101) },
  })
  const command = put(id, 1, 'a', '')
  const [
    longKey,
    longValue,
    longCompare,
    emptyKey,
    noCommand,
    noOperation,
    noQuery,
    longGet,
    fine,
  ] = client.send(
    put(id, 1, 'k'.repeat(9), 'x'),
    put(id, 1, 'a', new Uint8Array(101)),
    {
      ...command,
      command: encodeCommand({
        kind: 'operation',
        session: id,
        sequence: 1,
        firstOutstanding: 1,
        operation: compare,
      }),
    },
    put(id, 1, '', 'x'),
    { ...command, command: new Uint8Array([9, 9, 9]) },
    { ...command, command: new Uint8Array([...command.command.subarray(0, 26), 99, 0, 0, 0]) },
    { ...get('a'), query: new Uint8Array([77]) },
    get('k'.repeat(9)),
    put(id, 1, 'a', 'x'),
  ) as [number, number, number, number, number, number, number, number, number]
  const codeOf = async (request: number) => (await client.errorOf(request)).code
  assert.is(await codeOf(longKey), 'too-large')
  assert.is(await codeOf(longValue), 'too-large')
  assert.is(await codeOf(longCompare), 'too-large')
  for (const bad of [emptyKey, noCommand, noOperation, noQuery]) {
    assert.is(await codeOf(bad), 'bad-request')
  }
  assert.is(await codeOf(longGet), 'too-large')
  assert.is(resultOf(await client.answerTo(fine)).type, 'result')
  assert.is(lab.service.seen.length, 2)
})

ws('the status is one JSON, computed once a turn', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  const ids = client.send({ type: 'status' }, { type: 'status' }, { type: 'status' })
  const answer = await client.answerTo(ids[2] as number)
  if (answer.type !== 'json') throw new Error(answer.type)
  assert.is(JSON.parse(new TextDecoder().decode(answer.json)).clusterId, lab.service.clusterId)
  assert.is(lab.service.statusCalls, 1)
})

ws('what a role may not do is refused, request by request', async () => {
  const lab = await openLab()
  const as = (token: string) =>
    new TestClient(lab, { protocols: ['raft-p2p.v1', `token.${token}`] }).open()
  const admin = { type: 'admin' as const, name: bytes('stop'), json: bytes('{"now":true}') }
  const reader = await as(TOKENS.read)
  const [open, read, stop] = reader.send(openSession(), get('a'), admin) as [number, number, number]
  assert.is((await reader.errorOf(open)).code, 'unauthorised')
  assert.is((await reader.answerTo(read)).type, 'result')
  assert.is((await reader.errorOf(stop)).code, 'unauthorised')
  // Loopback is no administrator.
  const local = await new TestClient(lab).open()
  const [localStop = 0] = local.send(admin)
  assert.is((await local.errorOf(localStop)).code, 'unauthorised')
  assert.equal(lab.service.admins, [])
  const settings = { ...admin, name: bytes('config.get'), json: bytes('{}') }
  const [seen, changed] = reader.send(settings, { ...settings, name: bytes('config.set') }) as [
    number,
    number,
  ]
  await reader.answerTo(seen)
  assert.is((await reader.errorOf(changed)).code, 'unauthorised')
  assert.equal(lab.service.admins.splice(0), [{ name: 'config.get', args: {} }])
  const boss = await as(TOKENS.admin)
  const [done, unknown, malformed] = boss.send(
    admin,
    { ...admin, name: bytes('nonsense') },
    { ...admin, json: bytes('{') },
  ) as [number, number, number]
  const answer = await boss.answerTo(done)
  assert.is(answer.type, 'json')
  assert.equal(lab.service.admins[0], { name: 'stop', args: { now: true } })
  assert.is((await boss.errorOf(unknown)).message, 'no such verb: nonsense')
  assert.is((await boss.errorOf(malformed)).code, 'bad-request')
})

ws('errors of the service arrive as they are', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  const failure = {
    code: 'no-leader',
    message: 'why',
    retriable: true,
    maybeApplied: false,
    leaderUrl: null,
  } as const
  lab.service.failure = failure
  const [id = 0] = client.send(get('a'))
  assert.equal(await client.errorOf(id), failure)
})

ws('a malformed frame ends the client, and nothing of it is run', async () => {
  const lab = await openLab()
  const frames: (Uint8Array | string)[] = [
    new Uint8Array([0, 0, 0]),
    new Uint8Array([0xff, 0xff, 0xff, 0xff, 1]),
    new Uint8Array([0, 0, 0, 5, 200, 0, 0, 0, 1]),
    'text',
  ]
  for (const frame of frames) {
    const client = await new TestClient(lab).open()
    client.socket.send(frame)
    assert.is(await client.closed(), 1002)
    assert.is((await client.errorOf(0)).code, 'bad-request')
  }
  const mixed = await new TestClient(lab).open()
  const good = get('a')
  const writer = [0, 0, 0, 10 + good.query.length, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, ...good.query]
  mixed.socket.send(new Uint8Array([...writer, 0, 0, 0, 1, 99]))
  assert.is(await mixed.closed(), 1002)
  assert.equal(lab.service.seen, [])
})

ws('an oversized frame ends the client', async () => {
  const lab = await openLab({ limits: { frameBytesMax: 10_000 } })
  const client = await new TestClient(lab).open()
  client.socket.send(new Uint8Array(10_001))
  assert.is(await client.closed(), 1009)
})

ws('requests of a client that goes are given up', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  lab.service.holding = true
  client.send(get('a'), get('b'))
  await eventually('the requests', () => lab.service.held.length === 2)
  client.socket.terminate()
  await eventually('the cancellations', () => lab.service.cancelled === 2)
})

ws('too many requests without an answer are refused', async () => {
  const lab = await openLab({ limits: { inFlightMax: 3 } })
  const client = await new TestClient(lab).open()
  lab.service.holding = true
  const ids = client.send(get('a'), get('b'), get('c'), get('d'))
  const { code, maybeApplied } = await client.errorOf(ids[3] as number)
  assert.equal([code, maybeApplied], ['overloaded', false])
  lab.service.release()
  await client.answerTo(ids[2] as number)
  const [again = 0] = client.send(get('d'))
  assert.is((await client.answerTo(again)).type, 'result')
})

ws(
  'one frame of questions whose answers nobody could hold ends the client, and nobody else',
  async () => {
    const lab = await openLab({ limits: { queueBytesMax: 10_000 } })
    const client = await new TestClient(lab).open()
    const friend = await new TestClient(lab).open()
    client.send(...Array.from({ length: 2000 }, () => ({ type: 'status' as const })))
    assert.is(await client.closed(), 1006)
    const [read = 0] = friend.send({ type: 'status' })
    assert.is((await friend.answerTo(read)).type, 'json')
  },
)

ws('a large answer that finds no room is in doubt when it is the answer of a write', async () => {
  const lab = await openLab({ limits: { queueBytesMax: 1024 } })
  const client = await new TestClient(lab).open()
  // The result of a state machine of somebody's own.
  lab.service.request = (_request, answer) => {
    setImmediate(() => answer({ ok: true, index: 7, body: new Uint8Array(2000) }))
    return () => {}
  }
  const [read, write] = client.send(get('a'), put(1, 1, 'a', 'x')) as [number, number]
  const gotten = await client.errorOf(read)
  const written = await client.errorOf(write)
  assert.equal([gotten.code, gotten.maybeApplied], ['overloaded', false])
  assert.equal([written.code, written.maybeApplied], ['overloaded', true])
})

ws('closing answers what is pending and says goodbye', async () => {
  const lab = await openLab()
  const client = await new TestClient(lab).open()
  const id = await session(client)
  lab.service.holding = true
  const [read, write] = client.send(get('a'), put(id, 1, 'a', 'x')) as [number, number]
  await eventually('the requests', () => lab.service.held.length === 2)
  await lab.gateway.close()
  const gotten = await client.errorOf(read)
  const written = await client.errorOf(write)
  assert.equal([gotten.code, gotten.maybeApplied], ['closing', false])
  assert.equal([written.code, written.maybeApplied], ['closing', true])
  assert.is(await client.closed(), 1001)
  assert.is(lab.service.cancelled, 2)
  assert.is(lab.gateway.clientCount, 0)
})

ws('closing does not wait for a client that says nothing', async () => {
  const lab = await openLab({ limits: { closeMsMax: 50 } })
  const client = await new TestClient(lab).open()
  client.socket.pause()
  await lab.gateway.close()
  assert.is(lab.gateway.clientCount, 0)
  client.socket.terminate()
})

ws.run()
