/**
 * What three idle nodes cost: memory as a ratio to an idle `node`, processor time as a share of one core.
 * `npx tsx bench/idle.ts [seconds]` after `npm run build`. The DHT is private: nothing leaves this machine.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { agreed, cleanUp, startCluster } from '../test/process/harness.ts'

process.env.RAFT_P2P_DHT = 'private'
const seconds = Number(process.argv[2] ?? 20)
const CLOCK_TICKS_PER_SECOND = 100

function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
const nodes = startCluster(3)
await agreed(nodes)
// The first seconds still load modules, compile and collect garbage.
await sleep(40_000)
const before = nodes.map((node) => cpuSeconds(node.pid))
await sleep(seconds * 1000)
const base = rssMb(bare.pid ?? 0)
console.log(`bare node: ${base.toFixed(0)} MB`)
for (const [i, node] of nodes.entries()) {
  const share = ((cpuSeconds(node.pid) - (before[i] ?? 0)) / seconds) * 100
  const rss = rssMb(node.pid)
  const ratio = (rss / base).toFixed(1)
  const status = await node.status()
  console.log(
    `${status.role}: ${rss.toFixed(0)} MB, ${ratio} x bare node; ${share.toFixed(2)} % of one core`,
  )
}
bare.kill()
for (const node of nodes) await node.stop()
await cleanUp()
