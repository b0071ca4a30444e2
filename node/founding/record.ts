/**
 * What a node remembers and tells about founding, and how it is read from untrusted JSON. Pure. Must never
 * repair what is malformed: the whole message is refused.
 */
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
  foundingConfiguration,
  isHex,
  MEMBERS_MAX,
} from '../raft/configuration.ts'
import type { ConfigurationRecord, Member, PeerIdentity } from '../raft/types.ts'

export type Settings = ConfigurationRecord['settings']
export type Founder = Omit<Member, 'memberId'>

/** The proposal that exactly these disks found exactly this cluster. The proposer's own pledge is the offer. */
export interface Offer {
  /** The lowest node key of the set. */
  readonly proposer: string
  /** Above the floor of every member when it was made, 1 to ROUND_MAX. */
  readonly round: number
  readonly clusterId: string
  /**
   * Hex of the encoded ConfigurationRecord. Every member writes these bytes as the entry at index 1, never its
   * own view of them.
   */
  readonly entry1: string
}

export interface Bound {
  readonly clusterId: string
  /** Node keys, ascending. */
  readonly foundingSet: readonly string[]
  readonly how: 'founded' | 'joined'
}

/** The durable record, one file per data directory, replaced atomically. `seq` rises by one with every change. */
export interface FoundingRecord {
  readonly seq: number
  /** An offer of this round or below that is not pledged now is refused for good. Never falls. u32. */
  readonly floor: number
  /** At most one. Stays when its cluster is founded, so that others can read who the founders' disks were. */
  readonly pledge: Offer | null
  /** Set once, never changed. */
  readonly bound: Bound | null
}

export const blankRecord: FoundingRecord = { seq: 0, floor: 0, pledge: null, bound: null }

/** Some record of one disk. An old copy is valid evidence; the highest `seq` is the newest. */
export interface KnownRecord extends PeerIdentity {
  readonly record: FoundingRecord
}

/** The only message there is. Everything but `records` is soft: true when it was sent, promised by nobody. */
export interface FoundingMessage {
  /** The sender's own durable record first, then the newest it knows of others. */
  readonly records: readonly KnownRecord[]
  readonly mayFound: boolean
  readonly expect: number
  /** hashFounders of `--founders`, or null without. */
  readonly foundersHash: string | null
  readonly settings: Settings
  /** Node keys of the peers the sender has a link to. */
  readonly linkedTo: readonly string[]
  readonly bootId: string
  readonly self: Founder
}

export const ROUND_MAX = 0xffff_ffff
export const RECORDS_MAX = 64
export const LINKED_TO_MAX = 256
const ENTRY1_BYTES_MAX = 64 * 1024
const NAME_CHARS_MAX = 64
const URLS_MAX = 16
const URL_CHARS_MAX = 512
const URLS_PER_FOUNDER_MAX = 4
const SETTINGS_MAX = 64
const SETTING_CHARS_MAX = 256

export function diskOf(identity: PeerIdentity): string {
  return `${identity.nodeKey}:${identity.storageId}`
}

export function sameDisk(a: PeerIdentity, b: PeerIdentity): boolean {
  return a.nodeKey === b.nodeKey && a.storageId === b.storageId
}

export function sameOffer(a: Offer | null, b: Offer | null): boolean {
  if (a === b) return true
  return (
    a !== null &&
    b !== null &&
    a.clusterId === b.clusterId &&
    a.round === b.round &&
    a.proposer === b.proposer &&
    a.entry1 === b.entry1
  )
}

export function sameRecord(a: FoundingRecord, b: FoundingRecord): boolean {
  return (
    a.seq === b.seq &&
    a.floor === b.floor &&
    sameOffer(a.pledge, b.pledge) &&
    a.bound?.clusterId === b.bound?.clusterId &&
    a.bound?.how === b.bound?.how
  )
}

/** Cuts what is longer than the limits every reader enforces. */
export function founderOf(
  identity: PeerIdentity,
  shown: { readonly name: string; readonly urls: readonly string[] },
): Founder {
  return {
    nodeKey: identity.nodeKey,
    storageId: identity.storageId,
    name: shown.name.slice(0, NAME_CHARS_MAX),
    urls: shown.urls.filter((url) => url.length <= URL_CHARS_MAX).slice(0, URLS_PER_FOUNDER_MAX),
  }
}

export function makeOffer(proposal: {
  readonly round: number
  readonly clusterId: string
  readonly founders: readonly Founder[]
  readonly settings: Settings
  readonly featureLevel?: number
}): Offer {
  const { featureLevel = 1 } = proposal
  const entry1 = (founders: readonly Founder[]) => {
    const configuration = foundingConfiguration(founders)
    const foundingSet = configuration.members.map((member) => member.nodeKey)
    return {
      proposer: foundingSet[0] as string,
      bytes: encodeConfigurationRecord({
        clusterId: proposal.clusterId,
        foundingSet,
        settings: proposal.settings,
        configuration,
        ...(featureLevel > 1 ? { featureLevel } : {}),
      }),
    }
  }
  let encoded = entry1(proposal.founders)
  if (encoded.bytes.length > ENTRY1_BYTES_MAX) {
    // Addresses are a convenience that links tell anyway; the set of disks is what counts.
    encoded = entry1(proposal.founders.map((founder) => ({ ...founder, urls: [] })))
  }
  return {
    proposer: encoded.proposer,
    round: proposal.round,
    clusterId: proposal.clusterId,
    entry1: toHex(encoded.bytes),
  }
}

export function entry1Bytes(offer: Offer): Uint8Array {
  return fromHex(offer.entry1)
}

/** Decoding is repeated for every rule; an offer never changes, so it is decoded once. */
const decoded = new WeakMap<Offer, readonly Member[]>()

/** The founders' disks in order of key. The offer was validated where it came in. */
export function foundersOf(offer: Offer): readonly Member[] {
  const known = decoded.get(offer)
  if (known !== undefined) return known
  const founders = readFounders(offer)
  if (founders === null) throw new Error('an offer that was never validated reached the rules')
  decoded.set(offer, founders)
  return founders
}

function readFounders(offer: Offer): readonly Member[] | null {
  const { length } = offer.entry1
  if (length > ENTRY1_BYTES_MAX * 2 || length % 2 !== 0 || !isHex(offer.entry1, length)) return null
  const record = decodeConfigurationRecord(fromHex(offer.entry1))
  if (record === null || record.clusterId !== offer.clusterId) return null
  const { members, voters, votersOutgoing, learners, nextMemberId } = record.configuration
  const { foundingSet } = record
  const exact =
    members.length === foundingSet.length &&
    voters.length === members.length &&
    votersOutgoing.length === 0 &&
    learners.length === 0 &&
    nextMemberId === members.length + 1 &&
    offer.proposer === foundingSet[0] &&
    members.every(
      (member, at) =>
        member.memberId === at + 1 &&
        voters[at] === at + 1 &&
        member.nodeKey === foundingSet[at] &&
        (at === 0 || (foundingSet[at - 1] as string) < member.nodeKey),
    )
  return exact ? members : null
}

/** FNV-1a in two lanes. It only sorts peers into groups; the rules compare the sets themselves. */
export function hashFounders(founders: readonly string[]): string {
  const text = [...founders].sort().join(',')
  let low = 0x811c9dc5
  let high = 0x01000193
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193)
    high = Math.imul(high ^ text.charCodeAt(i), 0x85ebca6b)
  }
  const hex = (lane: number) => (lane >>> 0).toString(16).padStart(8, '0')
  return hex(high) + hex(low)
}

export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

function fromHex(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2)
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = Number.parseInt(text.slice(i * 2, i * 2 + 2), 16)
  }
  return bytes
}

/** Made of the very same parts: what was encoded or read once need not be again. Two equal messages may count as different. */
export function isSameMessage(a: FoundingMessage, b: FoundingMessage): boolean {
  return (
    a.mayFound === b.mayFound &&
    a.expect === b.expect &&
    a.foundersHash === b.foundersHash &&
    a.settings === b.settings &&
    a.bootId === b.bootId &&
    sameDisk(a.self, b.self) &&
    a.self.name === b.self.name &&
    sameItems(a.self.urls, b.self.urls, (one, other) => one === other) &&
    sameItems(a.linkedTo, b.linkedTo, (one, other) => one === other) &&
    sameItems(a.records, b.records, (x, y) => sameDisk(x, y) && x.record === y.record)
  )
}

function sameItems<T>(a: readonly T[], b: readonly T[], same: (a: T, b: T) => boolean): boolean {
  return a.length === b.length && a.every((item, at) => same(item, b[at] as T))
}

/** Null when `json` is not a founding message within the limits. */
export function parseFoundingMessage(json: unknown): FoundingMessage | null {
  if (!isObject(json)) return null
  const { records, mayFound, expect, foundersHash, settings, linkedTo, bootId, self } = json
  if (typeof mayFound !== 'boolean' || !isInteger(expect, 1, MEMBERS_MAX)) return null
  if (foundersHash !== null && !isHex(foundersHash, 16)) return null
  if (!isSettings(settings) || !isKeyList(linkedTo, LINKED_TO_MAX)) return null
  if (!isHex(bootId, 16) || !isFounder(self)) return null
  if (!Array.isArray(records) || records.length < 1 || records.length > RECORDS_MAX) return null
  const known: KnownRecord[] = []
  for (const item of records) {
    if (!isObject(item) || !isHex(item.nodeKey, 64) || !isHex(item.storageId, 32)) return null
    const record = parseFoundingRecord(item.record)
    if (record === null) return null
    known.push({ nodeKey: item.nodeKey, storageId: item.storageId, record })
  }
  if (!sameDisk(known[0] as KnownRecord, self)) return null
  return {
    records: known,
    mayFound,
    expect,
    foundersHash,
    settings,
    linkedTo,
    bootId,
    self: {
      nodeKey: self.nodeKey,
      storageId: self.storageId,
      name: self.name,
      urls: self.urls,
    },
  }
}

/** Reads the record of a peer, or the one from disk. Null when it is malformed. */
export function parseFoundingRecord(json: unknown): FoundingRecord | null {
  if (!isObject(json)) return null
  const { seq, floor } = json
  if (!isInteger(seq, 0, Number.MAX_SAFE_INTEGER) || !isInteger(floor, 0, ROUND_MAX)) return null
  const pledge = json.pledge === null ? null : parseOffer(json.pledge)
  const bound = json.bound === null ? null : parseBound(json.bound)
  if (pledge === undefined || bound === undefined) return null
  // A pledge raises the floor to its round, and a founded cluster is the pledged one: anything else was never written.
  if (pledge !== null && pledge.round > floor) return null
  if (bound?.how === 'founded' && bound.clusterId !== pledge?.clusterId) return null
  return { seq, floor, pledge, bound }
}

function parseOffer(json: unknown): Offer | undefined {
  if (!isObject(json)) return undefined
  const { proposer, round, clusterId, entry1 } = json
  if (!isHex(proposer, 64) || !isInteger(round, 1, ROUND_MAX) || !isHex(clusterId, 32)) {
    return undefined
  }
  if (typeof entry1 !== 'string' || entry1.length > ENTRY1_BYTES_MAX * 2) return undefined
  const offer: Offer = { proposer, round, clusterId, entry1 }
  return recognised(offer) ? offer : undefined
}

/**
 * The last offers that were read. While a founding is under way every peer repeats the same few twice a second, and reading one
 * costs a hundred times what comparing it does.
 */
const recent: Offer[] = []
const RECENT_MAX = 8

function recognised(offer: Offer): boolean {
  const seen = recent.find((other) => sameOffer(other, offer))
  const founders = seen === undefined ? readFounders(offer) : foundersOf(seen)
  if (founders === null) return false
  decoded.set(offer, founders)
  if (seen === undefined) {
    recent.unshift(offer)
    recent.length = Math.min(recent.length, RECENT_MAX)
  }
  return true
}

function parseBound(json: unknown): Bound | undefined {
  if (!isObject(json)) return undefined
  const { clusterId, foundingSet, how } = json
  if (!isHex(clusterId, 32) || !isKeyList(foundingSet, MEMBERS_MAX)) return undefined
  if (how !== 'founded' && how !== 'joined') return undefined
  return { clusterId, foundingSet, how }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isInteger(value: unknown, min: number, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
}

function isKeyList(value: unknown, max: number): value is string[] {
  return Array.isArray(value) && value.length <= max && value.every((key) => isHex(key, 64))
}

function isFounder(value: unknown): value is Founder {
  return (
    isObject(value) &&
    isHex(value.nodeKey, 64) &&
    isHex(value.storageId, 32) &&
    typeof value.name === 'string' &&
    value.name.length <= NAME_CHARS_MAX &&
    Array.isArray(value.urls) &&
    value.urls.length <= URLS_MAX &&
    value.urls.every((url) => typeof url === 'string' && url.length <= URL_CHARS_MAX)
  )
}

function isSettings(value: unknown): value is Settings {
  if (!isObject(value)) return false
  const names = Object.keys(value)
  return (
    names.length <= SETTINGS_MAX &&
    names.every((name) => {
      const setting = value[name]
      if (name.length > SETTING_CHARS_MAX) return false
      if (typeof setting === 'string') return setting.length <= SETTING_CHARS_MAX
      return typeof setting === 'boolean' || Number.isFinite(setting)
    })
  )
}
