/** What a runtime is made from: the parts of a node, and who brings time, disk and links. Types only. */
import type { AutopilotDefaults } from './autopilot-driver.ts'
import type { FoundingOptions } from './founding.ts'
import type { StateMachine } from './machine/machine.ts'
import type { RuntimeLimits } from './replica-options.ts'
import type { StatusParts } from './status.ts'
import type { Identity } from './storage/identity.ts'
import type { SnapshotStorage } from './storage/snapshots.ts'
import type { LogStorage } from './storage/storage.ts'
import type { Transport } from './transport/transport.ts'

export interface RuntimeParts {
  readonly identity: Identity
  readonly transport: Transport
  /** `create`: an empty log in place of whatever an unfinished founding left. Throws StorageError. */
  readonly openLog: (how: 'create' | 'open') => LogStorage
  /** Throws StorageError. */
  readonly openSnapshots: () => SnapshotStorage
  readonly machine: StateMachine
  readonly founding: Omit<FoundingOptions, 'self' | 'record'>
  readonly urls: () => readonly string[]
  readonly heartbeatMs: number
  readonly electionMs: number
  /** Others than the product's: the simulator draws small ones, at which batches split and windows fill. */
  readonly limits?: Partial<RuntimeLimits>
  readonly seed: number
  /** What holds where the cluster's settings do not say it. Null: members change only when somebody asks for it. */
  readonly autopilot: AutopilotDefaults | null
  /** Runs `run` when the inputs of this turn are in. */
  readonly defer: (run: () => void) => void
  /** Calls `run` in about `delayMs`, behind everything that has come in by then; the returned function cancels. */
  readonly wakeIn: (delayMs: number, run: () => void) => () => void
  /** Called once a turn before the effects are drained: a tick that is nearly due may ride along. */
  readonly turn: () => void
  /** Monotonic, ms. Only for what is shown. */
  readonly nowMs: () => number
  readonly wallClock: () => Date
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', event: string, fields?: object) => void
  /** Something after which this process must not go on. */
  readonly fatal: (code: string, message: string) => void
  readonly admin: (name: string, args: unknown) => Promise<unknown>
  readonly shown: Pick<StatusParts, 'version' | 'runtime' | 'topic'>
}
