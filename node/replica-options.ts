/** What a replica is made from: limits and times of the node turned into the ticks and bytes that the pure parts live by. */
import type { AppliedStateOptions } from './applied-state.ts'
import { tickMsFor } from './config.ts'
import type { LogStart } from './founding-driver.ts'
import type { StateMachine } from './machine/machine.ts'
import { decodeConfigurationRecord } from './raft/configuration.ts'
import { Random } from './raft/random.ts'
import { type ConfigurationRecord, type Entry, type PeerIdentity, peerIdOf } from './raft/types.ts'
import type { ReplicaOptions } from './replica.ts'
import type { Restored } from './snapshot-driver.ts'
import type { SnapshotLimits } from './snapshot-parts.ts'

/** As config.ts demands of the two flags; other ticks than the cluster's could leave less. */
const HEARTBEATS_MIN = 3

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
  { self, machine, seed, autopilot, ...flags }: ReplicaSettings,
  limits: RuntimeLimits,
  { hardState, base, entries }: LogStart,
  { snapshot, applied }: Restored,
): ReplicaOptions {
  // The clock runs by the flag; what is counted with it is what the cluster has set.
  const tickMs = tickMsFor(flags.heartbeatMs)
  const settings = newestSettings(entries) ?? snapshot?.configuration.record.settings ?? {}
  const heartbeatMs = positive(settings.heartbeatMs) ?? flags.heartbeatMs
  const electionMs = positive(settings.electionMs) ?? flags.electionMs
  const heartbeatTicks = Math.max(1, Math.round(heartbeatMs / tickMs))
  return {
    raft: {
      self: peerIdOf(self),
      tickMs,
      hardState,
      base: base ?? { term: 0, index: 0 },
      entries,
      snapshot,
      electionTicks: Math.max(Math.ceil(electionMs / tickMs), HEARTBEATS_MIN * heartbeatTicks),
      heartbeatTicks,
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

/** Of the last configuration in the log; one that is not committed yet and never will be does no harm until the next start. */
function newestSettings(entries: readonly Entry[]): ConfigurationRecord['settings'] | null {
  for (let at = entries.length - 1; at >= 0; at--) {
    const entry = entries[at] as Entry
    if (entry.kind !== 'configuration') continue
    return decodeConfigurationRecord(entry.payload)?.settings ?? null
  }
  return null
}

function positive(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : null
}

export function appliedOptions(machine: StateMachine, limits: RuntimeLimits): AppliedStateOptions {
  const { hashEveryEntries, hashesKept, sessionTtlMs, keyTtlMs } = limits
  return { machine, hashEveryEntries, hashesKept, sessionTtlMs, keyTtlMs }
}
