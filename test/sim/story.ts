/** Frames as a reader of a trace wants to see them: one short line, every field that matters. */
import type { RaftMessage } from '../../node/raft/messages.ts'
import type { PeerFrame } from '../../node/transport/transport.ts'

export function describeFrame(frame: PeerFrame): string {
  switch (frame.type) {
    case 'raft':
      return describeMessage(frame.message)
    case 'founding':
      return `founding (${frame.body.length} bytes)`
    case 'forward':
      return `forward ${frame.requestId} ${frame.operation}`
    case 'forwardReply':
      return `forwardReply ${frame.requestId} ${frame.outcome} at ${frame.index}`
    case 'removed':
      return frame.type
    case 'stateHash':
      return `stateHash ${frame.hash} at ${frame.index}`
    case 'leaderView':
    case 'reach':
      return `${frame.type} of term ${frame.term}`
    case 'snapshotPull':
      return `snapshotPull ${frame.checksum.slice(0, 8)} at ${frame.offset}`
    case 'snapshotChunk':
      return `snapshotChunk ${frame.checksum.slice(0, 8)} at ${frame.offset} (${frame.bytes.length} bytes)`
  }
}

export function describeMessage(message: RaftMessage): string {
  const head = `${message.type} term ${message.term}`
  switch (message.type) {
    case 'append': {
      const { prevIndex, prevTerm, entries, commit } = message
      const what = entries.map(({ index, term, kind }) => `${index}/${term}${kind[0]}`).join(' ')
      return `${head} after ${prevIndex}/${prevTerm} [${what}] commit ${commit}`
    }
    case 'appendResponse':
      return message.accepted
        ? `${head} matches ${message.matchIndex}`
        : `${head} rejects ${message.rejectedIndex}, hint ${message.hintIndex}/${message.hintTerm}`
    case 'heartbeat':
      return `${head} commit ${message.commit} round ${message.readRound}`
    case 'heartbeatResponse':
      return `${head} round ${message.readRound}`
    case 'preVote':
    case 'requestVote':
      return `${head} last ${message.lastIndex}/${message.lastTerm}${'transfer' in message && message.transfer ? ' (transfer)' : ''}`
    case 'preVoteResponse':
    case 'voteResponse':
      return `${head} ${message.granted ? 'granted' : 'refused'}`
    case 'installSnapshot': {
      const { lastIncludedIndex, lastIncludedTerm, checksum } = message
      return `${head} last ${lastIncludedIndex}/${lastIncludedTerm} file ${checksum.slice(0, 8)}`
    }
    default:
      return head
  }
}
