/** The DHT source: what may never be in a private DHT, what is announced, and how it copes with being alone. */
import { createSocket } from 'node:dgram'
import * as fc from 'fast-check'
import crypto from 'hypercore-crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Endpoint } from '../../discovery/addresses.ts'
import {
  announcedEndpoints,
  createDhtDiscovery,
  type DhtDiscovery,
  type DhtOptions,
  wsTopicOf,
} from '../../discovery/dht.ts'
import { type DhtNodes, loadHyperDht, openDhtNodes } from '../../discovery/dht-nodes.ts'
import { encodeIntroduction, parseIntroduction } from '../../discovery/dht-swarm.ts'
import type { Announcement, Hint } from '../../discovery/discovery.ts'
import { eventually } from '../process/harness.ts'

const LOOPBACK = '127.0.0.1'
const discoveryKey = crypto.randomBytes(32) as Uint8Array

// Whatever environment this file is started in: nothing here may use the public network.
process.env.RAFT_P2P_DHT = 'private'

function announcement(more: Partial<Announcement> = {}): Announcement {
  const keyPair = crypto.keyPair() as Announcement['keyPair']
  return { discoveryKey, keyPair, host: LOOPBACK, port: 7700, urls: [], ...more }
}

function keyOf({ keyPair }: Announcement): string {
  return Buffer.from(keyPair.publicKey).toString('hex')
}

interface Started {
  readonly dht: DhtDiscovery
  readonly hints: Hint[]
  readonly warnings: string[]
  readonly self: Announcement
  sweeps: number
}

const open: DhtDiscovery[] = []

function start(options: Partial<DhtOptions> = {}, self = announcement()): Started {
  const dht = createDhtDiscovery({ mode: 'private', bootstrap: [], dhtPort: null, ...options })
  open.push(dht)
  const started: Started = { dht, hints: [], warnings: [], self, sweeps: 0 }
  dht.announce(self, {
    hint: (hint) => started.hints.push(hint),
    warning: (code) => started.warnings.push(code),
    swept: () => {
      started.sweeps++
    },
  })
  return started
}

async function addressOf({ dht }: Started): Promise<Endpoint> {
  return eventually('the DHT node is open', () => dht.address ?? false)
}

const privately = suite('private DHT')
privately.after.each(async () => {
  await Promise.all(open.splice(0).map((dht) => dht.close()))
})

async function publicHosts(): Promise<string[]> {
  const HyperDHT = await loadHyperDht()
  return HyperDHT.BOOTSTRAP.flatMap((text) => text.replace(/:\d+$/, '').split('@'))
}

async function openPrivate(bootstrap: Endpoint[], warnings: string[] = []): Promise<DhtNodes> {
  const warning = (code: string): void => void warnings.push(code)
  return openDhtNodes({ mode: 'private', bootstrap, host: LOOPBACK, port: null, warning })
}

privately('no way in lets a public bootstrap node into it', async () => {
  const hosts = await publicHosts()
  assert.ok(hosts.length >= 6, hosts.join())
  const warnings: string[] = []
  const forbidden = hosts.map((host) => ({ host, port: 49_737 }))
  const nodes = await openPrivate(forbidden, warnings)
  try {
    const both = [nodes.store, nodes.client].filter((node) => node !== null)
    assert.is(both.length, 2)
    assert.is(warnings.filter((code) => code === 'dht-public-refused').length, hosts.length)
    for (const node of forbidden) assert.is(nodes.addBootstrap(node), false)
    // What a hostile neighbour names in its replies passes this filter.
    for (const node of both) {
      for (const one of forbidden) assert.is(node._filterNode?.(one), false)
      assert.is(node._filterNode?.({ host: LOOPBACK, port: 1 }), true)
    }
    for (const node of both) {
      const held = [...node.bootstrapNodes, ...node.toArray()].map(({ host }) => host)
      for (const host of held) assert.is(host, LOOPBACK)
    }
    assert.equal(nodes.store?.bootstrapNodes, [])
    assert.equal(nodes.client.bootstrapNodes, [nodes.address])
  } finally {
    await nodes.destroy()
  }
})

privately('the public network is refused where the environment forbids it', async () => {
  const warning = (): void => {}
  const options = { bootstrap: [], host: LOOPBACK, port: null, warning }
  let refused = ''
  await openDhtNodes({ ...options, mode: 'public' }).catch((error) => {
    refused = String(error)
  })
  assert.match(refused, /forbidden/)
  const started = start({ mode: 'public' })
  // Only the private kind has a storage node with an address.
  assert.is((await addressOf(started)).host, LOOPBACK)
  assert.equal(started.warnings, ['dht-public-refused'])
})

privately('alone it sweeps once and warns of nothing', async () => {
  const alone = start()
  await eventually('swept', () => alone.sweeps === 1)
  assert.equal(alone.hints, [])
  await alone.dht.close()
  assert.is(alone.sweeps, 1)
  assert.equal(alone.warnings, [])
})

privately('two that know nothing meet as soon as one is fed the other', async () => {
  const one = start()
  const two = start()
  const { host, port } = await addressOf(two)
  await eventually('both swept', () => one.sweeps + two.sweeps === 2)
  assert.equal([...one.hints, ...two.hints], [])
  for (const bad of ['0.0.0.0', '255.255.255.255', '::1', 'name', '']) {
    one.dht.addBootstrap(bad, port)
  }
  one.dht.addBootstrap(host, 0)
  one.dht.addBootstrap(host, port)
  await eventually('two hints', () => one.hints.length > 0 && two.hints.length > 0)
  assert.is(one.hints[0]?.nodeKey, keyOf(two.self))
  assert.is(two.hints[0]?.nodeKey, keyOf(one.self))
  assert.is(two.hints[0]?.url, 'ws://127.0.0.1:7700')
})

privately('Hyperswarm streams carry what a record has no room for', async () => {
  const one = start()
  const { host, port } = await addressOf(one)
  const two = start(
    { bootstrap: [`${host}:${port}`] },
    announcement({ urls: ['wss://two.example:443/'] }),
  )
  const hint = await eventually('the wss URL', () =>
    one.hints.find(({ url }) => url === 'wss://two.example:443/'),
  )
  assert.equal(hint, { nodeKey: keyOf(two.self), url: 'wss://two.example:443/', source: 'dht' })
})

privately('with port 0 it only looks', async () => {
  const one = start()
  const { host, port } = await addressOf(one)
  const bootstrap = [`${host}:${port}`]
  const looking = start({ bootstrap }, announcement({ port: 0 }))
  await eventually('it finds', () => looking.hints.length > 0)
  const other = start({ bootstrap })
  await eventually('the others meet', () => one.hints.length > 0 && other.hints.length > 0)
  assert.not([...one.hints, ...other.hints].some(({ nodeKey }) => nodeKey === keyOf(looking.self)))
})

privately('what closed is withdrawn: a newcomer does not find it', async () => {
  const seed = start()
  const { host, port } = await addressOf(seed)
  const bootstrap = [`${host}:${port}`]
  const gone = start({ bootstrap })
  await eventually('the seed knows it', () =>
    seed.hints.some(({ nodeKey }) => nodeKey === keyOf(gone.self)),
  )
  await gone.dht.close()
  const newcomer = start({ bootstrap })
  await eventually('the newcomer finds the seed', () =>
    newcomer.hints.some(({ nodeKey }) => nodeKey === keyOf(seed.self)),
  )
  assert.not(newcomer.hints.some(({ nodeKey }) => nodeKey === keyOf(gone.self)))
})

privately('a taken UDP port is a warning, not the end', async () => {
  const taken = createSocket('udp4')
  await new Promise<void>((resolve) => taken.bind(0, LOOPBACK, resolve))
  try {
    const started = start({ dhtPort: taken.address().port, bootstrap: ['not an endpoint'] })
    assert.is.not((await addressOf(started)).port, taken.address().port)
    assert.equal(started.warnings, ['dht-bad-bootstrap', 'dht-port-in-use'])
  } finally {
    await new Promise<void>((resolve) => taken.close(() => resolve()))
  }
})

const records = suite('what is announced')

records('IPv4 endpoints, the advertised ones first, at most three', () => {
  const urls = [
    'ws://192.0.2.7:80',
    'wss://192.0.2.8:1',
    'ws://name:1',
    'ws://[2001:db8::1]:1',
    'x',
  ]
  assert.equal(announcedEndpoints(announcement({ urls })), [
    { host: '192.0.2.7', port: 80 },
    { host: LOOPBACK, port: 7700 },
  ])
  const many = ['1', '2', '3', '4'].map((n) => `ws://192.0.2.${n}:7`)
  assert.is(announcedEndpoints(announcement({ urls: many })).length, 3)
})

records('the second topic is another one, and the same everywhere', () => {
  const key = new Uint8Array(32).fill(7)
  assert.is(
    Buffer.from(wsTopicOf(key)).toString('hex'),
    'd9a5f08ed5251f41769e855b138dd8a495c520d56926d4fd8a1d3f52580de3bd',
  )
})

records('an introduction survives the trip; anything else is refused', () => {
  const said = { port: 7700, urls: ['ws://127.0.0.1:7700', 'wss://a.example/'] }
  assert.equal(parseIntroduction(encodeIntroduction(said).subarray(0, -1)), said)
  for (const bad of ['', 'null', '[]', '{}', '{"port":0,"urls":[]}', '{"port":1,"urls":{}}']) {
    assert.is(parseIntroduction(Buffer.from(bad)), null, bad)
  }
  const odd = { port: 1, urls: ['http://x', 7, null, `ws://${'x'.repeat(300)}`, 'ws://ok:1'] }
  assert.equal(parseIntroduction(Buffer.from(JSON.stringify(odd)))?.urls, ['ws://ok:1'])
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const found = parseIntroduction(Buffer.from(text))
      assert.ok(found === null || (found.port > 0 && found.urls.length <= 8))
    }),
  )
})

privately.run()
records.run()
