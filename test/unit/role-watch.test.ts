/** What the log says of roles and leaders: each change once, and the leader's memberId as soon as it is known. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Raft } from '../../node/raft/raft.ts'
import type { Member } from '../../node/raft/types.ts'
import type { Outbox } from '../../node/replica-effects.ts'
import { RoleWatch } from '../../node/role-watch.ts'

const watching = suite('role watch')

function lab() {
  const raft = { role: 'follower', leader: null as string | null, term: 1, applied: 0 }
  const log = {
    appliedIndex: 0,
    configurationAt: () =>
      raft.applied === 0
        ? null
        : { index: raft.applied, record: { configuration: { voters: [1], learners: [2] } } },
  }
  const members = new Map<string, number>()
  const said: string[] = []
  const event = (name: string, _level: string, fields: Readonly<Record<string, unknown>>) =>
    said.push(`${name} ${JSON.stringify(fields)}`)
  const watch = new RoleWatch(
    Object.assign(raft, { log }) as unknown as Raft,
    { event } as unknown as Outbox,
    {
      memberOf: (peer) => {
        const memberId = members.get(peer)
        return memberId === undefined ? null : ({ memberId } as Member)
      },
      ledNoMore: () => said.push('led no more'),
      leaderChanged: () => said.push('leader changed'),
    },
  )
  return { raft, members, said, watch }
}

watching('a node that waits for admission names the leader once it knows the members', () => {
  const { raft, members, said, watch } = lab()
  raft.leader = 'peer a'
  watch.note()
  assert.equal(said.splice(0), ['leader changed'], 'nothing is known of it but that it leads')
  members.set('peer a', 1)
  raft.applied = 7
  watch.note()
  assert.equal(said.splice(0), [
    'leader.changed {"leaderId":1}',
    'config.changed {"index":7,"voters":1,"standBys":1}',
  ])
  watch.note()
  assert.equal(said, [])
})

watching('a leader that goes and comes is said twice, a new term of the same one is not', () => {
  const { raft, members, said, watch } = lab()
  members.set('peer a', 1)
  for (const leader of ['peer a', null, 'peer a']) {
    raft.leader = leader
    watch.note()
  }
  raft.term = 2
  watch.note()
  assert.equal(
    said.filter((one) => one.startsWith('leader.changed')),
    [1, null, 1].map((leaderId) => `leader.changed {"leaderId":${leaderId}}`),
  )
  assert.is(said.filter((one) => one === 'leader changed').length, 4)
})

watching.run()
