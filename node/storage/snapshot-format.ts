/**
 * The bytes of a snapshot file: header, pieces, trailer (docs/snapshots.md draws them). Knows nothing of files. The decoders take any
 * bytes at all: they check magic, version, lengths and checksums one by one, and allocate nothing they have not bounded.
 */
import { readU64, writeU64 } from '../raft/entry-codec.ts'
import { crc32 } from './crc.ts'
import { hexBytes, hexText } from './hex.ts'
import type { SnapshotMeta } from './snapshots.ts'

export const SNAPSHOT_VERSION = 1
/** The part of the header that has the same size in every file. */
export const SNAPSHOT_HEADER_BYTES = 64
export const PIECE_HEADER_BYTES = 12
export const SNAPSHOT_TRAILER_BYTES = 32
/** A machine gives pieces of about 64 KiB; one large value is a piece of its own. */
export const PIECE_BYTES_MAX = 16 << 20
/** Far more than a record of 64 members with their addresses takes. */
export const CONFIGURATION_BYTES_MAX = 1 << 20
const SNAPSHOT_BYTES_MIN = SNAPSHOT_HEADER_BYTES + 4 + SNAPSHOT_TRAILER_BYTES

const MAGIC = 0x52503253_4e500d0an // "RP2SNP\r\n"
const PIECE_MAGIC = 0x52503250 // "RP2P"
const TRAILER_MAGIC = 0x52503254 // "RP2T"
const FIXED_CHECKED_BYTES = 60
const EMPTY = new Uint8Array(0)

export interface SnapshotHeader {
  readonly meta: SnapshotMeta
  /** Where the first piece begins. */
  readonly end: number
  /** What the checksum of the first piece continues. */
  readonly checksum: number
}

export interface SnapshotTrailer {
  readonly pieces: number
  /** Of the whole file. */
  readonly sizeBytes: number
  /** Continues that of the last piece. */
  readonly checksum: number
}

export function encodeSnapshotHeader(meta: SnapshotMeta): { bytes: Uint8Array; checksum: number } {
  const { payload } = meta.configuration
  if (payload.length > CONFIGURATION_BYTES_MAX) {
    throw new Error(`bug: a configuration of ${payload.length} bytes`)
  }
  for (const number of [meta.index, meta.term, meta.configuration.index]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new Error(`bug: a header with ${number}`)
  }
  const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES + payload.length + 4)
  const view = viewOf(bytes)
  view.setBigUint64(0, MAGIC)
  view.setUint16(8, SNAPSHOT_VERSION)
  bytes.set(hexBytes(meta.clusterId), 16)
  writeU64(view, 32, meta.index)
  writeU64(view, 40, meta.term)
  writeU64(view, 48, meta.configuration.index)
  view.setUint32(56, payload.length)
  view.setUint32(FIXED_CHECKED_BYTES, crc32(bytes.subarray(0, FIXED_CHECKED_BYTES)))
  bytes.set(payload, SNAPSHOT_HEADER_BYTES)
  const end = bytes.length - 4
  const checksum = crc32(bytes.subarray(0, end))
  view.setUint32(end, checksum)
  return { bytes, checksum }
}

/** How many bytes the header has, given its fixed part; a sentence fragment when it is none. */
export function snapshotHeaderBytes(bytes: Uint8Array): number | string {
  if (bytes.length < SNAPSHOT_HEADER_BYTES) return `the file has only ${bytes.length} bytes`
  const view = viewOf(bytes)
  if (view.getBigUint64(0) !== MAGIC) return 'it does not start like a snapshot'
  const version = view.getUint16(8)
  if (version !== SNAPSHOT_VERSION) {
    return `its format version is ${version}, this program knows ${SNAPSHOT_VERSION}`
  }
  if (view.getUint32(FIXED_CHECKED_BYTES) !== crc32(bytes.subarray(0, FIXED_CHECKED_BYTES))) {
    return 'its header fails the checksum'
  }
  const payloadBytes = view.getUint32(56)
  if (payloadBytes > CONFIGURATION_BYTES_MAX) {
    return `its header names a configuration of ${payloadBytes} bytes`
  }
  return SNAPSHOT_HEADER_BYTES + payloadBytes + 4
}

/** The payload is a copy. A sentence fragment when it is no header of this format. */
export function decodeSnapshotHeader(bytes: Uint8Array): SnapshotHeader | string {
  const end = snapshotHeaderBytes(bytes)
  if (typeof end === 'string') return end
  if (bytes.length < end) return 'the file ends in its header'
  const view = viewOf(bytes)
  const checksum = crc32(bytes.subarray(0, end - 4))
  if (view.getUint32(end - 4) !== checksum) return 'its configuration fails the checksum'
  const index = readU64(view, 32)
  const term = readU64(view, 40)
  const configurationIndex = readU64(view, 48)
  const isZero = view.getUint32(10) === 0 && view.getUint16(14) === 0
  if (index === null || term === null || configurationIndex === null || !isZero) {
    return 'its header holds an impossible number'
  }
  const payload = Uint8Array.from(bytes.subarray(SNAPSHOT_HEADER_BYTES, end - 4))
  const clusterId = hexText(bytes.subarray(16, 32))
  const configuration = { index: configurationIndex, payload }
  return { meta: { clusterId, index, term, configuration }, end, checksum }
}

/** What stands before a piece. Its checksum continues that of the piece before, so that no piece can be moved, doubled or left out. */
export function encodePieceHeader(
  piece: Uint8Array,
  previous: number,
): { bytes: Uint8Array; checksum: number } {
  if (piece.length === 0 || piece.length > PIECE_BYTES_MAX) {
    throw new Error(`bug: a piece of ${piece.length} bytes`)
  }
  const bytes = new Uint8Array(PIECE_HEADER_BYTES)
  const view = viewOf(bytes)
  view.setUint32(0, PIECE_MAGIC)
  view.setUint32(4, piece.length)
  const checksum = crc32(piece, crc32(bytes.subarray(0, 8), previous))
  view.setUint32(8, checksum)
  return { bytes, checksum }
}

export function encodeSnapshotTrailer(trailer: {
  readonly pieces: number
  readonly sizeBytes: number
  readonly previous: number
}): Uint8Array {
  const bytes = new Uint8Array(SNAPSHOT_TRAILER_BYTES)
  const view = viewOf(bytes)
  view.setUint32(0, TRAILER_MAGIC)
  writeU64(view, 8, trailer.pieces)
  writeU64(view, 16, trailer.sizeBytes)
  view.setUint32(24, crc32(bytes.subarray(0, 24), trailer.previous))
  view.setUint32(28, crc32(bytes.subarray(0, 28)))
  return bytes
}

/** A sentence fragment when it is no trailer. Its own checksum vouches for it, without the pieces. */
export function decodeSnapshotTrailer(bytes: Uint8Array): SnapshotTrailer | string {
  if (bytes.length !== SNAPSHOT_TRAILER_BYTES) return 'it does not end like a snapshot'
  const view = viewOf(bytes)
  if (view.getUint32(0) !== TRAILER_MAGIC) return 'it does not end like a snapshot'
  if (view.getUint32(28) !== crc32(bytes.subarray(0, 28))) return 'its trailer fails the checksum'
  const pieces = readU64(view, 8)
  const sizeBytes = readU64(view, 16)
  if (pieces === null || sizeBytes === null || view.getUint32(4) !== 0) {
    return 'its trailer holds an impossible number'
  }
  return { pieces, sizeBytes, checksum: view.getUint32(24) }
}

/**
 * Reads a file from its start to its end, in chunks of any size. Holds no more than a chunk and one unfinished piece; the length of a
 * piece is checked against the limit and against the file before anything is kept for it.
 */
export class SnapshotReading {
  readonly #sizeBytes: number
  #rest: Uint8Array = EMPTY
  /** The offset in the file of what stands in `#rest`. */
  #at = 0
  #checksum = 0
  #pieces = 0
  #meta: SnapshotMeta | null = null
  #isWhole = false

  /** `sizeBytes`: of the file. */
  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  /** Null until the header was read. */
  get meta(): SnapshotMeta | null {
    return this.#meta
  }

  /** Everything was there and is as it was written. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  /** How many bytes more the unfinished piece needs; at least 1. */
  get wantedBytes(): number {
    const rest = this.#rest
    if (this.#meta === null || rest.length < PIECE_HEADER_BYTES) return 1
    return Math.max(1, PIECE_HEADER_BYTES + viewOf(rest).getUint32(4) - rest.length)
  }

  /**
   * Hands over each piece that ends in these bytes: views of them where possible. Returns what is wrong, as a sentence fragment, and then
   * nothing more may be pushed.
   */
  push(bytes: Uint8Array, piece: (bytes: Uint8Array) => void): string | null {
    this.#rest = this.#rest.length === 0 ? bytes : joined(this.#rest, bytes)
    if (this.#sizeBytes < SNAPSHOT_BYTES_MIN) return `the file has only ${this.#sizeBytes} bytes`
    if (this.#at + this.#rest.length > this.#sizeBytes) return 'something follows its end'
    for (;;) {
      const taken = this.#take(piece)
      if (typeof taken === 'string') return taken
      if (taken === 0) return null
      this.#rest = this.#rest.subarray(taken)
      this.#at += taken
    }
  }

  /** How many bytes of `#rest` were read; 0 when more are needed. */
  #take(piece: (bytes: Uint8Array) => void): number | string {
    if (this.#meta === null) return this.#takeHeader()
    const left = this.#sizeBytes - this.#at
    if (left <= SNAPSHOT_TRAILER_BYTES) return this.#takeTrailer(left)
    const rest = this.#rest
    if (rest.length < PIECE_HEADER_BYTES) return 0
    const view = viewOf(rest)
    if (view.getUint32(0) !== PIECE_MAGIC) return `no piece begins at byte ${this.#at}`
    const length = view.getUint32(4)
    const end = PIECE_HEADER_BYTES + length
    if (length === 0 || length > PIECE_BYTES_MAX || end > left - SNAPSHOT_TRAILER_BYTES) {
      return `the piece at byte ${this.#at} has the length ${length}`
    }
    if (rest.length < end) return 0
    const bytes = rest.subarray(PIECE_HEADER_BYTES, end)
    const checksum = crc32(bytes, crc32(rest.subarray(0, 8), this.#checksum))
    if (view.getUint32(8) !== checksum) return `the piece at byte ${this.#at} fails its checksum`
    this.#checksum = checksum
    this.#pieces++
    piece(bytes)
    return end
  }

  #takeHeader(): number | string {
    if (this.#rest.length < SNAPSHOT_HEADER_BYTES) return 0
    const end = snapshotHeaderBytes(this.#rest)
    if (typeof end === 'string') return end
    if (end > this.#sizeBytes - SNAPSHOT_TRAILER_BYTES) return 'the file ends in its header'
    if (this.#rest.length < end) return 0
    const header = decodeSnapshotHeader(this.#rest)
    if (typeof header === 'string') return header
    this.#meta = header.meta
    this.#checksum = header.checksum
    return header.end
  }

  #takeTrailer(left: number): number | string {
    if (this.#isWhole || this.#rest.length < left) return 0
    const trailer = decodeSnapshotTrailer(this.#rest)
    if (typeof trailer === 'string') return trailer
    const { pieces, sizeBytes, checksum } = trailer
    const chained = crc32(this.#rest.subarray(0, 24), this.#checksum)
    if (pieces !== this.#pieces || sizeBytes !== this.#sizeBytes || checksum !== chained) {
      return 'its trailer belongs to another snapshot'
    }
    this.#isWhole = true
    return left
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length)
  all.set(first)
  all.set(second, first.length)
  return all
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
