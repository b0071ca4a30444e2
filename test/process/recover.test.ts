// timeout: 180 s
/** After a lost quorum one node goes on as a new cluster, with everything it had; the others enter it anew. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  http,
  NodeProcess,
  put,
  putUntilAcknowledged,
  QUICK_ELECTIONS,
  raft,
  statusOf,
  temporaryDirectory,
} from './harness.ts'

const recover = suite('recover')
recover.after(cleanUp)

const FLAGS = ['--no-lan', ...QUICK_ELECTIONS, '--snapshot-entries', '40']

function started(data: string, root: string, topic = 'demo'): NodeProcess {
  return new NodeProcess({ topic, data, args: FLAGS, env: { RAFT_P2P_DATA_ROOT: root } })
}

/** What an operator asks first, and what can only be refused. */
async function saysWhoIsMissing(data: string, url: string): Promise<void> {
  await eventually('nobody leads', async () => (await statusOf(url)).leaderId === null)
  await eventually('both are gone', async () => {
    const { quorum } = await statusOf(url)
    return quorum.needed === 2 && quorum.alive === 1
  })
  for (const shape of [[], ['--json']]) {
    assert.is((await raft(['leader', '--data', data, ...shape])).code, 4)
  }
  const refused = ['snapshot', 'save', `${data}/backup`].concat(['--timeout', '500ms'])
  for (const command of [refused, ['leave', '--timeout', '500ms']]) {
    const failed = await raft([...command, '--data', data, '--json'])
    assert.is(failed.code, 4, failed.stdout)
    assert.is(JSON.parse(failed.stdout).code, 'no-leader')
  }
}

recover(
  'a lost quorum: the survivor keeps everything, and the others enter as new members',
  async () => {
    const root = temporaryDirectory()
    const folders = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()] as const
    const nodes = folders.map((data) => started(data, root))
    const [before] = await agreed(nodes)
    const url = await (nodes[0] as NodeProcess).url()
    for (let i = 0; i < 100; i++) await putUntilAcknowledged(url, `key-${i}`, `value ${i}`)
    const { lastIndex } = await statusOf(url)
    for (const node of nodes.slice(1)) await node.kill()
    await saysWhoIsMissing(folders[0], url)
    await nodes[0]?.kill()

    const refused = await raft(['recover', '--data', folders[0], '--json'])
    assert.is(refused.code, 1)
    assert.match(refused.stdout + refused.stderr, /--confirm/)
    const wrong = await raft(['recover', '--data', folders[0], '--confirm', '00000000'])
    assert.is(wrong.code, 1, 'a wrong confirmation changes nothing')
    const digits = before?.clusterId?.slice(0, 8) ?? ''
    const done = await raft(['recover', '--data', folders[0], '--confirm', digits, '--json'])
    assert.is(done.code, 0, done.stderr)
    const { clusterId } = JSON.parse(done.stdout) as { clusterId: string }
    assert.is.not(clusterId, before?.clusterId)
    assert.ok(existsSync(`${folders[0]}/archive-1/identity.json`), 'the old data is kept')

    const survivor = started(folders[0], root)
    const survivorUrl = await survivor.ready()
    for (let i = 0; i < 100; i++) assert.is(await get(survivorUrl, `key-${i}`), `value ${i}`)
    const answer = await put(survivorUrl, 'after', 'all')
    assert.is(answer.status, 200)
    const { revision } = JSON.parse(answer.text) as { revision: number }
    assert.ok(revision > lastIndex + 100_000, 'no revision comes twice')

    const archived = await raft(['rejoin', '--data', folders[1], '--json'])
    assert.is(archived.code, 0, archived.stderr)
    const again = started(folders[1], root, `demo.${clusterId}`)
    const againUrl = await again.ready()
    assert.is(await get(againUrl, 'key-7'), 'value 7')
    await eventually('the newcomer is a member', async () => {
      const { members } = await statusOf(survivorUrl)
      return members.length === 2
    })
    assert.is((await statusOf(againUrl)).clusterId, clusterId)
    assert.is((await http(againUrl, '/readyz')).status, 200)
  },
)

recover('a backup taken under way becomes a new cluster', async () => {
  const root = temporaryDirectory()
  const data = temporaryDirectory()
  const node = new NodeProcess({
    topic: 'demo',
    data,
    args: [...FLAGS, '--expect', '1'],
    env: { RAFT_P2P_DATA_ROOT: root },
  })
  const url = await node.ready()
  for (let i = 0; i < 60; i++) await putUntilAcknowledged(url, `key-${i}`, `value ${i}`)
  const file = `${temporaryDirectory()}/backup`
  const saved = await raft(['snapshot', 'save', file, '--data', data, '--json'])
  assert.is(saved.code, 0, saved.stderr)
  const { index } = JSON.parse(saved.stdout) as { index: number }
  await putUntilAcknowledged(url, 'late', 'not in the backup')
  await node.kill()

  const other = temporaryDirectory()
  const full = await raft(['snapshot', 'restore', file, '--data', data, '--json'])
  assert.is(full.code, 1, 'a directory with a node in it is left alone')
  const restored = await raft(['snapshot', 'restore', file, '--data', other, '--json'])
  assert.is(restored.code, 0, restored.stderr)
  const { clusterId } = JSON.parse(restored.stdout) as { clusterId: string }
  const heir = started(other, temporaryDirectory(), 'another topic')
  const heirUrl = await heir.ready()
  assert.is((await statusOf(heirUrl)).clusterId, clusterId)
  for (let i = 0; i < 60; i++) assert.is(await get(heirUrl, `key-${i}`), `value ${i}`)
  assert.is(await get(heirUrl, 'late'), null)
  const answer = await put(heirUrl, 'after', 'all')
  assert.ok((JSON.parse(answer.text) as { revision: number }).revision > index + 100_000)

  const taken = temporaryDirectory()
  mkdirSync(`${taken}/snapshots`)
  copyFileSync(file, `${taken}/snapshots/backup`)
  const beside = ['snapshot', 'restore', `${taken}/snapshots/backup`, '--data', taken, '--json']
  const refused = await raft(beside)
  assert.is(refused.code, 1, 'the folder of the backup would be replaced')
  assert.is(JSON.parse(refused.stdout).code, 'not-empty')
  assert.equal(readdirSync(taken, { recursive: true }).sort(), ['snapshots', 'snapshots/backup'])
  const mistyped = await raft([...beside.slice(0, 4), `${taken}/new`, '--topic', 'rp1mistyped'])
  assert.is(mistyped.code, 2)
  assert.not.ok(existsSync(`${taken}/new`))

  const bytes = readFileSync(file)
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1
  writeFileSync(file, bytes)
  const damaged = await raft([
    'snapshot',
    'restore',
    file,
    '--data',
    temporaryDirectory(),
    '--json',
  ])
  assert.is(damaged.code, 1)
  assert.match(damaged.stdout + damaged.stderr, /corrupt-snapshot/)
  assert.match(damaged.stdout, /another backup/)
})

recover('what belongs to no cluster is left alone', async () => {
  const data = temporaryDirectory()
  const { code, stdout, stderr } = await raft(['recover', '--data', data, '--json'])
  assert.is(code, 1, stdout + stderr)
  assert.match(stdout + stderr, /no-data/)
})

recover.run()
