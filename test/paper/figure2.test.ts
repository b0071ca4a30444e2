/**
 * Figure 2 of the extended Raft paper, line by line, as far as the tests of sections 5.1 to 5.5 do not quote it already. What it says
 * of leaders is in figure2-leaders.test.ts.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { RaftMessage } from '../../node/raft/messages.ts'
import type { Role, Term } from '../../node/raft/types.ts'
import { append, entriesOf, said, saidWhenSaved } from '../support/paper.ts'
import { Cluster, type ClusterNode, termsOf } from '../support/raft-cluster.ts'

/** One of every kind, as a replica of `term` would send it. */
function everyMessage(term: Term): RaftMessage[] {
  const last = { lastIndex: 99, lastTerm: 99 }
  const refused = { accepted: false, rejectedIndex: 1, hintIndex: 0, hintTerm: 0 } as const
  return [
    { type: 'requestVote', term, ...last, transfer: true },
    { type: 'voteResponse', term, granted: false },
    { type: 'preVoteResponse', term, askedTerm: term, granted: false, leaderAlive: false },
    append(term, [1, 1], []),
    { type: 'appendResponse', term, accepted: true, matchIndex: 1 },
    { type: 'appendResponse', term, ...refused },
    { type: 'heartbeat', term, commit: 0, readRound: 0 },
    { type: 'heartbeatResponse', term, readRound: 0 },
    { type: 'preVote', term, ...last },
    { type: 'timeoutNow', term },
    { type: 'resigned', term },
  ]
}

/** n1 of three in the given role, in term 2 if it stands or leads, and nothing of its own on the way any more. */
function inRole(role: Role): { cluster: Cluster; node: ClusterNode } {
  const cluster = new Cluster({ size: 3 })
  const waitsFor = role === 'preCandidate' ? 'preVoteResponse' : 'voteResponse'
  if (role === 'leader') cluster.lead('n1')
  else if (role !== 'follower') {
    cluster.hold = ({ message: { type } }) => type === waitsFor
    cluster.campaign('n1')
    cluster.settle()
  }
  const node = cluster.node('n1')
  assert.is(node.raft.role, role)
  cluster.held = []
  cluster.hold = null
  return { cluster, node }
}

const ROLES: readonly Role[] = ['follower', 'preCandidate', 'candidate', 'leader']

const state = suite('figure 2, state')

state(
  '"latest term server has seen (initialized to 0 on first boot, increases monotonically)"; "(or null if none)"; "(initialized to 0, increases monotonically)"',
  () => {
    const cluster = new Cluster({ size: 3 })
    const node = cluster.node('n1')
    node.disk = { hardState: null, entries: [] }
    cluster.restart(node)
    const { term, vote, log } = node.raft
    assert.equal([term, vote, log.commitIndex, log.appliedIndex], [0, null, 0, 0])
    assert.is(log.firstIndex, 1, '"first index is 1"')
    // A node that belongs to nothing yet waits and does not campaign.
    cluster.cut.add('n2>n1').add('n3>n1')
    cluster.tick(100)
    assert.equal([node.raft.role, node.raft.term], ['follower', 0])
  },
)

state('"latest term server has seen": nothing old and no restart takes a term back', () => {
  for (const role of ROLES) {
    const { cluster, node } = inRole(role)
    node.raft.step(cluster.node('n2').peer, { type: 'voteResponse', term: 9, granted: false })
    for (const message of [...everyMessage(3), ...everyMessage(8)]) {
      node.raft.step(cluster.node('n3').peer, message)
      saidWhenSaved(cluster, node)
      assert.is(node.raft.term, 9, `${role}, then ${message.type}`)
    }
    cluster.crash(node)
    cluster.restart(node)
    assert.is(node.raft.term, 9)
  }
})

state(
  '"index of highest log entry known to be committed ... increases monotonically": no late message takes it back',
  () => {
    const cluster = new Cluster({ size: 3 })
    const node = cluster.node('n1')
    const from = cluster.node('n2').peer
    node.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 9), 8))
    assert.is(node.raft.log.commitIndex, 8)
    for (const commit of [0, 3, 7, 8]) {
      node.raft.step(from, append(2, [2, 9], [], commit))
      node.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 4), commit))
      node.raft.step(from, { type: 'heartbeat', term: 2, commit, readRound: 0 })
      assert.is(node.raft.log.commitIndex, 8, `after one of ${commit}`)
    }
  },
)

const receivers = suite('figure 2, receivers')

receivers(
  'AppendEntries 3 and 4: "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and all that follow it"; "Append any new entries not already in the log"',
  () => {
    const own = [1, 1, 2, 2, 3]
    for (const [prev, entries, after] of [
      // Late, and shorter than what is there: nothing in it conflicts, so nothing is deleted.
      [[1, 2], entriesOf(2, 3, 3), own],
      [[1, 1], [...entriesOf(1, 2, 2), ...entriesOf(2, 3, 3)], own],
      [[2, 4], [], own],
      [[3, 5], entriesOf(4, 6, 7), [...own, 4, 4]],
      [
        [2, 4],
        [...entriesOf(3, 5, 5), ...entriesOf(4, 6, 6)],
        [...own, 4],
      ],
      [
        [1, 2],
        [...entriesOf(2, 3, 3), ...entriesOf(4, 4, 4)],
        [1, 1, 2, 4],
      ],
      [[1, 2], entriesOf(5, 3, 3), [1, 1, 5]],
      [[1, 1], entriesOf(5, 2, 2), [1, 5]],
    ] as const) {
      const cluster = new Cluster({ size: 3, logs: { n1: own } })
      const node = cluster.node('n1')
      const before = node.disk.entries
      node.raft.step(cluster.node('n2').peer, append(6, prev, entries))
      saidWhenSaved(cluster, node)
      assert.equal(termsOf(node), after, `${entries.length} behind ${prev}`)
      assert.equal(
        node.disk.entries.map(({ term }) => term),
        after,
        'and on disk',
      )
      const changed = own.findIndex((term, at) => term !== (after as readonly Term[])[at])
      const kept = before.slice(0, changed === -1 ? own.length : changed)
      for (const entry of kept)
        assert.is(node.raft.log.entryAt(entry.index), entry, 'kept as it was')
    }
  },
)

receivers(
  'RequestVote 2: "If votedFor is null or candidateId, and candidate\'s log is at least as up-to-date as receiver\'s log, grant vote"',
  () => {
    for (const votedFor of [null, 'n2', 'n3']) {
      for (const [lastTerm, lastIndex] of [
        [2, 2],
        [2, 3],
        [2, 9],
        [3, 1],
        [1, 9],
      ] as const) {
        const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2] } })
        const voter = cluster.node('n1')
        const vote = votedFor === null ? null : cluster.node(votedFor).peer
        voter.disk.hardState = { term: 5, vote, commit: 1 }
        cluster.restart(voter)
        const ask = { type: 'requestVote', term: 5, lastTerm, lastIndex, transfer: false } as const
        voter.raft.step(cluster.node('n2').peer, ask)
        const answers = saidWhenSaved(cluster, voter)
        const isUpToDate = lastTerm > 2 || (lastTerm === 2 && lastIndex >= 3)
        const granted = votedFor !== 'n3' && isUpToDate
        const what = `voted for ${votedFor}, asked with ${lastTerm}/${lastIndex}`
        assert.equal(
          answers,
          [{ to: 'n2', message: { type: 'voteResponse', term: 5, granted } }],
          what,
        )
        assert.is(voter.disk.hardState?.vote, granted ? cluster.node('n2').peer : vote, what)
      }
    }
  },
)

receivers(
  'RequestVote 1: "Reply false if term < currentTerm", with a vote to give and without',
  () => {
    for (const votedFor of [null, 'n2', 'n3']) {
      for (const term of [1, 4]) {
        const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2] } })
        const voter = cluster.node('n1')
        const vote = votedFor === null ? null : cluster.node(votedFor).peer
        voter.disk.hardState = { term: 5, vote, commit: 1 }
        cluster.restart(voter)
        // Its log was long enough then; what it is in the present term nobody has said.
        const log = { lastTerm: 2, lastIndex: 9 }
        const ask = { type: 'requestVote', term, ...log, transfer: false } as const
        voter.raft.step(cluster.node('n2').peer, ask)
        const answer = { type: 'voteResponse', term: 5, granted: false } as const
        assert.equal(saidWhenSaved(cluster, voter), [{ to: 'n2', message: answer }])
        assert.equal([voter.raft.vote, voter.disk.hardState?.vote], [vote, vote])
      }
    }
  },
)

const all = suite('figure 2, all servers')

all(
  '"If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to state machine"',
  () => {
    const cluster = new Cluster({ size: 3, options: { applyCountMax: 3 } })
    const node = cluster.node('n1')
    const from = cluster.node('n2').peer
    node.raft.step(from, append(2, [1, 1], entriesOf(2, 2, 12), 8))
    const portions: number[][] = []
    for (let i = 0; i < 5; i++) {
      node.applied = []
      saidWhenSaved(cluster, node)
      portions.push(node.applied.map(({ index }) => index))
      assert.ok(node.raft.log.appliedIndex <= node.raft.log.commitIndex)
    }
    assert.equal(portions.flat(), [1, 2, 3, 4, 5, 6, 7, 8], 'each once, in order, no further')
    node.applied = []
    node.raft.step(from, { type: 'heartbeat', term: 2, commit: 10, readRound: 0 })
    cluster.drain(node)
    assert.equal(
      node.applied.map(({ index }) => index),
      [9, 10],
    )
  },
)

all(
  '"If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower"',
  () => {
    // A pre-vote claims no term (thesis 9.6); the other two are hints of a leader that is not followed here.
    const claimsNothing = ['preVote', 'timeoutNow', 'resigned']
    for (const role of ROLES) {
      for (const message of everyMessage(9)) {
        const { cluster, node } = inRole(role)
        const { term } = node.raft
        node.raft.step(cluster.node('n2').peer, message)
        const isClaim = !claimsNothing.includes(message.type)
        const what = `${role} on ${message.type}`
        // Of two that ask for pre-votes the worse one stands back (HAZARDS, rule b).
        const yields = role === 'preCandidate' && message.type === 'preVote'
        assert.equal(
          [node.raft.term, node.raft.role],
          isClaim ? [9, 'follower'] : [term, yields ? 'follower' : role],
          what,
        )
        if (isClaim && message.type !== 'requestVote') assert.is(node.raft.vote, null, what)
        saidWhenSaved(cluster, node)
        assert.is(node.disk.hardState?.term, isClaim ? 9 : term, what)
      }
    }
    // The leader that is followed was elected again, without this node's vote.
    const { cluster, node } = inRole('follower')
    for (const term of [2, 3]) {
      node.raft.step(cluster.node('n2').peer, { type: 'heartbeat', term, commit: 1, readRound: 0 })
      assert.is(node.raft.term, term)
    }
  },
)

const followers = suite('figure 2, followers')

followers(
  '"Respond to RPCs from candidates and leaders"; 5.1: "Followers are passive: they issue no requests on their own but simply respond to requests from leaders and candidates."',
  () => {
    const cluster = new Cluster({ size: 3, learners: 1 })
    for (const name of ['n1', 'n4']) {
      const node = cluster.node(name)
      for (let i = 0; i < 9; i++) {
        node.raft.tick()
        assert.equal(saidWhenSaved(cluster, node), [])
      }
      // TimeoutNow is the one message that makes a follower speak up (thesis 3.10).
      for (const message of everyMessage(9).filter(({ type }) => type !== 'timeoutNow')) {
        const isRequest = ['requestVote', 'append', 'heartbeat', 'preVote'].includes(message.type)
        node.raft.step(cluster.node('n2').peer, message)
        assert.equal(
          saidWhenSaved(cluster, node).map(({ to }) => to),
          isRequest ? ['n2'] : [],
          `${name} on ${message.type}`,
        )
      }
      assert.is(node.raft.role, 'follower')
    }
  },
)

followers(
  '"If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote to candidate: convert to candidate"',
  () => {
    const ask = { type: 'requestVote', lastIndex: 1, lastTerm: 1, transfer: false } as const
    const beat = { type: 'heartbeat', commit: 1, readRound: 0 } as const
    const events: readonly [what: string, from: string, message: RaftMessage, resets: boolean][] = [
      ['a heartbeat', 'n2', { ...beat, term: 2 }, true],
      ['an Append without entries', 'n2', append(2, [1, 1], []), true],
      ['an Append that does not match', 'n2', append(2, [7, 7], []), true],
      ['a heartbeat of an old leader', 'n3', { ...beat, term: 1 }, false],
      ['an Append of an old leader', 'n3', append(1, [1, 1], []), false],
      ['a vote refused', 'n3', { ...ask, term: 2 }, false],
      ['a pre-vote', 'n3', { type: 'preVote', term: 2, lastIndex: 1, lastTerm: 1 }, false],
      ['an answer', 'n3', { type: 'heartbeatResponse', term: 2, readRound: 0 }, false],
    ]
    for (let seed = 1; seed <= 20; seed++) {
      // It follows n2 in term 2; the event comes just before the least timeout.
      const campaignsAt = (from: string, message: RaftMessage | null): number => {
        const cluster = new Cluster({ size: 3, seed })
        const node = cluster.node('n1')
        node.raft.step(cluster.node('n2').peer, { ...beat, term: 2 })
        for (let ticks = 1; ; ticks++) {
          node.raft.tick()
          if (node.raft.role !== 'follower') return ticks
          if (ticks === 9 && message !== null) node.raft.step(cluster.node(from).peer, message)
        }
      }
      const undisturbed = campaignsAt('n2', null)
      assert.ok(undisturbed >= 10 && undisturbed < 20)
      for (const [what, from, message, resets] of events) {
        assert.is(campaignsAt(from, message), undisturbed + (resets ? 9 : 0), what)
      }
      // A vote is given only where no leader is known.
      const cluster = new Cluster({ size: 3, seed })
      const node = cluster.node('n1')
      for (let i = 0; i < 9; i++) node.raft.tick()
      node.raft.step(cluster.node('n3').peer, { ...ask, term: 1 })
      assert.is(node.raft.vote, cluster.node('n3').peer)
      for (let i = 0; i < 9; i++) node.raft.tick()
      assert.is(node.raft.role, 'follower', 'granting a vote')
    }
  },
)

const candidates = suite('figure 2, candidates')

candidates(
  '"On conversion to candidate, start election: Increment currentTerm, Vote for self, Reset election timer, Send RequestVote RPCs to all other servers"; "If election timeout elapses: start new election"; 5.2: "Each candidate restarts its randomized election timeout at the start of an election, and it waits for that timeout to elapse before starting the next election"',
  () => {
    const cluster = new Cluster({ size: 3, logs: { n1: [1, 2, 2] } })
    cluster.hold = ({ message: { type } }) => type === 'preVoteResponse' || type === 'requestVote'
    const node = cluster.campaign('n1')
    const waits = new Set<number>()
    for (let term = 3; term < 30; term++) {
      cluster.settle()
      // The pre-vote takes a while; the election's own timeout begins when it is won.
      for (let i = 0; i < 5; i++) node.raft.tick()
      for (const flight of cluster.held) {
        if (flight.message.type === 'preVoteResponse') node.raft.step(flight.from, flight.message)
      }
      cluster.held = []
      assert.equal([node.raft.role, node.raft.term, node.raft.vote], ['candidate', term, node.peer])
      const last = { lastIndex: 3, lastTerm: 2 }
      assert.equal(
        said(cluster, node),
        ['n2', 'n3'].map((to) => ({
          to,
          message: { type: 'requestVote', term, ...last, transfer: false },
        })),
      )
      cluster.finishSave(node)
      let ticks = 0
      while (node.raft.role === 'candidate' && ticks < 100) {
        node.raft.tick()
        ticks++
      }
      assert.is(node.raft.role, 'preCandidate', 'a new election')
      assert.ok(ticks >= 10 && ticks < 20, `${ticks} ticks`)
      waits.add(ticks)
    }
    assert.ok(waits.size >= 5, `drawn anew each time: ${[...waits]}`)
  },
)

candidates(
  '"If AppendEntries RPC received from new leader: convert to follower": so does one that only asks for pre-votes, in its own term',
  () => {
    for (const type of ['append', 'heartbeat'] as const) {
      const { cluster, node } = inRole('preCandidate')
      const { peer } = cluster.node('n3')
      const beat = { type: 'heartbeat', term: 1, commit: 1, readRound: 0 } as const
      node.raft.step(peer, type === 'append' ? append(1, [1, 1], []) : beat)
      assert.equal([node.raft.role, node.raft.leader, node.raft.term], ['follower', peer, 1])
    }
  },
)

state.run()
receivers.run()
all.run()
followers.run()
candidates.run()
