// timeout: 120 s
/** One DHT, three runtimes: a Node, a Bun and a Deno process find one another on loopback. Times are printed only. */
import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Finder, freeUdpPort } from '../support/discovery-orders.ts'
import { cleanUp, eventually, type RuntimeName } from './harness.ts'

const RSS_MB_MAX = 120
const WATCH_MS = 4000
const CLOCK_TICKS_PER_SECOND = 100
const RUNTIMES: readonly RuntimeName[] = ['node', 'bun', 'deno']

const runtimes = suite('discovery on three runtimes')
runtimes.after(cleanUp)

function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND
}

function start(topic: string, bootstrap: string[], dhtPort: number): Finder[] {
  return RUNTIMES.map((runtime, i) => {
    const options = { mode: 'private', bootstrap, dhtPort: i === 0 ? dhtPort : null } as const
    const port = 7100 + i
    const urls = [`ws://127.0.0.1:${port}`]
    const what = { kind: 'dht', options } as const
    return new Finder({ what, topic, seed: i + 1, host: '127.0.0.1', port, urls }, runtime)
  })
}

async function meshed(finders: readonly Finder[]): Promise<void> {
  for (const finder of finders) {
    for (const other of finders) if (other !== finder) await finder.finds(other)
  }
}

runtimes('Node, Bun and Deno find one another', async () => {
  const dhtPort = await freeUdpPort()
  const finders = start('three runtimes', [`127.0.0.1:${dhtPort}`], dhtPort)
  for (const finder of finders) await finder.event('started')
  const startMs = Date.now()
  for (const finder of finders) finder.announce()
  await meshed(finders)
  console.log(`full mesh after ${Date.now() - startMs} ms`)
  for (const finder of finders) await finder.event('swept')

  for (const finder of finders) finder.tell('quiet')
  // A round that was under way when they were told ends first.
  const before = finders.map(({ running }) => cpuSeconds(running.pid))
  const watchMs = Date.now()
  await eventually('the time of watching is over', () => Date.now() - watchMs > WATCH_MS)
  for (const [i, { running }] of finders.entries()) {
    const share = ((cpuSeconds(running.pid) - (before[i] ?? 0)) * 100_000) / (Date.now() - watchMs)
    const rss = rssMb(running.pid)
    console.log(`${RUNTIMES[i]}: ${rss.toFixed(0)} MB, ${share.toFixed(1)} % of a core while quiet`)
    if (RUNTIMES[i] === 'node') assert.ok(rss < RSS_MB_MAX, `${rss.toFixed(0)} MB`)
  }
  for (const finder of finders) assert.equal(await finder.close(), { code: 0, signal: null })
})

runtimes('without the seed each other runtime still ends by itself', async () => {
  const nobody = await freeUdpPort()
  const [node, ...others] = start('nobody there', [`127.0.0.1:${nobody}`], await freeUdpPort())
  assert.ok(node)
  for (const finder of [node, ...others]) {
    await finder.event('started')
    finder.announce()
    await finder.event('swept')
    assert.equal(finder.hints, [])
    assert.equal(await finder.close(), { code: 0, signal: null })
  }
})

runtimes.run()
