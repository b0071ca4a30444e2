/**
 * The bytes between two nodes, inside Noise. One *batch* is what one node has for another in one turn:
 *
 *   u8 version (1), 16 bytes clusterId (zeros while blank), then frames: u8 type, u32 length, body
 *
 * Integers are big-endian. Bodies are fixed layouts, written with one DataView; entries as in raft/entry-codec.ts. Decoding checks
 * every length before it slices and returns a MalformedFrame for anything else: a peer is hostile until its bytes were read.
 */

import { decodeConfigurationRecord } from '../raft/configuration.ts'
import {
  ENTRY_HEADER_BYTES,
  entryBytes,
  readEntry,
  readU64,
  writeEntry,
  writeU64,
} from '../raft/entry-codec.ts'
import type { RaftMessage } from '../raft/messages.ts'
import { type Entry, type EntryId, TERM_MAX, type Term } from '../raft/types.ts'
import type { PeerFrame, RefusalReason } from './transport.ts'

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

export class MalformedFrame extends Error {
  override readonly name = 'MalformedFrame'
  readonly reason: 'malformed' | 'version'

  constructor(message: string, reason: 'malformed' | 'version' = 'malformed') {
    super(message)
    this.reason = reason
  }
}

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
  preVote: 32,
  preVoteResponse: 33,
  requestVote: 34,
  voteResponse: 35,
  append: 36,
  appendAccepted: 37,
  appendRejected: 38,
  heartbeat: 39,
  heartbeatResponse: 40,
  timeoutNow: 41,
  resigned: 42,
} as const

const OPERATIONS = ['command', 'readIndex', 'change'] as const
const OUTCOMES = ['done', 'not-leader', 'overloaded', 'disk-full', 'closing'] as const
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
      return 8 + frame.body.length
    case 'raft':
      return raftBytes(frame.message)
  }
}

function raftBytes(message: RaftMessage): number {
  switch (message.type) {
    case 'preVote':
      return 24
    case 'preVoteResponse':
      return 17
    case 'requestVote':
      return 25
    case 'voteResponse':
      return 9
    case 'append': {
      let bytes = 36
      for (const entry of message.entries) bytes += entryBytes(entry)
      return bytes
    }
    case 'appendResponse':
      return message.accepted ? 16 : 32
    case 'heartbeat':
      return 24
    case 'heartbeatResponse':
      return 16
    case 'timeoutNow':
    case 'resigned':
      return 8
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
    for (let i = 0; i < 16; i++) {
      bytes[i] = Number.parseInt(clusterId.slice(i * 2, i * 2 + 2), 16)
    }
    knownId = clusterId
    knownBytes = bytes
  }
  return knownBytes
}

function typeOf(frame: WireFrame): number {
  if (frame.type !== 'raft') return TYPES[frame.type]
  const { message } = frame
  if (message.type !== 'appendResponse') return TYPES[message.type]
  return message.accepted ? TYPES.appendAccepted : TYPES.appendRejected
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
      writeU64(view, at, frame.term)
      bytes.set(frame.body, at + 8)
      return
    case 'removed':
      return
    case 'raft':
      writeRaft(view, bytes, at, frame.message)
  }
}

function writeRaft(view: DataView, bytes: Uint8Array, at: number, message: RaftMessage): void {
  writeU64(view, at, message.term)
  switch (message.type) {
    case 'preVote':
    case 'requestVote':
      writeU64(view, at + 8, message.lastIndex)
      writeU64(view, at + 16, message.lastTerm)
      if (message.type === 'requestVote') view.setUint8(at + 24, message.transfer ? 1 : 0)
      return
    case 'preVoteResponse':
      writeU64(view, at + 8, message.askedTerm)
      view.setUint8(at + 16, message.granted ? 1 : 0)
      return
    case 'voteResponse':
      view.setUint8(at + 8, message.granted ? 1 : 0)
      return
    case 'append': {
      writeU64(view, at + 8, message.prevIndex)
      writeU64(view, at + 16, message.prevTerm)
      writeU64(view, at + 24, message.commit)
      view.setUint32(at + 32, message.entries.length)
      let next = at + 36
      for (const entry of message.entries) next = writeEntry(view, bytes, next, entry)
      return
    }
    case 'appendResponse':
      if (message.accepted) return writeU64(view, at + 8, message.matchIndex)
      writeU64(view, at + 8, message.rejectedIndex)
      writeU64(view, at + 16, message.hintIndex)
      writeU64(view, at + 24, message.hintTerm)
      return
    case 'heartbeat':
      writeU64(view, at + 8, message.commit)
      writeU64(view, at + 16, message.readRound)
      return
    case 'heartbeatResponse':
      writeU64(view, at + 8, message.readRound)
      return
    case 'timeoutNow':
    case 'resigned':
      return
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
    frames.push(new BodyReader(view, bytes, start, start + length).frame(view.getUint8(at)))
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
  let text = ''
  for (const byte of bytes.subarray(1, BATCH_HEADER_BYTES)) {
    text += byte.toString(16).padStart(2, '0')
  }
  return text
}

class BodyReader {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(view: DataView, bytes: Uint8Array, start: number, end: number) {
    this.#view = view
    this.#bytes = bytes
    this.#at = start
    this.#end = end
  }

  frame(type: number): WireFrame {
    const frame = this.#frame(type)
    if (this.#at !== this.#end)
      throw new MalformedFrame(`bytes left over in a frame of type ${type}`)
    return frame
  }

  #frame(type: number): WireFrame {
    switch (type) {
      case TYPES.proof:
        return { type: 'proof', mac: this.#rest() }
      case TYPES.hello:
        return { type: 'hello', body: this.#rest() }
      case TYPES.founding:
        return { type: 'founding', body: this.#rest() }
      case TYPES.ping:
        return { type: 'ping', nonce: this.#u32() }
      case TYPES.pong:
        return { type: 'pong', nonce: this.#u32() }
      case TYPES.goodbye:
        return { type: 'goodbye', reason: this.#oneOf(REASONS) }
      case TYPES.forward:
        return {
          type: 'forward',
          requestId: this.#u64(),
          operation: this.#oneOf(OPERATIONS),
          body: this.#rest(),
        }
      case TYPES.forwardReply:
        return {
          type: 'forwardReply',
          requestId: this.#u64(),
          outcome: this.#oneOf(OUTCOMES),
          index: this.#u64(),
          body: this.#rest(),
        }
      case TYPES.leaderView:
        return { type: 'leaderView', term: this.#u64(), body: this.#rest() }
      case TYPES.removed:
        return { type: 'removed' }
      default:
        return { type: 'raft', message: this.#raft(type) }
    }
  }

  #raft(type: number): RaftMessage {
    const term = this.#u64()
    if (term > TERM_MAX) throw new MalformedFrame('a term is out of range')
    switch (type) {
      case TYPES.preVote:
        return { type: 'preVote', term, lastIndex: this.#u64(), lastTerm: this.#u64() }
      case TYPES.preVoteResponse:
        return { type: 'preVoteResponse', term, askedTerm: this.#u64(), granted: this.#flag() }
      case TYPES.requestVote:
        return {
          type: 'requestVote',
          term,
          lastIndex: this.#u64(),
          lastTerm: this.#u64(),
          transfer: this.#flag(),
        }
      case TYPES.voteResponse:
        return { type: 'voteResponse', term, granted: this.#flag() }
      case TYPES.append: {
        const prevIndex = this.#u64()
        const prevTerm = this.#u64()
        const commit = this.#u64()
        const entries = this.#entries({ term: prevTerm, index: prevIndex }, term)
        return { type: 'append', term, prevIndex, prevTerm, commit, entries }
      }
      case TYPES.appendAccepted:
        return { type: 'appendResponse', term, accepted: true, matchIndex: this.#u64() }
      case TYPES.appendRejected:
        return {
          type: 'appendResponse',
          term,
          accepted: false,
          rejectedIndex: this.#u64(),
          hintIndex: this.#u64(),
          hintTerm: this.#u64(),
        }
      case TYPES.heartbeat:
        return { type: 'heartbeat', term, commit: this.#u64(), readRound: this.#u64() }
      case TYPES.heartbeatResponse:
        return { type: 'heartbeatResponse', term, readRound: this.#u64() }
      case TYPES.timeoutNow:
        return { type: 'timeoutNow', term }
      case TYPES.resigned:
        return { type: 'resigned', term }
      default:
        throw new MalformedFrame(`unknown frame type ${type}`)
    }
  }

  /** Consecutive behind `before`, with terms that never fall and never pass the leader's: what the core relies on. */
  #entries(before: EntryId, leaderTerm: Term): Entry[] {
    const count = this.#u32()
    if (count > (this.#end - this.#at) / ENTRY_HEADER_BYTES) {
      throw new MalformedFrame('more entries announced than fit')
    }
    const entries: Entry[] = []
    let last: EntryId = before
    for (let i = 0; i < count; i++) {
      const read = readEntry(this.#view, this.#bytes, this.#at, this.#end)
      if (read === null) throw new MalformedFrame('an entry is malformed')
      const { entry } = read
      if (entry.index !== last.index + 1 || entry.term < last.term || entry.term > leaderTerm) {
        throw new MalformedFrame('an entry is out of order')
      }
      // In force the moment it is appended, so that the core could only stop over it.
      if (entry.kind === 'configuration' && decodeConfigurationRecord(entry.payload) === null) {
        throw new MalformedFrame('a configuration is malformed')
      }
      entries.push(entry)
      last = entry
      this.#at = read.next
    }
    return entries
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4))
  }

  #u64(): number {
    const value = readU64(this.#view, this.#take(8))
    if (value === null) throw new MalformedFrame('an integer is larger than 2^53 - 1')
    return value
  }

  #flag(): boolean {
    const value = this.#view.getUint8(this.#take(1))
    if (value > 1) throw new MalformedFrame('a flag is neither 0 nor 1')
    return value === 1
  }

  #oneOf<T>(values: readonly T[]): T {
    const value = values[this.#view.getUint8(this.#take(1))]
    if (value === undefined) throw new MalformedFrame('a choice is out of range')
    return value
  }

  #rest(): Uint8Array {
    const start = this.#at
    this.#at = this.#end
    return this.#bytes.subarray(start, this.#end)
  }

  #take(count: number): number {
    const at = this.#at
    if (count > this.#end - at) throw new MalformedFrame('a frame is too short')
    this.#at = at + count
    return at
  }
}
