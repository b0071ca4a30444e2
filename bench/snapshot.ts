/**
 * What snapshots cost, with the production parts and a real disk: how long the event loop stands still while one of a million keys is taken
 * and written, and what moving it to another process adds to the memory of both. Nothing leaves this machine.
 * `npx tsx bench/snapshot.ts [keys] [value bytes]`.
 */
import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { encodeCommand, encodeKvOperation } from '../client/protocol.ts'
import { AppliedState } from '../node/applied-state.ts'
import { capture } from '../node/capture.ts'
import { LIMITS } from '../node/limits.ts'
import { KvMachine } from '../node/machine/kv.ts'
import type { PeerFrame } from '../node/peer-frame.ts'
import { encodeConfigurationRecord } from '../node/raft/configuration.ts'
import { RaftLog } from '../node/raft/log.ts'
import type { SnapshotOffer } from '../node/raft/snapshots.ts'
import type { Entry } from '../node/raft/types.ts'
import { SnapshotFetching } from '../node/snapshot-fetching.ts'
import { SnapshotSending } from '../node/snapshot-sending.ts'
import { SnapshotTaking } from '../node/snapshot-taking.ts'
import { nodeDisk } from '../node/storage/node-disk.ts'
import { openSnapshots } from '../node/storage/snapshot-folder.ts'
import type { SnapshotInfo } from '../node/storage/snapshots.ts'
import { configurationOf } from '../test/support/raft-cluster.ts'

const CLUSTER = 'c'.repeat(32)
const SESSION = 2
const chunks = { chunkBytes: LIMITS.snapshotChunkBytes, pullsMax: LIMITS.snapshotPullsMax }
const options = { machine: new KvMachine(), hashEveryEntries: 1024, hashesKept: 16 }
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function memoryMb(what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${process.pid}/status`, 'utf8')
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
}

/**
 * The longest turn of the loop from now until it is asked: as the clock says, and in processor time of the whole process, which a busy
 * machine does not disturb (it counts what other threads do meanwhile, so that it is an upper bound).
 */
function watchPauses(): () => string {
  let last = performance.now()
  let used = process.cpuUsage()
  let longestMs = 0
  let longestCpuMs = 0
  let isOver = false
  const turn = (): void => {
    const { user, system } = process.cpuUsage(used)
    const now = performance.now()
    longestMs = Math.max(longestMs, now - last)
    longestCpuMs = Math.max(longestCpuMs, (user + system) / 1000)
    last = now
    used = process.cpuUsage()
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  return () => {
    isOver = true
    return `${longestMs.toFixed(1)} ms, ${longestCpuMs.toFixed(1)} ms of processor time`
  }
}

function command(index: number, key: string, value: Uint8Array): Entry {
  const operation = encodeKvOperation({
    type: 'put',
    key: new TextEncoder().encode(key),
    value,
    condition: { type: 'none' },
  })
  const sequence = index
  const payload = encodeCommand({
    kind: 'operation',
    session: SESSION,
    sequence,
    firstOutstanding: sequence,
    operation,
  })
  return { term: 1, index, kind: 'command', payload }
}

function first(): Entry[] {
  const record = { clusterId: CLUSTER, foundingSet: [], settings: {} }
  const payload = encodeConfigurationRecord({ ...record, configuration: configurationOf(3) })
  const nothing = new Uint8Array(0)
  const open = { kind: 'openSession', session: 0, sequence: 0, firstOutstanding: 0 } as const
  return [
    { term: 1, index: 1, kind: 'configuration', payload },
    {
      term: 1,
      index: SESSION,
      kind: 'command',
      payload: encodeCommand({ ...open, operation: nothing }),
    },
  ]
}

async function give(keys: number, valueBytes: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'rp-snapshot-'))
  const applied = new AppliedState(options)
  const log = new RaftLog({ base: { term: 0, index: 0 }, entries: [], commitIndex: 0 })
  let index = 0
  const apply = (entry: Entry): void => {
    log.append(entry)
    log.commitTo(entry.index)
    applied.apply(entry)
    index = entry.index
    log.takeCommitted(1)
    // The log is not what is measured: its entries go at once.
    if (index % 1000 === 0) {
      log.stabilise([entry])
      log.noteSnapshot(index)
      log.compactTo(index)
    }
  }
  for (const entry of first()) apply(entry)
  for (let i = 0; i < keys; i++) {
    apply(
      command(
        index + 1,
        `key-${i.toString().padStart(9, '0')}`,
        new Uint8Array(valueBytes).fill(i),
      ),
    )
    if (i % 10_000 === 0) await sleep(0)
  }
  globalThis.gc?.()
  console.log(`${keys} keys of ${valueBytes} B: ${memoryMb('VmRSS').toFixed(0)} MB`)

  const storage = openSnapshots({ disk: nodeDisk, directory: join(folder, 'snapshots') })
  const idle = watchPauses()
  await sleep(1000)
  console.log(`longest pause of the loop, idle: ${idle()}`)
  const pauses = watchPauses()
  const began = performance.now()
  const captured = capture(log, applied)
  const capturedMs = performance.now() - began
  if (captured === null) throw new Error('nothing to take')
  let writes = 0
  const writing = setInterval(() => {
    for (let i = 0; i < 20; i++, writes++) {
      apply(
        command(
          index + 1,
          `key-${((writes * 7919) % keys).toString().padStart(9, '0')}`,
          new Uint8Array(valueBytes),
        ),
      )
    }
  }, 1)
  const info = await new Promise<SnapshotInfo>((resolve, reject) => {
    new SnapshotTaking({
      storage,
      clusterId: CLUSTER,
      durableIndex: () => Number.MAX_SAFE_INTEGER,
      taken: resolve,
      failed: reject,
    }).start(captured)
  })
  const seconds = (performance.now() - began) / 1000
  clearInterval(writing)
  const mb = info.sizeBytes / 1e6
  console.log(
    `capture: ${capturedMs.toFixed(1)} ms; written: ${mb.toFixed(0)} MB in ${seconds.toFixed(1)} s, ${writes} writes meanwhile`,
  )
  console.log(`longest pause of the loop, taking: ${pauses()}`)
  await move(storage, info, folder)
  rmSync(folder, { recursive: true, force: true })
}

async function move(
  storage: ReturnType<typeof openSnapshots>,
  info: SnapshotInfo,
  folder: string,
): Promise<void> {
  globalThis.gc?.()
  await sleep(500)
  const before = memoryMb('VmRSS')
  let peak = before
  const watching = setInterval(() => {
    peak = Math.max(peak, memoryMb('VmRSS'))
  }, 20)
  const child = fork(fileURLToPath(import.meta.url), ['--fetch', folder], {
    serialization: 'advanced',
    execArgv: [...process.execArgv],
  })
  const sending = new SnapshotSending({
    storage,
    ...chunks,
    send: (_to, frame) => void child.send(frame),
    idleTicks: 100,
    broken: (_info, error) => console.error(error.message),
  })
  sending.use(info)
  const pauses = watchPauses()
  const began = performance.now()
  await new Promise<void>((resolve) => {
    child.on('message', (frame) => {
      const one = frame as PeerFrame
      if (one.type === 'snapshotPull') sending.onPull('child', one)
      else
        child.send({
          from: 'parent',
          id: { term: info.term, index: info.index },
          sizeBytes: info.sizeBytes,
          checksum: info.checksum,
        })
    })
    child.on('exit', () => resolve())
  })
  clearInterval(watching)
  sending.close()
  console.log(
    `moved in ${((performance.now() - began) / 1000).toFixed(1)} s; sender: ${before.toFixed(0)} MB before, ${peak.toFixed(0)} MB at most`,
  )
  console.log(`longest pause of the sender's loop: ${pauses()}`)
}

async function fetchIt(folder: string): Promise<void> {
  const storage = openSnapshots({ disk: nodeDisk, directory: join(folder, 'fetched') })
  globalThis.gc?.()
  const before = memoryMb('VmRSS')
  const pauses = watchPauses()
  let received = 0
  const began = performance.now()
  const fetching = new SnapshotFetching({
    storage,
    clusterId: CLUSTER,
    ...chunks,
    send: (_to, frame) => void process.send?.(frame),
    restorer: () => {
      received = memoryMb('VmHWM')
      console.log(`received in ${((performance.now() - began) / 1000).toFixed(1)} s`)
      return AppliedState.restorer(options)
    },
    pullAgainTicks: 20,
    patienceTicks: 100,
    retryTicks: 100,
    began: () => {},
    loaded: ({ applied }) => {
      const peak = memoryMb('VmHWM')
      globalThis.gc?.()
      console.log(
        `receiver: ${before.toFixed(0)} MB before, ${received.toFixed(0)} MB at most while receiving, ${peak.toFixed(0)} MB ` +
          `at most while loading, ${memoryMb('VmRSS').toFixed(0)} MB with the state of index ${applied.index}`,
      )
      console.log(`longest pause of the receiver's loop: ${pauses()}`)
      process.exit(0)
    },
    failed: (error) => {
      console.error(error.message)
      process.exit(1)
    },
  })
  process.on('message', (message) => {
    const frame = message as PeerFrame | SnapshotOffer
    if ('type' in frame) {
      if (frame.type === 'snapshotChunk') fetching.onChunk('parent', frame)
    } else fetching.onOffer(frame)
  })
  process.send?.({ type: 'ready' })
  setInterval(() => fetching.tick(), 100)
}

const [what = '1000000', how = '256'] = process.argv.slice(2)
if (what === '--fetch') await fetchIt(how)
else await give(Number(what), Number(how))
