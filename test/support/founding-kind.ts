/**
 * The kind world: nothing fails any more, all nodes are linked, and everybody knows the newest record of everybody. From
 * a set of durable records, in every order of steps, it must end, with everybody bound to one cluster. A world that
 * cannot found by design must say so: each node that waits has a notice.
 */
import { blankConditions, pledgeConditions } from '../../node/founding/conditions.ts'
import { Knowledge, type Mode } from '../../node/founding/knowledge.ts'
import { foundersOf, hashFounders, sameDisk } from '../../node/founding/record.ts'
import type { Claim } from '../../node/founding/rules.ts'
import type { PeerIdentity } from '../../node/raft/types.ts'
import {
  flagsOf,
  type Heard,
  NOTHING,
  type Outcome,
  type RecordBook,
  subsets,
} from './founding-book.ts'
import { type Disk, messageFrom, viewOf } from './founding-lab.ts'
import type { Flags, World } from './founding-model.ts'

const STEPS_MAX = 40

export class KindWorld {
  readonly #world: World
  readonly #book: RecordBook
  readonly #alive: readonly number[]
  /** Every combination of flags the nodes may have been restarted with. */
  readonly #starts: readonly (readonly Flags[])[]
  readonly #done = new Set<string>()
  readonly waits = new Set<string>()

  constructor(world: World, book: RecordBook) {
    this.#world = world
    this.#book = book
    this.#alive = world.nodes.flatMap((spec, at) => (spec.lost === true ? [] : [at]))
    this.#starts = world.nodes.reduce<readonly (readonly Flags[])[]>(
      (starts, _, at) =>
        starts.flatMap((start) => flagsOf(world, at).map((flags) => [...start, flags])),
      [[]],
    )
  }

  get states(): number {
    return this.#done.size
  }

  /** What is wrong, or null. A disk that is lost has told one of `told` last, or (-1) nothing. */
  check(durable: readonly number[], told: readonly (readonly number[])[]): string | null {
    for (const start of this.#starts.keys()) {
      for (const records of this.#withLost(durable, told)) {
        const wrong = this.#step(start, records, [])
        if (wrong !== null) return wrong
      }
    }
    return null
  }

  #withLost(
    durable: readonly number[],
    told: readonly (readonly number[])[],
  ): readonly (readonly number[])[] {
    return this.#world.nodes.reduce<readonly (readonly number[])[]>(
      (all, spec, at) => {
        if (spec.lost !== true) return all
        const last = [-1, ...(told[at] as readonly number[])]
        return all.flatMap((records) => last.map((record) => records.with(at, record)))
      },
      [durable],
    )
  }

  #step(start: number, records: readonly number[], path: readonly string[]): string | null {
    const key = String.fromCharCode(start, ...records.map((record) => record + 1))
    if (this.#done.has(key)) return null
    if (path.length > STEPS_MAX) return `kind world never ends: ${path.join('; ')}`
    let moved = false
    for (const node of this.#alive) {
      if (this.#book.isBound(records[node] as number)) continue
      for (const outcome of this.#decide(start, node, records)) {
        if (outcome.fault !== null) return outcome.fault
        moved = true
        const { rule, record } = outcome
        const told = `n${node + 1} ${rule}: ${this.#book.show(record)}`
        const wrong = this.#step(start, records.with(node, record), [...path, told])
        if (wrong !== null) return wrong
      }
    }
    this.#done.add(key)
    return moved ? null : this.#ended(start, records)
  }

  #decide(start: number, node: number, records: readonly number[]): readonly Outcome[] {
    return this.#book.outcomesWith({
      node,
      own: records[node] as number,
      heard: this.#heard(node, records),
      flags: this.#flags(start, node),
      sets: () => this.#sets(start, node, records),
      reachable: this.#alive.filter((other) => other !== node),
      roundsMax: Number.POSITIVE_INFINITY,
    })
  }

  #flags(start: number, node: number): Flags {
    return (this.#starts[start] as readonly Flags[])[node] as Flags
  }

  #heard(node: number, records: readonly number[]): readonly Heard[] {
    return records.map((record, at) => {
      if (at === node || record < 0) return NOTHING
      const bound = this.#alive.includes(at) ? this.#book.get(record).bound : null
      return { record, clusterId: bound?.clusterId ?? null }
    })
  }

  /**
   * Every set whose lowest key is mine, of free nodes that agree with me. A running node offers the first of them that is
   * fully linked: which one that is may be left open, and with it which links there are.
   */
  #sets(start: number, node: number, records: readonly number[]): readonly (readonly number[])[] {
    const own = this.#flags(start, node)
    const mode = (flags: Flags) => flags.founders?.join() ?? flags.expect
    const free = (at: number) => {
      const flags = this.#flags(start, at)
      const { pledge, bound } = this.#book.get(records[at] as number)
      if (flags.mayFound === false || mode(flags) !== mode(own)) return false
      if (own.founders !== undefined && !own.founders.includes(at)) return false
      return pledge === null && bound === null
    }
    if (!free(node)) return []
    const key = (at: number) => (this.#book.disks[at] as Disk).nodeKey
    const others = this.#alive.filter((at) => key(at) > key(node) && free(at))
    const size = own.founders?.length ?? own.expect
    return subsets(others, size - 1).map((set) => [node, ...set])
  }

  #ended(start: number, records: readonly number[]): string | null {
    const ids = this.#alive.map((at) => this.#book.get(records[at] as number).bound?.clusterId)
    if (new Set(ids).size === 1 && ids[0] !== undefined) return null
    const shown = records.map((id) => (id < 0 ? 'unknown' : this.#book.show(id))).join('; ')
    if (this.#world.mayWait !== true || !this.#mustWait(start, records)) {
      return `kind world ends unfounded: ${shown}`
    }
    for (const [at, id] of ids.entries()) {
      if (id !== undefined) continue
      const node = this.#alive[at] as number
      const kinds = this.#notices(start, node, records)
      if (kinds.length === 0) return `n${node + 1} waits and does not say why: ${shown}`
      for (const kind of kinds) this.waits.add(kind)
    }
    return null
  }

  /** Nothing else may hold a founding up: a pledge that names a lost disk, or too few that could found together. */
  #mustWait(start: number, records: readonly number[]): boolean {
    const here = this.#alive.map((at) => this.#book.get(records[at] as number))
    // Whoever sees a cluster drops what can never be founded, and joins.
    if (here.some(({ bound }) => bound !== null)) return false
    const isHere = (founder: PeerIdentity) =>
      this.#alive.some((at) => sameDisk(this.#book.disks[at] as Disk, founder))
    const open = here.flatMap(({ pledge, bound }) => (bound === null && pledge ? [pledge] : []))
    if (open.length > 0) return open.some((pledge) => !foundersOf(pledge).every(isHere))
    return this.#alive.every((at) => this.#sets(start, at, records).length === 0)
  }

  /** The kinds of notices that stand on `node`, by the code that makes them in a running node. */
  #notices(start: number, node: number, records: readonly number[]): readonly string[] {
    const self = this.#book.disks[node] as Disk
    const { mode, knowledge } = this.#knowledge(start, node, records)
    const record = this.#book.get(records[node] as number)
    if (record.pledge !== null) {
      return pledgeConditions(record, self, knowledge, 0).map(({ kind }) => kind)
    }
    const view = viewOf(self, {
      expect: mode.size,
      founders: mode.founders,
      mayFound: mode.mayFound,
      others: knowledge.records,
      reachable: knowledge.peers,
      claims: knowledge.claims,
    })
    const facts = { mode, knowledge, view, settings: {}, settled: true }
    return blankConditions(facts).map(({ kind }) => kind)
  }

  #knowledge(start: number, node: number, records: readonly number[]) {
    const self = this.#book.disks[node] as Disk
    const mode = { self: { ...self, urls: () => self.urls }, ...this.#mode(start, node) }
    const knowledge = new Knowledge(mode)
    const linkedTo = this.#alive.map((at) => (this.#book.disks[at] as Disk).nodeKey)
    for (const [at, { record: id, clusterId }] of this.#heard(node, records).entries()) {
      if (id < 0) continue
      const disk = this.#book.disks[at] as Disk
      const record = this.#book.get(id)
      knowledge.learn({ nodeKey: disk.nodeKey, storageId: disk.storageId, record }, [])
      if (!this.#alive.includes(at)) continue
      knowledge.linkUp(disk.nodeKey, { ...disk, bootId: '00000000000000aa', clusterId })
      const { expect, foundersHash, mayFound } = this.#mode(start, at)
      const peer = knowledge.peer(disk.nodeKey)
      if (peer === undefined) continue
      const fields = { record, mayFound, expect, foundersHash, linkedTo }
      peer.message = messageFrom(disk, fields)
      const claim: Claim | null = clusterId === null ? null : { ...peer, clusterId }
      if (claim !== null) knowledge.claim(claim, claim.clusterId)
    }
    return { mode, knowledge }
  }

  #mode(start: number, node: number): Omit<Mode, 'self'> {
    const { expect, mayFound = true, founders } = this.#flags(start, node)
    const keys = founders?.map((at) => (this.#book.disks[at] as Disk).nodeKey) ?? null
    return {
      expect,
      founders: keys,
      foundersHash: keys === null ? null : hashFounders(keys),
      size: keys?.length ?? expect,
      mayFound,
      inviteClusterId: null,
    }
  }
}
