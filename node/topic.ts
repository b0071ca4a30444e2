/**
 * The grammar of a topic, and the keys that are derived from it (docs/topic.md). The topic is a capability: whoever knows
 * it is a member. This file must never log, store or return it except as given, and touches neither disk nor network:
 * the cache of stretched phrases is handed in.
 */
import { createHash, createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import b4a from 'b4a'
import z32 from 'z32'

const PREFIX = 'rp1'
const KEY_BYTES = 32
const CHECKSUM_BYTES = 4
/** 36 bytes in z-base-32. */
const ENCODED_CHARS = 58
const PHRASE_BYTES_MAX = 128
/** A topic, and the cluster id that an invite adds to it. */
const INVITE = /^(.+)\.([0-9a-f]{32})$/is

/**
 * Fixed for ever: another value is another cluster. 128 MiB and about 0.4 s for each guess. The salt cannot be random,
 * because the phrase is all that the machines share.
 */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 1024 * 1024 } as const
const SCRYPT_SALT = 'raft-p2p/v1/phrase'

/** What was typed is no topic: exit code 2. */
export class TopicError extends Error {
  override readonly name = 'TopicError'
  readonly code = 'usage'
}

export interface ParsedTopic {
  /** The topic without the cluster id of an invite; a phrase in Unicode form NFC. A secret. */
  readonly text: string
  /** True when a person made it up, so that others can guess it. */
  readonly isPhrase: boolean
  /** Set by an invite: this node joins that cluster and never founds one. 32 hex digits. */
  readonly clusterId: string | null
}

export type TokenRole = 'read' | 'write' | 'admin'
export const TOKEN_ROLES: readonly TokenRole[] = ['read', 'write', 'admin']
/** The epoch of a new cluster's tokens. */
export const TOKEN_EPOCH_FIRST = 0

export interface DerivedTopic {
  /** 32 bytes, all that a DHT or a neighbour on the LAN ever sees. */
  readonly discoveryKey: Uint8Array
  /** 32 bytes: the key both ends of a link prove to know, bound to its handshake. */
  readonly linkCapability: Uint8Array
  readonly isPhrase: boolean
  /** Fit for logs and `status`: it names the topic to those who know it and helps nobody else. */
  readonly masked: string
  /** The client token of a role, base64url. `token rotate` raises the epoch. */
  tokens(role: TokenRole, epoch: number): string
}

/** Where stretched phrases are kept between starts. Its file holds secrets (topic-cache.ts). */
export interface StretchCache {
  get(phrase: string): Uint8Array | null
  set(phrase: string, key: Uint8Array): void
}

export function randomTopic(): string {
  const key = randomBytes(KEY_BYTES)
  return PREFIX + z32.encode(b4a.concat([key, checksumOf(key)]))
}

/** Throws TopicError. */
export function parseTopic(given: string): ParsedTopic {
  const invite = INVITE.exec(given)
  const topic = invite?.[1] ?? given
  if (invite !== null && INVITE.test(topic)) {
    throw new TopicError('the topic ends in two cluster ids: an invite has one. Copy it again')
  }
  const clusterId = invite?.[2]?.toLowerCase() ?? null
  const lower = topic.toLowerCase()
  if (decodeGenerated(lower) !== null) return { text: lower, isPhrase: false, clusterId }
  // In capitals too: a typing error must not make a phrase, which is another cluster.
  if (lower.startsWith(PREFIX)) {
    throw new TopicError(
      `the topic starts with ${PREFIX} but its checksum is wrong: a character is missing or mistyped. ` +
        'Copy it again, or make a new one with: raft-p2p topic',
    )
  }
  const text = topic.normalize('NFC')
  const bytes = b4a.byteLength(text)
  if (bytes < 1 || bytes > PHRASE_BYTES_MAX) {
    throw new TopicError(
      `a topic is 1 to ${PHRASE_BYTES_MAX} bytes, not ${bytes}. Make one with: raft-p2p topic`,
    )
  }
  return { text, isPhrase: true, clusterId }
}

/** The topic together with the cluster id: who joins with it never founds another cluster. */
export function inviteOf(topic: string, clusterId: string): string {
  return `${parseTopic(topic).text}.${clusterId}`
}

/** Takes about 0.4 s for a phrase that is not in the cache. Throws TopicError. */
export async function deriveTopic(
  topic: string,
  options: { cache?: StretchCache | null } = {},
): Promise<DerivedTopic> {
  const { text, isPhrase } = parseTopic(topic)
  const root = isPhrase ? await stretched(text, options.cache ?? null) : decodeGenerated(text)
  if (root === null) throw new TopicError('not a topic')
  const discoveryKey = derive(root, 'discovery')
  return {
    discoveryKey,
    linkCapability: derive(root, 'link'),
    isPhrase,
    masked: isPhrase
      ? `phrase-${b4a.toString(discoveryKey, 'hex').slice(0, 8)}`
      : `${text.slice(0, PREFIX.length + 4)}...`,
    tokens: (role, epoch) => toBase64Url(derive(root, `token/${role}/${epoch}`)),
  }
}

/** Compares a token in constant time. */
export function tokenEquals(given: string, wanted: string): boolean {
  const hash = (text: string): Uint8Array => createHash('sha256').update(text).digest()
  return timingSafeEqual(hash(given), hash(wanted))
}

/** One independent key a label: no derived key tells anything about another or about the topic. */
function derive(root: Uint8Array, label: string): Uint8Array {
  return new Uint8Array(createHmac('sha256', root).update(`raft-p2p/v1/${label}`).digest())
}

/** The 32 bytes of a generated topic, or null when it is none. */
function decodeGenerated(text: string): Uint8Array | null {
  const encoded = text.slice(PREFIX.length)
  if (!text.startsWith(PREFIX) || encoded.length !== ENCODED_CHARS) return null
  if (![...encoded].every((char) => z32.ALPHABET.includes(char))) return null
  const bytes: Uint8Array = new Uint8Array(z32.decode(encoded)).slice(0, KEY_BYTES + CHECKSUM_BYTES)
  // The last character has two unused bits: only one spelling of a topic is accepted.
  if (z32.encode(b4a.from(bytes)) !== encoded) return null
  const key = bytes.slice(0, KEY_BYTES)
  return b4a.equals(bytes.subarray(KEY_BYTES), checksumOf(key)) ? key : null
}

/** Public knowledge: it must catch typing errors, not attackers. */
function checksumOf(key: Uint8Array): Uint8Array {
  const digest = createHash('sha256').update('raft-p2p/v1/checksum').update(key).digest()
  return digest.subarray(0, CHECKSUM_BYTES)
}

async function stretched(phrase: string, cache: StretchCache | null): Promise<Uint8Array> {
  const known = cache?.get(phrase) ?? null
  if (known !== null && known.length === KEY_BYTES) return known
  const key = await new Promise<Uint8Array>((resolve, reject) => {
    scrypt(phrase, SCRYPT_SALT, KEY_BYTES, SCRYPT, (error, derived) => {
      if (error) reject(error)
      else resolve(new Uint8Array(derived))
    })
  })
  cache?.set(phrase, key)
  return key
}

function toBase64Url(bytes: Uint8Array): string {
  return b4a.toString(bytes, 'base64').replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
