/** The privileged verbs: what becomes of their arguments, and of transfers and settings at the leader's desk. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type ChangeReport,
  type ChangeRequest,
  decodeChangeRequest,
  encodeChangeRequest,
} from '../../node/change-request.ts'
import { MemberVerbs } from '../../node/member-verbs.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { errorOf, ReplicaCluster, type ReplicaNode } from '../support/raft-replicas.ts'

const verbs = suite('privileged verbs')

const RECORD = {
  clusterId: '0'.repeat(32),
  foundingSet: [],
  settings: { maxVoters: 5, heartbeatMs: 100, electionMs: 1000 },
  configuration: configurationOf(3),
}

/** Verbs whose requests are answered with what was asked. */
function echoing(): { verbs: MemberVerbs; asked: (ChangeRequest | null)[] } {
  const asked: (ChangeRequest | null)[] = []
  const made = new MemberVerbs({
    request: (request, answer) => {
      asked.push(request.type === 'change' ? decodeChangeRequest(request.body) : null)
      answer({ ok: true, index: 1, body: new TextEncoder().encode('{}') })
    },
    memberId: () => 2,
    config: () => ({ index: 7, record: RECORD }),
  })
  return { verbs: made, asked }
}

async function refusal(work: Promise<unknown> | null): Promise<string> {
  try {
    await work
  } catch (error) {
    const { code, message } = error as Error & { code: string }
    return `${code}: ${message}`
  }
  throw new Error('it was not refused')
}

verbs('each verb becomes a request', async () => {
  const { verbs: made, asked } = echoing()
  for (const [name, args, expected] of [
    ['members.add', { id: '3fa9' }, { verb: 'add', id: '3fa9' }],
    ['members.replace', { id: 2, with: 4 }, { verb: 'replace', id: '2', with: '4' }],
    ['leader.transfer', { to: 3 }, { verb: 'transfer', id: '3' }],
    ['leader.transfer', {}, { verb: 'transfer' }],
    ['leader.transfer', null, { verb: 'transfer' }],
    [
      'config.set',
      { settings: { 'max-voters': '7' }, ifConfig: 7 },
      { verb: 'settings', settings: { maxVoters: 7 }, ifConfig: 7 },
    ],
    ['leave', {}, { verb: 'remove', id: '2', reason: 'leave' }],
  ] as const) {
    await made.run(name, args)
    assert.equal(asked.pop(), expected, name)
  }
  const config = { configIndex: 7, settings: RECORD.settings }
  assert.equal(await made.run('config.get', {}), config)
  assert.is(made.run('stop', {}), null, 'not one of these')
})

verbs('settings are checked where they are asked for', async () => {
  const { verbs: made, asked } = echoing()
  const set = (settings: unknown) => refusal(made.run('config.set', { settings }))
  assert.match(await set({ maxVoters: 0 }), /^bad-request: --max-voters takes/)
  assert.match(await set({ heartbeat: '400ms' }), /at least three heartbeats/)
  assert.match(await set(undefined), /an object of names and values/)
  assert.match(await refusal(made.run('members.add', {})), /^bad-request: these are no arguments/)
  assert.match(await refusal(made.run('leader.transfer', { to: [] })), /no arguments/)
  assert.equal(asked, [])
})

function ask(
  cluster: ReplicaCluster,
  node: ReplicaNode,
  request: ChangeRequest,
): ReturnType<ReplicaCluster['answerOf']> {
  const requestId = 1000 + node.answers.length
  const body = encodeChangeRequest(request)
  node.replica.request(requestId, { type: 'change', body, timeoutMs: 5000 })
  return cluster.answerOf(node, requestId)
}

function reportOf(answer: ReturnType<ReplicaCluster['answerOf']>): ChangeReport {
  if (!answer.ok) throw new Error(answer.error.message)
  return JSON.parse(new TextDecoder().decode(answer.body)) as ChangeReport
}

verbs(
  'leadership is transferred to the one that is named, or to the furthest; a follower passes it on',
  () => {
    const cluster = new ReplicaCluster({ size: 3 })
    const old = cluster.elect()
    const [follower, other] = cluster.followers()
    const wanted = other?.name ?? ''
    const report = reportOf(ask(cluster, follower as ReplicaNode, { verb: 'transfer', id: wanted }))
    assert.match(report.changes[0] ?? '', new RegExp(`leadership goes to .*\\(${wanted}\\)`))
    cluster.tick(5)
    assert.is(cluster.elect().name, wanted)
    assert.match(
      reportOf(ask(cluster, old, { verb: 'transfer' })).changes[0] ?? '',
      /leadership goes to member/,
    )
    cluster.tick(5)
    assert.is.not(cluster.elect().name, wanted)
  },
)

verbs('who cannot lead is not asked to', () => {
  const cluster = new ReplicaCluster({ size: 3 })
  const leader = cluster.elect()
  const refused = (id: string) => errorOf(ask(cluster, leader, { verb: 'transfer', id })).code
  assert.equal(reportOf(ask(cluster, leader, { verb: 'transfer', id: leader.name })).changes, [])
  assert.is(refused('nobody'), 'not-found')
  const dry = reportOf(ask(cluster, leader, { verb: 'transfer', dryRun: true }))
  assert.is(dry.dryRun, true)
  cluster.tick(5)
  assert.is(cluster.elect(), leader)
})

verbs('settings change in one entry, and the answer says what is new', () => {
  const cluster = new ReplicaCluster({ size: 3 })
  const leader = cluster.elect()
  const [follower] = cluster.followers()
  const settings = { maxVoters: 7 }
  const report = reportOf(ask(cluster, follower as ReplicaNode, { verb: 'settings', settings }))
  assert.equal(report.changes, ['maxVoters = 7'])
  assert.equal(leader.replica.committed?.settings, settings)
  assert.is(leader.replica.committedAt?.index, report.configIndex)
  const stale = ask(cluster, leader, { verb: 'settings', settings: { maxVoters: 3 }, ifConfig: 1 })
  assert.is(errorOf(stale).code, 'compare-failed')
})

verbs.run()
