// timeout: 120 s
/** One live process a data directory: twenty starters at once, dead holders, deep directories, and slots. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  archive,
  dataRoot,
  listSlots,
  markLeft,
  readEndpoint,
  readTopic,
  removeEndpoint,
  takeDirectory,
  writeEndpoint,
  writeTopic,
} from '../../node/storage/directory.ts'
import { acquireLock, isLocked } from '../../node/storage/lock.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { StorageError } from '../../node/storage/storage.ts'
import { temporaryDirectory } from '../support/storage.ts'

const STARTERS = 20
/** How this runtime starts a TypeScript file: the file is run by hand on Bun and Deno too. */
const RUN =
  'Deno' in globalThis
    ? ['run', '-A', '--no-lock']
    : 'Bun' in globalThis
      ? ['run']
      : ['--import', 'tsx']
const ANSWER_MS_MAX = 60_000

interface Starter {
  readonly child: ChildProcess
  ask(line: string): Promise<string>
  answer(): Promise<string>
  ended(): Promise<void>
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

function start(): Starter {
  const script = new URL('../support/lock-starter.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [...RUN, script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  running.add(child)
  const exit = new Promise<void>((settle) =>
    child.once('exit', () => {
      running.delete(child)
      settle()
    }),
  )
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  const answers: string[] = []
  const waiting: ((line: string) => void)[] = []
  lines.on('line', (line) => {
    const next = waiting.shift()
    if (next === undefined) answers.push(line)
    else next(line)
  })
  const answer = () =>
    new Promise<string>((settle, refuse) => {
      const known = answers.shift()
      if (known !== undefined) return settle(known)
      const timer = setTimeout(() => refuse(new Error('a starter is silent')), ANSWER_MS_MAX)
      waiting.push((line) => {
        clearTimeout(timer)
        settle(line)
      })
    })
  return {
    child,
    answer,
    ask(line) {
      child.stdin?.write(`${line}\n`)
      return answer()
    },
    ended: () => exit,
  }
}

/** What a holder that was killed leaves: a socket file nobody listens on. */
async function leaveDeadLock(directory: string): Promise<void> {
  fs.mkdirSync(`${directory}/lock`, { recursive: true })
  const server = net.createServer()
  const bound = path.join(directory, 'bound')
  await new Promise<void>((settle) => server.listen(bound, settle))
  fs.renameSync(bound, `${directory}/lock/dead.sock`)
  await new Promise((settle) => server.close(settle))
}

async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work
    return null
  } catch (failure) {
    if (failure instanceof StorageError) return failure.code
    throw failure
  }
}

const lock = suite('directory lock')

lock('of twenty starters at once exactly one wins, over a dead lock as well', async () => {
  const starters = Array.from({ length: STARTERS }, start)
  for (const starter of starters) assert.is(await starter.answer(), 'ready')
  for (const kind of ['new', 'dead', 'dead', 'dead', 'released', 'dead', 'dead']) {
    const directory = temporaryDirectory()
    if (kind === 'dead') await leaveDeadLock(directory)
    if (kind === 'released') await (await acquireLock(nodeDisk, directory)).release()
    const answers = await Promise.all(starters.map((starter) => starter.ask(`lock ${directory}`)))
    const won = answers.filter((answer) => answer === 'won').length
    const lost = answers.filter((answer) => answer === 'lost locked').length
    assert.equal({ kind, won, lost }, { kind, won: 1, lost: STARTERS - 1 }, answers.join(' '))
    assert.is(await codeOf(acquireLock(nodeDisk, directory)), 'locked')
    await Promise.all(starters.map((starter) => starter.ask('release')))
    assert.equal(fs.readdirSync(directory), ['lock'], 'no starter leaves anything')
  }
  const directory = temporaryDirectory()
  const [first, second, ...others] = starters as [Starter, Starter, ...Starter[]]
  for (const other of others) other.child.stdin?.end()
  assert.is(await first.ask(`lock ${directory}`), 'won')
  // By pid: Deno takes any signal sent through the ChildProcess for the child's end, and closes its stdin.
  process.kill(first.child.pid as number, 'SIGSTOP')
  assert.is(await second.ask(`lock ${directory}`), 'lost locked', 'a stopped holder lives')
  process.kill(first.child.pid as number, 'SIGKILL')
  await first.ended()
  assert.is(await isLocked(nodeDisk, directory), false)
  assert.is(await second.ask(`lock ${directory}`), 'won', 'a killed one does not')
  second.child.stdin?.end()
  await Promise.all(starters.map((starter) => starter.ended()))
})

lock('is taken, refused, released and taken again, by whatever path', async () => {
  const directory = temporaryDirectory()
  const held = await acquireLock(nodeDisk, directory)
  assert.is(await isLocked(nodeDisk, directory), true)
  assert.is(
    await codeOf(acquireLock(nodeDisk, `${directory}/../${path.basename(directory)}`)),
    'locked',
  )
  const link = `${temporaryDirectory()}/link`
  fs.symlinkSync(directory, link)
  assert.is(await codeOf(acquireLock(nodeDisk, link)), 'locked')
  await Promise.all([held.release(), held.release()])
  assert.is(await isLocked(nodeDisk, directory), false)
  const again = await acquireLock(nodeDisk, link)
  assert.is(await codeOf(acquireLock(nodeDisk, directory)), 'locked')
  await again.release()
})

lock('works in a directory whose path is longer than a socket address', async () => {
  const directory = path.join(temporaryDirectory(), 'long'.repeat(30), 'deep'.repeat(30))
  fs.mkdirSync(directory, { recursive: true })
  const dead = temporaryDirectory()
  await leaveDeadLock(dead)
  fs.renameSync(`${dead}/lock`, `${directory}/lock`)
  const held = await acquireLock(nodeDisk, directory)
  assert.is(fs.readdirSync(`${directory}/lock`).length, 1, 'the socket lies in the directory')
  assert.is(await codeOf(acquireLock(nodeDisk, directory)), 'locked')
  await held.release()
  assert.is(await isLocked(nodeDisk, directory), false)
})

lock('clears away what killed starters have left beside it', async () => {
  const directory = temporaryDirectory()
  fs.mkdirSync(`${directory}/lock.aaaa`)
  const dead = temporaryDirectory()
  await leaveDeadLock(dead)
  fs.renameSync(`${dead}/lock`, `${directory}/lock.bbbb`)
  const held = await acquireLock(nodeDisk, directory)
  assert.equal(fs.readdirSync(directory), ['lock'])
  await held.release()
})

lock.run()

const slots = suite('data directories')
const TOPIC_A = 'a'.repeat(64)
const TOPIC_B = 'b'.repeat(64)

slots('the root follows the environment and the platform', () => {
  assert.is(dataRoot({ RAFT_P2P_DATA_ROOT: '/x', XDG_DATA_HOME: '/y' }, 'linux'), '/x')
  assert.is(dataRoot({ XDG_DATA_HOME: '/y', HOME: '/h' }, 'linux'), '/y')
  assert.is(dataRoot({ XDG_DATA_HOME: 'relative', HOME: '/h' }, 'linux'), '/h/.local/share')
  assert.is(dataRoot({ HOME: '/h' }, 'linux'), '/h/.local/share')
  assert.is(dataRoot({ HOME: '/h' }, 'darwin'), '/h/Library/Application Support')
})

slots('the lowest free slot of the topic is taken, and a restart finds its own', async () => {
  const root = temporaryDirectory()
  const take = (discoveryKey: string) => takeDirectory(nodeDisk, { dataRoot: root, discoveryKey })
  const one = await take(TOPIC_A)
  const two = await take(TOPIC_A)
  const three = await take(TOPIC_A)
  const other = await take(TOPIC_B)
  assert.equal([one.slot, two.slot, three.slot, other.slot], [1, 2, 3, 1])
  assert.is(one.path, `${root}/raft-p2p/${'a'.repeat(16)}/1`)
  assert.is(fs.statSync(one.path).mode & 0o777, 0o700)
  await two.lock.release()
  const endpoint = { url: 'ws://127.0.0.1:7700', nodeKey: 'c'.repeat(64), pid: 7 }
  writeEndpoint(nodeDisk, one.path, endpoint)
  writeEndpoint(nodeDisk, two.path, endpoint)
  const shown = (await listSlots(nodeDisk, root)).map((slot) => [
    slot.discovery[0],
    slot.slot,
    slot.live,
    slot.endpoint?.pid ?? null,
  ])
  assert.equal(shown, [
    ['a', 1, true, 7],
    ['a', 2, false, null],
    ['a', 3, true, null],
    ['b', 1, true, null],
  ])
  assert.is((await listSlots(nodeDisk, root, TOPIC_B)).length, 1)
  assert.equal(await listSlots(nodeDisk, `${root}/nowhere`), [])
  const again = await take(TOPIC_A)
  assert.is(again.slot, 2)
  for (const taken of [one, three, other, again]) await taken.lock.release()
})

slots('--data names exactly one directory, locked or not', async () => {
  const data = `${temporaryDirectory()}/deep/down`
  const taken = await takeDirectory(nodeDisk, { data })
  assert.equal([taken.path, taken.slot, taken.left], [data, null, false])
  assert.is(await codeOf(takeDirectory(nodeDisk, { data })), 'locked')
  markLeft(nodeDisk, data)
  await taken.lock.release()
  const again = await takeDirectory(nodeDisk, { data })
  assert.equal([again.left, again.archived], [true, false])
  await again.lock.release()
})

slots('a slot whose node left is archived and used blank', async () => {
  const root = temporaryDirectory()
  const take = () => takeDirectory(nodeDisk, { dataRoot: root, discoveryKey: TOPIC_A })
  const first = await take()
  nodeDisk.makeDirectory(`${first.path}/wal`)
  fs.writeFileSync(`${first.path}/wal/0000000001.wal`, 'log')
  nodeDisk.makeDirectory(`${first.path}/snapshots`)
  fs.writeFileSync(`${first.path}/identity.json`, 'identity')
  writeTopic(nodeDisk, first.path, 'word')
  markLeft(nodeDisk, first.path)
  await first.lock.release()
  const second = await take()
  assert.equal([second.slot, second.archived], [1, true])
  assert.equal(fs.readdirSync(second.path).sort(), ['archive-1', 'lock', 'topic'])
  const archived = fs.readdirSync(`${second.path}/archive-1`).sort()
  assert.equal(archived, ['identity.json', 'left', 'snapshots', 'wal'])
  fs.writeFileSync(`${second.path}/identity.json`, 'identity 2')
  assert.is(archive(nodeDisk, second.path), `${second.path}/archive-2`)
  assert.equal(fs.readdirSync(`${second.path}/archive-2`), ['identity.json'])
  await second.lock.release()
})

slots('topic and endpoint are private files, and a broken one is none', () => {
  const directory = temporaryDirectory()
  assert.is(readTopic(nodeDisk, directory), null)
  writeTopic(nodeDisk, directory, 'two words ')
  assert.is(readTopic(nodeDisk, directory), 'two words ')
  assert.is(readEndpoint(nodeDisk, directory), null)
  const endpoint = { url: 'wss://h:1', nodeKey: 'd'.repeat(64), pid: 12, adminToken: 't' }
  writeEndpoint(nodeDisk, directory, endpoint)
  assert.equal(readEndpoint(nodeDisk, directory), endpoint)
  for (const name of ['topic', 'endpoint.json']) {
    assert.is(fs.statSync(`${directory}/${name}`).mode & 0o777, 0o600)
  }
  for (const text of ['', '{', 'null', '{"url":"http://x"}', '[]', '{"url":"ws://x","pid":1}']) {
    fs.writeFileSync(`${directory}/endpoint.json`, text)
    assert.is(readEndpoint(nodeDisk, directory), null)
  }
  removeEndpoint(nodeDisk, directory)
  removeEndpoint(nodeDisk, directory)
  assert.equal(fs.readdirSync(directory), ['topic'])
})

slots.run()
