// timeout: 300 s
/**
 * A cluster of two versions: nodes of an earlier commit, built here, beside nodes of this one. They found a cluster, serve it
 * whoever leads, and are upgraded one by one. Needs the history of the repository.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  NodeProcess,
  putUntilAcknowledged,
  ROOT,
  temporaryDirectory,
} from './harness.ts'

/** Version 1: the last commit whose nodes say nothing of feature levels. */
const COMMIT = 'bed2d9d'

function run(command: string, args: readonly string[], cwd: string, input?: Buffer): Buffer {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    maxBuffer: 64 << 20,
    ...(input === undefined ? {} : { input }),
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr ?? ''}${stdout ?? ''}`)
  return stdout
}

function hasHistory(): boolean {
  return spawnSync('git', ['cat-file', '-e', `${COMMIT}^{commit}`], { cwd: ROOT }).status === 0
}

/** The command line of that version. */
function buildOld(): string {
  const directory = join(temporaryDirectory(), 'v1')
  mkdirSync(directory)
  const archive = run('git', ['archive', '--format=tar', COMMIT], ROOT)
  run('tar', ['-x'], directory, archive)
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], directory)
  const cli = join(directory, 'dist/node/cli.js')
  assert.ok(existsSync(cli))
  return cli
}

const mixed = suite('mixed versions')
mixed.after(cleanUp)
const isPossible = hasHistory()
if (!isPossible) console.log('SKIP version 1: its commit is not in the history here')
const declare = isPossible ? mixed : mixed.skip

/** Of this version first, then two of the old one. */
const nodes: NodeProcess[] = []
const env = { RAFT_P2P_DATA_ROOT: temporaryDirectory() }
let old = ''

async function writesEverywhere(word: string): Promise<void> {
  for (const [i, node] of nodes.entries()) {
    await putUntilAcknowledged(await node.url(), `${word} ${i}`, `by ${i}`)
  }
  for (const node of nodes) {
    for (const i of nodes.keys()) {
      const url = await node.url()
      await eventually(`${word} ${i} at ${url}`, async () => {
        try {
          return (await get(url, `${word} ${i}`)) === `by ${i}`
        } catch {
          return false
        }
      })
    }
  }
}

/** Enough that states are compared: a hash is noted every 1,024 entries. */
const MANY = 1100

async function writeMany(word: string, url: string): Promise<void> {
  let next = 0
  const writer = async (): Promise<void> => {
    for (let i = next++; i < MANY; i = next++)
      await putUntilAcknowledged(url, `${word} ${i % 50}`, 'x')
  }
  await Promise.all(Array.from({ length: 50 }, writer))
}

/** Nobody has said anything that somebody else could not read. */
function noneMalformed(): void {
  for (const { running } of nodes) {
    const refused = running.events.filter(({ event }) => event === 'link.refused')
    assert.equal(
      refused.filter(({ reason }) => reason === 'malformed'),
      [],
    )
  }
}

declare('one new and two old nodes found a cluster and serve it', async () => {
  old = buildOld()
  for (const cli of [null, old, old]) {
    const data = temporaryDirectory()
    nodes.push(new NodeProcess({ env, data, ...(cli === null ? {} : { cli }) }))
  }
  await agreed(nodes)
  await writesEverywhere('founded')
})

declare('whoever leads can be killed, and comes back', async () => {
  for (const [i, node] of nodes.entries()) {
    await node.kill()
    const other = nodes[(i + 1) % nodes.length] as NodeProcess
    await putUntilAcknowledged(await other.url(), `without ${i}`, 'still here')
    node.restart()
    await agreed(nodes)
    assert.is(await get(await node.url(), `without ${i}`), 'still here')
  }
  await writesEverywhere('killed')
})

declare('each version leads, when the others hand over to it', async () => {
  const leaders = new Set<boolean>()
  await eventually(
    'a leader of either version',
    async () => {
      const all = await agreed(nodes)
      const at = all.findIndex(({ role }) => role === 'leader')
      const leader = nodes[at] as NodeProcess
      if (!leaders.has(at === 0)) await writeMany(`led by ${at}`, await leader.url())
      await agreed(nodes)
      noneMalformed()
      leaders.add(at === 0)
      if (leaders.size === 2) return true
      await leader.stop()
      leader.restart()
      return false
    },
    120_000,
  )
  await writesEverywhere('led')
})

declare('the level in use is the first, until the last one is upgraded', async () => {
  const [fresh, ...rest] = nodes as [NodeProcess, NodeProcess, NodeProcess]
  const level = async (): Promise<number> => (await fresh.status()).featureLevel
  for (const [i, node] of rest.entries()) {
    assert.is(await level(), 1)
    assert.equal(await node.stop(), { code: 0, signal: null })
    const { cli: _, ...options } = node.options
    nodes[i + 1] = new NodeProcess(options)
    await agreed(nodes)
    await writesEverywhere(`upgraded ${i}`)
  }
  await eventually('the second level', async () => (await level()) >= 2)
  for (const word of ['founded', 'killed', 'led', 'upgraded 0']) {
    for (const node of nodes) assert.is(await get(await node.url(), `${word} 2`), 'by 2')
  }
})

declare('an old node that comes too late is turned away, and knows why', async () => {
  const [fresh] = nodes as [NodeProcess]
  const peer = (await fresh.url()).replace('http', 'ws')
  const data = temporaryDirectory()
  const late = new NodeProcess({ env, data, cli: old, args: ['--peer', peer] })
  await late.running.waitForEvent('link.refused', ({ reason }) => reason === 'version')
  const said = await fresh.running.waitForEvent('link.refused', (one) => one.reason === 'version')
  assert.match(String(said.detail), /supports feature level 1, the cluster uses 2/)
  assert.is((await late.status()).clusterId, null)
  await late.kill()
  await writesEverywhere('at the end')
})

mixed.run()
