/** How old a local read may be: only what was applied makes it younger. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LeaderView } from '../../node/leader-view.ts'
import type { Raft } from '../../node/raft/raft.ts'
import { Staleness } from '../../node/staleness.ts'

const staleness = suite('staleness')

function follower() {
  const raft = {
    role: 'follower',
    leader: 'n1',
    leaderCommit: 0,
    ticksSinceLeader: 0,
    termCommitted: false,
    log: { appliedIndex: 5, commitIndex: 5 },
  }
  const lag = new Staleness(raft as unknown as Raft)
  return { raft, lag }
}

const view = (commitIndex: number): LeaderView => ({ commitIndex, lastIndex: 9, members: [] })

staleness('nobody who never had everything knows how old it is', () => {
  const { lag } = follower()
  lag.note(3, view(6))
  assert.is(lag.lagTicks(3), null)
})

staleness('a follower that has everything is as old as the last word of its leader', () => {
  const { raft, lag } = follower()
  raft.ticksSinceLeader = 2
  lag.note(10, view(5))
  assert.is(lag.lagTicks(10), 2)
  assert.is(lag.lagTicks(14), 6)
})

staleness('heartbeats alone make nobody fresh', () => {
  const { raft, lag } = follower()
  lag.note(10, view(5))
  raft.leaderCommit = 8
  for (let tick = 11; tick < 30; tick++) lag.note(tick, view(5))
  assert.is(lag.lagTicks(30), 20)
  raft.log.appliedIndex = 8
  lag.note(31, view(8))
  assert.is(lag.lagTicks(31), 0)
})

staleness('without a leader it only grows older', () => {
  const { raft, lag } = follower()
  lag.note(10, view(5))
  raft.leader = null as unknown as string
  lag.note(20, null)
  assert.is(lag.lagTicks(20), 10)
})

staleness('a leader is fresh once an entry of its term is applied', () => {
  const { raft, lag } = follower()
  raft.role = 'leader'
  lag.note(4, null)
  assert.is(lag.lagTicks(4), null)
  raft.termCommitted = true
  lag.note(5, null)
  assert.is(lag.lagTicks(5), 0)
})

staleness.run()
