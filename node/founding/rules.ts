/**
 * The rules of founding, F2 to F8 (docs/founding.md): what may change in the durable record, given what is known. One
 * pure function on plain data, so that a test can walk every interleaving. It must never look at time or at links to
 * decide that a pledge is over: only another disk's record can tell.
 */

import { mark } from '../raft/marks.ts'
import type { PeerIdentity } from '../raft/types.ts'
import {
  type Bound,
  type Founder,
  type FoundingRecord,
  foundersOf,
  type KnownRecord,
  makeOffer,
  type Offer,
  ROUND_MAX,
  type Settings,
  sameDisk,
  sameOffer,
  sameRecord,
} from './record.ts'

/** A live peer said, in its hello or by a Raft frame, that it belongs to a cluster. */
export interface Claim extends PeerIdentity {
  readonly clusterId: string
}

export interface Proposal {
  /** Used if, and only if, the offer is made. */
  readonly clusterId: string
  readonly founders: readonly Founder[]
  readonly settings: Settings
  /** What all founders support; absent: 1. */
  readonly featureLevel?: number
}

export interface View {
  readonly self: PeerIdentity
  /** N, ignored with `founders`. */
  readonly expect: number
  /** `--founders`, ascending, or null. */
  readonly founders: readonly string[] | null
  readonly mayFound: boolean
  /** The only cluster an invited node joins. */
  readonly inviteClusterId: string | null
  /** The newest known record of each disk, mine excluded. A copy of mine that came back may be among them (F8). */
  readonly others: readonly KnownRecord[]
  /** The disks with a link to here. */
  readonly reachable: readonly PeerIdentity[]
  readonly claims: readonly Claim[]
  /** The set that time (F9, F10) and links allow me to offer now, or null. */
  readonly proposal: Proposal | null
}

export type Decision =
  | { readonly rule: 'none' }
  /** Save `record`, then tell everybody. */
  | { readonly rule: 'F2' | 'F3' | 'F4' | 'F5' | 'F7'; readonly record: FoundingRecord }
  /** Write the log from offer.entry1, and only then save boundRecord(). */
  | { readonly rule: 'F6'; readonly offer: Offer }
  /** Stop the process. */
  | { readonly rule: 'F8'; readonly detail: string }

const NONE: Decision = { rule: 'none' }

export function decide(own: FoundingRecord, view: View): Decision {
  const contradiction = findContradiction(own, view)
  if (contradiction !== null) return { rule: 'F8', detail: contradiction }
  if (own.bound !== null) return NONE
  const evidence = evidenceOf(own, view)
  if (own.pledge !== null) {
    if (mayFoundNow(own.pledge, evidence, view)) return { rule: 'F6', offer: own.pledge }
    if (isDead(own.pledge, evidence)) return drop(own)
    return refuse(own, evidence, view)
  }
  const joined = join(own, view)
  if (joined !== NONE) return joined
  const pledged = pledge(own, evidence, view)
  if (pledged !== NONE) return pledged
  const refused = refuse(own, evidence, view)
  if (refused !== NONE) return refused
  return offer(own, evidence, view)
}

/** F6, last step: the record to save when the log with entry 1 is durable. */
export function boundRecord(own: FoundingRecord): FoundingRecord {
  if (own.pledge === null || own.bound !== null) throw new Error('only a pledge can be founded')
  const bound: Bound = {
    clusterId: own.pledge.clusterId,
    foundingSet: foundersOf(own.pledge).map((founder) => founder.nodeKey),
    how: 'founded',
  }
  return { ...own, seq: own.seq + 1, bound }
}

/** My own record counts too: what I refused is refused. */
function evidenceOf(own: FoundingRecord, view: View): readonly KnownRecord[] {
  const others = view.others.filter((known) => !sameDisk(known, view.self))
  const { nodeKey, storageId } = view.self
  return [...others, { nodeKey, storageId, record: own }]
}

function isFounder(offer: Offer, disk: PeerIdentity): boolean {
  return foundersOf(offer).some((founder) => sameDisk(founder, disk))
}

/** True for a record that shows its disk once pledged or founded X. Stable: X dead is the only way back. */
function holds(record: FoundingRecord, offer: Offer): boolean {
  return record.bound?.clusterId === offer.clusterId || sameOffer(record.pledge, offer)
}

export function hasPledged(
  disk: PeerIdentity,
  offer: Offer,
  evidence: readonly KnownRecord[],
): boolean {
  return evidence.some((known) => sameDisk(known, disk) && holds(known.record, offer))
}

/** This disk never pledged X and never will, or dropped it because X was dead before. Stable. */
function refuses(record: FoundingRecord, offer: Offer): boolean {
  if (record.bound !== null) return record.bound.clusterId !== offer.clusterId
  return record.floor >= offer.round && !sameOffer(record.pledge, offer)
}

/** X can never be founded any more. Stable. */
export function isDead(offer: Offer, evidence: readonly KnownRecord[]): boolean {
  const founders = foundersOf(offer)
  return evidence.some((known) => {
    const { bound } = known.record
    if (refuses(known.record, offer) && isFounder(offer, known)) return true
    if (bound === null || bound.clusterId === offer.clusterId) return false
    return founders.some((founder) => bound.foundingSet.includes(founder.nodeKey))
  })
}

function isFounded(offer: Offer, evidence: readonly KnownRecord[]): boolean {
  return evidence.some((known) => known.record.bound?.clusterId === offer.clusterId)
}

/** F6: everybody has pledged, or somebody who knew that has founded already. */
function mayFoundNow(offer: Offer, evidence: readonly KnownRecord[], view: View): boolean {
  return (
    foundersOf(offer).every((founder) => hasPledged(founder, offer, evidence)) ||
    isFounded(offer, evidence) ||
    view.claims.some((claim) => claim.clusterId === offer.clusterId && isFounder(offer, claim))
  )
}

/** F5. The evidence is another disk's: my own record holds X and so cannot refuse it. */
function drop(own: FoundingRecord): Decision {
  mark('founding: a dead pledge is dropped (F5)')
  return { rule: 'F5', record: { ...own, seq: own.seq + 1, pledge: null } }
}

/** F8. A copy of my record that is newer than mine is the same proof, only earlier. */
function findContradiction(own: FoundingRecord, view: View): string | null {
  for (const known of view.others) {
    const { record } = known
    if (sameDisk(known, view.self)) {
      if (record.seq > own.seq || (record.seq === own.seq && !sameRecord(record, own))) {
        return `a peer holds record ${record.seq} of this directory, which itself is at ${own.seq}`
      }
    }
    const { pledge } = record
    if (pledge === null || holds(own, pledge) || !isFounder(pledge, view.self)) continue
    const everybody = foundersOf(pledge).every((disk) => hasPledged(disk, pledge, view.others))
    if (everybody || isFounded(pledge, view.others)) {
      return `cluster ${pledge.clusterId} has this directory's pledge, which is not here`
    }
  }
  return null
}

/** Every cluster known to exist, whether or not one of its records came. */
export function visibleClusters(view: View): readonly string[] {
  const ids = new Set(view.claims.map((claim) => claim.clusterId))
  for (const known of view.others) {
    if (known.record.bound !== null) ids.add(known.record.bound.clusterId)
  }
  return [...ids].sort()
}

/**
 * The cluster a blank node binds itself to, or why it waits. Between two clusters nobody but the operator can choose, and
 * a node whose key is among the founders must first see which disk it was (F8).
 */
export function joinable(
  view: View,
):
  | { readonly bound: Bound }
  | { readonly waits: 'none' | 'two-clusters' | 'no-record' | 'my-key' } {
  const visible = visibleClusters(view)
  const wanted = view.inviteClusterId ?? visible[0]
  if (wanted === undefined || !visible.includes(wanted)) return { waits: 'none' }
  if (view.inviteClusterId === null && visible.length > 1) return { waits: 'two-clusters' }
  const records = view.others.filter((known) => known.record.bound?.clusterId === wanted)
  const foundingSet = records[0]?.record.bound?.foundingSet
  if (foundingSet === undefined) return { waits: 'no-record' }
  const offerSeen = records.some((known) => known.record.pledge?.clusterId === wanted)
  if (foundingSet.includes(view.self.nodeKey) && !offerSeen) return { waits: 'my-key' }
  return { bound: { clusterId: wanted, foundingSet, how: 'joined' } }
}

/** F7. Bound first; admission is asked for only when that is durable. */
function join(own: FoundingRecord, view: View): Decision {
  const target = joinable(view)
  if (!('bound' in target)) return NONE
  mark('founding: a late node is bound (F7)')
  return { rule: 'F7', record: { ...own, seq: own.seq + 1, bound: target.bound } }
}

/** The size and the founders of a set are what this node was started for. */
function fits(keys: readonly string[], view: View): boolean {
  if (view.founders === null) return keys.length === view.expect
  const { founders } = view
  return keys.length === founders.length && keys.every((key, at) => key === founders[at])
}

function mayPledge(offer: Offer, view: View): boolean {
  const keys = foundersOf(offer).map((founder) => founder.nodeKey)
  return view.mayFound && visibleClusters(view).length === 0 && fits(keys, view)
}

/** Live offers that name me and that I neither hold nor have refused, in an order all nodes share. */
function openOffers(
  own: FoundingRecord,
  evidence: readonly KnownRecord[],
  view: View,
): readonly Offer[] {
  const open: Offer[] = []
  for (const { record } of evidence) {
    const seen = record.pledge
    if (seen === null || seen.round <= own.floor || !isFounder(seen, view.self)) continue
    if (open.some((other) => sameOffer(other, seen)) || isDead(seen, evidence)) continue
    open.push(seen)
  }
  return open.sort((a, b) => a.round - b.round || (a.proposer < b.proposer ? -1 : 1))
}

/** F3. */
function pledge(own: FoundingRecord, evidence: readonly KnownRecord[], view: View): Decision {
  const chosen = openOffers(own, evidence, view).find((open) => mayPledge(open, view))
  if (chosen === undefined) return NONE
  mark('founding: an offer is pledged (F3)')
  const record = { ...own, seq: own.seq + 1, floor: chosen.round, pledge: chosen }
  return { rule: 'F3', record }
}

/**
 * F4, at once: whoever pledged the offer waits for this refusal or for nothing. Only called when no open offer may be
 * pledged. A pledge that is held stays.
 */
function refuse(own: FoundingRecord, evidence: readonly KnownRecord[], view: View): Decision {
  const open = openOffers(own, evidence, view)[0]
  if (open === undefined) return NONE
  mark('founding: an offer is refused (F4)')
  return { rule: 'F4', record: { ...own, seq: own.seq + 1, floor: open.round } }
}

/** F2, with guard G: while a reachable peer may still found with its pledge, an offer could only die. */
function offer(own: FoundingRecord, evidence: readonly KnownRecord[], view: View): Decision {
  const { proposal } = view
  if (proposal === null || !view.mayFound || visibleClusters(view).length > 0) return NONE
  const keys = proposal.founders.map((founder) => founder.nodeKey).sort()
  if (!fits(keys, view) || keys[0] !== view.self.nodeKey) return NONE
  let floor = 0
  for (const founder of proposal.founders) {
    const record = evidence.find((known) => sameDisk(known, founder))?.record
    if (record === undefined || record.pledge !== null || record.bound !== null) return NONE
    floor = Math.max(floor, record.floor)
  }
  for (const peer of view.reachable) {
    const record = evidence.find((known) => sameDisk(known, peer))?.record
    if (record === undefined) return NONE
    if (record.pledge !== null && !isDead(record.pledge, evidence)) {
      mark('founding: an offer waits for a pledge in reach (G)')
      return NONE
    }
  }
  if (floor >= ROUND_MAX) return NONE
  const made = makeOffer({ ...proposal, round: floor + 1 })
  return { rule: 'F2', record: { ...own, seq: own.seq + 1, floor: made.round, pledge: made } }
}
