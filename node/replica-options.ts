/** What a replica is made from: limits and times of the node turned into the ticks and bytes that the pure parts live by. */
import type { AppliedStateOptions } from './applied-state.ts'
import { tickMsFor } from './config.ts'
import type { LogStart } from './founding-driver.ts'
import type { StateMachine } from './machine/machine.ts'
import { Random } from './raft/random.ts'
import { type PeerIdentity, peerIdOf } from './raft/types.ts'
import type { ReplicaOptions } from './replica.ts'
import type { Restored } from './snapshot-driver.ts'
import type { SnapshotLimits } from './snapshot-parts.ts'

/** The limits that consensus and the waiting requests live by, each as in limits.ts. */
export type RuntimeLimits = Record<
  | 'maxSaveBytes'
  | 'unsavedBytesMax'
  | 'appendBytesMax'
  | 'inflightAppendsMax'
  | 'inflightBytesMax'
  | 'pendingRequestsMax'
  | 'pendingRequestBytesMax'
  | 'hashEveryEntries'
  | 'hashesKept'
  | 'leaderViewMs'
  | 'applyCountMax',
  number
> &
  Partial<Record<'sessionTtlMs' | 'keyTtlMs', number>> &
  SnapshotLimits

export interface ReplicaSettings {
  readonly self: PeerIdentity
  readonly machine: StateMachine
  readonly electionMs: number
  readonly heartbeatMs: number
  readonly seed: number
  readonly autopilot: ReplicaOptions['autopilot']
}

export function replicaOptions(
  { self, machine, electionMs, heartbeatMs, seed, autopilot }: ReplicaSettings,
  limits: RuntimeLimits,
  { hardState, base, entries }: LogStart,
  { snapshot, applied }: Restored,
): ReplicaOptions {
  const tickMs = tickMsFor(heartbeatMs)
  return {
    raft: {
      self: peerIdOf(self),
      tickMs,
      hardState,
      base: base ?? { term: 0, index: 0 },
      entries,
      snapshot,
      electionTicks: Math.ceil(electionMs / tickMs),
      heartbeatTicks: Math.max(1, Math.round(heartbeatMs / tickMs)),
      random: new Random(seed),
      window: { messagesMax: limits.inflightAppendsMax, bytesMax: limits.inflightBytesMax },
      appendBytesMax: limits.appendBytesMax,
      saveBytesMax: limits.maxSaveBytes,
      uncommittedBytesMax: limits.unsavedBytesMax,
      applyCountMax: limits.applyCountMax,
    },
    applied,
    autopilot,
    tickMs,
    pendingRequestsMax: limits.pendingRequestsMax,
    pendingRequestBytesMax: limits.pendingRequestBytesMax,
    leaderViewTicks: Math.ceil(limits.leaderViewMs / tickMs),
    ...appliedOptions(machine, limits),
  }
}

export function appliedOptions(machine: StateMachine, limits: RuntimeLimits): AppliedStateOptions {
  const { hashEveryEntries, hashesKept, sessionTtlMs, keyTtlMs } = limits
  return { machine, hashEveryEntries, hashesKept, sessionTtlMs, keyTtlMs }
}
