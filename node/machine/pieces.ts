/**
 * A machine gives its state in records of any size; it travels and lies on disk in pieces of a bounded size: many small records in
 * one piece, a large one over several. They come out as they went in, with the same boundaries. Pure.
 *
 *   u8 0, then whole records: u32 length, bytes, until the end of the piece
 *   u8 1, u32 length of one large record, its first bytes
 *   u8 2, more bytes of it
 */
import { ByteReader, ByteWriter, MalformedError } from '../../client/bytes.ts'

/**
 * Small enough to be written between two requests without anybody noticing, large enough to cost little each. With the byte that
 * says which part of the state a piece belongs to it is 64 KiB.
 */
export const PIECE_BYTES_MAX = 64 * 1024 - 1
/** Far above any entry or reply that a frame can carry; what claims more is damaged. */
export const RECORD_BYTES_MAX = 64 * 1024 * 1024

const WHOLE = 0
const FIRST = 1
const MORE = 2
const FIRST_HEADER_BYTES = 1 + 4
const FIRST_PIECE_BYTES = 1024

/** Lazily: a record is asked for only when the pieces before it are taken. */
export function* cutIntoPieces(records: Iterable<Uint8Array>): Generator<Uint8Array> {
  // A small state fits into a small buffer, which grows by doubling: snapshots of it are taken often.
  let piece = new ByteWriter(FIRST_PIECE_BYTES).u8(WHOLE)
  for (const record of records) {
    const bytes = record.length
    if (bytes > RECORD_BYTES_MAX) throw new Error(`bug: a record of ${bytes} bytes`)
    if (piece.length + 4 + bytes > PIECE_BYTES_MAX && piece.length > 1) {
      yield piece.finish()
      piece = new ByteWriter(PIECE_BYTES_MAX).u8(WHOLE)
    }
    if (piece.length + 4 + bytes > PIECE_BYTES_MAX) yield* cutLarge(record)
    else piece.bytes(record)
  }
  if (piece.length > 1) yield piece.finish()
}

function* cutLarge(record: Uint8Array): Generator<Uint8Array> {
  const first = PIECE_BYTES_MAX - FIRST_HEADER_BYTES
  const header = new ByteWriter(PIECE_BYTES_MAX).u8(FIRST).u32(record.length)
  yield header.raw(record.subarray(0, first)).finish()
  for (let at = first; at < record.length; at += PIECE_BYTES_MAX - 1) {
    const more = record.subarray(at, at + PIECE_BYTES_MAX - 1)
    yield new ByteWriter(1 + more.length).u8(MORE).raw(more).finish()
  }
}

/**
 * Joins pieces to records again. Memory is taken as bytes arrive, never because a length was claimed. Whatever `cutIntoPieces` would
 * not have written so is malformed.
 */
export class PieceJoiner {
  readonly #record: (record: Uint8Array) => void
  /** The large record under way: its parts so far, copied. */
  #large: { readonly bytes: number; readonly parts: Uint8Array[]; missing: number } | null = null

  /** The record is a view of the piece: copy what is kept. */
  constructor(record: (record: Uint8Array) => void) {
    this.#record = record
  }

  /** Throws MalformedError. */
  write(piece: Uint8Array): void {
    if (piece.length > PIECE_BYTES_MAX) {
      throw new MalformedError(`a piece of ${piece.length} bytes`)
    }
    const reader = new ByteReader(piece)
    const type = reader.u8()
    if ((type === MORE) !== (this.#large !== null)) {
      throw new MalformedError('a piece that does not follow the one before')
    }
    switch (type) {
      case WHOLE:
        if (reader.remaining === 0) throw new MalformedError('an empty piece')
        while (reader.remaining > 0) this.#record(reader.bytes())
        return
      case FIRST:
        return this.#begin(reader.u32(), reader.rest())
      case MORE:
        return this.#append(reader.rest())
      default:
        throw new MalformedError(`unknown kind of piece ${type}`)
    }
  }

  /** Nothing more comes. Throws MalformedError when a record is not complete. */
  finish(): void {
    if (this.#large !== null) throw new MalformedError('the last record is cut off')
  }

  #begin(bytes: number, first: Uint8Array): void {
    if (bytes + FIRST_HEADER_BYTES <= PIECE_BYTES_MAX || bytes > RECORD_BYTES_MAX) {
      throw new MalformedError(`a large record of ${bytes} bytes`)
    }
    this.#large = { bytes, parts: [], missing: bytes }
    this.#append(first)
  }

  #append(bytes: Uint8Array): void {
    const large = this.#large
    if (large === null || bytes.length > large.missing || bytes.length === 0) {
      throw new MalformedError(`${bytes.length} bytes more than the record has`)
    }
    large.parts.push(bytes.slice())
    large.missing -= bytes.length
    if (large.missing > 0) return
    this.#large = null
    const whole = new Uint8Array(large.bytes)
    let at = 0
    for (const part of large.parts) {
      whole.set(part, at)
      at += part.length
    }
    this.#record(whole)
  }
}
