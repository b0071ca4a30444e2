/**
 * Entries are touched more often than anything else, in loops that see them from everywhere. All of them are made with the same fields
 * in the same order, so that the engine has one hidden class for them. `{ ...id, kind, payload }` would do the opposite: a literal that
 * begins with a spread and adds to it makes, in Node 20, a class for each object, and every access to one of them is slow.
 */
import v8 from 'node:v8'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readEntry, writeEntry } from '../../node/raft/entry-codec.ts'
import type { Entry } from '../../node/raft/types.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openWal } from '../../node/storage/wal.ts'
import { bytesOf, Cluster } from '../support/raft-cluster.ts'
import { close, STORAGE_ID, saved, temporaryDirectory } from '../support/storage.ts'

v8.setFlagsFromString('--allow-natives-syntax')
const haveSameClass = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (
  a: object,
  b: object,
) => boolean

const test = suite('entries')

/** As a leader appends them. */
function appended(count: number): Entry[] {
  const leader = new Cluster({ size: 3 }).elect()
  for (let i = 0; i < count; i++) leader.raft.propose('command', bytesOf(`write ${i}`))
  const { log } = leader.raft
  return log.slice(log.lastIndex - count + 1, log.lastIndex, Number.POSITIVE_INFINITY)
}

/** As they come from a frame. */
function carried(entry: Entry): Entry {
  const bytes = new Uint8Array(100)
  const view = new DataView(bytes.buffer)
  const end = writeEntry(view, bytes, 0, entry)
  return (readEntry(view, bytes, 0, end) as { entry: Entry }).entry
}

test('are of one hidden class, wherever they come from', async () => {
  const [first, ...more] = appended(20) as [Entry, ...Entry[]]
  for (const entry of more) assert.ok(haveSameClass(entry, first), 'appended')
  for (const entry of more) assert.ok(haveSameClass(carried(entry), first), 'from a frame')
  const directory = `${temporaryDirectory()}/wal`
  const options = { disk: nodeDisk, directory, storageId: STORAGE_ID, create: true }
  const log = openWal(options)
  const entries = more.map(({ kind, payload }, at) => ({ term: 1, index: at + 1, kind, payload }))
  await saved(log, { entries })
  await close(log)
  const again = openWal({ disk: nodeDisk, directory, storageId: STORAGE_ID })
  assert.is(again.recovered.entries.length, more.length)
  for (const entry of again.recovered.entries) assert.ok(haveSameClass(entry, first), 'from disk')
  await close(again)
})

test.run()
