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
 * The reduction is checked, too: where both walks end, they reach the same sets of durable records.
 */
import { foundersOf, type Offer, sameDisk, sameOffer } from '../../node/founding/record.ts'
import type { RecordBook } from './founding-book.ts'
import type { Disk } from './founding-lab.ts'

interface Told {
  readonly own: number
  readonly records: readonly number[]
}

/** By disk: the records to keep, the newest among them. */
export function neededRecords(
  book: RecordBook,
  disks: readonly Told[],
): readonly (readonly number[])[] {
  /** The floor below which nothing is answered any more. */
  const floors = disks.map(({ own }) => {
    const { floor, bound } = book.get(own)
    return bound === null ? floor : Number.POSITIVE_INFINITY
  })
  const closed = (offer: Offer): boolean =>
    foundersOf(offer).every((founder) => {
      const at = book.disks.findIndex((disk) => sameDisk(disk, founder))
      return (floors[at] as number) >= offer.round
    })
  return disks.map(({ own, records }, at) => {
    const key = (book.disks[at] as Disk).nodeKey
    const lower = floors.filter((_, other) => (book.disks[other] as Disk).nodeKey < key)
    const least = Math.min(...lower)
    const later = (a: number, b: number) => book.get(a).floor > book.get(b).floor
    return records.filter((id) => {
      if (id === own) return true
      const { pledge, bound } = book.get(id)
      if (bound !== null) return true
      if (pledge !== null) {
        const last = !records.some((other) => {
          const record = book.get(other)
          return record.bound === null && sameOffer(record.pledge, pledge) && later(other, id)
        })
        return last && !closed(pledge)
      }
      if (least === Number.POSITIVE_INFINITY) return false
      const better = records.some((other) => {
        const record = book.get(other)
        const blank = record.pledge === null && record.bound === null
        return blank && later(other, id) && record.floor <= least
      })
      return !better
    })
  })
}
