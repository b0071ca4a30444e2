// timeout: 120 s
/** `members`, `leader`, `config` and their refusals: what the command asks for, prints, and ends with. A service stands in. */
import { readdirSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { errorBody } from '../../client/protocol.ts'
import { closeLabs, type Lab, openLab, TOKENS } from '../support/gateway-lab.ts'
import { cleanUp, raft, temporaryDirectory } from './harness.ts'

const cli = suite('commands that change the cluster')
cli.after.each(closeLabs)
cli.after(cleanUp)

const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
const RESULT = {
  configIndex: 17,
  changes: ['n4 (member 4) becomes a voter'],
  dryRun: false,
  voters: [1, 2, 3],
  learners: [4],
}

async function run(lab: Lab, args: readonly string[], token: string = TOKENS.admin) {
  const where = ['--connect', `ws://127.0.0.1:${lab.port}`, '--token', token]
  return raft([...args, ...where], { env })
}

cli('each command asks for its verb and says what was done', async () => {
  const lab = await openLab()
  lab.service.onAdmin = () => RESULT
  for (const [args, name, expected] of [
    [['members', 'add', '3fa9'], 'members.add', { id: '3fa9' }],
    [['members', 'remove', '4'], 'members.remove', { id: '4' }],
    [['members', 'replace', '2', '4'], 'members.replace', { id: '2', with: '4' }],
    [['members', 'replace', '2', '--with', '4'], 'members.replace', { id: '2', with: '4' }],
    [['config', 'set', 'max-voters=7'], 'config.set', { settings: { 'max-voters': '7' } }],
    [['config', 'set', 'maxVoters', '7'], 'config.set', { settings: { 'max-voters': '7' } }],
  ] as const) {
    lab.service.admins.length = 0
    const { code, stdout, stderr } = await run(lab, args)
    assert.is(code, 0, stderr)
    assert.equal(lab.service.admins, [{ name, args: expected }])
    const said = 'n4 (member 4) becomes a voter\nNow 3 voters, 1 stand-by (configuration 17)\n'
    assert.is(stdout, said)
  }
  const times = await run(lab, ['config', 'set', 'electionMs=3s'])
  assert.match(times.stdout, /\nEach node takes election at its next start\.\n$/)
  const dry = ['members', 'promote', '4', '--dry-run', '--if-config', '16', '--json']
  const { stdout } = await run(lab, dry)
  assert.equal(JSON.parse(stdout), RESULT)
  const args = { id: '4', dryRun: true, ifConfig: 16 }
  assert.equal(lab.service.admins.at(-1), { name: 'members.promote', args })
})

cli('leader: who leads, and a transfer waits until another one does', async () => {
  const lab = await openLab()
  const shown = await run(lab, ['leader', '--json'])
  const { leaderUrl } = lab.service.info
  assert.equal(JSON.parse(shown.stdout), { leaderId: 1, leaderUrl, term: 3 })
  lab.service.onAdmin = () => {
    setTimeout(() => lab.service.elect({ leaderId: 2, leaderUrl, term: 4 }), 200)
    return {}
  }
  const moved = await run(lab, ['leader', 'transfer', '2'])
  assert.is(moved.code, 0, moved.stderr)
  assert.match(moved.stdout, /member 2\).*, term 4\n$/)
  assert.equal(lab.service.admins.at(-1), { name: 'leader.transfer', args: { to: '2' } })
  lab.service.onAdmin = () => ({})
  const stuck = await run(lab, ['leader', 'transfer', '--timeout', '300ms'])
  assert.is(stuck.code, 4)
  assert.match(stuck.stderr, /leadership did not move/)
  lab.service.onAdmin = () => {
    lab.service.elect({ leaderId: null, leaderUrl: null, term: 4 })
    return {}
  }
  const lost = await run(lab, ['leader', 'transfer', '--timeout', '300ms'])
  assert.is(lost.code, 4)
  assert.match(lost.stderr, /nobody has taken over in time/)
})

cli('config get prints all settings, or one', async () => {
  const lab = await openLab()
  const config = { configIndex: 9, settings: { maxVoters: 5, replaceAfterMs: 600_000 } }
  lab.service.onAdmin = () => config
  assert.is((await run(lab, ['config', 'get'])).stdout, 'maxVoters = 5\nreplaceAfterMs = 600000\n')
  assert.is((await run(lab, ['config', 'get', 'max-voters'])).stdout, '5\n')
  assert.equal(JSON.parse((await run(lab, ['config', '--json'])).stdout), config)
  const unset = await run(lab, ['config', 'get', 'admit'])
  assert.is(unset.code, 3)
  assert.match(unset.stderr, /admit was never set/)
})

cli('what the leader refuses: its sentence, what to try next, and the exit code', async () => {
  const lab = await openLab()
  for (const [error, code, hint] of [
    [errorBody('not-found', 'there is no member 9'), 3, /raft-p2p members/],
    [errorBody('compare-failed', 'the configuration is 20, not 17'), 3, /try again/],
    [errorBody('bad-request', 'nobody would be left to vote'), 1, /--dry-run/],
    [errorBody('no-leader', 'no node leads the cluster'), 4, /raft-p2p status/],
  ] as const) {
    lab.service.onAdmin = () => {
      throw Object.assign(new Error(error.message), error)
    }
    const ended = await run(lab, ['members', 'remove', '9'])
    assert.is(ended.code, code)
    assert.is(ended.stderr.split('\n')[0], `raft-p2p: ${error.message}`)
    assert.match(ended.stderr, hint)
    const asJson = await run(lab, ['members', 'remove', '9', '--json'])
    assert.is(JSON.parse(asJson.stdout).code, error.code)
  }
  for (const [message, said] of [
    ['no answer in time', 'no answer in time. It may have been applied.'],
    ['late: the write may have been applied', 'late: the write may have been applied'],
  ] as const) {
    lab.service.onAdmin = () => {
      throw Object.assign(new Error(message), errorBody('timeout', message, true))
    }
    const { code, stderr } = await run(lab, ['members', 'remove', '9'])
    assert.is(code, 4)
    assert.is(stderr.split('\n')[0], `raft-p2p: ${said}`)
  }
  const weak = await run(lab, ['members', 'remove', '9'], TOKENS.write)
  assert.is(weak.code, 5)
  assert.match(weak.stderr, /token --role admin/)
})

cli('a setting that cannot be: what is set now, and nothing of who is alive', async () => {
  const lab = await openLab()
  const error = errorBody('bad-request', '--max-voters takes a whole number, not "many"')
  lab.service.onAdmin = () => {
    throw Object.assign(new Error(error.message), error)
  }
  const { code, stderr } = await run(lab, ['config', 'set', 'maxVoters=many'])
  assert.is(code, 1)
  assert.match(stderr, /raft-p2p config get/)
  assert.not.match(stderr, /members/)
})

cli('no hint names a flag that the command does not have', async () => {
  const lab = await openLab()
  const error = errorBody('bad-request', 'nobody else is a voter')
  lab.service.onAdmin = () => {
    throw Object.assign(new Error(error.message), error)
  }
  const { code, stderr } = await run(lab, ['leader', 'transfer'])
  assert.is(code, 1)
  assert.match(stderr, /raft-p2p members/)
  assert.not.match(stderr, /--dry-run/)
})

cli('a backup that has no place, or does not arrive whole, leaves nothing behind', async () => {
  const lab = await openLab()
  const folder = temporaryDirectory()
  const lost = await run(lab, ['snapshot', 'save', `${folder}/none/backup.raft`])
  assert.is(lost.code, 1)
  const text = `raft-p2p: ${folder}/none/backup.raft cannot be written: there is no folder ${folder}/none\n`
  assert.is(lost.stderr, text)
  assert.is(lab.service.backupsOpen, 0, 'nobody was asked')
  // The service that stands in names a checksum that does not fit.
  const torn = await run(lab, ['snapshot', 'save', `${folder}/backup.raft`])
  assert.is(torn.code, 4)
  assert.match(torn.stderr, /did not arrive as it was sent: its checksum/)
  const where = ['--connect', 'ws://127.0.0.1:1', '--token', TOKENS.admin]
  const nobody = await raft(['snapshot', 'save', `${folder}/backup.raft`, ...where], { env })
  assert.is(nobody.code, 4)
  assert.not.match(nobody.stderr, /fetch failed/)
  assert.equal(readdirSync(folder), [])
})

cli('a node that waits for admission says so, and never that there is nobody', async () => {
  const lab = await openLab()
  const { service } = lab
  const status = { ...service.status(), clusterId: 'c'.repeat(32), memberId: null, leaderId: null }
  service.status = () => ({ ...status, role: 'learner' })
  const shown = await run(lab, ['status'])
  assert.match(shown.stdout, /^node {5}n1 \(waits for admission\)/m)
  assert.match(shown.stdout, /^n1 waits for admission: .*members add n1$/m)
  assert.not.match(shown.stdout, 'quorum')
  for (const command of ['members', 'leader']) {
    const { code, stderr } = await run(lab, [command])
    assert.is(code, 4)
    assert.match(stderr, /n1 waits for admission/)
  }
  service.status = () => ({ ...status, memberId: 4, role: 'learner' })
  assert.match((await run(lab, ['status'])).stdout, /^node {5}n1 \(stand-by\)/m)
})

cli('status on any node shows what only the leader knows to be wrong', async () => {
  const [lab, leader] = [await openLab(), await openLab()]
  const since = '2026-01-02T03:04:05.000Z'
  const own = { kind: 'disk-full', detail: 'no room', since }
  const cluster = { kind: 'even-voters', detail: 'start another node', since }
  const leading = leader.service.status()
  leader.service.status = () => ({ ...leading, memberId: 2, alarms: [own, cluster] })
  const following = { ...lab.service.status(), leaderId: 2, alarms: [own] }
  lab.service.status = () => ({ ...following, leaderUrl: `ws://127.0.0.1:${leader.port}` })
  const alarms = async (): Promise<string[]> => {
    const lines = (await run(lab, ['status'])).stdout.trimEnd().split('\n')
    return lines.slice(lines.indexOf('ALARMS') + 1).map((line) => line.split(' ')[0] ?? '')
  }
  assert.equal(await alarms(), ['disk-full', 'even-voters'])
  lab.service.status = () => ({ ...following, leaderUrl: 'ws://127.0.0.1:1' })
  assert.equal(await alarms(), ['disk-full'], 'a leader out of reach is no failure')
})

cli('what cannot be meant is exit 2 and asks nobody', async () => {
  const lab = await openLab()
  for (const args of [
    ['members', 'demote', '4'],
    ['members', 'remove'],
    ['members', 'remove', '1', '2'],
    ['members', 'replace', '1', '2', '3'],
    ['members', 'remove', '1', '--with', '2'],
    ['members', 'remove', '1', '--if-config', 'x'],
    ['leader', 'elect'],
    ['leader', 'transfer', '1', '2'],
    ['config', 'put', 'a=b'],
    ['config', 'set'],
    ['config', 'set', 'max-voters'],
    ['config', 'set', 'listen=1'],
    ['config', 'set', 'max-voters=1', 'maxVoters=2'],
    ['config', 'get', 'listen'],
  ]) {
    const { code, stderr } = await run(lab, args)
    assert.is(code, 2, `${args.join(' ')}: ${stderr}`)
  }
  assert.equal(lab.service.admins, [])
})

cli('leave and stop say that no node runs here', async () => {
  const { code, stdout } = await raft(['leave', '--json'], { env })
  assert.is(code, 1)
  assert.is(JSON.parse(stdout).code, 'no-data')
  const named = temporaryDirectory()
  const { stderr } = await raft(['leave', '--data', named], { env })
  assert.is(stderr, `raft-p2p: there is no running node in ${named}\n`)
})

cli.run()
