/** What reads leave behind that nobody waits for any more: as good as nothing, however long a node is behind. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LinearizableReads, ROUNDS_MAX, SWEEP_MIN } from '../../node/linearizable-reads.ts'
import { RequestTable } from '../../node/request-table.ts'

function lab() {
  const log = { appliedIndex: 0 }
  const asked: number[] = []
  const refused: number[] = []
  const served: number[] = []
  const requests = new RequestTable()
  const reads = new LinearizableReads({
    raft: { log, readIndex: (id) => asked.push(id) > 0 },
    requests,
    tell: () => {},
    refuse: (asker) => {
      if (asker.type === 'own') refused.push(...asker.requestIds)
    },
    serve: (requestId) => served.push(requestId),
  })
  const request = (requestId: number): void =>
    requests.add({
      requestId,
      request: {
        type: 'query',
        query: new Uint8Array([1]),
        consistency: 'linearizable',
        timeoutMs: 1000,
      },
      deadline: 100,
      dispatched: true,
      notBefore: 0,
      repeats: 0,
    })
  return { log, asked, refused, served, requests, reads, request }
}

const reads = suite('linearizable reads')

reads(
  'a node that applies nothing forgets the reads whose clients have lost their patience',
  () => {
    const { log, served, requests, reads: pending, request } = lab()
    // Ten at a time wait, and each is given up when ten more have come.
    for (let id = 1; id <= 100_000; id++) {
      request(id)
      if (id > 10) requests.remove(id - 10)
      pending.wait(7, [id])
      pending.serveDue()
      assert.ok(pending.count <= SWEEP_MIN, `${pending.count} wait`)
    }
    log.appliedIndex = 7
    pending.serveDue()
    assert.equal(
      served,
      [...Array(10)].map((_, i) => 99_991 + i),
    )
    assert.is(pending.count, 0)
  },
)

reads('those that clients still wait for are kept, however many they are', () => {
  const { log, served, reads: pending, request } = lab()
  const count = 10 * SWEEP_MIN
  for (let id = 1; id <= count; id++) {
    request(id)
    pending.wait(id, [id])
  }
  assert.is(pending.count, count)
  log.appliedIndex = count - 1
  pending.serveDue()
  assert.is(served.length, count - 1)
  assert.is(pending.count, 1)
})

reads(
  'a leader that can confirm nothing refuses what would be too much, and takes more later',
  () => {
    const { asked, refused, served, reads: pending, request } = lab()
    for (let id = 1; id <= ROUNDS_MAX + 5; id++) pending.start({ type: 'own', requestIds: [id] })
    assert.is(pending.count, ROUNDS_MAX)
    assert.equal(
      refused,
      [1, 2, 3, 4, 5].map((more) => ROUNDS_MAX + more),
    )
    for (const id of [...asked]) pending.confirmed(id, 0)
    request(ROUNDS_MAX + 9)
    pending.start({ type: 'own', requestIds: [ROUNDS_MAX + 9] })
    pending.confirmed(asked.at(-1) as number, 0)
    pending.serveDue()
    assert.equal(served, [ROUNDS_MAX + 9])
  },
)

reads.run()
