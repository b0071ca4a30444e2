// timeout: 180 s
// alone
/**
 * Every command in README.md is run as it stands there, or is on a short list of those that run elsewhere. Nothing runs beside it: at a
 * path that npx has not seen before it builds the package again, under the feet of whatever uses dist/.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CLI,
  cleanUp,
  eventually,
  http,
  ROOT,
  Running,
  statusOf,
  temporaryDirectory,
} from './harness.ts'

/** Why a command of the README is not run here. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^npm ci && npm test$/, 'this is what is running'],
  [/^docker compose /, '.ci/run does it for real, with test/docker/check.ts'],
]

const place = temporaryDirectory()
const topicFile = join(place, 'topic.txt')
const env = {
  RAFT_P2P_DATA_ROOT: join(place, 'data'),
  RAFT_P2P_LISTEN: '127.0.0.1:0',
  RAFT_P2P_LOG: 'json',
}
const nodes: Running[] = []
const used = new Set<unknown>()

function blocks(language: string): string[] {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const pattern = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms')
  return [...readme.matchAll(pattern)].map((match) => match[1] ?? '')
}

async function shell(line: string, input = ''): Promise<string> {
  const running = new Running({ command: ['bash', '-c', line], cwd: ROOT, env, stdin: true })
  running.child.stdin?.end(input)
  const { code } = await running.ended()
  assert.is(code, 0, `${line}\n${running.tail()}`)
  return running.stdout
}

async function url(): Promise<string> {
  const event = await nodes[0]?.waitForEvent('node.listening')
  return String(event?.url).replace(/^ws/, 'http').replace(/\/$/, '')
}

async function demo(line: string): Promise<void> {
  const installed = line.replace(/^npm ci && /, '')
  const output = await shell(installed, 'PUT pizzatoppings pepperoni cheddar\nGET pizzatoppings\n')
  assert.match(output, /Success! Set "pizzatoppings" to: "pepperoni cheddar"/)
}

async function makeTopic(line: string): Promise<void> {
  await shell(line.replaceAll('topic.txt', topicFile))
  assert.match(readFileSync(topicFile, 'utf8'), /^rp1\w{50,}\n$/)
}

/** Three of it: without npx in between, so that the process that is ended is the node. */
async function joinThree(line: string): Promise<void> {
  const args = line.replace('npx raft-p2p ', '').replaceAll('topic.txt', topicFile).split(' ')
  for (let i = 0; i < 3; i++) {
    nodes.push(new Running({ command: [process.execPath, CLI, ...args], cwd: ROOT, env }))
  }
  const address = await url()
  await eventually('ready', async () => (await http(address, '/readyz')).status === 200)
  assert.is((await statusOf(address)).members.length, 3)
}

async function curl(line: string): Promise<string> {
  const output = await shell(
    line.replace('curl ', 'curl -sS --fail ').replaceAll('http://127.0.0.1:7700', await url()),
  )
  return output
}

function save(line: string): Promise<string> {
  return shell(line.replace('backup.raft', join(place, 'backup.raft')))
}

/** What a line prints, or null where it is enough that it succeeds. */
const RUN: readonly (readonly [RegExp, (line: string) => Promise<unknown>, RegExp | null])[] = [
  [/^npm ci && npx raft-p2p demo$/, demo, null],
  [/^npx raft-p2p topic > topic\.txt$/, makeTopic, null],
  [/^npx raft-p2p join --topic-file topic\.txt$/, joinThree, null],
  [/^npx raft-p2p put /, shell, /^OK pizzatoppings = pepperoni cheddar {2}\(revision \d+\)\n$/],
  [/^npx raft-p2p get /, shell, /^pepperoni cheddar$/],
  [/^npx raft-p2p cas /, shell, /^OK /],
  [/^npx raft-p2p list /, shell, /^pizzatoppings\tmushrooms\n$/],
  [/^npx raft-p2p del /, shell, /^OK 1\n$/],
  [/^npx raft-p2p status$/, shell, /leader/i],
  [/^npx raft-p2p members$/, shell, /leader/i],
  [
    /^npx raft-p2p snapshot save backup\.raft$/,
    save,
    /^OK \S+ {2}\(\d+ bytes, index \d+, sha256 [0-9a-f]{64}\)\n$/,
  ],
  [/^npx raft-p2p repl$/, shell, null],
  [/^npx raft-p2p token --role write$/, shell, /^\S{20,}\n$/],
  [/^curl -X PUT .*\/v1\/kv\//, curl, /"revision":\s*\d+/],
  [/^curl http:\S*\/v1\/kv\/pizzatoppings$/, curl, /^pepperoni cheddar$/],
  [/^curl '.*\/v1\/kv\?prefix/, curl, /"key":\s*"pizzatoppings"/],
  [/^curl .*\/v1\/status$/, curl, /"clusterId"/],
  [/^curl .*\/readyz$/, curl, null],
]

const readme = suite('README')
readme.after(async () => {
  for (const node of nodes) await node.stop()
  await cleanUp()
})

for (const line of blocks('sh').flatMap((block) => block.trimEnd().split('\n'))) {
  const elsewhere = ELSEWHERE.find(([pattern]) => pattern.test(line))
  const run = RUN.find(([pattern]) => pattern.test(line))
  used.add(elsewhere ?? run)
  if (elsewhere !== undefined) continue
  readme(line, async () => {
    if (run === undefined) throw new Error('nothing here knows how to run this line')
    const [, perform, expected] = run
    const output = await perform(line)
    if (expected !== null) assert.match(String(output), expected)
  })
}

/** What each program imports, and what it must print. */
const PROGRAMS: readonly (readonly [string, RegExp])[] = [
  ['raft-p2p/client', /pepperoni cheddar/],
  ['raft-p2p/testing', /counted 3/],
]

for (const program of blocks('js')) {
  const [, name = ''] = /from '([^']+)'/.exec(program) ?? []
  readme(`the program that imports ${name}`, async () => {
    const expected = PROGRAMS.find(([imported]) => imported === name)?.[1]
    if (expected === undefined) throw new Error('nothing here knows what this program prints')
    const address = (await url()).replace('http', 'ws')
    const source = program.replaceAll('ws://127.0.0.1:7700', address)
    const command = [process.execPath, '--input-type=module', '-e', source]
    const running = new Running({ command, cwd: ROOT, env })
    const { code } = await running.ended()
    assert.is(code, 0, running.tail())
    assert.match(running.stdout, expected)
  })
}

readme('nothing in this file waits for a line that the README no longer has', () => {
  assert.equal(
    [...ELSEWHERE, ...RUN].filter((entry) => !used.has(entry)).map(([pattern]) => String(pattern)),
    [],
  )
})

readme.run()
