/**
 * All sources as one. A source that fails is a warning, never the end of the others; `swept` comes once, when every
 * source has looked. What LAN and this machine know of DHT nodes feeds the private DHT.
 */
import type { Endpoint } from './addresses.ts'
import { createDhtDiscovery, type DhtDiscovery } from './dht.ts'
import type { Announcement, Discovery, DiscoveryEvents } from './discovery.ts'
import { createLanDiscovery, type LanDiscovery } from './lan.ts'
import { createLocalDiscovery, type LocalDiscovery } from './local.ts'
import { createRememberedDiscovery, type RememberedPeer } from './remembered.ts'
import { createSeedsDiscovery } from './seeds.ts'

export interface DiscoverOptions {
  readonly dht: 'private' | 'public' | 'off'
  /** `host:port` of DHT nodes. */
  readonly bootstrap: readonly string[]
  /** Null: a free one. */
  readonly dhtPort: number | null
  readonly lan: boolean
  /** The folder that the nodes of this topic on this machine share; null: do not look there. */
  readonly local: string | null
  /** ws:// or wss:// URLs. */
  readonly seeds: readonly string[]
  readonly remembered: readonly RememberedPeer[]
}

/** The same contract as one source, without a name of its own. */
export type CombinedDiscovery = Omit<Discovery, 'name'>

/** What the composition root calls. Nothing starts before `announce`. */
export function discover(options: DiscoverOptions): CombinedDiscovery {
  let dht: DhtDiscovery | null = null
  let lan: LanDiscovery | null = null
  let local: LocalDiscovery | null = null
  const onDhtNode = (host: string, port: number): void => dht?.addBootstrap(host, port)
  if (options.dht !== 'off') {
    dht = createDhtDiscovery({
      mode: options.dht,
      bootstrap: options.bootstrap,
      dhtPort: options.dhtPort,
      onAddress: () => {
        lan?.refresh()
        local?.refresh()
      },
    })
  }
  const dhtAddress = (): Endpoint | null => dht?.address ?? null
  if (options.lan) lan = createLanDiscovery({ onDhtNode, dhtAddress })
  if (options.local !== null) {
    local = createLocalDiscovery({ directory: options.local, onDhtNode, dhtAddress })
  }
  const remembered =
    options.remembered.length > 0 ? createRememberedDiscovery(options.remembered) : null
  const seeds = options.seeds.length > 0 ? createSeedsDiscovery(options.seeds) : null
  // The cheap ones first: what they know is dialled while the DHT still loads.
  const parts = [remembered, seeds, local, lan, dht].filter((part) => part !== null)
  return createDiscovery(parts)
}

export function createDiscovery(parts: readonly Discovery[]): CombinedDiscovery {
  let closing: Promise<void> | null = null
  return {
    announce(self, events) {
      const missing = new Set(parts)
      const swept = (part: Discovery): void => {
        if (missing.delete(part) && missing.size === 0 && closing === null) events.swept()
      }
      for (const part of parts) startOne(part, self, events, () => swept(part))
      if (parts.length === 0) queueMicrotask(() => closing ?? events.swept())
    },
    eager(wanted) {
      for (const part of parts) part.eager(wanted)
    },
    close() {
      closing ??= Promise.allSettled(parts.map((part) => part.close())).then(() => {})
      return closing
    },
  }
}

function startOne(
  part: Discovery,
  self: Announcement,
  events: DiscoveryEvents,
  swept: () => void,
): void {
  try {
    part.announce(self, {
      hint: (hint) => events.hint(hint),
      warning: (code, detail) => events.warning(code, detail),
      swept,
    })
  } catch (error) {
    events.warning('discovery-failed', `${part.name}: ${String(error)}`)
    queueMicrotask(swept)
  }
}
