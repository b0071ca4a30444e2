/** What a leader knows of one follower: the states of Progress, its window, and late or lost answers. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Progress } from '../../node/raft/progress.ts'
import { Random } from '../../node/raft/random.ts'

const WINDOW = { messagesMax: 3, bytesMax: 100 }

function probing(nextIndex = 10): Progress {
  return new Progress({ nextIndex, active: true, window: WINDOW })
}

function send(progress: Progress, lastIndex: number, bytes = 1, count = 1): void {
  progress.sent({ lastIndex, count, bytes, commit: 0 })
}

/** Matched at `matchIndex` and replicating. */
function replicating(matchIndex = 9): Progress {
  const progress = probing(matchIndex + 1)
  send(progress, matchIndex, 0, 0)
  progress.accepted(matchIndex)
  assert.is(progress.state, 'replicate')
  return progress
}

const progress = suite('progress')

progress('a probe sends one Append and then waits', () => {
  const one = probing()
  assert.not.ok(one.paused)
  send(one, 12, 5, 3)
  assert.ok(one.paused)
  assert.is(one.nextIndex, 10, 'nothing is taken for granted')
  one.echoed(20)
  assert.ok(one.paused, 'the answer to a heartbeat that left before the Append')
  one.tick()
  one.tick()
  one.echoed(20)
  assert.not.ok(one.paused, 'a heartbeat was answered: ask again')
})

progress('an accepted probe replicates from behind what matched', () => {
  const one = probing()
  send(one, 12, 5, 3)
  assert.ok(one.accepted(12))
  assert.equal([one.state, one.matchIndex, one.nextIndex, one.paused], ['replicate', 12, 13, false])
})

progress(
  'a rejected probe backs up to where the logs may match, at least by one, never below the match',
  () => {
    for (const [rejected, retry, next] of [
      [9, 5, 6],
      [9, 8, 9],
      [9, 9, 9],
      [9, 50, 9],
      [9, 0, 1],
    ] as const) {
      const one = probing()
      send(one, 12)
      assert.ok(one.rejected(rejected, retry))
      assert.equal([one.nextIndex, one.paused], [next, false])
    }
    const one = probing(10)
    send(one, 9, 0, 0)
    one.accepted(4)
    one.becomeProbe(7)
    assert.ok(one.rejected(6, 0))
    assert.is(one.nextIndex, 5)
  },
)

progress('late rejections say nothing', () => {
  const one = probing()
  send(one, 12)
  assert.not.ok(one.rejected(8, 3), 'not the probe that is out')
  assert.not.ok(one.rejected(11, 3))
  assert.equal([one.nextIndex, one.paused], [10, true])
  const two = replicating(9)
  assert.not.ok(two.rejected(9, 0), 'it matched there since')
  assert.not.ok(two.rejected(3, 0))
  assert.is(two.state, 'replicate')
  send(two, 15, 1, 6)
  assert.ok(two.rejected(15, 12))
  assert.equal([two.state, two.nextIndex, two.inflightCount], ['probe', 10, 0])
})

progress('the window counts messages and bytes, and opens as answers come', () => {
  const one = replicating(9)
  for (const last of [10, 11, 12]) {
    assert.not.ok(one.paused)
    send(one, last)
  }
  assert.ok(one.paused)
  assert.is(one.nextIndex, 13)
  one.accepted(11)
  assert.is(one.inflightCount, 1)
  assert.not.ok(one.paused)
  one.accepted(10)
  assert.equal([one.matchIndex, one.inflightCount], [11, 1], 'an older answer changes nothing')
  one.accepted(12)
  send(one, 13, 99)
  assert.not.ok(one.paused)
  send(one, 14, 1)
  assert.ok(one.paused, 'bytes')
  one.accepted(14)
  assert.not.ok(one.paused)
})

progress('an answer that overtook others frees what it covers', () => {
  const one = replicating(9)
  for (const last of [10, 11, 12]) send(one, last)
  assert.ok(one.accepted(12))
  assert.is(one.inflightCount, 0)
  assert.not.ok(one.accepted(10))
  assert.equal([one.matchIndex, one.nextIndex], [12, 13])
})

progress('an empty Append takes no room in the window', () => {
  const one = replicating(9)
  for (let i = 0; i < 10; i++) send(one, 9, 0, 0)
  assert.is(one.inflightCount, 0)
})

progress(
  'who does not move between two echoes is asked where it stands; who has everything is not',
  () => {
    const one = replicating(9)
    for (const last of [10, 11, 12]) send(one, last)
    one.echoed(12)
    one.echoed(12)
    assert.ok(one.askAgain, 'it stood still')
    send(one, 12, 0, 0)
    assert.not.ok(one.askAgain)
    one.accepted(11)
    one.echoed(12)
    assert.not.ok(one.askAgain, 'it moved')
    one.accepted(12)
    one.echoed(12)
    one.echoed(12)
    assert.not.ok(one.askAgain, 'it has all')
    send(one, 13)
    one.echoed(13)
    assert.not.ok(one.askAgain, 'what it lacks has only just left')
    one.echoed(13)
    assert.ok(one.askAgain)
  },
)

progress('behind the log: one offer at a time, and no Append before it was answered', () => {
  const one = replicating()
  send(one, 12)
  one.becomeSnapshot()
  assert.is(one.state, 'snapshot')
  assert.not.ok(one.paused, 'an offer may leave')
  assert.is(one.inflightCount, 0, 'what was in flight does not count any more')
  one.offered()
  assert.ok(one.paused)
  one.echoed(20)
  assert.not.ok(one.paused, 'an echo without an answer: the offer is repeated')
  assert.is(one.state, 'snapshot')
})

progress('an offer is answered by an acceptance, from where on entries are sent again', () => {
  const one = replicating()
  one.becomeSnapshot()
  one.offered()
  assert.ok(one.accepted(30))
  assert.equal([one.state, one.matchIndex, one.nextIndex], ['replicate', 30, 31])
  assert.not.ok(one.paused)
})

progress('while a snapshot is offered, late answers about Appends change nothing', () => {
  const one = replicating(9)
  one.becomeSnapshot()
  one.offered()
  assert.not.ok(one.rejected(9, 3))
  assert.not.ok(one.accepted(5))
  assert.equal([one.state, one.matchIndex, one.nextIndex], ['snapshot', 9, 10])
})

progress('after a broken link a follower to which a snapshot was offered is asked anew', () => {
  const one = replicating(9)
  one.becomeSnapshot()
  one.offered()
  one.becomeProbe(one.matchIndex + 1)
  assert.equal([one.state, one.nextIndex, one.paused], ['probe', 10, false])
})

progress(
  'under any order of answers: match below next, match never back, the window never negative',
  () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = new Random(seed)
      const one = probing(1 + random.below(20))
      let match = 0
      for (let step = 0; step < 100; step++) {
        const dice = random.below(7)
        if (dice === 0 && !one.paused && one.state !== 'snapshot')
          send(one, one.nextIndex + random.below(3), random.below(60))
        else if (dice === 1) one.accepted(random.below(one.nextIndex))
        else if (dice === 2) one.rejected(random.below(25), random.below(25))
        else if (dice === 3) one.echoed(random.below(25))
        else if (dice === 4) one.becomeSnapshot()
        else if (dice === 5 && one.state === 'snapshot') one.offered()
        else if (one.state !== 'probe') one.becomeProbe(one.matchIndex + 1)
        assert.ok(one.matchIndex >= match, 'matchIndex moved back')
        assert.ok(one.matchIndex < one.nextIndex)
        assert.ok(one.inflightCount <= WINDOW.messagesMax)
        match = one.matchIndex
      }
      // Whatever happened, the answer to everything opens the window again.
      one.accepted(one.nextIndex - 1)
      one.echoed(100)
      assert.not.ok(one.paused)
      assert.is(one.inflightCount, 0)
    }
  },
)

progress.run()
