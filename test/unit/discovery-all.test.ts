/** All sources as one, the pace of looking, and the small arithmetic of addresses. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  isHintUrl,
  isHostIPv4,
  parseEndpoint,
  reachableUrls,
  sourceAddressTowards,
  urlOf,
} from '../../discovery/addresses.ts'
import { createDiscovery, discover } from '../../discovery/all.ts'
import type { Announcement, Discovery, DiscoveryEvents, Hint } from '../../discovery/discovery.ts'
import { Pace } from '../../discovery/pace.ts'
import { createSeedsDiscovery } from '../../discovery/seeds.ts'
import { eventually } from '../process/harness.ts'

const self: Announcement = {
  discoveryKey: new Uint8Array(32),
  keyPair: { publicKey: new Uint8Array(32), secretKey: new Uint8Array(64) },
  port: 7700,
  host: '127.0.0.1',
  urls: [],
}

interface Heard {
  readonly events: DiscoveryEvents
  readonly log: string[]
}

/** As a class, so that its methods live on the prototype: events must not be copied by spreading. */
function listener(): Heard {
  const log: string[] = []
  class Events implements DiscoveryEvents {
    hint({ source, url }: Hint): void {
      log.push(`${source} ${url}`)
    }
    swept(): void {
      log.push('swept')
    }
    warning(code: string): void {
      log.push(code)
    }
  }
  return { events: new Events(), log }
}

/** A source under the test's control. */
function source(): Discovery & { events: DiscoveryEvents | null; told: string[] } {
  return {
    name: 'lan',
    events: null,
    told: [],
    announce(_self, events) {
      this.events = events
    },
    eager(wanted) {
      this.told.push(`eager ${wanted}`)
    },
    async close() {
      this.told.push('close')
      throw new Error('cannot close')
    },
  }
}

const all = suite('all sources')

all('it has swept when every source has, and says so once', async () => {
  const [one, two] = [source(), source()]
  const { events, log } = listener()
  const combined = createDiscovery([one, two])
  combined.announce(self, events)
  one.events?.hint({ nodeKey: null, url: 'ws://a:1', source: 'lan' })
  one.events?.swept()
  one.events?.swept()
  assert.equal(log, ['lan ws://a:1'])
  two.events?.swept()
  two.events?.swept()
  assert.equal(log, ['lan ws://a:1', 'swept'])
  combined.eager(false)
  await Promise.all([combined.close(), combined.close()])
  for (const part of [one, two]) assert.equal(part.told, ['eager false', 'close'])
})

all('a source that throws is a warning and holds nobody up', async () => {
  const broken: Discovery = {
    ...source(),
    announce() {
      throw new Error('broken')
    },
  }
  const { events, log } = listener()
  const combined = createDiscovery([broken, createSeedsDiscovery(['ws://a:1', 'http://b'])])
  combined.announce(self, events)
  await eventually('swept', () => log.includes('swept'))
  assert.equal(log, ['discovery-failed', 'seed-malformed', 'seeds ws://a:1', 'swept'])
  await combined.close()
})

all('without any source it has swept at once', async () => {
  const nothing = { dht: 'off', bootstrap: [], dhtPort: null, lan: false, local: null } as const
  const { events, log } = listener()
  discover({ ...nothing, seeds: [], remembered: [] }).announce(self, events)
  assert.equal(log, [])
  await eventually('swept', () => log.includes('swept'))
})

all('seeds are repeated when nodes go missing again', async () => {
  const { events, log } = listener()
  const seeds = createSeedsDiscovery(['ws://a:1'])
  seeds.announce(self, events)
  await eventually('swept', () => log.includes('swept'))
  seeds.eager(true)
  seeds.eager(false)
  seeds.eager(true)
  await eventually('again', () => log.length === 3)
  await seeds.close()
  seeds.eager(false)
  seeds.eager(true)
  await Promise.resolve()
  assert.equal(log, ['seeds ws://a:1', 'swept', 'seeds ws://a:1'])
})

const pace = suite('pace')

pace('a wake is never lost, eagerness ends a quiet wait, close ends every wait', async () => {
  const one = new Pace({ eagerMs: 3_600_000, quietMsMin: 3_600_000, quietMsMax: 3_600_000 })
  one.wake()
  await one.wait()
  const woken = one.wait()
  one.wake()
  await woken
  one.eager(false)
  const quiet = one.wait()
  one.eager(true)
  await quiet
  const pause = one.pause(3_600_000)
  one.wake()
  one.close()
  await pause
  await one.wait()
  assert.ok(one.closed)
})

const addresses = suite('addresses')

addresses('endpoints and hint URLs', () => {
  assert.equal(parseEndpoint('node-1.example:49737'), { host: 'node-1.example', port: 49_737 })
  for (const bad of ['', 'host', 'host:0', 'host:65536', ':1', 'a b:1', 'a:1:2', '[::1]:1']) {
    assert.is(parseEndpoint(bad), null, bad)
  }
  for (const bad of ['0.0.0.0', '224.0.0.1', '255.255.255.255', '::1', 'a', '1.2.3']) {
    assert.not(isHostIPv4(bad), bad)
  }
  assert.ok(isHintUrl('wss://a.example:1/x'))
  for (const bad of [
    'http://a',
    'ws://',
    'ws:',
    `ws://${'a'.repeat(300)}`,
    5,
    null,
    'javascript:1',
  ])
    assert.not(isHintUrl(bad), String(bad))
  assert.is(urlOf({ host: '2001:db8::1', port: 1 }), 'ws://[2001:db8::1]:1')
})

addresses('what is advertised replaces every guess; a bound address is the only one', () => {
  const advertise = ['wss://a.example']
  assert.equal(reachableUrls({ host: '0.0.0.0', port: 1, advertise }), advertise)
  const bound = { host: '192.0.2.1', port: 1, advertise: [] }
  assert.equal(reachableUrls(bound), ['ws://192.0.2.1:1'])
  assert.equal(reachableUrls({ ...bound, tls: true }), ['wss://192.0.2.1:1'])
  const everywhere = reachableUrls({ host: '::', port: 1, advertise: [] })
  assert.ok(everywhere.length > 0)
  for (const url of everywhere) assert.not.match(url, /0\.0\.0\.0|\[::\]|fe80/)
})

addresses('the kernel is asked for the own address towards another', async () => {
  assert.is(await sourceAddressTowards({ host: '127.0.0.1', port: 9 }), '127.0.0.1')
})

all.run()
pace.run()
addresses.run()
