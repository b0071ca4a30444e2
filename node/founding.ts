/**
 * How blank nodes agree on the first configuration of a cluster, and how a bound node tells them that there is one. Pure:
 * links, messages and time come in by calls; saves, messages and the outcome leave by drain(). The rules themselves are
 * in founding/rules.ts. This class feeds them: who is here, what is known, what time allows (F9, F10).
 *
 * It must never show anybody a record that is not durable, and never forget one.
 */
import { blankConditions, foundersHere, pledgeConditions } from './founding/conditions.ts'
import { Knowledge, type Mode, type PeerHello } from './founding/knowledge.ts'
import { type Condition, type Notice, NoticeBoard, type NoticeLevel } from './founding/notices.ts'
import {
  diskOf,
  entry1Bytes,
  type Founder,
  type FoundingMessage,
  type FoundingRecord,
  founderOf,
  foundersOf,
  hashFounders,
  type KnownRecord,
  LINKED_TO_MAX,
  RECORDS_MAX,
  type Settings,
  sameDisk,
} from './founding/record.ts'
import { boundRecord, type Decision, decide, type View } from './founding/rules.ts'
import type { PeerIdentity } from './raft/types.ts'

export type { PeerHello } from './founding/knowledge.ts'
export type { Notice, NoticeLevel } from './founding/notices.ts'
export {
  type Bound,
  blankRecord,
  type FoundingMessage,
  type FoundingRecord,
  isSameMessage,
  type KnownRecord,
  type Offer,
  parseFoundingMessage,
  parseFoundingRecord,
} from './founding/record.ts'

/** A blank node repeats its message this often, so that nothing is lost for good. */
const RESEND_MS = 500
/** F9: so long nobody new was heard of, and the set to offer stayed the same. */
const STABLE_MS = 2_000
/** F9: a discovery source or a dial that hangs holds founding up no longer than this. */
const SWEEP_MS_MAX = 10_000
/** F10. */
const BACK_OFF_MS = 2_000
const BACK_OFF_MS_MAX = 30_000
/** A pledge older than this names whom it waits for. */
const PLEDGE_PATIENCE_MS = 10_000
/** A stalled process has not watched the network meanwhile: a longer tick counts as this much. */
const TICK_MS_MAX = 500
const REVIEW_MS = 250

export interface FoundingOptions {
  readonly self: PeerIdentity & { readonly name: string; readonly urls: () => readonly string[] }
  readonly bootId: string
  /** As recovered from disk, else blankRecord. */
  readonly record: FoundingRecord
  readonly expect: number
  readonly founders: readonly string[] | null
  /** False for a node that came by invitation. */
  readonly mayFound: boolean
  readonly inviteClusterId: string | null
  readonly settings: Settings
  /** The highest feature level that this build supports (docs/upgrades.md); default 1. */
  readonly featureLevel?: number
  /** A uniform integer from 0 to boundExclusive - 1. */
  readonly random: (boundExclusive: number) => number
  /** 32 hex digits, unpredictable. */
  readonly randomId: () => string
  /** Tests plant bugs here. */
  readonly rules?: typeof decide
}

export type FoundingOutcome =
  /** Write the log {entry1 at index 1, term 1; hard state term 1, commit 1}, then call logWritten(). */
  | { readonly type: 'found'; readonly clusterId: string; readonly entry1: Uint8Array }
  /** The record is bound and durable: ask the cluster for admission. */
  | { readonly type: 'join'; readonly clusterId: string }
  /** F8: end the process. */
  | { readonly type: 'fatal'; readonly code: 'rolled-back-or-cloned'; readonly detail: string }

export interface FoundingDrain {
  /** Replace the record file atomically and durably, then call recordSaved(save.seq). */
  readonly save: FoundingRecord | null
  readonly send: readonly { readonly to: string; readonly message: FoundingMessage }[]
  readonly outcome: FoundingOutcome | null
  readonly notices: readonly Notice[]
}

export interface FoundingStatus {
  readonly have: number
  readonly need: number
  readonly missing: readonly string[]
}

export class Founding {
  readonly #options: FoundingOptions
  readonly #mode: Mode
  readonly #knowledge: Knowledge
  readonly #board = new NoticeBoard()
  /** Invariant: durable. The only record messages may show. */
  #record: FoundingRecord
  /** Handed out for saving and not yet reported durable. At most one. */
  #saving: FoundingRecord | null = null
  /** `asked`: the runtime writes the log of the pledged cluster. */
  #log: 'none' | 'asked' | 'written' = 'none'
  #fatal = false
  #outcome: FoundingOutcome | null = null
  #notices: Notice[] = []
  readonly #sendTo = new Set<string>()

  #nowMs = 0
  #sinceSendMs = 0
  #sinceReviewMs = 0
  #pledgedMs = 0
  #stableMs = 0
  #sweepMs = 0
  #swept = false
  #backOffMs = 0
  #backOffExponent = 0
  #known = ''
  #freePeers = ''
  /** The set to offer if time allows; its lowest key is me, else null. */
  #candidates: readonly Founder[] | null = null
  /** Something the rules look at has changed since they were last asked. */
  #changed = true

  constructor(options: FoundingOptions) {
    const { self, expect, mayFound, inviteClusterId } = options
    const founders = options.founders === null ? null : [...new Set(options.founders)].sort()
    const foundersHash = founders === null ? null : hashFounders(founders)
    const size = founders?.length ?? expect
    this.#options = options
    this.#mode = { self, expect, founders, foundersHash, size, mayFound, inviteClusterId }
    this.#knowledge = new Knowledge(this.#mode)
    this.#record = options.record
  }

  /** The durable record. */
  get record(): FoundingRecord {
    return this.#record
  }

  /** `missing` holds names of founders that are not here, as far as they are known. */
  get status(): FoundingStatus {
    const { pledge, bound } = this.#record
    const { size, mayFound, founders } = this.#mode
    if (bound !== null) return { have: size, need: size, missing: [] }
    if (pledge !== null) {
      const all = foundersOf(pledge)
      const missing = all.filter((founder) => !this.#knowledge.isHere(founder))
      const names = missing.map((founder) => founder.name || founder.nodeKey.slice(0, 8))
      return { have: all.length - missing.length, need: all.length, missing: names }
    }
    if (!mayFound) return { have: 0, need: 1, missing: ['a member of the cluster'] }
    const here = foundersHere(this.#mode, this.#knowledge).map((shown) => shown.nodeKey)
    const missing = (founders ?? []).filter((key) => !here.includes(key))
    return {
      have: Math.min(here.length, size),
      need: size,
      missing: missing.map((key) => key.slice(0, 8)),
    }
  }

  /** Called every 20 to 50 ms; does next to nothing on a bound node. */
  tick(elapsedMs: number): void {
    this.#nowMs += elapsedMs
    if (this.#fatal || this.#record.bound !== null) return
    const ms = Math.min(elapsedMs, TICK_MS_MAX)
    this.#refresh()
    this.#stableMs += ms
    this.#backOffMs = Math.max(0, this.#backOffMs - ms)
    if (!this.#swept) this.#sweepMs += ms
    if (this.#record.pledge !== null) this.#pledgedMs += ms
    this.#sinceSendMs += ms
    if (this.#sinceSendMs >= RESEND_MS) this.#tellAll()
    this.#sinceReviewMs += ms
    if (this.#sinceReviewMs >= REVIEW_MS) this.#review()
    if (this.#mayPropose()) this.#changed = true
  }

  linkUp(nodeKey: string, hello: PeerHello): void {
    if (nodeKey === this.#mode.self.nodeKey) {
      this.#say('alarm', 'clone', 'A node with the key of this one is running: one is a copy.')
      return
    }
    this.#knowledge.linkUp(nodeKey, hello)
    if (hello.clusterId !== null) this.raftFrame(nodeKey, hello.clusterId)
    this.#knowledge.saw(nodeKey, this.#nowMs)
    this.#sendTo.add(nodeKey)
    this.#changed = true
  }

  /** The last link to it is gone. What it told stays true. */
  linkDown(nodeKey: string): void {
    this.#knowledge.saw(nodeKey, this.#nowMs)
    this.#knowledge.linkDown(nodeKey)
    this.#sendTo.delete(nodeKey)
    this.#changed = true
  }

  /** `from` is the key the link was authenticated with; a message that claims another sender is dropped. */
  receive(from: string, message: FoundingMessage): void {
    const peer = this.#knowledge.peer(from)
    if (peer === undefined || this.#fatal || !sameDisk(message.self, peer)) return
    // What is told twice a second is mostly what was told before, and then there is nothing to ask the rules.
    if (peer.message !== message) this.#changed = true
    peer.message = message
    this.#knowledge.saw(from, this.#nowMs)
    const { pledge, bound } = this.#record
    const needed = pledge === null ? [] : foundersOf(pledge)
    for (const known of message.records) {
      if (this.#knowledge.learn(known, needed)) this.#changed = true
    }
    // A bound node is silent by itself: it answers those that still look for a cluster.
    if (bound !== null && message.records[0]?.record.bound === null) this.#sendTo.add(from)
  }

  /** F9: every discovery source has looked once; so many hints are not yet dialled to an end. */
  discoverySwept(pendingDials: number): void {
    this.#swept = pendingDials === 0
    if (this.#swept) this.#sweepMs = 0
  }

  /** A linked peer belongs to this cluster: said by its hello, now or later, or by a Raft frame. */
  raftFrame(from: string, clusterId: string): void {
    const peer = this.#knowledge.peer(from)
    if (peer === undefined || this.#record.bound !== null) return
    if (this.#knowledge.claim(peer, clusterId)) this.#changed = true
  }

  /** The log of the `found` outcome is durable. */
  logWritten(): void {
    if (this.#log !== 'asked') throw new Error('no log was asked for')
    this.#log = 'written'
    this.#changed = true
  }

  /** The record of the last drain is durable. */
  recordSaved(seq: number): void {
    const saved = this.#saving
    if (saved === null || saved.seq !== seq) throw new Error(`record ${seq} is not being saved`)
    const before = this.#record
    this.#record = saved
    this.#saving = null
    if (saved.pledge !== before.pledge) this.#pledgedMs = 0
    this.#changed = true
    this.#tellAll()
    this.#announce(before, saved)
  }

  /** Nothing has happened that drain() could answer: so it is in nearly every turn of a bound node. */
  get isIdle(): boolean {
    const nothing = this.#outcome === null && this.#notices.length === 0
    return nothing && !this.#changed && this.#sendTo.size === 0
  }

  drain(): FoundingDrain {
    this.#refresh()
    const save = this.#next()
    const message = this.#sendTo.size > 0 && !this.#fatal ? this.#message() : null
    const send =
      message === null ? [] : [...this.#sendTo].map((nodeKey) => ({ to: nodeKey, message }))
    const drained = { save, send, outcome: this.#outcome, notices: this.#notices }
    this.#sendTo.clear()
    this.#outcome = null
    this.#notices = []
    return drained
  }

  /** Asks the rules, unless an effect is under way: what they see must be durable. */
  #next(): FoundingRecord | null {
    if (this.#fatal || this.#saving !== null || this.#log === 'asked' || !this.#changed) return null
    this.#changed = false
    if (this.#log === 'written') {
      this.#log = 'none'
      this.#saving = boundRecord(this.#record)
      return this.#saving
    }
    const decision = (this.#options.rules ?? decide)(this.#record, this.#view())
    this.#follow(decision)
    return this.#saving
  }

  #follow(decision: Decision): void {
    switch (decision.rule) {
      case 'none':
        return
      case 'F6': {
        const { offer } = decision
        this.#log = 'asked'
        const { clusterId } = offer
        this.#outcome = { type: 'found', clusterId, entry1: entry1Bytes(offer) }
        return
      }
      case 'F8':
        this.#fatal = true
        this.#outcome = { type: 'fatal', code: 'rolled-back-or-cloned', detail: decision.detail }
        return
      default:
        this.#saving = decision.record
    }
  }

  #view(): View {
    const { self, size, founders, mayFound, inviteClusterId } = this.#mode
    const { records, peers, claims } = this.#knowledge
    const { randomId, settings } = this.#options
    const offered = this.#mayPropose() ? this.#candidates : null
    return {
      self: { nodeKey: self.nodeKey, storageId: self.storageId },
      expect: size,
      founders,
      mayFound,
      inviteClusterId,
      others: records,
      reachable: peers,
      claims,
      proposal:
        offered === null
          ? null
          : {
              clusterId: randomId(),
              founders: offered,
              settings,
              featureLevel: this.#levelOf(offered),
            },
    }
  }

  /** What all founders support: a cluster that nobody older has founded need not be raised to it later. */
  #levelOf(founders: readonly Founder[]): number {
    const { self } = this.#mode
    let level = this.#options.featureLevel ?? 1
    for (const { nodeKey } of founders) {
      if (nodeKey === self.nodeKey) continue
      level = Math.min(level, this.#knowledge.levelOf(nodeKey))
    }
    return level
  }

  /** F9 and F10. */
  #mayPropose(): boolean {
    return (
      this.#candidates !== null &&
      this.#stableMs >= STABLE_MS &&
      this.#backOffMs === 0 &&
      (this.#swept || this.#sweepMs >= SWEEP_MS_MAX)
    )
  }

  #message(): FoundingMessage {
    const { bootId, settings } = this.#options
    const { self, expect, foundersHash, mayFound } = this.#mode
    const { nodeKey, storageId } = self
    const own: KnownRecord = { nodeKey, storageId, record: this.#record }
    return {
      records: [own, ...this.#knowledge.relayed(RECORDS_MAX - 1)],
      mayFound,
      expect,
      foundersHash,
      settings,
      linkedTo: this.#knowledge.peers.slice(0, LINKED_TO_MAX).map((peer) => peer.nodeKey),
      bootId,
      self: founderOf(self, { name: self.name, urls: self.urls() }),
    }
  }

  #tellAll(): void {
    this.#sinceSendMs = 0
    for (const { nodeKey } of this.#knowledge.peers) this.#sendTo.add(nodeKey)
  }

  /** Recomputes who could found with me, and restarts the clocks that depend on it (F9, F10). */
  #refresh(): void {
    if (!this.#changed || this.#record.bound !== null) return
    const agreeing = this.#knowledge.agreeing()
    const freePeers = agreeing.map((peer) => peer.nodeKey).join()
    if (freePeers !== this.#freePeers) {
      this.#freePeers = freePeers
      this.#backOffExponent = 0
    }
    const clique = this.#record.pledge === null ? this.#knowledge.clique(agreeing) : null
    this.#candidates = clique?.[0]?.nodeKey === this.#mode.self.nodeKey ? clique : null
    const disks = (clique ?? []).map(diskOf)
    const known = [...this.#knowledge.knownKeys(), 'candidates', ...disks].join()
    if (known === this.#known) return
    this.#known = known
    this.#stableMs = 0
  }

  #say(level: NoticeLevel, kind: string, text: string): void {
    this.#notices.push({ level, kind, text })
  }

  /** After a save: one line for each step, and what the step sets in motion. */
  #announce(before: FoundingRecord, now: FoundingRecord): void {
    const { bound, pledge } = now
    if (bound !== null && before.bound === null) {
      const { clusterId, how } = bound
      const ids = `cluster ${clusterId}`
      if (how === 'founded') {
        this.#say('info', 'founded', `Founded ${ids} with ${bound.foundingSet.length} members.`)
        return
      }
      this.#outcome = { type: 'join', clusterId }
      this.#say('info', 'joined', `Bound to ${ids}; this node waits until it is admitted.`)
      return
    }
    if (pledge !== null && before.pledge === null) {
      const own = pledge.proposer === this.#mode.self.nodeKey
      const what = own ? 'Offered' : 'Pledged'
      const names = foundersOf(pledge).map((founder) => founder.nodeKey.slice(0, 8))
      const text = `${what} to found cluster ${pledge.clusterId} with ${names.join(', ')}.`
      this.#say('info', own ? 'offered' : 'pledged', text)
    } else if (before.pledge !== null && pledge === null) {
      this.#say('info', 'dropped', `Cluster ${before.pledge.clusterId} can never be founded.`)
      if (before.pledge.proposer === this.#mode.self.nodeKey) this.#backOff()
    } else if (now.floor > before.floor) {
      this.#say('info', 'refused', `Refused an offer up to round ${now.floor}.`)
    }
  }

  #backOff(): void {
    const base = Math.min(BACK_OFF_MS * 2 ** this.#backOffExponent, BACK_OFF_MS_MAX)
    this.#backOffMs = Math.floor(base / 2) + this.#options.random(base + 1)
    this.#backOffExponent = Math.min(this.#backOffExponent + 1, 10)
  }

  #review(): void {
    this.#sinceReviewMs = 0
    this.#notices.push(...this.#board.review(this.#conditions()))
  }

  #conditions(): readonly Condition[] {
    if (this.#record.pledge !== null) {
      if (this.#pledgedMs < PLEDGE_PATIENCE_MS) return []
      return pledgeConditions(this.#record, this.#mode.self, this.#knowledge, this.#nowMs)
    }
    const settled = this.#stableMs >= STABLE_MS
    const { settings } = this.#options
    return blankConditions({
      mode: this.#mode,
      knowledge: this.#knowledge,
      view: this.#view(),
      settings,
      settled,
    })
  }
}
