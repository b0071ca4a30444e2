/**
 * The bytes between two nodes, inside Noise. One *batch* is what one node has for another in one turn:
 *
 *   u8 version (1), 16 bytes clusterId (zeros while blank), then frames: u8 type, u32 length, body
 *
 * Integers are big-endian. Bodies are fixed layouts, written with one DataView; entries as in raft/entry-codec.ts. Decoding checks
 * every length before it slices and returns a MalformedFrame for anything else: a peer is hostile until its bytes were read.
 */

import { writeU64 } from '../raft/entry-codec.ts'
import { BodyReader, hexOf, MalformedFrame, writeHex } from './body-reader.ts'
import { CHECKSUM_BYTES, raftBytes, raftType, readRaft, writeRaft } from './raft-codec.ts'
import type { PeerFrame, RefusalReason } from './transport.ts'

export { MalformedFrame } from './body-reader.ts'

export const WIRE_VERSION = 1
export const BATCH_HEADER_BYTES = 1 + 16
const FRAME_HEADER_BYTES = 1 + 4
/** Frames in one batch: bounds what decoding allocates beyond the bytes themselves. */
export const FRAMES_MAX = 16 * 1024
/** A frame that is larger never leaves: Noise messages end at 16 MiB. */
export const FRAME_BYTES_MAX = 15 * 1024 * 1024

/** Control frames of the transport itself; nobody above it sees them. */
export type ControlFrame =
  /** Keyed hash over the handshake: the first frame each way. */
  | { readonly type: 'proof'; readonly mac: Uint8Array }
  /** JSON, see hello.ts; sent again when the clusterId changes. */
  | { readonly type: 'hello'; readonly body: Uint8Array }
  | { readonly type: 'ping'; readonly nonce: number }
  | { readonly type: 'pong'; readonly nonce: number }
  /** The last frame of a link that its sender refuses to keep: why. Only after the proofs. */
  | { readonly type: 'goodbye'; readonly reason: RefusalReason }

export type WireFrame = PeerFrame | ControlFrame

const TYPES = {
  proof: 1,
  hello: 2,
  ping: 3,
  pong: 4,
  goodbye: 5,
  founding: 16,
  forward: 17,
  forwardReply: 18,
  leaderView: 19,
  removed: 20,
  reach: 21,
  snapshotPull: 24,
  snapshotChunk: 25,
  stateHash: 26,
} as const

const STATE_HASH_BYTES = 8
const OPERATIONS = ['command', 'readIndex', 'change'] as const
const OUTCOMES = [
  'done',
  'not-leader',
  'overloaded',
  'disk-full',
  'closing',
  'bad-request',
] as const
const REASONS: readonly RefusalReason[] = [
  'wrong-topic',
  'wrong-key',
  'wrong-cluster',
  'handshake-timeout',
  'malformed',
  'clone',
  'version',
]

/** Bytes of the frame with its header. */
export function frameBytes(frame: WireFrame): number {
  return FRAME_HEADER_BYTES + bodyBytes(frame)
}

function bodyBytes(frame: WireFrame): number {
  switch (frame.type) {
    case 'proof':
      return frame.mac.length
    case 'hello':
    case 'founding':
      return frame.body.length
    case 'ping':
    case 'pong':
      return 4
    case 'goodbye':
      return 1
    case 'removed':
      return 0
    case 'forward':
      return 8 + 1 + frame.body.length
    case 'forwardReply':
      return 8 + 1 + 8 + frame.body.length
    case 'leaderView':
    case 'reach':
      return 8 + frame.body.length
    case 'snapshotPull':
      return CHECKSUM_BYTES + 8 + 4
    case 'snapshotChunk':
      return CHECKSUM_BYTES + 8 + frame.bytes.length
    case 'stateHash':
      return 8 + 4 + STATE_HASH_BYTES
    case 'raft':
      return raftBytes(frame.message)
  }
}

/** One batch in one buffer. `clusterId` is 32 hex digits, null while blank. */
export function encodeBatch(clusterId: string | null, frames: readonly WireFrame[]): Uint8Array {
  let size = BATCH_HEADER_BYTES
  for (const frame of frames) size += frameBytes(frame)
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  bytes[0] = WIRE_VERSION
  if (clusterId !== null) bytes.set(clusterIdBytes(clusterId), 1)
  let at = BATCH_HEADER_BYTES
  for (const frame of frames) {
    const length = bodyBytes(frame)
    view.setUint8(at, typeOf(frame))
    view.setUint32(at + 1, length)
    writeBody(view, bytes, at + FRAME_HEADER_BYTES, frame)
    at += FRAME_HEADER_BYTES + length
  }
  return bytes
}

/** A node has one clusterId, and its peers have the same: the last one is remembered in both directions. */
let knownId = ''
let knownBytes: Uint8Array = new Uint8Array(16)

function clusterIdBytes(clusterId: string): Uint8Array {
  if (clusterId !== knownId) {
    const bytes = new Uint8Array(16)
    writeHex(bytes, 0, clusterId)
    knownId = clusterId
    knownBytes = bytes
  }
  return knownBytes
}

function typeOf(frame: WireFrame): number {
  return frame.type === 'raft' ? raftType(frame.message) : TYPES[frame.type]
}

function writeBody(view: DataView, bytes: Uint8Array, at: number, frame: WireFrame): void {
  switch (frame.type) {
    case 'proof':
      bytes.set(frame.mac, at)
      return
    case 'hello':
    case 'founding':
      bytes.set(frame.body, at)
      return
    case 'ping':
    case 'pong':
      view.setUint32(at, frame.nonce)
      return
    case 'goodbye':
      view.setUint8(at, REASONS.indexOf(frame.reason))
      return
    case 'forward':
      writeU64(view, at, frame.requestId)
      view.setUint8(at + 8, OPERATIONS.indexOf(frame.operation))
      bytes.set(frame.body, at + 9)
      return
    case 'forwardReply':
      writeU64(view, at, frame.requestId)
      view.setUint8(at + 8, OUTCOMES.indexOf(frame.outcome))
      writeU64(view, at + 9, frame.index)
      bytes.set(frame.body, at + 17)
      return
    case 'leaderView':
    case 'reach':
      writeU64(view, at, frame.term)
      bytes.set(frame.body, at + 8)
      return
    case 'snapshotPull':
    case 'snapshotChunk':
      writeHex(bytes, at, frame.checksum)
      writeU64(view, at + CHECKSUM_BYTES, frame.offset)
      if (frame.type === 'snapshotChunk') bytes.set(frame.bytes, at + CHECKSUM_BYTES + 8)
      else view.setUint32(at + CHECKSUM_BYTES + 8, frame.lengthBytes)
      return
    case 'stateHash':
      writeU64(view, at, frame.index)
      view.setUint32(at + 8, frame.hashVersion)
      return writeHex(bytes, at + 12, frame.hash)
    case 'removed':
      return
    case 'raft':
      writeRaft(view, bytes, at, frame.message)
  }
}

export interface Batch {
  readonly clusterId: string | null
  readonly frames: readonly WireFrame[]
}

/**
 * Payloads and bodies are views of `bytes`: nobody may write to it again, and who keeps one small payload for long keeps the
 * whole batch alive and should copy. Throws MalformedFrame and nothing else.
 */
export function decodeBatch(bytes: Uint8Array): Batch {
  if (bytes.length < BATCH_HEADER_BYTES) throw new MalformedFrame('a batch is too short')
  if (bytes[0] !== WIRE_VERSION) {
    throw new MalformedFrame(`unknown wire version ${bytes[0]}`, 'version')
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const frames: WireFrame[] = []
  let at = BATCH_HEADER_BYTES
  while (at < bytes.length) {
    if (frames.length === FRAMES_MAX) throw new MalformedFrame('too many frames in a batch')
    if (bytes.length - at < FRAME_HEADER_BYTES) throw new MalformedFrame('a frame is cut off')
    const length = view.getUint32(at + 1)
    const start = at + FRAME_HEADER_BYTES
    if (length > bytes.length - start) throw new MalformedFrame('a frame is longer than its batch')
    const type = view.getUint8(at)
    const reader = new BodyReader(view, bytes, start, start + length)
    frames.push(readFrame(type, reader))
    if (!reader.isAtEnd) throw new MalformedFrame(`bytes left over in a frame of type ${type}`)
    at = start + length
  }
  return { clusterId: readClusterId(bytes), frames }
}

function readClusterId(bytes: Uint8Array): string | null {
  let any = 0
  let isKnown = knownId !== ''
  for (let i = 0; i < 16; i++) {
    const byte = bytes[1 + i] as number
    any |= byte
    if (byte !== knownBytes[i]) isKnown = false
  }
  if (any === 0) return null
  if (isKnown) return knownId
  return hexOf(bytes.subarray(1, BATCH_HEADER_BYTES))
}

function readFrame(type: number, reader: BodyReader): WireFrame {
  switch (type) {
    case TYPES.proof:
      return { type: 'proof', mac: reader.rest() }
    case TYPES.hello:
      return { type: 'hello', body: reader.rest() }
    case TYPES.founding:
      return { type: 'founding', body: reader.rest() }
    case TYPES.ping:
      return { type: 'ping', nonce: reader.u32() }
    case TYPES.pong:
      return { type: 'pong', nonce: reader.u32() }
    case TYPES.goodbye:
      return { type: 'goodbye', reason: reader.oneOf(REASONS) }
    case TYPES.forward:
      return {
        type: 'forward',
        requestId: reader.u64(),
        operation: reader.oneOf(OPERATIONS),
        body: reader.rest(),
      }
    case TYPES.forwardReply:
      return {
        type: 'forwardReply',
        requestId: reader.u64(),
        outcome: reader.oneOf(OUTCOMES),
        index: reader.u64(),
        body: reader.rest(),
      }
    case TYPES.leaderView:
      return { type: 'leaderView', term: reader.u64(), body: reader.rest() }
    case TYPES.reach:
      return { type: 'reach', term: reader.u64(), body: reader.rest() }
    case TYPES.removed:
      return { type: 'removed' }
    case TYPES.snapshotPull:
      return {
        type: 'snapshotPull',
        checksum: reader.hex(CHECKSUM_BYTES),
        offset: reader.u64(),
        lengthBytes: reader.u32(),
      }
    case TYPES.snapshotChunk:
      return {
        type: 'snapshotChunk',
        checksum: reader.hex(CHECKSUM_BYTES),
        offset: reader.u64(),
        bytes: reader.rest(),
      }
    case TYPES.stateHash:
      return {
        type: 'stateHash',
        index: reader.u64(),
        hashVersion: reader.u32(),
        hash: reader.hex(STATE_HASH_BYTES),
      }
    default:
      return { type: 'raft', message: readRaft(type, reader) }
  }
}
