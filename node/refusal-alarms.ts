/**
 * Alarms about peers that are refused over and over: another cluster of the topic, a copy of a node, a version that does not fit.
 * Each attempt says it again, so that silence is what tells that somebody has put it right. Pure.
 */
const KIND_OF: Readonly<Record<string, string>> = {
  'wrong-cluster': 'second-cluster',
  clone: 'clone',
  version: 'version',
}

/** A peer that is there and refused is dialled about every 5 s, and dials. */
const QUIET_MS = 60_000
/** More of them make the alarm no worse. */
const PEERS_MAX = 64

/** Where all alarms of a node are shown (alarms.ts). */
interface Shown {
  readonly list: readonly { readonly kind: string; readonly detail: string }[]
  raise(kind: string, detail: string): void
  clear(kind: string): void
}

interface Standing {
  readonly kind: string
  /** Empty: the other side did not get as far as to say who it is. */
  readonly nodeKey: string
  readonly detail: string
  lastMs: number
}

export class RefusalAlarms {
  readonly #alarms: Shown
  /** Oldest first: the first of a kind is what the alarm says, or a second cluster of three would raise a new one all the time. */
  #standing: Standing[] = []

  constructor(alarms: Shown) {
    this.#alarms = alarms
  }

  refused(
    info: { readonly reason: string; readonly nodeKey: string | null; readonly detail: string },
    nowMs: number,
  ): void {
    const kind = KIND_OF[info.reason]
    if (kind === undefined) return
    const nodeKey = info.nodeKey ?? ''
    const known = this.#standing.find((one) => one.kind === kind && one.nodeKey === nodeKey)
    if (known !== undefined) known.lastMs = nowMs
    else if (this.#standing.length < PEERS_MAX) {
      this.#standing.push({ kind, nodeKey, detail: info.detail, lastMs: nowMs })
      this.#show(kind)
    }
  }

  /** It is refused no more. Of a key that two processes have, one is always linked: that says nothing. */
  linked(nodeKey: string): void {
    this.#keep((one) => one.nodeKey !== nodeKey || one.kind === 'clone')
  }

  tick(nowMs: number): void {
    this.#keep(({ lastMs }) => nowMs - lastMs < QUIET_MS)
  }

  #keep(stays: (one: Standing) => boolean): void {
    const gone = this.#standing.filter((one) => !stays(one))
    if (gone.length === 0) return
    this.#standing = this.#standing.filter(stays)
    for (const { kind, detail } of gone) {
      const shown = this.#alarms.list.find((alarm) => alarm.kind === kind)
      // Founding knows clones of its own.
      if (shown?.detail !== detail) continue
      this.#alarms.clear(kind)
      this.#show(kind)
    }
  }

  #show(kind: string): void {
    const first = this.#standing.find((one) => one.kind === kind)
    if (first !== undefined) this.#alarms.raise(kind, first.detail)
  }
}
