/** The network in memory by hand: nothing moves by itself, half-open links, and the same calls twice give the same story. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Random } from '../../node/raft/random.ts'
import { MemoryNetwork } from '../../node/transport/memory-transport.ts'
import { founding, heartbeat, type PeerOptions, TestPeer, text } from '../support/transport-lab.ts'

const memory = suite('network in memory')

const SECOND = 1000

function pairOf(byte: number) {
  return { publicKey: new Uint8Array(32).fill(byte), secretKey: new Uint8Array(64) }
}

function peerOf(network: MemoryNetwork, byte: number, more: PeerOptions = {}): TestPeer {
  const fixed = {
    keyPair: pairOf(byte),
    storageId: `${byte}`.repeat(32),
    bootId: '0'.repeat(16),
    clusterId: 'c'.repeat(32),
    random: () => 0.5,
    ...more,
  }
  const host = `ws://n${byte}-${fixed.bootId}:1`
  return new TestPeer(host, fixed, (options) => network.createTransport(options))
}

function trio(): { network: MemoryNetwork; peers: [TestPeer, TestPeer, TestPeer] } {
  const network = new MemoryNetwork()
  const peers: [TestPeer, TestPeer, TestPeer] = [
    peerOf(network, 1),
    peerOf(network, 2),
    peerOf(network, 3),
  ]
  for (const peer of peers) {
    peer.start()
    const others = peers.filter((other) => other !== peer)
    peer.transport.keep(others.map(({ nodeKey, url }) => ({ nodeKey, urls: [url] })))
  }
  return { network, peers }
}

memory('nothing moves before it is delivered', () => {
  const { network, peers } = trio()
  assert.is(network.deliver(), 0)
  assert.equal(
    peers.map(({ transport }) => transport.links.length),
    [0, 0, 0],
  )
  network.advance(SECOND)
  assert.equal(
    peers.map(({ transport }) => transport.links.length),
    [2, 2, 2],
  )
  const [a, b] = peers
  a.transport.send(b.identity, [founding('x'), heartbeat(1)])
  assert.is(b.frames.length, 0)
  assert.ok(network.deliver(1) === 1)
  network.deliver()
  assert.equal(
    b.frames.map(({ frame }) => text(frame)),
    ['(raft)', 'x'],
  )
})

memory('a cut leaves a link half open until it no longer echoes; healed, it comes back', () => {
  const { network, peers } = trio()
  const [a, b, c] = peers
  network.advance(SECOND)
  network.cut(a.nodeKey, b.nodeKey)
  assert.is(a.transport.send(b.identity, [founding('lost')]), true, 'nobody knows yet')
  network.advance(1.5 * SECOND)
  assert.is(a.losses, 0)
  network.advance(2 * SECOND)
  assert.equal([a.losses, b.losses, c.losses], [1, 1, 0])
  assert.is(a.told.find((told) => told.type === 'down')?.reason, 'echo-timeout')
  network.advance(60 * SECOND)
  assert.is(a.linkTo(b), undefined)
  assert.is(b.frames.length, 0)
  network.heal(a.nodeKey, b.nodeKey)
  network.advance(5 * SECOND)
  assert.ok(a.linkTo(b) && b.linkTo(a))
  assert.equal([a.losses, b.losses, c.losses], [1, 1, 0])
})

memory('the same calls tell the same story', () => {
  function story(): string[] {
    const { network, peers } = trio()
    const [a, b, c] = peers
    const steps: (() => void)[] = [
      () => network.advance(700),
      () => network.cut(a.nodeKey, c.nodeKey),
      () => network.advance(4 * SECOND),
      () => b.transport.send(c.identity, [founding('1'), heartbeat(2)]),
      () => network.heal(a.nodeKey, c.nodeKey),
      () => network.advance(4 * SECOND),
      () => {
        const link = a.linkTo(b)
        if (link !== undefined) a.transport.disconnect(link, 'test')
      },
      () => network.advance(4 * SECOND),
    ]
    for (const step of steps) step()
    return peers.flatMap((peer) => [
      ...peer.told.map((told) => `${told.type} ${'link' in told ? told.link.linkId : told.reason}`),
      ...peer.frames.map(({ link, frame }) => `${link.linkId} ${text(frame)}`),
    ])
  }
  const first = story()
  assert.ok(first.length > 12, first.join())
  assert.equal(story(), first)
})

memory('days pass without a leak of timers or links', () => {
  const { network, peers } = trio()
  network.advance(3600 * SECOND)
  for (const peer of peers) {
    assert.is(peer.count('up'), 2)
    assert.is(peer.count('down'), 0)
  }
})

memory('dials from both sides end in one link in every order, and none looks like a death', () => {
  const stories = new Set<string>()
  for (let seed = 1; seed <= 400; seed++) {
    const random = new Random(seed)
    const network = new MemoryNetwork((count) => random.below(count))
    const [a, b] = [peerOf(network, 1).start(), peerOf(network, 2).start()]
    const toB = { nodeKey: null, url: b.url, source: 'test' }
    a.transport.hint(toB)
    a.transport.hint({ ...toB, nodeKey: b.nodeKey })
    b.transport.hint({ ...toB, nodeKey: a.nodeKey, url: a.url })
    // Two dials of one side to two addresses of the other, too.
    if (seed % 2 === 0) b.transport.hint({ nodeKey: null, url: a.url, source: 'test' })
    network.advance(3 * SECOND)
    assert.is(network.connections, 1, `seed ${seed}`)
    assert.is(a.losses + b.losses, 0, `seed ${seed}`)
    assert.ok(a.linkTo(b) && b.linkTo(a))
    a.transport.send(b.identity, [founding('x')])
    b.transport.send(a.identity, [founding('y')])
    network.deliver()
    assert.equal([a.frames.length, b.frames.length], [1, 1], `seed ${seed}`)
    stories.add([a, b].map(({ told }) => told.map(({ type }) => type).join()).join(' / '))
  }
  assert.ok(stories.size > 1, 'the orders made a difference')
})

memory('a newcomer with the key of a half-open link waits for it no longer than needed', () => {
  const network = new MemoryNetwork()
  const [a, frozen] = [peerOf(network, 1).start(), peerOf(network, 2).start()]
  a.transport.hint({ nodeKey: null, url: frozen.url, source: 'test' })
  network.advance(10)
  network.cut(a.nodeKey, frozen.nodeKey)
  network.heal(a.nodeKey, frozen.nodeKey)
  const successor = peerOf(network, 2, { bootId: '1'.repeat(16), bootCounter: 2 }).start()
  successor.transport.hint({ nodeKey: null, url: a.url, source: 'test' })
  network.advance(10)
  assert.is(a.linkTo(successor)?.hello.bootCounter, 1, 'the old one may still answer')
  const old = a.linkTo(frozen)
  if (old !== undefined) a.transport.disconnect(old, 'it ends in the middle of the question')
  assert.is(a.linkTo(successor)?.hello.bootCounter, 2)
  assert.is(a.refusals('clone'), 0)
})

memory('a new address does not wait for the patience with an old one', () => {
  const network = new MemoryNetwork()
  const limits = { redialMsMin: 60_000, redialMsMax: 60_000 }
  const [a, b] = [peerOf(network, 1, { limits }).start(), peerOf(network, 2).start()]
  a.transport.keep([{ nodeKey: '3'.repeat(64), urls: ['ws://nobody:1'] }])
  network.advance(SECOND)
  a.transport.hint({ nodeKey: null, url: b.url, source: 'test' })
  network.advance(SECOND)
  assert.ok(a.linkTo(b))
})

for (const [reason, difference] of [
  ['wrong-cluster', { clusterId: 'd'.repeat(32) }],
  ['wrong-topic', { capability: new Uint8Array(32) }],
] as const) {
  memory(`a peer refused for ${reason} is dialled rarely and named once`, () => {
    const network = new MemoryNetwork()
    const a = peerOf(network, 1).start()
    const b = peerOf(network, 2, difference).start()
    a.transport.hint({ nodeKey: null, url: b.url, source: 'test' })
    let dials = 0
    for (let i = 0; i < 1000; i++) {
      const before = network.connections
      network.advance(10)
      if (network.connections > before) dials++
    }
    assert.ok(dials >= 2 && dials <= 4, `${dials} dials in 10 s`)
    assert.is(a.refusals(reason), 1)
    assert.is(b.refusals(reason), 1)
  })
}

memory.run()
