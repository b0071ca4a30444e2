/**
 * What two ends prove and say before anything else. The proof binds the topic's link capability to this very Noise handshake, so
 * that it can neither be replayed nor relayed; the role keeps an echo from being a proof. Hellos are JSON, bounded and validated.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { FEATURE_LEVEL_FIRST } from '../feature-level.ts'
import { isFeatureLevel, isHex } from '../raft/configuration.ts'
import type { Hello } from './transport.ts'

export const HELLO_BYTES_MAX = 16 * 1024
const NAME_CHARS_MAX = 64
const URLS_MAX = 16
const URL_CHARS_MAX = 512

export type LinkRole = 'initiator' | 'responder'

/** 32 bytes. `prover` is the role of the side that sends it. */
export function proofOf(
  capability: Uint8Array,
  handshakeHash: Uint8Array,
  prover: LinkRole,
): Uint8Array {
  return createHmac('sha256', capability)
    .update('raft-p2p link proof v1\0')
    .update(prover)
    .update(handshakeHash)
    .digest()
}

export function isProof(given: Uint8Array, wanted: Uint8Array): boolean {
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}

/** Without the nodeKey: that is what Noise has proved. */
export function encodeHello(hello: Hello): Uint8Array {
  const { storageId, bootId, bootCounter, clusterId, name, featureLevel, urls } = hello
  const content = {
    protocol: 1,
    storageId,
    bootId,
    bootCounter,
    clusterId,
    featureLevel,
    name: name.replace(/\p{Cc}/gu, '?').slice(0, NAME_CHARS_MAX),
    urls: urls.slice(0, URLS_MAX),
  }
  return new TextEncoder().encode(JSON.stringify(content))
}

/** Null when it is no valid hello. */
export function decodeHello(body: Uint8Array, nodeKey: string): Hello | null {
  if (body.length > HELLO_BYTES_MAX) return null
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const { protocol, storageId, bootId, bootCounter, clusterId, name, urls, ...rest } =
    value as Record<string, unknown>
  // The first version said nothing about it.
  const { featureLevel = FEATURE_LEVEL_FIRST } = rest
  if (protocol !== 1 || !isHex(storageId, 32) || !isHex(bootId, 16)) return null
  if (!Number.isSafeInteger(bootCounter) || (bootCounter as number) < 0) return null
  if (!isFeatureLevel(featureLevel)) return null
  if (clusterId !== null && !isHex(clusterId, 32)) return null
  // Names end up in logs and on terminals.
  if (typeof name !== 'string' || name.length > NAME_CHARS_MAX || /\p{Cc}/u.test(name)) return null
  if (!Array.isArray(urls) || urls.length > URLS_MAX || !urls.every(isUrl)) return null
  return {
    nodeKey,
    storageId,
    bootId,
    bootCounter: bootCounter as number,
    clusterId,
    name,
    featureLevel,
    urls,
  }
}

/**
 * A ws:// or wss:// address in its one normal form, without a trailing slash; a path stays, for proxies. Null for anything else:
 * hints come from anybody, and must not make this node send credentials or queries of their choice.
 */
export function peerUrl(text: string): string | null {
  if (text.length > URL_CHARS_MAX || !/^wss?:\/\//i.test(text)) return null
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return null
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    return null
  if (url.hostname === '' || url.port === '0') return null
  const normal = `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`
  return normal.length > URL_CHARS_MAX ? null : normal
}

function isUrl(value: unknown): value is string {
  return typeof value === 'string' && value.length <= URL_CHARS_MAX && /^wss?:\/\//.test(value)
}
