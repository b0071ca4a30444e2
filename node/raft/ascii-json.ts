/**
 * JSON as ASCII bytes, for the rare messages that must stay readable by every later version. Pure code has no TextEncoder; JSON can
 * always be written in ASCII, so none is needed.
 */

export function encodeAsciiJson(value: unknown): Uint8Array {
  const text = JSON.stringify(value)
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) return encodeAscii(escaped(text))
    bytes[i] = code
  }
  return bytes
}

function escaped(text: string): string {
  return text.replace(
    /[\u0080-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function encodeAscii(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

/** Undefined when the bytes are not ASCII or not JSON. The caller still has to validate the shape. */
export function decodeAsciiJson(bytes: Uint8Array): unknown {
  for (let at = 0; at < bytes.length; at++) if ((bytes[at] as number) > 0x7f) return undefined
  let text = ''
  // In parts: there is a limit to the number of arguments of a call.
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + 8192) as unknown as number[])
  }
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
