/**
 * The options of `join`: flags over environment over `--config FILE`, validated once, here, each with the reason for its
 * default (limits.ts has what no flag sets). What leaves this file is complete and in range, in milliseconds and bytes.
 * It reads no file, no clock and no environment by itself, and must never print an unmasked topic.
 */
import { JOIN_FLAGS } from './join-flags.ts'
import { LIMITS } from './limits.ts'

export { type FlagSpec, JOIN_FLAGS } from './join-flags.ts'
export { LIMITS } from './limits.ts'

/** The caller typed something that cannot be meant: exit code 2. The message names the flag and what it takes. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly code = 'usage'
}

export type DhtMode = 'private' | 'public' | 'off'
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type LogFormat = 'pretty' | 'json'

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Everything a node is told before it starts. */
export interface NodeOptions {
  /** Topic, phrase or invite as given; parseTopic and deriveTopic take it apart. A secret: never logged. */
  readonly topic: string
  /** Founders needed. 3 is the smallest number that survives the loss of one. */
  readonly expect: number
  /** Node keys (64 hex digits, ascending) of the only allowed founding set; empty: any. */
  readonly founders: readonly string[]
  /** 5 survives two losses; more voters slow every write. */
  readonly maxVoters: number
  /** 10 min: longer than a reboot or an upgrade, shorter than a night. */
  readonly replaceAfterMs: number
  /** `auto`: who proves the topic enters as a learner. `approve`: an operator adds each member. */
  readonly admit: 'auto' | 'approve'
  /** Null: the node makes one from the host's name. */
  readonly name: string | null
  /** Exactly this data directory; null: the first free slot of the topic. */
  readonly data: string | null
  /** Default 0.0.0.0:7700, and a free port when that is taken; `explicit.has('listen')` forbids the fall-back. */
  readonly listen: HostPort
  /** ws:// or wss:// URLs to announce instead of the guessed ones; empty: guess. */
  readonly advertise: readonly string[]
  readonly tlsCert: string | null
  readonly tlsKey: string | null
  /** Ask for the token on loopback too. Off: a local shell needs no secret. */
  readonly requireToken: boolean
  /** Public for a generated topic, private for a phrase (anyone could guess it) and with --bootstrap. */
  readonly dht: DhtMode
  readonly bootstrap: readonly HostPort[]
  /** Null: any free UDP port. */
  readonly dhtPort: number | null
  readonly lan: boolean
  readonly local: boolean
  /** ws:// or wss:// seeds. */
  readonly peers: readonly string[]
  readonly machine: string | null
  readonly machineExec: string | null
  /** 100 ms: a tenth of the election timeout, so that nine lost heartbeats in a row are needed for a false alarm. */
  readonly heartbeatMs: number
  /** Randomised to twice this. 1 s: above the pauses of a busy laptop; a crash is noticed by its closed link anyway. */
  readonly electionMs: number
  /** Entries applied since the last snapshot that start the next one; seconds of replay at a restart. */
  readonly snapshotEntries: number
  /** 1 GiB: what a node holds in memory several times over while it takes a snapshot. */
  readonly maxStateBytes: number
  readonly maxKeyBytes: number
  readonly maxValueBytes: number
  readonly maxClients: number
  readonly topicFile: string | null
  readonly logFormat: LogFormat
  readonly logLevel: LogLevel
  /** Attach the shell to this terminal. */
  readonly repl: boolean
  /** Flag names without dashes (`listen`, `no-lan`) that were given by flag, environment or file. */
  readonly explicit: ReadonlySet<string>
}

// --- gathering: flag over environment over file ---------------------------------------------------------------

/** One option as somebody wrote it. `origin` is how errors call it: `--expect`, `RAFT_P2P_EXPECT`, `expect in FILE`. */
interface Given {
  readonly text: string
  readonly origin: string
}

/** The options that were written down anywhere, by flag name. */
export type GivenOptions = ReadonlyMap<string, Given>

export interface OptionSources {
  /** By flag name without dashes; a switch is `true`, a list may be an array. Undefined and null: not given. */
  readonly flags: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  /** The text of `--config FILE`, already read. */
  readonly file?: { readonly path: string; readonly text: string } | null
}

export function envNameOf(flag: string): string {
  return `RAFT_P2P_${flag.toUpperCase().replaceAll('-', '_')}`
}

/** An empty environment variable counts as not set: that is how compose files leave one out. Throws UsageError. */
export function gatherOptions(sources: OptionSources): GivenOptions {
  const given = new Map<string, Given>()
  for (const [flag, value] of Object.entries(fileEntries(sources.file ?? null))) {
    const origin = `"${flag}" in ${sources.file?.path}`
    if (!JOIN_FLAGS.some((spec) => spec.flag === flag)) {
      throw new UsageError(`${origin} is no option of join${suggestion(flag)}`)
    }
    put(given, flag, value, origin)
  }
  for (const { flag } of JOIN_FLAGS) {
    const name = envNameOf(flag)
    if (sources.env[name]) put(given, flag, sources.env[name], name)
    put(given, flag, sources.flags[flag], `--${flag}`)
  }
  return given
}

function put(given: Map<string, Given>, flag: string, value: unknown, origin: string): void {
  if (value === undefined || value === null) return
  const isText = (item: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof item)
  const texts = Array.isArray(value) ? value : [value]
  if (!texts.every(isText)) throw new UsageError(`${origin} must be a text, a number or a list`)
  given.set(flag, { text: texts.join(','), origin })
}

function fileEntries(file: { path: string; text: string } | null): Record<string, unknown> {
  if (file === null) return {}
  let parsed: unknown
  try {
    parsed = JSON.parse(file.text)
  } catch (error) {
    throw new UsageError(`--config ${file.path} is not JSON: ${(error as Error).message}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new UsageError(`--config ${file.path} must hold one JSON object with flag names as keys`)
  }
  return parsed as Record<string, unknown>
}

function suggestion(flag: string): string {
  const plain = flag.replaceAll(/[-_]/g, '').toLowerCase()
  const near = JOIN_FLAGS.find((spec) => spec.flag.replaceAll('-', '') === plain)
  return near === undefined ? '' : `; did you mean "${near.flag}"?`
}

// --- reading one value ----------------------------------------------------------------------------------------

/** `250ms`, `2s`, `10m`, `1h`, or a bare number of milliseconds. Null when it is none of these. */
export function parseDurationMs(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim())
  if (match === null) return null
  const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? 'ms'] as number
  const ms = Math.round(Number(match[1]) * unitMs)
  return Number.isSafeInteger(ms) ? ms : null
}

/** `1073741824`, `512KiB`, `64MiB`, `1GiB`. Null when it is none of these. */
export function parseBytes(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$/i.exec(text.trim())
  if (match === null) return null
  const power = ['b', 'kib', 'mib', 'gib', 'tib'].indexOf((match[2] ?? 'b').toLowerCase())
  const bytes = Number(match[1]) * 1024 ** power
  return Number.isSafeInteger(bytes) ? bytes : null
}

/** `HOST:PORT`, `[::1]:PORT`, `:PORT` or `PORT`; the missing host is `anyHost`. Null when malformed. */
export function parseHostPort(text: string, anyHost: string | null): HostPort | null {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]*)):)?(\d{1,5})$/.exec(text.trim())
  if (match === null) return null
  const host = match[1] ?? (match[2] || anyHost)
  const port = Number(match[3])
  return host === null || host === undefined || port > 65_535 ? null : { host, port }
}

/** What a hello, an identity and a configuration carry of one address, in its normal form. */
const URL_CHARS_MAX = 512

/**
 * The normalised ws:// or wss:// address, http(s) accepted, without a trailing slash. Null when malformed, or longer than what
 * peers take.
 */
export function parseNodeUrl(text: string): string | null {
  const trimmed = text.trim()
  if (trimmed.length > URL_CHARS_MAX) return null
  const full = /^[a-z]+:\/\//i.test(trimmed) ? trimmed : `ws://${trimmed}`
  if (!URL.canParse(full)) return null
  const url = new URL(full)
  const scheme = { 'ws:': 'ws:', 'http:': 'ws:', 'wss:': 'wss:', 'https:': 'wss:' }[url.protocol]
  const extras = url.username + url.password + url.search + url.hash
  if (scheme === undefined || url.hostname === '' || extras !== '') return null
  const normal = `${scheme}//${url.host}${url.pathname.replace(/\/+$/, '')}`
  return normal.length > URL_CHARS_MAX ? null : normal
}

class Reader {
  readonly #given: GivenOptions

  constructor(given: GivenOptions) {
    this.#given = given
  }

  /** Reads one option by `read`, which returns null for what it cannot accept. */
  value<T>(flag: string, fallback: T, wanted: string, read: (text: string) => T | null): T {
    const given = this.#given.get(flag)
    if (given === undefined) return fallback
    const value = read(given.text)
    if (value === null) {
      throw new UsageError(`${given.origin} takes ${wanted}, not ${JSON.stringify(given.text)}`)
    }
    return value
  }

  integer(flag: string, fallback: number, range: readonly [number, number]): number {
    return this.value(flag, fallback, `a whole number from ${range[0]} to ${range[1]}`, (text) =>
      within(/^\d+$/.test(text) ? Number(text) : null, range),
    )
  }

  duration(flag: string, fallback: number, range: readonly [number, number]): number {
    const wanted = `a duration such as 250ms, 2s or 10m, from ${range[0]} ms to ${range[1]} ms`
    return this.value(flag, fallback, wanted, (text) => within(parseDurationMs(text), range))
  }

  bytes(flag: string, fallback: number, range: readonly [number, number]): number {
    const wanted = `a size in bytes such as 1048576 or 64MiB, from ${range[0]} to ${range[1]}`
    return this.value(flag, fallback, wanted, (text) => within(parseBytes(text), range))
  }

  choice<T extends string>(flag: string, fallback: T, choices: readonly T[]): T {
    return this.value(flag, fallback, choices.join(', '), (text) =>
      (choices as readonly string[]).includes(text) ? (text as T) : null,
    )
  }

  text(flag: string): string | null {
    return this.value<string | null>(flag, null, 'a text', (text) => (text === '' ? null : text))
  }

  switch(flag: string): boolean {
    return this.value(flag, false, 'true or false', (text) =>
      /^(true|1|yes|on)$/i.test(text) ? true : /^(false|0|no|off)$/i.test(text) ? false : null,
    )
  }

  list<T>(flag: string, wanted: string, read: (text: string) => T | null): readonly T[] {
    return this.value<readonly T[]>(flag, [], `a list of ${wanted}`, (text) => {
      if (text.trim() === '') return []
      const parts = text.split(',').map((part) => read(part.trim()))
      return parts.includes(null) ? null : (parts as T[])
    })
  }
}

function within(value: number | null, [min, max]: readonly [number, number]): number | null {
  return value !== null && value >= min && value <= max ? value : null
}

// --- the result -----------------------------------------------------------------------------------------------

/** What the options depend on besides themselves. */
export interface Surroundings {
  readonly topic: string
  /** True for a phrase: parseTopic(topic).isPhrase. */
  readonly isPhrase: boolean
  /** Whether the log goes to a terminal. */
  readonly isTty: boolean
}

const KIB = 1024
const GIB = 1024 ** 3
const HOUR_MS = 3_600_000

/** Throws UsageError, naming the flag, the variable or the key of the file that is wrong. */
export function resolveOptions(given: GivenOptions, around: Surroundings): NodeOptions {
  const read = new Reader(given)
  const founders = read.list('founders', 'node keys of 64 hex digits', (text) =>
    /^[0-9a-f]{64}$/i.test(text) ? text.toLowerCase() : null,
  )
  const expect = read.integer('expect', founders.length || 3, [1, 31])
  const bootstrap = read.list('bootstrap', 'HOST:PORT', (text) => parseHostPort(text, null))
  const isPrivate = around.isPhrase || bootstrap.length > 0
  const url = (text: string): string | null => parseNodeUrl(text)
  const options: NodeOptions = {
    topic: around.topic,
    expect,
    founders: [...new Set(founders)].sort(),
    maxVoters: read.integer('max-voters', Math.max(5, expect), [1, 31]),
    replaceAfterMs: read.duration('replace-after', 600_000, [1000, 30 * 24 * HOUR_MS]),
    admit: read.choice('admit', 'auto', ['auto', 'approve']),
    // Everybody who stores or reads a name counts UTF-16 units, and the pattern counts code points.
    name: read.value<string | null>('name', null, 'up to 64 printable characters', (text) =>
      text.length <= 64 &&
      /^[\p{L}\p{N}\p{P}\p{S}](?:[\p{L}\p{N}\p{P}\p{S} ]{0,62}[\p{L}\p{N}\p{P}\p{S}])?$/u.test(text)
        ? text
        : null,
    ),
    data: read.text('data'),
    listen: read.value('listen', { host: '0.0.0.0', port: 7700 }, 'HOST:PORT', (text) =>
      parseHostPort(text, '0.0.0.0'),
    ),
    advertise: read.list('advertise', 'ws:// or wss:// URLs of at most 512 characters', url),
    tlsCert: read.text('tls-cert'),
    tlsKey: read.text('tls-key'),
    requireToken: read.switch('require-token'),
    dht: read.choice<DhtMode>('dht', isPrivate ? 'private' : 'public', [
      'private',
      'public',
      'off',
    ]),
    bootstrap,
    dhtPort: read.value<number | null>('dht-port', null, 'a port from 1 to 65535', (text) =>
      within(/^\d+$/.test(text) ? Number(text) : null, [1, 65_535]),
    ),
    lan: !read.switch('no-lan'),
    local: !read.switch('no-local'),
    peers: read.list('peer', 'ws:// or wss:// URLs', url),
    machine: read.text('machine'),
    machineExec: read.text('machine-exec'),
    heartbeatMs: read.duration('heartbeat', 100, [LIMITS.tickMsMin, 60_000]),
    electionMs: read.duration('election', 1000, [5 * LIMITS.tickMsMin, 600_000]),
    snapshotEntries: read.integer('snapshot-entries', LIMITS.snapshotEntries, [10, 100_000_000]),
    maxStateBytes: read.bytes('max-state', GIB, [64 * KIB, 1024 * GIB]),
    maxKeyBytes: read.bytes('max-key', KIB, [1, 64 * KIB]),
    maxValueBytes: read.bytes('max-value', KIB * KIB, [1, 4 * KIB * KIB]),
    maxClients: read.integer('max-clients', 10_000, [1, 1_000_000]),
    topicFile: read.text('topic-file'),
    logFormat: read.choice<LogFormat>('log', around.isTty ? 'pretty' : 'json', ['pretty', 'json']),
    logLevel: read.choice<LogLevel>('log-level', 'info', ['debug', 'info', 'warn', 'error']),
    repl: read.switch('repl'),
    explicit: new Set(given.keys()),
  }
  checkTogether(options, (flag) => given.get(flag)?.origin ?? `--${flag}`)
  return options
}

/** Options that are each in range and yet cannot be meant together. */
function checkTogether(options: NodeOptions, called: (flag: string) => string): void {
  const { founders, expect, electionMs, heartbeatMs } = options
  if (founders.length > 0 && founders.length !== expect) {
    throw new UsageError(
      `${called('founders')} names ${founders.length} nodes, but ${called('expect')} is ${expect}`,
    )
  }
  if (options.maxVoters < expect) {
    throw new UsageError(
      `${called('max-voters')} ${options.maxVoters} is less than the ${expect} founders, who all vote`,
    )
  }
  if (electionMs < 3 * heartbeatMs) {
    throw new UsageError(
      `${called('election')} (${electionMs} ms) must be at least three heartbeats of ${heartbeatMs} ms, ` +
        'or one lost packet starts an election',
    )
  }
  if ((options.tlsCert === null) !== (options.tlsKey === null)) {
    throw new UsageError('--tls-cert and --tls-key are given together or not at all')
  }
  if (options.machine !== null && options.machineExec !== null) {
    throw new UsageError('--machine and --machine-exec exclude each other')
  }
  if (options.bootstrap.length > 0 && options.dht !== 'private') {
    throw new UsageError(
      `${called('bootstrap')} names the nodes of a private DHT, but ${called('dht')} is ${options.dht}`,
    )
  }
}

/** The core's clock for a given heartbeat. */
export function tickMsFor(heartbeatMs: number): number {
  return Math.min(LIMITS.tickMsMax, Math.max(LIMITS.tickMsMin, heartbeatMs))
}

/** The settings that an option only seeds at founding; afterwards the replicated value rules. Option -> flag. */
export const REPLICATED_SETTINGS = {
  expect: 'expect',
  maxVoters: 'max-voters',
  replaceAfterMs: 'replace-after',
  heartbeatMs: 'heartbeat',
  electionMs: 'election',
  maxStateBytes: 'max-state',
} as const
export type SettingName = keyof typeof REPLICATED_SETTINGS

/** What a founder writes into the founding entry. */
export function seedSettings(options: NodeOptions): Record<SettingName, number> {
  const { expect, maxVoters, replaceAfterMs, heartbeatMs, electionMs, maxStateBytes } = options
  return { expect, maxVoters, replaceAfterMs, heartbeatMs, electionMs, maxStateBytes }
}

/** The flags given by hand that the cluster's settings overrule: one sentence each, for a warning. */
export function overruledFlags(
  options: NodeOptions,
  settings: Readonly<Record<string, unknown>>,
): string[] {
  return Object.entries(REPLICATED_SETTINGS).flatMap(([name, flag]) => {
    const mine = options[name as SettingName]
    const theirs = settings[name]
    if (!options.explicit.has(flag) || theirs === undefined || theirs === mine) return []
    return [`--${flag} ${mine} is ignored: the cluster has it at ${theirs}; see: raft-p2p config`]
  })
}

/** What `--print-config` shows: every option by its flag's name, the topic masked. */
export function printableConfig(
  options: NodeOptions,
  maskedTopic: string,
): Record<string, unknown> {
  const address = ({ host, port }: HostPort): string =>
    host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  return {
    topic: maskedTopic,
    expect: options.expect,
    founders: options.founders,
    'max-voters': options.maxVoters,
    'replace-after': options.replaceAfterMs,
    admit: options.admit,
    name: options.name,
    data: options.data,
    listen: address(options.listen),
    advertise: options.advertise,
    'tls-cert': options.tlsCert,
    'tls-key': options.tlsKey,
    'require-token': options.requireToken,
    dht: options.dht,
    bootstrap: options.bootstrap.map(address),
    'dht-port': options.dhtPort,
    'no-lan': !options.lan,
    'no-local': !options.local,
    peer: options.peers,
    machine: options.machine,
    'machine-exec': options.machineExec,
    heartbeat: options.heartbeatMs,
    election: options.electionMs,
    'snapshot-entries': options.snapshotEntries,
    'max-state': options.maxStateBytes,
    'max-key': options.maxKeyBytes,
    'max-value': options.maxValueBytes,
    'max-clients': options.maxClients,
    'topic-file': options.topicFile,
    log: options.logFormat,
    'log-level': options.logLevel,
    repl: options.repl,
  }
}
