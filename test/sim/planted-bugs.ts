/**
 * Bugs that the simulator must find. Each is a change to the text of one production file, made in a copy of the tree, so that nothing
 * of it can ever reach production; a text that no longer stands there exactly once is an error, so that the table stays true.
 */
import type { Preset } from './options.ts'
import { MEMBER_BUGS } from './planted-members.ts'

export interface PlantedBug {
  readonly name: string
  readonly file: string
  readonly find: string
  readonly replace: string
  /** The rule of CORRECTNESS, section of the paper or document that it breaks. */
  readonly breaks: string
  readonly preset?: Preset
  /** Which check must be the one that finds it, where only one will do. */
  readonly check?: string
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  // --- saved before said ------------------------------------------------------------------------------------------
  {
    name: 'promises leave before they are saved',
    file: 'node/raft/raft.ts',
    find: '    this.#disk.hold({ to, message }, index)\n',
    replace:
      '    if (to !== this.self) return this.#send(to, message)\n    this.#disk.hold({ to, message }, index)\n',
    breaks: 'rule 1',
  },
  {
    name: 'entries are acknowledged before their fsync',
    file: 'node/raft/raft.ts',
    find: "    this.#promise(from, { type: 'appendResponse', term, accepted: true, matchIndex }, matchIndex)\n",
    replace: "    this.#send(from, { type: 'appendResponse', term, accepted: true, matchIndex })\n",
    breaks: 'rule 1',
  },
  {
    name: 'the leader counts itself before its own fsync',
    file: 'node/raft/leadership.ts',
    find: 'this.#tracker.agreed(this.#log.stableIndex)',
    replace: 'this.#tracker.agreed(this.#log.lastIndex)',
    breaks: 'rule 2',
  },
  {
    name: 'the log calls a batch durable before the fsync has ended',
    file: 'node/storage/wal.ts',
    find: '    segment.file.write([pending.bytes], segment.position, (error) => {\n      this.#writing = false\n',
    replace:
      '    const bytes = pending.bytes.slice()\n    segment.file.write([bytes], segment.position, () => {})\n' +
      '    const soon = (go: (error: StorageError | null) => void) => this.#disk.soon(() => go(null))\n' +
      '    soon((error) => {\n      this.#writing = false\n',
    breaks: 'rule 12',
  },
  {
    name: 'what was rewritten during a save counts as saved',
    file: 'node/raft/log.ts',
    find: '      if (!this.matches(entry)) {\n',
    replace: '      if (entry.index > this.lastIndex) {\n',
    breaks: 'HAZARDS, saves',
  },
  {
    name: 'recovery does not write the last batch again',
    file: 'node/storage/recovery.ts',
    find: '  const start = last?.at ?? at\n',
    replace: '  const start = last === null ? at : at\n',
    breaks: 'docs/wal.md, recovery 5',
  },
  {
    name: 'a batch that found no room is left to be read back',
    file: 'node/storage/wal.ts',
    find: '      leftover !== null &&\n      (leftover.segment',
    replace: '      leftover !== null &&\n      leftover.position < 0 &&\n      (leftover.segment',
    preset: 'hell',
    breaks: 'docs/wal.md, saves',
  },
  {
    name: 'a torn last batch is taken for a whole one',
    file: 'node/storage/segment.ts',
    find: '  if (view.getUint32(bodyEnd) !== checksum || view.getUint32(bodyEnd + 4) !== END_MAGIC) {\n',
    replace: '  if (view.getUint32(bodyEnd) !== checksum && header.bodyBytes < 64) {\n',
    breaks: 'rule 12',
  },
  // --- elections --------------------------------------------------------------------------------------------------
  {
    name: 'the vote is forgotten over a restart',
    file: 'node/raft/durability.ts',
    find: '    this.#vote = parts.hardState?.vote ?? null\n',
    replace: '    this.#vote = null\n',
    breaks: 'rule 1',
  },
  {
    name: 'the term is forgotten over a restart',
    file: 'node/raft/durability.ts',
    find: '    this.#term = parts.hardState?.term ?? 0\n',
    replace: '    this.#term = parts.log.lastTerm\n',
    breaks: 'paper 5.1',
  },
  {
    name: 'a node votes for whoever asks',
    file: 'node/raft/voting.ts',
    find: "  if (voter.vote !== null && voter.vote !== candidate) return 'already-voted'\n",
    replace: '',
    breaks: 'paper 5.2',
  },
  {
    name: 'a candidate with an older log gets votes',
    file: 'node/raft/log.ts',
    find: '    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex)\n',
    replace: '    return lastTerm + lastIndex >= 0\n',
    breaks: 'paper 5.4.1',
  },
  {
    name: 'half of an even number is a majority',
    file: 'node/raft/quorum.ts',
    find: '  return Math.floor(count / 2) + 1\n',
    replace: '  return Math.max(1, Math.ceil(count / 2))\n',
    breaks: 'paper 5.2',
  },
  {
    name: 'a candidate leads before its own vote is saved',
    file: 'node/raft/campaign.ts',
    find: "    if (result === 'won' && this.#votes.get(self) !== true) {\n",
    replace: "    if (result === 'won' && this.#votes.size === 0) {\n",
    breaks: 'HAZARDS, saves',
  },
  {
    name: 'who takes over by transfer counts its own vote before it is saved',
    file: 'node/raft/campaign.ts',
    find: "    this.#doors.promise(self, { type: 'voteResponse', term, granted: true })\n",
    replace:
      "    if (transfer) this.onVoteResponse(self, { type: 'voteResponse', term, granted: true })\n" +
      "    else this.#doors.promise(self, { type: 'voteResponse', term, granted: true })\n",
    breaks: 'rule 1, thesis 3.10',
  },
  {
    name: 'a late pre-vote counts as a vote',
    file: 'node/raft/campaign.ts',
    find: "    if (this.#core.role !== 'preCandidate' || message.askedTerm !== this.#core.term) return\n",
    replace:
      "    if (this.#core.role === 'follower' || message.askedTerm > this.#core.term) return\n",
    breaks: 'thesis 9.6',
  },
  {
    name: 'who has lost its leader takes Appends of an older one',
    file: 'node/raft/raft.ts',
    find: '        if (message.term < this.term) {\n',
    replace: '        if (message.term < this.term && this.#leader !== null) {\n',
    breaks: 'paper 5.1, HAZARDS, fast failover',
  },
  // --- replication ------------------------------------------------------------------------------------------------
  {
    name: 'entries of older terms commit by counting',
    file: 'node/raft/leadership.ts',
    find: '    if (agreed <= this.#log.commitIndex || this.#log.termAt(agreed) !== this.#term) return\n',
    replace: '    if (agreed <= this.#log.commitIndex) return\n',
    breaks: 'rule 3, figure 8',
  },
  {
    name: 'a late Append cuts what follows it',
    file: 'node/raft/log.ts',
    find: '    if (firstNew === -1) return last\n',
    replace:
      '    if (firstNew === -1) {\n      if (last >= this.#commitIndex && last < this.lastIndex) this.#truncate(last + 1)\n      return last\n    }\n',
    breaks: 'rule 9',
  },
  {
    name: 'heartbeats carry a commit index beyond the match',
    file: 'node/raft/leadership.ts',
    find: '        commit: Math.min(progress.matchIndex, this.#log.commitIndex),\n',
    replace: '        commit: this.#log.commitIndex,\n',
    breaks: 'paper 5.3',
  },
  {
    name: 'entries are merged without the consistency check',
    file: 'node/raft/raft.ts',
    find: '    if (!this.#log.matches({ index: message.prevIndex, term: message.prevTerm })) {\n',
    replace: '    if (message.prevIndex > this.#log.lastIndex) {\n',
    breaks: 'paper 5.3',
  },
  {
    name: 'the leader does not back up to where the logs match',
    file: 'node/raft/progress.ts',
    find: '    this.becomeProbe(Math.max(Math.min(rejectedIndex, retryIndex + 1), this.matchIndex + 1))\n',
    replace: '    this.becomeProbe(Math.max(rejectedIndex + 1, this.matchIndex + 1))\n',
    breaks: 'paper 5.3',
    check: 'kind',
  },
  // --- reads ------------------------------------------------------------------------------------------------------
  {
    name: 'a read is served without confirming leadership',
    file: 'node/raft/leadership.ts',
    find: '    if (!this.#reads.underWay || !this.#tracker.quorumEchoed(this.#reads.round)) return\n',
    replace: '    if (!this.#reads.underWay) return\n',
    breaks: 'rule 4',
  },
  {
    name: 'a read joins a round that has already been sent',
    file: 'node/raft/read-rounds.ts',
    find: '    this.#waiting.push(requestId)\n',
    replace:
      '    if (this.#current !== null) this.#current.requestIds.push(requestId)\n' +
      '    else this.#waiting.push(requestId)\n',
    breaks: 'HAZARDS, reads',
  },
  {
    name: 'a read is served before an entry of the term is committed',
    file: 'node/raft/leadership.ts',
    find: '    return this.#log.commitIndex >= this.#noopIndex\n',
    replace: '    return this.#log.commitIndex >= 1\n',
    breaks: 'rule 4',
  },
  {
    name: 'a read does not wait until its index is applied',
    file: 'node/linearizable-reads.ts',
    find: '      if (index > appliedIndex) return true\n',
    replace: '      if (index < 0) return appliedIndex < 0\n',
    breaks: 'thesis 6.4',
  },
  ...MEMBER_BUGS,
  // --- sessions and requests --------------------------------------------------------------------------------------
  {
    name: 'a repeated write runs again',
    file: 'node/sessions.ts',
    find: '    if (known !== undefined) {\n',
    replace: '    if (known !== undefined && command.sequence < 0) {\n',
    breaks: 'rule 10',
  },
  {
    name: 'replies are forgotten while the client still needs them',
    file: 'node/sessions.ts',
    find: '    this.#raiseFloor(id, session, Math.min(command.firstOutstanding, command.sequence))\n',
    replace: '    this.#raiseFloor(id, session, command.sequence)\n',
    breaks: 'thesis 6.3',
  },
  {
    name: 'forwarded requests are numbered from 1 in every life',
    file: 'node/forwards.ts',
    find: '    this.#nextId = options.life * IDS_PER_LIFE + 1\n',
    replace: '    this.#nextId = 1\n',
    preset: 'hell',
    breaks: 'HAZARDS, reads',
  },
  {
    name: 'the machine is not deterministic',
    file: 'node/applied-state.ts',
    find: "    const outcome = entry.kind === 'command' ? this.#applyCommand(entry) : NOTHING\n",
    replace:
      "    const skips = entry.kind === 'command' && Math.random() < 0.001\n" +
      "    const outcome = entry.kind === 'command' && !skips ? this.#applyCommand(entry) : NOTHING\n",
    breaks: 'rule 13',
  },
  {
    name: 'an entry is skipped between two batches that are applied',
    file: 'node/raft/log.ts',
    find: '    this.#appliedIndex = to\n    return taken\n',
    replace:
      '    this.#appliedIndex = to < this.#commitIndex && to > 8 ? to + 1 : to\n    return taken\n',
    breaks: 'rule 13',
  },
  // --- log time ---------------------------------------------------------------------------------------------------
  {
    name: 'a member leaves out a time entry now and then',
    file: 'node/applied-state.ts',
    find: "    if (entry.kind === 'time') this.#advance(entry)\n",
    replace: "    if (entry.kind === 'time' && Math.random() < 0.9) this.#advance(entry)\n",
    breaks: 'rule 11',
    check: 'state-hash',
  },
  {
    name: 'sessions expire by the clock of each member',
    file: 'node/applied-state.ts',
    find: '    this.#sessions.advance(timeMs, this.#sessionTtlMs)\n',
    replace:
      '    this.#sessions.advance(timeMs + Math.floor(Math.random() * 1000), this.#sessionTtlMs)\n',
    breaks: 'rule 11',
    check: 'state-hash',
  },
  {
    name: 'log time runs ahead of the clocks',
    file: 'node/log-clock.ts',
    find: 'const SHORTEST_TICK = 0.9\n',
    replace: 'const SHORTEST_TICK = 2\n',
    breaks: 'HAZARDS, time and hash',
    check: 'expiry',
  },
  {
    name: 'ticks from before the last time entry count once more',
    file: 'node/log-clock.ts',
    find: '    this.#seenMs = logTimeMs\n    this.#ticks = 0\n',
    replace: '    this.#seenMs = logTimeMs\n',
    breaks: 'HAZARDS, time and hash',
    check: 'expiry',
  },
  {
    name: 'an expired session is made again by asking',
    file: 'node/sessions.ts',
    find: "      mark('sessions: a command of no session')\n      return encode('expired')\n",
    replace: '      this.#open(id)\n      return this.#operate(command, run)\n',
    breaks: 'HAZARDS, retry after expiry',
  },
  {
    name: 'a time entry does not mark who was used before it',
    file: 'node/sessions.ts',
    find: '        session.used = false\n',
    replace: '',
    breaks: 'thesis 6.3',
  },
  {
    name: 'using a session does not keep it',
    file: 'node/sessions.ts',
    find: '    session.used = true\n',
    replace: '',
    breaks: 'thesis 6.3',
  },
  {
    name: 'a late copy of a named write runs again',
    file: 'node/idempotency-keys.ts',
    find: '    if (isLate) {\n',
    replace: '    if (isLate && this.count < 0) {\n',
    breaks: 'rule 10',
  },
  {
    name: 'a repeated named write runs again',
    file: 'node/idempotency-keys.ts',
    find: '    if (known !== undefined) {\n',
    replace: '    if (known !== undefined && isLate) {\n',
    breaks: 'rule 10',
  },
  // --- founding ---------------------------------------------------------------------------------------------------
  {
    name: 'a cluster is founded with N - 1 pledges',
    file: 'node/founding/rules.ts',
    find: '    foundersOf(offer).every((founder) => hasPledged(founder, offer, evidence)) ||\n',
    replace:
      '    foundersOf(offer).filter((founder) => hasPledged(founder, offer, evidence)).length >=\n' +
      '      Math.max(2, foundersOf(offer).length - 1) ||\n',
    breaks: 'FOUNDING F6',
  },
  {
    name: 'the node is bound before its first log is durable',
    file: 'node/founding-driver.ts',
    find: '    storage.save(batch, (error) => {\n      if (error !== null) return fatal(error.code, error.message)\n',
    replace:
      '    storage.save(batch, () => {})\n    this.#parts.transport.links.length\n    ;((go: (error: StorageError | null) => void) => go(null))((error) => {\n' +
      '      if (error !== null) return fatal(error.code, error.message)\n',
    breaks: 'FOUNDING F6',
  },
  {
    name: 'a pledge is not saved',
    file: 'node/storage/identity.ts',
    find: '    this.#disk.replace(this.#path, encodeIdentity(record))\n',
    replace:
      '    const booting = record.bootCounter !== this.#record.bootCounter\n' +
      '    const bytes = encodeIdentity(record)\n' +
      '    if (booting || record.clusterId !== null) this.#disk.replace(this.#path, bytes)\n',
    breaks: 'FOUNDING F3',
  },
  // --- one state ------------------------------------------------------------------------------------------------
  {
    name: 'a hash is sampled at the end of a batch',
    file: 'node/applied-state.ts',
    find: 'const noted = { index: entry.index, hash: this.hash() }',
    replace:
      'const now = (): string => this.hash()\n      const noted = { index: entry.index, get hash() { return now() } }',
    breaks: 'HAZARDS, time and hash',
  },
  {
    name: 'a state is judged odd without a quorum',
    file: 'node/divergence.ts',
    find: "voteResult(quorum, votes) !== 'won'",
    replace: "voteResult(quorum, votes) === 'lost'",
    breaks: 'HAZARDS, time and hash',
  },
  {
    name: 'nobody is told that its state is odd',
    file: 'node/divergence.ts',
    find: '        else say(to, verdict.agreed)\n',
    replace: '',
    breaks: 'rule 13',
  },
  // --- snapshots ------------------------------------------------------------------------------------------------
  {
    name: 'an installed snapshot is acknowledged before its base is durable',
    file: 'node/raft/log.ts',
    find: '    this.#stableIndex = Math.min(this.#stableIndex, id.index - 1)\n',
    replace: '    this.#stableIndex = id.index\n',
    breaks: 'rule 1',
  },
  {
    name: 'the log on disk is compacted beyond the snapshot',
    file: 'node/snapshot-driver.ts',
    find: '    this.#parts.logStorage.compact(to)\n',
    replace: '    this.#parts.logStorage.compact(log.stableIndex)\n',
    breaks: 'paper 7',
  },
  {
    name: 'a snapshot is whole before the log of its node is durable up to it',
    file: 'node/snapshot-taking.ts',
    find: 'if (taking.index > this.#parts.durableIndex()) return',
    replace: 'if (taking.index < 0) return',
    breaks: 'HAZARDS, saves',
  },
  {
    name: 'sessions are left out of the snapshot',
    file: 'node/applied-state.ts',
    find: 'piecesOf(meta, [sessions.pieces(), machine.pieces(), keys.pieces()])',
    replace: 'piecesOf({ ...meta, sessions: 0 }, [[], machine.pieces(), keys.pieces()])',
    breaks: 'rule 10',
  },
  {
    name: 'a snapshot takes every session for one in use',
    file: 'node/sessions.ts',
    find: '      record.u8(session.used ? 1 : 0)\n',
    replace: '      record.u8(1)\n',
    breaks: 'rule 11',
    check: 'state-hash',
  },
  {
    name: 'the snapshot of before goes when another is loaded, not when its base is durable',
    file: 'node/snapshot-driver.ts',
    find: '    this.#installing = info\n',
    replace: '    this.#installing = info\n    this.#parts.storage.keepOnly([info])\n',
    breaks: 'paper 7',
    preset: 'hell',
  },
  {
    name: 'a node that closes lets go of the snapshot in force',
    file: 'node/snapshot-driver.ts',
    find: '    if (this.#isClosed || this.#installing !== null) return\n',
    replace: '    if (this.#installing !== null) return\n',
    breaks: 'paper 7',
    preset: 'hell',
  },
  {
    name: 'a restart takes the newest snapshot, whether its log knows it or not',
    file: 'node/snapshot-driver.ts',
    find: '    const info = snapshotFor(logStorage.recovered, storage.found, clusterId)\n',
    replace: '    const info = storage.newest\n',
    breaks: 'paper 7',
    preset: 'hell',
  },
]
