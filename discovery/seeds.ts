/** Addresses the operator gave (`--peer ws://...`). Nothing is looked up; each is one hint whose key is unknown. */
import { isHintUrl } from './addresses.ts'
import type { Announcement, Discovery, DiscoveryEvents, Hint } from './discovery.ts'

export function createSeedsDiscovery(urls: readonly string[]): Discovery {
  return listed('seeds', (events) =>
    urls.flatMap((url): Hint[] => {
      if (isHintUrl(url)) return [{ nodeKey: null, url, source: 'seeds' }]
      events.warning('seed-malformed', `${String(url).slice(0, 256)} is not a ws:// or wss:// URL`)
      return []
    }),
  )
}

/** A source that knows everything from the start. The list is repeated when nodes go missing. */
export function listed(
  name: 'seeds' | 'remembered',
  list: (events: DiscoveryEvents, self: Announcement) => readonly Hint[],
): Discovery {
  let closed = false
  let tellAgain = (): void => {}
  let isEager = true
  return {
    name,
    announce(self, events) {
      const hints = list(events, self)
      tellAgain = () => {
        if (closed) return
        for (const hint of hints) events.hint(hint)
      }
      // Not from inside `announce`: the caller is still being built.
      queueMicrotask(() => {
        tellAgain()
        if (!closed) events.swept()
      })
    },
    eager(wanted) {
      if (wanted && !isEager) queueMicrotask(tellAgain)
      isEager = wanted
    },
    async close() {
      closed = true
    },
  }
}
