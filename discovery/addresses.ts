/**
 * The addresses of this machine and what can be reached at them. It only asks the kernel: it never resolves a name and
 * never sends a packet.
 */
import { createSocket } from 'node:dgram'
import { isIPv4, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'

export interface Endpoint {
  /** An IPv4 literal or, where the text says so, a name. */
  readonly host: string
  readonly port: number
}

export interface OwnAddress {
  readonly interfaceName: string
  readonly address: string
  readonly family: 4 | 6
}

export const LOOPBACK = '127.0.0.1'

/** Virtual bridges have the same address on many machines: announced last, because they lead to the wrong one. */
const VIRTUAL = /^(docker|br-|veth|virbr|vmnet|vboxnet|cni|flannel)/
const WATCH_MS = 5000

/** Own addresses that others could reach: neither loopback nor link-local, real interfaces before virtual ones. */
export function ownAddresses(): OwnAddress[] {
  const found: OwnAddress[] = []
  for (const [interfaceName, list] of Object.entries(networkInterfaces())) {
    for (const { address, family, internal } of list ?? []) {
      // Deno and old versions of Node give the family as a number.
      const isSix = family === 'IPv6' || (family as unknown) === 6
      if (internal || (isSix && /^fe[89ab]/i.test(address))) continue
      found.push({ interfaceName, address, family: isSix ? 6 : 4 })
    }
  }
  const rank = (one: OwnAddress): number => (VIRTUAL.test(one.interfaceName) ? 1 : 0)
  return found.sort((a, b) => rank(a) - rank(b))
}

export function ownIPv4(): string[] {
  return ownAddresses()
    .filter(({ family }) => family === 4)
    .map(({ address }) => address)
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host)
}

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::' || host === ''
}

/** An IPv4 literal somebody could listen on: no wildcard, multicast or broadcast. */
export function isHostIPv4(host: string): boolean {
  if (!isIPv4(host)) return false
  const first = Number(host.split('.')[0])
  return first !== 0 && first < 224
}

export function isPort(port: unknown): port is number {
  return typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65536
}

/** `host:port` with a host that is a name or an IPv4 literal; null when it is anything else. */
export function parseEndpoint(text: string): Endpoint | null {
  const match = /^([A-Za-z0-9._-]{1,253}):(\d{1,5})$/.exec(text)
  const host = match?.[1]
  const port = Number(match?.[2])
  return host === undefined || !isPort(port) ? null : { host, port }
}

export function urlOf({ host, port }: Endpoint, scheme = 'ws'): string {
  return `${scheme}://${isIPv6(host) ? `[${host}]` : host}:${port}`
}

/** The hosts a listener on `host` answers at, best first. Loopback only when there is nothing else. */
export function reachableHosts(host: string): string[] {
  if (!isWildcard(host)) return [host === 'localhost' ? LOOPBACK : host]
  const families = host === '0.0.0.0' ? [4] : [4, 6]
  const hosts = ownAddresses()
    .filter(({ family }) => families.includes(family))
    .sort((a, b) => a.family - b.family)
    .map(({ address }) => address)
  return hosts.length > 0 ? hosts : [LOOPBACK]
}

/** The URLs of a listener, best first; what the operator wants advertised replaces every guess. */
export function reachableUrls(listener: {
  readonly host: string
  readonly port: number
  readonly advertise: readonly string[]
  readonly tls?: boolean
}): string[] {
  if (listener.advertise.length > 0) return [...listener.advertise]
  const scheme = listener.tls === true ? 'wss' : 'ws'
  return reachableHosts(listener.host).map((host) => urlOf({ host, port: listener.port }, scheme))
}

/** A ws:// or wss:// URL of bounded length: all that a hint may carry. */
export function isHintUrl(url: unknown): url is string {
  if (typeof url !== 'string' || url.length > 256 || !/^wss?:\/\//.test(url)) return false
  return URL.canParse(url)
}

/** The own address the kernel would use towards `target`; null without a route. Sends nothing. */
export function sourceAddressTowards(target: Endpoint): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const done = (address: string | null): void => {
      try {
        socket.close()
      } catch {
        // A socket that failed to connect may be closed already.
      }
      resolve(address)
    }
    socket.once('error', () => done(null))
    try {
      socket.connect(target.port, target.host, () => done(socket.address().address))
    } catch {
      done(null)
    }
  })
}

/** Calls `changed` when addresses came or went. Returns the function that ends the watch. */
export function watchAddresses(changed: () => void): () => void {
  const snapshot = (): string =>
    ownAddresses()
      .map(({ interfaceName, address }) => `${interfaceName} ${address}`)
      .join()
  let before = snapshot()
  const timer = setInterval(() => {
    const now = snapshot()
    if (now === before) return
    before = now
    changed()
  }, WATCH_MS)
  return () => clearInterval(timer)
}
