/** One founding node by itself: its peers are only the messages they send, its time only the ticks it is given. */
import {
  blankRecord,
  Founding,
  type FoundingDrain,
  type FoundingOptions,
  type FoundingRecord,
  type Notice,
} from '../../node/founding.ts'
import { clusterId, type Disk, messageFrom } from './founding-lab.ts'

/** One node under test; its peers are only the messages they send. */
export class Bench {
  readonly founding: Founding
  readonly notices: Notice[] = []
  readonly randomBounds: number[] = []
  sent: { to: string; record: FoundingRecord | undefined }[] = []
  ids = 0

  constructor(self: Disk, options: Partial<FoundingOptions> = {}) {
    this.founding = new Founding({
      self: { ...self, urls: () => self.urls },
      bootId: '00000000000000aa',
      record: blankRecord,
      expect: 3,
      founders: null,
      mayFound: true,
      inviteClusterId: null,
      settings: {},
      random: (boundExclusive) => {
        this.randomBounds.push(boundExclusive)
        return boundExclusive - 1
      },
      randomId: () => clusterId(100 + this.ids++),
      ...options,
    })
  }

  drain(): FoundingDrain {
    const drained = this.founding.drain()
    this.notices.push(...drained.notices)
    this.sent.push(
      ...drained.send.map(({ to, message }) => ({ to, record: message.records[0]?.record })),
    )
    return drained
  }

  link(peer: Disk, clusterIdOf: string | null = null): void {
    this.founding.linkUp(peer.nodeKey, {
      ...peer,
      bootId: '00000000000000bb',
      clusterId: clusterIdOf,
    })
  }

  hear(peer: Disk, fields: Parameters<typeof messageFrom>[1] = {}): void {
    this.founding.receive(peer.nodeKey, messageFrom(peer, fields))
  }

  /** Links every peer to every other and to the node under test. */
  meet(self: Disk, peers: readonly Disk[], fields: Parameters<typeof messageFrom>[1] = {}): void {
    const everybody = [self, ...peers].map((peer) => peer.nodeKey)
    for (const peer of peers) {
      this.link(peer)
      this.hear(peer, {
        linkedTo: everybody.filter((key) => key !== peer.nodeKey),
        ...fields,
      })
    }
  }

  /** Ticks on until a save is asked for; the ms it took, or null after `maxMs`. */
  untilSave(maxMs: number): { ms: number; save: FoundingRecord } | null {
    for (let ms = 0; ms <= maxMs; ms += 50) {
      const { save } = this.drain()
      if (save !== null) return { ms, save }
      this.founding.tick(50)
    }
    return null
  }

  /** Saves whatever is asked for until nothing is. */
  settle(): void {
    for (let { save } = this.drain(); save !== null; { save } = this.drain()) {
      this.founding.recordSaved(save.seq)
    }
  }

  wait(ms: number): void {
    for (let passed = 0; passed < ms; passed += 50) {
      this.founding.tick(50)
      this.drain()
    }
  }

  said(kind: string): readonly string[] {
    return this.notices.filter((notice) => notice.kind === kind).map((notice) => notice.text)
  }
}
