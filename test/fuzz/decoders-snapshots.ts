/** The decoders of a snapshot file: its header, its trailer, and the whole of it in chunks of any size. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { crc32 } from '../../node/storage/crc.ts'
import {
  decodeSnapshotHeader,
  decodeSnapshotTrailer,
  encodePieceHeader,
  encodeSnapshotHeader,
  encodeSnapshotTrailer,
  PIECE_HEADER_BYTES,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_TRAILER_BYTES,
  SnapshotReading,
  type SnapshotTrailer,
} from '../../node/storage/snapshot-format.ts'
import type { SnapshotMeta } from '../../node/storage/snapshots.ts'
import { bytes, clusterId, u32, u64 } from './arbitraries.ts'
import { joined } from './mutations.ts'
import { type AnyRow, type Outcome, row } from './rows.ts'

const FORMAT = 'node/storage/snapshot-format.ts'

const view = (all: Uint8Array): DataView => new DataView(all.buffer, all.byteOffset, all.byteLength)

export const snapshotMeta: fc.Arbitrary<SnapshotMeta> = fc.record({
  clusterId,
  index: u64,
  term: u64,
  configuration: fc.record({ index: u64, payload: bytes }),
})

interface Whole {
  readonly meta: SnapshotMeta
  readonly pieces: readonly Uint8Array[]
}

export function snapshotFile({ meta, pieces }: Whole): Uint8Array {
  const header = encodeSnapshotHeader(meta)
  const parts = [header.bytes]
  let previous = header.checksum
  for (const piece of pieces) {
    const head = encodePieceHeader(piece, previous)
    previous = head.checksum
    parts.push(head.bytes, piece)
  }
  const sizeBytes = parts.reduce((sum, part) => sum + part.length, SNAPSHOT_TRAILER_BYTES)
  parts.push(encodeSnapshotTrailer({ pieces: pieces.length, sizeBytes, previous }))
  return joined(parts)
}

/** Fed in chunks whose sizes come from the input itself, so that every boundary is met somewhere. */
function readInChunks(input: Uint8Array): Outcome<Whole> {
  const reading = new SnapshotReading(input.length)
  const pieces: Uint8Array[] = []
  for (let at = 0; at < input.length; ) {
    const size = 1 + ((input[at] as number) % 50)
    const fault = reading.push(input.subarray(at, at + size), (piece) => pieces.push(piece.slice()))
    if (fault !== null) return { ok: false }
    assert.ok(reading.wantedBytes > 0)
    at += size
  }
  const { meta, isWhole } = reading
  return isWhole && meta !== null ? { ok: true, value: { meta, pieces } } : { ok: false }
}

/** Makes the checksums of the header right, and those of pieces and trailer as far as they can be followed. */
function resealed(input: Uint8Array): Uint8Array {
  const made = Uint8Array.from(input)
  if (made.length < SNAPSHOT_HEADER_BYTES) return made
  view(made).setUint32(60, crc32(made.subarray(0, 60)))
  let at = SNAPSHOT_HEADER_BYTES + view(made).getUint32(56)
  if (at + 4 > made.length) return made
  let checksum = crc32(made.subarray(0, at))
  view(made).setUint32(at, checksum)
  at += 4
  while (made.length - at > SNAPSHOT_TRAILER_BYTES) {
    const end = at + PIECE_HEADER_BYTES + view(made).getUint32(at + 4)
    if (end > made.length) return made
    const piece = made.subarray(at + PIECE_HEADER_BYTES, end)
    checksum = crc32(piece, crc32(made.subarray(at, at + 8), checksum))
    view(made).setUint32(at + 8, checksum)
    at = end
  }
  return resealedTrailer(made, checksum)
}

function resealedTrailer(input: Uint8Array, previous: number | null): Uint8Array {
  const made = Uint8Array.from(input)
  const at = made.length - SNAPSHOT_TRAILER_BYTES
  if (at < 0) return made
  const trailer = made.subarray(at)
  if (previous !== null) view(trailer).setUint32(24, crc32(trailer.subarray(0, 24), previous))
  view(trailer).setUint32(28, crc32(trailer.subarray(0, 28)))
  return made
}

const whole: fc.Arbitrary<Whole> = fc.record({
  meta: snapshotMeta,
  pieces: fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 5 }),
})

export const SNAPSHOT_DECODERS: readonly AnyRow[] = [
  row<Uint8Array, SnapshotMeta>({
    name: 'snapshot header',
    covers: [`${FORMAT}#decodeSnapshotHeader`],
    kind: 'bytes',
    values: snapshotMeta,
    encode: (meta) => encodeSnapshotHeader(meta).bytes,
    decode: (input) => {
      const header = decodeSnapshotHeader(input)
      if (typeof header === 'string') return { ok: false }
      assert.ok(header.end <= input.length)
      return { ok: true, value: header.meta }
    },
    reseal: resealed,
  }),
  row<Uint8Array, SnapshotTrailer>({
    name: 'snapshot trailer',
    covers: [`${FORMAT}#decodeSnapshotTrailer`],
    kind: 'bytes',
    values: fc.record({ pieces: u64, sizeBytes: u64, checksum: u32 }),
    encode: ({ pieces, sizeBytes, checksum }) => {
      const made = encodeSnapshotTrailer({ pieces, sizeBytes, previous: 0 })
      view(made).setUint32(24, checksum)
      return resealedTrailer(made, null)
    },
    decode: (input) => {
      const trailer = decodeSnapshotTrailer(input)
      return typeof trailer === 'string' ? { ok: false } : { ok: true, value: trailer }
    },
    again: 'bytes',
    reseal: (input) => resealedTrailer(input, null),
  }),
  row<Uint8Array, Whole>({
    name: 'snapshot file',
    covers: [`${FORMAT}#SnapshotReading`],
    kind: 'bytes',
    values: whole,
    encode: snapshotFile,
    decode: readInChunks,
    again: 'bytes',
    reseal: resealed,
  }),
]
