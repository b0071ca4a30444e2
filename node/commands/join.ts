/**
 * `raft-p2p join <topic>`: runs a node until it is told to stop. What happens is the log on stderr; stdout stays empty. The
 * node itself is node.ts: here are its options, its signals and its end.
 */
import {
  gatherOptions,
  JOIN_FLAGS,
  LIMITS,
  type NodeOptions,
  printableConfig,
  resolveOptions,
  UsageError,
} from '../config.ts'
import { createLog, type Log } from '../log.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import { type ParsedTopic, parseTopic } from '../topic.ts'
import {
  CommandError,
  EXIT,
  failureOf,
  type Invocation,
  printJson,
  switchFlag,
  textFlag,
} from './command.ts'
import { findCluster, readTopicFile } from './find-cluster.ts'
import { onLifelineEnd, removeDemoData } from './lifeline.ts'
import { openClient } from './with-client.ts'

const PLATFORMS: readonly string[] = ['linux', 'darwin']
const SHELL_CALL_MS = 10_000

export async function run(invocation: Invocation): Promise<number> {
  const { io, json } = invocation
  const { options, parsed } = optionsOf(invocation)
  const idle = refuseUnbuilt(options)
  if (switchFlag(invocation, 'print-config')) {
    const masked = parsed.isPhrase ? 'a phrase' : `${parsed.text.slice(0, 7)}...`
    printJson(io, printableConfig(options, masked))
    return EXIT.ok
  }
  if (!PLATFORMS.includes(process.platform)) {
    throw new CommandError(
      'platform',
      `a node runs on Linux and macOS, on Windows inside WSL, but not on ${process.platform}`,
    )
  }
  // The command line shows the topic to everyone on this machine who may list processes.
  process.title = 'raft-p2p join'
  // Who reads the log may go away; the node stays.
  io.stderr.on('error', () => {})
  const log = createLog({
    format: options.logFormat,
    level: options.logLevel,
    color: io.stderr.isTTY === true && !io.env.NO_COLOR,
    write: (line) => io.stderr.write(line),
  })
  for (const flag of idle) {
    log('warn', 'config.idle', { flag: `--${flag}`, detail: 'nothing acts on it in this version' })
  }
  try {
    return await runNode(invocation, { options, parsed, log })
  } catch (error) {
    if (json || options.logFormat === 'pretty') throw error
    const { code, message, hint, exitCode } = failureOf(error)
    log('error', 'node.failed', { code, message, hint })
    return exitCode
  }
}

function optionsOf(invocation: Invocation): { options: NodeOptions; parsed: ParsedTopic } {
  const { io, json } = invocation
  const config = textFlag(invocation, 'config')
  const given = gatherOptions({
    flags: { ...(json ? { log: 'json' } : {}), ...definedFlags(invocation) },
    env: io.env,
    file: config === null ? null : { path: config, text: readConfig(config) },
  })
  const topic = topicOf(invocation, given.get('topic-file')?.text ?? null)
  const parsed = parseTopic(topic)
  const isTty = io.stderr.isTTY === true
  return { options: resolveOptions(given, { topic, isPhrase: parsed.isPhrase, isTty }), parsed }
}

/** An option that is silently ignored is a lie. Returns those that are kept without an effect. */
function refuseUnbuilt(options: NodeOptions): string[] {
  const given = JOIN_FLAGS.filter(({ flag }) => options.explicit.has(flag))
  for (const { flag, unbuilt } of given) {
    if (unbuilt !== 'refused' || (flag === 'admit' && options.admit === 'auto')) continue
    throw new UsageError(`--${flag} is not built in this version`)
  }
  return given.filter(({ unbuilt }) => unbuilt === 'idle').map(({ flag }) => flag)
}

function definedFlags({ flags }: Invocation): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined))
}

/** The argument, then the file a flag names, then the environment, then the file it names. */
function topicOf(invocation: Invocation, topicFile: string | null): string {
  const [argument] = invocation.args
  const fileFlag = textFlag(invocation, 'topic-file')
  if (argument !== undefined && fileFlag !== null) {
    throw new UsageError('the topic is given twice: as an argument and by --topic-file')
  }
  if (argument !== undefined) return argument
  if (fileFlag !== null) return readTopicFile(fileFlag)
  if (invocation.io.env.RAFT_P2P_TOPIC) return invocation.io.env.RAFT_P2P_TOPIC
  if (topicFile !== null) return readTopicFile(topicFile)
  throw new UsageError(
    'join needs a topic: raft-p2p join <topic>. Make a random one with: raft-p2p topic',
  )
}

function readConfig(path: string): string {
  const bytes = nodeDisk.read(path)
  if (bytes === null) throw new UsageError(`--config ${path}: there is no such file`)
  return new TextDecoder().decode(bytes)
}

interface Prepared {
  readonly options: NodeOptions
  readonly parsed: ParsedTopic
  readonly log: Log
}

async function runNode(invocation: Invocation, prepared: Prepared): Promise<number> {
  const { options, parsed, log } = prepared
  const ending = new Ending(log)
  if (parsed.isPhrase && options.lan && !/^(127\.|localhost$|::1$)/.test(options.listen.host)) {
    const detail = 'a phrase can be guessed, and whoever guesses it becomes a member'
    log('warn', 'topic.phrase', { detail, advice: 'make a random topic with: raft-p2p topic' })
  }
  const { createNode } = await import('../node.ts')
  const node = await createNode(options, { log })
  ending.attach(() => node.stop())
  if (options.repl) void shellOn(invocation, node.url).then(() => ending.end('the shell was left'))
  const { code, reason } = await Promise.race([node.stopped, ending.ended])
  log(code === 0 ? 'info' : 'error', 'node.stopped', { code, reason })
  return code
}

async function shellOn({ io, json }: Invocation, url: string): Promise<void> {
  const { attachShell } = await import('./repl.ts')
  const target = await findCluster({
    ...{ connect: url, topic: null, topicFile: null, data: null, token: null },
    env: io.env,
  })
  const client = await openClient({ ...target, timeoutMs: SHELL_CALL_MS })
  try {
    await attachShell(io, client, { keepsHistory: true, json })
  } finally {
    client.close()
  }
}

/**
 * SIGTERM and SIGINT end the node politely, within CONTRACT's 5 s; a second one ends it at once. Neither loses anything: a
 * node must survive kill -9.
 */
class Ending {
  readonly ended: Promise<{ code: number; reason: string }>
  readonly #log: Log
  #resolve: (end: { code: number; reason: string }) => void = () => {}
  #stop: (() => Promise<void>) | null = null
  #reason: string | null = null

  constructor(log: Log) {
    this.#log = log
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve
    })
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => this.#signalled(signal))
    }
    onLifelineEnd((demoFolder) => {
      this.end('the demo is gone')
      void this.ended.then(() => removeDemoData(demoFolder))
    })
  }

  /** From now on ending means this. Ended before: at once. */
  attach(stop: () => Promise<void>): void {
    this.#stop = stop
    if (this.#reason !== null) this.#perform(stop, this.#reason)
  }

  /** Idempotent. */
  end(reason: string): void {
    if (this.#reason !== null) return
    this.#reason = reason
    if (this.#stop !== null) this.#perform(this.#stop, reason)
  }

  #signalled(signal: NodeJS.Signals): void {
    // Before it runs there is nothing to hand over, and a start may hang on a slow disk.
    if (this.#reason !== null || this.#stop === null) process.exit(this.#reason === null ? 0 : 1)
    this.end(signal)
  }

  #perform(stop: () => Promise<void>, reason: string): void {
    const late = setTimeout(() => this.#resolve({ code: 0, reason }), LIMITS.stopMsMax)
    stop()
      .catch((error) => this.#log('warn', 'node.stop-failed', { error }))
      .finally(() => {
        clearTimeout(late)
        this.#resolve({ code: 0, reason })
      })
  }
}
