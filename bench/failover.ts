/**
 * How long clients wait when the leader dies: three real nodes of the built product with default settings, one writer in a loop, and
 * the gap between its last success before the blow and its first one after. `npm run bench:failover` after `npm run build`.
 *
 *   --mode kill|stop|both   SIGKILL, SIGSTOP (continued afterwards), or both in turn (default)
 *   --trials 20             of each
 *   --json                  one object instead of the table
 *   --trace                 what the nodes said during each gap, in ms since the blow
 *
 * The DHT is private: nothing leaves this machine.
 */
import { connect } from '../client/node.ts'
import {
  agreed,
  cleanUp,
  type LogEvent,
  leaderOf,
  type NodeProcess,
  startCluster,
} from '../test/process/harness.ts'

type Mode = 'kill' | 'stop'

interface Figures {
  readonly mode: Mode
  readonly trials: number
  readonly medianMs: number
  readonly p90Ms: number
  readonly maxMs: number
  readonly gapsMs: readonly number[]
}

/** Two changes of leader within ten seconds let the fast path rest; a bench of single deaths keeps them apart. */
const APART_MS = 11_000
const GAP_MS_MAX = 30_000
const TRACED = new Set([
  ...['link.down', 'election.started', 'vote.granted', 'vote.refused', 'role.changed'],
  ...['leader.changed', 'leader.resigned'],
])

process.env.RAFT_P2P_DHT = 'private'

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Writes one key after the other and remembers when each was acknowledged. */
class Writer {
  readonly #put: (key: string, value: string) => Promise<unknown>
  /** Of the last acknowledgement. */
  lastMs = 0
  failures = 0
  #stopped = false
  #acknowledged: () => void = () => {}

  constructor(put: (key: string, value: string) => Promise<unknown>) {
    this.#put = put
  }

  async run(): Promise<void> {
    for (let count = 0; !this.#stopped; count++) {
      try {
        await this.#put(`k${count % 100}`, String(count))
        this.lastMs = performance.now()
        this.#acknowledged()
      } catch {
        this.failures++
        await sleep(1)
      }
    }
  }

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#acknowledged = resolve
    })
  }

  stop(): void {
    this.#stopped = true
  }
}

async function trial(nodes: NodeProcess[], writer: Writer, mode: Mode, trace: boolean) {
  const leader = await leaderOf(nodes)
  await writer.next()
  const seen = new Map(nodes.map((node) => [node, node.running.events.length]))
  // The blow falls at any moment between two writes.
  await sleep(Math.random() * 50)
  const blowWallMs = Date.now()
  leader.running.signal(mode === 'kill' ? 'SIGKILL' : 'SIGSTOP')
  const blowMs = performance.now()
  // What was on its way when the signal was sent may still be acknowledged.
  let before = writer.lastMs
  let gapMs = 0
  while (gapMs === 0) {
    await Promise.race([writer.next(), sleep(GAP_MS_MAX)])
    if (writer.lastMs === before) throw new Error(`no write was acknowledged in ${GAP_MS_MAX} ms`)
    if (writer.lastMs - blowMs > 5) gapMs = writer.lastMs - before
    before = writer.lastMs
  }
  if (trace) {
    await sleep(200)
    for (const node of nodes) show(node, seen.get(node) ?? 0, blowWallMs)
    console.error(`          ${gapMs.toFixed(1)} ms`)
  }
  if (mode === 'stop') leader.running.signal('SIGCONT')
  else {
    await leader.running.exited
    leader.restart()
  }
  await agreed(nodes)
  await sleep(Math.max(0, APART_MS - (performance.now() - blowMs)))
  return gapMs
}

function show(node: NodeProcess, from: number, blowMs: number): void {
  for (const event of node.running.events.slice(from)) {
    if (!TRACED.has(event.event)) continue
    const { time, ...rest } = event as LogEvent & { time: string }
    const {
      event: name,
      node: who,
      clusterId: _,
      level: __,
      ...fields
    } = rest as Record<string, unknown>
    const atMs = String(Date.parse(time) - blowMs).padStart(6)
    console.error(`${atMs}  ${who}  ${name}  ${JSON.stringify(fields)}`)
  }
}

async function measure(mode: Mode, trials: number, trace: boolean): Promise<Figures> {
  const nodes = startCluster(3)
  try {
    await agreed(nodes)
    const urls = await Promise.all(nodes.map((node) => node.url()))
    const client = await connect(urls)
    const writer = new Writer((key, value) => client.put(key, value))
    const running = writer.run()
    await sleep(2000)
    const gapsMs: number[] = []
    for (let i = 0; i < trials; i++) gapsMs.push(await trial(nodes, writer, mode, trace))
    writer.stop()
    await running
    await client.close()
    const sorted = [...gapsMs].sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0
    return { mode, trials, medianMs: at(0.5), p90Ms: at(0.9), maxMs: at(1), gapsMs }
  } finally {
    for (const node of nodes) await node.kill()
    await cleanUp()
  }
}

function option(name: string): string | null {
  const at = process.argv.indexOf(`--${name}`)
  return at === -1 ? null : (process.argv[at + 1] ?? '')
}

const mode = option('mode') ?? 'both'
const trials = Number(option('trials') ?? 20)
const modes: readonly Mode[] =
  mode === 'both' ? ['kill', 'stop'] : [mode === 'stop' ? mode : 'kill']
const figures: Figures[] = []
for (const one of modes) figures.push(await measure(one, trials, process.argv.includes('--trace')))
if (process.argv.includes('--json')) console.log(JSON.stringify({ failover: figures }))
else {
  console.log('leader   trials   median ms   p90 ms   max ms')
  for (const { mode, trials, medianMs, p90Ms, maxMs } of figures) {
    const row = [medianMs, p90Ms, maxMs].map((ms) => ms.toFixed(1).padStart(9)).join('')
    console.log(`${mode.padEnd(9)}${String(trials).padStart(6)}${row}`)
  }
}
