/** MEMBERS, LEADER and CONFIG of the shell, where they change something. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { connect } from '../../client/node.ts'
import { errorBody } from '../../client/protocol.ts'
import { memberLines } from '../../node/commands/status.ts'
import { TOKENS } from '../support/gateway-lab.ts'
import { batch, closeShellLabs, openShellLab, type ShellLab } from '../support/shell-lab.ts'

const shell = suite('changes in the shell')
shell.after.each(closeShellLabs)

const RESULT = {
  configIndex: 17,
  changes: ['n4 (member 4) becomes a voter'],
  dryRun: false,
  voters: [1, 2, 3],
  learners: [5],
}

async function adminLab(): Promise<ShellLab & { close(): void }> {
  const lab = await openShellLab()
  lab.service.onAdmin = () => RESULT
  const client = await connect(`ws://127.0.0.1:${lab.port}`, { token: TOKENS.admin })
  return { ...lab, client, close: () => client.close() }
}

shell('each line asks for its verb', async () => {
  const lab = await adminLab()
  for (const [line, name, args] of [
    ['members add 3fa9', 'members.add', { id: '3fa9' }],
    ['MEMBERS REMOVE 4', 'members.remove', { id: '4' }],
    ['.members promote "a name" --dry-run', 'members.promote', { id: 'a name', dryRun: true }],
    ['members replace 2 4', 'members.replace', { id: '2', with: '4' }],
    ['members replace 2', 'members.replace', { id: '2' }],
    ['leader transfer 2', 'leader.transfer', { to: '2' }],
    ['leader transfer', 'leader.transfer', {}],
    ['config max-voters 7', 'config.set', { settings: { 'max-voters': '7' } }],
  ] as const) {
    lab.service.admins.length = 0
    const { err } = await batch(lab, `${line}\n`)
    assert.equal(lab.service.admins, [{ name, args }], `${line}: ${err}`)
  }
  lab.close()
})

shell('who is no voter is listed by the word that changes are told in', async () => {
  const lab = await adminLab()
  const status = lab.service.status()
  const common = { url: null, isLeader: false, matchIndex: 3, lag: 0, rttMs: null } as const
  const one = { ...common, nodeId: 'a'.repeat(64), link: 'direct' } as const
  const members = [
    { ...one, memberId: 1, name: 'n1', role: 'voter', isLeader: true },
    { ...one, memberId: 2, name: 'n2', role: 'voter' },
    { ...one, memberId: 3, name: 'n3', role: 'learner' },
  ] as const
  lab.service.status = () => ({ ...status, members })
  const { out } = await batch(lab, 'members\n')
  const roles = /^(?:leader|voter|stand-by)$/
  const listed = out.split(/\s+/).filter((word) => roles.test(word))
  assert.equal(listed, ['leader', 'voter', 'stand-by'], out)
  assert.equal(
    memberLines({ ...status, members })
      .slice(1)
      .map((line) => line.split(/ +/)[2]),
    listed,
  )
  assert.is(JSON.parse((await batch(lab, 'members\n', { json: true })).out)[2].role, 'learner')
  lab.close()
})

shell('what was done is said, in a sentence or as JSON', async () => {
  const lab = await adminLab()
  const plain = await batch(lab, 'MEMBERS PROMOTE 4\n')
  assert.is(plain.code, 0)
  assert.is(
    plain.out,
    'n4 (member 4) becomes a voter\nSuccess! 3 voters, 1 stand-by (configuration 17)\n',
  )
  assert.equal(JSON.parse((await batch(lab, 'MEMBERS PROMOTE 4\n', { json: true })).out), RESULT)
  lab.service.onAdmin = () => ({ configIndex: 3, settings: { maxVoters: 5, admit: 'auto' } })
  assert.is((await batch(lab, 'config\n')).out, 'maxVoters = 5\nadmit = auto\n')
  lab.close()
})

shell('what cannot be meant is a usage error, and what is refused says so', async () => {
  const lab = await adminLab()
  for (const line of [
    'members demote 4',
    'members add',
    'members remove 1 2',
    'members replace 1 2 3',
    'leader elect',
    'leader transfer 1 2',
    'config max-voters',
    'config a b c',
  ]) {
    const { code, err } = await batch(lab, `${line}\n`)
    assert.is(code, 2, line)
    assert.match(err, /Usage: /, line)
  }
  assert.equal(lab.service.admins, [])
  const error = errorBody('not-found', 'there is no member 9')
  lab.service.onAdmin = () => {
    throw Object.assign(new Error(error.message), error)
  }
  const refused = await batch(lab, 'members remove 9\n')
  assert.is(refused.code, 3)
  assert.match(refused.err, /there is no member 9/)
  const weak = await openShellLab()
  const { code, err } = await batch(weak, 'members remove 9\n')
  assert.is(code, 5, err)
  lab.close()
})

shell.run()
