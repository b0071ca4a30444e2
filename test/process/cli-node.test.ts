// timeout: 120 s
/** The commands against a running node: what they print in each form, their exit codes, and how they find it. */
import { createSocket } from 'node:dgram'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CLI, cleanUp, NodeProcess, Running, raft, temporaryDirectory } from './harness.ts'

const ALONE = ['--expect', '1', '--no-lan']
const root = temporaryDirectory()
const env = { RAFT_P2P_DATA_ROOT: root }
const nodes: NodeProcess[] = []

const cli = suite('commands and a node')
cli.after(cleanUp)

async function prints(args: readonly string[], stdout: string, code = 0): Promise<void> {
  const ended = await raft(args, { env })
  assert.is(ended.stdout, stdout, ended.stderr)
  assert.is(ended.code, code)
}

async function json(args: readonly string[], code = 0): Promise<Record<string, unknown>> {
  const ended = await raft([...args, '--json'], { env })
  assert.is(ended.code, code, ended.stdout + ended.stderr)
  assert.is(ended.stderr, '')
  assert.is(ended.stdout.split('\n').length, 2, 'one JSON value on one line')
  return JSON.parse(ended.stdout) as Record<string, unknown>
}

function revisionIn(text: string): number {
  return Number(/\(revision (\d+)\)/.exec(text)?.[1])
}

cli('a node is found without a word when only one topic runs here', async () => {
  const node = new NodeProcess({ topic: 'only one', env, args: ALONE })
  nodes.push(node)
  await node.ready()
  const { code, stdout } = await raft(['put', 'pizza', 'pepperoni', 'cheddar'], { env })
  assert.is(code, 0)
  assert.match(stdout, /^OK pizza = pepperoni cheddar {2}\(revision \d+\)\n$/)
  await prints(['get', 'pizza'], 'pepperoni cheddar')
  await prints(['get', 'pizza', '--stale'], 'pepperoni cheddar')
})

cli('what is absent is exit 3, on stderr or as one JSON value', async () => {
  const { code, stdout, stderr } = await raft(['get', 'nothing'], { env })
  assert.is(code, 3)
  assert.is(stdout, '')
  assert.match(stderr, /no key nothing/)
  assert.is((await json(['get', 'nothing'], 3)).code, 'not-found')
})

cli('cas: by value, by revision, when absent; a failed comparison is exit 3', async () => {
  const first = await raft(['cas', '--absent', 'c', 'one'], { env })
  assert.match(first.stdout, /^OK c = one {2}\(revision \d+\)\n$/)
  assert.is((await raft(['cas', '--absent', 'c', 'two'], { env })).code, 3)
  assert.is((await raft(['cas', 'c', 'two', 'three'], { env })).code, 3)
  const second = await raft(['cas', 'c', 'one', 'two words'], { env })
  assert.is(second.code, 0)
  const revision = String(revisionIn(first.stdout))
  const stale = await json(['cas', '--revision', revision, 'c', 'x'], 3)
  assert.is(stale.code, 'compare-failed')
  const current = String(revisionIn(second.stdout))
  assert.is((await json(['cas', '--revision', current, 'c', 'four'])).value, 'four')
  await prints(['get', 'c'], 'four')
  await prints(['del', 'c'], 'OK 1\n')
  await prints(['del', 'c'], 'OK 0\n')
})

cli(
  'list: bytewise order, a prefix, a limit; values that look like flags and numbers',
  async () => {
    for (const [key, value] of [
      ['l/b', '-5'],
      ['l/a', 'a\tb'],
      ['l/c', ''],
      ['m', '1'],
    ] as const) {
      const { code, stderr } = await raft(['put', '--', key, value], { env })
      assert.is(code, 0, stderr)
    }
    await prints(['list', 'l/'], 'l/a\ta\tb\nl/b\t-5\nl/c\t\n')
    await prints(['list', 'l/', '--limit', '1'], 'l/a\ta\tb\n')
    const page = await json(['list', 'l/', '--limit', '2'])
    assert.is(page.more, true)
    assert.equal(
      (page.items as { key: string; value: string }[]).map(({ key, value }) => [key, value]),
      [
        ['l/a', 'a\tb'],
        ['l/b', '-5'],
      ],
    )
    assert.match((await raft(['put', 'minus', '-5'], { env })).stdout, /^OK minus = -5 /)
  },
)

cli('bytes that are no text: raw into a pipe, base64 in JSON', async () => {
  const url = await (nodes[0] as NodeProcess).url()
  const body = Buffer.from([0xff, 0x00, 0x1b])
  const stored = await fetch(`${url}/v1/kv/raw`, { method: 'PUT', body })
  assert.is(stored.status, 200)
  const item = await json(['get', 'raw'])
  assert.is(item.valueBase64, body.toString('base64'))
  assert.is(item.value, undefined)
  assert.is(item.key, 'raw')
})

cli('on a terminal a value ends in a newline and cannot drive it', async () => {
  const line = `"${process.execPath}" "${CLI}" get raw`
  const terminal = new Running({
    command: ['script', '--quiet', '--return', '--command', line, '/dev/null'],
    env,
  })
  assert.is((await terminal.ended()).code, 0)
  assert.match(terminal.stdout, /\\x00\\x1b\r?\n$/)
  assert.not.match(terminal.stdout, new RegExp(String.fromCharCode(27)))
})

cli('status, members, token, key and invite tell of the one node', async () => {
  const status = await raft(['status'], { env })
  assert.match(status.stdout, /^leader {3}\S+ at ws:/m)
  assert.match(status.stdout, /^quorum {3}1 needed, 1 alive$/m)
  assert.not.match(status.stdout, 'only one', 'the topic is masked')
  const shown = await json(['status'])
  assert.is(shown.role, 'leader')
  await prints(['key'], `${shown.nodeId}\n`)
  await prints(['invite'], `only one.${shown.clusterId}\n`)
  const members = (await json(['members'])) as unknown as { nodeId: string }[]
  assert.equal(
    members.map((member) => member.nodeId),
    [shown.nodeId],
  )
  assert.match((await raft(['token'], { env })).stdout, /^[\w-]{43}\n$/)
})

cli(
  '--topic, --connect and --data all lead to it; a second topic makes a word necessary',
  async () => {
    const url = await (nodes[0] as NodeProcess).url()
    await prints(['get', 'm', '--topic', 'only one'], '1')
    await prints(['get', 'm', '--connect', url.replace('http', 'ws')], '1')
    const [folder = ''] = readdirSync(join(root, 'raft-p2p')).filter((name) => name.length === 16)
    await prints(['get', 'm', '--data', join(root, 'raft-p2p', folder, '1')], '1')
    const data = temporaryDirectory()
    const other = new NodeProcess({ topic: 'another', env, data, args: ALONE })
    nodes.push(other)
    await other.ready()
    const ambiguous = await raft(['get', 'm'], { env })
    assert.is(ambiguous.code, 2)
    assert.match(ambiguous.stderr, /2 topics/)
    assert.is((await raft(['get', 'm', '--topic', 'another'], { env })).code, 3)
    assert.is((await raft(['get', 'm', '--data', data], { env })).code, 3)
  },
)

cli('who must show a token and has none or a wrong one is exit 5', async () => {
  const guarded = new NodeProcess({
    topic: 'guarded',
    data: temporaryDirectory(),
    env: { RAFT_P2P_DATA_ROOT: temporaryDirectory() },
    args: [...ALONE, '--require-token'],
  })
  nodes.push(guarded)
  const url = (await guarded.url()).replace('http', 'ws')
  const where = ['--connect', url]
  const none = { env: { RAFT_P2P_DATA_ROOT: temporaryDirectory() } }
  assert.is((await raft(['get', 'm', ...where], none)).code, 5)
  assert.is((await raft(['get', 'm', ...where, '--token', 'x'.repeat(43)], none)).code, 5)
  const token = await raft(['token', '--role', 'read', '--topic', 'guarded'], none)
  const args = ['get', 'm', ...where, '--token', token.stdout.trim()]
  assert.is((await raft(args, none)).code, 3)
})

cli('settings and leadership of a real node; the last voter cannot leave', async () => {
  const here = ['--topic', 'only one']
  const set = await raft(['config', 'set', 'max-voters=7', 'replace-after=1m', ...here], { env })
  assert.is(set.code, 0, set.stderr)
  assert.match(set.stdout, /^maxVoters = 7\nreplaceAfterMs = 60000\nNow 1 voter, 0 stand-bys/)
  await prints(['config', 'get', 'replace-after', ...here], '60000\n')
  const shown = await json(['config', 'get', ...here])
  assert.is((shown.settings as Record<string, unknown>).maxVoters, 7)
  const stale = ['config', 'set', 'max-voters=5', '--if-config', '1', ...here]
  assert.is((await json(stale, 3)).code, 'compare-failed')
  assert.is((await json(['config', 'set', 'max-voters=0', ...here], 1)).code, 'bad-request')
  assert.is((await json(['leader', ...here])).leaderId, 1)
  assert.is((await json(['leader', 'transfer', ...here], 1)).code, 'bad-request')
  assert.is((await json(['members', 'promote', '9', ...here], 3)).code, 'not-found')
  const leave = await raft(['leave', ...here], { env })
  assert.is(leave.code, 1)
  assert.match(leave.stderr, /nobody would be left to vote/)
  await prints(['get', 'm', ...here], '1')
})

cli('stop ends the node with exit 0 and leaves its data', async () => {
  const [first, second] = nodes as [NodeProcess, NodeProcess]
  const { nodeId } = await first.status()
  const stopped = await raft(['stop', '--topic', 'only one'], { env })
  assert.is(stopped.code, 0, stopped.stderr)
  assert.equal(await first.running.ended(), { code: 0, signal: null })
  assert.is((await raft(['stop', '--topic', 'only one'], { env })).code, 1)
  assert.is((await raft(['stop', '--data', second.options.data ?? ''], { env })).code, 0)
  assert.equal(await second.running.ended(), { code: 0, signal: null })
  first.restart()
  await first.ready()
  assert.is((await first.status()).nodeId, nodeId)
  await prints(['get', 'm'], '1')
})

cli('rejoin waits for nobody: a directory that is in use is refused', async () => {
  const folder = readdirSync(join(root, 'raft-p2p')).find((name) =>
    existsSync(join(root, 'raft-p2p', name, '1', 'topic')),
  )
  const data = join(root, 'raft-p2p', folder ?? '', '1')
  assert.is((await json(['rejoin', '--data', data], 1)).code, 'locked')
  await (nodes[0] as NodeProcess).stop()
  assert.is((await raft(['rejoin', '--topic', 'only one'], { env })).code, 0)
})

cli('wal dump prints every record of a real log', async () => {
  const data = temporaryDirectory()
  const node = new NodeProcess({ topic: 'dump', data, env, args: ALONE })
  await node.ready()
  await raft(['put', 'a', 'b', '--data', data], { env })
  await node.stop()
  const { code, stdout } = await raft(['wal', 'dump', data, '--json'], { env })
  assert.is(code, 0)
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; index?: number })
  assert.is(lines[0]?.type, 'segment')
  const indexes = lines.filter((line) => line.type === 'entry').map((line) => line.index)
  assert.is(indexes[0], 1)
  assert.ok(indexes.length >= 4)
  assert.match(
    (await raft(['wal', 'dump', data], { env })).stdout,
    /^ {4}entry @\d+ .*kind=command/m,
  )
})

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(resolve))
  return port
}

cli(
  'a client on another machine finds the cluster by its topic alone, through the DHT',
  async () => {
    const port = String(await freeUdpPort())
    const bootstrap = `127.0.0.1:${port}`
    const node = new NodeProcess({
      topic: 'far away',
      env: { RAFT_P2P_DATA_ROOT: temporaryDirectory() },
      args: [...ALONE, '--no-local', '--dht-port', port, '--bootstrap', bootstrap],
    })
    await node.ready()
    const elsewhere = {
      RAFT_P2P_DATA_ROOT: temporaryDirectory(),
      RAFT_P2P_BOOTSTRAP: bootstrap,
      RAFT_P2P_NO_LAN: '1',
    }
    const put = await raft(['put', 'k', 'v', '--topic', 'far away'], { env: elsewhere })
    assert.is(put.code, 0, put.stderr)
    const wrong = await raft(['get', 'k', '--topic', 'another word'], { env: elsewhere })
    assert.is(wrong.code, 4)
    assert.match(wrong.stderr, /no node of that topic/)
    await node.stop()
  },
)

cli('join --repl: the shell on the node itself, which ends with it', async () => {
  const args = ['join', 'with a shell', ...ALONE, '--repl', '--listen', '127.0.0.1:0']
  const place = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
  const ended = await raft(args, { env: place, input: 'PUT a b c\nget a\n' })
  assert.is(ended.code, 0, ended.stderr)
  assert.match(ended.stdout, /Success! Set "a" to: "b c"\nb c/)
  assert.match(ended.stderr, /"event":"node.stopped"/)
})

cli('SIGINT ends a node with exit 0, also while it waits for others', async () => {
  const args = ['--no-lan', '--no-local']
  const node = new NodeProcess({ topic: 'signals', data: temporaryDirectory(), env, args })
  await node.running.waitForEvent('cluster.waiting')
  node.running.signal('SIGINT')
  assert.equal(await node.running.ended(), { code: 0, signal: null })
})

cli.run()
