/**
 * Who is at the other end of a link, as the committed configuration sees it: a member, somebody who waits for admission, or one
 * that was removed and must be told. Part of the runtime. It decides nothing about who becomes a member: it only shows the replica
 * who is there, and ends this node when it is itself the one that was removed.
 */
import type { PeerBook } from './peer-book.ts'
import { mark } from './raft/marks.ts'
import { type PeerIdentity, peerIdOf } from './raft/types.ts'
import type { Replica } from './replica.ts'
import type { Hello, Link, Transport } from './transport/transport.ts'

export interface AdmissionParts {
  readonly self: PeerIdentity
  readonly transport: Transport
  readonly peers: PeerBook
  readonly clusterId: () => string | null
  readonly replica: () => Replica | null
  /** This node was removed, by a configuration that is committed. */
  readonly removed: () => void
}

/** A frame may be lost on a link that lives on, and who was removed asks for nothing: it is told again after so many ticks. */
const REMIND_TICKS = 40

export class Admission {
  readonly #parts: AdmissionParts
  #isMember = false
  #ticks = 0

  constructor(parts: AdmissionParts) {
    this.#parts = parts
  }

  /** A link came up, or the peer on it has just been bound to a cluster. */
  consider(link: Link): void {
    const { clusterId, replica } = this.#parts
    const { hello } = link
    const own = replica()
    if (own === null || hello.clusterId === null || hello.clusterId !== clusterId()) return
    if (this.#wasRemoved(hello)) return this.#tell(hello)
    const { nodeKey, storageId, name, urls } = hello
    own.applicantUp({ nodeKey, storageId, name, urls })
  }

  tick(): void {
    if (++this.#ticks % REMIND_TICKS !== 0) return
    if (this.#parts.replica()?.committed?.removed === undefined) return
    for (const { hello } of this.#parts.transport.links) {
      if (hello.clusterId === this.#parts.clusterId() && this.#wasRemoved(hello)) this.#tell(hello)
    }
  }

  /** A configuration was committed and applied here. */
  configurationChanged(): void {
    const { self, transport, replica, removed } = this.#parts
    const record = replica()?.committed
    if (record === null || record === undefined) return
    const wasMember = this.#isMember
    this.#isMember = record.configuration.members.some((one) => peerIdOf(one) === peerIdOf(self))
    if (this.#wasRemoved(self) || (wasMember && !this.#isMember)) return removed()
    for (const link of transport.links) this.consider(link)
  }

  /** A peer says that this node was removed: it has seen the configuration that is committed. */
  told(): void {
    mark('admission: a removed node is told')
    this.#parts.removed()
  }

  #wasRemoved(identity: PeerIdentity): boolean {
    const record = this.#parts.replica()?.committed
    return record?.removed?.includes(identity.storageId) === true
  }

  #tell(hello: Hello): void {
    this.#parts.transport.send(hello, [{ type: 'removed' }])
  }
}
