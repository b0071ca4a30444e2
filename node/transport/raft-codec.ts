/** The bytes of the messages of consensus: fixed layouts behind the term, entries as in raft/entry-codec.ts. */
import { entryBytes, writeEntry, writeU64 } from '../raft/entry-codec.ts'
import type { InstallSnapshot, RaftMessage } from '../raft/messages.ts'
import { TERM_MAX, type Term } from '../raft/types.ts'
import { type BodyReader, MalformedFrame, writeHex } from './body-reader.ts'

/** The frame types of messages, apart from those of codec.ts. */
export const RAFT_TYPES = {
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
  installSnapshot: 43,
} as const

const PRE_VOTE_ANSWERS = [
  { granted: false, leaderAlive: false },
  { granted: true, leaderAlive: false },
  { granted: false, leaderAlive: true },
] as const

/** SHA-256. */
export const CHECKSUM_BYTES = 32

export function raftType(message: RaftMessage): number {
  if (message.type !== 'appendResponse') return RAFT_TYPES[message.type]
  return message.accepted ? RAFT_TYPES.appendAccepted : RAFT_TYPES.appendRejected
}

export function raftBytes(message: RaftMessage): number {
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
    case 'installSnapshot':
      return 32 + CHECKSUM_BYTES
  }
}

export function writeRaft(
  view: DataView,
  bytes: Uint8Array,
  at: number,
  message: RaftMessage,
): void {
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
      view.setUint8(at + 16, message.granted ? 1 : message.leaderAlive ? 2 : 0)
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
    case 'installSnapshot':
      writeU64(view, at + 8, message.lastIncludedIndex)
      writeU64(view, at + 16, message.lastIncludedTerm)
      writeU64(view, at + 24, message.sizeBytes)
      return writeHex(bytes, at + 32, message.checksum)
  }
}

export function readRaft(type: number, reader: BodyReader): RaftMessage {
  const term = reader.u64()
  if (term > TERM_MAX) throw new MalformedFrame('a term is out of range')
  switch (type) {
    case RAFT_TYPES.preVote:
      return { type: 'preVote', term, lastIndex: reader.u64(), lastTerm: reader.u64() }
    case RAFT_TYPES.preVoteResponse:
      return {
        type: 'preVoteResponse',
        term,
        askedTerm: reader.u64(),
        ...reader.oneOf(PRE_VOTE_ANSWERS),
      }
    case RAFT_TYPES.requestVote:
      return {
        type: 'requestVote',
        term,
        lastIndex: reader.u64(),
        lastTerm: reader.u64(),
        transfer: reader.flag(),
      }
    case RAFT_TYPES.voteResponse:
      return { type: 'voteResponse', term, granted: reader.flag() }
    case RAFT_TYPES.append: {
      const prevIndex = reader.u64()
      const prevTerm = reader.u64()
      const commit = reader.u64()
      const entries = reader.entries({ term: prevTerm, index: prevIndex }, term)
      return { type: 'append', term, prevIndex, prevTerm, commit, entries }
    }
    case RAFT_TYPES.appendAccepted:
      return { type: 'appendResponse', term, accepted: true, matchIndex: reader.u64() }
    case RAFT_TYPES.appendRejected:
      return {
        type: 'appendResponse',
        term,
        accepted: false,
        rejectedIndex: reader.u64(),
        hintIndex: reader.u64(),
        hintTerm: reader.u64(),
      }
    case RAFT_TYPES.heartbeat:
      return { type: 'heartbeat', term, commit: reader.u64(), readRound: reader.u64() }
    case RAFT_TYPES.heartbeatResponse:
      return { type: 'heartbeatResponse', term, readRound: reader.u64() }
    case RAFT_TYPES.timeoutNow:
      return { type: 'timeoutNow', term }
    case RAFT_TYPES.resigned:
      return { type: 'resigned', term }
    case RAFT_TYPES.installSnapshot:
      return readOffer(term, reader)
    default:
      throw new MalformedFrame(`unknown frame type ${type}`)
  }
}

function readOffer(term: Term, reader: BodyReader): InstallSnapshot {
  const lastIncludedIndex = reader.u64()
  const lastIncludedTerm = reader.u64()
  if (lastIncludedTerm > term) throw new MalformedFrame('a snapshot of a later term')
  const sizeBytes = reader.u64()
  const checksum = reader.hex(CHECKSUM_BYTES)
  return { type: 'installSnapshot', term, lastIncludedIndex, lastIncludedTerm, sizeBytes, checksum }
}
