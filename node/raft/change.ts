/**
 * What the next configuration is when members come, go or change their part (paper, section 6; thesis 4.3). Pure arithmetic on
 * records: whether the change may be made now is the leader's business (leadership.ts). Every change of the voters passes
 * through a joint configuration, whatever its size, so that there is one rule and no special case (docs/membership.md).
 */
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
  MEMBERS_MAX,
  REASON_CHARS_MAX,
  RECORD_BYTES_MAX,
  REMOVED_MAX,
} from './configuration.ts'
import { mark } from './marks.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Member,
  type MemberId,
  peerIdOf,
} from './types.ts'

export type ConfChange =
  /** Enters as a learner, under the next memberId. */
  | { readonly type: 'add'; readonly member: Omit<Member, 'memberId'> }
  /** A learner becomes a voter. */
  | { readonly type: 'promote'; readonly memberId: MemberId }
  /** A voter becomes a learner. */
  | { readonly type: 'demote'; readonly memberId: MemberId }
  /** A voter or learner goes for good; its storageId is remembered, so that it is told when it comes back. */
  | { readonly type: 'remove'; readonly memberId: MemberId }
  /** The learner `with` takes the place of the voter, in one step. `keep`: the old voter stays as a learner. */
  | {
      readonly type: 'replace'
      readonly memberId: MemberId
      readonly with: MemberId
      readonly keep: boolean
    }
  | { readonly type: 'settings'; readonly settings: ConfigurationRecord['settings'] }
  /** Only ever upwards (feature-level.ts). */
  | { readonly type: 'featureLevel'; readonly level: number }

export type NextRecord =
  | { readonly ok: true; readonly record: ConfigurationRecord }
  | { readonly ok: false; readonly code: 'bad-request' | 'not-found'; readonly message: string }

interface Draft {
  voters: MemberId[]
  learners: MemberId[]
  members: Member[]
  nextMemberId: MemberId
  settings: ConfigurationRecord['settings']
  featureLevel: number
}

type Fault = Exclude<NextRecord, { readonly ok: true }>

/**
 * `record` must not be joint. The result is joint exactly when the set of voters changes; `leaveJoint` gives what follows it. The
 * reason is kept in the record: printable ASCII, cut to its limit.
 */
export function nextRecord(
  record: ConfigurationRecord,
  changes: readonly ConfChange[],
  reason: string,
): NextRecord {
  const { configuration, settings } = record
  if (isJoint(configuration)) return refused('bad-request', 'a change is under way')
  if (changes.length === 0) return refused('bad-request', 'there is nothing to change')
  const draft: Draft = {
    voters: [...configuration.voters],
    learners: [...configuration.learners],
    members: [...configuration.members],
    nextMemberId: configuration.nextMemberId,
    settings,
    featureLevel: record.featureLevel ?? 1,
  }
  for (const change of changes) {
    const fault = applyChange(draft, change)
    if (fault !== null) return fault
  }
  if (draft.voters.length === 0) return refused('bad-request', 'nobody would be left to vote')
  const before = configuration.voters
  const same =
    before.length === draft.voters.length && before.every((id) => draft.voters.includes(id))
  const next = {
    ...draft,
    voters: ascending(draft.voters),
    votersOutgoing: same ? [] : before,
    learners: ascending(draft.learners),
  }
  const { featureLevel } = draft
  const made = {
    ...withConfiguration(record, next, draft.settings, reason),
    // Absent for the first level, as in every record that was made before there were levels.
    ...(featureLevel > 1 ? { featureLevel } : {}),
  }
  // Every node stops at an entry that it cannot read, or put into a snapshot, so that none such may be appended.
  const payload = encodeConfigurationRecord(made)
  if (payload.length > RECORD_BYTES_MAX) {
    mark('change: it would lead to a configuration that is too large')
    return refused('bad-request', 'names, addresses and settings are too long together')
  }
  if (decodeConfigurationRecord(payload) === null) {
    mark('change: it would lead to a configuration that nobody can read')
    return refused('bad-request', 'a name, address, key or setting is not as it must be')
  }
  return { ok: true, record: made }
}

/** The configuration behind a joint one: the old voters' half is over, and whoever has no part any more is gone. */
export function leaveJoint(record: ConfigurationRecord): ConfigurationRecord {
  const next = { ...record.configuration, votersOutgoing: [] }
  return withConfiguration(record, next, record.settings, record.reason ?? '')
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.votersOutgoing.length > 0
}

function withConfiguration(
  record: ConfigurationRecord,
  next: Omit<Configuration, 'members'> & { readonly members: readonly Member[] },
  settings: ConfigurationRecord['settings'],
  reason: string,
): ConfigurationRecord {
  const { removed: _before, ...rest } = record
  const { voters, votersOutgoing, learners, nextMemberId } = next
  const named = new Set([...voters, ...votersOutgoing, ...learners])
  const members = next.members.filter((member) => named.has(member.memberId))
  const gone = record.configuration.members
    .filter((member) => !named.has(member.memberId))
    .map((member) => member.storageId)
  // Who enters again is not to be told that it was removed.
  const present = new Set(members.map((member) => member.storageId))
  const removed = [...(record.removed ?? []), ...gone]
    .filter((storageId) => !present.has(storageId))
    .slice(-REMOVED_MAX)
  return {
    ...rest,
    settings,
    configuration: { voters, votersOutgoing, learners, members, nextMemberId },
    ...(removed.length > 0 ? { removed } : {}),
    reason: reason.replace(/[^\x20-\x7e]/g, '?').slice(0, REASON_CHARS_MAX),
  }
}

function applyChange(draft: Draft, change: ConfChange): Fault | null {
  switch (change.type) {
    case 'add':
      return add(draft, change.member)
    case 'settings':
      draft.settings = { ...draft.settings, ...change.settings }
      return null
    case 'featureLevel':
      if (change.level <= draft.featureLevel) {
        return refused('bad-request', 'a feature level is never lowered')
      }
      draft.featureLevel = change.level
      return null
    case 'promote':
      return move(draft, change.memberId, 'learners') ?? put(draft.voters, change.memberId)
    case 'demote':
      return move(draft, change.memberId, 'voters') ?? put(draft.learners, change.memberId)
    case 'remove': {
      const isVoter = draft.voters.includes(change.memberId)
      return move(draft, change.memberId, isVoter ? 'voters' : 'learners')
    }
    case 'replace': {
      const fault = move(draft, change.memberId, 'voters') ?? move(draft, change.with, 'learners')
      if (fault !== null) return fault
      put(draft.voters, change.with)
      return change.keep ? put(draft.learners, change.memberId) : null
    }
  }
}

function add(draft: Draft, member: Omit<Member, 'memberId'>): Fault | null {
  const peer = peerIdOf(member)
  if (draft.members.some((known) => peerIdOf(known) === peer)) {
    return refused('bad-request', `${member.name} is a member already`)
  }
  if (draft.members.length >= MEMBERS_MAX) {
    return refused('bad-request', `a cluster has at most ${MEMBERS_MAX} members`)
  }
  const { nodeKey, storageId, name, urls } = member
  const memberId = draft.nextMemberId
  draft.nextMemberId++
  draft.members.push({ memberId, nodeKey, storageId, name, urls })
  return put(draft.learners, memberId)
}

/** Takes the member out of its list. */
function move(draft: Draft, memberId: MemberId, from: 'voters' | 'learners'): Fault | null {
  if (!draft.members.some((member) => member.memberId === memberId)) {
    return refused('not-found', `there is no member ${memberId}`)
  }
  const at = draft[from].indexOf(memberId)
  if (at === -1) {
    const why = from === 'voters' ? 'is a stand-by and has no vote' : 'has a vote already'
    return refused('bad-request', `member ${memberId} ${why}`)
  }
  draft[from].splice(at, 1)
  return null
}

function put(list: MemberId[], memberId: MemberId): null {
  list.push(memberId)
  return null
}

function ascending(ids: readonly MemberId[]): MemberId[] {
  return [...ids].sort((a, b) => a - b)
}

function refused(code: Fault['code'], message: string): Fault {
  return { ok: false, code, message }
}
