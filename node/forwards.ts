/**
 * What this node has asked of the leader for its own clients and has no answer to. Pure; time is ticks. An answer counts only for
 * the very question it answers: ids begin anywhere for each life of a process, so that what was asked before a restart matches
 * nothing (HAZARDS, Reads).
 */
import type { PeerId } from './raft/types.ts'
import type { Pending } from './request-table.ts'

export interface Forward {
  readonly to: PeerId
  readonly requests: readonly Pending[]
  /** The tick at which it is sent again. */
  readonly againTick: number
}

/** Each life starts at a random multiple of this, far more than what is ever without an answer at once. */
const IDS_PER_LIFE = 2 ** 20
/** The wait is doubled so often at most. */
const DOUBLINGS_MAX = 5

export class Forwards {
  readonly #patienceTicks: number
  readonly #byId = new Map<number, Forward>()
  #nextId: number

  /** `life`: a random integer below 2^32, another one in every process. */
  constructor(options: { readonly patienceTicks: number; readonly life: number }) {
    this.#patienceTicks = options.patienceTicks
    this.#nextId = options.life * IDS_PER_LIFE + 1
  }

  get count(): number {
    return this.#byId.size
  }

  /** Returns the id that the answer must carry. */
  add(to: PeerId, requests: readonly Pending[], tick: number): number {
    const id = this.#nextId++
    const repeats = Math.max(0, ...requests.map((pending) => pending.repeats))
    // A leader that is only slow must not be given the same work again and again: that would make it slower.
    const patience = this.#patienceTicks * 2 ** Math.min(repeats, DOUBLINGS_MAX)
    // A change is not asked for twice, and may take the leader longer than that: it waits for as long as its asker does.
    const deadline = Math.max(0, ...requests.filter(isChange).map((pending) => pending.deadline))
    this.#byId.set(id, { to, requests, againTick: Math.max(tick + patience, deadline) })
    return id
  }

  /** The forward that `from` has answered; null for a late answer or one that was never asked for. */
  take(id: number, from: PeerId): Forward | null {
    const forward = this.#byId.get(id)
    if (forward === undefined || forward.to !== from) return null
    this.#byId.delete(id)
    return forward
  }

  takeWhere(lost: (forward: Forward) => boolean): Forward[] {
    const taken: Forward[] = []
    for (const [id, forward] of this.#byId) {
      if (!lost(forward)) continue
      this.#byId.delete(id)
      taken.push(forward)
    }
    return taken
  }
}

export function carriesChange({ requests }: Forward): boolean {
  return requests.some(isChange)
}

function isChange({ request }: Pending): boolean {
  return request.type === 'change'
}
