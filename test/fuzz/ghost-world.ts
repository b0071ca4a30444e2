/**
 * One real core among ghosts, with a network that may deliver anything that was ever said, at any time and again, and a disk whose
 * saves end late or fail. Everything that is promised is checked against that disk, everything that is committed against all others.
 */
import * as assert from 'uvu/assert'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { Outgoing, RaftMessage } from '../../node/raft/messages.ts'
import { Raft } from '../../node/raft/raft.ts'
import { Random } from '../../node/raft/random.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import { type Entry, type Index, type PeerId, peerIdOf, type Term } from '../../node/raft/types.ts'
import { configurationOf, type DiskImage, writeTo } from '../support/raft-cluster.ts'
import { Ghost } from './ghosts.ts'

/** Messages that are remembered for late and repeated delivery. */
const AIR_MAX = 80

interface Flight extends Outgoing {
  readonly from: PeerId
}

export const REAL_CALLS = [
  'tick',
  'ticks',
  'saved',
  'saved',
  'saved',
  'no room',
  'propose',
  'read',
  'transfer',
  'close link',
  'propose',
  'read',
  'tick',
  'tick',
  'restart',
] as const
export const GHOST_ACTS = [
  'campaign',
  'preVote',
  'lead',
  'lead',
  'propose',
  'replicate',
  'replicate',
  'replicate',
  'beat',
  'resign',
  'hand over',
] as const

export type Turn =
  /** Everything that is in the air arrives in order, and saves end at once, for so many rounds: peace for a moment. */
  | { readonly turn: 'settle'; readonly rounds: number }
  /** The same for the core, which is asked for a write and a read then. */
  | { readonly turn: 'rule' }
  /** A ghost wins an election if it can, with those of the others that hear it. */
  | { readonly turn: 'elect'; readonly which: number }
  | { readonly turn: 'deliver'; readonly which: number; readonly keep: boolean }
  | { readonly turn: 'real'; readonly call: (typeof REAL_CALLS)[number]; readonly which: number }
  | { readonly turn: 'ghost'; readonly act: (typeof GHOST_ACTS)[number]; readonly which: number }

export class GhostWorld {
  readonly #self: PeerId
  readonly #ghosts: readonly Ghost[]
  readonly #random: Random
  readonly #disk: DiskImage
  #raft: Raft
  #saving: SaveBatch | null = null
  #air: Flight[] = []
  /** By index - 1: what anybody has committed there. */
  readonly #committed: Entry[] = []
  readonly #leaders = new Map<Term, PeerId>()
  readonly #asked = new Map<number, Index>()
  #readId = 1
  #commitBefore: Index = 1
  readonly seen = { led: 0, committed: 0, reads: 0, restarts: 0, truncated: 0 }

  constructor(size: number, seed: number) {
    this.#random = new Random(seed)
    const configuration = configurationOf(size)
    const peers = configuration.members.map((member) => peerIdOf(member))
    this.#self = peers[0] as PeerId
    const payload = encodeConfigurationRecord({
      clusterId: '0'.repeat(32),
      foundingSet: [],
      settings: {},
      configuration,
    })
    const first: Entry = { term: 1, index: 1, kind: 'configuration', payload }
    this.#ghosts = peers.slice(1).map(
      (peer) =>
        new Ghost(
          peer,
          peers.filter((other) => other !== peer),
          first,
          this.#random,
        ),
    )
    this.#disk = { hardState: { term: 1, vote: null, commit: 1 }, entries: [first] }
    this.#committed.push(first)
    this.#raft = this.#start()
  }

  #start(): Raft {
    return new Raft({
      self: this.#self,
      hardState: this.#disk.hardState,
      entries: this.#disk.entries,
      tickMs: 100,
      electionTicks: 4,
      heartbeatTicks: 1,
      random: new Random(this.#random.next()),
      window: { messagesMax: 2, bytesMax: 64 },
      appendBytesMax: 4,
      saveBytesMax: 4,
      uncommittedBytesMax: 1000,
      applyCountMax: 3,
    })
  }

  run(turn: Turn): void {
    if (turn.turn === 'deliver') this.#deliver(turn.which, turn.keep)
    else if (turn.turn === 'settle') for (let i = 0; i < turn.rounds; i++) this.#settle()
    else if (turn.turn === 'rule') this.#rule()
    else if (turn.turn === 'elect') this.#elect(this.#ghost(turn.which))
    else if (turn.turn === 'ghost') this.#ghost(turn.which).act(turn.act)
    else this.#call(turn.call, turn.which)
    this.#exchange()
  }

  #settle(): void {
    for (let count = this.#air.length; count > 0; count--) this.#deliver(count - 1, false)
    this.#exchange()
    this.#endSave(true)
    this.#exchange()
  }

  #rule(): void {
    for (const ghost of this.#ghosts) ghost.act('resign')
    this.#settle()
    this.#call('ticks', 0)
    for (let round = 0; round < 4; round++) this.#settle()
    this.#call('propose', 0)
    this.#call('read', 0)
    this.#settle()
  }

  #elect(ghost: Ghost): void {
    ghost.act('campaign')
    for (let round = 0; round < 3; round++) {
      this.#settle()
      ghost.act('lead')
    }
    for (let i = 0; i < 3; i++) ghost.act('replicate')
  }

  /** Takes what the core and the ghosts have to say, and looks at all of it. */
  #exchange(): void {
    this.#drain()
    for (const ghost of this.#ghosts) {
      for (const { to, message } of ghost.out.splice(0)) this.#send(ghost.peer, to, message)
      this.#noteCommit(ghost.log, ghost.commit)
      if (ghost.role === 'leader') this.#noteLeader(ghost.term, ghost.peer)
    }
  }

  #ghost(which: number): Ghost {
    return this.#ghosts[which % this.#ghosts.length] as Ghost
  }

  #send(from: PeerId, to: PeerId, message: RaftMessage): void {
    this.#air.push({ from, to, message })
    if (this.#air.length > AIR_MAX) this.#air.shift()
  }

  /** 0 is the newest. */
  #deliver(which: number, keep: boolean): void {
    const place = this.#air.length - 1 - (which % (this.#air.length || 1))
    const flight = this.#air[place]
    if (flight === undefined) return
    if (!keep) this.#air.splice(place, 1)
    if (flight.to === this.#self) this.#raft.step(flight.from, flight.message)
    else
      this.#ghosts.find((ghost) => ghost.peer === flight.to)?.receive(flight.from, flight.message)
  }

  #call(call: (typeof REAL_CALLS)[number], which: number): void {
    const raft = this.#raft
    const peer = this.#ghost(which).peer
    if (call === 'tick') raft.tick()
    else if (call === 'ticks') for (let i = 0; i < 9; i++) raft.tick()
    else if (call === 'saved') this.#endSave(true)
    else if (call === 'no room') this.#endSave(false)
    else if (call === 'propose') raft.propose('command', new Uint8Array([which]))
    else if (call === 'transfer') raft.transferLeadership(peer)
    else if (call === 'close link') raft.linkClosed(peer)
    else if (call === 'read') {
      if (raft.readIndex(this.#readId)) this.#asked.set(this.#readId++, this.#committed.length)
    } else {
      this.#saving = null
      this.#asked.clear()
      this.#commitBefore = 0
      this.#raft = this.#start()
      this.seen.restarts++
    }
  }

  #endSave(isThereRoom: boolean): void {
    if (this.#saving === null) return
    if (isThereRoom) {
      const first = this.#saving.entries[0]?.index ?? Number.POSITIVE_INFINITY
      if (first <= this.#disk.entries.length) this.seen.truncated++
      writeTo(this.#disk, this.#saving)
    }
    this.#saving = null
    if (isThereRoom) this.#raft.saved()
    else this.#raft.saveFailed()
  }

  #drain(): void {
    const raft = this.#raft
    const ready = raft.ready()
    if (ready.save !== null) {
      assert.is(this.#saving, null, 'two saves at a time')
      this.#saving = ready.save
    }
    for (const { to, message } of ready.messages) {
      this.#checkPromise(to, message)
      this.#send(this.#self, to, message)
    }
    for (let index = 1; index <= raft.log.commitIndex; index++) {
      this.#noteEntry(raft.log.entryAt(index) as Entry)
    }
    for (const { requestId, index } of ready.reads) {
      this.seen.reads++
      assert.ok(index >= (this.#asked.get(requestId) ?? 0), 'a stale read')
    }
    this.#checkCommit()
    if (raft.role === 'leader') {
      this.#noteLeader(raft.term, this.#self)
      this.seen.led++
    }
    const { log } = raft
    for (let index = 1; index <= log.stableIndex; index++) {
      assert.is(
        this.#disk.entries[index - 1]?.term,
        log.termAt(index),
        'stable, and not on the disk',
      )
    }
  }

  /** What leaves must be on the disk (rule 1). */
  #checkPromise(to: PeerId, message: RaftMessage): void {
    const { hardState, entries } = this.#disk
    if (message.type === 'voteResponse' && message.granted) {
      const saved = [hardState?.term, hardState?.vote]
      assert.equal(saved, [message.term, to], 'a vote that is not saved')
      this.#checkVote(to, message.term)
    }
    if (message.type === 'appendResponse' && message.accepted) {
      assert.is(hardState?.term, message.term, 'an acknowledgement in a term that is not saved')
      const leader = this.#ghosts.find((ghost) => ghost.peer === to)
      if (leader?.term !== message.term || leader.role !== 'leader') return
      for (let index = 1; index <= message.matchIndex; index++) {
        assert.is(
          entries[index - 1]?.term,
          leader.log[index - 1]?.term,
          'acknowledged, and not on the disk',
        )
      }
    }
  }

  /** Paper 5.4.1: the candidate's log, which has only grown since, is as good as the voter's. */
  #checkVote(to: PeerId, term: Term): void {
    const candidate = this.#ghosts.find((ghost) => ghost.peer === to)
    if (candidate?.term !== term) return
    const { lastTerm, lastIndex } = this.#raft.log
    const own = candidate.log.at(-1)?.term ?? 0
    const isAsGood = own > lastTerm || (own === lastTerm && candidate.log.length >= lastIndex)
    assert.ok(isAsGood, 'a vote for a worse log')
  }

  /** Paper 5.4.2: a leader counts only entries of its own term. */
  #checkCommit(): void {
    const { role, term, log } = this.#raft
    if (role === 'leader' && log.commitIndex > this.#commitBefore) {
      assert.is(
        log.termAt(log.commitIndex),
        term,
        'an entry of an old term is committed by counting',
      )
    }
    this.#commitBefore = log.commitIndex
  }

  #noteLeader(term: Term, leader: PeerId): void {
    const known = this.#leaders.get(term) ?? leader
    assert.is(known, leader, `two leaders in term ${term}`)
    this.#leaders.set(term, leader)
  }

  #noteCommit(log: readonly Entry[], commit: Index): void {
    for (let index = 1; index <= commit; index++) this.#noteEntry(log[index - 1] as Entry)
  }

  #noteEntry(entry: Entry): void {
    const known = this.#committed[entry.index - 1]
    if (known === undefined) {
      assert.is(entry.index, this.#committed.length + 1, 'a commit that leaves a gap')
      this.#committed.push(entry)
      this.seen.committed++
      return
    }
    assert.is(entry.term, known.term, `two entries are committed at ${entry.index}`)
    assert.ok(Buffer.compare(entry.payload, known.payload) === 0, `two entries at ${entry.index}`)
  }
}
