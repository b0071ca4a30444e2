// timeout: 90 s
/** What a node costs while nothing happens. Bounds on memory and on what is loaded; times are printed, never asserted. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  CLI,
  cleanUp,
  eventually,
  NodeProcess,
  Running,
  runtimeCommand,
  startCluster,
  temporaryDirectory,
} from './harness.ts'

const RSS_MB_MAX = 120
const WATCH_MS = 3000
const CLOCK_TICKS_PER_SECOND = 100

const idle = suite('idle')
idle.after(cleanUp)

/** Prints, when the process ends, every CommonJS module it loaded: the native packages and all of hyperswarm are. */
const SPY = `data:text/javascript,${encodeURIComponent(
  "import { createRequire } from 'node:module';" +
    "const { cache } = createRequire('file:///spy.js');" +
    "process.on('exit', () => process._rawDebug('LOADED ' + Object.keys(cache).join(' ')))",
)}`
const HEAVY = /node_modules\/(hyperswarm|hyperdht|dht-rpc|sodium-native|udx-native)\//

idle('--help loads nothing of the network', async () => {
  const spied = [process.execPath, '--import', SPY, CLI]
  for (const args of [['--help'], ['join', '--help']]) {
    const help = new Running({ command: [...spied, ...args] })
    assert.is((await help.ended()).code, 0)
    assert.match(help.stdout, /join/)
    assert.match(help.stderr, /^LOADED/m)
    assert.not.match(help.stderr, HEAVY)
  }
  // The spy sees them where they are used.
  const data = temporaryDirectory()
  const join = ['join', 'demo', '--log', 'json', '--listen', '127.0.0.1:0', '--data', data]
  const node = new Running({ command: [...spied, ...join] })
  await node.waitForEvent('node.listening')
  await node.stop()
  assert.match(node.stderr, HEAVY)
})

function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND
}

idle(`three idle nodes stay below ${RSS_MB_MAX} MB each`, async () => {
  const nodes = startCluster(3)
  await agreed(nodes)
  const before = nodes.map((node) => cpuSeconds(node.pid))
  const startMs = Date.now()
  await eventually('the time of watching is over', () => Date.now() - startMs > WATCH_MS)
  const seconds = (Date.now() - startMs) / 1000
  for (const [i, node] of nodes.entries()) {
    const share = ((cpuSeconds(node.pid) - (before[i] ?? 0)) / seconds) * 100
    const rss = rssMb(node.pid)
    console.log(`node ${i + 1}: ${rss.toFixed(0)} MB, ${share.toFixed(1)} % of a core`)
    assert.ok(rss < RSS_MB_MAX, `${rss.toFixed(0)} MB`)
  }
  for (const node of nodes) await node.stop()
})

idle('a node started by a test never holds a public bootstrap address', async () => {
  const node = new NodeProcess({ data: temporaryDirectory() })
  await node.running.waitForEvent('node.listening')
  const command = [
    ...runtimeCommand('node'),
    'join',
    'demo',
    '--print-config',
    '--data',
    '/nowhere',
  ]
  const config = JSON.parse(
    execFileSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' }),
  ) as Record<string, unknown>
  assert.is(config.dht, 'private')
  await node.kill()
})

idle.run()
