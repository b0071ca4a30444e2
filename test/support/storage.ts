/**
 * What the storage tests share: temporary directories that vanish at the end, entries, saves as promises, and a disk that
 * fails on demand.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Entry, HardState } from '../../node/raft/types.ts'
import type { Disk, DiskFile } from '../../node/storage/disk.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { type LogStorage, type Save, StorageError } from '../../node/storage/storage.ts'

export const STORAGE_ID = '00112233445566778899aabbccddeeff'
/** The smallest segment there is: a header block and 4 KiB of records. */
export const SMALL_SEGMENT_BYTES = 8192
export const HEADER_BYTES = 4096

const made: string[] = []
process.on('exit', () => {
  for (const directory of made) fs.rmSync(directory, { recursive: true, force: true })
})

export function temporaryDirectory(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'rp2p-storage-'))
  made.push(directory)
  return directory
}

export function entry(index: number, term = 1, payload: string | Uint8Array = `e${index}`): Entry {
  const bytes = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload
  return { term, index, kind: 'command', payload: bytes }
}

export function hardState(term: number, commit = 0, vote: string | null = null): HardState {
  return { term, vote, commit }
}

/** Entries from..to of one term. */
export function entries(from: number, to: number, term = 1, payloadBytes = 4): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) =>
    entry(from + i, term, `${term}.${from + i}`.padEnd(payloadBytes, 'x')),
  )
}

/** Resolves with the error, or null. */
export function save(log: LogStorage, batch: Partial<Save>): Promise<StorageError | null> {
  return new Promise((settle) => log.save({ hardState: null, entries: [], ...batch }, settle))
}

export async function saved(log: LogStorage, batch: Partial<Save>): Promise<void> {
  const error = await save(log, batch)
  if (error !== null) throw error
}

export function close(log: LogStorage): Promise<void> {
  return new Promise((settle) => log.close(settle))
}

/** What a log holds, in a form that two runs can be compared by: `index:term:payload`. */
export function contents(log: LogStorage): string[] {
  return log.recovered.entries.map(
    ({ index, term, payload }) => `${index}:${term}:${new TextDecoder().decode(payload)}`,
  )
}

/** The StorageError that `work` throws; anything else is thrown on. */
export function refusal(work: () => unknown): StorageError {
  try {
    work()
  } catch (failure) {
    if (failure instanceof StorageError) return failure
    throw failure
  }
  throw new Error('nothing was refused')
}

export interface Faults {
  /** The next write of the log fails so; before it, `prefixBytes` of it reach the file. */
  nextWrite: { code: 'disk-full' | 'io'; prefixBytes: number } | null
  /** The next preallocation fails so. */
  nextAllocation: 'disk-full' | 'io' | null
  /** Calls seen: `write <name> <position> <bytes>`, `allocate <name>`. */
  readonly calls: string[]
  /** Preallocations wait until `release` is called. */
  holdAllocations: boolean
  release(): void
}

/** The real disk with failures that are asked for. */
export function faultyDisk(): { disk: Disk; faults: Faults } {
  const held: (() => void)[] = []
  const faults: Faults = {
    nextWrite: null,
    nextAllocation: null,
    calls: [],
    holdAllocations: false,
    release() {
      faults.holdAllocations = false
      for (const work of held.splice(0)) work()
    },
  }
  const wrap = (file: DiskFile): DiskFile => ({
    path: file.path,
    close: (done) => file.close(done),
    write(buffers, position, done) {
      const bytes = Buffer.concat(buffers)
      faults.calls.push(`write ${path.basename(file.path)} ${position} ${bytes.length}`)
      const fault = faults.nextWrite
      if (fault === null) return file.write(buffers, position, done)
      faults.nextWrite = null
      nodeDisk.overwrite(file.path, position, bytes.subarray(0, fault.prefixBytes))
      setImmediate(() => done(new StorageError(fault.code, 'injected', { path: file.path })))
    },
  })
  const allocate: Disk['allocate'] = (target, head, sizeBytes, done) => {
    faults.calls.push(`allocate ${path.basename(target)}`)
    const code = faults.nextAllocation
    faults.nextAllocation = null
    const work = () => {
      if (code !== null) {
        setImmediate(() => done(new StorageError(code, 'injected', { path: target }), null))
        return
      }
      nodeDisk.allocate(target, head, sizeBytes, (error, file) =>
        done(error, file === null ? null : wrap(file)),
      )
    }
    if (faults.holdAllocations) held.push(work)
    else work()
  }
  return { disk: { ...nodeDisk, allocate, open: (target) => wrap(nodeDisk.open(target)) }, faults }
}
