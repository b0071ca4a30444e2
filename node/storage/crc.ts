/**
 * CRC-32 (IEEE), continued from `seed`. The runtime's own where it has one (Node from 20.15, Bun, Deno), which is some
 * twenty times faster than the table.
 */
import * as zlib from 'node:zlib'

type Crc32 = (bytes: Uint8Array, seed?: number) => number

let table: Uint32Array | null = null

function makeTable(): Uint32Array {
  const made = new Uint32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
    made[byte] = value
  }
  return made
}

export function crc32ByTable(bytes: Uint8Array, seed = 0): number {
  table ??= makeTable()
  let value = ~seed
  for (let i = 0; i < bytes.length; i++) {
    value = (table[(value ^ (bytes[i] as number)) & 0xff] as number) ^ (value >>> 8)
  }
  return ~value >>> 0
}

const native = (zlib as { readonly crc32?: Crc32 }).crc32

export const crc32: Crc32 = native ?? crc32ByTable
