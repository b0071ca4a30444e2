/** The nodes' addresses a client knows: those it was given, and those the cluster told it. */
import { CLIENT_PATH } from './protocol.ts'

/** More than any cluster has members; beyond it the oldest learned address is forgotten. */
const LEARNED_MAX = 64

/**
 * `ws://host:port`, `http://...` or `host:port`, with or without a path, becomes the address of the client endpoint. Throws TypeError
 * when it is no address.
 */
export function clientUrl(address: string): string {
  const withScheme = /^[a-z]+:\/\//i.test(address) ? address : `ws://${address}`
  const url = new URL(withScheme)
  if (url.protocol === 'http:') url.protocol = 'ws:'
  if (url.protocol === 'https:') url.protocol = 'wss:'
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new TypeError(`"${address}" is not an address of a node: use ws:// or wss://`)
  }
  const path = withoutSlashesAtEnd(url.pathname)
  url.pathname = path.endsWith(CLIENT_PATH) ? path : path + CLIENT_PATH
  url.hash = ''
  return url.href
}

/** A pattern would be tried anew at each slash: quadratic, and the address may come from a node. */
function withoutSlashesAtEnd(path: string): string {
  let end = path.length
  while (path[end - 1] === '/') end--
  return path.slice(0, end)
}

export class Addresses {
  readonly #given: readonly string[]
  readonly #learned = new Set<string>()
  readonly #learning: boolean
  /** A token that was only ever sent encrypted must not leave in clear because a node names a ws:// address. */
  readonly #secureOnly: boolean

  constructor(given: readonly string[], options: { readonly learning: boolean }) {
    if (given.length === 0) throw new TypeError('connect needs the address of at least one node')
    this.#given = [...new Set(given.map(clientUrl))]
    this.#learning = options.learning
    this.#secureOnly = this.#given.every((url) => url.startsWith('wss:'))
  }

  /** Takes an address a node named. Returns its normal form, or null when the client must not use it. */
  learn(address: unknown): string | null {
    if (!this.#learning || typeof address !== 'string') return null
    let url: string
    try {
      url = clientUrl(address)
    } catch {
      return null
    }
    if (this.#secureOnly && !url.startsWith('wss:')) return null
    if (!this.#given.includes(url) && !this.#learned.has(url)) {
      const [oldest] = this.#learned
      if (oldest !== undefined && this.#learned.size >= LEARNED_MAX) this.#learned.delete(oldest)
      this.#learned.add(url)
    }
    return url
  }

  /** Every address once, `last` (the one that just failed) at the end. */
  round(last: string | null): string[] {
    const all = [...this.#given, ...this.#learned]
    const at = last === null ? -1 : all.indexOf(last)
    return at === -1 ? all : [...all.slice(at + 1), ...all.slice(0, at + 1)]
  }
}
