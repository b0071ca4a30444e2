/** What an operator should look at, as `status` shows it and the log announces it once. */
import { RefusalAlarms } from './refusal-alarms.ts'
import type { Alarm } from './service.ts'

export class Alarms {
  /** Those about peers that are turned away. */
  readonly refusals = new RefusalAlarms(this)
  readonly #raised = new Map<string, Alarm>()
  readonly #announce: (alarm: Alarm) => void
  readonly #now: () => Date

  constructor(parts: { announce: (alarm: Alarm) => void; now: () => Date }) {
    this.#announce = parts.announce
    this.#now = parts.now
  }

  get list(): readonly Alarm[] {
    return [...this.#raised.values()]
  }

  /** The same kind and detail stands once, since it was first raised. */
  raise(kind: string, detail: string): void {
    if (this.#raised.get(kind)?.detail === detail) return
    const alarm = { kind, detail, since: this.#now().toISOString() }
    this.#raised.set(kind, alarm)
    this.#announce(alarm)
  }

  /** Exactly these of the given kinds stand from now on. */
  replace(kinds: readonly string[], alarms: readonly Omit<Alarm, 'since'>[]): void {
    for (const kind of kinds) {
      if (!alarms.some((alarm) => alarm.kind === kind)) this.clear(kind)
    }
    for (const { kind, detail } of alarms) this.raise(kind, detail)
  }

  /** Raised with this detail, or cleared. */
  show(kind: string, detail: string | null): void {
    if (detail === null) this.clear(kind)
    else this.raise(kind, detail)
  }

  clear(kind: string): void {
    this.#raised.delete(kind)
  }
}

/** Of the event `member.regressed`, with its fields. */
export function restoredCopy({ member, name }: Readonly<Record<string, unknown>>): string {
  return (
    `Member ${member} (${name}) has lost entries that it had acknowledged: an older copy of its disk was put back, and it ` +
    'may break promises it does not know of. Stop it and run `raft-p2p rejoin` there.'
  )
}
