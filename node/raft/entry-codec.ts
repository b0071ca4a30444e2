/**
 * The bytes of an entry, shared by the log on disk and the Append message: u8 kind, u64 term, u64 index,
 * u32 payload length, payload. Big-endian. An entry is written in place, so that a batch is one buffer.
 */
import type { Entry, EntryKind } from './types.ts'

const KINDS: readonly EntryKind[] = ['command', 'configuration', 'noop', 'time']
const TWO_32 = 0x1_0000_0000

export const ENTRY_HEADER_BYTES = 1 + 8 + 8 + 4

export function entryBytes(entry: Entry): number {
  return ENTRY_HEADER_BYTES + entry.payload.length
}

/** Writes `entry` at `at` and returns the offset behind it. `view` and `bytes` cover the same buffer. */
export function writeEntry(view: DataView, bytes: Uint8Array, at: number, entry: Entry): number {
  view.setUint8(at, KINDS.indexOf(entry.kind))
  writeU64(view, at + 1, entry.term)
  writeU64(view, at + 9, entry.index)
  view.setUint32(at + 17, entry.payload.length)
  bytes.set(entry.payload, at + ENTRY_HEADER_BYTES)
  return at + ENTRY_HEADER_BYTES + entry.payload.length
}

/**
 * Reads the entry at `at`. The payload is a view of `bytes`: copy it before keeping it longer than the buffer. Returns null
 * when the bytes are no entry that fits before `end`.
 */
export function readEntry(
  view: DataView,
  bytes: Uint8Array,
  at: number,
  end: number,
): { entry: Entry; next: number } | null {
  if (end - at < ENTRY_HEADER_BYTES) return null
  const kind = KINDS[view.getUint8(at)]
  const term = readU64(view, at + 1)
  const index = readU64(view, at + 9)
  const length = view.getUint32(at + 17)
  const start = at + ENTRY_HEADER_BYTES
  if (kind === undefined || term === null || index === null || length > end - start) return null
  const next = start + length
  // In the order in which every other entry is made: they are of one hidden class then, and no access to them is slow.
  return { entry: { term, index, kind, payload: bytes.subarray(start, next) }, next }
}

/** A non-negative safe integer in 8 bytes, big-endian. */
export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_32))
  view.setUint32(at + 4, value >>> 0)
}

/** Null when the number is larger than 2^53 - 1. */
export function readU64(view: DataView, at: number): number | null {
  const high = view.getUint32(at)
  const low = view.getUint32(at + 4)
  // Not `0 * TWO_32 + low`: its sum is no small integer to the engine, and what holds it is of another hidden class.
  if (high === 0) return low
  return high > 0x1f_ffff ? null : high * TWO_32 + low
}
