/** A new Ed25519 key pair, made without loading a native package, so that quick commands stay quick. */
import { generateKeyPairSync } from 'node:crypto'

/** libsodium's layout: a public key of 32 bytes, and a secret key that is the seed and then the public key. */
export function newKeyPair(): { publicKey: Uint8Array; secretKey: Uint8Array } {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const publicKey = Buffer.from(jwk.x ?? '', 'base64url')
  return { publicKey, secretKey: Buffer.concat([Buffer.from(jwk.d ?? '', 'base64url'), publicKey]) }
}
