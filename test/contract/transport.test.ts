/** What every Transport must do, run over real sockets and in memory. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FEATURE_LEVEL } from '../../node/feature-level.ts'
import {
  eventually,
  founding,
  heartbeat,
  MemoryLab,
  newPair,
  orderedPairs,
  type PeerOptions,
  SocketLab,
  type TestPeer,
  type TransportLab,
  text,
} from '../support/transport-lab.ts'

const CLUSTER_A = 'a'.repeat(32)
const CLUSTER_B = 'b'.repeat(32)

function hintTo(peer: TestPeer, withKey = true) {
  return { nodeKey: withKey ? peer.nodeKey : null, url: peer.url, source: 'test' }
}

/** Long enough for whatever should not happen to have happened: a whole exchange there and back. */
async function settled(from: TestPeer, to: TestPeer, word: string): Promise<void> {
  assert.is(from.transport.send(to.identity, [founding(word)]), true)
  await eventually(`${word} arrives`, () => to.frames.some(({ frame }) => text(frame) === word))
}

function contract(name: string, makeLab: () => TransportLab): void {
  let lab: TransportLab
  const contracted = suite(`transport: ${name}`)
  contracted.before.each(() => {
    lab = makeLab()
  })
  contracted.after.each(() => lab.close())

  async function linked(first: PeerOptions = {}, second: PeerOptions = {}) {
    const [a, b] = [(await lab.peer(first)).start(), (await lab.peer(second)).start()]
    a.transport.hint(hintTo(b))
    await eventually('linked', () => a.linkTo(b) !== undefined && b.linkTo(a) !== undefined)
    return [a, b] as const
  }

  contracted(
    'a peer that supports less than the cluster uses is turned away, before and after',
    async () => {
      const [a, b] = await linked(
        { clusterId: CLUSTER_A },
        { clusterId: CLUSTER_A, featureLevel: 1 },
      )
      a.transport.requireLevel(1)
      await settled(a, b, 'x')
      a.transport.requireLevel(FEATURE_LEVEL)
      const turnedAway = (peer: typeof a): boolean =>
        peer.told.some((one) => one.type === 'refused' && one.reason === 'version')
      await eventually('both know why', () => turnedAway(a) && turnedAway(b))
      await eventually('no link', () => a.linkTo(b) === undefined && b.linkTo(a) === undefined)
      const late = await lab.peer({ clusterId: CLUSTER_A, featureLevel: 1 })
      late.start().transport.hint({ nodeKey: a.nodeKey, url: a.url, source: 'test' })
      await eventually('the late one knows why', () => turnedAway(late))
      assert.is(a.linkTo(late), undefined)
    },
  )

  contracted('a link comes up once each way and shows the right hello', async () => {
    const [a, b] = await linked({ name: 'anna', clusterId: CLUSTER_A }, { name: 'bob\u0007' })
    await settled(a, b, 'x')
    await settled(b, a, 'y')
    assert.equal([a.told.map(({ type }) => type), b.told.map(({ type }) => type)], [['up'], ['up']])
    const { storageId, bootId, bootCounter } = a.options
    assert.equal(b.linkTo(a)?.hello, {
      nodeKey: a.nodeKey,
      storageId,
      bootId,
      bootCounter,
      clusterId: CLUSTER_A,
      name: 'anna',
      featureLevel: FEATURE_LEVEL,
      urls: [a.url],
    })
    assert.is(a.linkTo(b)?.hello.name, 'bob?', 'no control characters reach a terminal')
    assert.is(a.linkTo(b)?.carrier, 'direct')
    await eventually('an echo', () => (a.linkTo(b)?.rttMs ?? -1) >= 0)
    assert.is(a.transport.pendingDials, 0)
  })

  contracted('frames arrive in order', async () => {
    const [a, b] = await linked()
    for (let i = 0; i < 500; i++) {
      assert.is(a.transport.send(b.identity, [founding(`${i}`), founding(`${i}+`)]), true)
    }
    await eventually('all arrive', () => b.frames.length === 1000)
    const wanted = Array.from({ length: 1000 }, (_, i) => `${i >> 1}${i % 2 === 1 ? '+' : ''}`)
    assert.equal(
      b.frames.map(({ frame }) => text(frame)),
      wanted,
    )
  })

  contracted('a peer that is not linked gets nothing', async () => {
    const [a, b] = await linked()
    const stranger = await lab.peer()
    assert.is(a.transport.send(stranger.identity, [founding('x')]), false)
    const other = { nodeKey: b.nodeKey, storageId: '0'.repeat(32) }
    assert.is(a.transport.send(other, [founding('x')]), false, 'same key, another disk')
  })

  contracted('heartbeats and the view of the leader pass Appends of the same turn', async () => {
    const cluster = { clusterId: CLUSTER_A }
    const [a, b] = await linked(cluster, cluster)
    const payload = new Uint8Array(100)
    const entry = { term: 1, index: 1, kind: 'command', payload } as const
    const message = {
      type: 'append',
      term: 1,
      prevIndex: 0,
      prevTerm: 0,
      commit: 0,
      entries: [entry],
    } as const
    // Whoever hears the heartbeats, but not how much is committed, would take itself for up to date behind a queue of Appends.
    const view = { type: 'leaderView', term: 1, body: new Uint8Array([123, 125]) } as const
    a.transport.send(b.identity, [{ type: 'raft', message }, heartbeat(3), view])
    await eventually('all arrive', () => b.frames.length === 3)
    assert.equal(b.frames[0]?.frame, heartbeat(3))
    const [, second, third] = b.frames
    assert.is(second?.frame.type, 'leaderView')
    assert.equal(third?.frame.type === 'raft' && { ...third.frame.message }, message)
  })

  contracted('cluster frames travel only inside one cluster, founding frames always', async () => {
    const [a, b] = await linked()
    const everything = (word: string) => [heartbeat(1), founding(word)]
    assert.is(a.transport.send(b.identity, everything('both blank')), true)
    await settled(a, b, '1')
    a.transport.setClusterId(CLUSTER_A)
    assert.is(a.transport.send(b.identity, everything('receiver blank')), true)
    assert.is(b.transport.send(a.identity, everything('sender blank')), true)
    await settled(a, b, '2')
    await settled(b, a, '3')
    b.transport.setClusterId(CLUSTER_A)
    assert.is(b.transport.send(a.identity, everything('one cluster')), true)
    await settled(b, a, '4')
    assert.equal(
      b.frames.map(({ frame }) => text(frame)),
      ['both blank', '1', 'receiver blank', '2'],
    )
    assert.equal(
      a.frames.map(({ frame }) => text(frame)),
      ['sender blank', '3', '(raft)', 'one cluster', '4'],
    )
  })

  contracted('live links are told of a new clusterId', async () => {
    const [a, b] = await linked()
    a.call((transport) => transport.setClusterId(CLUSTER_A))
    await eventually('told', () => b.count('hello') === 1)
    assert.is(b.linkTo(a)?.hello.clusterId, CLUSTER_A)
    assert.is(a.count('hello'), 0)
    assert.is(a.losses + b.losses, 0)
  })

  contracted('a live link to another cluster is cut and both sides say why', async () => {
    const [a, b] = await linked()
    a.transport.setClusterId(CLUSTER_A)
    await eventually('told', () => b.count('hello') === 1)
    b.call((transport) => transport.setClusterId(CLUSTER_B))
    await eventually('cut', () => a.losses === 1 && b.losses === 1)
    assert.is(a.refusals('wrong-cluster'), 1)
    assert.is(b.refusals('wrong-cluster'), 1)
    const told = (peer: TestPeer) => peer.told.find(({ type }) => type === 'refused')
    assert.equal(told(a), { type: 'refused', reason: 'wrong-cluster', clusterId: CLUSTER_B })
    assert.equal(told(b), { type: 'refused', reason: 'wrong-cluster', clusterId: CLUSTER_A })
    assert.is(a.transport.send(b.identity, [founding('x')]), false)
  })

  contracted('two clusters never link, and say so once, however often they meet', async () => {
    const limits = { refusedMs: 20 }
    const a = (await lab.peer({ clusterId: CLUSTER_A, limits })).start()
    const b = (await lab.peer({ clusterId: CLUSTER_B, limits })).start()
    let dials = 0
    b.transport.keep([{ nodeKey: a.nodeKey, urls: [a.url] }])
    const c = (await lab.peer()).start()
    a.transport.hint(hintTo(b))
    await eventually('refused', () => a.refusals('wrong-cluster') + b.refusals('wrong-cluster') > 1)
    // Meanwhile they dial each other again and again; a third node counts the time.
    a.transport.hint(hintTo(c))
    await eventually('third', () => a.linkTo(c))
    for (; dials < 20; dials++) await settled(a, c, `${dials}`)
    assert.is(a.refusals('wrong-cluster'), 1)
    assert.is(b.refusals('wrong-cluster'), 1)
    assert.is(a.linkTo(b), undefined)
    assert.is(b.count('up'), 0)
  })

  contracted('a kept peer is dialled again after it was lost', async () => {
    const [a, b] = await linked()
    a.transport.keep([{ nodeKey: b.nodeKey, urls: [b.url] }])
    const link = b.linkTo(a)
    assert.ok(link)
    b.call((transport) => transport.disconnect(link, 'for the test'))
    await eventually('both lost it', () => a.losses === 1 && b.losses === 1)
    await eventually('linked again', () => a.linkTo(b) !== undefined && b.linkTo(a) !== undefined)
    assert.is(a.count('up'), 2)
    await settled(b, a, 'again')
  })

  contracted('disconnecting from inside a callback', async () => {
    const [a, b] = await linked()
    b.onFrame = (link) => b.transport.disconnect(link, 'bad frame')
    a.transport.send(b.identity, [founding('1'), founding('2'), founding('3')])
    await eventually('lost', () => b.losses === 1 && a.losses === 1)
    assert.is(b.frames.length, 1, 'nothing after the disconnect')
    assert.is(b.told.find((told) => told.type === 'down')?.reason, 'protocol-error')
  })

  contracted('a member that starts later is found', async () => {
    const a = (await lab.peer({ limits: { redialMsMax: 50 } })).start()
    const b = await lab.peer()
    a.transport.keep([{ nodeKey: b.nodeKey, urls: ['ws://127.0.0.1:1', b.url] }])
    await eventually('dialled', () => a.transport.pendingDials === 0)
    b.start()
    await eventually('linked', () => a.linkTo(b) !== undefined && b.linkTo(a) !== undefined)
  })

  for (let round = 0; round < 4; round++) {
    contracted(`a double dial leaves one link and looks like no death (${round})`, async () => {
      const [low, high] = orderedPairs()
      const a = (await lab.peer({ keyPair: round % 2 === 0 ? low : high })).start()
      const b = (await lab.peer({ keyPair: round % 2 === 0 ? high : low })).start()
      a.transport.hint(hintTo(b))
      a.transport.hint(hintTo(b, false))
      b.transport.hint(hintTo(a, round > 1))
      await eventually('linked', () => a.linkTo(b) !== undefined && b.linkTo(a) !== undefined)
      await eventually(
        'dials ended',
        () => a.transport.pendingDials + b.transport.pendingDials === 0,
      )
      for (let i = 0; i < 20; i++) {
        await eventually('sent', () => a.transport.send(b.identity, [founding(`a${i}`)]))
        await eventually('sent', () => b.transport.send(a.identity, [founding(`b${i}`)]))
        await eventually('answered', () => a.frames.length > i / 2 && b.frames.length > i / 2)
      }
      assert.is(a.losses + b.losses, 0)
      assert.is(a.transport.links.length, 1)
      assert.is(b.transport.links.length, 1)
      const ups = (peer: TestPeer) => peer.count('up') - peer.count('down')
      assert.equal([ups(a), ups(b)], [1, 1])
    })
  }

  contracted('an own address is dialled once and never again', async () => {
    const a = (await lab.peer({ limits: { redialMsMin: 1, redialMsMax: 2, refusedMs: 1 } })).start()
    a.transport.hint(hintTo(a, false))
    await eventually('dialled', () => a.transport.pendingDials === 0)
    const b = (await lab.peer()).start()
    a.transport.hint(hintTo(b))
    await eventually('linked', () => a.linkTo(b))
    a.transport.hint(hintTo(a, false))
    a.transport.hint({ ...hintTo(a), nodeKey: 'f'.repeat(64) })
    assert.is(a.transport.pendingDials, 0)
    await settled(a, b, 'x')
    assert.equal(
      a.told.map(({ type }) => type),
      ['up'],
    )
  })

  contracted('another node than the one expected is refused', async () => {
    const a = (await lab.peer()).start()
    const b = (await lab.peer()).start()
    const expected = Buffer.from(newPair().publicKey).toString('hex')
    a.transport.hint({ nodeKey: expected, url: b.url, source: 'stale' })
    await eventually('refused', () => a.refusals('wrong-key') === 1)
    assert.is(a.transport.pendingDials, 0)
    assert.is(a.linkTo(b), undefined)
    a.transport.hint(hintTo(b))
    await eventually('the right hint is not held up by the stale one', () => a.linkTo(b))
  })

  contracted('another topic is refused by both sides', async () => {
    const a = (await lab.peer()).start()
    const b = (await lab.peer({ capability: new Uint8Array(32) })).start()
    a.transport.hint(hintTo(b))
    await eventually('refused', () => a.refusals('wrong-topic') + b.refusals('wrong-topic') === 2)
    assert.is(a.count('up') + b.count('up'), 0)
  })

  contracted('a second process with the key of a live one is refused', async () => {
    const keyPair = newPair()
    const storageId = '1'.repeat(32)
    const [a, original] = await linked({}, { keyPair, storageId })
    const clone = (await lab.peer({ keyPair, storageId, bootCounter: 2 })).start()
    clone.transport.hint(hintTo(a))
    await eventually('refused', () => a.refusals('clone') === 1)
    await eventually('the clone is told', () => clone.refusals('clone') === 1)
    await settled(a, original, 'still here')
    assert.is(a.losses, 0)
    assert.is(a.linkTo(original)?.hello.bootId, original.options.bootId)
    assert.is(a.count('up'), 1)
  })

  contracted('a restarted process takes the place of the one that ended', async () => {
    const identity = { keyPair: newPair(), storageId: '2'.repeat(32) }
    const [a, before] = await linked({}, identity)
    await before.close()
    const after = (await lab.peer({ ...identity, bootCounter: 2 })).start()
    after.transport.hint(hintTo(a))
    await eventually('linked', () => a.linkTo(after)?.hello.bootId === after.options.bootId)
    assert.is(a.losses, 1)
    await settled(a, after, 'welcome back')
    assert.is(a.refusals('clone'), 0)
  })

  contracted('a data directory whose boot counter does not rise is refused', async () => {
    const identity = { keyPair: newPair(), storageId: '3'.repeat(32), bootCounter: 5 }
    const [a, before] = await linked({}, identity)
    await before.close()
    await eventually('gone', () => a.losses === 1)
    const restored = (await lab.peer({ ...identity, bootCounter: 5 })).start()
    restored.transport.hint(hintTo(a))
    await eventually('refused', () => a.refusals('clone') === 1 && restored.refusals('clone') === 1)
    assert.is(a.linkTo(restored), undefined)
  })

  contracted('hints that are no addresses are ignored', async () => {
    const a = (await lab.peer()).start()
    for (const url of [
      '',
      'ws://',
      'ws://[',
      'ws:/x',
      'http://127.0.0.1:1',
      'ws://127.0.0.1:99999',
      'ws://127.0.0.1:0',
      'ws://user:secret@127.0.0.1:1',
      'ws://127.0.0.1:1/?q',
      'ws://127.0.0.1:1/#f',
      `ws://${'x'.repeat(10_000)}`,
      'javascript:1',
      'ws://\0',
    ]) {
      a.transport.hint({ nodeKey: null, url, source: 'hostile' })
      a.transport.keep([{ nodeKey: '0'.repeat(64), urls: [url] }])
    }
    assert.is(a.transport.pendingDials, 0)
  })

  contracted('more hints than fit are bounded and do not keep a member away', async () => {
    const limits = { hintsMax: 20, dialsMax: 2 }
    const a = (await lab.peer({ limits })).start()
    const b = (await lab.peer()).start()
    for (let i = 0; i < 200; i++) {
      a.transport.hint({ nodeKey: null, url: `ws://127.0.0.1:1/${i}`, source: 'hostile' })
    }
    assert.ok(a.transport.pendingDials <= 20)
    a.transport.keep([{ nodeKey: b.nodeKey, urls: [b.url] }])
    await eventually('linked', () => a.linkTo(b))
  })

  contracted('many addresses of members, all of them old, leave room for hints', async () => {
    const a = (await lab.peer({ limits: { hintsMax: 4, dialsMax: 2 } })).start()
    const b = (await lab.peer()).start()
    const urls = Array.from({ length: 8 }, (_, i) => `ws://127.0.0.1:1/${i}`)
    a.transport.keep([{ nodeKey: b.nodeKey, urls }])
    a.transport.hint({ nodeKey: b.nodeKey, url: b.url, source: 'local' })
    await eventually('linked', () => a.linkTo(b))
  })

  contracted('a full queue refuses, and takes again once it has drained', async () => {
    const [a, b] = await linked({ limits: { queueBytesMax: 300_000 } })
    const big = { type: 'founding', body: new Uint8Array(100_000) } as const
    const taken = [1, 2, 3, 4, 5, 6].map(() => a.transport.send(b.identity, [big]))
    assert.ok(taken.includes(true))
    assert.is(taken[5], false)
    const count = taken.filter(Boolean).length
    await eventually('arrived', () => b.frames.length === count)
    await eventually('taken again', () => a.transport.send(b.identity, [big]))
    await settled(a, b, 'fine')
  })

  contracted('a frame larger than any may be is not sent', async () => {
    const [a, b] = await linked()
    const giant = { type: 'founding', body: new Uint8Array(16 * 1024 * 1024) } as const
    assert.is(a.transport.send(b.identity, [giant]), false)
    await settled(a, b, 'fine')
  })

  contracted('closing is final, idempotent, and tells the peer', async () => {
    const [a, b] = await linked()
    a.transport.send(b.identity, [founding('last words')])
    const closing = a.transport.close()
    assert.is(a.transport.close(), closing)
    await closing
    await eventually('b lost it', () => b.losses === 1)
    assert.equal(
      b.frames.map(({ frame }) => text(frame)),
      ['last words'],
    )
    assert.is(a.losses, 1)
    assert.is(a.told.find((told) => told.type === 'down')?.reason, 'closed-by-us')
    assert.is(a.transport.links.length, 0)
    assert.is(a.transport.send(b.identity, [founding('x')]), false)
    a.transport.hint(hintTo(b))
    a.transport.keep([{ nodeKey: b.nodeKey, urls: [b.url] }])
    a.start()
    assert.is(a.transport.pendingDials, 0)
  })

  contracted('closing before the start, and in the middle of a dial', async () => {
    const a = await lab.peer()
    await a.transport.close()
    const b = (await lab.peer()).start()
    const c = (await lab.peer()).start()
    b.transport.hint(hintTo(c))
    await eventually('pending', () => b.transport.pendingDials === 1)
    await b.transport.close()
    assert.is(b.transport.links.length, 0)
  })

  contracted.run()
}

contract('WebSockets', () => new SocketLab())
contract('memory', () => new MemoryLab())
