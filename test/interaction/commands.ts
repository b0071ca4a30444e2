/**
 * The commands of the traces. Each moves one thing; the environment writes down what comes of it.
 *
 *   cluster 3 [learners=1] [blanks=2] [term=7] [commit=1] [n1=1,1,4] [window=2] ...   bare consensus cores
 *   replicas 3 ...                               whole replicas, with clients
 *   elect n1                                     campaign and stabilise, of which only the end is shown
 *   tick n1 n2 3 | tick * 3 | run 20             time; `run` stabilises after each tick
 *   wake n1 | show wakes                         the wake-up that n1 asked for comes; what is asked for is written down
 *   timeout n1 13                                what the next election timeout of n1 will be, in ticks
 *   campaign n1                                  ticks until n1 has waited long enough for a leader
 *   deliver | drop | duplicate [n1>n2 ...] [append ...] [#2]      messages in flight; also `*>n2`, `n1>*`
 *   hold [n1>n2 ...] [append ...] | release      what `stabilise` leaves in flight
 *   save n1                                      the save in flight ends: it is durable, or found no room
 *   slow-disk n1 | full-disk n1 | good-disk n1   `stabilise` does not end its saves; its saves find no room; neither
 *   stabilise [n1 n2]                            saves and messages until nothing moves
 *   crash n1 | put-back n1 2 | restart n1 | cut n1>n2 | cut n1 | heal | link-closed n1 n2 [by-us]
 *   snapshot n1 | compact n1 4 | install n2      a snapshot of what is applied; the log up to 4 goes; the one offered last
 *   propose n1 x y [times=1000]                  all in one turn
 *   change n1 add=4,5 promote=4 demote=1 remove=2 replace=3:5 [keep] [if=3]     add names nodes, all others members
 *   read n1 7 8 | transfer n1 n2
 *   request n1 5 open-session | put k v session=3 sequence=1 [if-absent] | get k      [timeout=<ticks>]
 *   request n1 5 put k v key=name [accepted=0] [if-absent]        a write under a name of its own
 *   log | status [n1] | disk n1 | in-flight      what is so now
 *   hide saves append ...                        leaves out of the trace what would only blur it
 *   quietly <command>                            without traffic: only what the nodes decide
 *   silently <command>                           with nothing at all: for long waits
 */
import { bytesOf } from '../support/raft-cluster.ts'
import { Arguments, TraceError } from './arguments.ts'
import type { Choice, Environment, Flight } from './environment.ts'
import { aloneLine, FRAME_TYPES, frameText, sentLine } from './format.ts'
import { diskLines, logLines, statusLines } from './views.ts'
import type { WorldNode } from './world-node.ts'
import { changesOf, requestOf, worldOptions } from './world-options.ts'

type Command = (environment: Environment, args: Arguments) => void

const WORLD: Record<string, Command> = {
  cluster: (environment, args) => environment.create(worldOptions('core', args)),
  replicas: (environment, args) => environment.create(worldOptions('replica', args)),
  hide: (environment, args) => {
    for (const type of args.words()) environment.hidden.add(type === 'saves' ? type : typeOf(type))
  },
  show: (environment, args) => {
    if (args.word('what') !== 'wakes') throw args.wrong('only wakes are hidden by default')
    environment.showsWakes = true
  },
  quietly: (environment, args) => {
    environment.quiet = true
    try {
      dispatch(environment, args.rest())
    } finally {
      environment.quiet = false
    }
  },
  silently: (environment, args) => {
    const line = args.rest()
    environment.silently(() => dispatch(environment, line))
  },
}

/** They arrange something, and nothing comes of it yet. */
const ARRANGING = new Set([
  'show',
  ...['cluster', 'replicas', 'hide', 'silently', 'timeout', 'hold', 'release', 'cut'],
  ...['heal', 'slow-disk', 'full-disk', 'good-disk'],
])

const TIME: Record<string, Command> = {
  tick: (environment, args) => {
    const words = args.words()
    const count = args.asNumber(words.pop() ?? '')
    environment.tick(running(environment, words), count)
  },
  run: (environment, args) => environment.run(args.count('the number of ticks')),
  wake: (environment, args) => environment.wake(environment.running(args.word('a node'))),
  timeout: (environment, args) => {
    environment.node(args.word('a node')).timeoutTicks = args.count('a number of ticks')
  },
  campaign: (environment, args) => campaign(environment, environment.running(args.word('a node'))),
  elect: (environment, args) => {
    const node = environment.running(args.word('a node'))
    environment.silently(() => {
      campaign(environment, node)
      environment.stabilise(environment.nodes)
    })
    if (node.actor.raft.role !== 'leader') throw args.wrong(`${node.name} was not elected`)
    for (const one of environment.nodes) writeAll(environment, statusLines(environment, one))
  },
}

const NETWORK: Record<string, Command> = {
  deliver: (environment, args) => environment.deliver(chosen(environment, args)),
  drop: (environment, args) => environment.drop(chosen(environment, args)),
  duplicate: (environment, args) => environment.duplicate(chosen(environment, args)),
  hold: (environment, args) => {
    environment.holds.push(choiceOf(environment, args))
  },
  release: (environment) => {
    environment.holds = []
  },
  cut: (environment, args) => {
    for (const link of linksOf(environment, args)) environment.cut.add(link)
  },
  heal: (environment) => environment.cut.clear(),
  'link-closed': (environment, args) => {
    const node = environment.running(args.word('a node'))
    const { peer } = environment.node(args.word('a peer'))
    const byUs = args.flag('by-us')
    environment.act(node, () => node.actor.linkClosed(peer, byUs))
  },
  stabilise: (environment, args) => {
    const words = args.words()
    const names = words.length > 0 ? words : environment.nodes.map(({ name }) => name)
    environment.stabilise(names.map((name) => environment.node(name)))
  },
}

const DISKS: Record<string, Command> = {
  save: (environment, args) => environment.endSave(environment.running(args.word('a node'))),
  'slow-disk': (environment, args) => {
    environment.slowDisks.add(environment.node(args.word('a node')).name)
  },
  'full-disk': (environment, args) => {
    environment.fullDisks.add(environment.node(args.word('a node')).name)
  },
  'good-disk': (environment, args) => {
    const { name } = environment.node(args.word('a node'))
    environment.slowDisks.delete(name)
    environment.fullDisks.delete(name)
  },
  crash: (environment, args) => environment.crash(environment.running(args.word('a node'))),
  'put-back': (environment, args) => {
    const node = environment.node(args.word('a node'))
    if (node.up) throw args.wrong(`${node.name} is running`)
    node.putBack(args.count('the last index of the older copy'))
    environment.write(aloneLine(node.name, 'has an older copy of its disk'))
  },
  restart: (environment, args) => {
    const node = environment.node(args.word('a node'))
    if (node.up) throw args.wrong(`${node.name} is running`)
    environment.restart(node)
  },
}

const SNAPSHOTS: Record<string, Command> = {
  snapshot: (environment, args) =>
    environment.takeSnapshot(environment.running(args.word('a node'))),
  compact: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const index = args.count('an index')
    environment.act(node, () => node.actor.raft.compactTo(index))
  },
  install: (environment, args) => environment.install(environment.running(args.word('a node'))),
}

const CLIENTS: Record<string, Command> = {
  propose: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const words = args.words()
    const times = args.number('times', 1)
    const all = Array.from({ length: times }, () => words.map(bytesOf)).flat()
    propose(environment, node, all)
  },
  change: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const changes = changesOf(args)
    const ifIndex = args.number('if', 0)
    const options = { ifIndex: ifIndex === 0 ? null : ifIndex, reason: 'a trace' }
    environment.changeCount++
    environment.act(node, () => {
      node.actor.raft.changeConfiguration(environment.changeCount, changes, options)
    })
  },
  read: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const ids = args.words().map((word) => args.asNumber(word))
    environment.act(node, () => {
      for (const id of ids) {
        if (!node.actor.raft.readIndex(id)) refused(environment, node, `read ${id}: not-leader`)
      }
    })
  },
  transfer: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const target = environment.node(args.word('a target'))
    environment.act(node, () => {
      if (node.actor.raft.transferLeadership(target.peer)) return
      refused(environment, node, `the transfer to ${target.name}`)
    })
  },
  request: (environment, args) => {
    const node = environment.running(args.word('a node'))
    const id = args.count('the id of a request')
    const request = requestOf(args)
    const ask = node.actor.request
    if (ask === null) throw args.wrong('only replicas have clients')
    environment.act(node, () => ask(id, request))
  },
}

const VIEWS: Record<string, Command> = {
  log: (environment) => writeAll(environment, logLines(environment.nodes)),
  status: (environment, args) => {
    const words = args.words()
    const nodes = words.length > 0 ? words.map((name) => environment.node(name)) : environment.nodes
    for (const node of nodes) writeAll(environment, statusLines(environment, node))
  },
  disk: (environment, args) => {
    writeAll(environment, diskLines(environment, environment.node(args.word('a node'))))
  },
  'in-flight': (environment) => {
    const flights = environment.inFlight({ links: [], types: [], nth: null })
    for (const { from, to, frame } of flights) {
      environment.write(sentLine(from.name, to.name, frameText(environment, frame)))
    }
  },
}

const COMMANDS = new Map(
  Object.entries({ ...WORLD, ...TIME, ...NETWORK, ...DISKS, ...SNAPSHOTS, ...CLIENTS, ...VIEWS }),
)

/** Runs one command and returns what came of it. Throws TraceError for a mistake in the trace. */
export function runCommand(environment: Environment, line: string): string[] {
  dispatch(environment, line)
  return environment.take()
}

function dispatch(environment: Environment, line: string): void {
  const args = new Arguments(line)
  const { command: name } = args
  const command = COMMANDS.get(name)
  if (command === undefined) throw new TraceError(`unknown command: ${name}`)
  const written = environment.writtenCount
  command(environment, args)
  args.end()
  if (environment.writtenCount === written && !ARRANGING.has(name)) {
    environment.write(environment.quiet ? 'nothing is decided' : 'nothing happens')
  }
}

function writeAll(environment: Environment, lines: readonly string[]): void {
  for (const line of lines) environment.write(line)
}

function refused(environment: Environment, node: WorldNode, what: string): void {
  environment.write(aloneLine(node.name, `refuses ${what}`))
}

function running(environment: Environment, names: readonly string[]): WorldNode[] {
  if (names.length === 0) throw new TraceError('tick: no node was named')
  if (names[0] === '*') return environment.nodes.filter(({ up }) => up)
  return names.map((name) => environment.running(name))
}

/** Ticks until the node asks for votes. An election timer fires within two election timeouts, or not at all. */
function campaign(environment: Environment, node: WorldNode): void {
  const { campaigns } = node
  const ticksMax = 2 * node.timeoutTicks
  environment.tick([node], ticksMax, () => node.campaigns > campaigns)
  if (node.campaigns === campaigns) throw new TraceError(`${node.name} does not campaign`)
}

function propose(environment: Environment, node: WorldNode, payloads: readonly Uint8Array[]): void {
  environment.act(node, () => {
    for (const payload of payloads) {
      const result = node.actor.raft.propose('command', payload)
      if (result.ok) continue
      refused(environment, node, `${environment.commandText(payload)}: ${result.reason}`)
    }
  })
}

function typeOf(word: string): string {
  if (!FRAME_TYPES.includes(word)) throw new TraceError(`unknown type of message: ${word}`)
  return word
}

function choiceOf(environment: Environment, args: Arguments): Choice {
  const links: string[] = []
  const types: string[] = []
  let nth: number | null = null
  for (const word of args.words()) {
    if (word.startsWith('#')) nth = args.asNumber(word.slice(1))
    else if (word.includes('>')) links.push(linkOf(environment, word))
    else types.push(typeOf(word))
  }
  return { links, types, nth }
}

/** What a trace chooses must be there: a command that moves nothing would hide that the trace has lost its thread. */
function chosen(environment: Environment, args: Arguments): Flight[] {
  const flights = environment.inFlight(choiceOf(environment, args))
  if (flights.length === 0) throw args.wrong('no such message is in flight')
  return flights
}

function linkOf(environment: Environment, word: string): string {
  const ends = word.split('>')
  for (const end of ends) if (end !== '*') environment.node(end)
  if (ends.length !== 2) throw new TraceError(`${word} is no link`)
  return word
}

/** `n1>n2` is one direction of one link, `n1` both directions of all its links. */
function linksOf(environment: Environment, args: Arguments): string[] {
  return args.words().flatMap((word) => {
    if (word.includes('>')) return [linkOf(environment, word)]
    const { name } = environment.node(word)
    const others = environment.nodes.filter((node) => node.name !== name)
    return others.flatMap((other) => [`${name}>${other.name}`, `${other.name}>${name}`])
  })
}
