/** What clients ask of a replica and what they get. Types only; part of the pure code. */
import type { Consistency, ErrorBody } from '../client/protocol.ts'
import type { Index } from './raft/types.ts'

export type ServiceRequest =
  /** An encoded Command (client/protocol.ts). The bytes are kept: hand over a copy that nobody changes. */
  | { readonly type: 'command'; readonly command: Uint8Array; readonly timeoutMs: number }
  | {
      readonly type: 'query'
      readonly query: Uint8Array
      readonly consistency: Consistency
      readonly timeoutMs: number
    }
  /** An encoded ChangeRequest (change-request.ts); the answer's body is an encoded ChangeReport. */
  | { readonly type: 'change'; readonly body: Uint8Array; readonly timeoutMs: number }

export type ServiceAnswer =
  /** `body`: an encoded Outcome for a command, the machine's answer for a query, a ChangeReport in JSON for a change. `index`: the log index it reflects. */
  | { readonly ok: true; readonly index: Index; readonly body: Uint8Array }
  | { readonly ok: false; readonly error: ErrorBody }

export interface HashAt {
  readonly index: Index
  readonly hash: string
}
