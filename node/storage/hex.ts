/** Ids of 16 bytes as their 32 hex digits, and back. */

export function hexBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new Error('bug: an id has 32 lower-case hex digits')
  return Uint8Array.from({ length: 16 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  )
}

export function hexText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
