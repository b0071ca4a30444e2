// timeout: 120 s
/** What goes wrong is said clearly, with the exit code that CONTRACT promises, and nothing is lost by it. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import WebSocket from 'ws'
import {
  cleanUp,
  DEADLINE_MS,
  eventually,
  get,
  http,
  NodeProcess,
  put,
  QUICK_ELECTIONS,
  raft,
  temporaryDirectory,
} from './harness.ts'

const failures = suite('failures')
failures.after(cleanUp)

const SINGLE = ['--expect', '1', '--no-lan', '--no-local', ...QUICK_ELECTIONS]

function single(data: string, more: readonly string[] = []): NodeProcess {
  return new NodeProcess({ data, args: [...SINGLE, ...more] })
}

let sound: NodeProcess | null = null

/** A node that tests may disturb in every way that it must live through. */
async function soundNode(): Promise<NodeProcess> {
  sound ??= single(temporaryDirectory())
  await sound.ready()
  return sound
}

/** A refused start is one JSON object with a stable `code`, exit code 1, and no stack trace. */
async function refusedStart(args: readonly string[], code: string): Promise<string> {
  const { code: exit, stdout, stderr } = await raft(['join', 'demo', '--json', ...args])
  const output = stdout + stderr
  assert.is(exit, 1, output)
  const objects = output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { code?: string })
  assert.ok(
    objects.some((object) => object.code === code),
    `a line with code ${code}:\n${output}`,
  )
  assert.not.match(output, /^\s+at .*:\d+:\d+\)?$/m, 'no stack trace')
  return output
}

failures('a bad flag is exit 2, and names the flag', async () => {
  const { code, stderr } = await raft(['join', 'demo', '--no-such-flag'])
  assert.is(code, 2)
  assert.match(stderr, /--no-such-flag/)
  assert.is((await raft(['no-such-command'])).code, 2)
  assert.is((await raft(['join', 'demo', '--election', 'soon'])).code, 2)
})

failures('a generated topic with a typing error is exit 2', async () => {
  const { code, stdout } = await raft(['topic'])
  assert.is(code, 0)
  const topic = stdout.trim()
  assert.match(topic, /^rp1/)
  const last = topic.at(-1) === 'y' ? 'b' : 'y'
  const { code: wrong, stderr } = await raft(['join', topic.slice(0, -1) + last])
  assert.is(wrong, 2, stderr)
})

failures('no leader to be found is exit 4', async () => {
  const args = ['get', 'key', '--connect', 'ws://127.0.0.1:9', '--timeout', '1s']
  const { code, stderr } = await raft(args)
  assert.is(code, 4, stderr)
})

failures('an explicit port that is in use is exit 1 `port-in-use`', async () => {
  const squatter = createServer()
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve))
  const address = squatter.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const data = temporaryDirectory()
  try {
    await refusedStart([...SINGLE, '--data', data, '--listen', `127.0.0.1:${port}`], 'port-in-use')
  } finally {
    squatter.close()
  }
})

failures('a directory that a live node holds is exit 1 `locked`; its node lives on', async () => {
  const data = temporaryDirectory()
  const node = single(data)
  const url = await node.ready()
  await refusedStart([...SINGLE, '--data', data, '--listen', '127.0.0.1:0'], 'locked')
  assert.is((await put(url, 'a', '1')).status, 200)
  await node.kill()
  // After kill -9 nothing stale is in the way.
  node.restart()
  assert.is(await get(await node.ready(), 'a'), '1')
  await node.stop()
})

/** The log's segment that holds the most. */
function largestSegment(data: string): string {
  const files = readdirSync(data, { recursive: true, encoding: 'utf8' })
    .map((path) => join(data, path))
    .filter((path) => /\.(log|wal|seg|segment)$|wal/.test(path) && statSync(path).isFile())
  const sorted = files.sort((a, b) => occupied(b) - occupied(a))
  if (sorted[0] === undefined) throw new Error(`no log segment in ${data}`)
  return sorted[0]
}

/** Segments are allocated ahead with zeroes: what counts is where they end. */
function occupied(path: string): number {
  const bytes = readFileSync(path)
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  return end
}

failures(
  'a log with a flipped byte before its end is exit 1 `corrupt-log`, and is not cut',
  async () => {
    const data = temporaryDirectory()
    const node = single(data)
    const url = await node.ready()
    for (let i = 0; i < 50; i++)
      assert.is((await put(url, `key ${i}`, 'x'.repeat(100))).status, 200)
    await node.kill()
    const segment = largestSegment(data)
    const bytes = readFileSync(segment)
    const at = Math.floor(occupied(segment) / 2)
    bytes[at] = (bytes[at] ?? 0) ^ 0x10
    writeFileSync(segment, bytes)
    const output = await refusedStart(
      [...SINGLE, '--data', data, '--listen', '127.0.0.1:0'],
      'corrupt-log',
    )
    assert.match(output, /rejoin/, 'it names the next command to try')
    assert.ok(readFileSync(segment).equals(bytes), 'the file is as it was')
    bytes[at] = (bytes[at] ?? 0) ^ 0x10
    writeFileSync(segment, bytes)
    node.restart()
    assert.is(await get(await node.ready(), 'key 49'), 'x'.repeat(100))
    await node.stop()
  },
)

failures('an identity whose log is gone is exit 1 `storage-lost`', async () => {
  const data = temporaryDirectory()
  const node = single(data)
  await put(await node.ready(), 'a', '1')
  await node.kill()
  const segment = largestSegment(data)
  execFileSync('rm', ['-f', segment])
  assert.not(existsSync(segment))
  await refusedStart([...SINGLE, '--data', data, '--listen', '127.0.0.1:0'], 'storage-lost')
})

failures('a peer with another topic is turned away', async () => {
  const node = await soundNode()
  const url = await node.ready()
  const stranger = new NodeProcess({
    topic: 'not the same word',
    data: temporaryDirectory(),
    args: ['--no-lan', '--no-local', '--peer', url.replace('http', 'ws')],
  })
  await stranger.running.waitForEvent('cluster.waiting')
  // Until it has tried: it says so itself, or the other end does.
  await eventually(
    () => `the refusal is logged\n${stranger.running.tail()}\n${node.running.tail()}`,
    () => /refused|wrong-topic/.test(stranger.running.stderr + node.running.stderr),
  )
  assert.is((await stranger.status()).clusterId, null)
  assert.is((await node.status()).members.length, 1)
  await stranger.kill()
})

/** Opens the peer endpoint as somebody who speaks no Noise; resolves with when and how it was ended. */
async function garbage(url: string, frames: readonly Buffer[]): Promise<void> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/peer`)
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.terminate()
      reject(new Error('a peer without the key was kept'))
    }, DEADLINE_MS)
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    socket.on('open', () => {
      for (const frame of frames) socket.send(frame)
    })
    socket.on('error', () => {})
    socket.on('close', done)
  })
}

failures('garbage at the peer endpoint is cut off, and the node lives on', async () => {
  const node = await soundNode()
  const url = await node.ready()
  await Promise.all([
    garbage(url, []),
    garbage(url, [Buffer.alloc(0)]),
    garbage(url, [Buffer.from('GET / HTTP/1.1\r\n\r\n')]),
    garbage(url, [Buffer.alloc(3, 0xff), Buffer.alloc(100_000, 0xff)]),
    garbage(
      url,
      Array.from({ length: 50 }, (_, i) => Buffer.alloc(i * 37, i)),
    ),
  ])
  const client = new WebSocket(`${url.replace('http', 'ws')}/v1/client`, 'raft-p2p.v1')
  client.on('error', () => {})
  await new Promise((resolve) => client.once('open', resolve))
  client.send(Buffer.alloc(1000, 0xff))
  await new Promise((resolve) => {
    client.once('close', resolve)
    client.once('message', resolve)
  })
  client.terminate()
  assert.is((await http(url, '/healthz')).status, 200)
  assert.is((await put(url, 'a', '1')).status, 200)
})

failures('a web page cannot drive a local node', async () => {
  const node = await soundNode()
  const url = await node.ready()
  const foreign = { method: 'PUT', body: '1', headers: { Origin: 'http://evil.example' } }
  assert.is((await http(url, '/v1/kv/a', foreign)).status, 403)
  const proxied = await http(url, '/v1/kv/a', { headers: { 'X-Forwarded-For': '192.0.2.1' } })
  assert.is(proxied.status, 401)
})

failures('after all of it that node still ends politely', async () => {
  assert.equal(await (await soundNode()).stop(), { code: 0, signal: null })
})

const disk = suite('a full disk')
disk.after(cleanUp)

function mountSmall(directory: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', directory], { stdio: 'pipe' })
    return true
  } catch {
    return false
  }
}

disk('writes are refused with `disk-full`, reads go on, room brings it back', async () => {
  const data = temporaryDirectory()
  if (!mountSmall(data)) {
    console.log('SKIP tmpfs mount: not permitted here')
    return
  }
  let node: NodeProcess | null = null
  try {
    node = single(data)
    const url = await node.ready()
    assert.is((await put(url, 'before', 'kept')).status, 200)
    const filler = join(data, 'filler')
    fillUp(filler)
    const acknowledged: string[] = []
    let refused: { status: number; text: string } | null = null
    for (let i = 0; refused === null && i < 200; i++) {
      const answer = await put(url, `big ${i}`, 'x'.repeat(500_000))
      if (answer.status === 200) acknowledged.push(`big ${i}`)
      else refused = answer
    }
    assert.is(refused?.status, 507, refused?.text)
    assert.is((JSON.parse(refused?.text ?? '{}') as { code: string }).code, 'disk-full')
    const stale = await http(url, '/v1/kv/before?consistency=stale')
    assert.is(stale.text, 'kept')
    execFileSync('rm', [filler])
    await eventually('writes work again', async () => (await put(url, 'after', '1')).status === 200)
    await node.kill()
    node.restart()
    const again = await node.ready()
    for (const key of ['before', ...acknowledged]) {
      assert.is.not(await get(again, key), null, `${key} was acknowledged`)
    }
    await node.stop()
  } finally {
    await node?.kill()
    execFileSync('umount', ['-l', data])
  }
})

function fillUp(path: string): void {
  const block = Buffer.alloc(64 * 1024)
  try {
    for (;;) writeFileSync(path, block, { flag: 'a' })
  } catch {
    // ENOSPC: it is full now.
  }
}

failures.run()
disk.run()
