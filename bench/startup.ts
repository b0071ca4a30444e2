/**
 * How long commands take to start, as a ratio to `node -e 0` on the same machine at the same moment, so that figures from
 * different machines can be compared. `npx tsx bench/startup.ts` after `npm run build`.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CLI = fileURLToPath(new URL('../dist/node/cli.js', import.meta.url))
const ROUNDS = 15

function medianMs(args: readonly string[]): number {
  const times = Array.from({ length: ROUNDS }, () => {
    const start = process.hrtime.bigint()
    spawnSync(process.execPath, args, { stdio: 'ignore' })
    return Number(process.hrtime.bigint() - start) / 1e6
  })
  return times.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0
}

const base = medianMs(['-e', '0'])
console.log(`node -e 0: ${base.toFixed(0)} ms (median of ${ROUNDS})`)
for (const args of [['--help'], ['join', '--help'], ['topic'], ['--version']]) {
  const median = medianMs([CLI, ...args])
  const ratio = (median / base).toFixed(1)
  console.log(`raft-p2p ${args.join(' ')}: ${median.toFixed(0)} ms, ${ratio} x node -e 0`)
}
