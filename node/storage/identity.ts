/**
 * Who this node is, and what it must remember besides the log: `identity.json` in the data directory, replaced as a whole
 * at each change. It must never be made anew beside a log that exists, and a damaged one is refused, never repaired: a
 * forgotten pledge or a boot counter that falls is what FOUNDING and HAZARDS warn of.
 */
import { createHash, randomBytes } from 'node:crypto'
import { blankRecord, type FoundingRecord, parseFoundingRecord } from '../founding.ts'
import { isHex, MEMBERS_MAX } from '../raft/configuration.ts'
import type { Member, MemberId } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import { StorageError } from './storage.ts'

export const IDENTITY_FILE = 'identity.json'
/** The folder of the log's segments, in the data directory. */
export const LOG_FOLDER = 'wal'
/**
 * What `recover` has written and not yet put in place (reseed-directory.ts). A directory with one of them and without an identity
 * is not blank: its node would forget a cluster.
 */
export const RESEEDING_FOLDER = 'reseeding'
export const RESEEDED_FOLDER = 'reseeded'
const FORMAT = 1
const NAME_CHARS_MAX = 64
const URL_CHARS_MAX = 512
const URLS_MAX = 16
const FILE_BYTES_MAX = 4 << 20
const ENCODER = new TextEncoder()

export interface IdentityRecord {
  /** Ed25519, 64 lower-case hex digits: the nodeKey. */
  readonly publicKey: string
  /** 128 lower-case hex digits, libsodium's layout: the seed, then the public key. */
  readonly secretKey: string
  /** 32 lower-case hex digits, made with the directory; stands in every log segment too. */
  readonly storageId: string
  /** Printable, 1 to 64 characters. */
  readonly name: string
  /** How often this identity was opened, from 1; durable before it is told to anybody. */
  readonly bootCounter: number
  readonly founding: FoundingRecord
  /** The last known members, so that a formed cluster restarts without any discovery. */
  readonly members: readonly Member[]
  /** 32 hex digits once bound to a cluster. */
  readonly clusterId: string | null
  readonly memberId: MemberId | null
  /** The log of a node that joined exists: from now on a missing one is a lost one. */
  readonly logCreated: boolean
  /** The cluster has removed this node: it takes no part any more. */
  readonly removed: boolean
}

export type IdentityChange = Partial<
  Pick<
    IdentityRecord,
    'name' | 'founding' | 'members' | 'clusterId' | 'memberId' | 'logCreated' | 'removed'
  >
>

export interface Identity {
  readonly record: IdentityRecord
  /** Durable when it returns; throws StorageError and leaves `record` as it was when it is not. */
  update(change: IdentityChange): void
}

export interface OpenIdentityOptions {
  /** 32 byte public key, 64 byte secret key. */
  readonly makeKeyPair: () => { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array }
  /** Replaces the stored name; a new identity without one is called after its key. */
  readonly name?: string
  /** 16 random bytes; default node:crypto. The simulator brings its own. */
  readonly makeStorageId?: () => Uint8Array
}

/**
 * Makes the identity when there is none and counts the boot, durably. The caller holds the directory's lock. Throws
 * StorageError `storage-lost` when the file is damaged, or missing beside a log.
 */
export function openIdentity(
  disk: Disk,
  directory: string,
  options: OpenIdentityOptions,
): Identity {
  const found = readIdentity(disk, directory)
  refuseUnfinished(disk, directory, found !== null)
  const base = found ?? blankIdentity(disk, directory, options)
  const identity = new IdentityOnDisk(disk, directory, base)
  identity.boot(options.name ?? base.name)
  return identity
}

/** Null when there is none. Reads only, so it needs no lock. */
export function readIdentity(disk: Disk, directory: string): IdentityRecord | null {
  const path = `${directory}/${IDENTITY_FILE}`
  const bytes = disk.read(path)
  if (bytes === null) return null
  const record = bytes.length > FILE_BYTES_MAX ? 'it is too large' : parseIdentity(bytes)
  if (typeof record !== 'string') return record
  throw new StorageError(
    'storage-lost',
    `The identity in ${path} cannot be used: ${record}. Bring the file back from a backup of the same directory, or ` +
      'enter as a new member with `raft-p2p rejoin`.',
    { path },
  )
}

class IdentityOnDisk implements Identity {
  readonly #disk: Disk
  readonly #path: string
  #record: IdentityRecord

  constructor(disk: Disk, directory: string, record: IdentityRecord) {
    this.#disk = disk
    this.#path = `${directory}/${IDENTITY_FILE}`
    this.#record = record
  }

  get record(): IdentityRecord {
    return this.#record
  }

  update(change: IdentityChange): void {
    this.#write({ ...this.#record, ...change })
  }

  boot(name: string): void {
    this.#write({ ...this.#record, name, bootCounter: this.#record.bootCounter + 1 })
  }

  #write(record: IdentityRecord): void {
    this.#disk.replace(this.#path, encodeIdentity(record))
    this.#record = record
  }
}

/** Writes the identity of a node that does not run, as it is; throws StorageError. The next start counts its boot. */
export function writeIdentity(disk: Disk, directory: string, record: IdentityRecord): void {
  new IdentityOnDisk(disk, directory, record).update({})
}

/**
 * Only `recover` can go on from here. It comes before every other complaint about what is missing: those name `rejoin`, which would put
 * away the cluster that is about to move in.
 */
function refuseUnfinished(disk: Disk, directory: string, hasIdentity: boolean): void {
  const isThere = (name: string): boolean => disk.stat(`${directory}/${name}`) !== null
  // The log is archived first, the identity last.
  if (hasIdentity && isThere(LOG_FOLDER)) return
  const isWritten = isThere(`${RESEEDING_FOLDER}/${IDENTITY_FILE}`)
  if (!isWritten && (hasIdentity || !isThere(RESEEDED_FOLDER))) return
  throw new StorageError(
    'storage-lost',
    `\`raft-p2p recover\` was cut short in ${directory}: run it again, it ends what it has begun.`,
    { path: directory },
  )
}

function blankIdentity(
  disk: Disk,
  directory: string,
  options: OpenIdentityOptions,
): IdentityRecord {
  const log = `${directory}/${LOG_FOLDER}`
  if (disk.list(log).length > 0) {
    throw new StorageError(
      'storage-lost',
      `There is a log in ${log}, but no ${IDENTITY_FILE} beside it. A new identity must not take it over: bring the file ` +
        'back, or archive what is there with `raft-p2p rejoin`.',
      { path: `${directory}/${IDENTITY_FILE}` },
    )
  }
  disk.makeDirectory(directory)
  return newIdentity(options)
}

/** Somebody new, not written anywhere yet and never started. */
export function newIdentity(options: OpenIdentityOptions): IdentityRecord {
  const { publicKey, secretKey } = options.makeKeyPair()
  const key = hex(publicKey)
  return {
    publicKey: key,
    secretKey: hex(secretKey),
    storageId: hex(options.makeStorageId?.() ?? randomBytes(16)),
    name: `n-${key.slice(0, 6)}`,
    bootCounter: 0,
    founding: blankRecord,
    members: [],
    clusterId: null,
    memberId: null,
    logCreated: false,
    removed: false,
  }
}

/**
 * The checksum is of the rest as it stands in the file: a flipped bit in a number would pass every other check. What could not be read
 * back is never written.
 */
function encodeIdentity(record: IdentityRecord): Uint8Array {
  const content = {
    format: FORMAT,
    publicKey: record.publicKey,
    secretKey: record.secretKey,
    storageId: record.storageId,
    name: record.name,
    bootCounter: record.bootCounter,
    founding: record.founding,
    members: record.members,
    clusterId: record.clusterId,
    memberId: record.memberId,
    // Left out where they say nothing: what an earlier version wrote reads the same.
    logCreated: record.logCreated || undefined,
    removed: record.removed || undefined,
  }
  const text = JSON.stringify(content)
  const fault = parseContent(JSON.parse(text))
  if (typeof fault === 'string') throw new Error(`bug: an identity that nobody can read: ${fault}`)
  const shown = JSON.stringify(Object.assign(content, { checksum: sha256(text) }), null, 2)
  return ENCODER.encode(`${shown}\n`)
}

/** The record, or what is wrong as a sentence fragment. */
function parseIdentity(bytes: Uint8Array): IdentityRecord | string {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return 'it is not JSON'
  }
  if (!isObject(value)) return 'it is not a JSON object'
  const { checksum, ...content } = value
  if (content.format !== FORMAT) {
    const { format } = content
    return `its format is ${typeof format === 'number' ? format : 'not a number'}, not ${FORMAT}`
  }
  if (checksum !== checksumOf(content)) return 'its checksum does not fit'
  return parseContent(content)
}

function parseContent(content: Record<string, unknown>): IdentityRecord | string {
  const { publicKey, secretKey, storageId, name, bootCounter, members, clusterId, memberId } =
    content
  const founding = parseFoundingRecord(content.founding)
  if (!isHex(publicKey, 64)) return 'publicKey is not 64 hex digits'
  if (!isHex(secretKey, 128) || !secretKey.endsWith(publicKey)) {
    return 'secretKey does not belong to publicKey'
  }
  if (!isHex(storageId, 32)) return 'storageId is not 32 hex digits'
  if (typeof name !== 'string' || name.length < 1 || name.length > NAME_CHARS_MAX) {
    return `name does not have 1 to ${NAME_CHARS_MAX} characters`
  }
  if (!isInteger(bootCounter, 0)) return 'bootCounter is not a number'
  if (founding === null) return 'the founding record is malformed'
  if (!Array.isArray(members) || members.length > MEMBERS_MAX || !members.every(isMember)) {
    return 'the list of members is malformed'
  }
  if (clusterId !== null && !isHex(clusterId, 32)) return 'clusterId is not 32 hex digits'
  if (memberId !== null && !isInteger(memberId, 1)) return 'memberId is not a number'
  const { logCreated = false, removed = false } = content
  if (typeof logCreated !== 'boolean') return 'logCreated is neither true nor false'
  if (typeof removed !== 'boolean') return 'removed is neither true nor false'
  return {
    publicKey,
    secretKey,
    storageId,
    name,
    bootCounter,
    founding,
    members,
    clusterId,
    memberId,
    logCreated,
    removed,
  }
}

function isMember(value: unknown): value is Member {
  return (
    isObject(value) &&
    isHex(value.nodeKey, 64) &&
    isHex(value.storageId, 32) &&
    isInteger(value.memberId, 1) &&
    typeof value.name === 'string' &&
    value.name.length <= NAME_CHARS_MAX &&
    Array.isArray(value.urls) &&
    value.urls.length <= URLS_MAX &&
    value.urls.every((url) => typeof url === 'string' && url.length <= URL_CHARS_MAX)
  )
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isInteger(value: unknown, min: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min
}

/** Null when it is deeper than the stack: no identity is. */
function checksumOf(content: object): string | null {
  try {
    return sha256(JSON.stringify(content))
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
