// timeout: 120 s
/** Small random worlds for the consensus core alone; the whole-node simulator is another matter. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chaos } from '../support/raft-chaos.ts'

const SEEDS = 250
const test = suite('raft chaos')

for (const size of [1, 2, 3, 5]) {
  test(`${size} nodes keep every promise through ${SEEDS} random worlds`, () => {
    const sum = { leaders: 0, committed: 0, crashes: 0, reads: 0, staleAsked: 0 }
    for (let seed = 1; seed <= SEEDS; seed++) {
      const report = chaos({ size, seed: seed * 31 + size, steps: 4000 })
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += report[key]
    }
    console.log(`${size} nodes: ${JSON.stringify(sum)}`)
    // A walk that elects nobody, commits nothing or never meets a deposed leader would prove nothing.
    assert.ok(sum.leaders > SEEDS, 'leaders changed')
    assert.ok(sum.committed > 10 * SEEDS, 'entries were committed')
    assert.ok(sum.crashes > SEEDS && sum.reads > SEEDS, 'nodes crashed and reads were answered')
    assert.ok(size < 3 || sum.staleAsked > SEEDS / 2, 'deposed leaders were asked for reads')
  })
}

test.run()
