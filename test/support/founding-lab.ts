/** Small builders for tests of founding: named disks, offers among them, records, messages, views. */
import {
  type FoundingMessage,
  type FoundingRecord,
  foundersOf,
  type KnownRecord,
  makeOffer,
  type Offer,
} from '../../node/founding/record.ts'
import type { View } from '../../node/founding/rules.ts'
import type { PeerIdentity } from '../../node/raft/types.ts'

export interface Disk extends PeerIdentity {
  readonly name: string
  readonly urls: readonly string[]
}

/** Keys ascend with `index`; `copy` tells disks of one key apart. */
export function disk(index: number, copy = 0): Disk {
  return {
    nodeKey: (index + 1).toString(16).padStart(2, '0').repeat(32),
    storageId: `${(copy + 10).toString(16)}${index.toString(16)}`.repeat(16),
    name: `n${index + 1}`,
    urls: [`ws://127.0.0.1:${7700 + index}`],
  }
}

export function clusterId(number: number): string {
  return number.toString(16).padStart(32, '0')
}

export function offerAmong(disks: readonly Disk[], round: number, id = round): Offer {
  return makeOffer({ round, clusterId: clusterId(id), founders: disks, settings: {} })
}

export function record(fields: Partial<FoundingRecord> = {}): FoundingRecord {
  return { seq: 1, floor: fields.pledge?.round ?? 0, pledge: null, bound: null, ...fields }
}

export function known(of: Disk, fields: Partial<FoundingRecord> = {}): KnownRecord {
  return { nodeKey: of.nodeKey, storageId: of.storageId, record: record(fields) }
}

export function foundedRecord(offer: Offer): FoundingRecord {
  const foundingSet = foundersOf(offer).map((founder) => founder.nodeKey)
  const bound = { clusterId: offer.clusterId, foundingSet, how: 'founded' as const }
  return record({ seq: 9, floor: offer.round, pledge: offer, bound })
}

export function joinedRecord(id: string, foundingSet: readonly string[]): FoundingRecord {
  return record({ bound: { clusterId: id, foundingSet, how: 'joined' } })
}

export function viewOf(self: Disk, fields: Partial<View> = {}): View {
  return {
    self: { nodeKey: self.nodeKey, storageId: self.storageId },
    expect: 3,
    founders: null,
    mayFound: true,
    inviteClusterId: null,
    others: [],
    reachable: [],
    claims: [],
    proposal: null,
    ...fields,
  }
}

export function messageFrom(
  sender: Disk,
  fields: Partial<FoundingMessage> & { readonly record?: FoundingRecord } = {},
): FoundingMessage {
  const { record: own = record({ seq: 0 }), records, ...rest } = fields
  const { nodeKey, storageId } = sender
  return {
    records: records ?? [{ nodeKey, storageId, record: own }],
    mayFound: true,
    expect: 3,
    foundersHash: null,
    settings: {},
    linkedTo: [],
    bootId: '00000000000000aa',
    self: sender,
    ...rest,
  }
}
