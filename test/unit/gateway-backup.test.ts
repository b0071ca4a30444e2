/** `GET /v1/snapshot`: who may have it, all of it in parts, and nothing left open. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { errorBody } from '../../client/protocol.ts'
import { closeLabs, eventually, http, openLab, TOKENS } from '../support/gateway-lab.ts'

const backup = suite('backup over HTTP')
backup.after.each(closeLabs)

const admin = { authorization: `Bearer ${TOKENS.admin}` }

backup('streams every byte, says what it is, and closes the file', async () => {
  const lab = await openLab()
  const bytes = new Uint8Array(3_000_000).map((_, at) => 32 + (at % 90))
  lab.service.backupBytes = bytes
  const got = await http(lab, '/v1/snapshot', { headers: admin })
  assert.is(got.status, 200)
  assert.is(got.headers['content-length'], String(bytes.length))
  assert.is(got.headers['raft-snapshot-sha256'], 'd'.repeat(64))
  assert.is(got.headers['raft-index'], '7')
  assert.ok(got.text === Buffer.from(bytes).toString('latin1'), 'the bytes')
  await eventually('closed', () => lab.service.backupsOpen === 0)
})

backup('needs the admin token, also on loopback', async () => {
  const lab = await openLab()
  assert.is((await http(lab, '/v1/snapshot')).status, 401)
  const writer = { authorization: `Bearer ${TOKENS.write}` }
  assert.is((await http(lab, '/v1/snapshot', { headers: writer })).status, 401)
  assert.is(lab.service.backupsOpen, 0)
})

backup('an error is a problem like any other', async () => {
  const lab = await openLab()
  lab.service.failure = errorBody('no-leader', 'nobody leads')
  const refused = await http(lab, '/v1/snapshot', { headers: admin })
  assert.equal([refused.status, refused.json.code], [503, 'no-leader'])
})

backup('a file that cannot be read to its end is no whole answer', async () => {
  const lab = await openLab()
  lab.service.backupBytes = new Uint8Array(600_000)
  const { makeBackup } = lab.service
  lab.service.makeBackup = () => {
    const made = makeBackup.call(lab.service)
    return {
      ...made,
      read: (offset, length, done) =>
        made.read(offset, length, (bytes) => done(offset > 0 ? null : bytes)),
    }
  }
  let failed = false
  await http(lab, '/v1/snapshot', { headers: admin }).catch(() => {
    failed = true
  })
  assert.ok(failed, 'the connection is cut')
  await eventually('closed', () => lab.service.backupsOpen === 0)
})

backup.run()
