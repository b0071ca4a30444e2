/**
 * `raft-p2p snapshot save <file>`: the whole state of the cluster as one checksummed file, taken while writes go on. The file gets its
 * name only when all of it is there and its checksum fits.
 */
import { createHash } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { CommandError, EXIT, type Invocation, printJson, printLine } from './command.ts'
import { findCluster } from './find-cluster.ts'
import { wantedOf } from './local-data.ts'
import { timeoutOf } from './with-client.ts'

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
  const answer = await ask(urls, token, timeoutOf(invocation))
  const saved = await write(file, answer)
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
  for (const url of urls) {
    const patience = new AbortController()
    const timer = setTimeout(() => patience.abort(), timeoutMs)
    try {
      const answer = await fetch(`${url.replace(/^ws/, 'http')}/v1/snapshot`, {
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
        signal: patience.signal,
      })
      if (answer.ok) return answer
      problem = await problemOf(answer)
    } catch (error) {
      const why = patience.signal.aborted ? `no answer within ${timeoutMs} ms` : `${error}`
      problem = new CommandError('unreachable', `${url} does not answer: ${why}`)
    } finally {
      clearTimeout(timer)
    }
  }
  throw problem
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

async function write(file: string, answer: Response): Promise<Saved> {
  const partial = `${file}.part`
  const hash = createHash('sha256')
  let bytes = 0
  const handle = await open(partial, 'w', 0o600)
  try {
    for await (const chunk of answer.body ?? []) {
      hash.update(chunk)
      bytes += chunk.length
      await handle.write(chunk)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  const sha256 = hash.digest('hex')
  if (sha256 !== answer.headers.get('raft-snapshot-sha256')) {
    await rm(partial)
    throw new CommandError('corrupt-snapshot', 'what has arrived is not what was sent; try again')
  }
  await rename(partial, file)
  const { headers } = answer
  return {
    ...{ file, bytes, sha256 },
    clusterId: headers.get('raft-cluster-id') ?? '',
    index: Number(headers.get('raft-index')),
  }
}
