/**
 * Who should be voter, learner, replaced: what a leader proposes by itself, rule by rule, in the order of RULES. It keeps the
 * voters odd and at most `maxVoters`, admits who knows the topic, and swaps a voter that is gone for a stand-by. Pure: it sees
 * the committed configuration and what the leader has observed, and returns at most one change. It must never propose
 * one that a majority of the old and of the new voters could not carry, and never demote because somebody left.
 */
import type { ConfChange } from './raft/change.ts'
import { MEMBERS_MAX } from './raft/configuration.ts'
import { mark } from './raft/marks.ts'
import { majority } from './raft/quorum.ts'
import type { ConfigurationRecord, Member, MemberId } from './raft/types.ts'

/** What the leader has observed of one member in this leadership, itself included. */
export interface MemberSight {
  readonly memberId: MemberId
  /** Entries of the leader's log that its disk does not hold. */
  readonly lag: number
  /** How long it was heard without a break; 0 for one whose state is in doubt, so that it gets no vote. */
  readonly aliveMs: number
  /** Since it was last heard. */
  readonly silentMs: number
  /** Some member that is alive has a link to it, or has not said whether it has one. */
  readonly reachable: boolean
  /** Its key lives on with another storageId: what this member had on its disk is gone. */
  readonly storageLost: boolean
}

/** A node that is linked, knows the topic and the cluster, and is in no configuration. */
export interface Applicant extends Omit<Member, 'memberId'> {
  readonly waitingMs: number
}

export interface AutopilotSettings {
  readonly maxVoters: number
  readonly replaceAfterMs: number
  /** `approve`: applicants wait until an operator adds them. */
  readonly admit: 'auto' | 'approve'
  /** Who was not heard for so long is not alive. An election timeout. */
  readonly patienceMs: number
  /** A stand-by is heard without a break for so long before it is trusted with a vote. */
  readonly stableMs: number
  /** A stand-by that lacks more entries has not caught up. */
  readonly lagMax: number
}

export interface AutopilotInput {
  /** The newest committed configuration. */
  readonly record: ConfigurationRecord
  readonly selfId: MemberId
  /** A configuration entry is not committed yet, or nothing of this term is: no change can begin. */
  readonly busy: boolean
  readonly sights: readonly MemberSight[]
  readonly applicants: readonly Applicant[]
  readonly settings: AutopilotSettings
}

export interface Decision {
  readonly changes: readonly ConfChange[]
  /** ASCII, at most REASON_CHARS_MAX (raft/configuration.ts): it is kept in the configuration entry. */
  readonly reason: string
}

export const AUTOPILOT_ALARMS = [
  'even-voters',
  'voter-lost',
  'voter-unreachable',
  'applicants-waiting',
  'not-admitted',
] as const

/** What an operator should look at. One of a kind; the detail changes only when the situation does. */
export interface AutopilotAlarm {
  readonly kind: (typeof AUTOPILOT_ALARMS)[number]
  readonly detail: string
}

export interface Advice {
  readonly decision: Decision | null
  readonly alarms: readonly AutopilotAlarm[]
}

/** Learners added by one entry, so that its reason can name them. */
const ADMITTED_AT_ONCE = 8

export function decide(input: AutopilotInput): Advice {
  const situation = new Situation(input)
  const decision = decisionIn(situation)
  return { decision, alarms: alarmsIn(situation, decision?.changes ?? []) }
}

function decisionIn(situation: Situation): Decision | null {
  if (situation.settled) {
    for (const rule of RULES) {
      const decision = rule(situation)
      if (decision !== null && situation.carries(decision.changes)) return decision
    }
  }
  return null
}

/** The configuration and what is known of its members, with the questions that the rules ask. */
class Situation {
  readonly input: AutopilotInput
  readonly voters: readonly Member[]
  readonly learners: readonly Member[]
  readonly #sights: ReadonlyMap<MemberId, MemberSight>

  constructor(input: AutopilotInput) {
    this.input = input
    const { members, voters, learners } = input.record.configuration
    const among = (ids: readonly MemberId[]) => members.filter((one) => ids.includes(one.memberId))
    this.voters = among(voters)
    this.learners = among(learners)
    this.#sights = new Map(input.sights.map((sight) => [sight.memberId, sight]))
  }

  /** A change may begin. */
  get settled(): boolean {
    return !this.input.busy && this.input.record.configuration.votersOutgoing.length === 0
  }

  /** The odd number of voters that is wanted when there are nodes enough. */
  get votersWanted(): number {
    const { maxVoters } = this.input.settings
    return maxVoters % 2 === 1 ? maxVoters : Math.max(1, maxVoters - 1)
  }

  isSelf({ memberId }: Member): boolean {
    return memberId === this.input.selfId
  }

  isAlive(member: Member): boolean {
    if (this.isSelf(member)) return true
    const sight = this.#sights.get(member.memberId)
    return (
      sight !== undefined && !sight.storageLost && sight.silentMs < this.input.settings.patienceMs
    )
  }

  isLost(member: Member): boolean {
    return !this.isSelf(member) && this.#sights.get(member.memberId)?.storageLost === true
  }

  /** Silent for as long as the settings bear. */
  isOverdue(member: Member): boolean {
    if (this.isSelf(member)) return false
    const silentMs = this.#sights.get(member.memberId)?.silentMs ?? 0
    return silentMs >= this.input.settings.replaceAfterMs
  }

  /** Nobody who is alive reaches it: not only this leader, which may be the one that is badly connected (HAZARDS). */
  isUnreachable(member: Member): boolean {
    return this.#sights.get(member.memberId)?.reachable === false
  }

  /** Learners fit to vote in place of `leaving`, or beside all voters when that is null; lowest id first. */
  standBys(leaving: Member | null): readonly Member[] {
    const staying = this.voters.filter((voter) => voter !== leaving)
    return this.learners.filter((learner) => {
      // One machine must not have two votes, as the disk it lost and as the new one.
      if (staying.some((voter) => voter.nodeKey === learner.nodeKey)) return false
      const sight = this.#sights.get(learner.memberId)
      const { stableMs, lagMax } = this.input.settings
      return (
        sight !== undefined &&
        this.isAlive(learner) &&
        sight.aliveMs >= stableMs &&
        sight.lag <= lagMax
      )
    })
  }

  /** A majority of the old and of the new voters is alive: otherwise the joint configuration would be stuck. */
  carries(changes: readonly ConfChange[]): boolean {
    const before = this.voters.map((voter) => voter.memberId)
    const after = votersAfter(before, changes)
    if (sameIds(before, after)) return true
    const alive = new Set(
      [...this.voters, ...this.learners]
        .filter((member) => this.isAlive(member))
        .map((member) => member.memberId),
    )
    const isCarriedBy = (voters: readonly MemberId[]): boolean =>
      voters.filter((id) => alive.has(id)).length >= majority(voters.length)
    if (isCarriedBy(before) && isCarriedBy(after)) return true
    mark('autopilot: a change that no majority could carry')
    return false
  }

  /** Null: it may be admitted. */
  whyNot(applicant: Applicant): string | null {
    const { record } = this.input
    const { members } = record.configuration
    const who = applicant.nodeKey.slice(0, 8)
    if (record.removed?.includes(applicant.storageId)) {
      return `${who} was removed; it enters again with: raft-p2p rejoin`
    }
    const copied = members.find((member) => member.storageId === applicant.storageId)
    if (copied !== undefined) {
      return `${who} has the data of member ${copied.memberId}; give it a directory of its own`
    }
    const twin = members.find(
      (member) => member.nodeKey === applicant.nodeKey && this.isAlive(member),
    )
    return twin === undefined
      ? null
      : `${who} has the key of member ${twin.memberId}, which is alive`
  }

  /** One of a key: which of two with one key is the right one, nobody can tell. */
  get admissible(): readonly Applicant[] {
    const { applicants } = this.input
    return applicants.filter(
      (one) =>
        this.whyNot(one) === null &&
        applicants.every((other) => other === one || other.nodeKey !== one.nodeKey),
    )
  }

  get room(): number {
    return Math.max(0, MEMBERS_MAX - this.input.record.configuration.members.length)
  }
}

// --- the rules --------------------------------------------------------------------------------------------------

type Rule = (situation: Situation) => Decision | null

/** The first that wants something decides. Repairs come before growth. */
const RULES: readonly Rule[] = [
  swapLost,
  makeOdd,
  shrink,
  swapOverdue,
  admit,
  growByTwo,
  removeLost,
]

/** A voter whose disk is gone has nothing left to wait for. Its own new self takes its place, or any stand-by. */
function swapLost(situation: Situation): Decision | null {
  for (const voter of situation.voters.filter((one) => situation.isLost(one))) {
    const able = situation.standBys(voter)
    const heir = able.find((one) => one.nodeKey === voter.nodeKey) ?? able[0]
    if (heir === undefined) continue
    mark('autopilot: a voter that lost its disk is replaced')
    const { memberId } = voter
    return {
      changes: [{ type: 'replace', memberId, with: heir.memberId, keep: false }],
      reason: `member ${memberId} lost its disk: member ${heir.memberId} votes in its place`,
    }
  }
  return null
}

/** An even number bears no more losses than the odd one below it, and costs more. */
function makeOdd(situation: Situation): Decision | null {
  const count = situation.voters.length
  if (count % 2 === 1 || count + 1 > situation.votersWanted) return null
  return promote(situation, 1)
}

/** Only after the settings were lowered: a member that leaves never brings the count above them. */
function shrink(situation: Situation): Decision | null {
  const { voters, votersWanted } = situation
  const surplus = voters.length - votersWanted
  if (surplus <= 0) return null
  // The silent ones first, then the newest; the leader stays, so that nothing is handed over for it.
  const order = voters
    .filter((voter) => !situation.isSelf(voter))
    .sort(
      (a, b) =>
        Number(situation.isAlive(a)) - Number(situation.isAlive(b)) || b.memberId - a.memberId,
    )
  const leaving = order.slice(0, surplus).map((voter) => voter.memberId)
  mark('autopilot: there are more voters than wanted')
  return {
    changes: leaving.map((memberId) => ({ type: 'demote', memberId })),
    reason: `at most ${votersWanted} may vote: stand-by from now on: ${named(leaving)}`,
  }
}

/** A voter out of reach keeps its place as a learner: if it comes back it is a stand-by. */
function swapOverdue(situation: Situation): Decision | null {
  const gone = situation.voters.filter(
    (voter) => situation.isOverdue(voter) && situation.isUnreachable(voter),
  )
  for (const { memberId } of gone) {
    const [heir] = situation.standBys(null)
    if (heir === undefined) continue
    const seconds = Math.round(situation.input.settings.replaceAfterMs / 1000)
    mark('autopilot: a voter out of reach is replaced')
    return {
      changes: [{ type: 'replace', memberId, with: heir.memberId, keep: true }],
      reason: `member ${memberId} is out of everybody's reach for ${seconds} s: member ${heir.memberId} votes in its place`,
    }
  }
  return null
}

/** Who knows the topic may listen at once. Learners count nowhere, so this waits for nothing. */
function admit(situation: Situation): Decision | null {
  if (situation.input.settings.admit !== 'auto') return null
  const chosen = situation.admissible.slice(0, Math.min(situation.room, ADMITTED_AT_ONCE))
  if (chosen.length === 0) return null
  const keys = chosen.map((one) => one.nodeKey.slice(0, 8))
  return {
    changes: chosen.map(({ nodeKey, storageId, name, urls }) => ({
      type: 'add',
      member: { nodeKey, storageId, name, urls },
    })),
    reason: `admitted: ${keys.join(', ')}`,
  }
}

/** From odd to odd in one joint change, so that there is never an even number in between. */
function growByTwo(situation: Situation): Decision | null {
  const count = situation.voters.length
  if (count % 2 === 0 || count + 2 > situation.votersWanted) return null
  return promote(situation, 2)
}

/** The old half of a machine that is back with a new disk: nobody will ever answer under that name. */
function removeLost(situation: Situation): Decision | null {
  const lost = situation.learners
    .filter((learner) => situation.isLost(learner))
    .map((learner) => learner.memberId)
    .slice(0, ADMITTED_AT_ONCE)
  if (lost.length === 0) return null
  mark('autopilot: a learner that lost its disk is removed')
  return {
    changes: lost.map((memberId) => ({ type: 'remove', memberId })),
    reason: `lost their disks: ${named(lost)}`,
  }
}

function promote(situation: Situation, count: number): Decision | null {
  const able = distinctKeys(situation.standBys(null)).slice(0, count)
  if (able.length < count) return null
  const ids = able.map((member) => member.memberId)
  return {
    changes: ids.map((memberId) => ({ type: 'promote', memberId })),
    reason: `${situation.voters.length + count} voters bear more losses: ${named(ids)} may vote`,
  }
}

// --- alarms -----------------------------------------------------------------------------------------------------

/** What is being mended is no alarm. */
function alarmsIn(situation: Situation, changes: readonly ConfChange[]): AutopilotAlarm[] {
  const { voters, input } = situation
  const mended = changes.flatMap((change) => (change.type === 'replace' ? change.memberId : []))
  const left = voters.filter(({ memberId }) => !mended.includes(memberId))
  const alarms: AutopilotAlarm[] = []
  const raise = (kind: AutopilotAlarm['kind'], detail: string) => alarms.push({ kind, detail })
  if (voters.length % 2 === 0 && !changes.some(({ type }) => type === 'promote')) {
    const bears = majority(voters.length)
    raise(
      'even-voters',
      `${voters.length} voters need ${bears} of them alive: start another node, which will vote`,
    )
  }
  const lost = left.filter((voter) => situation.isLost(voter))
  if (lost.length > 0) {
    raise(
      'voter-lost',
      `${namedMembers(lost)} lost the disk; a stand-by that has caught up is needed`,
    )
  }
  const overdue = left.filter((voter) => situation.isOverdue(voter) && !lost.includes(voter))
  if (overdue.length > 0) {
    const why = overdue.some((voter) => situation.isUnreachable(voter))
      ? 'start another node to take its place, or remove it with: raft-p2p members remove <id>'
      : 'other members still reach it: the network of the leader is in doubt'
    raise('voter-unreachable', `out of reach: ${namedMembers(overdue)}; ${why}`)
  }
  if (input.settings.admit === 'approve' && situation.admissible.length > 0) {
    const keys = situation.admissible.map((one) => one.nodeKey.slice(0, 8))
    raise('applicants-waiting', `${listed(keys)}: let them in with: raft-p2p members add <key>`)
  }
  const refused = input.applicants.flatMap((one) => situation.whyNot(one) ?? [])
  if (situation.room === 0 && situation.admissible.length > 0) {
    refused.push(`there are ${MEMBERS_MAX} members; remove one with: raft-p2p members remove <id>`)
  }
  if (refused.length > 0) raise('not-admitted', listed(refused))
  return alarms
}

function namedMembers(members: readonly Member[]): string {
  return named(members.map((member) => member.memberId))
}

function named(ids: readonly MemberId[]): string {
  return `${ids.length === 1 ? 'member' : 'members'} ${listed(ids.map(String))}`
}

function listed(texts: readonly string[]): string {
  const shown = texts.slice(0, ADMITTED_AT_ONCE).join(', ')
  return texts.length > ADMITTED_AT_ONCE ? `${shown} and others` : shown
}

// --- small questions ----------------------------------------------------------------------------------------------

function votersAfter(before: readonly MemberId[], changes: readonly ConfChange[]): MemberId[] {
  const after = new Set(before)
  for (const change of changes) {
    if (change.type === 'promote') after.add(change.memberId)
    else if (change.type === 'replace') {
      after.delete(change.memberId)
      after.add(change.with)
    } else if (change.type === 'demote' || change.type === 'remove') after.delete(change.memberId)
  }
  return [...after]
}

function sameIds(a: readonly MemberId[], b: readonly MemberId[]): boolean {
  return a.length === b.length && a.every((id) => b.includes(id))
}

function distinctKeys(members: readonly Member[]): Member[] {
  return members.filter(
    (one, at) => members.findIndex((other) => other.nodeKey === one.nodeKey) === at,
  )
}
