/**
 * Everything about snapshots that is an effect, for the runtime: when to take one, what of the log may go then, serving and fetching files,
 * and the state that a start begins with. Callbacks, no promises, no clock: the simulator drives it too. It must
 * never let go of a file or of entries before what replaces them is durable.
 */
import { type ErrorBody, errorBody } from '../client/protocol.ts'
import type { Alarms } from './alarms.ts'
import type { AppliedState, StateRestorer } from './applied-state.ts'
import type { Captured } from './capture.ts'
import type { PeerFrame } from './peer-frame.ts'
import { mark } from './raft/marks.ts'
import type { SaveBatch } from './raft/ready.ts'
import type { SnapshotAt, SnapshotOffer } from './raft/snapshots.ts'
import type { PeerId } from './raft/types.ts'
import type { Replica } from './replica.ts'
import type { Backup, SnapshotStatus } from './service.ts'
import { Backups } from './snapshot-backup.ts'
import { loadState, SnapshotFetching } from './snapshot-fetching.ts'
import type { Loaded, Note, SnapshotLimits } from './snapshot-parts.ts'
import { SnapshotSending } from './snapshot-sending.ts'
import { SnapshotTaking } from './snapshot-taking.ts'
import { type SnapshotInfo, type SnapshotStorage, snapshotFor } from './storage/snapshots.ts'
import { type LogStorage, StorageError } from './storage/storage.ts'

export interface SnapshotDriverParts {
  readonly storage: SnapshotStorage
  readonly logStorage: Pick<LogStorage, 'compact' | 'recovered'>
  readonly clusterId: string
  readonly limits: SnapshotLimits
  readonly tickMs: number
  readonly restorer: () => StateRestorer
  readonly alarms: Pick<Alarms, 'raise' | 'clear'>
  readonly send: (to: PeerId, frames: readonly PeerFrame[]) => void
  /** There is something to drain. */
  readonly wake: () => void
  readonly note: Note
  readonly fatal: (code: string, message: string) => void
}

/** What a replica starts with. */
export interface Restored {
  readonly snapshot: SnapshotAt | null
  readonly applied: AppliedState | null
}

export class SnapshotDriver {
  readonly #parts: SnapshotDriverParts
  readonly #taking: SnapshotTaking
  readonly #sending: SnapshotSending
  readonly #fetching: SnapshotFetching
  #replica: Replica | null = null
  #cancelRestoring: (() => void) | null = null
  /** The newest file is being verified for those who wait for a backup. */
  #stopChecking: (() => void) | null = null
  /** The log in memory when the last snapshot was taken, so that its growth is known. */
  #bytesBefore = 0
  /** No snapshot is begun before so many ticks have passed. */
  #restTicks = 0
  /** The newest file cannot be read any more: another is wanted, however little has happened since. */
  #isWanted = false
  /** The one that a restart would begin with. */
  #newest: SnapshotInfo | null = null
  readonly #backups: Backups
  /** Loaded and in force, but the batch that says so is not durable yet: until then the one before must stay. */
  #installing: SnapshotInfo | null = null
  #isClosed = false

  constructor(parts: SnapshotDriverParts) {
    const { storage, clusterId, limits, tickMs, restorer } = parts
    const ticks = (ms: number): number => Math.max(1, Math.ceil(ms / tickMs))
    const send = (to: PeerId, frame: PeerFrame): void => parts.send(to, [frame])
    const chunks = { chunkBytes: limits.snapshotChunkBytes, pullsMax: limits.snapshotPullsMax }
    this.#parts = parts
    this.#backups = new Backups(storage)
    this.#taking = new SnapshotTaking({
      storage,
      clusterId,
      durableIndex: () => this.#replica?.raft.log.stableIndex ?? 0,
      taken: (info, captured) => this.#taken(info, captured),
      failed: (error) => this.#failed(error, 'snapshot.not-saved'),
    })
    this.#sending = new SnapshotSending({
      storage,
      send,
      ...chunks,
      idleTicks: ticks(limits.snapshotSendIdleMs),
      broken: (info, error) => this.#broken(info, error),
    })
    this.#fetching = new SnapshotFetching({
      storage,
      clusterId,
      send,
      restorer,
      ...chunks,
      pullAgainTicks: ticks(limits.snapshotPullAgainMs),
      patienceTicks: ticks(limits.snapshotPatienceMs),
      retryTicks: ticks(limits.snapshotRetryMs),
      began: () => this.#keep(),
      loaded: (loaded, info) => this.#loaded(loaded, info),
      failed: (error) => this.#failed(error, 'snapshot.not-installed'),
    })
  }

  get progress(): SnapshotStatus {
    const { receiving, loading } = this.#fetching
    if (receiving !== null) return { state: 'receiving', ...receiving }
    if (loading !== null) return { state: 'loading', bytes: loading.sizeBytes, ...loading }
    const taking = this.#taking.underWay
    if (taking !== null) {
      return { state: 'writing', index: taking.index, bytes: taking.bytes, sizeBytes: null }
    }
    const sending = this.#sending.underWay
    if (sending !== null) return { state: 'sending', ...sending }
    return { state: 'idle', index: null, bytes: 0, sizeBytes: null }
  }

  // --- starting -----------------------------------------------------------------------------------------------------

  /**
   * Loads the newest snapshot that the recovered log knows; calls back at once when there is none. Throws StorageError
   * `corrupt-snapshot` when the log needs one and there is none; later that is fatal.
   */
  restore(done: (restored: Restored) => void): void {
    const { storage, clusterId, logStorage } = this.#parts
    const info = snapshotFor(logStorage.recovered, storage.found, clusterId)
    if (info === null) return done({ snapshot: null, applied: null })
    this.#load(info, storage.found, done)
  }

  #load(
    info: SnapshotInfo,
    found: readonly SnapshotInfo[],
    done: (restored: Restored) => void,
  ): void {
    const { storage, clusterId, logStorage, restorer, fatal } = this.#parts
    this.#cancelRestoring = loadState(storage, info, restorer(), (result) => {
      this.#cancelRestoring = null
      if (!(result instanceof StorageError)) {
        this.#sending.use(info)
        this.#newest = info
        return done(result)
      }
      if (result.code !== 'corrupt-snapshot') return fatal(result.code, result.message)
      // An older one, or the log from its beginning, does as well, if it is there.
      mark('snapshots: the newest one cannot be read')
      this.#parts.note('warn', 'snapshot.unreadable', { index: info.index, reason: result.message })
      const others = found.filter((other) => other.index < info.index)
      try {
        const next = snapshotFor(logStorage.recovered, others, clusterId)
        if (next === null) done({ snapshot: null, applied: null })
        else this.#load(next, others, done)
      } catch (error) {
        const { code, message } = error as StorageError
        fatal(code, `${result.message} ${message}`)
      }
    })
  }

  /** The replica that began with what was restored. A part of a file that was received before stays: it may be offered again. */
  attach(replica: Replica): void {
    this.#replica = replica
    this.#compact(replica)
  }

  // --- inputs -------------------------------------------------------------------------------------------------------

  tick(): void {
    if (this.#restTicks > 0) this.#restTicks--
    this.#sending.tick()
    this.#fetching.tick()
  }

  receive(from: PeerId, frame: PeerFrame): void {
    if (frame.type === 'snapshotPull') this.#sending.onPull(from, frame)
    else if (frame.type === 'snapshotChunk') this.#fetching.onChunk(from, frame)
  }

  linkClosed(peer: PeerId): void {
    this.#fetching.linkClosed(peer)
  }

  /** Once a turn, after the replica was drained. */
  step(offers: readonly SnapshotOffer[]): void {
    const replica = this.#replica
    if (replica === null || this.#isClosed) return
    const { log } = replica.raft
    this.#fetching.committed(log.commitIndex)
    for (const offer of offers) this.#fetching.onOffer(offer)
    this.#taking.step()
    if (this.#isDue(replica)) this.#take(replica)
  }

  /** A save of the log is durable. */
  saved(batch: SaveBatch): void {
    const info = this.#installing
    if (info === null || batch.base?.index !== info.index) return
    this.#installing = null
    this.#keep()
    const { index, term, sizeBytes } = info
    this.#parts.note('info', 'snapshot.installed', { index, term, sizeBytes })
  }

  /** Everything that is applied by now, as a file. Returns what gives it up. */
  backup(answer: (backup: Backup | ErrorBody) => void): () => void {
    const index = this.#replica?.raft.log.appliedIndex ?? 0
    const giveUp = this.#backups.want(index, answer)
    // Nothing has happened since the last one: it is the backup.
    if (this.#newest !== null && this.#newest.index >= index) this.#reuse(this.#newest)
    return giveUp
  }

  /** ... if it is still as it was written: it may lie here for months, and a backup is no place to find that out. */
  #reuse(info: SnapshotInfo): void {
    this.#stopChecking ??= this.#parts.storage.load(info, {
      piece: () => {},
      done: (error) => {
        this.#stopChecking = null
        if (error === null) this.#backups.taken(info)
        else this.#broken(info, error)
        // Somebody may have asked when there was a newer one already.
        const newest = this.#newest
        if (newest !== null && newest !== info && this.#backups.wanted) this.#reuse(newest)
      },
    })
  }

  /** Idempotent. What was received stays; what was being written goes. */
  close(): void {
    this.#isClosed = true
    this.#backups.failed(errorBody('closing', 'this node is stopping'))
    this.#cancelRestoring?.()
    this.#cancelRestoring = null
    this.#stopChecking?.()
    this.#taking.abort()
    this.#fetching.close()
    this.#sending.close()
  }

  // --- taking -------------------------------------------------------------------------------------------------------

  #isDue({ raft: { log } }: Replica): boolean {
    const { snapshotEntries, snapshotLogBytes } = this.#parts.limits
    const count = log.appliedIndex - log.snapshotIndex
    if ((count === 0 && !this.#isWanted) || this.#restTicks > 0 || this.#taking.underWay !== null)
      return false
    // Whoever fetches a newer state has no use for one of the present.
    if (this.#fetching.underWay || log.unsavedBase !== null) return false
    if (this.#isWanted || this.#backups.wanted) return true
    return count >= snapshotEntries || log.payloadBytes - this.#bytesBefore >= snapshotLogBytes
  }

  #take(replica: Replica): void {
    const captured = replica.capture()
    if (captured === null) {
      const { quarantined, alarm } = replica.comparison
      // It lasts until the node starts anew, and a backup of a state in doubt is worse than none.
      if (quarantined) this.#backups.failed(errorBody('no-leader', alarm ?? 'in quarantine'))
      return
    }
    this.#isWanted = false
    this.#taking.start(captured)
  }

  #taken(info: SnapshotInfo, { id, configuration }: Captured): void {
    const replica = this.#replica
    if (replica === null) return
    this.#parts.alarms.clear('snapshot')
    // A newer one of a leader has come meanwhile.
    if (info.index < replica.raft.log.snapshotIndex) return this.#keep()
    const { sizeBytes, checksum } = info
    replica.raft.snapshotSaved({ id, configuration, sizeBytes, checksum })
    this.#sending.use(info)
    this.#newest = info
    this.#backups.taken(info)
    this.#keep()
    this.#compact(replica)
    this.#parts.note('info', 'snapshot.saved', { index: id.index, term: id.term, sizeBytes })
  }

  /** What the snapshot covers may go, but for a tail: a follower that was away for a moment shall not need all of the state. */
  #compact({ raft }: Replica): void {
    const { log } = raft
    const { snapshotTailEntries, snapshotTailBytes, snapshotPinnedBytesMax } = this.#parts.limits
    let to = Math.max(log.base.index, log.snapshotIndex - snapshotTailEntries)
    let bytes = 0
    for (let index = log.snapshotIndex; index > to; index--) {
      bytes += log.entryAt(index)?.payload.length ?? 0
      if (bytes > snapshotTailBytes) to = index
    }
    // Whoever is on the way to an older snapshot goes on from there, or it would have to fetch the next one, and so on for ever.
    const pulled = this.#sending.pulledIndex
    if (pulled !== null && pulled < to && log.payloadBytes < snapshotPinnedBytesMax) to = pulled
    this.#bytesBefore = log.payloadBytes
    if (to <= log.base.index) return
    raft.compactTo(to)
    this.#parts.logStorage.compact(to)
    this.#bytesBefore = log.payloadBytes
  }

  // --- installing -----------------------------------------------------------------------------------------------------

  #loaded({ snapshot, applied }: Loaded, info: SnapshotInfo): void {
    const replica = this.#replica
    if (replica === null) return
    this.#parts.alarms.clear('snapshot')
    if (!replica.installed(snapshot, applied)) return this.#keep()
    // What was being written is of a state that is no more.
    this.#taking.abort()
    this.#installing = info
    this.#newest = info
    this.#sending.use(info)
    // It is later than what they asked for, and perhaps nothing follows of which another could be taken.
    this.#backups.taken(info)
    this.#bytesBefore = 0
    this.#parts.wake()
  }

  /** Lets go of every file that is not needed, but never of one that the log on disk may still need. */
  #keep(): void {
    const { storage, clusterId } = this.#parts
    // A save may end after the close, which has let go of what is kept for sending: its file must stay all the same.
    if (this.#isClosed || this.#installing !== null) return
    // What is whole and being loaded may be in force in a moment, and then nothing else goes with the log.
    const { offer } = this.#fetching
    const coming = offer === null ? [] : [{ clusterId, ...offer.id, ...offer }]
    storage.keepOnly([...this.#sending.kept, ...coming])
  }

  #failed(error: StorageError, event: string): void {
    const { code, message } = error
    // Whatever an fsync that failed has done to other files is unknown.
    if (code === 'io') return this.#parts.fatal(code, message)
    this.#restTicks = Math.ceil(this.#parts.limits.snapshotRetryMs / this.#parts.tickMs)
    this.#parts.alarms.raise('snapshot', message)
    this.#backups.failed(errorBody(code === 'disk-full' ? code : 'internal', message))
    this.#parts.note('warn', event, { code, reason: message })
  }

  /** Our own newest one is damaged where it lies: another is taken, and offered instead. */
  #broken(info: SnapshotInfo, error: StorageError): void {
    mark('snapshots: one cannot be read for sending')
    this.#isWanted = info.index === this.#replica?.raft.log.snapshotIndex
    this.#parts.note('warn', 'snapshot.unreadable', { index: info.index, reason: error.message })
  }
}
