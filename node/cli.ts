#!/usr/bin/env -S UV_THREADPOOL_SIZE=16 node
/**
 * The executable `raft-p2p`: parses the command line and calls one file of commands/, which is loaded only then, so that
 * `--help` is quick and loads nothing of the network. It must never print a stack trace unless `--log-level debug` asks.
 *
 * The first line sets the size of the thread pool (hung fsyncs must not starve name lookups): by the time a module runs,
 * the loader has started the pool, and its size is fixed. Started as `node cli.js` it has Node's default of 4.
 */
import { Command, CommanderError, Option } from 'commander'
import { EXIT, type Invocation, type Io, type Run, reportFailure } from './commands/command.ts'
import { type FlagSpec, JOIN_FLAGS, UsageError } from './config.ts'
import { VERSION } from './version.ts'

/** For the processes that a command starts. */
process.env.UV_THREADPOOL_SIZE ??= '16'

interface CommandSpec {
  /** As commander writes it: `put <key> <value...>`. */
  readonly usage: string
  readonly alias?: string
  readonly help: string
  readonly flags: readonly FlagSpec[]
  readonly load: () => Promise<{ readonly run: Run }>
}

const COMMON: readonly FlagSpec[] = [
  { flag: 'json', takes: null, help: 'print JSON' },
  { flag: 'log-level', takes: 'LEVEL', help: 'debug shows stack traces of failures' },
]
const TOPIC: readonly FlagSpec[] = [
  { flag: 'topic', takes: 'T', help: 'the topic of the cluster (RAFT_P2P_TOPIC)' },
  { flag: 'topic-file', takes: 'FILE', help: 'read the topic from this file' },
]
const DATA: FlagSpec = { flag: 'data', takes: 'DIR', help: 'the data directory of the node' }
const CLIENT: readonly FlagSpec[] = [
  { flag: 'connect', takes: 'URL,...', help: 'addresses of nodes (RAFT_P2P_CONNECT)' },
  ...TOPIC,
  DATA,
  { flag: 'token', takes: 'TOKEN', help: 'the client token (RAFT_P2P_TOKEN)' },
  { flag: 'timeout', takes: 'D', help: 'how long to try (10s)' },
  ...COMMON,
]
const CHANGE: readonly FlagSpec[] = [
  { flag: 'dry-run', takes: null, help: 'say what would be done, and do nothing' },
  { flag: 'if-config', takes: 'N', help: 'only if the configuration is still the one at index N' },
]
const STALE: FlagSpec = { flag: 'stale', takes: null, help: 'a local read, possibly old' }

const COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'join [topic]',
    help: "run a node: join the topic's cluster, or help to found it",
    flags: [
      ...JOIN_FLAGS,
      { flag: 'config', takes: 'FILE', help: 'options as JSON, flag names as keys' },
      { flag: 'print-config', takes: null, help: 'show the resulting options and end' },
      { flag: 'json', takes: null, help: 'the same as --log json' },
    ],
    load: () => import('./commands/join.ts'),
  },
  {
    usage: 'demo',
    help: 'a real 3-node cluster on this machine with the shell attached; leaves nothing behind',
    flags: COMMON,
    load: () => import('./commands/demo.ts'),
  },
  {
    usage: 'repl [topic]',
    alias: 'client',
    help: 'the interactive shell',
    flags: CLIENT,
    load: () => import('./commands/repl.ts'),
  },
  {
    usage: 'put <key> <value...>',
    help: 'write a value; several words are joined by a space',
    flags: CLIENT,
    load: () => import('./commands/put.ts'),
  },
  {
    usage: 'get <key>',
    help: 'print a value',
    flags: [STALE, ...CLIENT],
    load: () => import('./commands/get.ts'),
  },
  {
    usage: 'del <key>',
    help: 'delete a key',
    flags: CLIENT,
    load: () => import('./commands/del.ts'),
  },
  {
    usage: 'list [prefix]',
    help: 'print keys and values, in the order of the keys',
    flags: [{ flag: 'limit', takes: 'N', help: 'at most so many (all)' }, STALE, ...CLIENT],
    load: () => import('./commands/list.ts'),
  },
  {
    usage: 'cas <key> <values...>',
    help: 'compare and set: cas KEY EXPECTED NEW, --revision N KEY NEW, --absent KEY NEW',
    flags: [
      { flag: 'revision', takes: 'N', help: 'write only if the key is at this revision' },
      { flag: 'absent', takes: null, help: 'write only if the key does not exist' },
      ...CLIENT,
    ],
    load: () => import('./commands/cas.ts'),
  },
  {
    usage: 'status',
    help: 'the cluster on one screen',
    flags: CLIENT,
    load: () => import('./commands/status.ts'),
  },
  {
    usage: 'members [action] [ids...]',
    help: 'list the members; also: members add|remove|promote|replace <id>',
    flags: [
      { flag: 'with', takes: 'ID', help: 'replace: the stand-by that votes instead' },
      ...CHANGE,
      ...CLIENT,
    ],
    load: () => import('./commands/members.ts'),
  },
  {
    usage: 'leader [action] [id]',
    help: 'who leads; leader transfer [<id>] hands leadership over',
    flags: CLIENT,
    load: () => import('./commands/leader.ts'),
  },
  {
    usage: 'config [action] [words...]',
    help: 'the settings all nodes share: config get [name], config set name=value...',
    flags: [...CHANGE, ...CLIENT],
    load: () => import('./commands/config.ts'),
  },
  {
    usage: 'topic',
    help: 'print a new random topic',
    flags: COMMON,
    load: () => import('./commands/topic.ts'),
  },
  {
    usage: 'invite',
    help: 'print the topic with its cluster id: who joins with it never founds another cluster',
    flags: CLIENT,
    load: () => import('./commands/invite.ts'),
  },
  {
    usage: 'key',
    help: "print this node's public key, made if there is none",
    flags: [DATA, ...TOPIC, ...COMMON],
    load: () => import('./commands/key.ts'),
  },
  {
    usage: 'token',
    help: 'print the client token',
    flags: [
      { flag: 'role', takes: 'read|write|admin', help: 'what it allows (write)' },
      DATA,
      ...TOPIC,
      ...COMMON,
    ],
    load: () => import('./commands/token.ts'),
  },
  {
    usage: 'wal dump <dir>',
    help: 'print a log directory, record by record',
    flags: COMMON,
    load: () => import('./commands/wal.ts'),
  },
  {
    usage: 'rejoin',
    help: "archive this node's data: its next start enters as a new member",
    flags: [DATA, ...TOPIC, ...COMMON],
    load: () => import('./commands/rejoin.ts'),
  },
  {
    usage: 'recover',
    help: 'after a lost quorum, on one node that is stopped: a new cluster with its data',
    flags: [
      DATA,
      { flag: 'confirm', takes: 'DIGITS', help: 'the first 8 digits of the old clusterId' },
      ...TOPIC,
      ...COMMON,
    ],
    load: () => import('./commands/recover.ts'),
  },
  {
    usage: 'snapshot save <file>',
    help: 'back up the whole state into a file, while writes go on',
    flags: CLIENT,
    load: () => import('./commands/snapshot-save.ts'),
  },
  {
    usage: 'snapshot restore <file>',
    help: 'make a data directory that begins a new cluster from a backup',
    flags: [
      DATA,
      { flag: 'name', takes: 'NAME', help: 'the name of the node' },
      ...TOPIC,
      ...COMMON,
    ],
    load: () => import('./commands/snapshot-restore.ts'),
  },
  {
    usage: 'leave',
    help: 'the node of this machine leaves its cluster for good and stops',
    flags: [
      DATA,
      { flag: 'timeout', takes: 'D', help: 'how long to try (10s)' },
      ...TOPIC,
      ...COMMON,
    ],
    load: () => import('./commands/leave.ts'),
  },
  {
    usage: 'stop',
    help: 'stop the node of this machine',
    flags: [
      DATA,
      { flag: 'all', takes: null, help: 'all nodes of the topic' },
      ...TOPIC,
      ...COMMON,
    ],
    load: () => import('./commands/stop.ts'),
  },
]

const io: Io = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
}

function buildProgram(json: boolean, done: (code: number) => void): Command {
  const program = new Command('raft-p2p')
    .description(
      'A strongly consistent replicated state machine that machines form by sharing one word',
    )
    .helpCommand(true)
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => json || write(text) })
  const groups = new Map<string, Command>([['', program]])
  for (const spec of COMMANDS) {
    const words = spec.usage.split(' ')
    const name = words[words.length > 1 && !/^[<[]/.test(words[1] ?? '') ? 1 : 0] ?? ''
    const group = name === words[0] ? '' : (words[0] ?? '')
    const parent = groups.get(group) ?? program.command(group).description(`${group} commands`)
    groups.set(group, parent)
    const command = parent.command(spec.usage.slice(group.length).trim()).description(spec.help)
    if (spec.alias !== undefined) command.alias(spec.alias)
    command.showHelpAfterError(`See: raft-p2p ${group} ${name} --help`.replace('  ', ' '))
    for (const flag of spec.flags) addFlag(command, flag)
    command.action(async () => done(await perform(spec, command)))
  }
  return program
}

/** A list may be one flag with commas, or the flag several times. What is not built is not shown. */
function addFlag(command: Command, { flag, takes, help, unbuilt }: FlagSpec): void {
  const option = new Option(takes === null ? `--${flag}` : `--${flag} <${takes}>`, help)
  if (takes?.endsWith(',...')) {
    option.argParser((text: string, before: string[] = []) => [...before, text])
  }
  command.addOption(option.hideHelp(unbuilt !== undefined))
}

async function perform(spec: CommandSpec, command: Command): Promise<number> {
  const options = command.opts<Record<string, unknown>>()
  const flags: Record<string, unknown> = {}
  for (const option of command.options) {
    const flag = (option.long ?? '').slice(2)
    const value = options[option.attributeName()]
    // commander reads --no-lan as "lan is false"; for us the switch `no-lan` is on.
    if (option.negate) flags[flag] = value === false ? true : undefined
    else flags[flag] = Array.isArray(value) ? value.join(',') : value
  }
  const invocation: Invocation = { args: command.args, flags, json: flags.json === true, io }
  const { run } = await spec.load()
  return run(invocation)
}

/** What commander prints for a wrong command line is good; only its exit code and form are ours. */
async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json')
  const level = argv.indexOf('--log-level')
  const debug = argv[level + 1] === 'debug' ? level !== -1 : argv.includes('--log-level=debug')
  process.on('uncaughtException', (error) => {
    process.exit(reportFailure(error, { io, json, debug }))
  })
  // Whoever reads the output may stop reading, as `head` does.
  io.stdout.on('error', () => process.exit(EXIT.ok))
  let code: number = EXIT.ok
  const program = buildProgram(json, (result) => {
    code = result
  })
  try {
    if (argv.length === 0) {
      program.outputHelp()
      return EXIT.usage
    }
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportFailure(error, { io, json, debug })
    if (error.exitCode === 0) return EXIT.ok
    if (json)
      reportFailure(new UsageError(error.message.replace(/^error: /, '')), { io, json, debug })
    return EXIT.usage
  }
}

/** Ends at once after the output has left: a timer or a socket that a command forgot must not hold the shell. */
main(process.argv.slice(2)).then((code) => {
  io.stdout.write('', () => io.stderr.write('', () => process.exit(code)))
})
