/**
 * What a waiting node tells its operator, in whole sentences. Pure. A notice is repeated only when what it says has
 * changed, so that a node may wait for a week without filling a disk.
 */

export type NoticeLevel = 'info' | 'warn' | 'alarm'

export interface Notice {
  /** Stable name for logs and tests, such as `waiting-for-founder`. */
  readonly kind: string
  readonly level: NoticeLevel
  readonly text: string
}

/** `topic` is compared instead of the text where the text holds something that changes by itself, such as an age. */
export interface Condition extends Notice {
  readonly topic: string
}

/** Emits a condition when it begins or changes; when it ends, it may be emitted again. */
export class NoticeBoard {
  readonly #shown = new Map<string, string>()

  review(conditions: readonly Condition[]): readonly Notice[] {
    const fresh: Notice[] = []
    const standing = new Set(conditions.map((condition) => condition.kind))
    for (const kind of [...this.#shown.keys()]) {
      if (!standing.has(kind)) this.#shown.delete(kind)
    }
    for (const { kind, level, text, topic } of conditions) {
      if (this.#shown.get(kind) === topic) continue
      this.#shown.set(kind, topic)
      fresh.push({ kind, level, text })
    }
    return fresh
  }
}

export interface Shown {
  readonly nodeKey: string
  readonly name: string
}

export interface Sighting {
  readonly agoMs: number
  readonly url: string | null
}

/** A name comes from another machine: whatever could move a cursor is taken out. */
function printable(name: string): string {
  return name.replace(/\p{Cc}/gu, '?')
}

function short(hex: string): string {
  return `${hex.slice(0, 4)}..`
}

export function label({ nodeKey, name }: Shown): string {
  const plain = printable(name)
  return plain === '' ? short(nodeKey) : `${plain} (${short(nodeKey)})`
}

function list(names: readonly string[]): string {
  if (names.length < 2) return names.join('')
  return `${names.slice(0, -1).join(', ')} and ${names[names.length - 1] as string}`
}

export function condition(
  level: NoticeLevel,
  kind: string,
  text: string,
  topic: string = text,
): Condition {
  return { kind, level, text, topic }
}

export function waiting(here: readonly Shown[], size: number): Condition {
  const missing = size - here.length
  const who = `${here.length} of ${size} founders are here: ${list(here.map(label))}.`
  const rest = missing > 0 ? ` ${missing} more must join this topic.` : ''
  return condition('info', 'waiting', who + rest)
}

export function waitingForFounder(facts: {
  readonly missing: readonly (Shown & { sighting: Sighting | null; otherDisk: boolean })[]
  readonly pledged: readonly Shown[]
  readonly clusterId: string
}): Condition {
  const missing = facts.missing.map((founder) => {
    const { sighting } = founder
    const where = sighting?.url == null ? '' : ` at ${printable(sighting.url)}`
    const seen =
      sighting === null
        ? 'not seen since this node started'
        : `last seen ${Math.round(sighting.agoMs / 1000)} s ago${where}`
    const disk = founder.otherDisk ? ', here now with another data directory' : ''
    return `${printable(founder.name)} (${short(founder.nodeKey)}, ${seen}${disk})`
  })
  const names = facts.missing.map((founder) => printable(founder.name))
  const them = names.length > 1 ? 'them' : 'it'
  const owners = names.length > 1 ? 'their data directories' : 'its data directory'
  const have = facts.pledged.length > 1 ? 'have' : 'has'
  return condition(
    'warn',
    'waiting-for-founder',
    `Founding waits for ${list(missing)}. ${list(facts.pledged.map((p) => printable(p.name)))} ` +
      `${have} promised to found ${short(facts.clusterId)} with ${them}. Start ${list(names)} with ` +
      `${owners}. If that directory is lost: raft-p2p founding abandon`,
    [facts.clusterId, ...facts.missing.map((m) => `${m.nodeKey}${m.otherDisk}`)].join(),
  )
}

export function cannotConnect(pairs: readonly (readonly [Shown, Shown])[]): Condition {
  const text = pairs.map(([a, b]) => `${label(a)} and ${label(b)}`).join('; ')
  return condition(
    'warn',
    'cannot-connect',
    `Enough nodes are here, but these cannot connect to each other: ${text}. Check firewalls and --advertise.`,
  )
}

export function expectDiffers(own: number, others: readonly (Shown & { expect: number })[]) {
  const text = others.map((other) => `${label(other)} has --expect ${other.expect}`).join('; ')
  return condition(
    'alarm',
    'expect-differs',
    `This node was started with --expect ${own}, but ${text}. They will never found together: restart with one value.`,
  )
}

export function foundersDiffer(others: readonly Shown[]): Condition {
  return condition(
    'alarm',
    'founders-differ',
    `--founders is not the same here and on ${list(others.map(label))}. They will never found together.`,
  )
}

export function settingsDiffer(others: readonly Shown[]): Condition {
  return condition(
    'warn',
    'settings-differ',
    `The replicated settings are not the same here and on ${list(others.map(label))}. ` +
      `The cluster gets those of the founder with the lowest key.`,
  )
}
