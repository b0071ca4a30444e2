/** One node of a trace: its disk, what runs on it, and the save that is in flight. */
import type { RaftOptions } from '../../node/raft/options.ts'
import { Random } from '../../node/raft/random.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import type { SnapshotOffer } from '../../node/raft/snapshots.ts'
import { type Entry, type Index, type PeerId, peerIdOf, type Term } from '../../node/raft/types.ts'
import { bytesOf, type DiskImage, memberIdentity, startOf } from '../support/raft-cluster.ts'
import { type Actor, coreActor, type Lives, replicaActor } from './actors.ts'
import type { Words } from './format.ts'

export interface WorldOptions {
  readonly kind: 'core' | 'replica'
  readonly size: number
  /** The payload of everybody's first entry. */
  readonly configuration: Uint8Array
  /** By node name, the terms of its entries from index 1 on; the first one is the configuration's. */
  readonly logs: ReadonlyMap<string, readonly Term[]>
  /** The nodes above this one have nothing on their disks. */
  readonly foundersMax: number
  /** The least term on every disk. */
  readonly term: Term
  /** What every disk knows to be committed, as far as its log goes. */
  readonly commit: Index
  /** How long a replica keeps sessions and keys; of what is not said, as long as production does. */
  readonly lives: Lives
  readonly raft: Omit<RaftOptions, 'self' | 'hardState' | 'entries' | 'random'>
}

export class WorldNode {
  readonly name: string
  readonly peer: PeerId
  readonly disk: DiskImage
  actor: Actor
  saving: SaveBatch | null = null
  /** In how many ms it wants to be woken; null: it has not asked since the last time. */
  wakeInMs: number | null = null
  /** The newest one. */
  offer: SnapshotOffer | null = null
  up = true
  /** How often it has asked for votes or pre-votes. */
  campaigns = 0
  /** What the next election timeout will be: a trace leaves nothing to chance. */
  timeoutTicks: number
  readonly #id: number
  readonly #options: WorldOptions
  readonly #words: Words
  #life = 0

  constructor(id: number, options: WorldOptions, words: Words) {
    this.#id = id
    this.#options = options
    this.#words = words
    this.name = `n${id}`
    this.peer = peerIdOf(memberIdentity(id))
    this.disk = diskOf(this.name, id, options)
    this.timeoutTicks = options.raft.electionTicks
    this.actor = this.#start()
  }

  /** What was not saved is lost. */
  crash(): void {
    this.up = false
    this.saving = null
    this.wakeInMs = null
    this.offer = null
  }

  /** The disk is as it was when its log ended at `lastIndex`. */
  putBack(lastIndex: Index): void {
    const { disk } = this
    disk.entries = disk.entries.filter(({ index }) => index <= lastIndex)
    if (disk.hardState === null) return
    disk.hardState = { ...disk.hardState, commit: Math.min(disk.hardState.commit, lastIndex) }
  }

  restart(): void {
    this.actor = this.#start()
    this.up = true
  }

  #start(): Actor {
    this.#life++
    const { kind, raft, lives } = this.#options
    // What would be drawn by chance is given: the election timeout, and the number of this life of the process.
    const random = new Random(1)
    const life = this.#id * 10 + this.#life
    random.next = () => life
    random.below = (bound) => Math.min(this.timeoutTicks - raft.electionTicks, bound - 1)
    const options = { ...raft, self: this.peer, ...startOf(this.disk), random }
    return kind === 'core' ? coreActor(options, this.#words) : replicaActor(options, lives)
  }
}

function diskOf(name: string, id: number, options: WorldOptions): DiskImage {
  if (id > options.foundersMax) return { hardState: null, entries: [] }
  const terms = options.logs.get(name) ?? [1]
  const entries = terms.map((term, at): Entry => {
    const index = at + 1
    return at === 0
      ? { term, index, kind: 'configuration', payload: options.configuration }
      : { term, index, kind: 'command', payload: bytesOf(`${term}/${index}`) }
  })
  const term = Math.max(options.term, terms.at(-1) ?? 0)
  const commit = Math.min(options.commit, entries.length)
  return { hardState: { term, vote: null, commit }, entries }
}
