/**
 * How a command finds the cluster it talks to: `--connect`, else the topic's nodes on this machine, else discovery; and
 * with which token. It only looks: it must never announce, take a lock or write into a data directory.
 */

import { CommandError } from './commands/command.ts'
import { parseNodeUrl, UsageError } from './config.ts'
import { dataRoot, listSlots, readTopic, type Slot } from './storage/directory.ts'
import { nodeDisk } from './storage/node-disk.ts'
import type { DerivedTopic } from './topic.ts'
import { deriveTopic, parseTopic, TOKEN_EPOCH_FIRST } from './topic.ts'
import { openStretchCache } from './topic-cache.ts'

/** What the user said about it; null: nothing. Flags win over the environment. */
export interface Wanted {
  readonly connect: string | null
  readonly topic: string | null
  readonly topicFile: string | null
  readonly token: string | null
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface Target {
  /** ws:// or wss:// addresses, at least one. */
  readonly urls: readonly string[]
  readonly token: string | null
}

type Env = Readonly<Record<string, string | undefined>>

/** Throws UsageError, TopicError, or CommandError `unreachable`. */
export async function findCluster(wanted: Wanted): Promise<Target> {
  const { connect, topic } = chosen(wanted)
  const token = wanted.token ?? (wanted.env.RAFT_P2P_TOKEN || null)
  if (connect !== null) {
    const urls = connectUrls(connect)
    return { urls, token: token ?? (await tokenFor(urls, topic, wanted.env)) }
  }
  if (topic === null) {
    const nodes = await onlyLocalTopic(wanted.env)
    return { urls: urlsOf(nodes), token: token ?? (await localToken(nodes, wanted.env)) }
  }
  const derived = await derive(topic, wanted.env)
  const nodes = listening(await localNodes(wanted.env, derived))
  const admin = token ?? derived.tokens('admin', TOKEN_EPOCH_FIRST)
  if (nodes.length > 0) return { urls: urlsOf(nodes), token: admin }
  const { discoverUrls } = await import('./discover-cluster.ts')
  const urls = await discoverUrls(derived, wanted.env)
  if (urls.length > 0) return { urls, token: admin }
  throw new CommandError(
    'unreachable',
    'no node of that topic was found on this machine, on the local network or in the DHT',
    'Start one with: raft-p2p join <topic>, or name an address with --connect URL',
  )
}

/** The topic a command is about: the flag, the file, the environment; null when nobody said. */
export function wantedTopic(wanted: Wanted): string | null {
  return chosen(wanted).topic
}

/** A flag about the place outweighs the environment about the other place. */
function chosen(wanted: Wanted): { connect: string | null; topic: string | null } {
  const { connect, topic, topicFile, env } = wanted
  if (topic !== null && topicFile !== null) {
    throw new UsageError('--topic and --topic-file exclude each other')
  }
  const named = topic ?? (topicFile === null ? null : readTopicFile(topicFile))
  if (connect !== null || named !== null) return { connect, topic: named }
  return { connect: env.RAFT_P2P_CONNECT || null, topic: env.RAFT_P2P_TOPIC || null }
}

/** Line ends around the topic are the editor's, not the topic's. Throws CommandError. */
export function readTopicFile(path: string): string {
  const bytes = nodeDisk.read(path)
  if (bytes === null) {
    throw new CommandError('topic-file', `there is no topic file ${path}`, TOPIC_FILE_HINT)
  }
  const topic = new TextDecoder().decode(bytes).trim()
  if (topic === '') {
    throw new CommandError('topic-file', `the topic file ${path} is empty`, TOPIC_FILE_HINT)
  }
  return topic
}

const TOPIC_FILE_HINT = 'Make one with: raft-p2p topic > FILE'

function connectUrls(text: string): string[] {
  return text.split(',').map((part) => {
    const url = parseNodeUrl(part)
    if (url === null) {
      throw new UsageError(`--connect takes ws:// or wss:// URLs, not ${JSON.stringify(part)}`)
    }
    return url
  })
}

export async function derive(topic: string, env: Env): Promise<DerivedTopic> {
  return deriveTopic(parseTopic(topic).text, { cache: openStretchCache(nodeDisk, dataRoot(env)) })
}

// --- nodes on this machine ------------------------------------------------------------------------------------

/** The slots of one topic, or of all. */
export async function localNodes(env: Env, topic?: DerivedTopic): Promise<Slot[]> {
  const key = topic === undefined ? undefined : Buffer.from(topic.discoveryKey).toString('hex')
  return listSlots(nodeDisk, dataRoot(env), key)
}

export function listening(nodes: readonly Slot[]): Slot[] {
  return nodes.filter((node) => node.live && node.endpoint !== null)
}

function urlsOf(nodes: readonly Slot[]): string[] {
  return nodes.flatMap((node) => (node.endpoint === null ? [] : [node.endpoint.url]))
}

/** The live nodes of the one topic that has any here. */
export async function onlyLocalTopic(env: Env): Promise<Slot[]> {
  const nodes = listening(await localNodes(env))
  const topics = new Set(nodes.map((node) => node.discovery))
  if (topics.size === 1) return nodes
  if (topics.size > 1) {
    throw new UsageError(
      `nodes of ${topics.size} topics run on this machine: say which with --topic T or --connect URL`,
    )
  }
  throw new CommandError(
    'unreachable',
    'no node runs on this machine',
    'Start one with: raft-p2p join <topic>, or name a cluster with --connect URL or --topic T',
  )
}

/** The strongest token the user's own files give; null: go without, which loopback allows. */
async function localToken(nodes: readonly Slot[], env: Env): Promise<string | null> {
  for (const node of nodes) {
    if (node.endpoint?.adminToken !== undefined) return node.endpoint.adminToken
    const topic = readTopic(nodeDisk, node.path)
    if (topic !== null) return (await derive(topic, env)).tokens('admin', TOKEN_EPOCH_FIRST)
  }
  return null
}

async function tokenFor(
  urls: readonly string[],
  topic: string | null,
  env: Env,
): Promise<string | null> {
  if (topic !== null) return (await derive(topic, env)).tokens('admin', TOKEN_EPOCH_FIRST)
  // A token goes to the node it belongs to and nowhere else: another address may be another's machine.
  const own = listening(await localNodes(env)).filter((node) =>
    urlsOf([node]).some((url) => urls.every((wanted) => wanted === parseNodeUrl(url))),
  )
  return localToken(own, env)
}
