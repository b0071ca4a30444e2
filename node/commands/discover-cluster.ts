/**
 * Finds nodes of a topic for a client that has none on its own machine: on the local network and in the DHT. What it finds
 * are hints; the client dials them. It has to speak as a node does, with a throw-away key and port 0, which nobody dials.
 */
import { discover } from '../../discovery/all.ts'
import { newKeyPair } from '../key-pair.ts'
import type { DerivedTopic } from '../topic.ts'

/** The longest search, and how long to go on after the first find: the others answer within moments of it. */
const SEARCH_MS_MAX = 8000
const MORE_MS = 500

export async function discoverUrls(
  derived: DerivedTopic,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string[]> {
  const wanted = env.RAFT_P2P_DHT
  const usual = derived.isPhrase || env.RAFT_P2P_BOOTSTRAP ? 'private' : 'public'
  const discovery = discover({
    dht: wanted === 'private' || wanted === 'public' || wanted === 'off' ? wanted : usual,
    bootstrap: env.RAFT_P2P_BOOTSTRAP ? env.RAFT_P2P_BOOTSTRAP.split(',') : [],
    dhtPort: null,
    lan: !/^(true|1|yes|on)$/i.test(env.RAFT_P2P_NO_LAN ?? ''),
    local: null,
    seeds: [],
    remembered: [],
  })
  const found = new Set<string>()
  await new Promise<void>((resolve) => {
    const limit = setTimeout(resolve, SEARCH_MS_MAX)
    const soon = (): void => {
      clearTimeout(limit)
      setTimeout(resolve, MORE_MS)
    }
    discovery.announce(
      {
        discoveryKey: derived.discoveryKey,
        keyPair: newKeyPair(),
        port: 0,
        host: '0.0.0.0',
        urls: [],
      },
      {
        hint({ url }) {
          if (found.size === 0) soon()
          found.add(url)
        },
        swept: () => {
          if (found.size > 0) soon()
        },
        warning: () => {},
      },
    )
    discovery.eager(true)
  })
  await discovery.close()
  return [...found]
}
