/** Planted bugs of membership: what a change of the members must never do (docs/membership.md). */
import type { PlantedBug } from './planted-bugs.ts'

export const MEMBER_BUGS: readonly PlantedBug[] = [
  {
    name: 'in a joint configuration the new half alone commits',
    file: 'node/raft/quorum.ts',
    find: '  return Math.min(incoming, halfAgreed(quorum.outgoing, indexOf))\n',
    replace: '  return incoming\n',
    breaks: 'rule 5',
  },
  {
    name: 'in a joint configuration the new half alone elects',
    file: 'node/raft/tracker.ts',
    find: '    return voteResult(this.#quorum, (voter) => votes.get(voter))\n',
    replace:
      '    return voteResult({ ...this.#quorum, outgoing: [] }, (voter) => votes.get(voter))\n',
    breaks: 'rule 5',
  },
  {
    name: 'in a joint configuration the new half alone confirms reads',
    file: 'node/raft/tracker.ts',
    find: '    return this.#holds((peer) => (this.progress.get(peer)?.readRound ?? 0) >= readRound)\n',
    replace:
      '    const echoed = (peer: PeerId) => (this.progress.get(peer)?.readRound ?? 0) >= readRound\n' +
      '    const half = { incoming: this.#quorum.incoming, outgoing: [] }\n' +
      "    return voteResult(half, (peer) => peer === this.self || echoed(peer)) === 'won'\n",
    breaks: 'rule 5',
  },
  {
    name: 'a configuration is in force only when it is committed',
    file: 'node/raft/log.ts',
    find: '    return this.#configurations.at(-1) ?? null\n',
    replace: '    return this.configurationAt(this.#commitIndex)\n',
    breaks: 'rule 5',
  },
  {
    name: 'truncation leaves the configuration in force',
    file: 'node/raft/raft.ts',
    find: '    if (after !== before) this.#tracker.use(after?.record.configuration ?? null)\n',
    replace:
      '    const isNewer = (after?.index ?? 0) > (before?.index ?? 0)\n' +
      '    if (isNewer) this.#tracker.use(after?.record.configuration ?? null)\n',
    breaks: 'rule 5',
  },
  {
    name: 'a second change begins while one is not committed',
    file: 'node/raft/reconfiguration.ts',
    find: '      present.index > log.commitIndex ||\n',
    replace: '',
    breaks: 'rule 5',
  },
  {
    name: 'the joint configuration is left before it is committed',
    file: 'node/raft/reconfiguration.ts',
    find: '    if (!mayAppend || present === null || present.index > log.commitIndex) return\n',
    replace: '    if (!mayAppend || present === null) return\n',
    breaks: 'paper 6',
  },
  {
    name: 'a learner counts as a voter',
    file: 'node/raft/tracker.ts',
    find: '      incoming: peersOf(this.#configuration.voters),\n',
    replace:
      '      incoming: peersOf([...this.#configuration.voters, ...this.#configuration.learners]),\n',
    breaks: 'HAZARDS, reads',
  },
  {
    name: 'a leader that leaves counts itself',
    file: 'node/raft/tracker.ts',
    find: '    return agreedIndex(this.#quorum, (voter) =>\n',
    replace:
      '    const { incoming, outgoing } = this.#quorum\n' +
      '    const all = [...new Set([...incoming, this.self])]\n' +
      '    return agreedIndex({ incoming: all, outgoing }, (voter) =>\n',
    breaks: 'rule 6',
  },
  {
    name: 'a removed node is not told',
    file: 'node/admission.ts',
    find: "    this.#parts.transport.send(hello, [{ type: 'removed' }])\n",
    replace: '    this.#parts.transport.links.length + hello.name.length\n',
    breaks: 'rule 6',
    check: 'kind',
  },
  {
    name: 'the id of a removed member is given again',
    file: 'node/raft/change.ts',
    find:
      '  const memberId = draft.nextMemberId\n  draft.nextMemberId++\n' +
      '  draft.members.push({ memberId, nodeKey, storageId, name, urls })\n',
    replace:
      '  let memberId = 1\n' +
      '  while (draft.members.some((known) => known.memberId === memberId)) memberId++\n' +
      '  draft.nextMemberId = Math.max(draft.nextMemberId, memberId + 1)\n' +
      '  draft.members.push({ memberId, nodeKey, storageId, name, urls })\n' +
      '  draft.members.sort((a, b) => a.memberId - b.memberId)\n',
    breaks: 'rule 14',
  },
  {
    name: 'a copy of a node is refused in silence',
    file: 'node/refusal-alarms.ts',
    find: "  clone: 'clone',\n",
    replace: '',
    breaks: 'HAZARDS, two nodes with one key',
    check: 'copy',
  },
  {
    name: 'a start does not count itself',
    file: 'node/storage/identity.ts',
    find: 'bootCounter: this.#record.bootCounter + 1 }',
    replace: 'bootCounter: Math.max(this.#record.bootCounter, 1) }',
    breaks: 'HAZARDS, restored VM image',
  },
]
