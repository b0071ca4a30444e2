/** How often a node asks for votes when the last link to its leader has closed and nobody answers. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import { Raft } from '../../node/raft/raft.ts'
import { Random } from '../../node/raft/random.ts'
import { peerIdOf } from '../../node/raft/types.ts'
import { configurationOf, memberIdentity } from '../support/raft-cluster.ts'

const TICK_MS = 100
const ELECTION_TICKS = 10

/** Rounds within the first election timeout, with wake-ups at the moment that was asked for. */
function rounds(voters: number): number {
  const payload = encodeConfigurationRecord({
    clusterId: 'c'.repeat(32),
    foundingSet: [],
    settings: {},
    configuration: configurationOf(voters),
  })
  const [leader, self] = [peerIdOf(memberIdentity(1)), peerIdOf(memberIdentity(2))]
  const raft = new Raft({
    self,
    tickMs: TICK_MS,
    hardState: { term: 1, vote: null, commit: 1 },
    entries: [{ term: 1, index: 1, kind: 'configuration', payload }],
    electionTicks: ELECTION_TICKS,
    heartbeatTicks: 1,
    random: new Random(1),
    window: { messagesMax: 10, bytesMax: 1e6 },
    appendBytesMax: 1e6,
    saveBytesMax: 1e6,
    uncommittedBytesMax: 1e6,
    applyCountMax: 100,
  })
  raft.step(leader, { type: 'heartbeat', term: 1, commit: 1, readRound: 0 })
  raft.linkClosed(leader)
  let count = 0
  let wakeAt = Number.POSITIVE_INFINITY
  for (let now = 0, tickAt = TICK_MS; now < ELECTION_TICKS * TICK_MS; ) {
    const { save, events, wakeInMs } = raft.ready()
    if (save !== null) raft.saved()
    if (wakeInMs !== null) wakeAt = now + wakeInMs
    count += events.filter(({ type }) => type === 'election.started').length
    if (wakeAt <= tickAt) {
      now = wakeAt
      wakeAt = Number.POSITIVE_INFINITY
      raft.wake()
    } else {
      now = tickAt
      tickAt += TICK_MS
      raft.tick()
    }
  }
  return count
}

const hurry = suite('hurrying when a leader is gone')

hurry('the rest of three asks at once, and again as long as nobody answers', () => {
  const count = rounds(3)
  assert.ok(count >= 10 && count <= 40, `${count} rounds`)
})

hurry('one of two can win nothing, and waits for the election timeout', () => {
  assert.ok(rounds(2) <= 1, `${rounds(2)} rounds`)
})

hurry.run()
