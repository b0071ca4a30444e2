/**
 * Discovery on one machine, or between containers that share a volume: each node keeps one small file in
 * `<directory>/live`, and reads the others'. A file may be left over from a killed process: it is a hint like any other.
 */
import { constants } from 'node:fs'
import { lstat, mkdir, open, readdir, rename, unlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import b4a from 'b4a'
import {
  type Endpoint,
  isHintUrl,
  isLoopback,
  isWildcard,
  LOOPBACK,
  parseEndpoint,
  reachableUrls,
  urlOf,
} from './addresses.ts'
import type { Announcement, Discovery, DiscoveryEvents } from './discovery.ts'
import { serviceNameOf } from './lan-packet.ts'
import { Pace } from './pace.ts'

const PACE = { eagerMs: 1000, quietMsMin: 10_000, quietMsMax: 60_000 }
const FILES_MAX = 256
const FILE_BYTES_MAX = 16 * 1024
const URLS_MAX = 16
const FORGET_MS = 24 * 60 * 60_000
/** A living node touches its file at least this often; only then its DHT node is worth asking. */
const TOUCH_MS = 60_000
const ALIVE_MS = 3 * TOUCH_MS

export interface LocalOptions {
  /** The folder that all nodes of the topic on this machine share. */
  readonly directory: string
  readonly onDhtNode?: (host: string, port: number) => void
  /** Where the own DHT storage node is, null while there is none. */
  readonly dhtAddress?: () => Endpoint | null
}

export interface LocalDiscovery extends Discovery {
  /** Writes and looks anew at once: something about this node has changed. */
  refresh(): void
}

/** What one file holds. */
export interface LiveRecord {
  readonly service: string
  readonly nodeKey: string
  readonly urls: readonly string[]
  readonly dht: Endpoint | null
}

export function createLocalDiscovery(options: LocalOptions): LocalDiscovery {
  return new Local(options)
}

class Local implements LocalDiscovery {
  readonly name = 'local'
  readonly #options: LocalOptions
  readonly #folder: string
  readonly #pace = new Pace(PACE)
  readonly #warned = new Set<string>()
  #events: DiscoveryEvents | null = null
  #service = ''
  #nodeKey = ''
  #written = ''
  #writtenMs = 0
  #loop: Promise<void> = Promise.resolve()
  #closing: Promise<void> | null = null

  constructor(options: LocalOptions) {
    this.#options = options
    this.#folder = join(options.directory, 'live')
  }

  announce(self: Announcement, events: DiscoveryEvents): void {
    if (this.#events !== null) throw new Error('announce is called once')
    if (this.#pace.closed) return
    this.#events = events
    this.#service = serviceNameOf(self.discoveryKey)
    this.#nodeKey = b4a.toString(self.keyPair.publicKey, 'hex')
    this.#loop = this.#run(self)
  }

  eager(wanted: boolean): void {
    this.#pace.eager(wanted)
  }

  refresh(): void {
    this.#pace.wake()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #run(self: Announcement): Promise<void> {
    for (let first = true; !this.#pace.closed; first = false) {
      try {
        if (self.port !== 0) await this.#write(self)
        await this.#read()
      } catch (error) {
        this.#warn('local-failed', `${this.#folder}: ${String(error)}`)
      }
      if (first && !this.#pace.closed) this.#events?.swept()
      await this.#pace.wait()
    }
  }

  async #write(self: Announcement): Promise<void> {
    const path = this.#pathOf(this.#nodeKey)
    const text = encodeLiveRecord({
      service: this.#service,
      nodeKey: this.#nodeKey,
      urls: localUrls(self),
      dht: this.#options.dhtAddress?.() ?? null,
    })
    const there = await lstat(path).then(
      () => true,
      () => false,
    )
    if (there && text === this.#written) {
      if (Date.now() - this.#writtenMs < TOUCH_MS) return
      const now = new Date()
      await utimes(path, now, now)
    } else {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 })
      // Renamed into place: a reader sees the whole file or none. The pid tells two clones of one key apart.
      const temporary = join(this.#folder, `.${this.#nodeKey}.${process.pid}.tmp`)
      await writeFile(temporary, text, { mode: 0o600 })
      await rename(temporary, path)
      this.#written = text
    }
    this.#writtenMs = Date.now()
  }

  async #read(): Promise<void> {
    const all = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      // Nobody has been here yet; who only looks makes no folder.
      if (error.code === 'ENOENT') return []
      throw error
    })
    const names = all.filter((name) => /^[0-9a-f]{64}\.json$/.test(name))
    for (const name of names.slice(0, FILES_MAX)) {
      if (this.#pace.closed) return
      if (name !== `${this.#nodeKey}.json`) await this.#readOne(join(this.#folder, name), name)
    }
  }

  async #readOne(path: string, name: string): Promise<void> {
    const found = await readSmallFile(path)
    if (found === null) return
    if (found.ageMs > FORGET_MS) {
      await unlink(path).catch(() => {})
      return
    }
    const record = parseLiveRecord(found.text)
    if (record === null || name !== `${record.nodeKey}.json`) return
    if (record.service !== this.#service || this.#pace.closed) return
    const { nodeKey, urls, dht } = record
    if (dht !== null && found.ageMs < ALIVE_MS) this.#options.onDhtNode?.(dht.host, dht.port)
    for (const url of urls) this.#events?.hint({ nodeKey, url, source: 'local' })
  }

  #pathOf(nodeKey: string): string {
    return join(this.#folder, `${nodeKey}.json`)
  }

  #warn(code: string, detail: string): void {
    if (this.#warned.has(detail) || this.#pace.closed) return
    this.#warned.add(detail)
    this.#events?.warning(code, detail)
  }

  async #close(): Promise<void> {
    this.#pace.close()
    await this.#loop
    if (this.#written !== '') await unlink(this.#pathOf(this.#nodeKey)).catch(() => {})
  }
}

/** The real addresses, for containers that share the volume, and loopback, which works without any network. */
function localUrls(self: Announcement): string[] {
  const loopback =
    isWildcard(self.host) || isLoopback(self.host)
      ? [urlOf({ host: LOOPBACK, port: self.port })]
      : []
  const guessed = reachableUrls({ host: self.host, port: self.port, advertise: [] })
  const urls = [...loopback, ...self.urls, ...guessed]
  return [...new Set(urls)].filter(isHintUrl).slice(0, URLS_MAX)
}

/** Null when it is gone, too large, or no plain file. */
async function readSmallFile(path: string): Promise<{ text: string; ageMs: number } | null> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      const stat = await handle.stat()
      if (!stat.isFile() || stat.size > FILE_BYTES_MAX) return null
      return { text: await handle.readFile('utf8'), ageMs: Date.now() - stat.mtimeMs }
    } finally {
      await handle.close()
    }
  } catch {
    return null
  }
}

export function encodeLiveRecord({ service, nodeKey, urls, dht }: LiveRecord): string {
  const endpoint = dht === null ? {} : { dht: `${dht.host}:${dht.port}` }
  return `${JSON.stringify({ service, nodeKey, urls, ...endpoint })}\n`
}

/** Null for anything but a record within the limits. */
export function parseLiveRecord(text: string): LiveRecord | null {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return null
    const { service, nodeKey, urls, dht } = value as Record<string, unknown>
    if (typeof service !== 'string' || typeof nodeKey !== 'string' || !Array.isArray(urls)) {
      return null
    }
    if (!/^[0-9a-f]{64}$/.test(nodeKey)) return null
    const endpoint = typeof dht === 'string' ? parseEndpoint(dht) : null
    return { service, nodeKey, urls: urls.filter(isHintUrl).slice(0, URLS_MAX), dht: endpoint }
  } catch {
    return null
  }
}
