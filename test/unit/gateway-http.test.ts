/** The keys over HTTP: CONTRACT's table, row by row. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { errorBody } from '../../client/protocol.ts'
import { createGateway } from '../../node/gateway.ts'
import { closeLabs, eventually, http, openLab, TOKENS, Wire } from '../support/gateway-lab.ts'

const kv = suite('keys over HTTP')
kv.after.each(closeLabs)

kv('a value is put, read, listed and deleted', async () => {
  const lab = await openLab()
  const put = await http(lab, '/v1/kv/a', { method: 'PUT', body: 'one' })
  assert.is(put.status, 200)
  const { revision } = put.json
  assert.is(put.headers.etag, `"${revision}"`)
  const got = await http(lab, '/v1/kv/a')
  assert.is(got.text, 'one')
  assert.is(got.headers.etag, `"${revision}"`)
  assert.is(got.headers['x-content-type-options'], 'nosniff')
  const head = await http(lab, '/v1/kv/a', { method: 'HEAD' })
  assert.equal([head.status, head.text, head.headers['content-length']], [200, '', '3'])
  const list = await http(lab, '/v1/kv')
  const expected = { items: [{ key: 'a', value: 'one', revision }], revision, more: false }
  assert.equal(list.json, expected)
  const deleted = await http(lab, '/v1/kv/a', { method: 'DELETE' })
  assert.is(deleted.json.deleted, true)
  assert.is((await http(lab, '/v1/kv/a', { method: 'DELETE' })).json.deleted, false)
  const gone = await http(lab, '/v1/kv/a')
  assert.is(gone.status, 404)
  assert.is(gone.headers['content-type'], 'application/problem+json')
  const { type, title, status, code, detail, retriable, maybeApplied } = gone.json
  assert.equal(
    { type, title, status, code, detail, retriable, maybeApplied },
    {
      type: 'urn:raft-p2p:error:not-found',
      title: 'Not found',
      status: 404,
      code: 'not-found',
      detail: 'no such key',
      retriable: false,
      maybeApplied: false,
    },
  )
})

kv('keys and values are any bytes', async () => {
  const lab = await openLab()
  const value = new Uint8Array(256).map((_, i) => i)
  for (const key of [
    '%FF%00%2F',
    '..%2f..',
    'a/b//c',
    '+',
    '%E2%82%AC',
    '%25',
    '%EF%BB%BFx',
    'a;b',
  ]) {
    const put = await http(lab, `/v1/kv/${key}`, { method: 'PUT', body: value })
    assert.is(put.status, 200, key)
    assert.equal(new Uint8Array((await http(lab, `/v1/kv/${key}`)).bytes), value, key)
  }
  const { items } = (await http(lab, '/v1/kv')).json
  const keys = items.map((item: Record<string, string>) => item.key ?? `base64:${item.keyBase64}`)
  // Bytewise order.
  assert.equal(keys, ['%', '+', '../..', 'a/b//c', 'a;b', '\u20ac', '\ufeffx', 'base64:/wAv'])
  assert.ok(items.every((item: object) => 'valueBase64' in item && !('value' in item)))
})

kv('a list is cut by prefix, limit and after', async () => {
  const lab = await openLab()
  for (const key of ['a', 'b%20c', 'b%FF', 'b1', 'b2', 'c']) {
    await http(lab, `/v1/kv/${key}`, { method: 'PUT', body: '1' })
  }
  const keys = async (query: string) => {
    const { json } = await http(lab, `/v1/kv?${query}`)
    return [...json.items.map((item: { key?: string }) => item.key ?? 'bytes'), json.more]
  }
  assert.equal(await keys('prefix=b'), ['b c', 'b1', 'b2', 'bytes', false])
  assert.equal(await keys('prefix=b+c'), ['b c', false])
  assert.equal(await keys('prefix=b&limit=2'), ['b c', 'b1', true])
  assert.equal(await keys('prefix=b&after=b1&limit=1'), ['b2', true])
  assert.equal(await keys('after=b%FF'), ['c', false])
  for (const query of [
    'limit=0',
    'limit=x',
    'limit=-1',
    'limit=1&limit=2',
    'prefix=%F',
    'prefix=%zz',
  ]) {
    assert.is((await http(lab, `/v1/kv?${query}`)).status, 400, query)
  }
})

kv('writes are conditional on the revision', async () => {
  const lab = await openLab()
  const put = (headers: Record<string, string>) =>
    http(lab, '/v1/kv/a', { method: 'PUT', headers, body: 'x' })
  assert.is((await put({ 'if-match': '*' })).status, 412)
  assert.is((await put({ 'if-match': '"7"' })).headers.etag, undefined)
  const created = await put({ 'if-none-match': '*' })
  assert.is(created.status, 200)
  const etag = String(created.headers.etag)
  const again = await put({ 'if-none-match': '*' })
  assert.equal([again.status, again.headers.etag, again.json.code], [412, etag, 'compare-failed'])
  assert.is(again.json.maybeApplied, false)
  const wrong = await put({ 'if-match': '"1"' })
  assert.equal([wrong.status, wrong.headers.etag], [412, etag])
  const right = await put({ 'if-match': etag })
  assert.is(right.status, 200)
  const newer = String(right.headers.etag)
  const stale = await http(lab, '/v1/kv/a', { method: 'DELETE', headers: { 'if-match': etag } })
  assert.equal([stale.status, stale.headers.etag], [412, newer])
  const gone = await http(lab, '/v1/kv/a', { method: 'DELETE', headers: { 'if-match': newer } })
  assert.is(gone.status, 200)
  for (const headers of [
    { 'if-match': 'W/"1"' },
    { 'if-match': '"1", "2"' },
    { 'if-match': 'nonsense' },
    { 'if-none-match': '"1"' },
    { 'if-match': '*', 'if-none-match': '*' },
  ]) {
    assert.is((await put(headers as Record<string, string>)).status, 400, JSON.stringify(headers))
  }
})

kv('reads are conditional too', async () => {
  const lab = await openLab()
  const etag = String((await http(lab, '/v1/kv/a', { method: 'PUT', body: 'x' })).headers.etag)
  const get = (headers: Record<string, string>) => http(lab, '/v1/kv/a', { headers })
  const same = await get({ 'if-none-match': etag })
  assert.equal([same.status, same.text, same.headers.etag], [304, '', etag])
  assert.is((await get({ 'if-none-match': `"1", W/${etag}` })).status, 304)
  assert.is((await get({ 'if-none-match': '"99"' })).status, 200)
  assert.is((await get({ 'if-match': '"99"' })).status, 412)
  assert.is((await get({ 'if-match': etag })).status, 200)
})

kv('a stale read is asked for and says how old it may be', async () => {
  const lab = await openLab()
  await http(lab, '/v1/kv/a', { method: 'PUT', body: 'x' })
  const stale = await http(lab, '/v1/kv/a?consistency=stale')
  assert.equal([stale.status, stale.headers['raft-lag-ms']], [200, '12'])
  assert.is((await http(lab, '/v1/kv/a')).headers['raft-lag-ms'], undefined)
  assert.is((await http(lab, '/v1/kv?consistency=stale')).headers['raft-lag-ms'], '12')
  const asked = lab.service.seen.flatMap((one) => (one.type === 'query' ? [one.consistency] : []))
  assert.equal(asked, ['stale', 'linearizable', 'stale'])
  assert.is((await http(lab, '/v1/kv/a?consistency=eventual')).status, 400)
})

kv('keys and values have limits', async () => {
  const lab = await openLab({ limits: { valueBytesMax: 100_000 } })
  const put = (key: string, body: Uint8Array, headers = {}) =>
    http(lab, `/v1/kv/${key}`, { method: 'PUT', body, headers })
  assert.is((await put('k'.repeat(1024), new Uint8Array(100_000))).status, 200)
  const long = await put('k'.repeat(1025), new Uint8Array(1))
  assert.equal([long.status, long.json.code], [413, 'too-large'])
  const large = await put('a', new Uint8Array(100_001))
  assert.equal([large.status, large.json.code, large.json.maybeApplied], [413, 'too-large', false])
  const chunked = { 'transfer-encoding': 'chunked' }
  assert.is((await put('a', new Uint8Array(300_000), chunked)).status, 413)
  assert.is((await http(lab, '/v1/kv/a')).status, 404)
  assert.is((await put('', new Uint8Array(1))).status, 400)
  assert.is((await http(lab, `/v1/kv?prefix=${'p'.repeat(1025)}`)).status, 413)
})

kv('a client that asks first is spared from sending what would be refused', async () => {
  const lab = await openLab({ limits: { valueBytesMax: 10 } })
  const head =
    'PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: '
  const large = new Wire(lab.port)
  large.send(`${head}11\r\n\r\n`)
  await large.shows(/^HTTP\/1.1 413 /)
  assert.not.match(large.text, /100 Continue/)
  await large.ended()
  const small = new Wire(lab.port)
  small.send(`${head}2\r\n\r\n`)
  await small.shows(/^HTTP\/1.1 100 Continue/)
  small.send('ok')
  await small.shows(/HTTP\/1.1 200 OK/)
  small.socket.destroy()
})

kv('what is not there is 404, and a wrong method 405 with the right ones', async () => {
  const lab = await openLab()
  for (const path of ['/v1', '/v1/kv2', '/v2/kv/a', '//', '/v1/status/', '/v1/%6bv']) {
    const answer = await http(lab, path)
    assert.equal([answer.status, answer.json.code], [404, 'not-found'], path)
  }
  const post = await http(lab, '/v1/kv/a', { method: 'POST' })
  assert.equal([post.status, post.headers.allow], [405, 'GET, HEAD, PUT, DELETE'])
  assert.is((await http(lab, '/v1/status', { method: 'PUT' })).headers.allow, 'GET, HEAD')
  const malformed = await http(lab, '/v1/kv/%zz')
  assert.equal([malformed.status, malformed.json.code], [400, 'bad-request'])
})

kv('health, readiness and status', async () => {
  const lab = await openLab()
  assert.is((await http(lab, '/healthz')).status, 200)
  assert.is((await http(lab, '/readyz')).status, 200)
  assert.is((await http(lab, '/')).status, 200)
  assert.is((await http(lab, '/v1/status')).json.clusterId, lab.service.clusterId)
  lab.service.ready = false
  const waiting = await http(lab, '/readyz')
  assert.equal([waiting.status, waiting.json.code], [503, 'no-leader'])
  assert.is(waiting.json.detail, 'no leader is known')
  lab.service.clusterId = null
  assert.is((await http(lab, '/readyz')).json.code, 'not-founded')
  assert.is((await http(lab, '/healthz')).status, 200)
})

kv('a request that names another cluster is refused', async () => {
  const lab = await openLab()
  const get = (id: string) => http(lab, '/v1/status', { headers: { 'raft-cluster-id': id } })
  assert.is((await get('c'.repeat(32))).status, 200)
  const wrong = await get('d'.repeat(32))
  assert.equal([wrong.status, wrong.json.code], [421, 'wrong-cluster'])
  assert.match(wrong.json.detail, 'c'.repeat(32))
  lab.service.clusterId = null
  assert.is((await get('d'.repeat(32))).json.code, 'not-founded')
})

kv('each code of the service has its status', async () => {
  const lab = await openLab()
  const statuses = {
    'no-leader': 503,
    'not-founded': 503,
    closing: 503,
    timeout: 504,
    overloaded: 429,
    'disk-full': 507,
    quota: 507,
    compacted: 410,
    internal: 500,
  } as const
  for (const [code, status] of Object.entries(statuses)) {
    const known = code as keyof typeof statuses
    lab.service.failure = { code: known, message: 'why', retriable: true, maybeApplied: false }
    const answer = await http(lab, '/v1/kv/a')
    assert.equal([answer.status, answer.json.code, answer.json.detail], [status, code, 'why'])
    const hasRetryAfter = answer.headers['retry-after'] !== undefined
    assert.is(hasRetryAfter, status === 503 || status === 429, code)
  }
})

kv('requests sent ahead are answered, and take effect, in their order', async () => {
  const lab = await openLab()
  const wire = new Wire(lab.port)
  const put = (value: string) =>
    `PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${value.length}\r\n\r\n${value}`
  const get = 'GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n'
  wire.send(put('one') + get + put('three') + get + get.replace('/a ', '/b '))
  await wire.shows(/no such key/)
  const order = ['"revision"', '\r\n\r\none', '"revision"', '\r\n\r\nthree', ' 404 ']
  let at = 0
  for (const part of order) {
    at = wire.text.indexOf(part, at)
    assert.ok(at !== -1, `${JSON.stringify(part)} in its place: ${wire.text}`)
    at += part.length
  }
  wire.socket.destroy()
})

kv('a client that goes is forgotten', async () => {
  const lab = await openLab()
  lab.service.holding = true
  const wire = new Wire(lab.port)
  wire.send('GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await eventually('the request', () => lab.service.held.length === 1)
  wire.socket.destroy()
  await eventually('the cancellation', () => lab.service.cancelled === 1)
})

kv('closing answers what is pending and says whether it may have been applied', async () => {
  const lab = await openLab()
  await http(lab, '/v1/kv/a', { method: 'PUT', body: 'x' })
  lab.service.holding = true
  const read = http(lab, '/v1/kv/a')
  const write = http(lab, '/v1/kv/a', { method: 'PUT', body: 'y' })
  await eventually('both requests', () => lab.service.held.length === 2)
  await lab.gateway.close()
  const [got, put] = await Promise.all([read, write])
  assert.equal([got.status, got.json.code, got.json.maybeApplied], [503, 'closing', false])
  assert.equal([put.status, put.json.code, put.json.maybeApplied], [503, 'closing', true])
  assert.is(lab.service.listeners, 0)
  assert.is(lab.gateway.clientCount, 0)
  const late = await http(lab, '/healthz').catch((error) => error.code)
  assert.is(late, 'ECONNREFUSED')
})

kv(
  'the same request under one Idempotency-Key is written once, another one is refused',
  async () => {
    const lab = await openLab()
    const put = (key: string, name: string, body: string, more: Record<string, string> = {}) =>
      http(lab, `/v1/kv/${key}`, {
        method: 'PUT',
        headers: { 'idempotency-key': name, ...more },
        body,
      })
    const first = await put('a', 'one', 'x')
    assert.equal([first.status, first.json], [200, { revision: 1 }])
    // Somebody else writes; the repeat does not write over it.
    await http(lab, '/v1/kv/a', { method: 'PUT', body: 'other' })
    const again = await put('a', 'one', 'x')
    assert.equal([again.status, again.json, again.headers.etag], [200, { revision: 1 }, '"1"'])
    assert.is((await http(lab, '/v1/kv/a')).text, 'other')
    for (const other of [
      put('b', 'one', 'x'),
      put('a', 'one', 'y'),
      put('a', 'one', 'x', { 'if-match': '"1"' }),
    ]) {
      const refused = await other
      assert.equal(
        [refused.status, refused.json.code, refused.json.maybeApplied],
        [422, 'bad-request', false],
      )
    }
    const removed = await http(lab, '/v1/kv/a', {
      method: 'DELETE',
      headers: { 'idempotency-key': 'one' },
    })
    assert.is(removed.status, 422)
    assert.is((await put('a', 'two', 'x')).status, 200)
  },
)

kv('a condition that failed under an Idempotency-Key fails again', async () => {
  const lab = await openLab()
  const headers = { 'idempotency-key': 'k', 'if-none-match': '*' }
  await http(lab, '/v1/kv/a', { method: 'PUT', body: 'x' })
  const put = () => http(lab, '/v1/kv/a', { method: 'PUT', headers, body: 'y' })
  assert.is((await put()).status, 412)
  await http(lab, '/v1/kv/a', { method: 'DELETE' })
  assert.is((await put()).status, 412)
  const gone = await http(lab, '/v1/kv/a')
  assert.is(gone.status, 404)
})

kv('an Idempotency-Key that is none is refused before anything is written', async () => {
  const lab = await openLab()
  for (const name of ['', 'a b', 'k'.repeat(256), 'caf\u00e9', ['a', 'b']]) {
    const put = await http(lab, '/v1/kv/a', {
      method: 'PUT',
      headers: { 'idempotency-key': name },
      body: 'x',
    })
    assert.equal([put.status, put.json.code], [400, 'bad-request'], JSON.stringify(name))
  }
  assert.is(lab.service.index, 0)
  const longest = { 'idempotency-key': 'k'.repeat(255) }
  assert.is(
    (await http(lab, '/v1/kv/a', { method: 'PUT', headers: longest, body: 'x' })).status,
    200,
  )
})

kv(
  'keys without room, without a leader, or without an answer in time are told as they are',
  async () => {
    const lab = await openLab()
    const put = () =>
      http(lab, '/v1/kv/a', { method: 'PUT', headers: { 'idempotency-key': 'k' }, body: 'x' })
    const { keys } = lab.service
    const { apply } = keys
    keys.apply = () => Uint8Array.of(4)
    const full = await put()
    assert.equal(
      [full.status, full.json.code, full.json.maybeApplied, full.json.retriable],
      [429, 'overloaded', false, true],
    )
    keys.apply = apply
    // Held by this node while log time went on.
    lab.service.holding = true
    const slept = put()
    await eventually('the write', () => lab.service.held.length === 1)
    lab.service.moves = 2
    lab.service.release()
    const { status, json } = await slept
    assert.equal([status, json.code, json.maybeApplied], [504, 'timeout', true])
    lab.service.failure = errorBody('timeout', 'no answer from a quorum in time', true)
    const late = await put()
    assert.equal([late.status, late.json.code, late.json.maybeApplied], [504, 'timeout', true])
  },
)

kv('a port in use is told as it is, and another may be tried', async () => {
  const first = await openLab()
  const second = createGateway({
    service: first.service,
    tokens: TOKENS,
    requireToken: false,
    onPeerUpgrade: () => {},
    log: () => {},
  })
  const taken = { host: '127.0.0.1', port: first.port }
  assert.is(await second.listen(taken).catch((error) => error.code), 'EADDRINUSE')
  const { port } = await second.listen({ host: '127.0.0.1', port: 0 })
  assert.is((await http({ port }, '/healthz')).status, 200)
  await second.close()
})

kv.run()
