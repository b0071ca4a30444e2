/**
 * How a command finds the cluster it talks to: `--connect`, else the topic's nodes on this machine, else discovery; and
 * with which token. It only looks: it must never announce, take a lock or write into a data directory.
 */

import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { parseNodeUrl, UsageError } from '../config.ts'
import { dataRoot, listSlots, readEndpoint, readTopic, type Slot } from '../storage/directory.ts'
import { readIdentity } from '../storage/identity.ts'
import { isLocked } from '../storage/lock.ts'
import { nodeDisk } from '../storage/node-disk.ts'
import type { DerivedTopic } from '../topic.ts'
import { deriveTopic, parseTopic, TOKEN_EPOCH_FIRST } from '../topic.ts'
import { openStretchCache } from '../topic-cache.ts'
import { CommandError } from './command.ts'

/** What the user said about it; null: nothing. Flags win over the environment. */
export interface Wanted {
  readonly connect: string | null
  readonly topic: string | null
  readonly topicFile: string | null
  /** The data directory of a node on this machine. */
  readonly data: string | null
  readonly token: string | null
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface Target {
  /** ws:// or wss:// addresses, at least one. */
  readonly urls: readonly string[]
  readonly token: string | null
}

/** A listener on this machine answers at once. */
const ANSWER_MS_MAX = 300

type Env = Readonly<Record<string, string | undefined>>

/** Throws UsageError, TopicError, or CommandError `unreachable`. */
export async function findCluster(wanted: Wanted): Promise<Target> {
  const token = wanted.token ?? (wanted.env.RAFT_P2P_TOKEN || null)
  if (wanted.data !== null) return nodeOf(wanted.data, token)
  const { connect, topic } = chosen(wanted)
  if (connect !== null) {
    const urls = connectUrls(connect)
    return { urls, token: token ?? (await tokenFor(urls, topic, wanted.env)) }
  }
  if (topic === null) return onlyLocalCluster(wanted.env, token)
  const derived = await derive(topic, wanted.env)
  const nodes = await localUrls(wanted.env, hex(derived.discoveryKey))
  const admin = token ?? derived.tokens('admin', TOKEN_EPOCH_FIRST)
  if (nodes.length > 0) return { urls: nodes, token: admin }
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
  const key = topic === undefined ? undefined : hex(topic.discoveryKey)
  return listSlots(nodeDisk, dataRoot(env), key)
}

export function listening(nodes: readonly Slot[]): Slot[] {
  return nodes.filter((node) => node.live && node.endpoint !== null)
}

function urlsOf(nodes: readonly Slot[]): string[] {
  return nodes.flatMap((node) => (node.endpoint === null ? [] : [node.endpoint.url]))
}

/** The node that holds this data directory. */
async function nodeOf(data: string, token: string | null): Promise<Target> {
  const endpoint = (await isLocked(nodeDisk, data)) ? readEndpoint(nodeDisk, data) : null
  if (endpoint === null) {
    throw new CommandError('unreachable', `no node runs with the data directory ${data}`)
  }
  return { urls: [endpoint.url], token: token ?? endpoint.adminToken ?? null }
}

/** The one topic that has live nodes here. */
async function onlyLocalCluster(env: Env, token: string | null): Promise<Target> {
  const folder = join(dataRoot(env), 'raft-p2p')
  const urls = new Map<string, string[]>()
  for (const discovery of nodeDisk.list(folder)) {
    if (!/^[0-9a-f]{16}$/.test(discovery)) continue
    const found = await localUrls(env, discovery)
    if (found.length > 0) urls.set(discovery, found)
  }
  const [only] = urls
  if (only === undefined) {
    throw new CommandError(
      'unreachable',
      'no node runs on this machine',
      'Start one with: raft-p2p join <topic>, or name a cluster with --connect URL or --topic T',
    )
  }
  if (urls.size > 1) {
    throw new UsageError(
      `nodes of ${urls.size} topics run on this machine: say which with --topic T or --connect URL`,
    )
  }
  const [discovery, found] = only
  const nodes = listening(await listSlots(nodeDisk, dataRoot(env), discovery))
  return { urls: found, token: token ?? (await localToken(nodes, env)) }
}

/** Those in slots, and those with a directory of their own that told the others of this machine where they are. */
async function localUrls(env: Env, discovery: string): Promise<string[]> {
  const slots = listening(await listSlots(nodeDisk, dataRoot(env), discovery))
  if (slots.length > 0) {
    // Whoever only waits for admission knows neither members nor leader.
    const isMember = ({ path }: Slot): boolean => memberIdIn(path) !== null
    return urlsOf([...slots.filter(isMember), ...slots.filter((slot) => !isMember(slot))])
  }
  const { parseLiveRecord } = await import('../../discovery/local.ts')
  const folder = join(dataRoot(env), 'raft-p2p', discovery.slice(0, 16), 'live')
  const urls: string[] = []
  for (const name of nodeDisk.list(folder).filter((each) => each.endsWith('.json'))) {
    const text = new TextDecoder().decode(nodeDisk.read(join(folder, name)) ?? undefined)
    // A killed node leaves its record behind: only a listener counts.
    for (const url of parseLiveRecord(text)?.urls ?? []) {
      if (await answers(url)) urls.push(url)
    }
  }
  return [...new Set(urls)]
}

function memberIdIn(path: string): number | null {
  try {
    return readIdentity(nodeDisk, path)?.memberId ?? null
  } catch {
    return null
  }
}

function answers(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve) => {
    const socket = connectSocket({ host, port: Number(port), timeout: ANSWER_MS_MAX })
    const done = (isThere: boolean): void => {
      socket.destroy()
      resolve(isThere)
    }
    socket.once('connect', () => done(true))
    socket.once('timeout', () => done(false))
    socket.once('error', () => done(false))
  })
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

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
