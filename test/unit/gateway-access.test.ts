/** Who may call: tokens, loopback, and web pages that must not drive a local node. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isLoopbackAddress, isLoopbackHost } from '../../node/gateway/access.ts'
import { closeLabs, http, openLab, TestClient, TOKENS, Wire } from '../support/gateway-lab.ts'

const access = suite('who may call')
access.after.each(closeLabs)

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

access('a local program needs no token, unless told so', async () => {
  const open = await openLab()
  assert.is((await http(open, '/v1/kv')).status, 200)
  const strict = await openLab({ requireToken: true })
  const refused = await http(strict, '/v1/kv')
  assert.equal([refused.status, refused.json.code], [401, 'unauthorised'])
  assert.match(String(refused.headers['www-authenticate']), /^Bearer/)
  assert.is((await http(strict, '/v1/kv', { headers: bearer(TOKENS.read) })).status, 200)
  for (const path of ['/', '/healthz', '/readyz']) {
    assert.is((await http(strict, path)).status, 200, path)
  }
  // A stranger does not learn which paths there are.
  assert.is((await http(strict, '/v1/nothing')).status, 401)
})

access('roles are ordered', async () => {
  const lab = await openLab({ requireToken: true })
  const put = (token: string) =>
    http(lab, '/v1/kv/a', { method: 'PUT', headers: bearer(token), body: 'x' })
  assert.is((await put(TOKENS.read)).status, 401)
  assert.is((await put(TOKENS.write)).status, 200)
  assert.is((await put(TOKENS.admin)).status, 200)
  assert.is((await http(lab, '/v1/kv/a', { headers: bearer(TOKENS.read) })).status, 200)
  // On loopback too, a token that is given counts.
  const open = await openLab()
  const weak = { method: 'DELETE', headers: bearer(TOKENS.read) }
  assert.is((await http(open, '/v1/kv/a', weak)).status, 401)
})

access('a wrong token is refused even where none is needed', async () => {
  const lab = await openLab()
  for (const authorization of [
    'Bearer wrong',
    'Bearer ',
    'Bearer',
    `Basic ${TOKENS.admin}`,
    `Bearer ${TOKENS.admin} x`,
    `Bearer ${TOKENS.admin}x`,
    '',
  ]) {
    const answer = await http(lab, '/v1/kv', { headers: { authorization } })
    assert.is(answer.status, 401, authorization)
  }
  const empty = await openLab({ tokens: { read: '', write: '', admin: '' }, requireToken: true })
  assert.is((await http(empty, '/v1/kv', { headers: { authorization: 'Bearer ' } })).status, 401)
})

access('what a proxy passes on is not local', async () => {
  const lab = await openLab()
  for (const name of ['forwarded', 'x-forwarded-for', 'X-Forwarded-Proto', 'x-real-ip', 'via']) {
    const headers = { [name]: '127.0.0.1' }
    assert.is((await http(lab, '/v1/kv', { headers })).status, 401, name)
    const withToken = { ...headers, ...bearer(TOKENS.write) }
    assert.is((await http(lab, '/v1/kv', { headers: withToken })).status, 200, name)
  }
})

access('a foreign Host is refused: a name that was bound to this address', async () => {
  const lab = await openLab({ hosts: ['db.example'] })
  const status = async (host: string) => (await http(lab, '/v1/kv', { headers: { host } })).status
  for (const host of [
    'localhost',
    'localhost:1',
    'LOCALHOST.',
    '127.0.0.1',
    '127.9.9.9:80',
    '[::1]:7700',
    'db.example:7700',
  ]) {
    assert.is(await status(host), 200, host)
  }
  for (const host of [
    'evil.example',
    '127.0.0.1.evil.example',
    'localhost.evil',
    '10.0.0.1',
    'a@localhost',
    '[::2]',
    '0.0.0.0',
    'localhost/x',
  ]) {
    assert.is(await status(host), 403, host)
  }
  const wire = new Wire(lab.port)
  wire.send('GET /v1/kv HTTP/1.0\r\n\r\n')
  await wire.shows(/^HTTP\/1.1 403 /)
  await wire.ended()
  const answer = await http(lab, '/v1/kv', { headers: { host: 'evil.example' } })
  assert.is(answer.json.code, 'forbidden-origin')
  const headers = { host: 'evil.example', ...bearer(TOKENS.read) }
  assert.is((await http(lab, '/v1/kv', { headers })).status, 200)
})

access('a web page of another origin is refused', async () => {
  const lab = await openLab()
  const { port } = lab
  const call = (origin: string, more = {}) =>
    http(lab, '/v1/kv', { headers: { origin, host: `localhost:${port}`, ...more } })
  for (const origin of [
    `http://localhost:${port}`,
    `http://127.0.0.1:${port}`,
    `http://[::1]:${port}`,
  ]) {
    const answer = await call(origin)
    assert.equal([answer.status, answer.headers['access-control-allow-origin']], [200, origin])
  }
  for (const origin of [
    'http://evil.example',
    `http://evil.example:${port}`,
    `http://localhost:${port === 3000 ? 3001 : 3000}`,
    'http://localhost',
    'null',
    '',
    `file://localhost:${port}`,
    `http://localhost.evil.example:${port}`,
    `http://localhost:${port}/path`,
  ]) {
    const answer = await call(origin)
    assert.equal([answer.status, answer.json.code], [403, 'forbidden-origin'], origin)
    assert.is(answer.headers['access-control-allow-origin'], undefined, origin)
  }
  const put = { method: 'PUT', body: 'x', headers: { origin: 'http://evil.example' } }
  assert.is((await http(lab, '/v1/kv/a', put)).status, 403)
  assert.is(lab.service.index, 0)
})

access('with a token any origin is welcome, and the browser is told so', async () => {
  const lab = await openLab({ requireToken: true })
  const origin = 'https://app.example'
  const preflight = await http(lab, '/v1/kv/a', {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'PUT' },
  })
  assert.is(preflight.status, 204)
  assert.is(preflight.headers['access-control-allow-origin'], origin)
  assert.match(String(preflight.headers['access-control-allow-methods']), /PUT.*DELETE/)
  assert.match(String(preflight.headers['access-control-allow-headers']), /Authorization.*If-Match/)
  const put = await http(lab, '/v1/kv/a', {
    method: 'PUT',
    headers: { origin, ...bearer(TOKENS.write) },
    body: 'x',
  })
  assert.is(put.status, 200)
  assert.is(put.headers['access-control-allow-origin'], origin)
  assert.is(put.headers.vary, 'Origin')
  assert.match(String(put.headers['access-control-expose-headers']), /ETag/)
  // Errors too, or a page could not read why.
  const missing = { headers: { origin, ...bearer(TOKENS.read) } }
  assert.is((await http(lab, '/v1/kv/b', missing)).headers['access-control-allow-origin'], origin)
})

access('a WebSocket is held to the same rules', async () => {
  const lab = await openLab()
  const strict = await openLab({ requireToken: true })
  const upgrade = async (
    where: typeof lab,
    options: ConstructorParameters<typeof TestClient>[1],
  ) => {
    const client = await new TestClient(where, options).open()
    const outcome = client.refused ?? client.socket.protocol
    client.socket.terminate()
    return outcome
  }
  assert.is(await upgrade(lab, {}), 'raft-p2p.v1')
  assert.is(await upgrade(strict, {}), 401)
  assert.is(await upgrade(strict, { headers: bearer(TOKENS.read) }), 'raft-p2p.v1')
  const asProtocol = { protocols: ['raft-p2p.v1', `token.${TOKENS.write}`] }
  assert.is(await upgrade(strict, asProtocol), 'raft-p2p.v1')
  assert.is(await upgrade(strict, { protocols: ['raft-p2p.v1', 'token.wrong'] }), 401)
  const page = { origin: 'http://evil.example' }
  assert.is(await upgrade(lab, { headers: page }), 403)
  assert.is(await upgrade(lab, { headers: page, ...asProtocol }), 'raft-p2p.v1')
  assert.is(await upgrade(lab, { headers: { host: 'evil.example' } }), 403)
  assert.is(await upgrade(lab, { headers: { 'x-forwarded-for': '1.2.3.4' } }), 401)
  assert.is(await upgrade(lab, { headers: { 'raft-cluster-id': 'd'.repeat(32) } }), 421)
  assert.is(await upgrade(lab, { path: '/v1/nothing' }), 404)
})

access('tokens in clear beyond this machine are warned about once', async () => {
  const local = await openLab()
  assert.equal(local.logged, [])
  const wide = await openLab({}, '0.0.0.0')
  assert.is((await http(wide, '/v1/kv', { headers: { host: '0.0.0.0' } })).status, 403)
  assert.equal(
    wide.logged.map(({ level, event }) => [level, event]),
    [['warn', 'gateway.clear-text']],
  )
})

access('loopback is recognised in each of its forms, and nothing else', () => {
  for (const address of ['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1']) {
    assert.ok(isLoopbackAddress(address), address)
  }
  for (const address of [undefined, '', '10.0.0.1', '::', '::ffff:10.0.0.1', '128.0.0.1', '::11']) {
    assert.not.ok(isLoopbackAddress(address), address)
  }
  for (const host of ['localhost', '127.0.0.1', '::1', '[::1]']) assert.ok(isLoopbackHost(host))
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'localhost.example']) {
    assert.not.ok(isLoopbackHost(host))
  }
})

access.run()
