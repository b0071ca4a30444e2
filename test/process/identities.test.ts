// timeout: 180 s
/** Whoever comes back in another shape than it left is recognised, refused where it must be, and told what to run (CORRECTNESS, rule 14). */
import { randomBytes } from 'node:crypto'
import { cpSync, rmSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { blankRecord } from '../../node/founding.ts'
import { readIdentity, writeIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  NodeProcess,
  putUntilAcknowledged,
  QUICK_ELECTIONS,
  raft,
  statusOf,
  temporaryDirectory,
} from './harness.ts'

const identities = suite('identities')
identities.after(cleanUp)

const FLAGS = ['--no-lan', ...QUICK_ELECTIONS]

interface Cluster {
  readonly nodes: readonly NodeProcess[]
  readonly folders: readonly string[]
  readonly env: { readonly RAFT_P2P_DATA_ROOT: string }
}

async function founded(): Promise<Cluster> {
  const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
  const folders = [1, 2, 3].map(() => temporaryDirectory())
  const nodes = folders.map((data) => new NodeProcess({ data, args: FLAGS, env }))
  await agreed(nodes)
  return { nodes, folders, env }
}

function at<T>(list: readonly T[], place: number): T {
  return list[place] as T
}

identities(
  'a removed member that comes back is told, ends with a code, and starts no more',
  async () => {
    const { nodes, folders, env } = await founded()
    const [first, second, third] = await Promise.all(nodes.map((node) => node.status()))
    const leader = [first, second, third].findIndex((status) => status?.role === 'leader')
    const away = (leader + 1) % 3
    const url = await at(nodes, leader).url()
    await at(nodes, away).kill()
    const id = String([first, second, third][away]?.memberId)
    const data = at(folders, leader)
    const removed = await raft(['members', 'remove', id, '--data', data, '--json'])
    assert.is(removed.code, 0, removed.stderr)
    assert.is((await statusOf(url)).members.length, 2)

    const back = new NodeProcess({ data: at(folders, away), args: FLAGS, env })
    const exit = await back.running.ended()
    assert.is(exit.code, 1)
    const failed = back.running.events.find(({ event }) => event === 'node.failed')
    assert.is(failed?.code, 'removed')
    assert.match(String(failed?.reason), /rejoin/)
    const again = await raft(['join', 'demo', '--data', at(folders, away), '--json', ...FLAGS])
    assert.is(again.code, 1)
    assert.match(again.stdout + again.stderr, /"removed"/)

    const rejoined = await raft(['rejoin', '--data', at(folders, away)])
    assert.is(rejoined.code, 0, rejoined.stderr)
    const newcomer = new NodeProcess({ data: at(folders, away), args: FLAGS, env })
    await newcomer.ready()
    const status = await newcomer.status()
    assert.ok((status.memberId ?? 0) > 3, 'a memberId is never used twice')
  },
)

identities(
  'a second live copy of one data directory is refused by everybody, and an alarm stands',
  async () => {
    const { nodes, folders, env } = await founded()
    const urls = await Promise.all(nodes.map((node) => node.url()))
    await at(nodes, 2).kill()
    const copy = temporaryDirectory()
    rmSync(copy, { recursive: true })
    cpSync(at(folders, 2), copy, { recursive: true, filter: (path) => !path.includes('lock') })
    const original = new NodeProcess({ data: at(folders, 2), args: FLAGS, env })
    await original.ready()
    const clone = new NodeProcess({ data: copy, args: FLAGS, env })
    await eventually('an alarm of the clone', async () => {
      const all = await Promise.all([0, 1].map((place) => statusOf(at(urls, place))))
      return all.some(({ alarms }) => alarms.some(({ kind }) => kind === 'clone'))
    })
    await putUntilAcknowledged(at(urls, 0), 'k', 'v')
    const seen = await original.status()
    assert.is.not(seen.leaderId, null, 'the original goes on')
    assert.is((await clone.status()).leaderId, null, 'the copy hears no leader')
  },
)

identities(
  'a node that has lost its disk and kept its key is no voter, and takes the place of what it was',
  async () => {
    const { nodes, folders, env } = await founded()
    const url = await at(nodes, 0).url()
    await putUntilAcknowledged(url, 'k', 'v')
    const before = await at(nodes, 2).status()
    await at(nodes, 2).kill()
    const folder = at(folders, 2)
    const identity = readIdentity(nodeDisk, folder)
    if (identity === null) throw new Error('there is no identity')
    for (const name of ['wal', 'snapshots'])
      rmSync(`${folder}/${name}`, { recursive: true, force: true })
    writeIdentity(nodeDisk, folder, {
      ...identity,
      storageId: randomBytes(16).toString('hex'),
      founding: blankRecord,
      members: [],
      clusterId: null,
      memberId: null,
    })
    const wiped = new NodeProcess({ data: folder, args: FLAGS, env })
    const wipedUrl = await wiped.ready()
    assert.is(await get(wipedUrl, 'k'), 'v')
    const status = await eventually('the old disk has no vote any more', async () => {
      const { members } = await statusOf(url)
      const old = members.find(({ memberId }) => memberId === before.memberId)
      const fresh = members.find(({ memberId }) => memberId > 3)
      return old?.role !== 'voter' && fresh?.role === 'voter' ? members : false
    })
    assert.is(status.filter(({ role }) => role === 'voter').length, 3)
  },
)

identities.run()
