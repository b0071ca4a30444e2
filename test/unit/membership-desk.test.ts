/** What the leader's desk for changes tells whoever asked for one, when the leadership ends at the wrong moment. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ChangeAnswer } from '../../node/change-request.ts'
import { MembershipDesk } from '../../node/membership.ts'
import type { Raft } from '../../node/raft/raft.ts'
import { type ConfigurationRecord, peerIdOf } from '../../node/raft/types.ts'
import { bytesOf, configurationOf } from '../support/raft-cluster.ts'

const desk = suite('the desk for changes of the members')

function recordOf(learners: number): ConfigurationRecord {
  const configuration = configurationOf(3, learners)
  return { clusterId: 'c'.repeat(32), foundingSet: [], settings: {}, configuration }
}

/** A desk whose core has been asked for a change under the ticket, and what the asker was told. */
function asked(role: 'leader' | 'follower', commitIndex: number) {
  const tickets: number[] = []
  const answers: ChangeAnswer[] = []
  let committed = { index: 1, record: recordOf(1) }
  const raft = {
    role,
    log: { configuration: committed, commitIndex },
    tracker: { configuration: committed.record.configuration },
    changeConfiguration: (ticket: number) => tickets.push(ticket),
  }
  const one = new MembershipDesk<string>({
    raft: raft as unknown as Raft,
    committed: () => committed,
    answer: (_, answer) => answers.push(answer),
    unfit: () => new Set(),
    giveBack: () => assert.unreachable('it was begun'),
  })
  one.request('asker', bytesOf(JSON.stringify({ verb: 'promote', id: '4' })))
  const [ticket] = tickets
  if (ticket === undefined) throw new Error('nothing was asked for')
  const appliedAt = (index: number): void => {
    committed = { index, record: recordOf(1) }
    one.applied()
  }
  return { one, ticket, answers, appliedAt }
}

const APPENDED = { ok: true, id: { term: 2, index: 50 } } as const

desk(
  'an entry that was appended in the turn in which the leadership ended may come to nothing',
  () => {
    const { one, ticket, answers, appliedAt } = asked('follower', 49)
    one.ledNoMore()
    one.outcome({ ticket, result: APPENDED })
    // Another leader has put another configuration in its place.
    appliedAt(60)
    const [answer] = answers
    assert.is(answers.length, 1)
    assert.ok(answer !== undefined && !answer.ok && answer.error.code === 'timeout')
  },
)

desk('what is committed is done, though the leader has left by it', () => {
  const { one, ticket, answers, appliedAt } = asked('follower', 50)
  one.ledNoMore()
  one.outcome({ ticket, result: APPENDED })
  appliedAt(50)
  assert.equal(
    answers.map(({ ok }) => ok),
    [true],
  )
})

desk('a leader answers when the change is committed', () => {
  const { one, ticket, answers, appliedAt } = asked('leader', 49)
  one.outcome({ ticket, result: APPENDED })
  appliedAt(49)
  assert.is(answers.length, 0)
  appliedAt(50)
  assert.equal(
    answers.map(({ ok }) => ok),
    [true],
  )
})

desk('a crowd that waits for admission is bounded, and whoever goes makes room', () => {
  const { one } = asked('leader', 49)
  const newcomer = (i: number) => {
    const nodeKey = i.toString(16).padStart(64, 'a')
    return { nodeKey, storageId: i.toString(16).padStart(32, '0'), name: `m${i}`, urls: [] }
  }
  for (let i = 0; i < 1000; i++) one.applicantUp(newcomer(i), i)
  const waiting = one.applicants.length
  assert.ok(waiting >= 64 && waiting < 256, `${waiting} wait`)
  // Whoever is known already may come with news.
  one.applicantUp({ ...newcomer(0), name: 'new' }, 2000)
  assert.equal([one.applicants[0]?.name, one.applicants[0]?.sinceTick], ['new', 0])
  one.applicantDown(peerIdOf(newcomer(0)))
  one.applicantUp(newcomer(999), 2000)
  assert.is(one.applicants.length, waiting)
  assert.is(one.applicants.at(-1)?.name, 'm999')
})

desk.run()
