/** The log on a file system that is really full: a small tmpfs, where the machine permits one. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openWal } from '../../node/storage/wal.ts'
import { close, entries, STORAGE_ID, save, saved, temporaryDirectory } from '../support/storage.ts'

const TMPFS_KIB = 1024
const SEGMENT_BYTES = 64 * 1024

function mounted(): string | null {
  const place = `${temporaryDirectory()}/tmpfs`
  fs.mkdirSync(place)
  const size = `size=${TMPFS_KIB}k`
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', place])
  if (status !== 0) return null
  process.prependListener('exit', () => spawnSync('umount', ['-l', place]))
  return place
}

const full = suite('a disk that is full')
const place = mounted()
if (place === null) console.log('SKIP tmpfs mount: not permitted here')

const declare = place === null ? full.skip : full
declare(
  'refuses saves as disk-full, keeps what was saved, and goes on when there is room',
  async () => {
    const root = place as string
    const options = {
      disk: nodeDisk,
      directory: `${root}/wal`,
      storageId: STORAGE_ID,
      segmentBytes: SEGMENT_BYTES,
    }
    const log = openWal({ ...options, create: true })
    let last = 0
    let code: string | null = null
    while (code === null) {
      const error = await save(log, { entries: entries(last + 1, last + 4, 1, 4000) })
      if (error === null) last += 4
      code = error?.code ?? null
      assert.ok(last * 4000 < TMPFS_KIB * 1024, 'the disk must be full by now')
    }
    assert.is(code, 'disk-full')
    const big = await save(log, { entries: entries(last + 1, last + 1, 1, 400_000) })
    assert.is(big?.code, 'disk-full')
    assert.not.ok(fs.readdirSync(options.directory).some((name) => name.endsWith('.tmp')))

    // A restart on the full disk finds everything.
    await close(log)
    const restarted = openWal(options)
    assert.is(restarted.recovered.entries.length, last)
    const still = await save(restarted, { entries: entries(last + 1, last + 100, 1, 4000) })
    assert.is(still?.code, 'disk-full')

    // Room again: whatever filled the disk is gone.
    assert.is(spawnSync('mount', ['-o', 'remount,size=8192k', root]).status, 0)
    await saved(restarted, { entries: entries(last + 1, last + 100, 2, 4000) })
    await saved(restarted, { entries: entries(last + 101, last + 101, 2) })
    await close(restarted)
    const again = openWal(options)
    assert.is(again.recovered.entries.length, last + 101)
    assert.is(again.recovered.entries[last]?.term, 2)
    await close(again)
  },
)

declare('a file that cannot be replaced for want of room stays as it was', () => {
  const root = place as string
  const path = `${root}/small.json`
  nodeDisk.replace(path, Buffer.from('old'))
  assert.is(spawnSync('mount', ['-o', 'remount,size=8192k', root]).status, 0)
  const filler = `${root}/filler`
  let error: unknown = null
  try {
    fs.writeFileSync(filler, Buffer.alloc(9 << 20))
  } catch {
    // That is the point: now there is no room.
  }
  try {
    nodeDisk.replace(path, Buffer.alloc(100_000))
  } catch (failure) {
    error = failure
  }
  assert.is((error as { code?: string } | null)?.code, 'disk-full')
  assert.is(fs.readFileSync(path, 'utf8'), 'old')
  assert.not.ok(fs.existsSync(`${path}.tmp`))
})

full.run()
