/** The network in memory by hand: nothing moves by itself, half-open links, and the same calls twice give the same story. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryNetwork } from '../../node/transport/memory-transport.ts'
import { founding, heartbeat, TestPeer, text } from '../support/transport-lab.ts'

const memory = suite('network in memory')

const SECOND = 1000

function pairOf(byte: number) {
  return { publicKey: new Uint8Array(32).fill(byte), secretKey: new Uint8Array(64) }
}

function peerOf(network: MemoryNetwork, byte: number): TestPeer {
  const fixed = {
    keyPair: pairOf(byte),
    storageId: `${byte}`.repeat(32),
    bootId: '0'.repeat(16),
    clusterId: 'c'.repeat(32),
    random: () => 0.5,
  }
  return new TestPeer(`ws://n${byte}:1`, fixed, (options) => network.createTransport(options))
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

memory.run()
