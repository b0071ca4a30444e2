/**
 * What the disk of the machine asks of the system, call by call: nothing is reported as done before the fsync that makes it durable, and
 * a failed fsync is reported, never tried again. No other test would notice: whatever was not synced is there until the power goes.
 */
import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { DiskFile } from '../../node/storage/disk.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import type { StorageError } from '../../node/storage/storage.ts'
import { temporaryDirectory } from '../support/storage.ts'

type Call = (...given: unknown[]) => unknown
type Done = (error: StorageError | null) => void

const SYNCS = ['fsync', 'fdatasync']
const CHANGES = ['write', 'writev', 'rename', 'unlink', 'rm', 'mkdir', ...SYNCS]
const root = temporaryDirectory()

/** Runs `work` and returns what it called, by the names of files; `fails`: the fsync of that name does. */
async function calls(work: (done: Done) => void, fails = ''): Promise<string[]> {
  const system = fs as unknown as Record<string, Call>
  const real = { ...system }
  const seen: string[] = []
  const names = new Map<number, string>()
  const nameOf = (path: unknown): string => String(path).replace(root, '') || '/'
  const note = (name: string, first: unknown): string => {
    const call = name.replace('Sync', '').replace('writev', 'write')
    const said = `${call} ${typeof first === 'number' ? names.get(first) : nameOf(first)}`
    if (seen.at(-1) !== said) seen.push(said)
    return said
  }
  const failure = Object.assign(new Error('failed'), { code: 'EIO' })
  for (const name of CHANGES) {
    system[name] = (...given) => {
      if (note(name, given[0]) !== fails) return real[name]?.(...given)
      return setImmediate(() => (given.at(-1) as Call)(failure))
    }
    system[`${name}Sync`] = (...given) => {
      if (note(name, given[0]) === fails) throw failure
      return real[`${name}Sync`]?.(...given)
    }
  }
  system.open = (path, flags, ...more) => {
    const done = more.pop() as (error: unknown, fd: number) => void
    real.open?.(path, flags, ...more, (error: unknown, fd: number) => {
      names.set(fd, nameOf(path))
      done(error, fd)
    })
  }
  system.openSync = (path, ...more) => {
    const fd = real.openSync?.(path, ...more) as number
    names.set(fd, nameOf(path))
    return fd
  }
  try {
    const error = await new Promise<StorageError | null>((settle) => {
      try {
        work(settle)
      } catch (thrown) {
        settle(thrown as StorageError)
      }
    })
    return error === null ? seen : [...seen, error.code]
  } finally {
    for (const name of [...CHANGES, 'open']) {
      for (const one of [name, `${name}Sync`]) if (real[one] !== undefined) system[one] = real[one]
    }
  }
}

const BYTES = Uint8Array.of(1, 2, 3)

/** In a file that is there, whose descriptor was opened under the same watch. */
function inFile(run: (file: DiskFile, done: Done) => void): (done: Done) => void {
  return (done) => {
    const file = nodeDisk.open(`${root}/file`)
    run(file, (error) => file.close(() => done(error)))
  }
}

const now =
  (run: () => void): ((done: Done) => void) =>
  (done) => {
    run()
    done(null)
  }

/** What is done, and what the system is asked for, in order. */
const TABLE: readonly [name: string, work: (done: Done) => void, wanted: string[]][] = [
  [
    'a write to the log',
    inFile((file, done) => file.write([BYTES, BYTES], 0, done)),
    ['write /file', 'fdatasync /file'],
  ],
  [
    'replace',
    now(() => nodeDisk.replace(`${root}/file`, BYTES)),
    ['write /file.tmp', 'fsync /file.tmp', 'rename /file.tmp', 'fsync /'],
  ],
  [
    'overwrite',
    now(() => nodeDisk.overwrite(`${root}/file`, 0, BYTES)),
    ['write /file', 'fdatasync /file'],
  ],
  [
    'allocate',
    (done) => nodeDisk.allocate(`${root}/new`, BYTES, 10, (error) => done(error)),
    [
      ...['write /new.tmp', 'fdatasync /new.tmp', 'write /new.tmp', 'fdatasync /new.tmp'],
      ...['fsync /new.tmp', 'rename /new.tmp', 'fsync /'],
    ],
  ],
  ['make directory', now(() => nodeDisk.makeDirectory(`${root}/d`)), ['mkdir /d', 'fsync /']],
  [
    'rename',
    now(() => nodeDisk.rename(`${root}/new`, `${root}/d/old`)),
    ['rename /new', 'fsync /d', 'fsync /'],
  ],
  [
    'move',
    (done) => nodeDisk.move(`${root}/d/old`, `${root}/d/young`, done),
    ['rename /d/old', 'fsync /d'],
  ],
  ['discard', (done) => nodeDisk.discard(`${root}/d/young`, done), ['unlink /d/young', 'fsync /d']],
  ['sync directory', now(() => nodeDisk.syncDirectory(`${root}/d`)), ['fsync /d']],
  ['remove', now(() => nodeDisk.remove(`${root}/d`)), ['rm /d', 'fsync /']],
]

const syncs = suite('what is asked of the system')

for (const [name, work, wanted] of TABLE) {
  syncs(`${name}: done when it is durable`, async () => {
    if (name === 'a write to the log') fs.writeFileSync(`${root}/file`, BYTES)
    assert.equal(await calls(work), wanted)
  })
}

syncs('an fsync that fails is told, and not tried again', async () => {
  fs.mkdirSync(`${root}/d`)
  let failures = 0
  for (const [name, work, wanted] of TABLE) {
    for (const sync of new Set(wanted.filter((call) => SYNCS.includes(call.split(' ')[0] ?? '')))) {
      fs.rmSync(root, { recursive: true })
      fs.mkdirSync(`${root}/d`, { recursive: true })
      for (const path of ['file', 'new', 'd/old', 'd/young'])
        fs.writeFileSync(`${root}/${path}`, BYTES)
      if (name === 'make directory') fs.rmSync(`${root}/d`, { recursive: true })
      const seen = await calls(work, sync)
      assert.is(seen.at(-1), 'io', `${name}: ${sync}`)
      assert.is(seen.filter((call) => call === sync).length, 1, `${name}: ${sync}`)
      failures++
    }
  }
  assert.ok(failures > 10)
})

syncs.run()
