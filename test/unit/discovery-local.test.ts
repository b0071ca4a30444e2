/** The same-machine source: its files, and what it makes of files that are not what they should be. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import crypto from 'hypercore-crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Endpoint } from '../../discovery/addresses.ts'
import type { Announcement, Hint } from '../../discovery/discovery.ts'
import { serviceNameOf } from '../../discovery/lan-packet.ts'
import {
  createLocalDiscovery,
  encodeLiveRecord,
  type LiveRecord,
  type LocalDiscovery,
  parseLiveRecord,
} from '../../discovery/local.ts'
import { eventually } from '../process/harness.ts'

const discoveryKey = crypto.randomBytes(32) as Uint8Array
const service = serviceNameOf(discoveryKey)
const DAY_SECONDS = 24 * 60 * 60

const local = suite('same machine')
const directories: string[] = []
const open: LocalDiscovery[] = []
local.after.each(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()))
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'raft-p2p-local-'))
  directories.push(made)
  return made
}

interface Started {
  readonly source: LocalDiscovery
  readonly nodeKey: string
  readonly path: string
  readonly hints: Hint[]
  readonly dhtNodes: string[]
  readonly warnings: string[]
  sweeps: number
}

function start(
  folder: string,
  host = '127.0.0.1',
  dhtAddress = (): Endpoint | null => null,
  port = 7700,
): Started {
  const keyPair = crypto.keyPair() as Announcement['keyPair']
  const nodeKey = Buffer.from(keyPair.publicKey).toString('hex')
  const dhtNodes: string[] = []
  const onDhtNode = (dhtHost: string, port: number): void =>
    void dhtNodes.push(`${dhtHost}:${port}`)
  const source = createLocalDiscovery({ directory: folder, onDhtNode, dhtAddress })
  open.push(source)
  const path = join(folder, 'live', `${nodeKey}.json`)
  const started: Started = { source, nodeKey, path, hints: [], dhtNodes, warnings: [], sweeps: 0 }
  source.announce(
    { discoveryKey, keyPair, host, port, urls: ['ws://192.0.2.1:7700'] },
    {
      hint: (hint) => started.hints.push(hint),
      warning: (code) => started.warnings.push(code),
      swept: () => {
        started.sweeps++
      },
    },
  )
  return started
}

function plant(folder: string, record: Partial<LiveRecord>, ageSeconds = 0): string {
  const whole = { service, nodeKey: 'ab'.repeat(32), urls: ['ws://127.0.0.1:1'], dht: null }
  const path = join(folder, 'live', `${record.nodeKey ?? whole.nodeKey}.json`)
  mkdirSync(join(folder, 'live'), { recursive: true })
  writeFileSync(path, encodeLiveRecord({ ...whole, ...record }))
  const seconds = Date.now() / 1000 - ageSeconds
  utimesSync(path, seconds, seconds)
  return path
}

local('its file is private, whole and gone after close', async () => {
  const folder = directory()
  let dht: Endpoint | null = null
  const one = start(folder, '127.0.0.1', () => dht)
  await eventually('swept', () => one.sweeps === 1)
  assert.is(statSync(one.path).mode & 0o777, 0o600)
  assert.equal(JSON.parse(readFileSync(one.path, 'utf8')), {
    service,
    nodeKey: one.nodeKey,
    urls: ['ws://127.0.0.1:7700', 'ws://192.0.2.1:7700'],
  })
  dht = { host: '127.0.0.1', port: 4242 }
  one.source.refresh()
  await eventually('the DHT node is written', () => readFileSync(one.path, 'utf8').includes('4242'))
  rmSync(one.path)
  await eventually('the file is back', () => existsSync(one.path))
  await one.source.close()
  assert.equal(readdirSync(join(folder, 'live')), [])
})

local('with port 0 it only looks', async () => {
  const folder = directory()
  plant(folder, {})
  const looking = start(folder, '127.0.0.1', () => null, 0)
  await eventually('swept', () => looking.sweeps === 1)
  assert.is(looking.hints.length, 1)
  assert.not(existsSync(looking.path))
})

local('a node that listens everywhere is found by loopback too', async () => {
  const folder = directory()
  const one = start(folder)
  const two = start(folder, '0.0.0.0')
  await eventually('a hint', () => one.hints.some(({ url }) => url === 'ws://127.0.0.1:7700'))
  assert.is(one.hints[0]?.nodeKey, two.nodeKey)
})

local('a file left by a killed process is a hint; a day later it is removed', async () => {
  const folder = directory()
  const [fresh, dead, ancient] = ['11', '22', '33'].map((text) => text.repeat(32))
  const dht = { host: '127.0.0.1', port: 5 }
  plant(folder, { nodeKey: fresh ?? '', dht })
  plant(folder, { nodeKey: dead ?? '', dht: { host: '127.0.0.1', port: 6 } }, 3600)
  const removed = plant(folder, { nodeKey: ancient ?? '' }, DAY_SECONDS + 60)
  const one = start(folder)
  await eventually('swept', () => one.sweeps === 1)
  assert.equal(one.hints.map(({ nodeKey }) => nodeKey).sort(), [fresh, dead])
  assert.equal(one.dhtNodes, ['127.0.0.1:5'])
  assert.not(existsSync(removed))
})

local('another topic, a wrong name, a link, a giant: ignored', async () => {
  const folder = directory()
  const live = join(folder, 'live')
  plant(folder, { nodeKey: '44'.repeat(32), service: serviceNameOf(new Uint8Array(32)) })
  const good = readFileSync(plant(folder, {}), 'utf8')
  writeFileSync(join(live, `${'55'.repeat(32)}.json`), good)
  writeFileSync(join(live, `${'66'.repeat(32)}.json`), `{"x":"${'x'.repeat(20_000)}"}`)
  symlinkSync(join(live, `${'ab'.repeat(32)}.json`), join(live, `${'77'.repeat(32)}.json`))
  mkdirSync(join(live, `${'88'.repeat(32)}.json`))
  writeFileSync(join(live, 'notes.txt'), good)
  const one = start(folder)
  await eventually('swept', () => one.sweeps === 1)
  assert.equal([...new Set(one.hints.map(({ nodeKey }) => nodeKey))], ['ab'.repeat(32)])
  assert.equal(one.warnings, [])
})

local('a directory that cannot be made is a warning, and it sweeps all the same', async () => {
  const folder = directory()
  writeFileSync(join(folder, 'file'), '')
  const one = start(join(folder, 'file'))
  await eventually('swept', () => one.sweeps === 1)
  assert.equal(one.warnings, ['local-failed'])
})

local('no text makes the parser throw', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const found = parseLiveRecord(text)
      assert.ok(found === null || found.urls.length <= 16)
    }),
  )
  const record = { service, nodeKey: 'ab'.repeat(32), urls: ['ws://a:1'], dht: null }
  assert.equal(parseLiveRecord(encodeLiveRecord(record)), record)
  const odd = { ...record, urls: ['http://a', 5, 'wss://b:2'], dht: '256:99999' }
  assert.equal(parseLiveRecord(JSON.stringify(odd)), { ...record, urls: ['wss://b:2'] })
})

local.run()
