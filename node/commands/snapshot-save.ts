/**
 * `raft-p2p snapshot save <file>`: the whole state of the cluster as one checksummed file, taken while writes go on. The file gets its
 * name only when all of it is there and its checksum fits.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { findCluster } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'
import { timeoutOf } from './with-client.ts'

const STATUS_MS_MAX = 1000

interface Saved {
  readonly file: string
  readonly bytes: number
  readonly clusterId: string
  readonly index: number
  readonly sha256: string
}

export async function run(invocation: Invocation): Promise<number> {
  const [file = ''] = invocation.args
  const { urls, token } = await findCluster(wantedOf(invocation))
  const partial = `${file}.part`
  const orUnwritable = (error: unknown): never => {
    throw unwritable(file, error)
  }
  // Before anybody is asked: a backup that has no place is not worth making.
  const handle = await open(partial, 'w', 0o600).catch(orUnwritable)
  let saved: Saved
  try {
    try {
      saved = await write(file, handle, await ask(urls, token, timeoutOf(invocation)))
    } finally {
      await handle.close()
    }
    await rename(partial, file).catch(orUnwritable)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
  if (invocation.json) printJson(invocation.io, saved)
  else {
    const { bytes, index, sha256 } = saved
    printLine(invocation.io, `OK ${file}  (${bytes} bytes, index ${index}, sha256 ${sha256})`)
  }
  return EXIT.ok
}

/** The first node that gives one. The time-out is for the answer to begin: how long the bytes take is the network's business. */
async function ask(
  urls: readonly string[],
  token: string | null,
  timeoutMs: number,
): Promise<Response> {
  let problem = new CommandError('unreachable', 'no node of the cluster answers')
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` }
  for (const url of urls) {
    const base = url.replace(/^ws/, 'http')
    const patience = new AbortController()
    const timer = setTimeout(() => patience.abort(), timeoutMs)
    try {
      const answer = await fetch(`${base}/v1/snapshot`, { headers, signal: patience.signal })
      if (answer.ok) return answer
      problem = await problemOf(answer)
    } catch (error) {
      problem = patience.signal.aborted
        ? await whyNone(base, headers, timeoutMs)
        : new CommandError('unreachable', `${url} does not answer: ${reasonOf(error)}`)
    } finally {
      clearTimeout(timer)
    }
  }
  throw problem
}

/** A backup holds all that was acknowledged before, which only a leader can tell. */
async function whyNone(
  base: string,
  headers: Record<string, string>,
  timeoutMs: number,
): Promise<CommandError> {
  try {
    const signal = AbortSignal.timeout(STATUS_MS_MAX)
    const answer = await fetch(`${base}/v1/status`, { headers, signal })
    const { leaderId } = (await answer.json()) as { leaderId?: unknown }
    if (leaderId === null) {
      return new CommandError('no-leader', `no node leads the cluster, as ${base} sees it`)
    }
  } catch {
    return new CommandError('unreachable', `${base} does not answer: no answer in ${timeoutMs} ms`)
  }
  return new CommandError('timeout', `${base} has not begun to send within ${timeoutMs} ms`)
}

async function problemOf(answer: Response): Promise<CommandError> {
  const text = await answer.text()
  try {
    const { code, detail } = JSON.parse(text) as { code?: unknown; detail?: unknown }
    return new CommandError(String(code ?? answer.status), String(detail ?? text))
  } catch {
    return new CommandError('internal', `HTTP ${answer.status}: ${text.slice(0, 200)}`)
  }
}

async function write(file: string, handle: FileHandle, answer: Response): Promise<Saved> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of chunksOf(answer)) {
    hash.update(chunk)
    bytes += chunk.length
    // Unlike `write`, it goes on until all of it is written.
    await handle.writeFile(chunk).catch((error) => Promise.reject(unwritable(file, error)))
  }
  await handle.sync().catch((error) => Promise.reject(unwritable(file, error)))
  const sha256 = hash.digest('hex')
  const { headers } = answer
  if (sha256 !== headers.get('raft-snapshot-sha256')) throw brokenOff('its checksum is another')
  return {
    ...{ file, bytes, sha256 },
    clusterId: headers.get('raft-cluster-id') ?? '',
    index: Number(headers.get('raft-index')),
  }
}

async function* chunksOf({ body }: Response): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body ?? []) yield chunk
  } catch (error) {
    throw brokenOff(reasonOf(error))
  }
}

function brokenOff(why: string): CommandError {
  const hint = 'Nothing was saved: try again, or name another node with --connect URL'
  return new CommandError('unreachable', `the backup did not arrive as it was sent: ${why}`, hint)
}

function unwritable(file: string, error: unknown): CommandError {
  const { code, message } = error as { readonly code?: string; readonly message: string }
  const why: Readonly<Record<string, string>> = {
    ENOENT: `there is no folder ${dirname(file)}`,
    ENOTDIR: `${dirname(file)} is no folder`,
    EISDIR: 'it is a folder',
    EACCES: 'permission denied',
    EROFS: 'the file system is read-only',
    ENOSPC: 'the disk is full',
  }
  const reason = (code === undefined ? undefined : why[code]) ?? message
  return new CommandError('unwritable', `${file} cannot be written: ${reason}`)
}

/** What fetch fails with hides the reason in its cause. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as { readonly cause?: unknown; readonly message?: string }
  return cause instanceof Error && cause.message !== '' ? cause.message : (message ?? String(error))
}
