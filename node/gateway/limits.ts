/** The gateway's limits, each with its reason. A client that meets one is told so; it never costs the node its heap. */
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from '../../client/protocol.ts'
import { LIMITS } from '../config.ts'

export interface GatewayLimits {
  readonly keyBytesMax: number
  readonly valueBytesMax: number
  /** Connections of clients at a time. Links to peers do not count: a flood of clients must not cut the cluster. */
  readonly clientsMax: number
  /** Connections beyond `clientsMax` that are still accepted, for peers and health checks; more are dropped at once. */
  readonly sparesMax: number
  /** What a request may wait when the client names no timeout, and the most it may name. */
  readonly requestTimeoutMs: number
  readonly requestTimeoutMsMax: number
  /** Time for the head of a request, and for all of it: against connections that only trickle. */
  readonly headerTimeoutMs: number
  readonly bodyTimeoutMs: number
  /** An idle HTTP connection is kept that long for the next request. */
  readonly keepAliveMs: number
  /** Requests that one HTTP connection may send ahead of their answers; they run one after the other. */
  readonly pipelinedMax: number
  /** After an early answer the rest of a body is thrown away this long, so that the client can read the answer. */
  readonly lingerMs: number
  readonly listItemsMax: number
  readonly listItemsDefault: number
  /** One WebSocket message of a client: all requests of one turn of its event loop. */
  readonly frameBytesMax: number
  /** Requests of one WebSocket client without an answer; above a client's session window and its reads. */
  readonly inFlightMax: number
  /** Answers a WebSocket client has not read. Beyond half of it no more of its requests are read. */
  readonly queueBytesMax: number
  /** A client that reads nothing for that long while answers wait, or answers no ping, is cut off. */
  readonly silenceMsMax: number
  /** HTTP writes without an answer, all clients together. */
  readonly pendingWritesMax: number
  /** `close` waits no longer than this for answers to leave. */
  readonly closeMsMax: number
}

export const GATEWAY_LIMITS: GatewayLimits = {
  keyBytesMax: KEY_BYTES_MAX,
  valueBytesMax: VALUE_BYTES_MAX,
  clientsMax: 10_000,
  sparesMax: 256,
  requestTimeoutMs: LIMITS.requestTimeoutMs,
  requestTimeoutMsMax: LIMITS.requestTimeoutMsMax,
  headerTimeoutMs: LIMITS.httpHeaderTimeoutMs,
  bodyTimeoutMs: 60_000,
  keepAliveMs: 30_000,
  pipelinedMax: 64,
  lingerMs: 1000,
  listItemsMax: 10_000,
  listItemsDefault: 1000,
  frameBytesMax: LIMITS.clientFrameBytesMax,
  inFlightMax: 4096,
  queueBytesMax: LIMITS.clientQueueBytesMax,
  silenceMsMax: 30_000,
  pendingWritesMax: 10_000,
  closeMsMax: 2000,
}
