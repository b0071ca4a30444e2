/**
 * One process that runs one discovery, on any runtime: told by its first argument what to run, it prints each event as a
 * line of JSON on stderr and obeys words on stdin. It never calls process.exit: ending by itself is what is tested.
 */
import { type CombinedDiscovery, discover } from '../../discovery/all.ts'
import { createDhtDiscovery } from '../../discovery/dht.ts'
import type { DiscoveryEvents } from '../../discovery/discovery.ts'
import { createLanDiscovery } from '../../discovery/lan.ts'
import { createLocalDiscovery } from '../../discovery/local.ts'
import { createRememberedDiscovery } from '../../discovery/remembered.ts'
import { createSeedsDiscovery } from '../../discovery/seeds.ts'
import { announcementOf, type Kind, type Orders } from './discovery-orders.ts'

function print(event: string, fields: object = {}): void {
  console.error(JSON.stringify({ event, ...fields }))
}

function make(what: Kind): CombinedDiscovery {
  switch (what.kind) {
    case 'dht':
      return createDhtDiscovery({
        ...what.options,
        onAddress: (address) => print('address', { ...address }),
      })
    case 'lan':
      return createLanDiscovery({
        onDhtNode: (host, port) => print('dht-node', { host, port }),
        dhtAddress: () => what.dht,
      })
    case 'local':
      return createLocalDiscovery({
        directory: what.directory,
        onDhtNode: (host, port) => print('dht-node', { host, port }),
        dhtAddress: () => what.dht,
      })
    case 'seeds':
      return createSeedsDiscovery(what.urls)
    case 'remembered':
      return createRememberedDiscovery(what.peers)
    case 'all':
      return discover(what.options)
  }
}

const orders = JSON.parse(process.argv[2] ?? '') as Orders

const discovery = make(orders.what)
const events: DiscoveryEvents = {
  hint: (hint) => print('hint', hint),
  swept: () => print('swept', { rssMb: Math.round(process.memoryUsage().rss / 1e6) }),
  warning: (code, detail) => print('warning', { code, detail }),
}
const words: Record<string, () => unknown> = {
  announce: () => discovery.announce(announcementOf(orders), events),
  quiet: () => discovery.eager(false),
  eager: () => discovery.eager(true),
  async close() {
    process.stdin.destroy()
    const startMs = Date.now()
    await Promise.all([discovery.close(), discovery.close()])
    await discovery.close()
    print('closed', { ms: Date.now() - startMs })
  },
}
process.stdin.setEncoding('utf8')
process.stdin.on('data', (text: string) => {
  for (const word of text.split('\n')) words[word]?.()
})
print('started')
