/**
 * The world of one trace: a few nodes on one thread, the messages between them, their disks. Nothing moves unless a command moves
 * it, nothing is drawn by chance, and whatever happens is written down in order. A node has its turn after every single input:
 * it hands out what it wants done, its messages are in flight from then on, and its save stays in flight until somebody ends it.
 */
import type { PeerFrame } from '../../node/peer-frame.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import type { SnapshotAt } from '../../node/raft/snapshots.ts'
import type { PeerId, Term } from '../../node/raft/types.ts'
import { textOf, writeTo } from '../support/raft-cluster.ts'
import type { Turn } from './actors.ts'
import { TraceError } from './arguments.ts'
import {
  aloneLine,
  clientCommandText,
  entriesText,
  frameText,
  frameType,
  hardStateText,
  idText,
  lostLine,
  receivedLine,
  saveText,
  sentLine,
  type Words,
} from './format.ts'
import { changedCommit, changedProgress, changedState, changedWindows, see } from './observe.ts'
import { Safety } from './safety.ts'
import { WorldNode, type WorldOptions } from './world-node.ts'

export interface Flight {
  readonly from: WorldNode
  readonly to: WorldNode
  readonly frame: PeerFrame
}

/** Chooses messages in flight. Empty lists choose everything. */
export interface Choice {
  /** `n1>n2`, with `*` for any node. */
  readonly links: readonly string[]
  readonly types: readonly string[]
  /** Only the one at this position, from 1, among those chosen. */
  readonly nth: number | null
}

/** A trace in which messages breed messages for ever is a mistake. */
const MOVES_MAX = 5000

export class Environment implements Words {
  #options: WorldOptions | null = null
  readonly #nodes: WorldNode[] = []
  #flights: Flight[] = []
  #lines: string[] = []
  readonly #safety = new Safety()
  /** Every snapshot there ever was, by checksum: whoever was offered one can fetch it. */
  readonly #snapshots = new Map<string, SnapshotAt>()
  /** Links that lose everything, as `n1>n2`. */
  readonly cut = new Set<string>()
  /** What `stabilise` leaves in flight. */
  holds: Choice[] = []
  /** Nodes whose saves `stabilise` does not end. */
  readonly slowDisks = new Set<string>()
  /** Nodes whose saves find no room. */
  readonly fullDisks = new Set<string>()
  /** Types of frames that are not written down (they travel all the same), and `saves`. */
  readonly hidden = new Set<string>()
  /** Changes of the configuration asked for so far; the next one's ticket is one more. */
  changeCount = 0
  /** Only deeds are written down, no traffic. */
  quiet = false
  /** The wake-ups that nodes ask for are written down. */
  showsWakes = false

  // --- words ------------------------------------------------------------------------------------------------------

  nameOf(peer: PeerId): string {
    return this.#nodes.find((node) => node.peer === peer)?.name ?? peer.slice(0, 8)
  }

  commandText(payload: Uint8Array): string {
    if (this.#options?.kind === 'replica') return clientCommandText(payload)
    const text = textOf(payload)
    return /^\d+\/\d+$/.test(text) ? text : `"${text}"`
  }

  // --- the world ----------------------------------------------------------------------------------------------------

  create(options: WorldOptions): void {
    if (this.#options !== null) throw new TraceError('there is a cluster already')
    this.#options = options
    for (let id = 1; id <= options.size; id++) {
      this.#nodes.push(new WorldNode(id, options, this))
    }
    // What the disks know to be committed is applied before anything happens.
    this.silently(() => {
      for (const node of this.#nodes) this.act(node, () => undefined)
    })
  }

  get nodes(): readonly WorldNode[] {
    if (this.#nodes.length === 0) throw new TraceError('there is no cluster yet')
    return this.#nodes
  }

  node(name: string | undefined): WorldNode {
    const found = this.nodes.find((node) => node.name === name)
    if (found === undefined) throw new TraceError(`no such node: ${name ?? 'none was named'}`)
    return found
  }

  running(name: string | undefined): WorldNode {
    const node = this.node(name)
    if (!node.up) throw new TraceError(`${node.name} is down`)
    return node
  }

  // --- what is written down -----------------------------------------------------------------------------------------

  /** What was written since the last call. */
  take(): string[] {
    const lines = this.#lines
    this.#lines = []
    return lines
  }

  get writtenCount(): number {
    return this.#lines.length
  }

  write(line: string): void {
    this.#lines.push(line)
  }

  silently(act: () => void): void {
    const before = this.#lines
    this.#lines = []
    try {
      act()
    } finally {
      this.#lines = before
    }
  }

  #deed(node: WorldNode, text: string): void {
    this.write(aloneLine(node.name, text))
  }

  #traffic(type: string, line: string): void {
    if (!this.quiet && !this.hidden.has(type)) this.write(line)
  }

  // --- turns --------------------------------------------------------------------------------------------------------

  /** Gives a node one input and then its turn. */
  act(node: WorldNode, input: () => void, answerTo: Flight | null = null): void {
    const { raft } = node.actor
    const before = see(raft)
    input()
    const decided = see(raft)
    const { configuration } = raft.tracker
    const turn = node.actor.turn()
    const after = see(raft)
    if (turn.events.some((event) => event.startsWith('asks for'))) node.campaigns++
    const offers = turn.offers.map(
      (offer) => `may fetch the snapshot of ${idText(offer.id)} from ${this.nameOf(offer.from)}`,
    )
    node.offer = turn.offers.at(-1) ?? node.offer
    const lines = [
      ...turn.events,
      ...changedState(this, before, after),
      ...changedProgress(this, before, decided),
      ...changedCommit(this, before, after),
      ...turn.answers,
      ...offers,
    ]
    for (const line of lines) this.#deed(node, line)
    if (turn.save !== null) {
      node.saving = turn.save
      this.#traffic('saves', aloneLine(node.name, `saves ${saveText(this, turn.save)}`))
    }
    if (turn.wakeInMs !== null) {
      node.wakeInMs = turn.wakeInMs
      if (this.showsWakes) this.#deed(node, `wants to be woken in ${turn.wakeInMs} ms`)
    }
    this.#send(node, turn)
    for (const line of changedWindows(this, before, after)) this.#deed(node, line)
    const isNewCandidate = after.role === 'candidate' && after.term > before.term
    if (isNewCandidate) this.#heldBack(node, 'its own vote')
    if (answerTo !== null && owesAnswer(answerTo, raft.term, turn)) {
      this.#heldBack(node, `its answer to ${answerTo.from.name}`)
    }
    const sent = turn.frames.flatMap(({ to, frame }): [PeerId, RaftMessage][] =>
      frame.type === 'raft' ? [[to, frame.message]] : [],
    )
    const all = this.#nodes.map((one) => watched(one))
    this.#safety.check({ ...watched(node), configuration }, all, sent)
  }

  #heldBack(node: WorldNode, what: string): void {
    this.#traffic('saves', aloneLine(node.name, `holds back ${what} until it is saved`))
  }

  #send(node: WorldNode, turn: Turn): void {
    for (const { to, frame } of turn.frames) {
      const flight = { from: node, to: this.node(this.nameOf(to)), frame }
      const isCut = this.cut.has(`${node.name}>${flight.to.name}`)
      const line = isCut ? lostLine : sentLine
      this.#traffic(frameType(frame), line(node.name, flight.to.name, frameText(this, frame)))
      if (!isCut) this.#flights.push(flight)
    }
  }

  /** One unit of time on some nodes, `count` times, until `stop`. Says at which tick only where something comes of it. */
  tick(nodes: readonly WorldNode[], count: number, stop: () => boolean = () => false): void {
    for (let tick = 1; tick <= count && !stop(); tick++) {
      this.#underTick(tick, count, () => {
        for (const node of nodes) this.act(node, () => node.actor.tick())
      })
    }
  }

  /** The wake-up that the node asked for last comes. */
  wake(node: WorldNode): void {
    if (node.wakeInMs === null) throw new TraceError(`${node.name} has asked for no wake-up`)
    node.wakeInMs = null
    this.act(node, () => node.actor.wake())
  }

  /** Time on all nodes, with saves and messages faster than the clock. */
  run(count: number): void {
    for (let tick = 1; tick <= count; tick++) {
      this.#underTick(tick, count, () => {
        for (const node of this.nodes) if (node.up) this.act(node, () => node.actor.tick())
        this.stabilise(this.nodes)
      })
    }
  }

  #underTick(tick: number, count: number, act: () => void): void {
    const already = this.#lines.length
    act()
    if (this.#lines.length === already || count === 1) return
    this.#lines.splice(already, 0, aloneLine('', `tick ${tick}`))
  }

  // --- disks --------------------------------------------------------------------------------------------------------

  endSave(node: WorldNode): void {
    const batch = node.saving
    if (batch === null) throw new TraceError(`${node.name} has no save in flight`)
    node.saving = null
    if (this.fullDisks.has(node.name)) {
      this.#traffic('saves', aloneLine(node.name, 'save fails: no room on the disk'))
      return this.act(node, () => node.actor.saveFailed())
    }
    writeTo(node.disk, batch)
    this.#traffic('saves', aloneLine(node.name, 'save ends'))
    this.act(node, () => node.actor.saved())
  }

  // --- snapshots ----------------------------------------------------------------------------------------------------

  /** A snapshot of what is applied, whole and durable at once. */
  takeSnapshot(node: WorldNode): void {
    const { raft } = node.actor
    const { appliedIndex } = raft.log
    const id = { term: raft.log.termAt(appliedIndex) as Term, index: appliedIndex }
    const configuration = raft.log.configurationAt(appliedIndex)
    if (configuration === null) throw new TraceError(`${node.name} has no configuration`)
    const checksum = `${node.name.slice(1)}${appliedIndex.toString(16)}`.padStart(64, '0')
    const snapshot: SnapshotAt = { id, configuration, sizeBytes: 1, checksum }
    node.disk.snapshot = snapshot
    this.#snapshots.set(checksum, snapshot)
    this.#deed(node, `has a snapshot of ${idText(id)} with configuration ${configuration.index}`)
    this.act(node, () => raft.snapshotSaved(snapshot))
  }

  /** The snapshot that was offered last was fetched and loaded. */
  install(node: WorldNode): void {
    const { raft } = node.actor
    const snapshot = this.#snapshots.get(node.offer?.checksum ?? '')
    if (snapshot === undefined) throw new TraceError(`${node.name} was offered nothing`)
    let isOfUse = false
    this.act(node, () => {
      isOfUse = raft.installed(snapshot)
      if (isOfUse) node.disk.snapshot = snapshot
    })
    if (!isOfUse) this.#deed(node, `has no use for the snapshot of ${idText(snapshot.id)} any more`)
  }

  crash(node: WorldNode): void {
    const lost = node.saving === null ? '' : ', and the save in flight is lost'
    node.crash()
    this.#deed(node, `is down${lost}`)
  }

  restart(node: WorldNode): void {
    node.restart()
    const { hardState, entries, base } = node.disk
    const log = entriesText(this, entries)
    const before = base === undefined ? '' : ` base=${idText(base)}`
    this.#deed(node, `starts with ${hardStateText(this, hardState)}${before} entries=${log}`)
    this.act(node, () => undefined)
  }

  // --- messages -----------------------------------------------------------------------------------------------------

  /** What is in flight and chosen, in the order of sending. */
  inFlight(choice: Choice): Flight[] {
    const found = this.#flights.filter((flight) => isChosen(choice, flight))
    if (choice.nth === null) return found
    const one = found[choice.nth - 1]
    return one === undefined ? [] : [one]
  }

  /** Messages that arise while these are delivered stay in flight. */
  deliver(flights: readonly Flight[]): void {
    for (const flight of flights) {
      this.#remove(flight)
      const { from, to, frame } = flight
      const text = frameText(this, frame)
      if (!to.up || this.cut.has(`${from.name}>${to.name}`)) {
        this.#traffic(frameType(frame), lostLine(from.name, to.name, text))
        continue
      }
      this.#traffic(frameType(frame), receivedLine(to.name, from.name, text))
      this.act(to, () => to.actor.step(from.peer, frame), flight)
    }
  }

  drop(flights: readonly Flight[]): void {
    for (const flight of flights) {
      this.#remove(flight)
      this.write(lostLine(flight.from.name, flight.to.name, frameText(this, flight.frame)))
    }
  }

  /** Copies are delivered behind everything that is in flight now. */
  duplicate(flights: readonly Flight[]): void {
    for (const flight of flights) {
      this.#flights.push({ ...flight })
      this.write(sentLine(flight.from.name, flight.to.name, frameText(this, flight.frame)))
    }
  }

  #remove(flight: Flight): void {
    this.#flights = this.#flights.filter((other) => other !== flight)
  }

  /** Ends saves and delivers what is in flight among `nodes` until nothing moves; holds and slow disks stay as they are. */
  stabilise(nodes: readonly WorldNode[]): void {
    for (let moves = 0; moves < MOVES_MAX; moves++) {
      const saving = nodes.filter(
        ({ name, saving }) => saving !== null && !this.slowDisks.has(name),
      )
      for (const node of saving) this.endSave(node)
      const moving = this.#flights.filter(
        (flight) =>
          nodes.includes(flight.from) &&
          nodes.includes(flight.to) &&
          !this.holds.some((hold) => isChosen(hold, flight)),
      )
      this.deliver(moving)
      if (saving.length === 0 && moving.length === 0) return
    }
    throw new TraceError('it does not become quiet')
  }
}

function watched({ name, peer, disk, actor }: WorldNode) {
  const { raft } = actor
  return { name, peer, disk, raft, configuration: raft.tracker.configuration }
}

function isChosen(choice: Choice, { from, to, frame }: Flight): boolean {
  const links = [`${from.name}>${to.name}`, `*>${to.name}`, `${from.name}>*`, '*>*']
  const { types } = choice
  if (types.length > 0 && !types.includes(frameType(frame))) return false
  return choice.links.length === 0 || choice.links.some((link) => links.includes(link))
}

/**
 * An Append and a RequestVote of the present term are answered. Where the answer does not leave in the same turn it waits for a
 * save; which one, the trace shows when it leaves.
 */
function owesAnswer({ from, frame }: Flight, term: number, turn: Turn): boolean {
  if (frame.type !== 'raft') return false
  const { message } = frame
  const answer = message.type === 'append' ? 'appendResponse' : 'voteResponse'
  if (message.type !== 'append' && message.type !== 'requestVote') return false
  if (message.term > term) return false
  return !turn.frames.some(({ to, frame }) => to === from.peer && frameType(frame) === answer)
}
