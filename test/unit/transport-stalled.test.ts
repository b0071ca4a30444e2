/** Peers that stop reading, freeze, or come back while their old self still hangs: bounded queues, and the living one wins. */
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { PeerFrame } from '../../node/transport/transport.ts'
import {
  eventually,
  founding,
  newPair,
  type PeerOptions,
  SocketLab,
  type TestPeer,
  text,
} from '../support/transport-lab.ts'

const stalled = suite('stalled peers')
let lab: SocketLab
stalled.before.each(() => {
  lab = new SocketLab()
})
stalled.after.each(() => lab.close())

async function victim(options: PeerOptions = {}) {
  return (await lab.peer(options)).start()
}

/** Whatever happened before: a newcomer links at once, and frames go both ways. */
async function stillGood(peer: TestPeer): Promise<void> {
  const friend = (await lab.peer()).start()
  friend.transport.hint({ nodeKey: peer.nodeKey, url: peer.url, source: 'test' })
  await eventually('a good link', () => friend.linkTo(peer) && peer.linkTo(friend))
  assert.is(peer.transport.send(friend.identity, [founding('to')]), true)
  assert.is(friend.transport.send(peer.identity, [founding('back')]), true)
  await eventually('both ways', () => {
    const has = (at: TestPeer, word: string) => at.frames.some(({ frame }) => text(frame) === word)
    return has(friend, 'to') && has(peer, 'back')
  })
  await friend.close()
}

stalled('a peer that no longer reads or answers is cut off and costs a bounded queue', async () => {
  const queueBytesMax = 1024 * 1024
  const limits = { pingMs: 200, linkTimeoutMs: 1000, queueBytesMax }
  const patient = { pingMs: 60_000 }
  const [a, b] = [await victim({ limits }), await lab.peer({ limits: patient })]
  b.start()
  a.transport.hint({ nodeKey: b.nodeKey, url: b.url, source: 'test' })
  await eventually('linked', () => a.linkTo(b) && b.linkTo(a))
  for (const socket of b.sockets) socket.pause()
  const link = a.linkTo(b) as unknown as { queuedBytes: number }
  const body = new Uint8Array(64 * 1024)
  const frames: PeerFrame[] = [{ type: 'founding', body }]
  let taken = 0
  await eventually('refused', () => {
    while (a.transport.send(b.identity, frames)) taken++
    assert.ok(link.queuedBytes <= queueBytesMax)
    return taken > 0 && link.queuedBytes > queueBytesMax / 2
  })
  assert.is(a.transport.send(b.identity, frames), false)
  await eventually('cut off', () => a.losses === 1)
  assert.is(a.told.find((told) => told.type === 'down')?.reason, 'echo-timeout')
  await stillGood(a)
})

stalled('many small frames do not make the queue look empty', async () => {
  const limits = { pingMs: 60_000, queueBytesMax: 256 * 1024 }
  const [a, b] = [await victim({ limits }), await lab.peer()]
  b.start()
  a.transport.hint({ nodeKey: b.nodeKey, url: b.url, source: 'test' })
  await eventually('linked', () => a.linkTo(b) && b.linkTo(a))
  const link = a.linkTo(b) as unknown as { queuedBytes: number }
  // What Noise adds to each of these must neither hide nor invent waiting bytes.
  for (let i = 0; i < 5000; i++) {
    while (!a.transport.send(b.identity, [founding('x')])) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await eventually('arrived', () => b.frames.length === 5000)
  await eventually('drained', () => link.queuedBytes === 0)
  for (const socket of b.sockets) socket.pause()
  const frames = [{ type: 'founding', body: new Uint8Array(60 * 1024) }] as const
  let bytes = 0
  await eventually('full', () => {
    while (a.transport.send(b.identity, frames)) bytes += 60 * 1024
    assert.ok(bytes < 64 * 1024 * 1024, 'the queue has an end')
    return link.queuedBytes > 128 * 1024
  })
})

stalled('a process that was frozen is replaced by its successor', async () => {
  const identity = { keyPair: newPair(), storageId: '8'.repeat(32) }
  const a = await victim({ limits: { pingMs: 60_000 } })
  const frozen = await lab.peer(identity)
  frozen.start()
  a.transport.hint({ nodeKey: frozen.nodeKey, url: frozen.url, source: 'test' })
  await eventually('linked', () => a.linkTo(frozen) && frozen.linkTo(a))
  for (const socket of frozen.sockets) socket.pause()
  const successor = await victim({ ...identity, bootCounter: 2 })
  successor.transport.hint({ nodeKey: a.nodeKey, url: a.url, source: 'test' })
  const { bootId } = successor.options
  await eventually('replaced', () => a.linkTo(successor)?.hello.bootId === bootId)
  assert.is(a.refusals('clone'), 0)
  assert.is(a.told.find((told) => told.type === 'down')?.reason, 'replaced')
})

stalled('a conflict whose old link ends in the middle is settled at once', async () => {
  const identity = { keyPair: newPair(), storageId: '9'.repeat(32) }
  const a = await victim({ limits: { pingMs: 60_000, redialMsMin: 60_000 } })
  const frozen = await lab.peer({ ...identity, limits: { redialMsMin: 60_000 } })
  frozen.start()
  a.transport.hint({ nodeKey: frozen.nodeKey, url: frozen.url, source: 'test' })
  await eventually('linked', () => a.linkTo(frozen) && frozen.linkTo(a))
  for (const socket of frozen.sockets) socket.pause()
  const successor = await victim({ ...identity, bootCounter: 2 })
  successor.transport.hint({ nodeKey: a.nodeKey, url: a.url, source: 'test' })
  await eventually('greeted', () => successor.linkTo(a))
  for (const socket of frozen.sockets) socket.destroy()
  const { bootId } = successor.options
  await eventually('admitted', () => a.linkTo(successor)?.hello.bootId === bootId)
  assert.not.equal(a.told.find((told) => told.type === 'down')?.reason, 'replaced')
})

stalled(
  'a process that stood still reads what came meanwhile before it judges its links',
  async () => {
    const limits = { pingMs: 100, linkTimeoutMs: 400 }
    const a = await victim({ limits })
    const b = await lab.peer({ limits: { pingMs: 60_000 } })
    b.start()
    a.transport.hint({ nodeKey: b.nodeKey, url: b.url, source: 'test' })
    await eventually('linked', () => a.linkTo(b) && b.linkTo(a))
    for (let stall = 0; stall < 3; stall++) {
      let done = false
      for (const socket of b.sockets) {
        // It has just asked, and has heard nothing since: now the whole process stands still, and then its timers come first.
        socket.once('data', () => {
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
          done = true
        })
      }
      await eventually('the stall', () => done)
      const before = a.frames.length
      await eventually('a frame', () => b.transport.send(a.identity, [founding('after')]))
      await eventually('a frame after the stall', () => a.frames.length > before)
    }
    assert.equal([a.losses, b.losses], [0, 0])
  },
)

stalled('addresses that hang do not keep a member away', async () => {
  const limits = { dialsMax: 1, handshakeMs: 60_000 }
  const [a, b] = [await victim({ limits }), await victim()]
  const silent = createServer(() => {})
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const dialled: Socket[] = []
  silent.on('connection', (socket) => dialled.push(socket))
  const { port } = silent.address() as AddressInfo
  a.transport.hint({ nodeKey: null, url: `ws://127.0.0.1:${port}`, source: 'hostile' })
  await eventually('the dial that hangs', () => dialled.length > 0)
  a.transport.keep([{ nodeKey: b.nodeKey, urls: [b.url] }])
  await eventually('linked', () => a.linkTo(b))
  for (const socket of dialled) socket.destroy()
  silent.close()
})

stalled.run()
