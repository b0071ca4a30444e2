/** The last known members, from the own disk: a formed cluster restarts with no network service at all. */
import b4a from 'b4a'
import { isHintUrl } from './addresses.ts'
import type { Discovery, Hint } from './discovery.ts'
import { listed } from './seeds.ts'

export interface RememberedPeer {
  /** 64 hex digits. */
  readonly nodeKey: string
  readonly urls: readonly string[]
}

export function createRememberedDiscovery(peers: readonly RememberedPeer[]): Discovery {
  return listed('remembered', (_events, self) => {
    const ownKey: string = b4a.toString(self.keyPair.publicKey, 'hex')
    return peers
      .filter(({ nodeKey }) => nodeKey !== ownKey)
      .flatMap(({ nodeKey, urls }) =>
        urls.filter(isHintUrl).map((url): Hint => ({ nodeKey, url, source: 'remembered' })),
      )
  })
}
