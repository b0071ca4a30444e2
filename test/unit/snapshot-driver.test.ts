/** Taking, sending and fetching snapshots: how much is under way, and what breaks in the middle of it. Frames are moved by hand. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { StateRestorer } from '../../node/applied-state.ts'
import type { Captured } from '../../node/capture.ts'
import type { PeerFrame } from '../../node/peer-frame.ts'
import {
  decodeConfigurationRecord,
  encodeConfigurationRecord,
} from '../../node/raft/configuration.ts'
import type { SnapshotOffer } from '../../node/raft/snapshots.ts'
import type { ConfigurationRecord, PeerId } from '../../node/raft/types.ts'
import { SnapshotFetching } from '../../node/snapshot-fetching.ts'
import { SnapshotSending } from '../../node/snapshot-sending.ts'
import { SnapshotTaking } from '../../node/snapshot-taking.ts'
import { MemorySnapshots } from '../../node/storage/memory-snapshots.ts'
import type { SnapshotInfo } from '../../node/storage/snapshots.ts'
import type { StorageError } from '../../node/storage/storage.ts'
import { bytesOf, configurationOf, textOf } from '../support/raft-cluster.ts'

const CLUSTER = 'c'.repeat(32)
const CHUNK = 100
const PULLS = 4

/** Callbacks of a storage, run when the test says so. */
class Later {
  #waiting: (() => void)[] = []

  readonly soon = (run: () => void): void => {
    this.#waiting.push(run)
  }

  /** Until nothing comes of it any more. */
  run(): void {
    for (let run = this.#waiting.shift(); run !== undefined; run = this.#waiting.shift()) run()
  }

  /** So many callbacks. */
  step(count: number): void {
    for (let i = 0; i < count; i++) this.#waiting.shift()?.()
  }
}

function captured(index: number, texts: readonly string[]): Captured {
  const payload = encodeConfigurationRecord({
    clusterId: CLUSTER,
    foundingSet: [],
    settings: {},
    configuration: configurationOf(3),
  })
  const record = decodeConfigurationRecord(payload) as ConfigurationRecord
  return {
    id: { term: 2, index },
    configuration: { index: 1, record },
    *pieces() {
      for (const text of texts) yield bytesOf(text)
    },
  }
}

/** A node with snapshot files, which serves them. */
class Source {
  readonly later = new Later()
  readonly storage = new MemorySnapshots({ soon: this.later.soon })
  readonly frames: { to: PeerId; frame: PeerFrame }[] = []
  readonly broken: number[] = []
  readonly sending = new SnapshotSending({
    storage: this.storage,
    send: (to, frame) => this.frames.push({ to, frame }),
    chunkBytes: CHUNK,
    pullsMax: PULLS,
    idleTicks: 3,
    broken: ({ index }) => this.broken.push(index),
  })

  take(index: number, texts: readonly string[]): SnapshotInfo {
    let info: SnapshotInfo | null = null
    const taking = new SnapshotTaking({
      storage: this.storage,
      clusterId: CLUSTER,
      durableIndex: () => index,
      taken: (made) => {
        info = made
      },
      failed: (error) => {
        throw error
      },
    })
    taking.start(captured(index, texts))
    this.later.run()
    const made = info as SnapshotInfo | null
    if (made === null) throw new Error('no snapshot was taken')
    this.sending.use(made)
    this.storage.keepOnly(this.sending.kept)
    return made
  }
}

/** A node that fetches. */
class Target {
  readonly later = new Later()
  readonly storage: MemorySnapshots
  readonly frames: { to: PeerId; frame: PeerFrame }[] = []
  readonly loaded: string[] = []
  readonly failures: string[] = []
  readonly fetching: SnapshotFetching

  constructor(files?: MemorySnapshots['files']) {
    const known = files === undefined ? {} : { files }
    this.storage = new MemorySnapshots({ ...known, soon: this.later.soon })
    const pieces: string[] = []
    this.fetching = new SnapshotFetching({
      storage: this.storage,
      clusterId: CLUSTER,
      send: (to, frame) => this.frames.push({ to, frame }),
      restorer: () =>
        ({
          write: (piece: Uint8Array) => pieces.push(textOf(piece)),
          finish: () => null,
        }) as unknown as StateRestorer,
      chunkBytes: CHUNK,
      pullsMax: PULLS,
      pullAgainTicks: 2,
      patienceTicks: 5,
      retryTicks: 4,
      began: () => {},
      loaded: () => this.loaded.push(pieces.splice(0).join('')),
      failed: (error: StorageError) => this.failures.push(error.code),
    })
  }

  get offsets(): number[] {
    return this.frames.flatMap(({ frame }) => (frame.type === 'snapshotPull' ? [frame.offset] : []))
  }
}

function offerOf(from: PeerId, { term, index, sizeBytes, checksum }: SnapshotInfo): SnapshotOffer {
  return { from, id: { term, index }, sizeBytes, checksum }
}

/** Delivers what was asked, and the answers, `rounds` times. */
function exchange(
  target: Target,
  source: Source,
  rounds = Number.POSITIVE_INFINITY,
  peer = 't',
): void {
  for (let round = 0; round < rounds; round++) {
    const pulls = target.frames.splice(0)
    if (pulls.length === 0) return
    for (const { frame } of pulls)
      if (frame.type === 'snapshotPull') source.sending.onPull(peer, frame)
    source.later.run()
    for (const { frame } of source.frames.splice(0)) {
      if (frame.type === 'snapshotChunk') target.fetching.onChunk('s', frame)
    }
    target.later.run()
  }
}

const TEXTS = Array.from({ length: 40 }, (_, i) => `piece ${i} of the state; `)

const fetching = suite('fetching a snapshot')

fetching('a few pulls at a time, until the state is loaded as it was written', () => {
  const [source, target] = [new Source(), new Target()]
  const info = source.take(9, TEXTS)
  assert.ok(info.sizeBytes > 10 * CHUNK)
  target.fetching.onOffer(offerOf('s', info))
  assert.equal(target.offsets, [0, CHUNK, 2 * CHUNK, 3 * CHUNK])
  exchange(target, source)
  assert.equal(target.loaded, [TEXTS.join('')])
  assert.not.ok(target.fetching.underWay)
})

fetching('after a broken link it goes on where it was', () => {
  const [source, target] = [new Source(), new Target()]
  const offer = offerOf('s', source.take(9, TEXTS))
  target.fetching.onOffer(offer)
  exchange(target, source, 2)
  const position = target.fetching.receiving?.bytes ?? 0
  assert.is(position, 2 * PULLS * CHUNK)
  target.fetching.linkClosed('another')
  assert.ok(target.fetching.underWay, 'another link says nothing')
  target.fetching.linkClosed('s')
  assert.not.ok(target.fetching.underWay)
  target.frames.length = 0
  target.fetching.onOffer(offer)
  assert.is(target.offsets[0], position)
  exchange(target, source)
  assert.equal(target.loaded, [TEXTS.join('')])
})

fetching('after a restart too', () => {
  const [source, first] = [new Source(), new Target()]
  const offer = offerOf('s', source.take(9, TEXTS))
  first.fetching.onOffer(offer)
  exchange(first, source, 1)
  first.fetching.close()
  const second = new Target(first.storage.files)
  second.fetching.onOffer(offer)
  assert.is(second.offsets[0], PULLS * CHUNK)
  exchange(second, source)
  assert.equal(second.loaded, [TEXTS.join('')])
})

fetching('another leader with another file does not start it anew while bytes come', () => {
  const [old, next, target] = [new Source(), new Source(), new Target()]
  const offer = offerOf('s', old.take(9, TEXTS))
  const newer = offerOf('n', next.take(12, ['newer']))
  target.fetching.onOffer(offer)
  exchange(target, old, 1)
  target.fetching.onOffer(newer)
  assert.is(target.fetching.receiving?.index, 9)
  assert.not.ok(target.frames.some(({ to }) => to === 'n'))
  // The old leader is silent now, and for longer than there is patience.
  for (let tick = 0; tick < 5; tick++) target.fetching.tick()
  assert.not.ok(target.fetching.underWay)
  target.frames.length = 0
  target.fetching.onOffer(newer)
  exchange(target, next)
  assert.equal(target.loaded, ['newer'])
})

fetching('the same file from another node: what is under way is asked of that one', () => {
  const [source, target] = [new Source(), new Target()]
  const info = source.take(9, TEXTS)
  target.fetching.onOffer(offerOf('gone', info))
  assert.ok(target.frames.splice(0).every(({ to }) => to === 'gone'))
  target.fetching.onOffer(offerOf('s', info))
  assert.equal(
    target.frames.map(({ to }) => to),
    ['s', 's', 's', 's'],
  )
  exchange(target, source)
  assert.equal(target.loaded, [TEXTS.join('')])
})

fetching('a file that is gone is left for the next offer', () => {
  const [source, target] = [new Source(), new Target()]
  const info = source.take(9, TEXTS)
  source.take(12, ['newer'])
  target.fetching.onOffer(offerOf('s', info))
  exchange(target, source, 1)
  assert.not.ok(target.fetching.underWay)
})

fetching('lost chunks are asked for again, repeated and odd ones are ignored', () => {
  const [source, target] = [new Source(), new Target()]
  const info = source.take(9, TEXTS)
  target.fetching.onOffer(offerOf('s', info))
  target.frames.length = 0
  for (let tick = 0; tick < 2; tick++) target.fetching.tick()
  assert.equal(target.offsets, [0, CHUNK, 2 * CHUNK, 3 * CHUNK])
  const odd = { type: 'snapshotChunk', checksum: info.checksum, offset: 0 } as const
  target.fetching.onChunk('s', { ...odd, bytes: new Uint8Array(CHUNK - 1) })
  target.fetching.onChunk('s', { ...odd, offset: 50 * CHUNK, bytes: new Uint8Array(CHUNK) })
  target.later.run()
  assert.is(target.fetching.receiving?.bytes, 0)
  exchange(target, source)
  assert.equal(target.loaded, [TEXTS.join('')])
})

fetching('damaged bytes are noticed, and it begins anew after a rest', () => {
  const [source, target] = [new Source(), new Target()]
  const info = source.take(9, ['short'])
  const offer = offerOf('s', info)
  target.fetching.onOffer(offer)
  target.frames.length = 0
  for (let offset = 0; offset < info.sizeBytes; offset += CHUNK) {
    const bytes = new Uint8Array(Math.min(CHUNK, info.sizeBytes - offset))
    target.fetching.onChunk('s', { type: 'snapshotChunk', checksum: info.checksum, offset, bytes })
    target.later.run()
  }
  assert.equal(target.failures, ['corrupt-snapshot'])
  target.fetching.onOffer(offer)
  assert.not.ok(target.fetching.underWay, 'it rests')
  for (let tick = 0; tick < 4; tick++) target.fetching.tick()
  target.frames.length = 0
  target.fetching.onOffer(offer)
  exchange(target, source)
  assert.equal(target.loaded, ['short'])
})

fetching('a log that has come so far by itself ends it', () => {
  const [source, target] = [new Source(), new Target()]
  target.fetching.onOffer(offerOf('s', source.take(9, TEXTS)))
  target.fetching.committed(8)
  assert.ok(target.fetching.underWay)
  target.fetching.committed(9)
  assert.not.ok(target.fetching.underWay)
})

const sending = suite('sending a snapshot')

sending('an older file is served to its end when a newer one has taken its place', () => {
  const [source, target] = [new Source(), new Target()]
  target.fetching.onOffer(offerOf('s', source.take(9, TEXTS)))
  exchange(target, source, 1)
  source.take(12, ['newer'])
  assert.is(source.sending.pulledIndex, 9)
  exchange(target, source)
  assert.equal(target.loaded, [TEXTS.join('')])
  for (let tick = 0; tick < 3; tick++) source.sending.tick()
  assert.is(source.sending.pulledIndex, null)
  assert.equal(
    source.sending.kept.map(({ index }) => index),
    [12],
  )
})

sending('whoever asks for more at a time than is allowed gets no more', () => {
  const source = new Source()
  const { checksum } = source.take(9, TEXTS)
  for (let i = 0; i < 10; i++) {
    source.sending.onPull('greedy', {
      type: 'snapshotPull',
      checksum,
      offset: i * CHUNK,
      lengthBytes: 1e9,
    })
  }
  source.later.run()
  assert.is(source.frames.length, PULLS)
  for (const { frame } of source.frames) {
    assert.ok(frame.type === 'snapshotChunk' && frame.bytes.length <= CHUNK)
  }
})

sending('a file that cannot be opened is a broken one, and harms nobody but itself', () => {
  const source = new Source()
  const { checksum } = source.take(9, TEXTS)
  source.storage.files.whole.clear()
  const pull = { type: 'snapshotPull', checksum, offset: 0, lengthBytes: CHUNK } as const
  for (let i = 0; i < 2 * PULLS; i++) source.sending.onPull('t', pull)
  source.later.run()
  assert.is(source.frames.length, 0)
  assert.equal(source.broken, Array(2 * PULLS).fill(9))
})

sending(
  'a file that is damaged where it lies is noticed when who had all of it begins anew',
  () => {
    const [source, target] = [new Source(), new Target()]
    const info = source.take(9, TEXTS)
    const offer = offerOf('s', info)
    const bytes = source.storage.files.whole.get(info.checksum)?.bytes ?? new Uint8Array(0)
    const at = bytes.length >> 1
    const fetched = (): void => {
      for (let tick = 0; tick < 4; tick++) target.fetching.tick()
      target.frames.length = 0
      target.fetching.onOffer(offer)
      exchange(target, source)
    }
    fetched()
    const { checksum } = info
    const pull = { type: 'snapshotPull', checksum, offset: 0, lengthBytes: CHUNK } as const
    source.sending.onPull('t', pull)
    source.later.run()
    assert.equal(source.broken, [], 'it is as it was written')
    source.frames.length = 0
    const second = new Target()
    second.fetching.onOffer(offer)
    exchange(second, source, undefined, 'u')
    assert.equal([target.loaded.length, second.loaded.length], [1, 1])

    bytes[at] = (bytes[at] as number) ^ 1
    target.storage.files.whole.clear()
    fetched()
    fetched()
    assert.equal(target.failures, ['corrupt-snapshot', 'corrupt-snapshot'])
    assert.equal(source.broken, [9])
    bytes[at] = (bytes[at] as number) ^ 1
    fetched()
    assert.is(target.loaded.length, 2)
  },
)

const taking = suite('taking a snapshot')

taking('one piece is made at a time, and only when the one before is written', () => {
  const later = new Later()
  let made = 0
  const parts = {
    storage: new MemorySnapshots({ soon: later.soon }),
    clusterId: CLUSTER,
    durableIndex: () => 9,
    taken: () => {},
    failed: () => {},
  }
  const one = captured(9, TEXTS)
  new SnapshotTaking(parts).start({
    ...one,
    *pieces() {
      for (const piece of one.pieces()) {
        made++
        yield piece
      }
    },
  })
  assert.is(made, 1)
  later.step(1)
  assert.is(made, 2)
})

taking('the file is not whole before the log of this node is durable up to it', () => {
  const later = new Later()
  const storage = new MemorySnapshots({ soon: later.soon })
  let durable = 8
  const taken: number[] = []
  const one = new SnapshotTaking({
    storage,
    clusterId: CLUSTER,
    durableIndex: () => durable,
    taken: ({ index }) => taken.push(index),
    failed: () => {},
  })
  one.start(captured(9, ['a', 'b']))
  later.run()
  one.step()
  later.run()
  assert.equal([taken, storage.files.whole.size], [[], 0])
  durable = 9
  one.step()
  later.run()
  assert.equal([taken, storage.files.whole.size], [[9], 1])
})

fetching.run()
sending.run()
taking.run()
