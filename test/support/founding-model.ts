/**
 * What a walk through every interleaving of a few founding nodes is given and what it answers. The rules are the real ones
 * (node/founding/rules.ts). Two walks go the same way: founding-steps.ts with each message, decision, save and crash as
 * a step of its own, and founding-folded.ts, which folds the steps that decide nothing. docs/testing.md has the figures.
 */
import type { FoundingRecord } from '../../node/founding/record.ts'
import type { Decision, View } from '../../node/founding/rules.ts'

export type Rules = (own: FoundingRecord, view: View) => Decision

/** What a node is started with. */
export interface Flags {
  readonly expect: number
  readonly mayFound?: boolean
  /** Numbers of nodes, ascending. */
  readonly founders?: readonly number[]
}

export interface NodeSpec extends Flags {
  /** Other flags it may have been started with before, or is restarted with now. */
  readonly restartsAs?: readonly Flags[]
  /** Another disk with the key of this node. */
  readonly key?: number
  /** This disk may be lost for good at any moment: in the kind world it is not there, only what it may have told. */
  readonly lost?: boolean
}

export interface World {
  readonly nodes: readonly NodeSpec[]
  /** No offer above this round is made while the network is cruel: bounds the walk. */
  readonly roundsMax: number
  readonly rules?: Rules
  /** False: only safety is checked, not that a kind world ends well. */
  readonly kind?: boolean
  /** A kind world may end unfounded, if every node that waits has a notice that says why. */
  readonly mayWait?: boolean
  /** Old copies of a node's own record come back to it too. Only an F8 could come of it. */
  readonly ownCopies?: boolean
  /** Planted bugs in the order of effects, for the folded walk. */
  readonly bugs?: Bugs
  /** Nodes do not stop when they see that they were rolled back: shows what a planted bug leads to without that net. */
  readonly ignoreF8?: boolean
}

export interface Bugs {
  /** Records of these rules are told before they are durable (or never are), so that a crash can lose what was told. */
  readonly losesTold?: readonly string[]
  /** A disk may lose everything and keep its identity. */
  readonly wipes?: boolean
}

export interface Limits {
  readonly statesMax?: number
  /** Asked now and then; true ends the walk. */
  readonly stop?: () => boolean
  /**
   * True: the folded walk leaves out old records that can decide nothing any more (founding-forget.ts). 'compare': it keeps
   * them, and each state must allow each node exactly what it would without them.
   */
  readonly forget?: boolean | 'compare'
  /** Receives what every disk has had durable, for each reached state, as text. */
  readonly histories?: Set<string>
  /** The same with only the newest record of each disk. */
  readonly durable?: Set<string>
}

export interface Verdict {
  readonly states: number
  /** Distinct sets of durable records, from each of which a kind world was tried in every order. */
  readonly kindStates: number
  /** The notices that stood in kind worlds that ended unfounded. */
  readonly waits: readonly string[]
  /** Every state within the bound on rounds was seen. */
  readonly complete: boolean
  readonly violation: { readonly what: string; readonly trace: readonly string[] } | null
}
