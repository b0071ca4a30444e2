/**
 * The log of a node: events with fields, as one JSON object a line or as coloured text. The names of events and fields are
 * CONTRACT's. It must never be handed a topic, a token or a secret key, never throw, and never write two lines for one event.
 */
import pc from 'picocolors'
import type { LogFormat, LogLevel } from './config.ts'

/** Who speaks. Term 0 and clusterId null before founding. */
export interface LogContext {
  readonly node: string
  readonly clusterId: string | null
  readonly term: number
}

export type LogFields = Readonly<Record<string, unknown>>

export interface Log {
  (level: LogLevel, event: string, fields?: LogFields): void
  /** From now on every line carries what `context` returns at that moment. */
  identify(context: () => LogContext): void
  /** True when a line of this level would be written: guards fields that cost something to compute. */
  enabled(level: LogLevel): boolean
}

export interface LogOptions {
  readonly format: LogFormat
  /** The least level that is written. */
  readonly level: LogLevel
  /** Gets one line with its newline. */
  readonly write: (line: string) => void
  /** Colours in the pretty format. */
  readonly color?: boolean
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']
const NOBODY: LogContext = { node: '-', clusterId: null, term: 0 }
/** The widest common event name, so that fields line up. */
const EVENT_WIDTH = 18

export function createLog(options: LogOptions): Log {
  const colors = pc.createColors(options.color ?? false)
  const now = options.now ?? Date.now
  const format = options.format === 'json' ? jsonLine : prettyLine
  const least = LEVELS.indexOf(options.level)
  let context: () => LogContext = () => NOBODY
  const enabled = (level: LogLevel): boolean => LEVELS.indexOf(level) >= least
  const log = (level: LogLevel, event: string, fields: LogFields = {}): void => {
    if (!enabled(level)) return
    const line: Line = { time: new Date(now()), level, event, context: context(), fields }
    options.write(format(line, colors))
  }
  return Object.assign(log, {
    enabled,
    identify(next: () => LogContext): void {
      context = next
    },
  })
}

interface Line {
  readonly time: Date
  readonly level: LogLevel
  readonly event: string
  readonly context: LogContext
  readonly fields: LogFields
}

type Colors = ReturnType<typeof pc.createColors>

/** The six common fields come first and cannot be overwritten by the event's own. */
function jsonLine({ time, level, event, context, fields }: Line): string {
  const { node, clusterId, term } = context
  const common = { time: time.toISOString(), level, event, node, clusterId, term }
  const own = Object.fromEntries(
    Object.entries(fields)
      .filter(([name]) => !(name in common))
      .map(([name, value]) => [name, plain(value)]),
  )
  return `${safeJson({ ...common, ...own })}\n`
}

function prettyLine(line: Line, colors: Colors): string {
  const paint = paintOf(line, colors)
  // The term stands in front of them, as among the common fields of JSON.
  const fields = Object.entries(line.fields)
    .filter(([name, value]) => value !== undefined && name !== 'term')
    .map(([name, value]) => `${colors.dim(`${name}=`)}${shown(plain(value))}`)
  const head = [
    colors.dim(line.time.toISOString().slice(11, 23)),
    colors.bold(line.context.node),
    paint(line.event.padEnd(EVENT_WIDTH)),
  ]
  if (line.context.term > 0) fields.unshift(`${colors.dim('term=')}${line.context.term}`)
  return `${[...head, ...fields].join(' ')}\n`
}

/** Trouble by its level, everything else by its family: `leader.changed` is found at a glance. */
function paintOf({ level, event }: Line, colors: Colors): (text: string) => string {
  if (level === 'error' || event === 'alarm.raised') return colors.red
  if (level === 'warn' || event === 'link.down') return colors.yellow
  switch (event.split('.')[0]) {
    case 'cluster':
    case 'config':
      return colors.magenta
    case 'leader':
      return colors.green
    case 'role':
    case 'election':
    case 'vote':
      return colors.cyan
    case 'snapshot':
      return colors.blue
    default:
      return colors.dim
  }
}

/** Values as a reader of JSON expects them: bytes in hex, errors by their message. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (value instanceof Error) return value.message
  if (typeof value === 'bigint') return value.toString()
  return value
}

/** Text from elsewhere (a peer's name, say) is quoted unless harmless, so that it cannot forge a line or colour it. */
function shown(value: unknown): string {
  if (typeof value === 'string' && /^[\w.:/@[\]+-]+$/.test(value)) return value
  return safeJson(value)
}

function safeJson(value: unknown): string {
  try {
    // JSON leaves the C1 control characters as they are, and terminals obey some of them.
    return (JSON.stringify(value) ?? 'null').replace(
      /[\u007f-\u009f\u2028\u2029]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  } catch {
    return '"(not printable)"'
  }
}
