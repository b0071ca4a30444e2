/**
 * How traces are written down: one line for each thing that happens, in the words of the glossary.
 *
 *   n1 -> n2  append ...     n1 sends this to n2        n2 <- n1  append ...   n2 receives it
 *   n1 -x n2  append ...     it is lost                 n1        applies ...  what n1 does by itself
 *
 * `3/7` is the entry of term 3 at index 7; `3/7 "x"` a command, `3/7 noop` and `3/7 configuration` the other kinds. A command
 * that the log was filled with has no text. `last=3/7` and `prev=3/7` name an entry in the same way.
 */
import {
  type Command,
  decodeCommand,
  decodeKvOperation,
  decodeKvResult,
  decodeOutcome,
  KEYED_HEADER_BYTES,
} from '../../client/protocol.ts'
import { decodeLogTime } from '../../node/log-clock.ts'
import type { PeerFrame } from '../../node/peer-frame.ts'
import { decodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { AppendResponse, PreVoteResponse, RaftMessage } from '../../node/raft/messages.ts'
import type { SaveBatch } from '../../node/raft/ready.ts'
import {
  type Configuration,
  type Entry,
  type EntryId,
  type HardState,
  type MemberId,
  type PeerId,
  peerIdOf,
} from '../../node/raft/types.ts'
import { textOf } from '../support/raft-cluster.ts'

/** What the forms need to know of the world they speak of. */
export interface Words {
  nameOf(peer: PeerId): string
  /** The payload of a command, as text. */
  commandText(payload: Uint8Array): string
}

const NAME_CHARS = 2

export function aloneLine(name: string, text: string): string {
  return `${name.padEnd(NAME_CHARS)}        ${text}`
}

export function sentLine(from: string, to: string, text: string): string {
  return `${from.padEnd(NAME_CHARS)} -> ${to.padEnd(NAME_CHARS)}  ${text}`
}

export function receivedLine(to: string, from: string, text: string): string {
  return `${to.padEnd(NAME_CHARS)} <- ${from.padEnd(NAME_CHARS)}  ${text}`
}

export function lostLine(from: string, to: string, text: string): string {
  return `${from.padEnd(NAME_CHARS)} -x ${to.padEnd(NAME_CHARS)}  ${text}`
}

// --- entries and what is saved --------------------------------------------------------------------------------------

export function idText(id: EntryId): string {
  return `${id.term}/${id.index}`
}

export function entryText(words: Words, entry: Entry): string {
  const id = idText(entry)
  switch (entry.kind) {
    case 'noop':
      return `${id} noop`
    case 'configuration': {
      const record = decodeConfigurationRecord(entry.payload)
      return `${id} configuration ${record === null ? '?' : configurationText(words, record.configuration)}`
    }
    case 'time':
      return `${id} time ${decodeLogTime(entry.payload) ?? '?'} ms`
    case 'command': {
      const text = words.commandText(entry.payload)
      return text === id ? id : `${id} ${text}`
    }
  }
}

export function entriesText(words: Words, entries: readonly Entry[]): string {
  return `[${entries.map((entry) => entryText(words, entry)).join(', ')}]`
}

/** `n5(4)` is the node n5 as member 4; where both numbers are the same it is only `n5`. */
export function configurationText(words: Words, configuration: Configuration): string {
  const { voters, votersOutgoing, learners, members } = configuration
  const nameOf = (id: MemberId): string => {
    const member = members.find(({ memberId }) => memberId === id)
    const name = member === undefined ? '?' : words.nameOf(peerIdOf(member))
    return name === `n${id}` ? name : `${name}(${id})`
  }
  const names = (ids: readonly MemberId[]) => ids.map(nameOf).join(' ')
  const incoming = `{${names(voters)}}`
  const joint = votersOutgoing.length === 0 ? '' : ` and {${names(votersOutgoing)}}`
  return `${incoming}${joint}${learners.length === 0 ? '' : ` learners {${names(learners)}}`}`
}

export function hardStateText(words: Words, hardState: HardState | null): string {
  if (hardState === null) return 'nothing'
  const { term, vote, commit } = hardState
  return `term=${term} vote=${vote === null ? 'none' : words.nameOf(vote)} commit=${commit}`
}

export function saveText(words: Words, batch: SaveBatch): string {
  const base = batch.base === undefined ? '' : ` base=${idText(batch.base)}`
  return `${hardStateText(words, batch.hardState)}${base} entries=${entriesText(words, batch.entries)}`
}

// --- messages -------------------------------------------------------------------------------------------------------

export function messageText(words: Words, message: RaftMessage): string {
  const head = `${message.type} term=${message.term}`
  switch (message.type) {
    case 'preVote':
      return `${head} last=${message.lastTerm}/${message.lastIndex}`
    case 'requestVote': {
      const transfer = message.transfer ? ' transfer' : ''
      return `${head} last=${message.lastTerm}/${message.lastIndex}${transfer}`
    }
    case 'preVoteResponse':
      return `${head} asked=${message.askedTerm} ${preVoteAnswer(message)}`
    case 'voteResponse':
      return `${head} ${message.granted ? 'granted' : 'refused'}`
    case 'append': {
      const entries = entriesText(words, message.entries)
      return `${head} prev=${message.prevTerm}/${message.prevIndex} commit=${message.commit} entries=${entries}`
    }
    case 'appendResponse':
      return `${head} ${appendResponseText(message)}`
    case 'heartbeat':
      return `${head} commit=${message.commit} round=${message.readRound}`
    case 'heartbeatResponse':
      return `${head} round=${message.readRound}`
    case 'timeoutNow':
    case 'resigned':
      return head
    case 'installSnapshot':
      return `${head} of ${message.lastIncludedTerm}/${message.lastIncludedIndex}`
  }
}

function appendResponseText(message: AppendResponse): string {
  if (message.accepted) return `accepted match=${message.matchIndex}`
  const { rejectedIndex, hintTerm, hintIndex } = message
  return `rejected at=${rejectedIndex} hint=${hintTerm}/${hintIndex}`
}

export const FRAME_TYPES: readonly string[] = [
  'preVote',
  'preVoteResponse',
  'requestVote',
  'voteResponse',
  'append',
  'appendResponse',
  'heartbeat',
  'heartbeatResponse',
  'timeoutNow',
  'resigned',
  'installSnapshot',
  'forward',
  'forwardReply',
  'leaderView',
]

/** The types by which a trace can pick a frame: those of Raft's messages, and those of the other frames. */
export function frameType(frame: PeerFrame): string {
  return frame.type === 'raft' ? frame.message.type : frame.type
}

export function frameText(words: Words, frame: PeerFrame): string {
  switch (frame.type) {
    case 'raft':
      return messageText(words, frame.message)
    case 'forward': {
      const { operation, body } = frame
      const what = operation === 'command' ? words.commandText(body) : operation
      return `forward id=${forwardIdText(frame.requestId)} ${what}`
    }
    case 'forwardReply': {
      const head = `forwardReply id=${forwardIdText(frame.requestId)} ${frame.outcome}`
      if (frame.outcome !== 'done') return head
      if (frame.body.length === 0) return `${head} index=${frame.index}`
      const isJson = frame.body[0] === 0x7b
      const outcome = isJson ? textOf(frame.body) : outcomeText(frame.body)
      return `${head} index=${frame.index} ${outcome}`
    }
    case 'leaderView':
      return `leaderView term=${frame.term} ${textOf(frame.body)}`
    case 'stateHash':
      return `stateHash index=${frame.index} ${frame.hash}`
    case 'founding':
    case 'reach':
    case 'removed':
    case 'snapshotPull':
    case 'snapshotChunk':
      return frame.type
  }
}

/** Each life of a process counts its forwards from a random multiple of this (forwards.ts); a trace numbers the lives. */
const IDS_PER_LIFE = 2 ** 20

function forwardIdText(id: number): string {
  return `${Math.floor(id / IDS_PER_LIFE)}.${id % IDS_PER_LIFE}`
}

// --- requests of clients --------------------------------------------------------------------------------------------

/** A command of a client (client/protocol.ts). */
export function clientCommandText(payload: Uint8Array): string {
  const command = decodeCommand(payload)
  if (command.kind === 'keyed') {
    const name = textOf(command.operation.subarray(0, 32)).replace(/\0+$/, '')
    const operation = command.operation.subarray(KEYED_HEADER_BYTES)
    return `${operationText({ ...command, operation })} key=${name}`
  }
  if (command.kind !== 'operation') return command.kind
  return `${operationText(command)} session=${command.session} sequence=${command.sequence}`
}

function operationText(command: Command): string {
  const operation = decodeKvOperation(command.operation)
  const key = textOf(operation.key)
  const condition = operation.condition.type === 'none' ? '' : ` if-${operation.condition.type}`
  if (operation.type !== 'put') return `${operation.type} ${key}${condition}`
  return `put ${key}=${textOf(operation.value)}${condition}`
}

/** What a command answered: the status, and for an operation whether its condition held and the key's revision. */
export function outcomeText(bytes: Uint8Array): string {
  const { status, body } = decodeOutcome(bytes)
  if (body.length === 0) return status
  const { succeeded, revision } = decodeKvResult(body)
  return `${status} ${succeeded ? 'succeeded' : 'failed'} revision=${revision}`
}

// --- events ---------------------------------------------------------------------------------------------------------

/** The events of the core (ready.ts) as a person would tell them; null for those that the trace shows by other lines. */
export function eventText(type: string, fields: Readonly<Record<string, unknown>>): string | null {
  const { term, candidate, reason } = fields
  switch (type) {
    case 'election.started':
      return fields.preVote === true
        ? `asks for pre-votes for term ${term}`
        : `asks for votes for term ${term}`
    case 'vote.granted':
      return `votes for ${candidate} in term ${term}`
    case 'vote.refused':
      return `refuses ${candidate} a vote for term ${term}: ${reason}`
    case 'resigned':
    case 'leader.resigned':
      return `resigns in term ${term}: ${reason}`
    case 'member.regressed':
      return 'says that a member has lost what it acknowledged'
    default:
      return null
  }
}

function preVoteAnswer(message: PreVoteResponse): string {
  if (message.granted) return 'granted'
  return message.leaderAlive ? 'refused, hears the leader' : 'refused'
}
