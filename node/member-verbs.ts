/**
 * The privileged verbs of Service.admin that change the members: their arguments become a request like any other, which finds the
 * leader by itself. Part of the runtime.
 */
import { type ErrorBody, errorBody } from '../client/protocol.ts'
import { type ChangeRequest, encodeChangeRequest, parseChangeRequest } from './change-request.ts'
import { UsageError } from './config.ts'
import type { ConfigurationRecord, Index, MemberId } from './raft/types.ts'
import type { ServiceAnswer, ServiceRequest } from './service.ts'
import { readSettings } from './settings.ts'

const VERBS: Readonly<Record<string, ChangeRequest['verb']>> = {
  'members.add': 'add',
  'members.remove': 'remove',
  'members.promote': 'promote',
  'members.demote': 'demote',
  'members.replace': 'replace',
  'config.set': 'settings',
}
/** A change may have to wait for a leader and for both majorities. */
const TIMEOUT_MS = 10_000

export interface MemberVerbsParts {
  readonly request: (request: ServiceRequest, answer: (answer: ServiceAnswer) => void) => void
  readonly memberId: () => MemberId | null
  /** The settings that are committed and applied here, and where; null before there are any. */
  readonly config: () => { readonly index: Index; readonly record: ConfigurationRecord } | null
}

export class MemberVerbs {
  readonly #parts: MemberVerbsParts
  /** This node has asked for its own removal. */
  leaving = false

  constructor(parts: MemberVerbsParts) {
    this.#parts = parts
  }

  /** Null when the verb is not one of these. Rejects with errors shaped as an ErrorBody. */
  run(name: string, args: unknown): Promise<unknown> | null {
    if (name === 'leave') return this.#leave()
    if (name === 'config.get') return this.#config()
    if (name === 'leader.transfer') {
      const { to, ...more } = (args ?? {}) as { readonly to?: unknown }
      return this.#change(name, { ...more, verb: 'transfer', ...(to == null ? {} : { id: to }) })
    }
    const verb = VERBS[name]
    if (verb === undefined) return null
    const given: Record<string, unknown> = { ...(args as object | null) }
    return verb === 'settings' ? this.#set(given) : this.#change(name, { ...given, verb })
  }

  #change(name: string, args: object): Promise<unknown> {
    const request = parseChangeRequest(args)
    if (request === null) return rejected(`these are no arguments for ${name}`)
    const body = encodeChangeRequest(request)
    return new Promise((resolve, reject) => {
      this.#parts.request({ type: 'change', body, timeoutMs: TIMEOUT_MS }, (answer) => {
        if (answer.ok) resolve(JSON.parse(new TextDecoder().decode(answer.body)))
        else reject(asError(answer.error))
      })
    })
  }

  #config(): Promise<unknown> {
    const at = this.#parts.config()
    if (at !== null) return Promise.resolve({ configIndex: at.index, settings: at.record.settings })
    return Promise.reject(asError(errorBody('not-founded', 'this node has no settings yet')))
  }

  /** Checked here by the rules of the flags, so that what the leader gets is in range and in one unit. */
  #set(args: Readonly<Record<string, unknown>>): Promise<unknown> {
    try {
      const settings = readSettings(args.settings, this.#parts.config()?.record.settings ?? {})
      return this.#change('config.set', { ...args, settings, verb: 'settings' })
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      return rejected(error.message)
    }
  }

  /** Asks to be removed. The process ends when that is committed; the answer usually comes first. */
  #leave(): Promise<unknown> {
    const memberId = this.#parts.memberId()
    if (memberId === null) return rejected('this node is no member')
    this.leaving = true
    const asked = this.#change('leave', { verb: 'remove', id: memberId, reason: 'leave' })
    return asked.catch((error: unknown) => {
      this.leaving = false
      throw error
    })
  }
}

function rejected(message: string): Promise<never> {
  return Promise.reject(asError(errorBody('bad-request', message)))
}

function asError(body: ErrorBody): Error {
  return Object.assign(new Error(body.message), body)
}
