/** Members, leader and settings over HTTP: who may, what a request looks like, and what becomes of refusals. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { errorBody } from '../../client/protocol.ts'
import {
  closeLabs,
  type HttpAnswer,
  http,
  type Lab,
  openLab,
  TOKENS,
} from '../support/gateway-lab.ts'

const admin = suite('members, leader and settings over HTTP')
admin.after.each(closeLabs)

const RESULT = {
  configIndex: 17,
  changes: ['member 4 may vote'],
  dryRun: false,
  voters: [1],
  learners: [],
}

function post(
  lab: Lab,
  path: string,
  body: unknown = '',
  token = TOKENS.admin,
): Promise<HttpAnswer> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return call(lab, 'POST', path, text, token)
}

function call(
  lab: Lab,
  method: string,
  path: string,
  body: string,
  token: string,
): Promise<HttpAnswer> {
  return http(lab, path, { method, body, headers: { authorization: `Bearer ${token}` } })
}

async function openAdminLab(): Promise<Lab> {
  const lab = await openLab()
  lab.service.onAdmin = () => RESULT
  return lab
}

admin('each verb reaches the service under its name, with its arguments', async () => {
  const lab = await openAdminLab()
  const change = { id: '4', dryRun: true, ifConfig: 12 }
  for (const [path, body, name, args] of [
    ['/v1/members/add', change, 'members.add', change],
    ['/v1/members/remove', { id: 4 }, 'members.remove', { id: '4' }],
    ['/v1/members/promote', { id: 'a name' }, 'members.promote', { id: 'a name' }],
    ['/v1/members/replace', { id: '4', with: 5 }, 'members.replace', { id: '4', with: '5' }],
    ['/v1/members/replace', { id: '4', with: null }, 'members.replace', { id: '4' }],
    ['/v1/leader/transfer', { to: '2' }, 'leader.transfer', { to: '2' }],
    ['/v1/leader/transfer', '', 'leader.transfer', {}],
    ['/v1/leave', '{}', 'leave', {}],
    ['/v1/leave', '', 'leave', {}],
  ] as const) {
    const answer = await post(lab, path, body)
    assert.is(answer.status, 200, `${path} ${answer.text}`)
    assert.equal(answer.json, RESULT)
    assert.equal(lab.service.admins.pop(), { name, args }, path)
  }
})

admin('only the admin token will do, on loopback too', async () => {
  const lab = await openAdminLab()
  for (const path of ['/v1/members/remove', '/v1/leader/transfer', '/v1/leave']) {
    assert.is((await http(lab, path, { method: 'POST', body: '{"id":"1"}' })).status, 401, path)
    assert.is((await post(lab, path, { id: '1' }, TOKENS.write)).status, 401, path)
  }
  assert.is((await http(lab, '/v1/config', { method: 'PUT', body: '{}' })).status, 401)
  assert.equal(lab.service.admins, [])
})

admin('a malformed request is refused before anybody is asked', async () => {
  const lab = await openAdminLab()
  for (const [path, body, why] of [
    ['/v1/members/add', '', /id is missing/],
    ['/v1/members/add', '[]', /one JSON object/],
    ['/v1/members/add', 'null', /one JSON object/],
    ['/v1/members/add', '{"id":', /not JSON/],
    ['/v1/members/add', '\u00ff{}', /not JSON/],
    ['/v1/members/add', { id: '' }, /id is a member/],
    ['/v1/members/add', { id: 'x'.repeat(129) }, /id is a member/],
    ['/v1/members/add', { id: 1.5 }, /id is a member/],
    ['/v1/members/add', { id: ['1'] }, /id is a member/],
    ['/v1/members/remove', { id: '1', with: '2' }, /"with" is unknown here; this takes id, dryRun/],
    ['/v1/members/remove', { id: '1', dryRun: 'yes' }, /dryRun is true or false/],
    ['/v1/members/remove', { id: '1', ifConfig: 0 }, /ifConfig is the index/],
    ['/v1/members/remove', { id: '1', __proto__x: 1 }, /is unknown here/],
    ['/v1/leave', { id: '1' }, /this takes nothing/],
  ] as const) {
    const answer = await post(lab, path, body)
    assert.equal([answer.status, answer.json.code], [400, 'bad-request'], JSON.stringify(body))
    assert.match(answer.json.detail, why)
  }
  const large = await post(lab, '/v1/members/add', { id: 'x'.repeat(20_000) })
  assert.equal([large.status, large.json.code], [413, 'too-large'])
  assert.is(
    (await http(lab, '/v1/members/add', { headers: { authorization: `Bearer ${TOKENS.admin}` } }))
      .status,
    405,
  )
  assert.is((await post(lab, '/v1/members/demote', { id: '1' })).status, 404)
  assert.equal(lab.service.admins, [])
})

admin('what the leader refuses keeps its code, its status and its doubt', async () => {
  const lab = await openAdminLab()
  for (const [error, status] of [
    [errorBody('not-found', 'there is no member 9'), 404],
    [errorBody('compare-failed', 'the configuration is 20, not 17'), 412],
    [errorBody('no-leader', 'no node leads the cluster'), 503],
    [errorBody('timeout', 'no answer in time', true), 504],
    [errorBody('bad-request', 'the last voter cannot leave'), 400],
  ] as const) {
    lab.service.onAdmin = () => {
      throw Object.assign(new Error(error.message), error)
    }
    const answer = await post(lab, '/v1/members/remove', { id: '9' })
    assert.is(answer.status, status)
    const { code, detail, maybeApplied } = answer.json
    assert.equal([code, detail, maybeApplied], [error.code, error.message, error.maybeApplied])
    assert.is(answer.headers['content-type'], 'application/problem+json')
  }
})

admin(
  'an answer that does not come is a timeout, and a client that goes is no failure',
  async () => {
    const lab = await openLab({ limits: { requestTimeoutMs: 50 } })
    lab.service.onAdmin = () => new Promise(() => {})
    const answer = await post(lab, '/v1/leave')
    assert.equal(
      [answer.status, answer.json.code, answer.json.maybeApplied],
      [504, 'timeout', true],
    )
    const read = await http(lab, '/v1/config')
    assert.equal([read.status, read.json.maybeApplied], [504, false])
    assert.equal(lab.logged, [])
  },
)

admin('settings are read by whoever may see the status, and set by the admin', async () => {
  const lab = await openAdminLab()
  lab.service.onAdmin = () => ({ configIndex: 1, settings: { maxVoters: 5 } })
  const got = await http(lab, '/v1/config')
  assert.equal([got.status, got.json], [200, { configIndex: 1, settings: { maxVoters: 5 } }])
  assert.equal(lab.service.admins.pop(), { name: 'config.get', args: {} })
  const settings = { 'max-voters': 7, replaceAfterMs: '1m' }
  const put = (body: unknown) => call(lab, 'PUT', '/v1/config', JSON.stringify(body), TOKENS.admin)
  assert.is((await put({ settings, ifConfig: 1 })).status, 200)
  assert.equal(lab.service.admins.pop(), { name: 'config.set', args: { settings, ifConfig: 1 } })
  assert.match((await put({})).json.detail, /settings is missing/)
  assert.match((await put({ settings: [1] })).json.detail, /settings is an object/)
  assert.match((await put({ maxVoters: 7 })).json.detail, /this takes settings/)
})

admin.run()
