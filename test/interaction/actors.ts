/**
 * What stands behind a node of a trace: a consensus core alone, or a whole replica (core, sessions, key-value machine, waiting
 * requests). Both are the production code, driven through their public faces only.
 */
import { decodeKvGot } from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type { PeerFrame } from '../../node/peer-frame.ts'
import type { RaftOptions } from '../../node/raft/options.ts'
import { Raft } from '../../node/raft/raft.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import type { SnapshotOffer } from '../../node/raft/snapshots.ts'
import type { PeerId } from '../../node/raft/types.ts'
import { Replica, type ReplicaOptions } from '../../node/replica.ts'
import type { ServiceRequest } from '../../node/request.ts'
import { textOf } from '../support/raft-cluster.ts'
import { TICK_MS } from '../support/raft-replicas.ts'
import { eventText, outcomeText, type Words } from './format.ts'

/** What a node hands out at the end of a turn. */
export interface Turn {
  readonly frames: readonly { readonly to: PeerId; readonly frame: PeerFrame }[]
  readonly save: SaveBatch | null
  readonly offers: readonly SnapshotOffer[]
  /** What it says about elections. */
  readonly events: readonly string[]
  /** What became of reads and of clients' requests. */
  readonly answers: readonly string[]
  readonly wakeInMs: number | null
}

export interface Actor {
  readonly raft: Raft
  /** What clients ask of a replica; a bare core has no clients. */
  readonly request: ((requestId: number, request: ServiceRequest) => void) | null
  step(from: PeerId, frame: PeerFrame): void
  tick(): void
  saved(): void
  saveFailed(): void
  linkClosed(peer: PeerId, byUs: boolean): void
  /** The wake-up that a turn asked for. */
  wake(): void
  turn(): Turn
}

export function coreActor(options: RaftOptions, words: Words): Actor {
  const raft = new Raft(options)
  return {
    raft,
    request: null,
    step: (from, frame) => {
      if (frame.type === 'raft') raft.step(from, frame.message)
    },
    tick: () => raft.tick(),
    saved: () => raft.saved(),
    saveFailed: () => raft.saveFailed(),
    linkClosed: (peer, byUs) => raft.linkClosed(peer, byUs),
    wake: () => raft.wake(),
    turn: () => {
      const ready = raft.ready()
      return {
        frames: ready.messages.map(({ to, message }) => ({ to, frame: { type: 'raft', message } })),
        save: ready.save,
        offers: ready.offers,
        events: ready.events.flatMap((event) => {
          const candidate = 'candidate' in event ? words.nameOf(event.candidate) : null
          return eventText(event.type, { ...event, candidate }) ?? []
        }),
        answers: [
          ...ready.reads.map(
            ({ requestId, index }) => `answers read ${requestId} once ${index} is applied`,
          ),
          ...ready.readsLost.map((requestId) => `loses read ${requestId}`),
          ...ready.changes.map(({ ticket, result }) =>
            result.ok
              ? `change ${ticket} is entry ${result.id.term}/${result.id.index}`
              : `refuses change ${ticket}: ${result.code}, ${result.message}`,
          ),
        ],
        wakeInMs: ready.wakeInMs,
      }
    },
  }
}

export type Lives = Pick<ReplicaOptions, 'sessionTtlMs' | 'keyTtlMs'>

export function replicaActor(options: RaftOptions, lives: Lives): Actor {
  const replica = new Replica({
    raft: options,
    machine: new KvMachine(),
    tickMs: TICK_MS,
    pendingRequestsMax: 100,
    pendingRequestBytesMax: 1 << 20,
    leaderViewTicks: 5,
    autopilot: null,
    hashEveryEntries: 8,
    hashesKept: 4,
    ...lives,
  })
  const queries = new Set<number>()
  return {
    raft: replica.raft,
    request: (requestId, request) => {
      if (request.type === 'query') queries.add(requestId)
      replica.request(requestId, request)
    },
    step: (from, frame) => replica.receive(from, frame),
    tick: () => replica.tick(),
    saved: () => replica.saved(),
    saveFailed: () => replica.saveFailed(),
    linkClosed: (peer, byUs) => replica.linkClosed(peer, byUs),
    wake: () => replica.raft.wake(),
    turn: () => {
      const effects = replica.drain()
      return {
        frames: [...effects.frames].flatMap(([to, frames]) =>
          frames.map((frame) => ({ to, frame })),
        ),
        save: effects.save,
        offers: effects.offers,
        events: effects.events.flatMap(({ event, fields }) => {
          return eventText(event, { ...fields, candidate: `n${fields.candidate}` }) ?? []
        }),
        answers: effects.answers.map(({ requestId, answer }) => {
          const head = `answers request ${requestId}:`
          if (!answer.ok) {
            return `${head} ${answer.error.code}${answer.error.maybeApplied ? ', maybe applied' : ''}`
          }
          const what = queries.has(requestId) ? gotText(answer.body) : outcomeText(answer.body)
          return `${head} ${what} index=${answer.index}`
        }),
        wakeInMs: effects.wakeInMs,
      }
    },
  }
}

function gotText(body: Uint8Array): string {
  const got = decodeKvGot(body)
  return got === null ? 'no such key' : `value ${textOf(got.value)} revision=${got.revision}`
}
