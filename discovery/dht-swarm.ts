/**
 * Hyperswarm, on Node only: it reaches peers behind NATs, where the record of the DHT alone is of no use. Over each of
 * its authenticated streams both ends say once, in one line of JSON, where their WebSocket listens. Nothing else is
 * accepted; who knows the discovery key is still a stranger.
 */
import b4a from 'b4a'
import { isHintUrl, isHostIPv4, isPort, urlOf } from './addresses.ts'
import type { HyperDhtNode, KeyPair, Swarm, SwarmClass, SwarmStream } from './hyperdht-types.ts'

const LINE_BYTES_MAX = 4096
const URLS_MAX = 8
/** Streams at a time. A cluster needs a few; each idle one costs a keep-alive every 5 s. */
const PEERS_MAX = 32

export interface SwarmOptions {
  readonly client: HyperDhtNode
  readonly keyPair: KeyPair
  readonly topic: Uint8Array
  /** What this node says about itself, asked anew for each stream. */
  introduction(): Introduction
  /** What a proven holder of `nodeKey` says about itself. */
  introduced(nodeKey: string, urls: readonly string[]): void
}

export interface Introduction {
  readonly port: number
  readonly urls: readonly string[]
}

export interface OpenSwarm {
  /** Announces and looks up once more; a query in flight is joined. */
  refresh(): void
  /** Destroys the client too, as hyperswarm does. */
  destroy(options: { force: boolean }): Promise<void>
}

export async function openSwarm(options: SwarmOptions): Promise<OpenSwarm> {
  const { default: Hyperswarm } = await import('hyperswarm')
  const { client, keyPair } = options
  const swarm: Swarm = new (Hyperswarm as SwarmClass)({ dht: client, keyPair, maxPeers: PEERS_MAX })
  swarm.on('connection', (stream: SwarmStream) => introduce(stream, options))
  const session = swarm.join(options.topic, { server: true, client: true })
  return {
    refresh: () => void session.refresh().catch(() => false),
    destroy: ({ force }) => swarm.destroy({ force }),
  }
}

function introduce(stream: SwarmStream, options: SwarmOptions): void {
  const nodeKey: string = b4a.toString(stream.remotePublicKey, 'hex')
  const remoteHost = stream.rawStream?.remoteHost ?? null
  let received: Uint8Array = new Uint8Array(0)
  let finished = false
  stream.on('error', () => {})
  stream.on('data', (chunk: Uint8Array) => {
    if (finished) return
    received = b4a.concat([received, chunk])
    const end = received.indexOf(0x0a)
    finished = end !== -1 || received.length > LINE_BYTES_MAX
    if (!finished) return
    const said = end === -1 ? null : parseIntroduction(received.subarray(0, end))
    received = new Uint8Array(0)
    if (said === null) {
      stream.destroy()
      return
    }
    const direct =
      remoteHost !== null && isHostIPv4(remoteHost)
        ? [urlOf({ host: remoteHost, port: said.port })]
        : []
    options.introduced(nodeKey, [...new Set([...said.urls, ...direct])])
  })
  stream.write(encodeIntroduction(options.introduction()))
}

export function encodeIntroduction({ port, urls }: Introduction): Uint8Array {
  return b4a.from(`${JSON.stringify({ port, urls: urls.slice(0, URLS_MAX) })}\n`)
}

/** Null for anything but `{port, urls}` within the limits. */
export function parseIntroduction(line: Uint8Array): Introduction | null {
  if (line.length > LINE_BYTES_MAX) return null
  try {
    const value: unknown = JSON.parse(b4a.toString(line))
    if (typeof value !== 'object' || value === null) return null
    const { port, urls } = value as { port?: unknown; urls?: unknown }
    if (!isPort(port) || !Array.isArray(urls)) return null
    return { port, urls: urls.slice(0, URLS_MAX).filter(isHintUrl) }
  } catch {
    return null
  }
}
