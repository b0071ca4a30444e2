/**
 * How long a node with a large state takes to restart, and what memory it needs: one real node of the built product, a million keys
 * of 256 bytes (or as told), stopped and started again. `npm run bench:restart` after `npm run build`.
 *
 *   --keys 1000000 --value-bytes 256
 *   --kill      kill -9 in place of a stop: the log behind the last snapshot is longer then
 *   --json      one object instead of lines
 *
 * The DHT is private: nothing leaves this machine. Compared with reading the same number of bytes from the same disk in this run.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { connect } from '../client/node.ts'
import { cleanUp, NodeProcess, temporaryDirectory } from '../test/process/harness.ts'

process.env.RAFT_P2P_DHT = 'private'

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '1000000' },
    'value-bytes': { type: 'string', default: '256' },
    kill: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const keys = Number(values.keys)
const valueBytes = Number(values['value-bytes'])
/** Writes without an answer; far below what a session may have. */
const IN_FLIGHT = 2000
const READY_MS_MAX = 120_000

function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function peakMb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
}

async function fill(url: string): Promise<number> {
  const client = await connect([url.replace(/^http/, 'ws')], { timeoutMs: 60_000 })
  const startedMs = performance.now()
  let next = 0
  const value = new Uint8Array(valueBytes).map((_, at) => at)
  const lane = async (): Promise<void> => {
    while (next < keys) {
      const number = next++
      value.set([number & 255, (number >> 8) & 255], 0)
      await client.put(`key-${String(number).padStart(10, '0')}`, value)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane))
  client.close()
  return performance.now() - startedMs
}

const data = temporaryDirectory()
const args = ['--expect', '1', '--no-lan', '--no-local']
const node = new NodeProcess({ data, args })
const url = await node.ready()
const fillMs = await fill(url)
const filledMb = rssMb(node.pid)
if (values.kill) await node.kill()
else await node.stop()

const files = filesUnder(data)
const readStartMs = performance.now()
let bytesOnDisk = 0
for (const file of files) {
  bytesOnDisk += statSync(file).size
  readFileSync(file)
}
const readMs = performance.now() - readStartMs

const startedMs = performance.now()
const again = new NodeProcess({ data, args })
const againUrl = await again.ready(READY_MS_MAX)
const readyMs = performance.now() - startedMs
const client = await connect([againUrl.replace(/^http/, 'ws')])
const last = await client.get(`key-${String(keys - 1).padStart(10, '0')}`)
if (last === null) throw new Error('a key is missing after the restart')
client.close()
const figures = {
  keys,
  valueBytes,
  writesPerSecond: Math.round((keys / fillMs) * 1000),
  rssFilledMb: Math.round(filledMb),
  mbOnDisk: Math.round(bytesOnDisk / 1e6),
  readFilesMs: Math.round(readMs),
  readyMs: Math.round(readyMs),
  ratioToReading: Number((readyMs / readMs).toFixed(1)),
  rssReadyMb: Math.round(rssMb(again.pid)),
  rssPeakMb: Math.round(peakMb(again.pid)),
}
if (values.json) console.log(JSON.stringify(figures))
else for (const [name, figure] of Object.entries(figures)) console.log(`${name}: ${figure}`)
await again.stop()
await cleanUp()
