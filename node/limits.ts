/**
 * The limits and timeouts that no flag sets and that more than one file or the runtime needs. Those of one part alone stand with
 * it: TRANSPORT_LIMITS, GATEWAY_LIMITS, the constants of founding.ts and sessions.ts. Numbers only: this file imports nothing.
 */

/** What never comes from a flag: sizes and times that protect the node, each with its reason. */
export const LIMITS = {
  /**
   * The core's clock ticks once a heartbeat, within these bounds. An idle wake-up costs 0.1 to 0.4 ms of processor time, so that
   * ticks are what an idle node pays for. Ten election timeouts to draw from are enough: the nodes' clocks tick at
   * different moments, which keeps two of them from campaigning at once.
   */
  tickMsMin: 10,
  tickMsMax: 100,

  /** One group commit: at 1 MiB the fsync is noise, beyond 4 MiB a slow disk would hold up acknowledgements. */
  maxSaveBytes: 4 * 1024 * 1024,
  /** Proposed but not yet durable. Beyond it writes answer `overloaded`, so that a hung disk cannot fill the heap. */
  unsavedBytesMax: 64 * 1024 * 1024,

  /** One Append message; at least one entry is always sent, so that a large value passes. */
  appendBytesMax: 1024 * 1024,
  /** Entries applied before other work has its turn. */
  applyCountMax: 4096,
  /** Unanswered Appends to one follower: a window of 256 covers 1 ms batches over a 250 ms WAN. */
  inflightAppendsMax: 256,
  /** ... and their bytes, the bound on what one slow follower costs the leader. */
  inflightBytesMax: 16 * 1024 * 1024,

  /** What a request may wait when the client names no timeout: several elections, yet a person still waits for it. */
  requestTimeoutMs: 10_000,
  requestTimeoutMsMax: 300_000,
  /** Requests accepted and not yet answered, all clients together. Beyond it `overloaded`. */
  pendingRequestsMax: 20_000,
  pendingRequestBytesMax: 64 * 1024 * 1024,
  /** One frame from a client: all requests of one turn of its event loop. */
  clientFrameBytesMax: 8 * 1024 * 1024,
  /** Answers a client has not read. A slower reader is cut off. */
  clientQueueBytesMax: 16 * 1024 * 1024,
  /** Time to send the head of an HTTP request, against connections that only trickle. */
  httpHeaderTimeoutMs: 10_000,

  /** Entries applied since the last snapshot that start the next one: a second or two of replay at a restart. A flag sets it. */
  snapshotEntries: 100_000,
  /** ... or so many bytes of them in memory: large values must not fill the heap before their number does. */
  snapshotLogBytes: 64 * 1024 * 1024,
  /** Kept behind a snapshot for followers that were away for a moment: a second under full load. */
  snapshotTailEntries: 10_000,
  snapshotTailBytes: 16 * 1024 * 1024,
  /** Somebody who fetches a snapshot goes on from the log behind it, which is kept as long as all of the log is below this. */
  snapshotPinnedBytesMax: 256 * 1024 * 1024,
  /** What one pull asks for. A heartbeat waits for at most one chunk, 5 ms at 100 Mbit/s. */
  snapshotChunkBytes: 64 * 1024,
  /** Unanswered pulls: 4 fill 25 MB/s at 10 ms, and are all that the transfer ever adds to a leader's queues. */
  snapshotPullsMax: 4,
  /** A pull is asked again: its answer may have been dropped where a queue was full. */
  snapshotPullAgainMs: 2000,
  /** Nothing has come for so long: another node may have a better one. */
  snapshotPatienceMs: 10_000,
  /** After a failure: a full disk is not full for a moment only. */
  snapshotRetryMs: 10_000,
  /** An older file stays while it was pulled within this time, long enough for a link to break and come back. */
  snapshotSendIdleMs: 30_000,

  /** The leader tells its view of the members this often, for `status` and readiness on followers. */
  leaderViewMs: 1000,
  /** CONTRACT: `stateHash` is noted at multiples of 1,024, the last 16 are shown. */
  hashEveryEntries: 1024,
  hashesKept: 16,
  /** CONTRACT: SIGTERM ends in exit 0 within 5 s; half a second stays for the process itself. */
  stopMsMax: 4500,
} as const
