/** What a page bundles: client/client.ts reaches only its own folder, compiles without Node, and stays small. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Addresses, clientUrl } from '../../client/addresses.ts'
import type { LeaderInfo, NodeStatus } from '../../client/client.ts'
import type { LeaderInfo as ServiceLeaderInfo, Status } from '../../node/service.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Every file that `entry` loads, with the specifiers it imports; type-only imports count too. */
function importsOf(entry: string): Map<string, string[]> {
  const found = new Map<string, string[]>()
  const todo = [resolve(ROOT, entry)]
  for (let file = todo.pop(); file !== undefined; file = todo.pop()) {
    if (found.has(file)) continue
    const source = readFileSync(file, 'utf8')
    const specifiers = [...source.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
      (match) => match[1] as string,
    )
    found.set(file, specifiers)
    for (const specifier of specifiers) {
      if (specifier.startsWith('.')) todo.push(resolve(dirname(file), specifier))
    }
  }
  return found
}

const browser = suite('client in a browser')

browser('the import graph of the browser entry stays inside client/, without packages', () => {
  const graph = importsOf('client/client.ts')
  assert.ok(graph.size >= 8, 'the graph was read')
  for (const [file, specifiers] of graph) {
    const name = relative(ROOT, file)
    assert.match(name, /^client\/[a-z-]+\.ts$/)
    assert.is.not(name, 'client/node.ts')
    for (const specifier of specifiers)
      assert.match(specifier, /^\.\/[a-z-]+\.ts$/, `${name} imports ${specifier}`)
  }
})

browser('the node entry adds ws and nothing else', () => {
  const outside = [...importsOf('client/node.ts').values()]
    .flat()
    .filter((name) => !name.startsWith('.'))
  assert.equal(outside, ['ws'])
})

browser('it compiles with the types of a browser alone', () => {
  const tsc = join(ROOT, 'node_modules', '.bin', 'tsc')
  const { status, stdout } = spawnSync(tsc, ['-p', join(ROOT, 'client', 'tsconfig.json')], {
    encoding: 'utf8',
  })
  assert.is(status, 0, stdout)
})

browser('no global of Node is named, and none of a page but the few that every runtime has', () => {
  for (const file of importsOf('client/client.ts').keys()) {
    const code = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    assert.not.match(
      code,
      /\b(process|Buffer|require|setImmediate|__dirname|window|document|navigator)\b\s*[.(]/,
    )
  }
})

/** The library can not import the service's types, so they are written twice: these lines fail to compile when they differ. */
browser('status and leader have the shape that a node answers', () => {
  const toClient = (status: Status): NodeStatus => status
  const toService = (status: NodeStatus): Status => status
  const leader = (info: ServiceLeaderInfo): LeaderInfo => info
  assert.is([toClient, toService, leader].length, 3)
})

browser.run()

const addresses = suite('client addresses')

addresses('forms', () => {
  const table: [string, string][] = [
    ['127.0.0.1:7700', 'ws://127.0.0.1:7700/v1/client'],
    ['localhost:7700', 'ws://localhost:7700/v1/client'],
    ['ws://h:1/', 'ws://h:1/v1/client'],
    ['wss://h', 'wss://h/v1/client'],
    ['https://h/raft/', 'wss://h/raft/v1/client'],
    ['http://[::1]:7700', 'ws://[::1]:7700/v1/client'],
    ['ws://h:1/v1/client/', 'ws://h:1/v1/client'],
    ['ws://h:1#x', 'ws://h:1/v1/client'],
  ]
  for (const [given, expected] of table) assert.is(clientUrl(given), expected)
  for (const bad of ['ftp://h', 'ws://', '', 'file:///x'])
    assert.throws(() => clientUrl(bad), TypeError)
})

addresses('a round begins behind the address that failed, and has each address once', () => {
  const known = new Addresses(['a:1', 'b:1', 'ws://a:1/'], { learning: true })
  const [a, b, c] = [clientUrl('a:1'), clientUrl('b:1'), clientUrl('c:1')]
  assert.is(known.learn('ws://c:1'), c)
  assert.is(known.learn('ws://b:1'), b)
  assert.equal(known.round(null), [a, b, c])
  assert.equal(known.round(a), [b, c, a])
  assert.equal(known.round(c), [a, b, c])
  assert.equal(known.round('unknown'), [a, b, c])
})

addresses('what a node names is used with care', () => {
  const known = new Addresses(['wss://a'], { learning: true })
  for (const bad of [null, undefined, 7, '', 'ftp://h', {}]) assert.is(known.learn(bad), null)
  assert.is(known.learn('ws://h:1'), null, 'a token that left encrypted must not leave in clear')
  assert.is(known.learn('wss://h:1'), clientUrl('wss://h:1'))
  assert.is(new Addresses(['wss://a'], { learning: false }).learn('wss://h:1'), null)
  const many = new Addresses(['a:1'], { learning: true })
  for (let i = 0; i < 1000; i++) many.learn(`ws://h${i}:1`)
  assert.ok(many.round(null).length <= 65)
  assert.ok(many.round(null).includes(clientUrl('a:1')))
})

addresses.run()
