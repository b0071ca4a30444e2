/**
 * Serves the snapshot files of this node to whoever pulls them, chunk by chunk. A file that is pulled stays readable when a newer one
 * has taken its place, until nobody has asked for a while. It must never queue more for a peer than that peer has asked for.
 */
import type { PeerFrame } from './peer-frame.ts'
import { mark } from './raft/marks.ts'
import type { Index, PeerId } from './raft/types.ts'
import type { SnapshotInfo, SnapshotReader, SnapshotStorage } from './storage/snapshots.ts'
import { StorageError } from './storage/storage.ts'

type Pull = PeerFrame & { readonly type: 'snapshotPull' }

export interface SendingParts {
  readonly storage: SnapshotStorage
  readonly send: (to: PeerId, frame: PeerFrame) => void
  readonly chunkBytes: number
  readonly pullsMax: number
  readonly idleTicks: number
  /** Its bytes could not be read. */
  readonly broken: (info: SnapshotInfo, error: StorageError) => void
}

interface Served {
  readonly info: SnapshotInfo
  reader: SnapshotReader | null
  /** Since the last pull. */
  quietTicks: number
  /** How far the last pull was. */
  offset: number
  /** Who was the last to ask for its end. */
  endedBy: PeerId | null
  /** It is being verified: ends that. */
  stopCheck: (() => void) | null
}

const NOTHING = new Uint8Array(0)

export class SnapshotSending {
  readonly #parts: SendingParts
  readonly #served = new Map<string, Served>()
  /** Reads under way, by peer. */
  readonly #reading = new Map<PeerId, number>()
  #newest: string | null = null

  constructor(parts: SendingParts) {
    this.#parts = parts
  }

  /** Those that must stay on disk: the newest one, and what is being pulled. */
  get kept(): SnapshotInfo[] {
    return [...this.#served.values()].map(({ info }) => info)
  }

  /** The oldest index that somebody is on the way to: the log behind it is still wanted. */
  get pulledIndex(): Index | null {
    const pulled = [...this.#served.values()].filter(({ reader }) => reader !== null)
    return pulled.length === 0 ? null : Math.min(...pulled.map(({ info }) => info.index))
  }

  get underWay(): {
    readonly index: Index
    readonly bytes: number
    readonly sizeBytes: number
  } | null {
    for (const { info, reader, offset } of this.#served.values()) {
      if (reader !== null) return { index: info.index, bytes: offset, sizeBytes: info.sizeBytes }
    }
    return null
  }

  /** From now on this one is offered. */
  use(info: SnapshotInfo): void {
    this.#newest = info.checksum
    if (!this.#served.has(info.checksum)) {
      const idle = { reader: null, quietTicks: 0, offset: 0, endedBy: null, stopCheck: null }
      this.#served.set(info.checksum, { info, ...idle })
    }
    this.#forget((served) => served.reader === null)
  }

  onPull(from: PeerId, { checksum, offset, lengthBytes }: Pull): void {
    const { chunkBytes, pullsMax, send } = this.#parts
    const served = this.#served.get(checksum)
    const gone = { type: 'snapshotChunk', checksum, offset, bytes: NOTHING } as const
    if (served === undefined) {
      mark('snapshots: one that is gone is asked for')
      return send(from, gone)
    }
    const reading = this.#reading.get(from) ?? 0
    // Whoever asks for more than is allowed asks again.
    if (reading >= pullsMax || offset >= served.info.sizeBytes) return
    served.quietTicks = 0
    served.offset = offset
    const length = Math.max(1, Math.min(lengthBytes, chunkBytes))
    if (offset === 0 && served.endedBy === from) this.#check(served)
    if (offset + length >= served.info.sizeBytes) served.endedBy = from
    try {
      served.reader ??= this.#parts.storage.open(served.info)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      return this.#broke(served, error)
    }
    this.#reading.set(from, reading + 1)
    served.reader.read(offset, length, (error, bytes) => {
      const left = (this.#reading.get(from) ?? 1) - 1
      if (left === 0) this.#reading.delete(from)
      else this.#reading.set(from, left)
      if (error === null && bytes !== null) send(from, { ...gone, bytes })
      else this.#broke(served, error as StorageError)
    })
  }

  tick(): void {
    const { idleTicks } = this.#parts
    for (const served of this.#served.values()) {
      if (served.reader === null || ++served.quietTicks < idleTicks) continue
      served.reader.close()
      served.reader = null
    }
    this.#forget((served) => served.reader === null)
  }

  close(): void {
    for (const { reader, stopCheck } of this.#served.values()) {
      reader?.close()
      stopCheck?.()
    }
    this.#served.clear()
  }

  /**
   * Somebody who had all of it begins anew. So it may be damaged where it lies, and nobody would ever get a whole one: the bytes are
   * sent as they are, and only who has them all can see it.
   */
  #check(served: Served): void {
    served.endedBy = null
    if (served.stopCheck !== null) return
    mark('snapshots: one is verified, because it is asked for again')
    served.stopCheck = this.#parts.storage.load(served.info, {
      piece: () => {},
      done: (error) => {
        served.stopCheck = null
        if (error !== null) this.#broke(served, error)
      },
    })
  }

  #broke(served: Served, error: StorageError): void {
    if (!this.#served.has(served.info.checksum)) return
    served.reader?.close()
    served.reader = null
    this.#parts.broken(served.info, error)
  }

  #forget(mayGo: (served: Served) => boolean): void {
    for (const [checksum, served] of this.#served) {
      if (checksum === this.#newest || !mayGo(served)) continue
      served.stopCheck?.()
      this.#served.delete(checksum)
    }
  }
}
