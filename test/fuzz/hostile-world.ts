/**
 * One core and peers that are authenticated and say anything: every message that the wire can carry, near what the core holds or far
 * from it. What leaves the codec is all that can reach the core, so each message goes through it first.
 */
import * as assert from 'uvu/assert'
import { InvariantError } from '../../node/raft/assert.ts'
import { checkDeeply } from '../../node/raft/checks.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import { Raft } from '../../node/raft/raft.ts'
import { Random } from '../../node/raft/random.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import { type Entry, type Index, type PeerId, peerIdOf, type Term } from '../../node/raft/types.ts'
import { decodeRecord, encodeRecord, recordBytes } from '../../node/storage/segment.ts'
import { decodeBatch, encodeBatch, MalformedFrame } from '../../node/transport/codec.ts'
import {
  configurationOf,
  type DiskImage,
  memberIdentity,
  writeTo,
} from '../support/raft-cluster.ts'

export const MESSAGES = [
  'preVote',
  'preVoteResponse',
  'requestVote',
  'voteResponse',
  'voteResponse',
  'append',
  'append',
  'append',
  'append',
  'accepted',
  'accepted',
  'rejected',
  'heartbeat',
  'heartbeat',
  'heartbeatResponse',
  'timeoutNow',
  'resigned',
] as const
export const CALLS = [
  'tick',
  'ticks',
  'saved',
  'saved',
  'no room',
  'propose',
  'read',
  'transfer',
  'close link',
  'lead',
  'lead',
  'restart',
] as const

/** A message is drawn as distances from what the core holds, so that most of them hit something. */
export interface Hostile {
  readonly type: (typeof MESSAGES)[number]
  readonly from: number
  readonly term: number
  readonly index: number
  readonly other: number
  readonly flag: boolean
  /** By entry: how far its term rises, and what it is. */
  readonly entries: readonly { readonly rise: number; readonly kind: number }[]
}

export type Step = (
  | { readonly step: 'hear'; readonly message: Hostile }
  | { readonly step: 'call'; readonly call: (typeof CALLS)[number]; readonly which: number }
) & {
  /** The turn goes on: the core is not asked yet for what it wants. */
  readonly more: boolean
}

/** A sender below this is the leader itself, where there is one. */
const LEADER_FROM = 38
/** Distances stand for themselves up to here; above it they are huge numbers. */
const NEAR = 6
const HUGE = [2 ** 31, 2 ** 32, 2 ** 53 - 2, 2 ** 53 - 1]

function record(size: number): Uint8Array {
  return encodeConfigurationRecord({
    clusterId: '0'.repeat(32),
    foundingSet: [],
    settings: {},
    configuration: configurationOf(size, 1),
  })
}

/** What an entry of a hostile leader may be: a command, a no-op, another configuration, or none. */
const KINDS: readonly Pick<Entry, 'kind' | 'payload'>[] = [
  { kind: 'command', payload: new Uint8Array([1]) },
  { kind: 'command', payload: new Uint8Array([2, 2]) },
  { kind: 'noop', payload: new Uint8Array(0) },
  { kind: 'configuration', payload: record(3) },
  { kind: 'configuration', payload: record(2) },
  { kind: 'configuration', payload: new Uint8Array([123, 125]) },
]

export class HostileWorld {
  readonly #peers: readonly PeerId[]
  readonly #disk: DiskImage
  readonly #random: Random
  #raft: Raft
  #saving: SaveBatch | null = null
  #readId = 1

  constructor(seed: number) {
    this.#random = new Random(seed)
    // The last one is a node of this cluster that is no member yet.
    this.#peers = [1, 2, 3, 4, 5].map((id) => peerIdOf(memberIdentity(id)))
    const first: Entry = { term: 1, index: 1, kind: 'configuration', payload: record(3) }
    const more = [2, 3].map(
      (index): Entry => ({ term: 1, index, kind: 'command', payload: new Uint8Array(1) }),
    )
    this.#disk = { hardState: { term: 1, vote: null, commit: 2 }, entries: [first, ...more] }
    this.#raft = this.#start()
  }

  get raft(): Raft {
    return this.#raft
  }

  get disk(): DiskImage {
    return this.#disk
  }

  #start(): Raft {
    return new Raft({
      self: this.#peers[0] as PeerId,
      hardState: this.#disk.hardState,
      entries: this.#disk.entries,
      tickMs: 100,
      electionTicks: 4,
      heartbeatTicks: 1,
      random: new Random(this.#random.next()),
      window: { messagesMax: 3, bytesMax: 16 },
      appendBytesMax: 4,
      saveBytesMax: 8,
      uncommittedBytesMax: 100,
      applyCountMax: 3,
    })
  }

  /** Returns how the core was stopped, or what it said that cannot be read, or null. Throws anything but an InvariantError. */
  run(step: Step): string | null {
    try {
      if (step.step === 'hear') this.#hear(step.message)
      else this.#call(step.call, step.which)
      if (step.more) return null
      const unreadable = this.#drain()
      checkDeeply(this.#raft)
      return unreadable
    } catch (error) {
      if (!(error instanceof InvariantError)) throw error
      // Beyond 2^53 - 1 adding one changes nothing, and everything that follows is the same fault.
      const isTermSpent = this.#raft.term > Number.MAX_SAFE_INTEGER
      return isTermSpent ? `unreadable term: ${error.message}` : error.message
    }
  }

  #hear(one: Hostile): void {
    const from = this.#sender(one)
    let frames: ReturnType<typeof decodeBatch>['frames']
    try {
      frames = decodeBatch(
        encodeBatch(null, [{ type: 'raft', message: this.#message(one) }]),
      ).frames
    } catch (error) {
      if (error instanceof MalformedFrame) return
      throw error
    }
    for (const frame of frames) if (frame.type === 'raft') this.#raft.step(from, frame.message)
  }

  /** Mostly the leader speaks as a leader: another one in its term is the first thing that a core stops for. */
  #sender({ type, from }: Hostile): PeerId {
    const { leader, self } = this.#raft
    const isRuler =
      (type === 'append' || type === 'heartbeat') && leader !== null && leader !== self
    if (isRuler && from < LEADER_FROM) return leader
    return this.#peers[1 + (from % (this.#peers.length - 1))] as PeerId
  }

  #message(one: Hostile): RaftMessage {
    const { log, role } = this.#raft
    const isUsurper = (one.type === 'append' || one.type === 'heartbeat') && role === 'leader'
    const least = isUsurper && one.from < LEADER_FROM ? 1 : 0
    const term = near(this.#raft.term + least, one.term)
    const index = near(log.lastIndex, one.index)
    const other = near(log.commitIndex, one.other)
    const granted = one.flag
    const readRound = Math.max(0, one.other)
    switch (one.type) {
      case 'preVote':
        return { type: 'preVote', term, lastIndex: index, lastTerm: near(log.lastTerm, one.other) }
      case 'preVoteResponse':
        return {
          type: 'preVoteResponse',
          term,
          askedTerm: near(this.#raft.term, one.other),
          granted,
          leaderAlive: false,
        }
      case 'requestVote': {
        const lastTerm = near(log.lastTerm, one.other)
        return { type: 'requestVote', term, lastIndex: index, lastTerm, transfer: one.flag }
      }
      case 'voteResponse':
        return { type: 'voteResponse', term, granted }
      case 'append':
        return this.#append(one, term, index)
      case 'accepted':
        return { type: 'appendResponse', term, accepted: true, matchIndex: index }
      case 'rejected': {
        const hint = { hintIndex: other, hintTerm: log.termAt(other) ?? term }
        return { type: 'appendResponse', term, accepted: false, rejectedIndex: index, ...hint }
      }
      case 'heartbeat':
        return { type: 'heartbeat', term, commit: index, readRound }
      case 'heartbeatResponse':
        return { type: 'heartbeatResponse', term, readRound }
      case 'timeoutNow':
      case 'resigned':
        return { type: one.type, term }
    }
  }

  #append(one: Hostile, term: Term, prevIndex: Index): RaftMessage {
    const { log } = this.#raft
    // Mostly what the core has there, so that it matches.
    const prevTerm = one.flag ? (log.termAt(prevIndex) ?? 0) : near(log.lastTerm, one.other)
    let entryTerm = prevTerm
    const entries = one.entries.map(({ rise, kind }, at): Entry => {
      entryTerm += rise
      const what = KINDS[kind % KINDS.length] as (typeof KINDS)[number]
      return { ...what, index: prevIndex + 1 + at, term: entryTerm }
    })
    const commit = near(log.lastIndex, one.other)
    return { type: 'append', term, prevIndex, prevTerm, entries, commit }
  }

  #call(call: (typeof CALLS)[number], which: number): void {
    const raft = this.#raft
    const peer = this.#peers[which % this.#peers.length] as PeerId
    if (call === 'tick') raft.tick()
    else if (call === 'ticks') for (let i = 0; i < 9; i++) raft.tick()
    else if (call === 'propose') raft.propose('command', new Uint8Array(which % 4))
    else if (call === 'read') raft.readIndex(this.#readId++)
    else if (call === 'transfer') raft.transferLeadership(peer)
    else if (call === 'close link') raft.linkClosed(peer)
    else if (call === 'lead') this.#lead()
    else if (call === 'restart') {
      this.#saving = null
      this.#raft = this.#start()
    } else if (this.#saving !== null) {
      if (call === 'saved') writeTo(this.#disk, this.#saving)
      this.#saving = null
      if (call === 'saved') raft.saved()
      else raft.saveFailed()
    }
  }

  /** Two voters elect the core, as they should, so that what it does as a leader is met too. */
  #lead(): void {
    const voters = this.#peers.slice(1, 3)
    for (let i = 0; i < 9; i++) this.#raft.tick()
    const { term } = this.#raft
    for (const voter of voters) {
      const message = {
        type: 'preVoteResponse',
        term,
        askedTerm: term,
        granted: true,
        leaderAlive: false,
      } as const
      this.#raft.step(voter, message)
    }
    this.#call('saved', 0)
    this.#drain()
    this.#call('saved', 0)
    for (const voter of voters) {
      this.#raft.step(voter, { type: 'voteResponse', term: this.#raft.term, granted: true })
    }
  }

  /** Returns what nobody could read again, of what it wants to save and to send. */
  #drain(): string | null {
    const ready = this.#raft.ready()
    for (const { to, message } of ready.messages) {
      assert.is.not(to, this.#raft.self, 'a message to oneself')
      if (!isReadable(message)) return `unreadable: a ${message.type}`
    }
    if (ready.save === null) return null
    assert.is(this.#saving, null, 'two saves at a time')
    this.#saving = ready.save
    const bytes = new Uint8Array(recordBytes(ready.save, null))
    encodeRecord(bytes, ready.save, { seed: 0, sequence: 1, previous: 0, start: null })
    return decodeRecord(bytes, 0, 0).ok ? null : 'unreadable: a record of the log'
  }
}

function isReadable(message: RaftMessage): boolean {
  try {
    decodeBatch(encodeBatch(null, [{ type: 'raft', message }]))
    return true
  } catch (error) {
    if (error instanceof MalformedFrame) return false
    throw error
  }
}

function near(value: number, distance: number): number {
  if (distance > NEAR) return HUGE[distance % HUGE.length] as number
  return Math.max(0, value + distance - 1)
}
