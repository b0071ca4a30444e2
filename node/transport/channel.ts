/**
 * What a link stands on: an encrypted stream of messages to somebody whose key is proved and whose right to be here is not. In
 * production it is Noise over a socket; in memory it is a queue. A channel must never interpret what it carries.
 */

export interface ChannelEvents {
  /** `nodeKey` is proved. `handshakeHash` is known to both ends and to nobody else. */
  open(nodeKey: string, handshakeHash: Uint8Array): void
  /** The bytes are the receiver's to keep. */
  message(bytes: Uint8Array): void
  /** Room again after a write that returned false. */
  drain(): void
  /** The other end broke the rules below messages. */
  broken(detail: string): void
  /** At most once, and never after `close`. */
  closed(wasReset: boolean): void
}

export interface Channel {
  /** Called once, before anything arrives. */
  start(events: ChannelEvents): void
  /** False: taken, but wait for `drain` before the next one. */
  write(bytes: Uint8Array): boolean
  /** Written, and not yet handed to the system. */
  readonly pendingBytes: number
  /** Of the raw stream, so far: a large message that is still on its way counts too. */
  readonly receivedBytes: number
  /** The other end has proved that it belongs here: from now on it may send large messages. */
  trust(): void
  /** At once and for good; what is pending is lost. Idempotent. */
  close(): void
}

/** Time, as links see it: the simulator brings its own. */
export interface Clock {
  /** Monotonic. */
  nowMs(): number
  /** Runs `run` once after `delayMs`; the returned function calls it off. */
  later(delayMs: number, run: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  later(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
}
