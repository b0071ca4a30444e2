// timeout: 90 s
/** The command line by itself: what needs no running node, its exit codes, its sentences, and what it must not load. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { VERSION } from '../../node/version.ts'
import { CLI, cleanUp, ROOT, raft, temporaryDirectory } from './harness.ts'

const KEY = /^[0-9a-f]{64}\n$/
const TOPIC = 'rp1t6ib6gppeimmph5wrznui3i7uckuyyaekqo858k8xdfecewt3xijhausoo'

const cli = suite('command line')
cli.after(cleanUp)

type Ended = Awaited<ReturnType<typeof raft>>

function noStack({ stdout, stderr }: Ended): void {
  assert.not.match(stdout + stderr, /^\s+at .*:\d+:\d+\)?$/m, 'a stack trace')
}

cli('--version is the one of package.json', async () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  assert.is(VERSION, manifest.version)
  assert.is((await raft(['--version'])).stdout, `${VERSION}\n`)
})

cli('--help names every command and no other; without arguments it is a usage error', async () => {
  const help = await raft(['--help'])
  assert.is(help.code, 0)
  const names = [...help.stdout.matchAll(/^ {2}([a-z]+)(\|client)?( |$)/gm)].map(
    (match) => match[1],
  )
  assert.equal(names.sort(), [
    ...['cas', 'config', 'del', 'demo', 'get', 'help', 'invite', 'join', 'key', 'leader', 'leave'],
    ...['list', 'members', 'put', 'recover', 'rejoin', 'repl', 'snapshot', 'status', 'stop'],
    ...['token', 'topic', 'wal'],
  ])
  assert.is((await raft([])).code, 2)
})

cli('a wrong command line is exit 2 and suggests what was meant', async () => {
  const flag = await raft(['join', 'x', '--expct', '3'])
  assert.is(flag.code, 2)
  assert.match(flag.stderr, /--expct/)
  assert.match(flag.stderr, /Did you mean --expect/)
  assert.match(flag.stderr, /raft-p2p join --help/)
  assert.match((await raft(['putt', 'a', 'b'])).stderr, /Did you mean put/)
  assert.is((await raft(['get'])).code, 2)
  assert.is((await raft(['get', 'a', 'b'])).code, 2)
  assert.is((await raft(['join'])).code, 2)
  const json = await raft(['get', '--json'])
  assert.is(json.code, 2)
  assert.is(JSON.parse(json.stdout).code, 'usage')
})

cli('values that cannot be meant are exit 2, before anything is dialled', async () => {
  const wrong = [
    ['cas', 'k', 'only-one'],
    ['cas', '--absent', '--revision', '3', 'k', 'v'],
    ['cas', '--revision', 'x', 'k', 'v'],
    ['list', '--limit', '0', '--connect', 'ws://127.0.0.1:9'],
    ['get', 'k', '--timeout', 'soon'],
    ['get', 'k', '--connect', 'ftp://127.0.0.1:9'],
    ['get', 'k', '--topic', 'rp1nonsense'],
    ['token', '--role', 'god', '--topic', TOPIC],
    ['join', 'x', '--listen', 'nowhere'],
    ['join', 'x', '--topic-file', 'y'],
  ]
  for (const args of wrong) {
    const ended = await raft(args)
    assert.is(ended.code, 2, `${args.join(' ')}\n${ended.stderr}`)
    noStack(ended)
  }
})

cli('a stack trace comes only with --log-level debug', async () => {
  const args = ['get', 'k', '--connect', 'ws://127.0.0.1:9', '--timeout', '300ms']
  const quiet = await raft(args)
  assert.is(quiet.code, 4, quiet.stderr)
  noStack(quiet)
  assert.match(quiet.stderr, /^raft-p2p: .*\n {2}\S.*raft-p2p status/)
  assert.match((await raft([...args, '--log-level', 'debug'])).stderr, /^\s+at /m)
  const json = await raft([...args, '--json'])
  assert.is(json.code, 4)
  const failure = JSON.parse(json.stdout)
  assert.is(failure.code, 'unreachable')
  assert.is(failure.maybeApplied, false)
  assert.is(json.stderr, '')
})

cli('without any node: exit 4 and how to start one', async () => {
  const ended = await raft(['status'], { env: { RAFT_P2P_DATA_ROOT: temporaryDirectory() } })
  assert.is(ended.code, 4)
  assert.match(ended.stderr, /raft-p2p join/)
  assert.match(ended.stderr, /--connect/)
})

cli('the environment names the cluster; a flag wins over it', async () => {
  const env = { RAFT_P2P_CONNECT: 'ftp://wrong', RAFT_P2P_DATA_ROOT: temporaryDirectory() }
  assert.is((await raft(['status'], { env })).code, 2)
  const args = ['status', '--connect', 'ws://127.0.0.1:9', '--timeout', '200ms']
  assert.is((await raft(args, { env })).code, 4)
})

cli('topic prints another one each time, and nothing is stored', async () => {
  const root = temporaryDirectory()
  const env = { RAFT_P2P_DATA_ROOT: root }
  const first = await raft(['topic'], { env })
  const second = await raft(['topic', '--json'], { env })
  assert.match(first.stdout, /^rp1[a-z0-9]{58}\n$/)
  assert.is.not(JSON.parse(second.stdout).topic, first.stdout.trim())
  assert.equal(readdirSync(root), [])
})

cli('--print-config: flag over environment over file, the topic masked', async () => {
  const file = join(temporaryDirectory(), 'node.json')
  writeFileSync(file, JSON.stringify({ expect: 5, name: 'from-file', heartbeat: '200ms' }))
  const root = temporaryDirectory()
  const { code, stdout } = await raft(
    ['join', TOPIC, '--config', file, '--expect', '1', '--no-lan', '--print-config'],
    { env: { RAFT_P2P_NAME: 'from-env', RAFT_P2P_EXPECT: '4', RAFT_P2P_DATA_ROOT: root } },
  )
  assert.is(code, 0)
  const config = JSON.parse(stdout)
  assert.is(config.expect, 1)
  assert.is(config.name, 'from-env')
  assert.is(config.heartbeat, 200)
  assert.is(config['no-lan'], true)
  assert.is(config['no-local'], false)
  assert.is(config.dht, 'private', 'the runner asks for it')
  assert.not.match(stdout, TOPIC)
  assert.equal(readdirSync(root), [], 'nothing is stored')
  assert.is((await raft(['join', 'x', '--config', '/nowhere.json', '--print-config'])).code, 2)
})

cli(
  'a flag that this version does not act on is refused or warned about, and not in the help',
  async () => {
    for (const args of [
      ['--machine', 'x.js'],
      ['--machine-exec', 'x'],
    ]) {
      const { code, stderr } = await raft(['join', 'x', ...args])
      assert.is(code, 2)
      assert.match(stderr, `${args[0]} is not built`)
    }
    const built = ['--admit', 'approve', '--max-voters', '7', '--replace-after', '1m']
    assert.is((await raft(['join', 'x', ...built, '--print-config'])).code, 0)
    const help = await raft(['join', '--help'])
    assert.not.match(help.stdout, /--machine|--max-state/)
    assert.match(help.stdout, /--expect/)
  },
)

cli('a topic file may end in a newline; an empty or missing one is refused', async () => {
  const folder = temporaryDirectory()
  const file = join(folder, 'topic')
  writeFileSync(file, `${TOPIC}\n`)
  const args = (path: string): string[] => ['join', '--topic-file', path, '--print-config']
  assert.is(JSON.parse((await raft(args(file))).stdout).topic, 'rp1t6ib...')
  writeFileSync(file, '\n')
  assert.is((await raft(args(file))).code, 1)
  assert.match((await raft(args(join(folder, 'none')))).stderr, /raft-p2p topic/)
})

cli('token: one for each role, the same on every machine that knows the topic', async () => {
  const tokens = new Set<string>()
  for (const role of ['read', 'write', 'admin']) {
    const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
    const { stdout } = await raft(['token', '--role', role, '--topic', TOPIC], { env })
    assert.match(stdout, /^[\w-]{43}\n$/)
    tokens.add(stdout)
  }
  assert.is(tokens.size, 3)
  assert.ok(tokens.has('CBBP-YnISsXmj8rV1Jz4_Mdnetw3h3ctetFK9qtsovE\n'), 'fixed for ever')
  const none = await raft(['token'], { env: { RAFT_P2P_DATA_ROOT: temporaryDirectory() } })
  assert.is(none.code, 1)
  assert.match(none.stderr, /--topic/)
})

cli('key is made once, kept 0600, and is the same again', async () => {
  const data = join(temporaryDirectory(), 'data')
  const first = await raft(['key', '--data', data])
  assert.match(first.stdout, KEY, first.stderr)
  assert.is((await raft(['key', '--data', data])).stdout, first.stdout)
  assert.is(statSync(join(data, 'identity.json')).mode & 0o777, 0o600)
  assert.equal(JSON.parse((await raft(['key', '--data', data, '--json'])).stdout), {
    nodeId: first.stdout.trim(),
    data,
  })
  const root = temporaryDirectory()
  const env = { RAFT_P2P_DATA_ROOT: root }
  const inSlot = await raft(['key', '--topic', TOPIC], { env })
  assert.match(inSlot.stdout, KEY)
  assert.is((await raft(['key'], { env })).stdout, inSlot.stdout)
  assert.not.match(readdirSync(root, { recursive: true }).join('\n'), /rp1/, 'no secret in a name')
})

cli('rejoin archives what is there and deletes nothing', async () => {
  const data = join(temporaryDirectory(), 'data')
  const first = await raft(['key', '--data', data])
  const done = await raft(['rejoin', '--data', data, '--json'])
  assert.is(done.code, 0, done.stdout)
  const { archived } = JSON.parse(done.stdout)
  assert.ok(existsSync(join(archived, 'identity.json')))
  const second = await raft(['key', '--data', data])
  assert.match(second.stdout, KEY)
  assert.is.not(second.stdout, first.stdout)
  assert.is((await raft(['rejoin', '--data', join(data, 'none')])).code, 1)
})

cli(
  'commands that archive or replace data leave a directory alone in which no node was',
  async () => {
    const data = temporaryDirectory()
    for (const folder of ['wal', 'snapshots']) mkdirSync(join(data, folder))
    writeFileSync(join(data, 'snapshots', 'mine'), 'of somebody else')
    const before = readdirSync(data, { recursive: true }).sort()
    for (const command of ['rejoin', 'recover']) {
      const refused = await raft([command, '--data', data, '--json'])
      assert.is(refused.code, 1)
      assert.is(JSON.parse(refused.stdout).code, 'no-data')
    }
    assert.equal(readdirSync(data, { recursive: true }).sort(), before)
  },
)

cli('--data that names a file is said to be one', async () => {
  const file = join(temporaryDirectory(), 'file')
  writeFileSync(file, '')
  const failed = await raft(['join', 'a phrase', '--data', file, '--json', '--no-lan'])
  assert.is(failed.code, 1)
  assert.match(JSON.parse(failed.stdout).message, /is a file/)
})

cli('rejoin of what is blank already says so, and makes no empty archive', async () => {
  const root = temporaryDirectory()
  const env = { RAFT_P2P_DATA_ROOT: root }
  await raft(['key', '--topic', TOPIC], { env })
  assert.is((await raft(['rejoin'], { env })).code, 0)
  const again = await raft(['rejoin'], { env })
  assert.is(again.code, 1)
  assert.match(again.stderr, /there is no stopped node/)
  const names = readdirSync(root, { recursive: true }).map(String)
  assert.is(names.filter((name) => /archive-\d+$/.test(name)).length, 1)
})

cli('wal dump of what is no log says so', async () => {
  const folder = temporaryDirectory()
  assert.is((await raft(['wal', 'dump', join(folder, 'none')])).code, 1)
  mkdirSync(join(folder, 'wal'))
  const empty = await raft(['wal', 'dump', folder])
  assert.is(empty.code, 0)
  assert.is(empty.stdout, '')
})

cli('the executable itself asks for a larger thread pool', () => {
  const head = readFileSync(CLI, 'utf8').split('\n', 1)[0]
  assert.is(head, '#!/usr/bin/env -S UV_THREADPOOL_SIZE=16 node')
  const { status, stdout } = spawnSync(CLI, ['--version'], { encoding: 'utf8' })
  assert.is(status, 0)
  assert.is(stdout, `${VERSION}\n`)
})

cli.run()
