/**
 * The disk of the machine: the only file of the project's node that imports node:fs. It must never report a write as
 * durable that fdatasync has not confirmed, and never retry a failed sync (the kernel may have dropped the dirty pages).
 */
import fs from 'node:fs'
import path from 'node:path'
import type { DiskFile, DiskReader, FileStat, HostDisk } from './disk.ts'
import { StorageError } from './storage.ts'

/** Zeros are written and synced in pieces of this size, so that the saves of the log get their turn between them. */
const ZERO_CHUNK_BYTES = 1 << 20
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

type Cause = NodeJS.ErrnoException
// A call that succeeds hands over null on Node and Bun, undefined on Deno: callbacks here ask only whether it is an error.

export const nodeDisk: HostDisk = {
  stat(target): FileStat | null {
    return guarded('stat', target, () => {
      const found = fs.statSync(target, { throwIfNoEntry: false })
      if (found === undefined) return null
      const kind = found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other'
      return { kind, sizeBytes: found.size }
    })
  },

  read(target) {
    return guarded('read', target, () => {
      try {
        return fs.readFileSync(target)
      } catch (cause) {
        if ((cause as Cause).code === 'ENOENT') return null
        throw cause
      }
    })
  },

  readPart(target, position, length) {
    return guarded('read', target, () => {
      if (!fs.existsSync(target)) return null
      const fd = fs.openSync(target, 'r')
      try {
        const bytes = new Uint8Array(length)
        let end = 0
        for (let count = -1; count !== 0 && end < length; end += count) {
          count = fs.readSync(fd, bytes, end, length - end, position + end)
        }
        return bytes.subarray(0, end)
      } finally {
        fs.closeSync(fd)
      }
    })
  },

  list(target) {
    return guarded('list', target, () => {
      try {
        return fs.readdirSync(target).sort()
      } catch (cause) {
        if ((cause as Cause).code === 'ENOENT') return []
        throw cause
      }
    })
  },

  makeDirectory(target) {
    guarded('make directory', target, () => makeDirectory(path.resolve(target)))
  },

  syncDirectory(target) {
    syncDirectory(target)
  },

  replace(target, bytes) {
    const temporary = `${target}.tmp`
    try {
      writeTemporary(temporary, bytes)
    } catch (failure) {
      // A half-written file would hold on to room that is needed.
      fs.rmSync(temporary, { force: true })
      throw failure
    }
    guarded('rename', target, () => fs.renameSync(temporary, target))
    syncDirectory(path.dirname(target))
  },

  overwrite(target, position, bytes) {
    const fd = guarded('open', target, () => fs.openSync(target, 'r+'))
    try {
      guarded('write', target, () => writeAllSync(fd, bytes, position))
      synced('fdatasync', target, () => fs.fdatasyncSync(fd))
    } finally {
      fs.closeSync(fd)
    }
  },

  rename(from, to) {
    guarded('rename', from, () => fs.renameSync(from, to))
    syncDirectory(path.dirname(to))
    if (path.dirname(from) !== path.dirname(to)) syncDirectory(path.dirname(from))
  },

  remove(target) {
    if (!fs.existsSync(path.dirname(target))) return
    guarded('remove', target, () => fs.rmSync(target, { recursive: true, force: true }))
    syncDirectory(path.dirname(target))
  },

  allocate(target, head, sizeBytes, done) {
    allocate(target, head, sizeBytes, done)
  },

  open(target) {
    return openFile(
      guarded('open', target, () => fs.openSync(target, 'r+')),
      target,
    )
  },

  reader(target) {
    return openReader(
      guarded('open', target, () => fs.openSync(target, 'r')),
      target,
    )
  },

  move(from, to, done) {
    fs.rename(from, to, (failure) => {
      if (failure) return done(storageError('rename', from, failure))
      syncDirectoryLater(path.dirname(to), done)
    })
  },

  discard(target, done) {
    fs.unlink(target, (failure) => {
      if (failure && failure.code !== 'ENOENT') return done(storageError('remove', target, failure))
      syncDirectoryLater(path.dirname(target), done)
    })
  },

  soon(callback) {
    setImmediate(callback)
  },

  makeEphemeralDirectory(target) {
    guarded('make directory', target, () => fs.mkdirSync(target, { mode: DIRECTORY_MODE }))
  },

  moveOntoEmpty(from, to) {
    return guarded('rename', from, () => {
      try {
        fs.renameSync(from, to)
        return 'moved'
      } catch (cause) {
        const code = (cause as Cause).code
        if (code === 'ENOTEMPTY' || code === 'EEXIST') return 'occupied'
        if (code === 'ENOENT') return 'vanished'
        throw cause
      }
    })
  },

  unlink(target) {
    guarded('unlink', target, () => {
      try {
        fs.unlinkSync(target)
      } catch (cause) {
        if ((cause as Cause).code !== 'ENOENT') throw cause
      }
    })
  },

  makeSymlink(pointsTo, target) {
    guarded('symlink', target, () => fs.symlinkSync(pointsTo, target))
  },
}

function openFile(fd: number, target: string): DiskFile {
  return {
    path: target,
    write(buffers, position, done) {
      writeAll(fd, buffers, position, (failure) => {
        if (failure) return done(storageError('write', target, failure))
        fs.fdatasync(fd, (cause) => done(cause ? syncError('fdatasync', target, cause) : null))
      })
    },
    close(done) {
      fs.close(fd, () => done())
    },
  }
}

/** The file is closed when nobody reads any more: closing it under a read could hand its number to another file. */
function openReader(fd: number, target: string): DiskReader {
  let isOpen = true
  let reading = 0
  const ended = () => {
    reading--
    if (!isOpen && reading === 0) fs.close(fd, () => {})
  }
  return {
    read(position, length, done) {
      if (!isOpen) throw new Error('bug: read after close')
      reading++
      const bytes = new Uint8Array(length)
      readAll(fd, bytes, 0, position, (failure, end) => {
        ended()
        if (failure) done(storageError('read', target, failure), null)
        else done(null, bytes.subarray(0, end))
      })
    },
    close() {
      if (!isOpen) return
      isOpen = false
      if (reading === 0) fs.close(fd, () => {})
    },
  }
}

function readAll(
  fd: number,
  bytes: Uint8Array,
  from: number,
  position: number,
  done: (failure: Cause | null, end: number) => void,
): void {
  fs.read(fd, bytes, from, bytes.length - from, position + from, (failure, count) => {
    if (failure) return done(failure, from)
    const end = from + count
    if (count === 0 || end === bytes.length) return done(null, end)
    readAll(fd, bytes, end, position, done)
  })
}

function allocate(
  target: string,
  head: Uint8Array,
  sizeBytes: number,
  done: (error: StorageError | null, file: DiskFile | null) => void,
): void {
  const temporary = `${target}.tmp`
  fs.open(temporary, 'w', FILE_MODE, (openFailure, fd) => {
    if (openFailure) return done(storageError('create', temporary, openFailure), null)
    const give = (error: StorageError) => {
      fs.close(fd, () => fs.unlink(temporary, () => done(error, null)))
    }
    fillWithZeros(fd, temporary, head, sizeBytes, (fillFailure) => {
      if (fillFailure !== null) return give(fillFailure)
      fs.fsync(fd, (syncFailure) => {
        if (syncFailure) return give(syncError('fsync', temporary, syncFailure))
        fs.rename(temporary, target, (renameFailure) => {
          if (renameFailure) return give(storageError('rename', target, renameFailure))
          syncDirectoryLater(path.dirname(target), (failure) => {
            if (failure) return fs.close(fd, () => done(failure, null))
            done(null, openFile(fd, target))
          })
        })
      })
    })
  })
}

function fillWithZeros(
  fd: number,
  target: string,
  head: Uint8Array,
  sizeBytes: number,
  done: (error: StorageError | null) => void,
): void {
  const zeros = new Uint8Array(ZERO_CHUNK_BYTES)
  const step = (position: number, chunk: Uint8Array) => {
    writeAll(fd, [chunk], position, (failure) => {
      if (failure) return done(storageError('write', target, failure))
      fs.fdatasync(fd, (cause) => {
        if (cause) return done(syncError('fdatasync', target, cause))
        const next = position + chunk.length
        if (next >= sizeBytes) return done(null)
        step(next, zeros.subarray(0, Math.min(ZERO_CHUNK_BYTES, sizeBytes - next)))
      })
    })
  }
  step(0, head)
}

/** A write may be short; the rest is tried again, and it is the second try that names the reason (ENOSPC, say). */
function writeAll(
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
  done: (failure: Cause | null) => void,
): void {
  const written = (failure: Cause | null, count: number) => {
    if (failure) return done(failure)
    const rest = without(buffers, count)
    if (rest.length === 0) return done(null)
    writeAll(fd, rest, position + count, done)
  }
  const [first] = buffers
  if (first === undefined) setImmediate(done, null)
  else if (buffers.length === 1) fs.write(fd, first, 0, first.length, position, written)
  else fs.writev(fd, buffers, position, written)
}

function without(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  let skip = count
  for (const buffer of buffers) {
    const taken = Math.min(skip, buffer.length)
    skip -= taken
    if (taken < buffer.length) rest.push(buffer.subarray(taken))
  }
  return rest
}

function writeAllSync(fd: number, bytes: Uint8Array, position: number): void {
  let at = 0
  while (at < bytes.length) at += fs.writeSync(fd, bytes, at, bytes.length - at, position + at)
}

function writeTemporary(temporary: string, bytes: Uint8Array): void {
  const fd = guarded('create', temporary, () => fs.openSync(temporary, 'w', FILE_MODE))
  try {
    // An older file of that name would keep its own mode.
    guarded('protect', temporary, () => fs.fchmodSync(fd, FILE_MODE))
    guarded('write', temporary, () => writeAllSync(fd, bytes, 0))
    synced('fsync', temporary, () => fs.fsyncSync(fd))
  } finally {
    fs.closeSync(fd)
  }
}

/** Each new directory is durable only when its parent has been synced. */
function makeDirectory(target: string): void {
  if (fs.existsSync(target)) return
  const parent = path.dirname(target)
  makeDirectory(parent)
  try {
    fs.mkdirSync(target, { mode: DIRECTORY_MODE })
  } catch (cause) {
    if ((cause as Cause).code !== 'EEXIST') throw cause
  }
  syncDirectory(parent)
}

function syncDirectory(target: string): void {
  const fd = guarded('open', target, () => fs.openSync(target, 'r'))
  try {
    synced('fsync', target, () => fs.fsyncSync(fd))
  } finally {
    fs.closeSync(fd)
  }
}

function syncDirectoryLater(target: string, done: (error: StorageError | null) => void): void {
  fs.open(target, 'r', (openFailure, fd) => {
    if (openFailure) return done(storageError('open', target, openFailure))
    fs.fsync(fd, (failure) => {
      fs.close(fd, () => done(failure ? syncError('fsync', target, failure) : null))
    })
  })
}

function guarded<T>(call: string, target: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw cause instanceof StorageError ? cause : storageError(call, target, cause as Cause)
  }
}

function synced(call: string, target: string, work: () => void): void {
  try {
    work()
  } catch (cause) {
    throw syncError(call, target, cause as Cause)
  }
}

function storageError(call: string, target: string, cause: Cause): StorageError {
  const full = cause.code === 'ENOSPC' || cause.code === 'EDQUOT'
  return full
    ? new StorageError('disk-full', `No room on the disk for ${target} (${cause.code}).`, {
        path: target,
        cause,
      })
    : new StorageError('io', `Could not ${call} ${target}: ${cause.message}`, {
        path: target,
        cause,
      })
}

function syncError(call: string, target: string, cause: Cause): StorageError {
  return new StorageError('io', `${call} of ${target} failed: ${cause.message}`, {
    path: target,
    cause,
  })
}
