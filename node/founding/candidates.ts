/**
 * Which N nodes could found together: the walk over free keys in ascending order. Pure.
 */

export interface Candidate {
  readonly nodeKey: string
  /** The keys it says it has a link to. */
  readonly linkedTo: ReadonlySet<string>
}

/** Bounds the search among many badly connected candidates; a walk of a connected crowd needs `size` steps. */
const STEPS_MAX = 20_000

function linked(a: Candidate, b: Candidate): boolean {
  return a.linkedTo.has(b.nodeKey) && b.linkedTo.has(a.nodeKey)
}

/**
 * Takes each candidate that is linked to all taken so far, both ways; where that ends short, the last choice is undone.
 * `candidates` ascend by key. The result is the first such set in the order of keys, or null.
 */
export function firstClique(
  candidates: readonly Candidate[],
  size: number,
): readonly string[] | null {
  let steps = 0
  const taken: Candidate[] = []
  const walk = (from: number): boolean => {
    if (taken.length === size) return true
    for (let at = from; at <= candidates.length - (size - taken.length); at++) {
      if (++steps > STEPS_MAX) return false
      const next = candidates[at] as Candidate
      if (!taken.every((other) => linked(other, next))) continue
      taken.push(next)
      if (walk(at + 1)) return true
      taken.pop()
    }
    return false
  }
  return walk(0) ? taken.map((candidate) => candidate.nodeKey) : null
}

/** The pairs that stand in the way, at most `max`, in the order of keys. */
export function unlinkedPairs(
  candidates: readonly Candidate[],
  max: number,
): readonly (readonly [string, string])[] {
  const pairs: (readonly [string, string])[] = []
  for (const [at, a] of candidates.entries()) {
    for (const b of candidates.slice(at + 1)) {
      if (!linked(a, b) && pairs.length < max) pairs.push([a.nodeKey, b.nodeKey])
    }
  }
  return pairs
}
