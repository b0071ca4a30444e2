/** The autopilot at work in whole replicas: what it sees, what becomes of it, and when it must hold still. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeKvOperation } from '../../client/protocol.ts'
import type { AutopilotDefaults } from '../../node/autopilot-driver.ts'
import type { Member } from '../../node/raft/types.ts'
import { configurationOf } from '../support/raft-cluster.ts'
import { openSession, ReplicaCluster, type ReplicaNode } from '../support/raft-replicas.ts'

const driver = suite('the autopilot in a cluster')

type Identity = Omit<Member, 'memberId'>

/** 100 ticks. */
const REPLACE_AFTER_MS = 1000
const REPLACE_AFTER_TICKS = 100
/** A view, its answer, and the next look. */
const ROUNDS_TICKS = 30

class Lab {
  readonly cluster: ReplicaCluster
  readonly identities: Identity[] = []

  constructor(size: number, defaults: Partial<AutopilotDefaults> = {}) {
    const autopilot = {
      maxVoters: 5,
      replaceAfterMs: REPLACE_AFTER_MS,
      admit: 'auto' as const,
      ...defaults,
    }
    this.cluster = new ReplicaCluster({ size, options: { autopilot } })
    for (const { memberId: _, ...identity } of configurationOf(size).members) {
      this.#know(identity)
    }
    this.cluster.elect()
  }

  /** A new node with a link to everybody. */
  join(name: string, nodeKey = digits(name, 64)): ReplicaNode {
    const identity = { nodeKey, storageId: digits(name, 32), name, urls: [] }
    const node = this.cluster.join(identity)
    this.#know(identity)
    return node
  }

  get leader(): ReplicaNode {
    return this.cluster.elect()
  }

  voters(): string[] {
    return this.#names('voters')
  }

  learners(): string[] {
    return this.#names('learners')
  }

  reasons(): string[] {
    return this.cluster.nodes.flatMap(({ events }) =>
      events.flatMap(({ event, fields }) =>
        event === 'autopilot.decided' ? [String(fields.reason)] : [],
      ),
    )
  }

  /** Ticks until it holds. */
  until(what: string, holds: () => boolean, ticksMax = 600): void {
    for (let i = 0; i < ticksMax; i++) {
      if (holds()) return
      this.cluster.tick()
    }
    throw new Error(`not in ${ticksMax} ticks: ${what}; ${this.voters()} | ${this.learners()}`)
  }

  #know(identity: Identity): void {
    for (const other of this.identities) this.cluster.link(identity, other)
    this.identities.push(identity)
  }

  #names(part: 'voters' | 'learners'): string[] {
    const configuration = this.leader.replica.committed?.configuration
    const ids = configuration?.[part] ?? []
    const members = configuration?.members ?? []
    return ids.map((id) => members.find(({ memberId }) => memberId === id)?.name ?? '?')
  }
}

function digits(text: string, count: number): string {
  return [...text]
    .map((char) => char.charCodeAt(0).toString(16))
    .join('')
    .padEnd(count, '0')
}

driver('three nodes become nine: five voters and four stand-bys', () => {
  const lab = new Lab(3)
  for (const name of ['d', 'e', 'f', 'g', 'h', 'i']) lab.join(name)
  lab.until('nine members', () => lab.learners().length === 4)
  assert.is(lab.voters().length, 5)
  assert.equal(lab.leader.alarms, [])
  // Every step had a reason, and was taken once.
  const reasons = lab.reasons()
  assert.is(reasons.length, 2)
  assert.match(reasons[0] ?? '', /^admitted: 64000000, 65000000/)
  assert.match(reasons[1] ?? '', /^5 voters bear more losses: members 4, 5 may vote$/)
  const last = lab.leader.replica.committed
  assert.is(last?.reason, reasons[1])
  lab.cluster.tick(300)
  assert.is(lab.reasons().length, 2, 'then there is nothing to do')
})

driver('two voters are gone for good: stand-bys take their votes, one after the other', () => {
  const lab = new Lab(3)
  for (const name of ['d', 'e', 'f', 'g']) lab.join(name)
  lab.until('five voters', () => lab.voters().length === 5)
  const gone = lab
    .voters()
    .filter((name) => name !== lab.leader.name)
    .slice(0, 2)
  for (const name of gone) lab.cluster.crash(lab.cluster.node(name))
  lab.cluster.tick(REPLACE_AFTER_TICKS / 2)
  assert.equal(
    lab.voters().filter((name) => gone.includes(name)),
    gone,
    'not before its time',
  )
  lab.until('others vote', () => !lab.voters().some((name) => gone.includes(name)))
  assert.is(lab.voters().length, 5)
  // The two that are gone are still listed: nothing is removed on time alone.
  assert.equal(lab.learners().sort(), [...gone].sort())
})

driver('a voter that others reach keeps its vote, and an alarm says why', () => {
  const lab = new Lab(3)
  lab.join('d')
  lab.until('a stand-by', () => lab.learners().length === 1)
  const { leader } = lab
  const victim = lab.voters().find((name) => name !== leader.name) ?? ''
  lab.cluster.cut.add(`${leader.name}>${victim}`).add(`${victim}>${leader.name}`)
  leader.replica.linkClosed(lab.cluster.node(victim).peer)
  lab.cluster.tick(2 * REPLACE_AFTER_TICKS + ROUNDS_TICKS)
  assert.is(lab.leader, leader, 'it still leads')
  assert.ok(lab.voters().includes(victim))
  assert.match(leader.alarms.map(({ detail }) => detail).join(), /other members still reach it/)
  // The others lose it too.
  for (const { name, replica } of lab.cluster.nodes) {
    if (name !== victim) replica.linkClosed(lab.cluster.node(victim).peer)
  }
  lab.cluster.isolate(victim)
  lab.until('its vote goes to another', () => !lab.voters().includes(victim))
  assert.is(lab.voters().length, 3)
  lab.cluster.tick(ROUNDS_TICKS)
  assert.equal(leader.alarms, [])
})

driver('a voter that this leader has a link to keeps its vote, though it says nothing', () => {
  const lab = new Lab(3)
  lab.join('d')
  lab.until('a stand-by', () => lab.learners().length === 1)
  const { leader } = lab
  const victim = lab.cluster.node(lab.voters().find((name) => name !== leader.name) ?? '')
  lab.cluster.isolate(victim.name)
  for (const node of lab.cluster.nodes) {
    if (node !== leader && node !== victim) node.replica.linkClosed(victim.peer)
  }
  lab.cluster.tick(2 * REPLACE_AFTER_TICKS)
  assert.ok(lab.voters().includes(victim.name))
  leader.replica.linkClosed(victim.peer)
  lab.until('the link closes', () => !lab.voters().includes(victim.name), ROUNDS_TICKS)
})

driver('as long as a member does not say whom it reaches, nothing is taken from anybody', () => {
  const lab = new Lab(3)
  lab.join('d')
  lab.until('a stand-by', () => lab.learners().length === 1)
  const victim = lab.voters().find((name) => name !== lab.leader.name) ?? ''
  lab.cluster.hold = ({ frame }) => frame.type === 'reach'
  lab.cluster.crash(lab.cluster.node(victim))
  lab.cluster.tick(2 * REPLACE_AFTER_TICKS)
  assert.ok(lab.voters().includes(victim))
  lab.cluster.hold = null
  lab.until('they say it', () => !lab.voters().includes(victim), ROUNDS_TICKS)
})

driver('a new leader waits as long as the one before had to', () => {
  const lab = new Lab(5)
  lab.join('f')
  lab.until('a stand-by', () => lab.learners().length === 1)
  const [victim = ''] = lab.voters().filter((name) => name !== lab.leader.name)
  lab.cluster.crash(lab.cluster.node(victim))
  lab.cluster.tick(REPLACE_AFTER_TICKS - 20)
  const old = lab.leader
  assert.ok(old.replica.handOver())
  lab.until('another leads', () => lab.leader !== old)
  lab.cluster.tick(REPLACE_AFTER_TICKS - 20)
  assert.ok(lab.voters().includes(victim))
  lab.until('its time is over', () => !lab.voters().includes(victim), 20 + ROUNDS_TICKS)
})

driver('a machine back with a new disk takes its own place, and its old self is gone', () => {
  const lab = new Lab(3)
  const victim = lab.voters().find((name) => name !== lab.leader.name) ?? ''
  const before = lab.identities.find(({ name }) => name === victim)
  const node = lab.cluster.node(victim)
  lab.cluster.crash(node)
  lab.cluster.nodes.splice(lab.cluster.nodes.indexOf(node), 1)
  lab.join('new', before?.nodeKey)
  lab.until('it votes', () => lab.voters().includes('new'), REPLACE_AFTER_TICKS)
  assert.is(lab.voters().length, 3)
  assert.equal(lab.learners(), [])
  assert.ok(lab.leader.replica.committed?.removed?.includes(before?.storageId ?? ''))
  assert.match(lab.reasons().at(-1) ?? '', /lost its disk: member 4 votes in its place/)
})

driver('with --admit approve nobody comes in by itself, and an alarm tells who waits', () => {
  const lab = new Lab(3, { admit: 'approve' })
  lab.join('d')
  lab.cluster.tick(200)
  assert.equal(lab.learners(), [])
  assert.equal(lab.leader.alarms, [
    {
      kind: 'applicants-waiting',
      detail: '64000000: let them in with: raft-p2p members add <key>',
    },
  ])
  const old = lab.leader
  lab.cluster.isolate(old.name)
  lab.until('another leads', () => lab.cluster.leader !== old && old.replica.raft.role !== 'leader')
  assert.equal(old.alarms, [], 'whoever does not lead any more is not asked')
})

driver("a node whose state is not the majority's gets no vote", () => {
  const lab = new Lab(3)
  const d = lab.join('d')
  lab.until('a stand-by', () => lab.learners().length === 1)
  const key = new Uint8Array(1)
  const condition = { type: 'none' } as const
  d.machine.apply(encodeKvOperation({ type: 'put', key, value: key, condition }), { index: 1 })
  let requestId = 0
  lab.until('the leader has noticed', () => {
    lab.leader.replica.request(++requestId, openSession())
    return lab.leader.replica.comparison.odd.size === 1
  })
  lab.join('e')
  lab.until('two stand-bys', () => lab.learners().length === 2)
  lab.cluster.tick(300)
  assert.is(lab.voters().length, 3)
  lab.cluster.crash(d)
  lab.cluster.restart(d)
  lab.until('five voters', () => lab.voters().length === 5)
})

driver.run()
