/**
 * What changes the cluster itself, over HTTP: members, leader, settings. It checks the shape of a request and passes it on by name;
 * what it means, and whether it may be done now, the leader decides.
 */
import type { Service } from '../service.ts'
import type { Exchange } from './exchange.ts'
import type { GatewayLimits } from './limits.ts'
import { errorBody, errorBodyOf, Refusal, refuse } from './problem.ts'

/** A request names members and settings: far less than this. */
const BODY_BYTES_MAX = 16 * 1024
/** A memberId, a name, or digits of a node key. */
const ID_CHARS_MAX = 128

export interface AdminParts {
  readonly service: Service
  readonly limits: GatewayLimits
}

type Field = 'id' | 'with' | 'to' | 'dryRun' | 'ifConfig' | 'settings'

interface Verb {
  readonly fields: readonly Field[]
  readonly required: readonly Field[]
}

const CHANGE: Verb = { fields: ['id', 'dryRun', 'ifConfig'], required: ['id'] }

/** By the name that the service knows; the path is the same with slashes. */
const VERBS = {
  'members.add': CHANGE,
  'members.remove': CHANGE,
  'members.promote': CHANGE,
  'members.replace': { fields: ['id', 'with', 'dryRun', 'ifConfig'], required: ['id'] },
  'leader.transfer': { fields: ['to'], required: [] },
  leave: { fields: [], required: [] },
  'config.set': { fields: ['settings', 'dryRun', 'ifConfig'], required: ['settings'] },
} as const satisfies Record<string, Verb>

export type AdminVerb = keyof typeof VERBS

export async function runVerb(
  parts: AdminParts,
  exchange: Exchange,
  name: AdminVerb,
): Promise<void> {
  const bytes = await exchange.body(BODY_BYTES_MAX, (length) =>
    errorBody('too-large', `${length} bytes; a request of this kind has at most ${BODY_BYTES_MAX}`),
  )
  const args = parseArguments(name, bytes)
  exchange.json(await ask(parts, exchange, { name, args, effect: 'write' }))
}

export async function showConfig(parts: AdminParts, exchange: Exchange): Promise<void> {
  exchange.json(await ask(parts, exchange, { name: 'config.get', args: {}, effect: 'read' }))
}

/** No body is no arguments. Throws a Refusal. */
export function parseArguments(name: AdminVerb, bytes: Uint8Array): Record<string, unknown> {
  const verb: Verb = VERBS[name]
  const body = bytes.length === 0 ? {} : parseJson(bytes)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw refuse('bad-request', 'the body is one JSON object')
  }
  const args: Record<string, unknown> = {}
  for (const [word, value] of Object.entries(body)) {
    const field = verb.fields.find((one) => one === word)
    if (field === undefined) {
      const known = verb.fields.length === 0 ? 'nothing' : verb.fields.join(', ')
      throw refuse('bad-request', `${JSON.stringify(word)} is unknown here; this takes ${known}`)
    }
    if (value !== null) args[field] = fieldOf(field, value)
  }
  const missing = verb.required.filter((field) => !(field in args))
  if (missing.length > 0) throw refuse('bad-request', `${missing.join(', ')} is missing`)
  return args
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw refuse('bad-request', 'the body is not JSON')
  }
}

function fieldOf(field: Field, value: unknown): unknown {
  switch (field) {
    case 'id':
    case 'with':
    case 'to':
      if (Number.isSafeInteger(value) && (value as number) > 0) return String(value)
      if (typeof value === 'string' && value !== '' && value.length <= ID_CHARS_MAX) return value
      throw refuse('bad-request', `${field} is a member: its id, name, or the start of its key`)
    case 'dryRun':
      if (typeof value === 'boolean') return value
      throw refuse('bad-request', 'dryRun is true or false')
    case 'ifConfig':
      if (Number.isSafeInteger(value) && (value as number) > 0) return value
      throw refuse('bad-request', 'ifConfig is the index of a configuration')
    case 'settings':
      if (typeof value === 'object' && !Array.isArray(value)) return value
      throw refuse('bad-request', 'settings is an object of names and values')
  }
}

type Outcome = { readonly ok: true; readonly result: unknown } | { readonly error: Refusal }

async function ask(
  { service, limits }: AdminParts,
  exchange: Exchange,
  {
    name,
    args,
    effect,
  }: { readonly name: string; readonly args: unknown; readonly effect: 'read' | 'write' },
): Promise<unknown> {
  const outcome = await exchange.ask<Outcome>(effect, (done) => {
    const timer = setTimeout(() => {
      const message = 'no answer of the leader in time'
      done({ error: new Refusal(errorBody('timeout', message, effect === 'write')) })
    }, limits.requestTimeoutMs)
    service
      .admin(name, args)
      .then(
        (result) => done({ ok: true, result: result ?? null }),
        (failure) => done({ error: new Refusal(errorBodyOf(failure)) }),
      )
      .finally(() => clearTimeout(timer))
    return () => clearTimeout(timer)
  })
  if ('error' in outcome) throw outcome.error
  return outcome.result
}
