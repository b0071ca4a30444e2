/**
 * Which notices stand for a node that is not bound yet, given what it knows. Pure.
 */
import type { PeerIdentity } from '../raft/types.ts'
import { firstClique, unlinkedPairs } from './candidates.ts'
import type { Knowledge, Mode } from './knowledge.ts'
import {
  type Condition,
  cannotConnect,
  condition,
  expectDiffers,
  foundersDiffer,
  type Shown,
  settingsDiffer,
  waiting,
  waitingForFounder,
} from './notices.ts'
import { type FoundingRecord, foundersOf, type Settings } from './record.ts'
import { hasPledged, joinable, type View, visibleClusters } from './rules.ts'

const PAIRS_SHOWN_MAX = 3

/** Those whose pledge is not known hold up the rest. */
export function pledgeConditions(
  record: FoundingRecord,
  self: PeerIdentity,
  knowledge: Knowledge,
  nowMs: number,
): readonly Condition[] {
  const { pledge } = record
  if (pledge === null) return []
  const own = { nodeKey: self.nodeKey, storageId: self.storageId, record }
  const evidence = [...knowledge.records, own]
  const founders = foundersOf(pledge)
  const pledged = founders.filter((founder) => hasPledged(founder, pledge, evidence))
  const missing = founders.filter((founder) => !pledged.includes(founder))
  if (missing.length === 0) return []
  const sightings = missing.map((founder) => {
    const seen = knowledge.lastSeen(founder.nodeKey)
    const linked = knowledge.peer(founder.nodeKey) !== undefined
    return {
      ...founder,
      sighting: seen === null ? null : { agoMs: nowMs - seen.atMs, url: seen.url },
      otherDisk: linked && !knowledge.isHere(founder),
    }
  })
  return [waitingForFounder({ missing: sightings, pledged, clusterId: pledge.clusterId })]
}

/** This node and the linked peers it could found with. */
export function foundersHere(mode: Mode, knowledge: Knowledge): readonly Shown[] {
  const me = { nodeKey: mode.self.nodeKey, name: mode.self.name }
  return [me, ...knowledge.agreeing()].sort((a, b) => (a.nodeKey < b.nodeKey ? -1 : 1))
}

interface BlankFacts {
  readonly mode: Mode
  readonly knowledge: Knowledge
  readonly view: View
  readonly settings: Settings
  /** Nothing has changed for a while (F9). */
  readonly settled: boolean
}

export function blankConditions(facts: BlankFacts): readonly Condition[] {
  const { mode, knowledge, view } = facts
  const conditions = clusterConditions(view)
  if (!mode.mayFound) {
    const { inviteClusterId } = mode
    const which = inviteClusterId === null ? 'a cluster' : `cluster ${inviteClusterId}`
    return [...conditions, condition('info', 'waiting', `Waiting for a member of ${which}.`)]
  }
  conditions.push(...disagreements(facts))
  if (visibleClusters(view).length > 0) return conditions
  const here = foundersHere(mode, knowledge)
  if (mode.size > 1) conditions.push(waiting(here, mode.size))
  const crowd = knowledge.crowd(knowledge.agreeing())
  if (facts.settled && crowd.length >= mode.size && firstClique(crowd, mode.size) === null) {
    const shown = (key: string) => here.find((node) => node.nodeKey === key) as Shown
    const pairs = unlinkedPairs(crowd, PAIRS_SHOWN_MAX)
    conditions.push(cannotConnect(pairs.map(([a, b]) => [shown(a), shown(b)] as const)))
  }
  return conditions
}

/** Nodes of one topic that were started for different clusters. */
function disagreements({ mode, knowledge, settings }: BlankFacts): readonly Condition[] {
  const conditions: Condition[] = []
  const others = knowledge.peers.flatMap(({ message }) =>
    message?.mayFound && message.records[0]?.record.bound === null ? [message] : [],
  )
  const hash = mode.foundersHash
  const foreign = others.filter((other) => other.foundersHash !== hash)
  if (foreign.length > 0) conditions.push(foundersDiffer(foreign.map(({ self }) => self)))
  const otherSize = others
    .filter(({ foundersHash, expect }) => {
      return hash === null && foundersHash === null && expect !== mode.expect
    })
    .map(({ self, expect }) => ({ ...self, expect }))
  if (otherSize.length > 0) conditions.push(expectDiffers(mode.expect, otherSize))
  const own = settingsText(settings)
  const otherSettings = others.filter((other) => settingsText(other.settings) !== own)
  if (otherSettings.length > 0) {
    conditions.push(settingsDiffer(otherSettings.map(({ self }) => self)))
  }
  return conditions
}

function clusterConditions(view: View): Condition[] {
  const ids = visibleClusters(view)
  const target = joinable(view)
  if (ids.length === 0 || 'bound' in target) return []
  const seen = ids.join(' and ')
  switch (target.waits) {
    case 'two-clusters':
      return [
        condition(
          'alarm',
          'two-clusters',
          `More than one cluster is on this topic: ${seen}. Join one by its invitation (raft-p2p invite).`,
        ),
      ]
    case 'my-key':
      return [
        condition(
          'alarm',
          'founder-key',
          `The key of this node is among the founders of ${seen}, but its data directory is blank. ` +
            'Restore the directory, or start with a new one and a new key.',
        ),
      ]
    case 'no-record':
      return [condition('info', 'cluster-seen', `Cluster ${seen} is here; waiting for its word.`)]
    case 'none':
      return [
        condition('alarm', 'other-cluster', `Cluster ${seen} is not the one of the invitation.`),
      ]
  }
}

function settingsText(settings: Settings): string {
  const names = Object.keys(settings).sort()
  return JSON.stringify(names.map((name) => [name, settings[name]]))
}
