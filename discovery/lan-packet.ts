/**
 * What is said on the LAN: DNS-SD records under a name made of the discovery key (never of the topic). A node asks for
 * the PTR of the service; members answer PTR, SRV (the WebSocket port) and TXT (key, DHT port). Packets come from
 * anybody on the network: what is not exactly of this form is dropped. No I/O here.
 */
import b4a from 'b4a'
import { isPort } from './addresses.ts'

const RECORDS_MAX = 64
const TXT_ITEM_BYTES_MAX = 128
const TTL_SECONDS = 120

export interface LanAnswer {
  readonly nodeKey: string
  readonly port: number
  readonly dhtPort: number | null
  readonly tls: boolean
}

/** As multicast-dns hands it over: decoded, but of any shape. */
export interface LanPacket {
  readonly questions?: readonly unknown[]
  readonly answers?: readonly unknown[]
  readonly additionals?: readonly unknown[]
}

export interface LanRecord {
  readonly name: string
  readonly type: string
  readonly ttl: number
  readonly data: unknown
}

export function serviceNameOf(discoveryKey: Uint8Array): string {
  const hex: string = b4a.toString(discoveryKey, 'hex')
  return `${hex.slice(0, 32)}._raft-p2p._tcp.local`
}

/** A label has room for 63 bytes; the whole key stands in TXT. */
function instanceNameOf(service: string, nodeKey: string): string {
  return `${nodeKey.slice(0, 32)}.${service}`
}

export function questionFor(service: string): { name: string; type: 'PTR' }[] {
  return [{ name: service, type: 'PTR' }]
}

export function asksFor(packet: LanPacket, service: string): boolean {
  return (packet.questions ?? []).slice(0, RECORDS_MAX).some((question) => {
    const { name, type } = fields(question)
    return sameName(name, service) && (type === 'PTR' || type === 'ANY')
  })
}

export function answerOf(
  service: string,
  self: LanAnswer,
): { answers: LanRecord[]; additionals: LanRecord[] } {
  const instance = instanceNameOf(service, self.nodeKey)
  const ttl = TTL_SECONDS
  const dht = self.dhtPort === null ? [] : [`dht=${self.dhtPort}`]
  const text = [`key=${self.nodeKey}`, ...dht, ...(self.tls ? ['tls=1'] : [])]
  const target = `${self.nodeKey.slice(0, 32)}.local`
  return {
    answers: [{ name: service, type: 'PTR', ttl, data: instance }],
    additionals: [
      { name: instance, type: 'SRV', ttl, data: { port: self.port, target } },
      { name: instance, type: 'TXT', ttl, data: text.map((item) => b4a.from(item)) },
    ],
  }
}

/** The complete answers for this service in a packet; anything else in it is dropped. */
export function answersIn(packet: LanPacket, service: string): LanAnswer[] {
  const records = [...(packet.answers ?? []), ...(packet.additionals ?? [])].slice(0, RECORDS_MAX)
  const ports = new Map<string, number>()
  for (const record of records) {
    const { name, type, data } = fields(record)
    const { port } = fields(data)
    if (typeof name === 'string' && type === 'SRV' && isPort(port)) {
      ports.set(name.toLowerCase(), port)
    }
  }
  return records.flatMap((record) => {
    const { name, type, data } = fields(record)
    if (typeof name !== 'string' || type !== 'TXT') return []
    const text = textOf(data)
    const nodeKey = text.get('key')
    if (nodeKey === undefined || !/^[0-9a-f]{64}$/.test(nodeKey)) return []
    if (!sameName(name, instanceNameOf(service, nodeKey))) return []
    const port = ports.get(name.toLowerCase())
    if (port === undefined) return []
    const dhtPort = Number(text.get('dht'))
    return [
      { nodeKey, port, dhtPort: isPort(dhtPort) ? dhtPort : null, tls: text.get('tls') === '1' },
    ]
  })
}

/** `name=value` items of a TXT record. */
function textOf(data: unknown): Map<string, string> {
  const found = new Map<string, string>()
  for (const item of (Array.isArray(data) ? data : [data]).slice(0, RECORDS_MAX)) {
    if (!(item instanceof Uint8Array) || item.length > TXT_ITEM_BYTES_MAX) continue
    const [, name, value] = /^([a-z]+)=([!-~]*)$/.exec(b4a.toString(item, 'latin1')) ?? []
    if (name !== undefined && value !== undefined) found.set(name, value)
  }
  return found
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function sameName(name: unknown, expected: string): boolean {
  return typeof name === 'string' && name.toLowerCase() === expected.toLowerCase()
}
