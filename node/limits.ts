/** Every limit and timeout of a node that no flag sets. Numbers only: this file imports nothing. */

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
  /** Preallocated log segments: large enough that rolling is rare, small enough that compaction frees room soon. */
  segmentBytes: 64 * 1024 * 1024,
  /** A snapshot also starts after this many bytes of log, because entries may be up to 1 MiB each. */
  snapshotBytes: 256 * 1024 * 1024,
  /** Small enough that a heartbeat never waits more than a few milliseconds behind a chunk. */
  snapshotChunkBytes: 256 * 1024,

  /** One Append message; at least one entry is always sent, so that a large value passes. */
  appendBytesMax: 1024 * 1024,
  /** Unanswered Appends to one follower: a window of 256 covers 1 ms batches over a 250 ms WAN. */
  inflightAppendsMax: 256,
  /** ... and their bytes, the bound on what one slow follower costs the leader. */
  inflightBytesMax: 16 * 1024 * 1024,
  /** The largest frame a peer may send: an Append with one maximal value and its headers, with room to grow. */
  peerFrameBytesMax: 8 * 1024 * 1024,
  /** Frames waiting for one peer's socket. Beyond it they are dropped, as on a lossy network. */
  peerQueueBytesMax: 64 * 1024 * 1024,
  /** From the first byte to the accepted hello: a stranger who sends nothing is cut off (CORRECTNESS: within 5 s). */
  handshakeTimeoutMs: 4000,
  /** Connections that have not yet proved the topic. A flood of strangers costs this many handshakes, no more. */
  unprovenLinksMax: 256,
  /** First redial of a lost peer, doubled with jitter up to the maximum: prompt after a restart, quiet afterwards. */
  redialMsMin: 100,
  redialMsMax: 10_000,

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

  /** Replicated sessions: as in LogCabin an hour of log time without a request, then the replies are forgotten. */
  sessionTtlMs: 3_600_000,
  /** A session costs about 200 bytes of replicated state; the oldest idle one gives way beyond this. */
  sessionsMax: 100_000,

  /** FOUNDING F9: the view must be unchanged that long, every source swept, at most the cap. */
  foundingStableMs: 2000,
  foundingSweepMsMax: 10_000,
  /** FOUNDING: the record is repeated this often while blank. */
  foundingRepeatMs: 500,
  /** FOUNDING F10: base and cap of the wait after an own offer died. */
  foundingBackoffMs: 2000,
  foundingBackoffMsMax: 30_000,

  /** The leader's view of the members, for `status` on followers. */
  leaderViewMs: 500,
  /** CONTRACT: `stateHash` is noted at multiples of 1,024, the last 16 are shown. */
  hashEveryEntries: 1024,
  hashesKept: 16,
  /** CONTRACT: SIGTERM ends in exit 0 within 5 s; half a second stays for the process itself. */
  stopMsMax: 4500,
} as const
