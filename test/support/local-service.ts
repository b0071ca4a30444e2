/**
 * A Service without a cluster: the real machine and the real sessions, every command committed at once. What a gateway can
 * meet (no leader, slow answers) is set by hand.
 */
import { decodeCommand, type ErrorBody, errorBody } from '../../client/protocol.ts'
import { IdempotencyKeys } from '../../node/idempotency-keys.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import type {
  Backup,
  LeaderInfo,
  Service,
  ServiceAnswer,
  ServiceRequest,
  Status,
} from '../../node/service.ts'
import { Sessions } from '../../node/sessions.ts'

export class LocalService implements Service {
  readonly machine = new KvMachine()
  sessions = new Sessions()
  readonly keys = new IdempotencyKeys()
  moves = 0
  index = 0
  /** Every request that was not cancelled before it ran. */
  readonly seen: ServiceRequest[] = []
  /** While true, requests wait in `held`. */
  holding = false
  readonly held: (() => void)[] = []
  /** Requests given up by their caller. */
  cancelled = 0
  failure: ErrorBody | null = null
  clusterId: string | null = 'c'.repeat(32)
  ready = true
  info: LeaderInfo = { leaderId: 1, leaderUrl: 'ws://127.0.0.1:7700', term: 3 }
  readonly admins: { name: string; args: unknown }[] = []
  /** Answers the privileged verbs; what it throws is the error. */
  onAdmin: ((name: string, args: unknown) => unknown) | null = null
  statusCalls = 0
  /** What a backup is read from. */
  backupBytes = new Uint8Array(0)
  backupsOpen = 0
  readonly #listeners = new Set<(leader: LeaderInfo) => void>()

  request(request: ServiceRequest, answer: (answer: ServiceAnswer) => void): () => void {
    let gone = false
    const run = (): void => {
      if (gone) return
      gone = true
      this.seen.push(request)
      answer(this.#answer(request))
    }
    if (this.holding) this.held.push(run)
    else setImmediate(run)
    return () => {
      if (gone) return
      gone = true
      this.cancelled++
    }
  }

  /** Lets everything that was held run, now. */
  release(): void {
    this.holding = false
    for (const run of this.held.splice(0)) run()
  }

  makeBackup(): Backup {
    const bytes = this.backupBytes
    this.backupsOpen++
    const info = { clusterId: 'c'.repeat(32), index: 7, term: 3, checksum: 'd'.repeat(64) }
    return {
      info: { ...info, sizeBytes: bytes.length },
      read: (offset, length, done) => {
        setImmediate(() => done(bytes.subarray(offset, offset + length)))
      },
      close: () => {
        this.backupsOpen--
      },
    }
  }

  #answer(request: ServiceRequest): ServiceAnswer {
    if (this.failure !== null) return { ok: false, error: this.failure }
    if (request.type === 'query') {
      return { ok: true, index: this.index, body: this.machine.query(request.query) }
    }
    if (request.type === 'change') {
      return { ok: false, error: errorBody('bad-request', 'nothing changes here') }
    }
    const index = ++this.index
    const command = decodeCommand(request.command)
    const run = (operation: Uint8Array) => this.machine.apply(operation, { index })
    const body =
      command.kind === 'keyed'
        ? this.keys.apply(command.operation, this.moves >= command.sequence + 2, run)
        : this.sessions.apply(command, index, run)
    return { ok: true, index, body }
  }

  backup(answer: (backup: Backup | ErrorBody) => void): () => void {
    if (this.failure !== null) answer(this.failure)
    else answer(this.makeBackup())
    return () => {}
  }

  status(): Status {
    this.statusCalls++
    return {
      version: '0.0.0',
      clusterId: this.clusterId,
      topic: 'masked',
      nodeId: 'a'.repeat(64),
      memberId: 1,
      name: 'n1',
      runtime: 'node',
      role: 'leader',
      term: this.info.term,
      leaderId: this.info.leaderId,
      leaderUrl: this.info.leaderUrl,
      commitIndex: this.index,
      appliedIndex: this.index,
      firstIndex: 1,
      lastIndex: this.index,
      snapshotIndex: 0,
      featureLevel: 1,
      snapshot: null,
      stateHash: null,
      stateHashes: [],
      quorum: { needed: 1, alive: 1 },
      founding: null,
      members: [],
      alarms: [],
      uptimeMs: 1,
    }
  }

  readiness(): { ready: boolean; reason: string } {
    return { ready: this.ready, reason: this.ready ? 'ready' : 'no leader is known' }
  }

  leader(): LeaderInfo {
    return this.info
  }

  onLeaderChange(changed: (leader: LeaderInfo) => void): () => void {
    this.#listeners.add(changed)
    return () => this.#listeners.delete(changed)
  }

  get listeners(): number {
    return this.#listeners.size
  }

  elect(info: LeaderInfo): void {
    this.info = info
    for (const changed of this.#listeners) changed(info)
  }

  lagMs(): number | null {
    return 12.4
  }

  timeMoves(): number {
    return this.moves
  }

  async admin(name: string, args: unknown): Promise<unknown> {
    this.admins.push({ name, args })
    if (this.onAdmin !== null) return this.onAdmin(name, args)
    if (name === 'stop') return { stopping: true }
    throw Object.assign(new Error(`no such verb: ${name}`), {
      code: 'bad-request',
      retriable: false,
      maybeApplied: false,
    })
  }
}
