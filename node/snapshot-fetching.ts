/**
 * Fetches the snapshot that a leader has offered: pulls the file chunk by chunk, with few pulls under way, goes on where it was after a
 * broken link or another offer of the same file, and loads the state from it. What a snapshot holds is committed, whoever leads by now, so that
 * a change of leader ends nothing as long as the bytes keep coming. It must never hand on a state that was not verified.
 */
import { MalformedError } from '../client/bytes.ts'
import type { StateRestorer } from './applied-state.ts'
import type { PeerFrame } from './peer-frame.ts'
import { mark } from './raft/marks.ts'
import type { SnapshotOffer } from './raft/snapshots.ts'
import type { Index, PeerId } from './raft/types.ts'
import { type Loaded, snapshotAtOf } from './snapshot-parts.ts'
import type { SnapshotInfo, SnapshotReceiver, SnapshotStorage } from './storage/snapshots.ts'
import { StorageError } from './storage/storage.ts'

type Chunk = PeerFrame & { readonly type: 'snapshotChunk' }

export interface FetchingParts {
  readonly storage: SnapshotStorage
  readonly clusterId: string
  readonly send: (to: PeerId, frame: PeerFrame) => void
  readonly restorer: () => StateRestorer
  readonly chunkBytes: number
  readonly pullsMax: number
  readonly pullAgainTicks: number
  readonly patienceTicks: number
  readonly retryTicks: number
  /** Another file is received from now on; what was received of others may go. */
  readonly began: () => void
  /** Its state is loaded and verified. */
  readonly loaded: (loaded: Loaded, info: SnapshotInfo) => void
  readonly failed: (error: StorageError) => void
}

interface Receiving {
  readonly offer: SnapshotOffer
  from: PeerId
  readonly receiver: SnapshotReceiver
  /** Ticks since each pull left, by offset. */
  readonly pulls: Map<number, number>
  /** Arrived, and not yet at their turn. */
  readonly chunks: Map<number, Uint8Array>
  /** Everything before was asked for. */
  nextOffset: number
  /** Everything before was handed to the disk. */
  position: number
  writing: boolean
  quietTicks: number
}

export class SnapshotFetching {
  readonly #parts: FetchingParts
  #receiving: Receiving | null = null
  /** Whole, being checked and loaded. */
  #loading: { readonly offer: SnapshotOffer; cancel: () => void } | null = null
  /** After a failure: what would fail again is not begun at once. */
  #restTicks = 0

  constructor(parts: FetchingParts) {
    this.#parts = parts
  }

  get receiving(): {
    readonly index: Index
    readonly bytes: number
    readonly sizeBytes: number
  } | null {
    const { offer, position } = this.#receiving ?? {}
    if (offer === undefined || position === undefined) return null
    return { index: offer.id.index, bytes: position, sizeBytes: offer.sizeBytes }
  }

  get loading(): { readonly index: Index; readonly sizeBytes: number } | null {
    if (this.#loading === null) return null
    const { id, sizeBytes } = this.#loading.offer
    return { index: id.index, sizeBytes }
  }

  get underWay(): boolean {
    return this.#receiving !== null || this.#loading !== null
  }

  /** What is being received or loaded: its file must stay. */
  get offer(): SnapshotOffer | null {
    return this.#receiving?.offer ?? this.#loading?.offer ?? null
  }

  /** What is on the way goes on as long as bytes come: a newer offer each minute must not start it anew each minute. */
  onOffer(offer: SnapshotOffer): void {
    if (this.#loading !== null || this.#restTicks > 0) return
    const receiving = this.#receiving
    if (receiving !== null) {
      if (receiving.offer.checksum !== offer.checksum || receiving.from === offer.from) return
      mark('snapshots: another node offers the same file')
      receiving.from = offer.from
      return this.#askAgain(receiving)
    }
    this.#begin(offer)
  }

  onChunk(from: PeerId, { checksum, offset, bytes }: Chunk): void {
    const receiving = this.#receiving
    if (receiving === null || receiving.offer.checksum !== checksum) return
    if (bytes.length === 0) {
      if (receiving.from !== from) return
      mark('snapshots: the one that is fetched is gone')
      return this.#leave()
    }
    // A repeated or late one, or not what was asked for.
    if (bytes.length !== this.#lengthAt(receiving, offset) || !receiving.pulls.delete(offset)) {
      return mark('snapshots: a chunk that nobody waits for')
    }
    receiving.chunks.set(offset, bytes)
    receiving.quietTicks = 0
    this.#write(receiving)
  }

  /** What was received stays: the next offer of the same file goes on from there. */
  linkClosed(peer: PeerId): void {
    if (this.#receiving?.from !== peer) return
    mark('snapshots: the link breaks on which one comes')
    this.#leave()
  }

  /** This node's log has come so far by itself. */
  committed(index: Index): void {
    if (this.#receiving === null || this.#receiving.offer.id.index > index) return
    mark('snapshots: the log has overtaken the one that is fetched')
    this.#leave()
  }

  tick(): void {
    if (this.#restTicks > 0) this.#restTicks--
    const receiving = this.#receiving
    if (receiving === null) return
    if (++receiving.quietTicks >= this.#parts.patienceTicks) {
      mark('snapshots: nothing comes any more of the one that is fetched')
      return this.#leave()
    }
    for (const [offset, ticks] of receiving.pulls) {
      if (ticks + 1 < this.#parts.pullAgainTicks) receiving.pulls.set(offset, ticks + 1)
      else this.#pull(receiving, offset)
    }
  }

  close(): void {
    this.#leave()
    this.#loading?.cancel()
    this.#loading = null
  }

  #begin(offer: SnapshotOffer): void {
    const { storage, clusterId } = this.#parts
    const { id, sizeBytes, checksum } = offer
    const receiver = storage.receive({ clusterId, ...id, sizeBytes, checksum })
    const { position } = receiver
    if (position > 0) mark('snapshots: fetching goes on where it was')
    const receiving: Receiving = {
      offer,
      from: offer.from,
      receiver,
      pulls: new Map(),
      chunks: new Map(),
      nextOffset: position,
      position,
      writing: false,
      quietTicks: 0,
    }
    this.#receiving = receiving
    this.#parts.began()
    if (position >= sizeBytes) this.#finish(receiving)
    else this.#pump(receiving)
  }

  #leave(): void {
    this.#receiving?.receiver.close()
    this.#receiving = null
  }

  #lengthAt({ offer }: Receiving, offset: number): number {
    return Math.min(this.#parts.chunkBytes, offer.sizeBytes - offset)
  }

  #pull(receiving: Receiving, offset: number): void {
    receiving.pulls.set(offset, 0)
    const { checksum } = receiving.offer
    const lengthBytes = this.#lengthAt(receiving, offset)
    this.#parts.send(receiving.from, { type: 'snapshotPull', checksum, offset, lengthBytes })
  }

  #askAgain(receiving: Receiving): void {
    for (const offset of [...receiving.pulls.keys()]) this.#pull(receiving, offset)
  }

  /** Chunks that wait for the disk count as pulls, so that a slow disk bounds what comes. */
  #pump(receiving: Receiving): void {
    const { pullsMax } = this.#parts
    const { pulls, chunks, offer } = receiving
    while (pulls.size + chunks.size < pullsMax && receiving.nextOffset < offer.sizeBytes) {
      const offset = receiving.nextOffset
      receiving.nextOffset += this.#lengthAt(receiving, offset)
      this.#pull(receiving, offset)
    }
  }

  #write(receiving: Receiving): void {
    const bytes = receiving.chunks.get(receiving.position)
    if (receiving.writing || bytes === undefined) return
    receiving.writing = true
    receiving.receiver.write(bytes, (error) => {
      if (this.#receiving !== receiving) return
      if (error !== null) return this.#fail(error)
      receiving.writing = false
      receiving.chunks.delete(receiving.position)
      receiving.position += bytes.length
      receiving.quietTicks = 0
      if (receiving.position >= receiving.offer.sizeBytes) return this.#finish(receiving)
      this.#pump(receiving)
      this.#write(receiving)
    })
  }

  #finish(receiving: Receiving): void {
    this.#receiving = null
    const loading = { offer: receiving.offer, cancel: () => receiving.receiver.close() }
    this.#loading = loading
    receiving.receiver.finish((error, info) => {
      if (this.#loading !== loading) return
      if (error !== null || info === null) return this.#fail(error as StorageError)
      loading.cancel = loadState(this.#parts.storage, info, this.#parts.restorer(), (result) => {
        if (this.#loading !== loading) return
        if (result instanceof StorageError) return this.#fail(result)
        this.#loading = null
        this.#parts.loaded(result, info)
      })
    })
  }

  #fail(error: StorageError): void {
    mark('snapshots: one could not be fetched')
    this.close()
    this.#restTicks = this.#parts.retryTicks
    this.#parts.failed(error)
  }
}

/** Reads a snapshot back into a state; `corrupt-snapshot` when it is none. Returns what cancels it. */
export function loadState(
  storage: SnapshotStorage,
  info: SnapshotInfo,
  restorer: StateRestorer,
  done: (result: Loaded | StorageError) => void,
): () => void {
  const snapshot = snapshotAtOf(info)
  let problem: MalformedError | null = null
  const attempt = (run: () => void): void => {
    if (problem !== null) return
    try {
      run()
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      problem = error
    }
  }
  return storage.load(info, {
    piece: (bytes) => attempt(() => restorer.write(bytes)),
    done: (error) => {
      if (error !== null) return done(error)
      let loaded: Loaded | null = null
      attempt(() => {
        if (snapshot === null) throw new MalformedError('its configuration is malformed')
        loaded = { snapshot, applied: restorer.finish() }
      })
      done(loaded ?? unreadable(info, problem))
    },
  })
}

function unreadable(info: SnapshotInfo, problem: MalformedError | null): StorageError {
  const why = problem?.message ?? 'no reason'
  return new StorageError(
    'corrupt-snapshot',
    `The snapshot at index ${info.index} cannot be read: ${why}`,
  )
}
