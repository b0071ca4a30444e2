/**
 * Who may call (CONTRACT). A local program needs no token, but a web page in a local browser is no local program: it is known
 * by its Origin, and a rebound DNS name by its Host. Nothing here may look at the path or log a token.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { TOKEN_SUBPROTOCOL_PREFIX } from '../../client/protocol.ts'
import { type Refusal, refuse } from './problem.ts'

/** Ordered: each may do what those before it may. */
export type ClientRole = 'read' | 'write' | 'admin'
const ROLES: readonly ClientRole[] = ['read', 'write', 'admin']

export type Tokens = Readonly<Record<ClientRole, string>>

export interface AccessOptions {
  readonly tokens: Tokens
  /** Ask for a token on loopback too. */
  readonly requireToken: boolean
  /** Names under which this node is addressed besides the loopback ones: its bound and advertised hosts. */
  readonly hosts?: readonly string[]
}

export interface Caller {
  readonly role: ClientRole
  /** The Origin to name in CORS headers, or null when the request has none. */
  readonly origin: string | null
}

/** Returns the caller, or the refusal to answer with. */
export type Access = (request: IncomingMessage) => Caller | Refusal

export function permits(role: ClientRole, wanted: ClientRole): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(wanted)
}

export function createAccess(options: AccessOptions): Access {
  const known = ROLES.filter((role) => options.tokens[role] !== '').map((role) => ({
    role,
    digest: sha256(options.tokens[role]),
  }))
  const hosts = new Set((options.hosts ?? []).map((host) => hostnameOf(host) ?? host))

  const roleOf = (token: string): ClientRole | null => {
    const digest = sha256(token)
    let found: ClientRole | null = null
    // Every token is compared, whichever matches, and digests have one length.
    for (const one of known) if (timingSafeEqual(one.digest, digest)) found = one.role
    return found
  }

  return (request) => {
    const origin = request.headers.origin ?? null
    const token = tokenOf(request)
    if (token !== null) {
      const role = roleOf(token)
      if (role === null) return refuse('unauthorised', 'this token is not valid here')
      return { role, origin }
    }
    if (options.requireToken || !isLocal(request)) {
      return refuse(
        'unauthorised',
        'a token is needed: send "Authorization: Bearer <token>"; `raft-p2p token` prints it',
      )
    }
    const foreign = foreignness(request, hosts)
    if (foreign !== null) return refuse('forbidden-origin', foreign)
    return { role: 'write', origin }
  }
}

/** The token a request carries, or null. A malformed Authorization header counts as a token that is wrong. */
function tokenOf(request: IncomingMessage): string | null {
  const { authorization } = request.headers
  if (authorization !== undefined) return /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? ''
  if (request.headers.upgrade === undefined) return null
  const offered = request.headers['sec-websocket-protocol'] ?? ''
  const token = offered
    .split(',')
    .map((one) => one.trim())
    .find((one) => one.startsWith(TOKEN_SUBPROTOCOL_PREFIX))
  return token === undefined ? null : token.slice(TOKEN_SUBPROTOCOL_PREFIX.length)
}

/** From this machine and not passed on by a proxy on it. */
function isLocal(request: IncomingMessage): boolean {
  if (!isLoopbackAddress(request.socket.remoteAddress)) return false
  return !Object.keys(request.headers).some(
    (name) =>
      name === 'forwarded' ||
      name.startsWith('x-forwarded-') ||
      name === 'x-real-ip' ||
      name === 'via',
  )
}

export function isLoopbackAddress(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.\d+\.\d+\.\d+$|^::1$/i.test(address)
}

/** True for a name or literal that can only mean this machine. */
export function isLoopbackHost(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname === '[::1]' ||
    hostname === '::1' ||
    /^127\.\d+\.\d+\.\d+$/.test(hostname)
  )
}

/** Why a request without a token is not a local program's, or null. */
function foreignness(request: IncomingMessage, hosts: ReadonlySet<string>): string | null {
  const isOwn = (url: URL): boolean => isLoopbackHost(nameIn(url)) || hosts.has(nameIn(url))
  const host = urlOfHost(request.headers.host ?? '')
  if (host === null || !isOwn(host)) {
    return 'the Host header names another machine: use localhost or 127.0.0.1, or send a token'
  }
  const { origin } = request.headers
  if (origin === undefined) return null
  const page = urlOfOrigin(origin)
  const encrypted = 'encrypted' in request.socket
  if (page === null || !isOwn(page) || portOf(page) !== portOf(host, encrypted)) {
    return 'a web page of another origin may not call this node without a token'
  }
  return null
}

function hostnameOf(host: string): string | null {
  const url = urlOfHost(host.includes(':') && !/^\[|^[^:]*:\d*$/.test(host) ? `[${host}]` : host)
  return url === null ? null : nameIn(url)
}

function urlOfHost(host: string): URL | null {
  return /^[\w.-]+(:\d{1,5})?$|^\[[\da-f:.]+\](:\d{1,5})?$/i.test(host)
    ? urlOf(`http://${host}`)
    : null
}

function urlOfOrigin(origin: string): URL | null {
  const url = urlOf(origin)
  return url !== null && url.origin === origin.toLowerCase() && /^https?:$/.test(url.protocol)
    ? url
    : null
}

function urlOf(text: string): URL | null {
  try {
    return new URL(text)
  } catch {
    return null
  }
}

function nameIn(url: URL): string {
  return url.hostname.replace(/\.$/, '')
}

function portOf(url: URL, encrypted = url.protocol === 'https:'): string {
  return url.port === '' ? (encrypted ? '443' : '80') : url.port
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
