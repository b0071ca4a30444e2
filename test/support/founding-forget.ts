/**
 * Which old records still matter. An old record of a disk is one that is not its newest. Left out are, by what the real
 * rules do (rules.ts), those whose every effect another record has as well:
 *
 * What an answer needs. F3 and F4 for an offer X: one record that holds X (any more only take offers away), and for F4 perhaps
 * somebody's hello. F5: one record that refuses the own pledge. F6: for each member one record that holds it, or
 * one bound record. F7: one bound record. F2: for each member one blank record, of which only the floor is used.
 *
 * - What an old record refuses, the newest refuses too: the floor never falls, and an offer at or below it is never
 *   pledged. So for F5 no old record is needed.
 * - Of several records that hold X and are not bound, the last is enough. It holds X for F6. For F3 and F4 it shows X as
 *   well. It refuses more, but nobody who could answer F4 with the earlier one answers otherwise with it: he holds P with
 *   P.round <= his floor < X.round, and both refuse exactly such a P, if their disk is in it.
 * - X is closed when each member is bound or has floor >= X.round. Nobody can pledge or refuse it any more, so F3 and F4 do not
 *   need it. A disk that still holds X has a newest record that says so; one that does not has refused X for good, so F6
 *   can never come of it. So no old record that holds a closed X is needed.
 * - A blank record of disk j serves F2 of nodes with a lower key that are not bound. Each of them makes its round from the
 *   highest floor, its own among them: of the records of j whose floor no such node is below, one is enough. If there is
 *   no such node, none is.
 *
 * What is left out now would be left out later, too: floors and bonds never go back.
 *
 * Left out is also every bond (F6, F7) to a cluster X that another node has founded, if any two sets that these nodes may offer have
 * a key in common. The node then stays as it was, which only leaves it more to do. Whatever its bound record or its hello would
 * tell others, the first founder's tells as well: that X exists, who founded it, and that each other offer is dead,
 * its set having a key in common with X. And the kind world goes on from the node as it was, by the same bond.
 *
 * The reduction is checked, too. Walked with all records, each state of the smaller worlds allows each node exactly what it
 * allows without the old ones (`forget: 'compare'`); and both walks reach the same sets of durable records in which at most one
 * node is bound, and the same kind states.
 */
import { foundersOf, sameDisk } from '../../node/founding/record.ts'
import { flagsOf, type RecordBook } from './founding-book.ts'
import type { Disk } from './founding-lab.ts'
import type { World } from './founding-model.ts'

interface Told {
  readonly own: number
  readonly records: readonly number[]
}

/** What counts of a record here. */
interface Facts {
  readonly floor: number
  readonly bound: boolean
  /** Of the pledge: a text that is equal for equal offers, '' for none; its round; its members by number. */
  readonly offer: string
  readonly round: number
  readonly members: readonly number[]
}

const RECORDS_MAX = 16
const NEVER = Number.POSITIVE_INFINITY

export class Forgetting {
  readonly #book: RecordBook
  readonly #facts: Facts[] = []
  /** By disk: the disks with a lower key. */
  readonly #lower: readonly (readonly number[])[]

  constructor(book: RecordBook) {
    this.#book = book
    const key = (disk: Disk) => disk.nodeKey
    this.#lower = book.disks.map((disk) =>
      [...book.disks.keys()].filter((at) => key(book.disks[at] as Disk) < key(disk)),
    )
  }

  /** By disk: bits for the places of the records to keep, the newest among them. */
  needed(disks: readonly Told[]): readonly number[] {
    const floors: number[] = []
    for (const { own } of disks) {
      const { floor, bound } = this.#factsOf(own)
      // A bound node answers nothing any more, whatever the round.
      floors.push(bound ? NEVER : floor)
    }
    const kept: number[] = []
    for (let at = 0; at < disks.length; at++) kept.push(this.#kept(disks[at] as Told, at, floors))
    return kept
  }

  #kept({ own, records }: Told, at: number, floors: readonly number[]): number {
    if (records.length > RECORDS_MAX) throw new Error('too many records of one disk')
    let least = NEVER
    for (const other of this.#lower[at] as readonly number[]) {
      least = Math.min(least, floors[other] as number)
    }
    let bits = 0
    for (let place = 0; place < records.length; place++) {
      const id = records[place] as number
      const facts = this.#factsOf(id)
      const needed =
        id === own ||
        facts.bound ||
        (facts.offer === ''
          ? least !== NEVER && !this.#hasLaterBlank(records, facts.floor, least)
          : !isClosed(facts, floors) && !this.#holdsItLater(records, facts))
      if (needed) bits |= 1 << place
    }
    return bits
  }

  #hasLaterBlank(records: readonly number[], floor: number, least: number): boolean {
    for (const id of records) {
      const other = this.#factsOf(id)
      if (other.bound || other.offer !== '') continue
      if (other.floor > floor && other.floor <= least) return true
    }
    return false
  }

  #holdsItLater(records: readonly number[], { offer, floor }: Facts): boolean {
    for (const id of records) {
      const other = this.#factsOf(id)
      if (!other.bound && other.offer === offer && other.floor > floor) return true
    }
    return false
  }

  #factsOf(id: number): Facts {
    const before = this.#facts[id]
    if (before !== undefined) return before
    const { floor, pledge, bound } = this.#book.get(id)
    const members = pledge === null ? [] : foundersOf(pledge)
    const facts = {
      floor,
      bound: bound !== null,
      offer: pledge === null ? '' : `${pledge.clusterId}@${pledge.round}`,
      round: pledge?.round ?? 0,
      members: members.map((founder) =>
        this.#book.disks.findIndex((disk) => sameDisk(disk, founder)),
      ),
    }
    this.#facts[id] = facts
    return facts
  }
}

/** True when two sets that these nodes may offer cannot be disjoint: there are not enough keys. */
export function setsAlwaysMeet(world: World, book: RecordBook): boolean {
  const keys = new Set(book.disks.map((disk) => disk.nodeKey))
  const sizes = world.nodes.flatMap((_, node) =>
    flagsOf(world, node)
      .filter(({ mayFound }) => mayFound !== false)
      .map(({ expect, founders }) => founders?.length ?? expect),
  )
  return 2 * Math.min(...sizes) > keys.size
}

function isClosed({ members, round }: Facts, floors: readonly number[]): boolean {
  for (const member of members) {
    if ((floors[member] as number) < round) return false
  }
  return true
}
