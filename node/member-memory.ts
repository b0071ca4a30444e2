/**
 * The committed members and where they were last seen, kept in the identity file and as links: a cluster that was formed once
 * restarts without any discovery. Part of the runtime. Only convenience is lost when it cannot be written: the log knows the members.
 */
import type { PeerBook } from './peer-book.ts'
import { type ConfigurationRecord, type PeerIdentity, peerIdOf } from './raft/types.ts'
import type { Identity } from './storage/identity.ts'
import type { Transport } from './transport/transport.ts'

export interface MemberMemoryParts {
  readonly self: PeerIdentity
  readonly identity: Identity
  readonly transport: Transport
  readonly peers: PeerBook
  readonly urls: () => readonly string[]
  readonly failed: (reason: string) => void
}

/** As many as an identity and a hello keep of one member; the best come first. A machine with many bridges has more. */
const URLS_MAX = 16

export class MemberMemory {
  readonly #parts: MemberMemoryParts

  constructor(parts: MemberMemoryParts) {
    this.#parts = parts
  }

  remember(record: ConfigurationRecord | null): void {
    if (record === null) return
    const { self, identity, peers, urls, failed } = this.#parts
    const own = peerIdOf(self)
    const members = peers
      .withUrls(record.configuration.members)
      .map((member) =>
        peerIdOf(member) === own ? { ...member, urls: urls().slice(0, URLS_MAX) } : member,
      )
    const memberId = members.find((member) => peerIdOf(member) === own)?.memberId ?? null
    const known = JSON.stringify([identity.record.members, identity.record.memberId])
    if (known !== JSON.stringify([members, memberId])) {
      try {
        identity.update({ members, memberId })
      } catch (error) {
        failed((error as Error).message)
      }
    }
    this.keep()
  }

  /** Links to the members are made anew for as long as they are members. */
  keep(): void {
    const { self, identity, transport, peers } = this.#parts
    const others = identity.record.members.filter((member) => member.nodeKey !== self.nodeKey)
    transport.keep(
      others.map((member) => ({ nodeKey: member.nodeKey, urls: peers.urlsOf(member) })),
    )
  }
}
