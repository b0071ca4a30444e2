/**
 * What the members were, in every log and in what is committed: each configuration must follow from the one before it, there is
 * never a second one that is not committed, and no member id is given twice (CORRECTNESS, rules 5 and 14). It also knows whose disks
 * a commit or an election needs. Nothing of change.ts is used: the rules are told a second time.
 */
import { decodeConfigurationRecord } from '../../node/raft/configuration.ts'
import { majority } from '../../node/raft/quorum.ts'
import {
  type Configuration,
  type ConfigurationRecord,
  type Entry,
  type Index,
  type MemberId,
  type PeerId,
  peerIdOf,
  type Term,
} from '../../node/raft/types.ts'
import { wrong } from './failure.ts'

export interface KnownConfiguration {
  readonly index: Index
  readonly term: Term
  readonly record: ConfigurationRecord
}

/** Voters of whom a majority is needed. */
export type Half = readonly PeerId[]

export class Configurations {
  /** By index; the committed ones, ascending. */
  readonly #committed: KnownConfiguration[] = []
  /** In some log, and not known to be committed. */
  #open: KnownConfiguration[] = []

  get newest(): KnownConfiguration | null {
    return this.#committed.at(-1) ?? null
  }

  committedAt(index: Index): KnownConfiguration | undefined {
    return this.#committed.find((one) => one.index === index)
  }

  isRemoved(storageId: string): boolean {
    return this.newest?.record.removed?.includes(storageId) === true
  }

  /** An entry that no log held before has come into one, behind the configuration `before` of that log. */
  entered(entry: Entry, before: KnownConfiguration | null, committedIndex: Index): void {
    const known = knownOf(entry)
    if (entry.index > committedIndex) this.#open.push(known)
    if (before === null) return
    const fault = broken(before.record.configuration, known.record.configuration)
    if (fault !== null) {
      wrong('configuration', `configuration ${entry.index} of term ${entry.term} ${fault}`)
    }
    if (before.index > committedIndex) {
      wrong(
        'one-change',
        `configuration ${entry.index} was appended while ${before.index} was not committed`,
      )
    }
  }

  committed(entry: Entry): void {
    const known = knownOf(entry)
    const { newest } = this
    if (newest !== null) {
      const fault = broken(newest.record.configuration, known.record.configuration)
      if (fault !== null)
        wrong('configuration', `the committed configuration ${entry.index} ${fault}`)
    }
    this.#committed.push(known)
    this.#open = this.#open.filter((one) => one.index > entry.index)
  }

  /**
   * What may have been in force when the entry at `index` was counted, in a log whose newest configuration up to there is `at`: that
   * one, or the next, which can only have been appended when `at` was committed.
   */
  inForce(index: Index, at: KnownConfiguration): readonly Configuration[] {
    const { configuration } = at.record
    if (index === at.index) return [configuration]
    const later = [...this.#open, ...this.#committed].filter((one) => one.index > index)
    const next = later.filter(({ record }) => broken(configuration, record.configuration) === null)
    return [configuration, ...next.map(({ record }) => record.configuration)]
  }

  /** Every set of voters of which a majority may be needed from now on. */
  halves(committedIndex: Index): readonly Half[] {
    const { newest } = this
    // What lies where something else was committed is in nobody's way any more.
    this.#open = this.#open.filter(({ index }) => index > committedIndex)
    const all = newest === null ? this.#open : [newest, ...this.#open]
    return all.flatMap(({ record }) => halvesOf(record.configuration))
  }
}

export function halvesOf(configuration: Configuration): readonly Half[] {
  const { voters, votersOutgoing } = configuration
  return [voters, votersOutgoing]
    .filter((ids) => ids.length > 0)
    .map((ids) => peersOf(configuration, ids))
}

/** A majority of each half agrees. */
export function isQuorum(halves: readonly Half[], agrees: (peer: PeerId) => boolean): boolean {
  return halves.every((half) => half.filter(agrees).length >= majority(half.length))
}

function peersOf(configuration: Configuration, ids: readonly MemberId[]): PeerId[] {
  return configuration.members.filter(({ memberId }) => ids.includes(memberId)).map(peerIdOf)
}

function knownOf({ index, term, payload }: Entry): KnownConfiguration {
  const record = decodeConfigurationRecord(payload)
  if (record === null) throw new Error(`bug: entry ${index} is no configuration`)
  return { index, term, record }
}

/** Null, or what is wrong with `after` as the next one: half a sentence. */
function broken(before: Configuration, after: Configuration): string | null {
  if (after.nextMemberId < before.nextMemberId) return 'gives member ids anew'
  for (const member of after.members) {
    const known = before.members.find(({ memberId }) => memberId === member.memberId)
    if (known === undefined && member.memberId < before.nextMemberId) {
      return `gives the id ${member.memberId} a second time`
    }
    if (known !== undefined && peerIdOf(known) !== peerIdOf(member)) {
      return `makes member ${member.memberId} somebody else`
    }
  }
  if (after.voters.length === 0) return 'has no voters'
  const isSame = sameIds(before.voters, after.voters)
  if (before.votersOutgoing.length > 0) {
    return isSame && after.votersOutgoing.length === 0 ? null : 'does not leave the joint one'
  }
  if (isSame) return after.votersOutgoing.length === 0 ? null : 'is joint without need'
  return sameIds(before.voters, after.votersOutgoing) ? null : 'changes the voters in one step'
}

function sameIds(a: readonly MemberId[], b: readonly MemberId[]): boolean {
  return a.length === b.length && a.every((id) => b.includes(id))
}
