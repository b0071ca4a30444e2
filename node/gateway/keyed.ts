/**
 * Writes under an `Idempotency-Key`: the cluster, and not this node, remembers the key with the request and its answer, so that the
 * same request may come again through any node, after any failure. It needs no session.
 */
import { createHash } from 'node:crypto'
import { decodeOutcome, type ErrorBody, encodeCommand } from '../../client/protocol.ts'
import type { Service, ServiceAnswer } from '../service.ts'
import type { Exchange } from './exchange.ts'
import { errorBody, Refusal, refuse } from './problem.ts'

/** A UUID has 36 characters; a name made of a few fields still fits. */
const NAME_CHARS_MAX = 255

/** The key that a request names, or null. Refuses what is no key rather than make a promise that is not kept. */
export function idempotencyKeyOf(header: string | readonly string[] | undefined): string | null {
  if (header === undefined) return null
  if (typeof header === 'string' && /^[\x21-\x7e]+$/.test(header)) {
    if (header.length <= NAME_CHARS_MAX) return header
  }
  throw refuse(
    'bad-request',
    `Idempotency-Key is 1 to ${NAME_CHARS_MAX} visible ASCII characters without spaces`,
  )
}

/** Returns the machine's result: that of the first time, if this very request came under this key before. */
export async function writeKeyed(
  service: Pick<Service, 'request' | 'timeMoves'>,
  exchange: Exchange,
  write: { readonly name: string; readonly operation: Uint8Array; readonly timeoutMs: number },
): Promise<Uint8Array> {
  const { name, operation, timeoutMs } = write
  const command = encodeCommand({
    kind: 'keyed',
    session: 0,
    sequence: service.timeMoves(),
    firstOutstanding: 0,
    operation: Buffer.concat([sha256(name), sha256(operation), operation]),
  })
  const answer = await exchange.ask<ServiceAnswer>('write', (done) =>
    service.request({ type: 'command', command, timeoutMs }, done),
  )
  if (!answer.ok) throw new Refusal(answer.error)
  const { status, body } = decodeOutcome(answer.body)
  switch (status) {
    case 'done':
      return body
    case 'conflict': {
      const message = 'this Idempotency-Key came with another request before; nothing was written'
      throw new Refusal(errorBody('bad-request', message), { status: 422 })
    }
    case 'full':
      throw new Refusal(tooManyKeys())
    case 'expired': {
      const message =
        'the write came too late to tell whether it ran before; read to see what holds'
      throw new Refusal(errorBody('timeout', message, true))
    }
    case 'forgotten':
      throw refuse('internal', `a write without a session was answered ${status}`)
  }
}

function tooManyKeys(): ErrorBody {
  return errorBody('overloaded', 'too many idempotency keys are remembered; nothing was written')
}

function sha256(what: string | Uint8Array): Uint8Array {
  return createHash('sha256').update(what).digest()
}
