/** How keys and values are printed: as they are into a pipe, harmless on a terminal, in CONTRACT's form as JSON. */
import type { KvItem } from '../../client/client.ts'
import { type Io, printable } from './command.ts'

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text, or null when the bytes are not valid UTF-8. */
function textOf(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes)
  } catch {
    return null
  }
}

/** `key` and `value` as text, or `keyBase64` and `valueBase64` exactly where the bytes are not valid UTF-8. */
export function jsonItem({ key, value, revision }: KvItem): Record<string, unknown> {
  return { ...jsonBytes('key', key), ...jsonBytes('value', value), revision }
}

function jsonBytes(name: string, bytes: Uint8Array): Record<string, string> {
  const text = textOf(bytes)
  if (text !== null) return { [name]: text }
  return { [`${name}Base64`]: Buffer.from(bytes).toString('base64') }
}

/** On a terminal the bytes must not drive it. */
export function shownBytes(io: Io, bytes: Uint8Array): Uint8Array {
  if (io.stdout.isTTY !== true) return bytes
  return new TextEncoder().encode(printable(new TextDecoder().decode(bytes)))
}
