/**
 * The configuration entry: who is a member and who counts. Encoded as ASCII JSON, because it is rare, must stay readable
 * by every later version, and the consensus core must decode it the moment it is appended (paper, section 6).
 */
import { decodeAsciiJson, encodeAsciiJson } from './ascii-json.ts'
import type { Configuration, ConfigurationRecord, Member, MemberId } from './types.ts'

export const MEMBERS_MAX = 64
/** Enough for years of replaced machines; one that is forgotten comes back as a newcomer, which harms nothing. */
export const REMOVED_MAX = 256
export const REASON_CHARS_MAX = 200
/** 64 members with all their addresses take half of it. A snapshot carries it in its header, which has an end (snapshot-format.ts). */
export const RECORD_BYTES_MAX = 1_000_000
const FEATURE_LEVEL_MAX = 1000
const NAME_CHARS_MAX = 64
const URL_CHARS_MAX = 512
const URLS_MAX = 16

export function encodeConfigurationRecord(record: ConfigurationRecord): Uint8Array {
  return encodeAsciiJson({ format: 1, ...record })
}

/** Null when the bytes are not a valid record: hostile or corrupt input is refused at the boundary. */
export function decodeConfigurationRecord(bytes: Uint8Array): ConfigurationRecord | null {
  const value = decodeAsciiJson(bytes)
  return isRecord(value) ? value : null
}

export function isHex(value: unknown, digits: number): value is string {
  return typeof value === 'string' && value.length === digits && /^[0-9a-f]*$/.test(value)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isMemberId(value: unknown): value is MemberId {
  return Number.isSafeInteger(value) && (value as number) >= 1
}

function isMember(value: unknown): value is Member {
  return (
    isObject(value) &&
    isMemberId(value.memberId) &&
    isHex(value.nodeKey, 64) &&
    isHex(value.storageId, 32) &&
    typeof value.name === 'string' &&
    value.name.length <= NAME_CHARS_MAX &&
    Array.isArray(value.urls) &&
    value.urls.length <= URLS_MAX &&
    value.urls.every((url) => typeof url === 'string' && url.length <= URL_CHARS_MAX)
  )
}

function isIdList(value: unknown): value is MemberId[] {
  return (
    Array.isArray(value) &&
    value.length <= MEMBERS_MAX &&
    value.every(isMemberId) &&
    new Set(value).size === value.length
  )
}

function isConfiguration(value: unknown): value is Configuration {
  if (!isObject(value)) return false
  const { voters, votersOutgoing, learners, members, nextMemberId } = value
  if (!isIdList(voters) || !isIdList(votersOutgoing) || !isIdList(learners)) return false
  if (!Array.isArray(members) || members.length > MEMBERS_MAX || !members.every(isMember))
    return false
  if (!isMemberId(nextMemberId) || voters.length === 0) return false
  const named = new Set([...voters, ...votersOutgoing, ...learners])
  const known = new Set(members.map((member) => member.memberId))
  // The core knows a member by this pair alone.
  const pairs = new Set(members.map((member) => `${member.nodeKey}.${member.storageId}`))
  return (
    pairs.size === members.length &&
    known.size === members.length &&
    named.size === known.size &&
    [...named].every((id) => known.has(id) && id < nextMemberId) &&
    learners.every((id) => !voters.includes(id))
  )
}

function isSettings(value: unknown): value is ConfigurationRecord['settings'] {
  return (
    isObject(value) &&
    Object.values(value).every(
      (setting) =>
        Number.isFinite(setting) || typeof setting === 'string' || typeof setting === 'boolean',
    )
  )
}

function isRecord(value: unknown): value is ConfigurationRecord {
  return (
    isObject(value) &&
    value.format === 1 &&
    isHex(value.clusterId, 32) &&
    Array.isArray(value.foundingSet) &&
    value.foundingSet.length <= MEMBERS_MAX &&
    value.foundingSet.every((key) => isHex(key, 64)) &&
    isSettings(value.settings) &&
    isConfiguration(value.configuration) &&
    isRemoved(value.removed) &&
    isReason(value.reason) &&
    (value.featureLevel === undefined || isFeatureLevel(value.featureLevel))
  )
}

function isRemoved(value: unknown): boolean {
  if (value === undefined) return true
  return Array.isArray(value) && value.length <= REMOVED_MAX && value.every((id) => isHex(id, 32))
}

function isReason(value: unknown): boolean {
  if (value === undefined) return true
  return typeof value === 'string' && value.length <= REASON_CHARS_MAX
}

export function isFeatureLevel(value: unknown): value is number {
  return isMemberId(value) && value <= FEATURE_LEVEL_MAX
}

/** The members that form the configuration of a founding: ids 1..N in ascending order of key. */
export function foundingConfiguration(
  founders: readonly Omit<Member, 'memberId'>[],
): Configuration {
  const ordered = [...founders].sort((a, b) => (a.nodeKey < b.nodeKey ? -1 : 1))
  const members = ordered.map((founder, position) => ({
    memberId: position + 1,
    nodeKey: founder.nodeKey,
    storageId: founder.storageId,
    name: founder.name,
    urls: founder.urls,
  }))
  return {
    voters: members.map((member) => member.memberId),
    votersOutgoing: [],
    learners: [],
    members,
    nextMemberId: members.length + 1,
  }
}

/** Looks up by the pair only: the same key may be there twice, as an old voter and a new learner (HAZARDS). */
export function findMember(
  configuration: Configuration,
  identity: { readonly nodeKey: string; readonly storageId: string },
): Member | null {
  return (
    configuration.members.find(
      (member) => member.nodeKey === identity.nodeKey && member.storageId === identity.storageId,
    ) ?? null
  )
}
