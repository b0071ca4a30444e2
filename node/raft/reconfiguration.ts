/**
 * How a leader changes who counts (paper, section 6; thesis 4.3): one change at a time, never before an entry of its own term is
 * committed (rule 5), a joint configuration only once both majorities have shown that they live, and out of the joint one by
 * itself. Belongs to one leadership and ends with it. What the next configuration is, change.ts says.
 */
import { type ConfChange, isJoint, leaveJoint, nextRecord } from './change.ts'
import { encodeConfigurationRecord } from './configuration.ts'
import type { RaftLog } from './log.ts'
import { mark } from './marks.ts'
import type { Progress } from './progress.ts'
import { voteResult } from './quorum.ts'
import type { Tracker } from './tracker.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type EntryId,
  type Index,
  type MemberId,
  type PeerId,
  peerIdOf,
} from './types.ts'

/** A learner that lags further behind what is committed may not become a voter: the cluster would wait for it. */
export const CAUGHT_UP_ENTRIES = 1000

export type ChangeRefusal =
  | 'not-leader'
  /** Another change is under way, a transfer is, or this leader is too new: soon it may work. */
  | 'busy'
  | 'bad-request'
  | 'not-found'
  /** The configuration is not the one that was named. */
  | 'compare-failed'
  /** It would cost the cluster its quorum as things stand. */
  | 'unsafe'

export interface ChangeOptions {
  /** The index of the configuration entry that must be in force; null: any. */
  readonly ifIndex: Index | null
  readonly reason: string
}

export type PlannedChange =
  | { readonly ok: true; readonly record: ConfigurationRecord }
  | { readonly ok: false; readonly code: ChangeRefusal; readonly message: string }

/** What became of a change: the id of its first entry, or why there is none. */
export interface ChangeOutcome {
  readonly ticket: number
  readonly result:
    | { readonly ok: true; readonly id: EntryId }
    | { readonly ok: false; readonly code: ChangeRefusal; readonly message: string }
}

interface Asking {
  readonly ticket: number
  readonly record: ConfigurationRecord
  readonly incoming: readonly PeerId[]
  readonly outgoing: readonly PeerId[]
  readonly acked: Set<PeerId>
  ticks: number
}

export interface ReconfigurationParts {
  readonly log: RaftLog
  readonly tracker: Tracker
  readonly electionTicks: number
  readonly append: (payload: Uint8Array) => EntryId
}

export class Reconfiguration {
  readonly #parts: ReconfigurationParts
  /** The change that waits until both majorities have answered from their disks. */
  #asking: Asking | null = null
  #outcomes: ChangeOutcome[] = []
  /** Left out by the entry at `index`, and still sent to until they know that it is committed. */
  readonly #departing = new Map<PeerId, { readonly index: Index; ticks: number }>()

  constructor(parts: ReconfigurationParts) {
    this.#parts = parts
  }

  /** No other configuration entry may be appended now: one is not committed yet, or a joint one is in force. */
  get underWay(): boolean {
    const { log } = this.#parts
    const present = log.configuration
    return (
      this.#asking !== null ||
      present === null ||
      present.index > log.commitIndex ||
      isJoint(present.record.configuration)
    )
  }

  /** A change waits for the answers of both halves: whoever would lead next would not know of it. */
  get asking(): boolean {
    return this.#asking !== null
  }

  /** What the change would lead to; changes nothing. The leader has committed an entry of its term. */
  plan(changes: readonly ConfChange[], options: ChangeOptions): PlannedChange {
    const present = this.#parts.log.configuration
    if (this.underWay || present === null) return busy('another change is under way')
    const { ifIndex } = options
    if (ifIndex !== null && ifIndex !== present.index) {
      return refuse('compare-failed', `the configuration is ${present.index}, not ${ifIndex}`)
    }
    const next = nextRecord(present.record, changes, options.reason)
    if (!next.ok) return next
    const lagging = this.#lagging(present.record.configuration, next.record.configuration)
    return lagging ?? next
  }

  /** Makes what `plan` has found possible. The answer comes with `takeOutcomes`, at once or within an election timeout. */
  start(ticket: number, record: ConfigurationRecord): void {
    if (!isJoint(record.configuration)) return this.#enter(ticket, record)
    this.#asking = {
      ticket,
      record,
      incoming: peersOf(record.configuration, record.configuration.voters),
      outgoing: peersOf(record.configuration, record.configuration.votersOutgoing),
      acked: new Set(),
      ticks: 0,
    }
    for (const progress of this.#parts.tracker.progress.values()) progress.askAgain = true
    this.#enterIfAlive()
  }

  /** A follower has acknowledged what it has on its disk. */
  acknowledged(peer: PeerId): void {
    if (this.#asking === null) return
    this.#asking.acked.add(peer)
    this.#enterIfAlive()
  }

  tick(): void {
    const { electionTicks, log, tracker } = this.#parts
    if (this.#asking !== null && ++this.#asking.ticks >= electionTicks) {
      mark('reconfiguration: the new voters do not answer')
      const message = 'no majority of the voters before and after the change answers from its disk'
      const { ticket } = this.#asking
      this.#outcomes.push({ ticket, result: refuse('unsafe', message) })
      this.#asking = null
    }
    for (const [peer, departing] of this.#departing) {
      if (departing.index > log.commitIndex || ++departing.ticks < electionTicks) continue
      this.#departing.delete(peer)
      tracker.progress.delete(peer)
    }
  }

  /**
   * Once a turn: a joint configuration that is committed is left. An inherited one too, but only behind an entry of the own
   * term, because only such an entry commits by counting (`mayAppend`).
   */
  settle(mayAppend: boolean): void {
    const { log } = this.#parts
    const present = log.configuration
    if (!mayAppend || present === null || present.index > log.commitIndex) return
    if (!isJoint(present.record.configuration)) return
    mark('reconfiguration: the joint configuration is left')
    this.#append(leaveJoint(present.record))
  }

  /** The configuration entry at `index` is in force. Whom it leaves out is told all the same (HAZARDS, Membership). */
  entered(before: ReadonlyMap<PeerId, Progress>, index: Index): void {
    const { progress: present } = this.#parts.tracker
    for (const [peer, progress] of before) {
      if (present.has(peer)) {
        this.#departing.delete(peer)
        continue
      }
      present.set(peer, progress)
      if (!this.#departing.has(peer)) this.#departing.set(peer, { index, ticks: 0 })
    }
  }

  takeOutcomes(): ChangeOutcome[] {
    const outcomes = this.#outcomes
    this.#outcomes = []
    return outcomes
  }

  /** The leadership is over. */
  end(): ChangeOutcome[] {
    if (this.#asking !== null) {
      const { ticket } = this.#asking
      const result = refuse('not-leader', 'this node does not lead any more')
      this.#outcomes.push({ ticket, result })
      this.#asking = null
    }
    return this.takeOutcomes()
  }

  /** HAZARDS: a joint configuration whose new half is not alive could never be left. */
  #enterIfAlive(): void {
    const asking = this.#asking
    if (asking === null) return
    const { self } = this.#parts.tracker
    const { incoming, outgoing, acked, ticket, record } = asking
    const lives = (peer: PeerId): boolean | undefined =>
      peer === self || acked.has(peer) ? true : undefined
    if (voteResult({ incoming, outgoing }, lives) !== 'won') return
    this.#asking = null
    this.#enter(ticket, record)
  }

  #enter(ticket: number, record: ConfigurationRecord): void {
    this.#outcomes.push({ ticket, result: { ok: true, id: this.#append(record) } })
  }

  #append(record: ConfigurationRecord): EntryId {
    return this.#parts.append(encodeConfigurationRecord(record))
  }

  #lagging(before: Configuration, after: Configuration): PlannedChange | null {
    const { log, tracker } = this.#parts
    const fresh = after.voters.filter((id) => !before.voters.includes(id))
    for (const [i, peer] of peersOf(after, fresh).entries()) {
      if (peer === tracker.self) continue
      const matchIndex = tracker.progress.get(peer)?.matchIndex ?? 0
      if (matchIndex === 0) {
        mark('reconfiguration: a learner was not heard yet')
        return refuse('unsafe', `member ${fresh[i]} has acknowledged nothing to this leader yet`)
      }
      const behind = log.commitIndex - matchIndex
      if (behind <= CAUGHT_UP_ENTRIES) continue
      mark('reconfiguration: a learner has not caught up')
      return refuse('unsafe', `member ${fresh[i]} is ${behind} entries behind; it must catch up`)
    }
    return null
  }
}

function peersOf(configuration: Configuration, ids: readonly MemberId[]): PeerId[] {
  return configuration.members
    .filter((member) => ids.includes(member.memberId))
    .sort((a, b) => ids.indexOf(a.memberId) - ids.indexOf(b.memberId))
    .map(peerIdOf)
}

function refuse(
  code: ChangeRefusal,
  message: string,
): { readonly ok: false; readonly code: ChangeRefusal; readonly message: string } {
  return { ok: false, code, message }
}

export function busy(message: string): ReturnType<typeof refuse> {
  return refuse('busy', message)
}
