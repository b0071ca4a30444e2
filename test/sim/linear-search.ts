/**
 * Searches an order of the operations of one key that respects real time and that a register could have followed: Wing and Gong,
 * "Testing and verifying concurrent objects" (1993), with the memory of configurations of Lowe, "Testing for linearizability"
 * (2017). Depth first: linearize a candidate, go on, and come back when nothing fits.
 *
 * A configuration is {set of linearized operations, state}. A candidate is an operation that no operation outside the set
 * precedes. Optional operations never return, so they precede nothing, and need not be linearized. Call a configuration
 * *winning* when a valid order leads from it to all required operations. The search does not try everything; these reductions
 * keep a winning move wherever there is one.
 *
 * 1. A READ or DIFFERS that fits now is linearized at once, and not reconsidered. It changes no state, so a winning order stays
 *    valid when it moves to the front.
 * 2. An optional operation is tried only if some candidate comes to need it. Among the winning orders with the fewest optional
 *    operations, take one where these stand as late as possible (the sum of their places is largest), and let it begin with the
 *    optional X, which leads from s to x. If x were s, if X were last, or if a WRITE came next, the order without X would be valid
 *    and shorter. So next comes a Y which is
 *    - a READ or CAS that compares with x, or
 *    - a DIFFERS. It compares with s, or reduction 1 had taken it before X; or
 *    - an APPEND. Let it lead from x to y, and from s to t. If Y is optional, y is not x, or Y could be left out. If it is required
 *      and X is no CAS, X does not lead from t to y, or X could stand later. And if y is UNSEEN, then t can grow into a value that
 *      a DIFFERS compares with: what follows up to the next WRITE is APPENDs and DIFFERS only, and else all of these would fit
 *      without X.
 *    As X precedes nothing, Y is a candidate before X as well, and it is enough to look at the candidates.
 * 3. Of optional operations that do the same, the one called first is taken first. In a winning order, the two can change
 *    places, or the earlier one can stand in for the later one: its call is earlier, and neither has an end.
 *
 * Reductions 2 and 3 choose among the winning orders of one configuration, and 3 changes neither the number of optional
 * operations nor their places, so they hold together.
 */
import { Memo } from './linear-memo.ts'
import { APPEND, CAS, DIFFERS, type Problem, READ, WRITE } from './linear-problem.ts'
import { UNSEEN } from './linear-states.ts'

const NONE = -1
/** In a stack's entry: linearized because it fitted (reduction 1), not as a choice. */
const FORCED = 1
/** Words of a record before the sets: state, lowest missing, highest linearized. */
const RECORD_HEAD = 3

export type Verdict = 'linearizable' | 'not linearizable' | 'gave up'

export class Search {
  readonly #problem: Problem
  readonly #required: number
  readonly #size: number
  readonly #statesMax: number
  #states = 0
  /** Doubly linked and circular: calls (i) and returns (required + i) of what is not linearized, around the entry HEAD. */
  readonly #next: Int32Array
  readonly #previous: Int32Array
  readonly #head: number
  /** Optional operations not linearized, by call; linked as above, by operation, around the entry #size. */
  readonly #nextOptional: Int32Array
  readonly #previousOptional: Int32Array
  /** Bit sets of what is linearized. */
  readonly #requiredBits: Int32Array
  readonly #optionalBits: Int32Array
  #requiredHash = 0
  #state: number
  /** Required operations not linearized. */
  #left: number
  /** By depth: what was linearized, in which state, whether it was forced, and the highest required operation before it. */
  #depth = 0
  readonly #stackOperation: Int32Array
  readonly #stackState: Int32Array
  readonly #stackForced: Uint8Array
  readonly #stackTop: Int32Array
  /** The highest required operation that is linearized, or -1. */
  #top = NONE
  readonly #memo = new Memo()
  readonly #record: Int32Array
  #nameLength = 0
  #nameHash = 0
  /** Needed states and appends of the candidates, as #lookAhead found them. */
  readonly #wanted: number[] = []
  #stamp = 0
  #differsWaits = false
  readonly #appends: number[] = []
  #best: Int32Array = new Int32Array(0)
  #bestRequired = NONE

  constructor(problem: Problem, statesMax: number) {
    const { required } = problem
    const size = problem.kind.length
    this.#problem = problem
    this.#required = required
    this.#size = size
    this.#statesMax = statesMax
    this.#state = problem.initial
    this.#left = required
    this.#head = 2 * required
    this.#next = new Int32Array(2 * required + 1)
    this.#previous = new Int32Array(2 * required + 1)
    this.#nextOptional = new Int32Array(size + 1)
    this.#previousOptional = new Int32Array(size + 1)
    this.#requiredBits = new Int32Array((required + 31) >>> 5)
    this.#optionalBits = new Int32Array((size - required + 31) >>> 5)
    this.#stackOperation = new Int32Array(size)
    this.#stackState = new Int32Array(size)
    this.#stackForced = new Uint8Array(size)
    this.#stackTop = new Int32Array(size)
    this.#record = new Int32Array(
      RECORD_HEAD + this.#requiredBits.length + this.#optionalBits.length,
    )
    this.#link()
  }

  /** Configurations visited so far. */
  get states(): number {
    return this.#states
  }

  /** After 'linearizable': the order found. Else the longest one (in required operations) from which nothing led on. */
  get order(): Int32Array {
    if (this.#left === 0) return this.#stackOperation.slice(0, this.#depth)
    return this.#best
  }

  run(): Verdict {
    this.#absorb()
    let after = NONE
    while (this.#left > 0) {
      const operation = this.#choose(after)
      if (operation === NONE) {
        after = this.#backtrack()
        if (after === NONE) return 'not linearizable'
        continue
      }
      if (++this.#states > this.#statesMax) return 'gave up'
      this.#take(operation, 0)
      this.#absorb()
      after = this.#left > 0 && this.#isHopeless() ? this.#undoChoice() : NONE
    }
    return 'linearizable'
  }

  #link(): void {
    let last = this.#head
    for (const event of this.#problem.events) {
      this.#next[last] = event
      this.#previous[event] = last
      last = event
    }
    this.#next[last] = this.#head
    this.#previous[this.#head] = last
    last = this.#size
    for (let operation = this.#required; operation < this.#size; operation++) {
      this.#nextOptional[last] = operation
      this.#previousOptional[operation] = last
      last = operation
    }
    this.#nextOptional[last] = this.#size
    this.#previousOptional[this.#size] = last
  }

  /** Linearizes every READ and DIFFERS that fits. A return that goes with its call uncovers the calls behind it. */
  #absorb(): void {
    const { kind, from } = this.#problem
    const next = this.#next
    for (let entry = next[this.#head] as number; entry < this.#required; ) {
      const operation = entry
      const fits =
        (kind[operation] === READ && from[operation] === this.#state) ||
        (kind[operation] === DIFFERS && from[operation] !== this.#state)
      if (!fits) {
        entry = next[entry] as number
        continue
      }
      // The links of a removed entry stay, but its next one may be its own return, which is removed as well.
      entry = next[entry] as number
      if (entry === this.#required + operation) entry = next[entry] as number
      this.#take(operation, FORCED)
    }
  }

  /** The next candidate after `after` (NONE: the first) that is worth trying: required ones first, then optional ones. */
  #choose(after: number): number {
    if (after < this.#required) {
      let entry = this.#next[after === NONE ? this.#head : after] as number
      for (; entry < this.#required; entry = this.#next[entry] as number) {
        if (this.#isOpen(entry)) return entry
      }
    }
    if (this.#optionalBits.length === 0) return NONE
    const firstReturnRank = this.#lookAhead()
    const { callRank } = this.#problem
    const start = after < this.#required ? this.#size : after
    let operation = this.#nextOptional[start] as number
    while (operation < this.#size && (callRank[operation] as number) < firstReturnRank) {
      if (this.#isFirstTwin(operation) && this.#isOpen(operation) && this.#isNeeded(operation)) {
        return operation
      }
      operation = this.#nextOptional[operation] as number
    }
    return NONE
  }

  /** Whether it fits the present state, other than what #absorb takes. */
  #isOpen(operation: number): boolean {
    const kind = this.#problem.kind[operation]
    if (kind === CAS) return this.#problem.from[operation] === this.#state
    return kind === WRITE || kind === APPEND
  }

  /** The state that a WRITE, CAS or APPEND leaves behind. */
  #after(operation: number, state: number): number {
    const { kind, to, text, states } = this.#problem
    if (kind[operation] === APPEND) return states.append(state, text[operation] as string)
    return to[operation] as number
  }

  #isFirstTwin(operation: number): boolean {
    const twin = this.#problem.twin[operation] as number
    return twin === NONE || this.#isOptionalTaken(twin)
  }

  #isOptionalTaken(operation: number): boolean {
    const bit = operation - this.#required
    return (((this.#optionalBits[bit >>> 5] as number) >>> (bit & 31)) & 1) === 1
  }

  /** Notes what the candidates compare with and append (reduction 2). Returns the rank of the first return. */
  #lookAhead(): number {
    const { callRank, returnRank } = this.#problem
    this.#stamp++
    this.#differsWaits = false
    this.#appends.length = 0
    let entry = this.#next[this.#head] as number
    for (; entry < this.#required; entry = this.#next[entry] as number) this.#noteNeed(entry)
    const firstReturnRank = returnRank[entry - this.#required] as number
    let operation = this.#nextOptional[this.#size] as number
    while (operation < this.#size && (callRank[operation] as number) < firstReturnRank) {
      this.#noteNeed(operation)
      operation = this.#nextOptional[operation] as number
    }
    return firstReturnRank
  }

  #noteNeed(operation: number): void {
    const kind = this.#problem.kind[operation]
    if (kind === APPEND) this.#appends.push(operation)
    else if (kind === DIFFERS) this.#differsWaits = true
    else if (kind !== WRITE) this.#wanted[this.#problem.from[operation] as number] = this.#stamp
  }

  /** Reduction 2, after #lookAhead. */
  #isNeeded(operation: number): boolean {
    const result = this.#after(operation, this.#state)
    if (result === this.#state) return false
    if (this.#differsWaits || this.#wanted[result] === this.#stamp) return true
    for (const append of this.#appends) {
      if (append !== operation && this.#isNeededBy(append, operation, result)) return true
    }
    return false
  }

  /** Reduction 2: an APPEND as Y, and X, which leads to `result`. */
  #isNeededBy(append: number, operation: number, result: number): boolean {
    const { kind, states } = this.#problem
    const both = this.#after(append, result)
    const alone = this.#after(append, this.#state)
    if (append >= this.#required) {
      if (both === result) return false
    } else if (kind[operation] !== CAS && this.#after(operation, alone) === both) return false
    return both !== UNSEEN || states.mayBeRefuted(alone)
  }

  #take(operation: number, forced: number): void {
    const depth = this.#depth++
    this.#stackOperation[depth] = operation
    this.#stackState[depth] = this.#state
    this.#stackForced[depth] = forced
    this.#stackTop[depth] = this.#top
    if (forced !== FORCED) this.#state = this.#after(operation, this.#state)
    if (operation >= this.#required) {
      const bit = operation - this.#required
      this.#optionalBits[bit >>> 5] = (this.#optionalBits[bit >>> 5] as number) | (1 << (bit & 31))
      unlink(this.#nextOptional, this.#previousOptional, operation)
      return
    }
    const word = operation >>> 5
    this.#requiredBits[word] = (this.#requiredBits[word] as number) | (1 << (operation & 31))
    unlink(this.#next, this.#previous, operation)
    unlink(this.#next, this.#previous, this.#required + operation)
    this.#requiredHash ^= mix(operation)
    if (operation > this.#top) this.#top = operation
    this.#left--
  }

  /** Takes back the latest operation, and returns it. */
  #undo(): number {
    const depth = --this.#depth
    const operation = this.#stackOperation[depth] as number
    this.#state = this.#stackState[depth] as number
    this.#top = this.#stackTop[depth] as number
    if (operation >= this.#required) {
      const bit = operation - this.#required
      this.#optionalBits[bit >>> 5] = (this.#optionalBits[bit >>> 5] as number) & ~(1 << (bit & 31))
      relink(this.#nextOptional, this.#previousOptional, operation)
      return operation
    }
    const word = operation >>> 5
    this.#requiredBits[word] = (this.#requiredBits[word] as number) & ~(1 << (operation & 31))
    relink(this.#next, this.#previous, this.#required + operation)
    relink(this.#next, this.#previous, operation)
    this.#requiredHash ^= mix(operation)
    this.#left++
    return operation
  }

  /** Takes back everything up to the latest choice, and returns that choice; NONE when there was none. */
  #undoChoice(): number {
    while (this.#depth > 0) {
      const chosen = this.#stackForced[this.#depth - 1] !== FORCED
      const operation = this.#undo()
      if (chosen) return operation
    }
    return NONE
  }

  /** Nothing leads on from here: remembers the configuration, and goes back behind the latest choice. */
  #backtrack(): number {
    if (this.#required - this.#left > this.#bestRequired) {
      this.#bestRequired = this.#required - this.#left
      this.#best = this.#stackOperation.slice(0, this.#depth)
    }
    const length = this.#encode()
    this.#memo.add(this.#nameHash, this.#record, length)
    return this.#undoChoice()
  }

  /** Whether the search has been here before, or better off. */
  #isHopeless(): boolean {
    if (this.#memo.size === 0) return false
    const length = this.#encode()
    return this.#memo.covers(this.#nameHash, this.#record, this.#nameLength, length)
  }

  /**
   * Writes the configuration into #record and returns its length. Below the lowest missing operation every required one is
   * in the set, above the highest linearized one none is, so the words between the two tell all.
   */
  #encode(): number {
    const record = this.#record
    const lowest = this.#next[this.#head] as number
    record[0] = this.#state
    record[1] = lowest
    record[2] = this.#top
    let length = RECORD_HEAD
    for (let word = lowest >>> 5; word <= this.#top >> 5; word++) {
      record[length++] = this.#requiredBits[word] as number
    }
    this.#nameLength = length
    for (let word = 0; word < this.#optionalBits.length; word++) {
      record[length++] = this.#optionalBits[word] as number
    }
    this.#nameHash = mix(this.#requiredHash ^ Math.imul(this.#state, 0x9e3779b1))
    return length
  }
}

function unlink(next: Int32Array, previous: Int32Array, entry: number): void {
  const before = previous[entry] as number
  const behind = next[entry] as number
  next[before] = behind
  previous[behind] = before
}

/** Undoes `unlink`, provided that everything unlinked later has been put back. */
function relink(next: Int32Array, previous: Int32Array, entry: number): void {
  next[previous[entry] as number] = entry
  previous[next[entry] as number] = entry
}

/** Spreads an integer over 32 bits (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let mixed = (value + 0x9e3779b9) | 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
