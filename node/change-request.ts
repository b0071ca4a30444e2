/**
 * What an operator asks of the membership, as it travels from the node that was asked to the leader and back: ASCII JSON, because
 * it is rare and every later version must read it. Pure; the shapes are checked here and nowhere else.
 */
import { type ErrorBody, errorBody } from '../client/protocol.ts'
import { decodeAsciiJson, encodeAsciiJson } from './raft/ascii-json.ts'
import type { ConfigurationRecord, Index, MemberId } from './raft/types.ts'

/** `transfer` changes no member: it goes the same way to the leader, and `id` is who shall lead; without it the furthest voter. */
export const CHANGE_VERBS = [
  'add',
  'remove',
  'promote',
  'demote',
  'replace',
  'settings',
  'transfer',
] as const
export type ChangeVerb = (typeof CHANGE_VERBS)[number]

export interface ChangeRequest {
  readonly verb: ChangeVerb
  /** A memberId, a name or a unique prefix of a nodeId; for `add` of one that waits for admission. A `transfer` may leave it out. */
  readonly id?: string
  /** `replace`: the learner that takes the place. */
  readonly with?: string
  readonly settings?: ConfigurationRecord['settings']
  readonly dryRun?: boolean
  /** Only when the configuration in force is the one of this index. */
  readonly ifConfig?: Index
  readonly reason?: string
}

/** What a change has led to, or would lead to. */
export interface ChangeReport {
  /** The index of the configuration entry that is in force now. */
  readonly configIndex: Index
  /** One sentence fragment for each thing that changed. */
  readonly changes: readonly string[]
  readonly dryRun: boolean
  readonly voters: readonly MemberId[]
  readonly learners: readonly MemberId[]
}

export type ChangeAnswer =
  | { readonly ok: true; readonly report: ChangeReport }
  | { readonly ok: false; readonly error: ErrorBody }

const ID_CHARS_MAX = 128
const REASON_CHARS_MAX = 200
/** Far above any request or answer: 64 members, each in a sentence. */
const BYTES_MAX = 64 * 1024

export function encodeChangeRequest(request: ChangeRequest): Uint8Array {
  return encodeAsciiJson(request)
}

/** Null when the bytes are no request. */
export function decodeChangeRequest(bytes: Uint8Array): ChangeRequest | null {
  return bytes.length > BYTES_MAX ? null : parseChangeRequest(decodeAsciiJson(bytes))
}

/** Takes what a person or program has sent; numbers are fine as ids. Null when it is no request. */
export function parseChangeRequest(value: unknown): ChangeRequest | null {
  if (!isObject(value)) return null
  const { verb, dryRun, ifConfig, reason, settings } = value
  if (!CHANGE_VERBS.some((known) => known === verb)) return null
  const id = idOf(value.id)
  const successor = idOf(value.with)
  if (id === null || successor === null) return null
  if (verb !== 'transfer' && (id === undefined) !== (verb === 'settings')) return null
  if ((settings === undefined) === (verb === 'settings')) return null
  if (settings !== undefined && !isSettings(settings)) return null
  if (dryRun !== undefined && typeof dryRun !== 'boolean') return null
  if (ifConfig !== undefined && !isIndex(ifConfig)) return null
  if (reason !== undefined && !isText(reason, REASON_CHARS_MAX)) return null
  return {
    verb: verb as ChangeVerb,
    ...(id === undefined ? {} : { id }),
    ...(successor === undefined ? {} : { with: successor }),
    ...(settings === undefined ? {} : { settings }),
    ...(dryRun === undefined ? {} : { dryRun }),
    ...(ifConfig === undefined ? {} : { ifConfig }),
    ...(reason === undefined ? {} : { reason }),
  }
}

export function encodeChangeAnswer(answer: ChangeAnswer): Uint8Array {
  return encodeAsciiJson(answer)
}

/** Always an answer: one that cannot be read is an error of its own. */
export function decodeChangeAnswer(bytes: Uint8Array): ChangeAnswer {
  const value = bytes.length > BYTES_MAX ? undefined : decodeAsciiJson(bytes)
  if (isObject(value) && value.ok === true && isReport(value.report)) {
    const { configIndex, changes, dryRun, voters, learners } = value.report
    return { ok: true, report: { configIndex, changes, dryRun, voters, learners } }
  }
  if (isObject(value) && value.ok === false && isError(value.error)) {
    const { code, message, retriable, maybeApplied } = value.error
    return { ok: false, error: { code, message, retriable, maybeApplied } }
  }
  const error = errorBody('internal', 'the answer of the leader cannot be read', true)
  return { ok: false, error }
}

function idOf(value: unknown): string | null | undefined {
  if (value === undefined) return undefined
  if (isIndex(value)) return String(value)
  return isText(value, ID_CHARS_MAX) && value !== '' ? value : null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText(value: unknown, charsMax: number): value is string {
  return typeof value === 'string' && value.length <= charsMax
}

function isIndex(value: unknown): value is Index {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isSettings(value: unknown): value is ConfigurationRecord['settings'] {
  return (
    isObject(value) &&
    Object.values(value).every(
      (setting) =>
        Number.isFinite(setting) || typeof setting === 'boolean' || isText(setting, ID_CHARS_MAX),
    )
  )
}

function isReport(value: unknown): value is ChangeReport {
  return (
    isObject(value) &&
    isIndex(value.configIndex) &&
    typeof value.dryRun === 'boolean' &&
    Array.isArray(value.changes) &&
    value.changes.every((text) => typeof text === 'string') &&
    [value.voters, value.learners].every((ids) => Array.isArray(ids) && ids.every(isIndex))
  )
}

function isError(value: unknown): value is ErrorBody {
  return (
    isObject(value) &&
    typeof value.code === 'string' &&
    typeof value.message === 'string' &&
    typeof value.retriable === 'boolean' &&
    typeof value.maybeApplied === 'boolean'
  )
}
