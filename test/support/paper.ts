/** What the paper tests share: nodes that are spoken to by hand, and what they say. */
import * as assert from 'uvu/assert'
import type { Append, RaftMessage } from '../../node/raft/messages.ts'
import type { Entry, Index, Term } from '../../node/raft/types.ts'
import { bytesOf, type Cluster, type ClusterNode } from './raft-cluster.ts'

export interface Said {
  /** Receiver, by name. */
  readonly to: string
  readonly message: RaftMessage
}

/** What a node wants to send now; its save, if it starts one, is not finished. */
export function said(cluster: Cluster, node: ClusterNode): Said[] {
  cluster.flights = []
  cluster.drain(node)
  const messages = cluster.flights.map(({ to, message }) => ({
    to: cluster.nodes.find((other) => other.peer === to)?.name ?? '?',
    message,
  }))
  cluster.flights = []
  return messages
}

/** What a node wants to send once everything it has to save is saved. */
export function saidWhenSaved(cluster: Cluster, node: ClusterNode): Said[] {
  const messages = said(cluster, node)
  while (node.saving !== null) {
    cluster.finishSave(node)
    messages.push(...said(cluster, node))
  }
  return messages
}

export function append(
  term: Term,
  prev: readonly [term: Term, index: Index],
  entries: readonly Entry[],
  commit: Index = 0,
): Append {
  return { type: 'append', term, prevTerm: prev[0], prevIndex: prev[1], entries, commit }
}

/** Commands of one term at from..to. */
export function entriesOf(term: Term, from: Index, to: Index): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({
    term,
    index: from + i,
    kind: 'command',
    payload: bytesOf(`${term}/${from + i}`),
  }))
}

export function propose(node: ClusterNode, text: string): Index {
  const result = node.raft.propose('command', bytesOf(text))
  assert.ok(result.ok, 'a leader takes proposals')
  return result.ok ? result.id.index : 0
}

/** Elections are tried until `name` leads: the first may only tell it of a later term. */
export function leadAtLast(cluster: Cluster, name: string): ClusterNode {
  const node = cluster.node(name)
  for (let i = 0; i < 3 && node.raft.role !== 'leader'; i++) {
    cluster.campaign(name)
    cluster.settle()
  }
  assert.is(node.raft.role, 'leader')
  return node
}
