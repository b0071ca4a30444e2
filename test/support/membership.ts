/** What the tests of membership share: changes asked for by hand, and joint configurations that last. */
import * as assert from 'uvu/assert'
import type { ConfChange } from '../../node/raft/change.ts'
import type { ChangeOutcome } from '../../node/raft/reconfiguration.ts'
import { type Configuration, type Index, peerIdOf } from '../../node/raft/types.ts'
import { type Cluster, type ClusterNode, memberIdentity } from './raft-cluster.ts'

let ticket = 0

/** Asks and lets everything happen that follows without time passing. Null: it is not answered yet. */
export function ask(
  cluster: Cluster,
  node: ClusterNode,
  ...changes: ConfChange[]
): ChangeOutcome['result'] | null {
  ticket++
  node.raft.changeConfiguration(ticket, changes, { ifIndex: null, reason: '' })
  cluster.settle()
  return node.changes.find((outcome) => outcome.ticket === ticket)?.result ?? null
}

/** As `ask`, of a change that is made. Returns the index of its first entry. */
export function change(cluster: Cluster, node: ClusterNode, ...changes: ConfChange[]): Index {
  const result = ask(cluster, node, ...changes)
  assert.ok(result?.ok, JSON.stringify(result))
  return result?.ok ? result.id.index : 0
}

/** As `change`, and no acknowledgement of its entry, or of anything behind it, arrives from here on: a joint configuration lasts. */
export function changeHeld(cluster: Cluster, node: ClusterNode, ...changes: ConfChange[]): Index {
  const { lastIndex } = node.raft.log
  cluster.hold = ({ to, message }) =>
    to === node.peer &&
    message.type === 'appendResponse' &&
    message.accepted &&
    message.matchIndex > lastIndex
  return change(cluster, node, ...changes)
}

/** The node as a member that enters. */
export function entering(node: ClusterNode): ConfChange {
  const id = Number(node.name.slice(1))
  return { type: 'add', member: { ...memberIdentity(id), name: node.name, urls: [] } }
}

export const promote = (memberId: number): ConfChange => ({ type: 'promote', memberId })
export const demote = (memberId: number): ConfChange => ({ type: 'demote', memberId })
export const remove = (memberId: number): ConfChange => ({ type: 'remove', memberId })

/** `voters|outgoing|learners` as the node sees them, by the names of the nodes that stand behind the ids. */
export function shapeOf(cluster: Cluster, node: ClusterNode): string {
  const configuration: Configuration = node.raft.tracker.configuration
  const nameOf = (id: number): string => {
    const member = configuration.members.find(({ memberId }) => memberId === id)
    const found = cluster.nodes.find(
      ({ peer }) => member !== undefined && peer === peerIdOf(member),
    )
    return found?.name ?? '?'
  }
  const { voters, votersOutgoing, learners } = configuration
  return [voters, votersOutgoing, learners].map((ids) => ids.map(nameOf).join(' ')).join('|')
}
