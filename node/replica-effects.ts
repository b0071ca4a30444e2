/** What the replica wants from its driver, once a turn. Pure. */

import type { AutopilotAlarm } from './autopilot.ts'
import type { PeerFrame } from './peer-frame.ts'
import type { RaftEvent, Ready, SaveBatch } from './raft/ready.ts'
import type { SnapshotOffer } from './raft/snapshots.ts'
import type { Member, PeerId } from './raft/types.ts'
import type { ServiceAnswer } from './request.ts'

export interface ReplicaEffects {
  /** By peer, in order. All of one peer's frames leave in one write. */
  readonly frames: ReadonlyMap<PeerId, readonly PeerFrame[]>
  /** At most one is in flight: none is offered before `saved` or `saveFailed`. */
  readonly save: SaveBatch | null
  /** Snapshots of a leader that may be fetched; `installed` brings in what was loaded from one. */
  readonly offers: readonly SnapshotOffer[]
  readonly answers: readonly { readonly requestId: number; readonly answer: ServiceAnswer }[]
  readonly events: readonly ReplicaEvent[]
  /** Call `raft.wake` in so many ms, instead of when it was asked for before; null: nothing new. */
  readonly wakeInMs: number | null
  /** The autopilot's alarms, all that stand, when they have changed. */
  readonly alarms: readonly AutopilotAlarm[] | null
  /** There is more to apply: drain again soon, after other work had its turn. */
  readonly more: boolean
}

export interface ReplicaEvent {
  readonly event: string
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: Readonly<Record<string, unknown>>
}

/** The core names replicas; people know members. */
function replicaEventOf(event: RaftEvent, memberOf: (peer: PeerId) => Member | null): ReplicaEvent {
  const { type, ...rest } = event
  const fields: Record<string, unknown> = { ...rest }
  if ('candidate' in event) {
    fields.candidate = memberOf(event.candidate)?.memberId ?? event.candidate.slice(0, 8)
  }
  if (event.type === 'member.regressed') {
    const { memberId = null, name = null } = memberOf(event.member) ?? {}
    return { event: type, level: 'error', fields: { ...fields, member: memberId, name } }
  }
  if (event.type !== 'resigned') return { event: type, level: 'info', fields }
  return { event: 'leader.resigned', level: 'warn', fields }
}

/** A map is large for what most turns have to send. */
const NO_FRAMES: ReplicaEffects['frames'] = new Map()

/** What one turn has collected so far. */
export class Outbox {
  #frames = new Map<PeerId, PeerFrame[]>()
  #answers: { requestId: number; answer: ServiceAnswer }[] = []
  #events: ReplicaEvent[] = []

  send(to: PeerId, frame: PeerFrame): void {
    const frames = this.#frames.get(to)
    if (frames === undefined) this.#frames.set(to, [frame])
    else frames.push(frame)
  }

  answer(requestId: number, answer: ServiceAnswer): void {
    this.#answers.push({ requestId, answer })
  }

  event(event: string, level: ReplicaEvent['level'], fields: ReplicaEvent['fields']): void {
    this.#events.push({ event, level, fields })
  }

  core(event: RaftEvent, memberOf: (peer: PeerId) => Member | null): void {
    this.#events.push(replicaEventOf(event, memberOf))
  }

  /** Hands it out, with what the core and the autopilot want, and forgets it. */
  take(ready: Ready, alarms: ReplicaEffects['alarms'], more: boolean): ReplicaEffects {
    const { save, offers, wakeInMs } = ready
    // Written out field by field: this happens in every turn, and to spread objects is dear.
    const taken = {
      frames: this.#frames.size === 0 ? NO_FRAMES : this.#frames,
      save,
      offers,
      answers: this.#answers,
      events: this.#events,
      wakeInMs,
      alarms,
      more,
    }
    if (this.#frames.size > 0) this.#frames = new Map()
    this.#answers = []
    this.#events = []
    return taken
  }
}
