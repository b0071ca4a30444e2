/** What a hostile or broken client costs: it meets a limit, the node lives on, and others are served. */
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKvQuery } from '../../client/protocol.ts'
import {
  bytes,
  closeLabs,
  eventually,
  http,
  type Lab,
  openLab,
  TestClient,
  Wire,
} from '../support/gateway-lab.ts'

const hostile = suite('hostile clients')
hostile.after.each(closeLabs)

async function alive(lab: Lab): Promise<void> {
  const put = await http(lab, '/v1/kv/alive', { method: 'PUT', body: 'yes' })
  assert.is(put.status, 200)
  assert.is((await http(lab, '/v1/kv/alive')).text, 'yes')
}

hostile('heads and bodies that only trickle are cut off', async () => {
  const lab = await openLab({ limits: { headerTimeoutMs: 200, bodyTimeoutMs: 400 } })
  const silent = new Wire(lab.port)
  const head = new Wire(lab.port)
  head.send('GET /v1/kv HTTP/1.1\r\nHost: localhost\r\nX-Slow: ')
  const body = new Wire(lab.port)
  body.send('PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc')
  const trickle = setInterval(() => {
    head.send('x')
    body.send('')
  }, 20)
  await Promise.all([silent.ended(), head.ended(), body.ended()])
  clearInterval(trickle)
  assert.match(body.text, /^HTTP\/1.1 408 /)
  assert.is(lab.service.index, 0)
  await alive(lab)
})

hostile('garbage instead of HTTP', async () => {
  const lab = await openLab()
  for (const garbage of [
    '\x16\x03\x01\x02\x00\x01',
    'GET\r\n\r\n',
    `GET /${'a'.repeat(40_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    'GET /v1/kv HTTP/1.1\r\n\r\n',
    'GET http://localhost/v1/kv HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
    'PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'GET /v1/client HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    'GET /v1/client HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  ]) {
    const wire = new Wire(lab.port)
    wire.send(garbage)
    await wire.shows(/^HTTP\/1.1 4\d\d /)
    wire.socket.destroy()
  }
  for (let round = 0; round < 50; round++) {
    const wire = new Wire(lab.port)
    wire.socket.write(randomBytes(200))
    wire.send('\r\n\r\n')
    await eventually('an answer or the end', () => wire.closed || wire.text !== '')
    wire.socket.destroy()
  }
  await alive(lab)
})

hostile('random and mutated frames', async () => {
  const lab = await openLab()
  const query = encodeKvQuery({ type: 'get', key: bytes('a') })
  const good = [0, 0, 0, 10 + query.length, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, ...query]
  for (let round = 0; round < 100; round++) {
    const client = await new TestClient(lab).open()
    const frame = round % 2 === 0 ? new Uint8Array(randomBytes(round)) : new Uint8Array(good)
    if (round % 2 === 1) frame[round % frame.length] = randomBytes(1)[0] as number
    client.socket.send(frame)
    await eventually('an answer or the end', () => {
      const answered = client.answers.some((answer) => answer.type !== 'leader')
      return answered || client.closeCode !== null || frame.length === 0
    })
    client.socket.terminate()
  }
  await alive(lab)
})

hostile('a huge body is not taken in', async () => {
  const lab = await openLab()
  const wire = new Wire(lab.port)
  wire.send('PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n')
  const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`
  let sent = 0
  while (!wire.closed && sent < 512) {
    sent++
    if (wire.socket.write(chunk)) continue
    await eventually('room, or the end', () => wire.closed || !wire.socket.writableNeedDrain)
  }
  await wire.ended()
  assert.match(wire.text, /^HTTP\/1.1 413 /)
  assert.is(lab.service.index, 0)
  await alive(lab)
})

hostile('whoever sends on after an early answer is not reset before it can be read', async () => {
  const lab = await openLab({ limits: { lingerMs: 5000 } })
  const wire = new Wire(lab.port)
  wire.send('PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n')
  await wire.shows(/^HTTP\/1.1 413 [\s\S]*too-large/)
  const failure = await new Promise<unknown>((resolve) => {
    wire.socket.write('x'.repeat(3_000_000), (error) => resolve(error ?? null))
  })
  assert.is(failure, null)
  await wire.ended()
})

hostile('more clients than the limit are told so, and peers still get in', async () => {
  let peers = 0
  const lab = await openLab({
    limits: { clientsMax: 5, sparesMax: 3 },
    onPeerUpgrade: (_request, socket: Duplex) => {
      peers++
      socket.destroy()
    },
  })
  const clients = await Promise.all(Array.from({ length: 5 }, () => new TestClient(lab).open()))
  assert.equal(
    clients.map((client) => client.refused),
    [null, null, null, null, null],
  )
  const sixth = await new TestClient(lab).open()
  assert.is(sixth.refused, 429)
  const get = await http(lab, '/v1/kv')
  assert.equal([get.status, get.json.code], [429, 'overloaded'])
  assert.is((await http(lab, '/healthz')).status, 200)
  await new TestClient(lab, { path: '/v1/peer' }).closed()
  assert.is(peers, 1)
  // Beyond the spares a connection is not even read.
  const idle = Array.from({ length: 3 }, () => new Wire(lab.port))
  await eventually('all connections', () => lab.gateway.clientCount === 8)
  const dropped = new Wire(lab.port)
  await dropped.ended()
  for (const wire of idle) wire.socket.destroy()
  clients[0]?.socket.terminate()
  await eventually('room', () => lab.gateway.clientCount === 4)
  await alive(lab)
})

hostile('a slow reader is not answered from the heap', async () => {
  const lab = await openLab({ limits: { queueBytesMax: 1024 * 1024 } })
  const value = 'v'.repeat(500_000)
  await http(lab, '/v1/kv/big', { method: 'PUT', body: value })
  const client = await new TestClient(lab).open()
  const query = encodeKvQuery({ type: 'get', key: bytes('big') })
  const get = { type: 'query' as const, timeoutMs: 0, consistency: 'stale' as const, query }
  const [last] = client.send(...Array.from({ length: 100 }, () => get)).slice(-1)
  await client.answerTo(last as number)
  const kinds = client.answers.filter((answer) => answer.type !== 'leader')
  const results = kinds.filter((answer) => answer.type === 'result').length
  assert.is(kinds.length, 100)
  assert.ok(results >= 1 && results <= 10, `${results} large answers at once`)
  const refusal = await client.errorOf(last as number)
  assert.equal([refusal.code, refusal.maybeApplied], ['overloaded', false])
  // What was refused can be asked for again.
  const [again] = client.send(get)
  assert.is((await client.answerTo(again as number)).type, 'result')
})

hostile('a client that never reads is cut off', async () => {
  const lab = await openLab({ limits: { queueBytesMax: 64 * 1024, silenceMsMax: 50 } })
  const client = await new TestClient(lab).open()
  client.socket.pause()
  await eventually('the cut', () => lab.gateway.clientCount === 0)
  client.socket.terminate()
  await alive(lab)
})

hostile('a client that leaves its answers lying is cut off', async () => {
  const lab = await openLab({ limits: { silenceMsMax: 300 } })
  await http(lab, '/v1/kv/big', { method: 'PUT', body: 'v'.repeat(1_000_000) })
  const client = await new TestClient(lab).open()
  client.socket.pause()
  const query = encodeKvQuery({ type: 'get', key: bytes('big') })
  // More than the kernel holds, less than the limit.
  client.send(
    ...Array.from({ length: 14 }, () => ({
      type: 'query' as const,
      timeoutMs: 0,
      consistency: 'stale' as const,
      query,
    })),
  )
  await eventually('the cut', () => lab.gateway.clientCount === 0)
  client.socket.terminate()
})

hostile('too many requests ahead of their answers', async () => {
  const lab = await openLab({ limits: { pipelinedMax: 4 } })
  lab.service.holding = true
  const wire = new Wire(lab.port)
  wire.send('GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(10))
  await eventually('the first request', () => lab.service.held.length === 1)
  lab.service.release()
  await wire.shows(/ 429 /)
  await wire.ended()
  assert.is(wire.text.match(/ 404 /g)?.length, 4)
  await alive(lab)
})

hostile.run()
