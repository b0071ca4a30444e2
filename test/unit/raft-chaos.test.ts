// timeout: 120 s
/** Thousands of small random worlds for the consensus core alone; the whole-node simulator is another matter. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chaos } from '../support/raft-chaos.ts'

const SEEDS = 300
const test = suite('raft chaos')

for (const size of [1, 2, 3, 5]) {
  test(`${size} nodes keep every promise through ${SEEDS} random worlds`, () => {
    let leaders = 0
    let committed = 0
    let crashes = 0
    let reads = 0
    for (let seed = 1; seed <= SEEDS; seed++) {
      const report = chaos({ size, seed: seed * 31 + size, steps: 4000 })
      leaders += report.leaders
      committed += report.committed
      crashes += report.crashes
      reads += report.reads
    }
    console.log(
      `${size} nodes: ${leaders} leaders, ${committed} entries, ${crashes} crashes, ${reads} reads`,
    )
    // A walk that elects nobody or commits nothing would prove nothing.
    assert.ok(leaders > SEEDS, 'leaders changed')
    assert.ok(committed > 10 * SEEDS, 'entries were committed')
    assert.ok(crashes > SEEDS && reads > SEEDS, 'nodes crashed and reads were answered')
  })
}

test.run()
