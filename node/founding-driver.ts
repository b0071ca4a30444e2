/**
 * Performs what founding asks for: saves the record, shows it to peers, writes the first log. Part of the runtime: callbacks, no
 * promises. It must never let a message that shows a record leave before that record is durable.
 */
import type { Alarms } from './alarms.ts'
import {
  Founding,
  type FoundingDrain,
  type FoundingMessage,
  type FoundingOptions,
  type FoundingRecord,
  isSameMessage,
  parseFoundingMessage,
} from './founding.ts'
import type { PeerBook } from './peer-book.ts'
import type { Entry } from './raft/types.ts'
import type { Identity } from './storage/identity.ts'
import type { LogStorage, Save, StorageError } from './storage/storage.ts'
import type { Hello, Link, Transport } from './transport/transport.ts'

/** What a log starts from: recovered, or the batch that founding has just written. */
export type LogStart = Pick<Save, 'hardState' | 'entries' | 'base'>

export interface FoundingDriverParts {
  readonly identity: Identity
  readonly transport: Transport
  readonly peers: PeerBook
  readonly alarms: Alarms
  readonly options: FoundingOptions
  /** An empty log, whatever an unfinished attempt left. Throws StorageError. */
  readonly openLog: () => LogStorage
  readonly log: (level: 'info' | 'warn', event: string, fields?: object) => void
  readonly fatal: (code: string, message: string) => void
  readonly wake: () => void
  /** This node is a member of the cluster whose first batch is durable in `storage`. */
  readonly founded: (storage: LogStorage, first: LogStart) => void
  /** This node belongs to a cluster that others have founded; its log is empty and waits for what the leader sends. */
  readonly joined: (storage: LogStorage, first: LogStart) => void
}

/** A message and its bytes, in either direction. */
interface Told {
  readonly body: Uint8Array
  readonly message: FoundingMessage
}

const ENCODER = new TextEncoder()
const NOTHING = new Uint8Array(0)
const DECODER = new TextDecoder()

export class FoundingDriver {
  readonly #parts: FoundingDriverParts
  readonly #founding: Founding
  #first: { readonly storage: LogStorage; readonly batch: Save } | null = null
  /** What was last told, and by each linked peer. It is repeated far more often than it changes, and reading it is dear. */
  #told: Told | null = null
  readonly #heard = new Map<string, Told>()
  #shownWaiting = ''
  /** Something has happened that `cluster.waiting` may have to tell. */
  #hasNews = true

  constructor(parts: FoundingDriverParts) {
    this.#parts = parts
    this.#founding = new Founding(parts.options)
  }

  get status(): Founding['status'] {
    return this.#founding.status
  }

  tick(elapsedMs: number): void {
    this.#founding.tick(elapsedMs)
  }

  discoverySwept(pendingDials: number): void {
    this.#founding.discoverySwept(pendingDials)
  }

  linkUp(nodeKey: string, hello: Hello): void {
    this.#hasNews = true
    this.#founding.linkUp(nodeKey, hello)
  }

  linkDown(nodeKey: string): void {
    this.#hasNews = true
    this.#heard.delete(nodeKey)
    this.#founding.linkDown(nodeKey)
  }

  /** A linked peer belongs to this cluster now. */
  belongs(nodeKey: string, clusterId: string): void {
    this.#founding.raftFrame(nodeKey, clusterId)
  }

  receive(link: Link, body: Uint8Array): void {
    const { nodeKey } = link.hello
    const before = this.#heard.get(nodeKey)
    if (before !== undefined && isSameBody(before.body, body)) {
      return this.#founding.receive(nodeKey, before.message)
    }
    let json: unknown
    try {
      json = JSON.parse(DECODER.decode(body))
    } catch {
      return this.#parts.transport.disconnect(link, 'a founding message is not JSON')
    }
    const message = parseFoundingMessage(json)
    if (message === null) {
      return this.#parts.transport.disconnect(link, 'a founding message is malformed')
    }
    this.#hasNews = true
    // A copy: the bytes may be a view of what the transport reads into.
    this.#heard.set(nodeKey, { body: body.slice(), message })
    this.#founding.receive(nodeKey, message)
  }

  drain(): void {
    if (this.#founding.isIdle && !this.#hasNews) return
    for (let effects = this.#founding.drain(); ; effects = this.#founding.drain()) {
      this.#perform(effects)
      if (effects.save === null) break
    }
    if (this.#hasNews && this.#parts.identity.record.clusterId === null) this.#showWaiting()
    this.#hasNews = false
  }

  #perform(effects: FoundingDrain): void {
    const { transport, peers, alarms, log, fatal } = this.#parts
    // Everybody is told the same.
    const [first] = effects.send
    const body = first === undefined ? NOTHING : this.#bodyOf(first.message)
    for (const { to } of effects.send) {
      const peer = peers.identityOfKey(to)
      if (peer !== null) transport.send(peer, [{ type: 'founding', body }])
    }
    for (const { level, kind, text } of effects.notices) {
      if (level === 'alarm') alarms.raise(kind, text)
      else log(level, `founding.${kind}`, { text })
    }
    if (effects.save !== null) this.#save(effects.save)
    const { outcome } = effects
    if (outcome?.type === 'found') this.#writeFirstLog(outcome.entry1)
    else if (outcome?.type === 'fatal') fatal(outcome.code, outcome.detail)
  }

  #bodyOf(message: FoundingMessage): Uint8Array {
    if (this.#told === null || !isSameMessage(this.#told.message, message)) {
      this.#told = { message, body: ENCODER.encode(textOf(message)) }
    }
    return this.#told.body
  }

  /** One atomic, durable replacement of the identity file; only then may messages show the record (FOUNDING). */
  #save(record: NonNullable<FoundingDrain['save']>): void {
    const { identity, transport, log, fatal, founded } = this.#parts
    const clusterId = record.bound?.clusterId ?? null
    try {
      identity.update({ founding: record, clusterId })
    } catch (error) {
      const { code, message } = error as StorageError
      return fatal(code ?? 'io', message)
    }
    this.#hasNews = true
    this.#founding.recordSaved(record.seq)
    if (clusterId === null) return
    transport.setClusterId(clusterId)
    if (record.bound?.how !== 'founded') {
      log('info', 'cluster.joined', { admitted: false })
      return this.#orFatal(() => this.createJoinersLog())
    }
    log('info', 'cluster.founded', { members: record.bound.foundingSet.length })
    if (this.#first !== null) this.#hand(founded, this.#first.storage, this.#first.batch)
  }

  /**
   * The log of a node that joins begins empty. It is made before the identity says so and before anything is promised, so that a
   * crash in between starts this over, and a log that is missing later was lost. Throws StorageError: at a start it refuses that.
   */
  createJoinersLog(): void {
    const { identity, openLog, fatal, joined, wake } = this.#parts
    const storage = openLog()
    const batch: Save = { hardState: { term: 0, vote: null, commit: 0 }, entries: [] }
    storage.save(batch, (failure) => {
      if (failure !== null) return fatal(failure.code, failure.message)
      try {
        identity.update({ logCreated: true })
      } catch (failed) {
        const { code, message } = failed as StorageError
        return fatal(code ?? 'io', message)
      }
      this.#hand(joined, storage, batch)
      wake()
    })
  }

  #hand(taken: FoundingDriverParts['founded'], storage: LogStorage, first: LogStart): void {
    this.#orFatal(() => taken(storage, first))
  }

  /** What else a member needs of its disk may fail, and there is no start any more that could be refused. */
  #orFatal(use: () => void): void {
    try {
      use()
    } catch (error) {
      const { code, message } = error as Partial<StorageError>
      if (code === undefined) throw error
      this.#parts.fatal(code, message ?? '')
    }
  }

  /** F6: the log first, the bond last; Raft frames only then. A crash in between starts this over. */
  #writeFirstLog(payload: Uint8Array): void {
    const { openLog, fatal, wake } = this.#parts
    let storage: LogStorage
    try {
      storage = openLog()
    } catch (error) {
      const { code, message } = error as StorageError
      return fatal(code ?? 'io', message)
    }
    const entry: Entry = { term: 1, index: 1, kind: 'configuration', payload }
    const batch: Save = { hardState: { term: 1, vote: null, commit: 1 }, entries: [entry] }
    storage.save(batch, (error) => {
      if (error !== null) return fatal(error.code, error.message)
      this.#first = { storage, batch }
      this.#founding.logWritten()
      wake()
    })
  }

  #showWaiting(): void {
    const { have, need, missing } = this.#founding.status
    const shown = `${have}/${need} ${missing.join()}`
    if (shown === this.#shownWaiting) return
    this.#shownWaiting = shown
    this.#parts.log('info', 'cluster.waiting', { have, need, missing })
  }
}

/** As JSON, of records that stay the same while who is linked to whom changes; each holds all of a configuration. */
function textOf({ records, ...soft }: FoundingMessage): string {
  const shown = records.map(({ nodeKey, storageId, record }) => {
    const text = recordTexts.get(record) ?? JSON.stringify(record)
    recordTexts.set(record, text)
    return `{"nodeKey":"${nodeKey}","storageId":"${storageId}","record":${text}}`
  })
  return `{"records":[${shown.join()}],${JSON.stringify(soft).slice(1)}`
}

const recordTexts = new WeakMap<FoundingRecord, string>()

function isSameBody(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0
}
