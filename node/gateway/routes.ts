/** Which request goes where, and what must hold before its handler runs. The table of CONTRACT's HTTP section. */
import findMyWay from 'find-my-way'
import type { Service } from '../service.ts'
import { type Access, type ClientRole, permits } from './access.ts'
import { type AdminVerb, runVerb, showConfig } from './admin.ts'
import { sendBackup } from './backup.ts'
import type { Exchange } from './exchange.ts'
import { deleteKey, getKey, KEY_PATH, type KvParts, listKeys, putKey } from './kv.ts'
import { errorBody, errorBodyOf, Refusal, refuse } from './problem.ts'
import { parseTarget } from './target.ts'

type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
const METHODS: readonly Method[] = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE']

const VERBS_POSTED: readonly AdminVerb[] = [
  'members.add',
  'members.remove',
  'members.promote',
  'members.replace',
  'leader.transfer',
  'leave',
]

interface Route {
  /** Null: anybody may call it, and its answer reveals nothing. */
  readonly role: ClientRole | null
  run(exchange: Exchange): Promise<void> | void
}

export type Dispatch = (exchange: Exchange) => Promise<void>

export interface RouteParts extends KvParts {
  readonly access: Access
  /** The state machine knows keys; without it there are no endpoints for them. */
  readonly keyValue: boolean
  /** True while there are more clients than the limit: only what keeps the node alive is answered. */
  readonly overloaded: () => boolean
  readonly failed: (error: unknown) => void
}

/** The returned function answers every exchange and never rejects. */
export function createDispatch(parts: RouteParts): Dispatch {
  const router = findMyWay<findMyWay.HTTPVersion.V1>()
  const add = (methods: readonly Method[], path: string, route: Route): void => {
    for (const method of methods) router.on(method, path, () => {}, route)
  }
  const { service } = parts
  add(['GET', 'HEAD'], '/', { role: null, run: answerRoot })
  add(['GET', 'HEAD'], '/healthz', { role: null, run: (exchange) => answerText(exchange, 'ok') })
  add(['GET', 'HEAD'], '/readyz', { role: null, run: (exchange) => answerReady(service, exchange) })
  add(['GET', 'HEAD'], '/v1/status', {
    role: 'read',
    run: (exchange) => exchange.json(service.status()),
  })
  add(['GET', 'HEAD'], '/v1/snapshot', {
    role: 'admin',
    run: (exchange) => sendBackup(service, exchange),
  })
  if (parts.keyValue) addKeys(parts, add)
  const verb = (name: AdminVerb): Route => ({
    role: 'admin',
    run: (exchange) => runVerb(parts, exchange, name),
  })
  for (const name of VERBS_POSTED) add(['POST'], `/v1/${name.replace('.', '/')}`, verb(name))
  // Who may see the status may see the settings: there is no secret in them.
  add(['GET', 'HEAD'], '/v1/config', { role: 'read', run: (one) => showConfig(parts, one) })
  add(['PUT'], '/v1/config', verb('config.set'))

  const find = (method: string, path: string): Route | null => {
    const routed = path.startsWith(KEY_PATH) ? KEY_PATH : path
    // The router would decode it, and then two parts of this file would see different paths.
    if (routed.includes('%')) return null
    return (router.find(method as Method, routed)?.store as Route | undefined) ?? null
  }

  return async (exchange) => {
    try {
      await dispatch(parts, find, exchange)
    } catch (error) {
      if (!(error instanceof Refusal)) parts.failed(error)
      exchange.refuse(error instanceof Refusal ? error : new Refusal(errorBodyOf(error)))
    }
  }
}

function addKeys(
  parts: KvParts,
  add: (methods: readonly Method[], path: string, route: Route) => void,
): void {
  add(['GET', 'HEAD'], '/v1/kv', { role: 'read', run: (exchange) => listKeys(parts, exchange) })
  // The key itself never reaches the router, which would decode it as UTF-8.
  add(['GET', 'HEAD'], KEY_PATH, { role: 'read', run: (exchange) => getKey(parts, exchange) })
  add(['PUT'], KEY_PATH, { role: 'write', run: (exchange) => putKey(parts, exchange) })
  add(['DELETE'], KEY_PATH, { role: 'write', run: (exchange) => deleteKey(parts, exchange) })
}

async function dispatch(
  parts: RouteParts,
  find: (method: string, path: string) => Route | null,
  exchange: Exchange,
): Promise<void> {
  const { request } = exchange
  const method = request.method ?? ''
  exchange.target = parseTarget(request.url ?? '')
  const { path } = exchange.target
  if (method === 'OPTIONS') return answerPreflight(exchange)
  const route = find(method, path)
  if (route?.role === null) return route.run(exchange)
  if (parts.overloaded()) {
    exchange.header({ connection: 'close' })
    throw refuse('overloaded', 'too many clients; try again, or another node')
  }
  // A stranger learns nothing of which paths there are.
  const caller = parts.access(request)
  if (caller instanceof Refusal) throw caller
  exchange.caller = caller
  if (caller.origin !== null) exchange.header(corsHeaders(caller.origin))
  if (route === null) throw unrouted(find, method, path)
  if (!permits(caller.role, route.role)) {
    throw refuse('unauthorised', `this needs the ${route.role} token, not the ${caller.role} one`)
  }
  const wrongCluster = checkCluster(parts.service, request.headers['raft-cluster-id'])
  if (wrongCluster !== null) throw wrongCluster
  return route.run(exchange)
}

/** Also for WebSockets. Null when the request names no cluster, or this one. */
export function checkCluster(
  service: Service,
  wanted: string | string[] | undefined,
): Refusal | null {
  if (wanted === undefined) return null
  const { clusterId } = service.status()
  if (clusterId === wanted) return null
  if (clusterId === null) return refuse('not-founded', 'this node has no cluster yet')
  return refuse('wrong-cluster', `this node is in cluster ${clusterId}, not in ${wanted}`)
}

function unrouted(
  find: (method: string, path: string) => Route | null,
  method: string,
  path: string,
): Refusal {
  const allowed = METHODS.filter((one) => find(one, path) !== null)
  if (allowed.length === 0) return refuse('not-found', 'there is nothing at this path')
  const error = errorBody('bad-request', `${method} is not possible here`)
  return new Refusal(error, { status: 405, headers: { allow: allowed.join(', ') } })
}

function corsHeaders(origin: string): Record<string, string> {
  return {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': 'ETag, Raft-Lag-Ms, Retry-After',
    vary: 'Origin',
  }
}

/** A browser asks first, and cannot send a token with the question. The request itself is checked when it comes. */
function answerPreflight(exchange: Exchange): void {
  const { origin } = exchange.request.headers
  if (origin !== undefined) {
    exchange.header({
      ...corsHeaders(origin),
      'access-control-allow-methods': METHODS.join(', '),
      'access-control-allow-headers':
        'Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Raft-Cluster-Id',
      'access-control-max-age': '600',
    })
  }
  exchange.reply({ status: 204, headers: { allow: [...METHODS, 'OPTIONS'].join(', ') } })
}

function answerText(exchange: Exchange, text: string): void {
  const headers = { 'content-type': 'text/plain; charset=utf-8' }
  exchange.reply({ status: 200, headers, body: `${text}\n` })
}

function answerRoot(exchange: Exchange): void {
  answerText(exchange, 'raft-p2p: keys are at /v1/kv/{key}, the state of the node at /v1/status')
}

function answerReady(service: Service, exchange: Exchange): void {
  const { ready, reason } = service.readiness()
  if (ready) return answerText(exchange, 'ready')
  const founded = service.status().clusterId !== null
  throw refuse(founded ? 'no-leader' : 'not-founded', reason)
}
