// timeout: 120 s
/**
 * One contract for every source of hints, each run as real processes: it announces, finds the other at its right URL, says
 * once that it has looked, never hints at itself, closes in time and leaves nothing that keeps the process alive.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { cleanUp, eventually, temporaryDirectory } from '../process/harness.ts'
import { createLab, type Lab, namespacesAllowed } from '../process/netns.ts'
import {
  Finder,
  freeUdpPort,
  type Kind,
  keyPairOf,
  type Orders,
} from '../support/discovery-orders.ts'

const TOPIC = `contract ${process.pid}`
/** DESIGN: withdrawing takes at most 2 s; the rest is room for a loaded machine. */
const CLOSE_MS_MAX = 5000
const LOOPBACK = '127.0.0.1'

interface World {
  /** Node `seed` (1, 2, ...) of this world; it may have to know the others from the start. */
  make(seed: number, others: readonly number[]): Promise<Finder>
  urlOf(seed: number): string
}

function orders(seed: number, what: Kind, more: Partial<Orders> = {}): Orders {
  const port = 7000 + seed
  const urls = [`ws://${LOOPBACK}:${port}`]
  return { what, topic: TOPIC, seed, host: LOOPBACK, port, urls, ...more }
}

function hexKey(seed: number): string {
  return Buffer.from(keyPairOf(seed).publicKey).toString('hex')
}

const loopbackUrl = (seed: number): string => `ws://${LOOPBACK}:${7000 + seed}`

function onLoopback(what: (others: readonly number[]) => Kind): () => World {
  return () => ({
    make: async (seed, others) => new Finder(orders(seed, what(others))),
    urlOf: loopbackUrl,
  })
}

/** The first node is the seed of the private DHT; the others are told its address. */
async function dhtWorld(): Promise<World> {
  const dhtPort = await freeUdpPort()
  const bootstrap = [`${LOOPBACK}:${dhtPort}`]
  return {
    async make(seed) {
      const options = { mode: 'private', bootstrap, dhtPort: seed === 1 ? dhtPort : null } as const
      return new Finder(orders(seed, { kind: 'dht', options }))
    },
    urlOf: loopbackUrl,
  }
}

function localWorld(): World {
  const directory = temporaryDirectory()
  const dht = { host: LOOPBACK, port: 49_737 }
  return onLoopback(() => ({ kind: 'local', directory, dht }))()
}

/** Everything at once, knowing nothing but a shared folder: the DHT is fed by what `local` finds. */
function allWorld(): World {
  const options = { dht: 'private', bootstrap: [], dhtPort: null, lan: true } as const
  const local = temporaryDirectory()
  return onLoopback(() => {
    return { kind: 'all', options: { ...options, local, seeds: [], remembered: [] } }
  })()
}

function lanWorld(lab: Lab): World {
  const hostOf = (seed: number): Lab['hosts'][number] => {
    const host = lab.hosts[seed - 1]
    if (host === undefined) throw new Error(`no host for node ${seed}`)
    return host
  }
  return {
    async make(seed) {
      const { address, prefix } = hostOf(seed)
      const what = { kind: 'lan', dht: { host: address, port: 49_000 + seed } } as const
      return new Finder(orders(seed, what, { host: '0.0.0.0', urls: [] }), 'node', prefix)
    },
    urlOf: (seed) => `ws://${hostOf(seed).address}:${7000 + seed}`,
  }
}

const contract = suite('discovery contract')
contract.after(cleanUp)

function holdsFor(name: string, open: () => World | Promise<World>): void {
  contract(`${name}: each finds the other, sweeps once and ends by itself`, async () => {
    const world = await open()
    const one = await world.make(1, [2])
    const two = await world.make(2, [1])
    for (const finder of [one, two]) await finder.event('started')
    for (const finder of [one, two]) finder.announce()
    const hint = await one.finds(two, world.urlOf(2))
    await two.finds(one, world.urlOf(1))
    assert.is(hint.nodeKey, name === 'seeds' ? null : two.nodeKey)
    for (const finder of [one, two]) await finder.event('swept')

    // Both have backed off; a newcomer still meets them.
    for (const finder of [one, two]) finder.tell('quiet')
    const three = await world.make(3, [1, 2])
    await three.event('started')
    three.announce()
    await three.finds(one, world.urlOf(1))
    await three.finds(two, world.urlOf(2))
    await three.event('swept')

    for (const finder of [one, two, three]) {
      assert.equal(await finder.close(), { code: 0, signal: null })
      const { events } = finder.running
      const closed = events.findIndex(({ event }) => event === 'closed')
      assert.is(events.length, closed + 1, 'an event after close')
      assert.ok(Number(events[closed]?.ms) < CLOSE_MS_MAX, `closed in ${events[closed]?.ms} ms`)
      assert.is(events.filter(({ event }) => event === 'swept').length, 1)
      assert.not(finder.hints.some(({ nodeKey }) => nodeKey === finder.nodeKey))
      const expected = name === 'all' ? /^(local|dht)$/ : new RegExp(`^${name}$`)
      for (const { source } of finder.hints) assert.match(source, expected)
    }
  })

  contract(`${name}: closed before or right after it is announced, nothing stays`, async () => {
    for (const words of [[], ['announce']] as const) {
      const world = await open()
      const finder = await world.make(1, [2])
      await finder.event('started')
      for (const word of words) finder.tell(word)
      assert.equal(await finder.close(), { code: 0, signal: null })
    }
  })
}

holdsFor('dht', dhtWorld)
holdsFor('local', localWorld)
holdsFor('all', allWorld)
holdsFor(
  'seeds',
  onLoopback((others) => ({ kind: 'seeds', urls: others.map(loopbackUrl) })),
)
holdsFor(
  'remembered',
  onLoopback((others) => {
    const peers = others.map((seed) => ({ nodeKey: hexKey(seed), urls: [loopbackUrl(seed)] }))
    return { kind: 'remembered', peers }
  }),
)

if (namespacesAllowed()) {
  let lab: Lab | null = null
  contract.before(async () => {
    lab = await createLab(3)
  })
  contract.after(() => lab?.close())
  holdsFor('lan', () => {
    if (lab === null) throw new Error('no lab')
    return lanWorld(lab)
  })

  contract('lan: found again after a cut, and after the address went and came back', async () => {
    assert.ok(lab)
    const world = lanWorld(lab)
    const one = (await world.make(1, [])).announce()
    const two = (await world.make(2, [])).announce()
    await one.finds(two, world.urlOf(2))
    const dhtNode = await one.event('dht-node')
    assert.is(`${dhtNode.host}:${dhtNode.port}`, '10.77.0.2:49002')
    for (const [lose, regain] of [
      [lab.cut, lab.heal],
      [lab.unplug, lab.replug],
    ] as const) {
      await lose(1)
      await regain(1)
      const before = one.running.events.length
      one.running.events.splice(0, before)
      await one.finds(two, world.urlOf(2))
      two.running.events.splice(0)
      await two.finds(one, world.urlOf(1))
    }
    await one.close()
    await two.close()
  })

  contract('lan: with port 0 it only looks', async () => {
    assert.ok(lab)
    const world = lanWorld(lab)
    const one = (await world.make(1, [])).announce()
    const host = lab.hosts[1]
    assert.ok(host)
    const { address, prefix } = host
    const what = { kind: 'lan', dht: { host: address, port: 49_002 } } as const
    const silent = { host: '0.0.0.0', port: 0, urls: [] }
    const looking = new Finder(orders(2, what, silent), 'node', prefix).announce()
    await looking.finds(one, world.urlOf(1))
    const three = (await world.make(3, [])).announce()
    await three.finds(one, world.urlOf(1))
    await one.finds(three, world.urlOf(3))
    for (const finder of [one, three]) {
      assert.not(finder.hints.some(({ nodeKey }) => nodeKey === looking.nodeKey))
      assert.not(
        finder.running.events.some((one) => one.event === 'dht-node' && one.host === address),
      )
    }
    for (const finder of [one, looking, three]) await finder.close()
  })

  contract('all: the LAN feeds the DHT, which follows the machine to its new address', async () => {
    assert.ok(lab)
    const { hosts } = lab
    const options = {
      dht: 'private',
      bootstrap: [],
      dhtPort: null,
      lan: true,
      local: null,
    } as const
    const what = { kind: 'all', options: { ...options, seeds: [], remembered: [] } } as const
    const [one, two] = [1, 2].map((seed) => {
      const { prefix = [] } = hosts[seed - 1] ?? {}
      return new Finder(orders(seed, what, { host: '0.0.0.0', urls: [] }), 'node', prefix)
    })
    assert.ok(one && two)
    // The second starts without any network, as a laptop does.
    await lab.unplug(1)
    for (const finder of [one, two]) {
      finder.announce()
      await finder.event('swept')
      assert.equal(finder.hints, [])
    }
    await lab.replug(1)
    const sourceOf = (finder: Finder, source: string, url: string): Promise<unknown> => {
      const found = (): boolean =>
        finder.hints.some((hint) => hint.source === source && hint.url === url)
      return eventually(() => `${source} gives ${url}\n${finder.running.tail()}`, found)
    }
    for (const source of ['lan', 'dht']) {
      await sourceOf(one, source, 'ws://10.77.0.2:7002')
      await sourceOf(two, source, 'ws://10.77.0.1:7001')
    }
    for (const finder of [one, two]) {
      assert.equal(await finder.close(), { code: 0, signal: null })
    }
  })
} else {
  console.log('SKIP network namespaces: not permitted here')
}

contract.run()
