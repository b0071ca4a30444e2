/** What a hostile or broken peer costs a node, over real sockets: it is cut off within a limit, and good links are made as before. */
import { randomBytes } from 'node:crypto'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket, WebSocketServer } from 'ws'
import { decodeBatch, encodeBatch, type WireFrame } from '../../node/transport/codec.ts'
import { encodeHello, type LinkRole, proofOf } from '../../node/transport/hello.ts'
import { NoiseChannel } from '../../node/transport/noise-channel.ts'
import type { Hello } from '../../node/transport/transport.ts'
import { MESSAGE_BYTES_MAX, WebSocketDuplex } from '../../node/transport/web-socket-duplex.ts'
import {
  CAPABILITY,
  eventually,
  founding,
  heartbeat,
  newPair,
  type PeerOptions,
  SocketLab,
  type TestPeer,
  text,
} from '../support/transport-lab.ts'

const hostile = suite('hostile peers')
let lab: SocketLab
let toClose: (() => void)[] = []
hostile.before.each(() => {
  lab = new SocketLab()
})
hostile.after.each(async () => {
  for (const close of toClose) close()
  toClose = []
  await lab.close()
})

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

/** A WebSocket to the node's peer path, with nothing said yet. */
async function rawSocket(peer: TestPeer): Promise<{ socket: WebSocket; isClosed: () => boolean }> {
  const socket = new WebSocket(`${peer.url}/v1/peer`, { perMessageDeflate: false })
  let closed = false
  let open = false
  socket.on('error', () => {})
  socket.on('open', () => {
    open = true
  })
  socket.on('close', () => {
    closed = true
  })
  toClose.push(() => socket.terminate())
  await eventually('open', () => open || closed)
  return { socket, isClosed: () => closed }
}

/** Somebody who completes Noise and then says what the test wants. */
class Stranger {
  readonly frames: WireFrame[] = []
  readonly channel: NoiseChannel
  readonly #role: LinkRole
  hash: Uint8Array | null = null
  isClosed = false

  constructor(socket: WebSocket, isInitiator = true, keyPair = newPair()) {
    this.#role = isInitiator ? 'initiator' : 'responder'
    this.channel = new NoiseChannel(new WebSocketDuplex(socket), { isInitiator, keyPair })
    this.channel.trust()
    this.channel.start({
      open: (_nodeKey, hash) => {
        this.hash = hash
      },
      message: (bytes) => void this.frames.push(...decodeBatch(bytes).frames),
      drain: () => {},
      broken: () => {},
      closed: () => {
        this.isClosed = true
      },
    })
    toClose.push(() => this.channel.close())
  }

  static async at(peer: TestPeer): Promise<Stranger> {
    const { socket } = await rawSocket(peer)
    const stranger = new Stranger(socket)
    await eventually('Noise', () => stranger.hash)
    return stranger
  }

  say(...frames: WireFrame[]): void {
    this.channel.write(encodeBatch(null, frames))
  }

  prove(): void {
    const mac = proofOf(CAPABILITY, this.hash as Uint8Array, this.#role)
    this.say({ type: 'proof', mac })
  }

  hello(changes: Partial<Hello> = {}): WireFrame {
    const hello: Hello = {
      nodeKey: '',
      storageId: '5'.repeat(32),
      bootId: '6'.repeat(16),
      bootCounter: 1,
      clusterId: null,
      name: 'stranger',
      featureLevel: 1,
      urls: [],
      ...changes,
    }
    return { type: 'hello', body: encodeHello(hello) }
  }

  closed(): Promise<unknown> {
    return eventually('the stranger is cut off', () => this.isClosed)
  }
}

hostile('garbage instead of Noise', async () => {
  const peer = await victim({ limits: { handshakeMs: 500 } })
  // Each ends another way: a bad key, a length without end, a large length, text, many small messages.
  const endings: (string | Buffer)[][] = [
    [
      Buffer.concat([Buffer.from([32, 0, 0]), randomBytes(32)]),
      Buffer.from([9, 0, 0]),
      'x'.repeat(9),
    ],
    [Buffer.from([255, 255, 255]), randomBytes(100)],
    [Buffer.from([0, 64, 0]), randomBytes(64 * 64)],
    [Buffer.concat([Buffer.from([0, 128, 0]), randomBytes(1000)])],
    ['GET / HTTP/1.1\r\n\r\n'.repeat(2000)],
    Array.from({ length: 30_000 }, () => Buffer.from([0])),
    [Buffer.alloc(40_000)],
  ]
  for (const messages of endings) {
    const { socket, isClosed } = await rawSocket(peer)
    for (const message of messages) if (socket.readyState === 1) socket.send(message)
    await eventually('cut off', isClosed)
  }
  assert.is(peer.count('up'), 0)
  await stillGood(peer)
})

hostile('a length alone, for which Noise would set memory aside', async () => {
  const peer = await victim({ limits: { handshakeMs: 60_000 } })
  const { socket, isClosed } = await rawSocket(peer)
  socket.send(Buffer.from([255, 255, 255]))
  await eventually('cut off', isClosed)
  assert.is(peer.refusals('malformed'), 1)
})

hostile('a WebSocket message larger than any honest one', async () => {
  const peer = await victim()
  const { socket, isClosed } = await rawSocket(peer)
  socket.send(Buffer.alloc(MESSAGE_BYTES_MAX + 1))
  await eventually('cut off', isClosed)
  assert.is(peer.refusals('malformed'), 1)
  await stillGood(peer)
})

hostile('garbage inside Noise', async () => {
  const peer = await victim()
  const { socket, isClosed } = await rawSocket(peer)
  const stranger = new Stranger(socket)
  await eventually('Noise', () => stranger.hash)
  const noise = randomBytes(100)
  socket.send(Buffer.concat([Buffer.from([100, 0, 0]), noise]))
  await eventually('cut off', isClosed)
  await stillGood(peer)
})

hostile('somebody who connects and says nothing', async () => {
  const peer = await victim({ limits: { handshakeMs: 100 } })
  const { isClosed } = await rawSocket(peer)
  const afterNoise = await Stranger.at(peer)
  const afterProof = await Stranger.at(peer)
  afterProof.prove()
  await eventually('cut off', isClosed)
  await Promise.all([afterNoise.closed(), afterProof.closed()])
  assert.ok(peer.refusals('handshake-timeout') > 0)
  await stillGood(peer)
})

hostile('addresses where nobody answers as a node should', async () => {
  const silent = createServer(() => {})
  const web = createHttpServer((_request, response) => response.end('hello'))
  const moved = createHttpServer((_request, response) => {
    response.writeHead(302, { location: 'ws://127.0.0.1:1/' }).end()
  })
  const mute = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await new Promise((resolve) => mute.on('listening', resolve))
  const sockets = new Set<Socket>()
  const peer = await victim({
    limits: { handshakeMs: 100, hintFailuresMax: 3, redialMsMin: 1, redialMsMax: 2, refusedMs: 1 },
  })
  for (const server of [silent, web, moved]) {
    server.on('connection', (socket: Socket) => sockets.add(socket))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    toClose.push(() => server.close())
  }
  toClose.push(() => {
    for (const socket of sockets) socket.destroy()
    for (const client of mute.clients) client.terminate()
    mute.close()
  })
  let connections = 0
  mute.on('connection', () => connections++)
  for (const server of [silent, web, moved, mute]) {
    const { port } = server.address() as AddressInfo
    peer.transport.hint({ nodeKey: null, url: `ws://127.0.0.1:${port}`, source: 'test' })
  }
  assert.is(peer.transport.pendingDials, 4)
  await eventually('all dialled', () => peer.transport.pendingDials === 0)
  await eventually('tried again', () => connections === 3)
  assert.ok(peer.refusals('handshake-timeout') > 0)
  await stillGood(peer)
  assert.is(connections, 3, 'and then forgotten')
})

hostile('another topic, an echoed proof, a proof of another handshake', async () => {
  const peer = await victim()
  const liar = await Stranger.at(peer)
  liar.say({ type: 'proof', mac: randomBytes(32) })
  await liar.closed()
  const parrot = await Stranger.at(peer)
  const proof = await eventually('their proof', () => parrot.frames[0])
  parrot.say(proof)
  await parrot.closed()
  const replayer = await Stranger.at(peer)
  replayer.hash = liar.hash
  replayer.prove()
  await replayer.closed()
  const short = await Stranger.at(peer)
  short.say({ type: 'proof', mac: new Uint8Array() })
  await short.closed()
  for (const one of [liar, parrot, replayer, short]) {
    assert.equal(
      one.frames.map(({ type }) => type),
      ['proof'],
      'no hello for strangers',
    )
  }
  // Strangers cannot be told apart: one line for all of them.
  assert.is(peer.refusals('wrong-topic'), 1)
  assert.is(peer.count('up'), 0)
  await stillGood(peer)
})

hostile('a man in the middle who passes every message on', async () => {
  const [peer, dialler] = [await victim(), await victim()]
  const middle = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await new Promise((resolve) => middle.on('listening', resolve))
  toClose.push(() => middle.close())
  middle.on('connection', async (socket) => {
    const front = new Stranger(socket, false)
    const back = await Stranger.at(peer)
    await eventually('Noise', () => front.hash)
    for (const [from, to] of [
      [front, back],
      [back, front],
    ] as const) {
      const first = await eventually('a proof', () => from.frames[0])
      to.say(first)
    }
  })
  const { port } = middle.address() as AddressInfo
  dialler.transport.hint({ nodeKey: null, url: `ws://127.0.0.1:${port}`, source: 'test' })
  await eventually('both refuse', () => {
    return peer.refusals('wrong-topic') === 1 && dialler.refusals('wrong-topic') === 1
  })
  assert.is(peer.count('up') + dialler.count('up'), 0)
})

hostile('frames before the proof, and before the hello', async () => {
  const peer = await victim({ clusterId: 'a'.repeat(32) })
  for (const frame of [heartbeat(9), founding('x'), { type: 'ping', nonce: 1 } as const]) {
    const early = await Stranger.at(peer)
    early.say(frame)
    await early.closed()
    const eager = await Stranger.at(peer)
    eager.prove()
    eager.say(frame)
    await eager.closed()
    assert.equal(eager.frames.at(-1), { type: 'goodbye', reason: 'malformed' })
  }
  assert.is(peer.frames.length, 0)
  await stillGood(peer)
})

hostile('a megabyte before the proof', async () => {
  const peer = await victim()
  const flood = await Stranger.at(peer)
  flood.say({ type: 'founding', body: new Uint8Array(1024 * 1024) })
  await flood.closed()
  assert.is(peer.refusals('malformed'), 1)
  await stillGood(peer)
})

hostile('hellos that are none', async () => {
  const peer = await victim()
  const bodies = [
    '',
    'null',
    '[]',
    '{}',
    '{"protocol":1',
    '\ud800',
    JSON.stringify({ protocol: 1, name: 'x'.repeat(1000) }),
    `{"a":${'['.repeat(5000)}`,
    'x'.repeat(17_000),
  ].map((json): WireFrame => ({ type: 'hello', body: new Uint8Array(Buffer.from(json)) }))
  const all: Stranger[] = []
  for (const body of bodies) {
    const one = await Stranger.at(peer)
    one.prove()
    one.say(body)
    all.push(one)
  }
  for (const changes of [
    { storageId: 'xyz' },
    { bootId: 'A'.repeat(16) },
    { bootCounter: -1 },
    { bootCounter: 1.5 },
    { clusterId: '' },
    { urls: ['http://x'] },
  ]) {
    const one = await Stranger.at(peer)
    one.prove()
    one.say(one.hello(changes))
    all.push(one)
  }
  await Promise.all(all.map((one) => one.closed()))
  assert.is(peer.count('up'), 0)
  await stillGood(peer)
})

async function member(peer: TestPeer, changes: Partial<Hello> = {}): Promise<Stranger> {
  const one = await Stranger.at(peer)
  one.prove()
  one.say(one.hello(changes))
  await eventually('up', () => peer.count('up') > 0)
  return one
}

hostile('a member that changes who it is', async () => {
  for (const changes of [
    { storageId: '7'.repeat(32) },
    { bootId: '7'.repeat(16) },
    { bootCounter: 2 },
    { clusterId: null },
    { clusterId: 'c'.repeat(32) },
  ]) {
    const peer = await victim()
    const one = await member(peer, { clusterId: 'b'.repeat(32) })
    one.say(one.hello({ clusterId: 'b'.repeat(32), ...changes }))
    await eventually('refused', () => peer.losses === 1)
    assert.is(peer.refusals('malformed'), 1, JSON.stringify(changes))
    assert.is(peer.losses, 1)
    assert.is(peer.count('hello'), 0)
  }
})

hostile('a member that sends garbage, a second proof, giant and countless frames', async () => {
  const attacks: ((one: Stranger) => void)[] = [
    (one) => one.channel.write(randomBytes(200)),
    (one) => one.prove(),
    (one) => one.channel.write(new Uint8Array(15 * 1024 * 1024)),
    (one) => one.say(...Array(20_000).fill({ type: 'ping', nonce: 1 })),
    (one) => one.channel.write(new Uint8Array()),
  ]
  for (const attack of attacks) {
    const peer = await victim()
    const one = await member(peer)
    attack(one)
    await one.closed()
    assert.is(peer.losses, 1)
    assert.is(peer.refusals('malformed') + peer.refusals('version'), 1)
    await stillGood(peer)
  }
})

hostile('a member of another cluster cannot speak, whatever its frames claim', async () => {
  const clusterId = 'a'.repeat(32)
  const peer = await victim({ clusterId })
  const one = await member(peer)
  one.say(heartbeat(1))
  one.channel.write(encodeBatch('b'.repeat(32), [heartbeat(2)]))
  one.say(founding('last'))
  await eventually('heard', () => peer.frames.length > 0)
  assert.equal(
    peer.frames.map(({ frame }) => text(frame)),
    ['last'],
  )
})

hostile('a crowd that proves nothing meets a limit, and is gone after it', async () => {
  const peer = await victim({ limits: { unprovenMax: 3, handshakeMs: 300 } })
  const friend = await victim()
  friend.transport.hint({ nodeKey: peer.nodeKey, url: peer.url, source: 'test' })
  await eventually('a friend is there before', () => friend.linkTo(peer) && peer.linkTo(friend))
  const crowd = await Promise.all(Array.from({ length: 20 }, () => rawSocket(peer)))
  await eventually('17 are turned away', () => {
    return crowd.filter(({ isClosed }) => isClosed()).length >= 17
  })
  await eventually('the rest too', () => crowd.every(({ isClosed }) => isClosed()))
  await stillGood(peer)
  // Ends of every kind must give the place back: more of them than there are places.
  for (let i = 0; i < 4; i++) {
    const cut = await rawSocket(peer)
    cut.socket.terminate()
    const liar = await Stranger.at(peer)
    liar.say({ type: 'proof', mac: randomBytes(32) })
    await liar.closed()
    const proven = await Stranger.at(peer)
    proven.prove()
    proven.say(proven.hello({ bootCounter: i + 2 }))
    proven.channel.close()
    await eventually('gone', () => peer.sockets.size === 1)
  }
  const slow = await Stranger.at(peer)
  const other = await Stranger.at(peer)
  slow.prove()
  slow.say(slow.hello({ name: 'slow' }))
  await eventually('who came and went takes no place', () => {
    return peer.transport.links.some(({ hello }) => hello.name === 'slow')
  })
  slow.channel.close()
  other.channel.close()
  await stillGood(peer)
  await eventually('no socket is left behind', () => peer.sockets.size === 1)
  assert.is(friend.losses, 0)
})

hostile('links of one process beyond any need are closed', async () => {
  const peer = await victim()
  const keyPair = newPair()
  const sockets = await Promise.all(Array.from({ length: 30 }, () => rawSocket(peer)))
  const all = sockets.map(({ socket }) => new Stranger(socket, true, keyPair))
  for (const one of all) {
    await eventually('Noise', () => one.hash)
    one.prove()
    one.say(one.hello())
  }
  await eventually('some are cut off', () => all.filter(({ isClosed }) => isClosed).length >= 14)
  assert.is(all.filter(({ isClosed }) => !isClosed).length, 16)
  assert.is(peer.losses, 0)
  assert.is(peer.count('up'), 1)
  assert.is(peer.transport.links.length, 1)
  // Their frames count as those of one peer, on whichever link they come.
  for (const one of all) if (!one.isClosed) one.say(founding('x'))
  await eventually('all heard', () => peer.frames.length === 16)
  assert.is(new Set(peer.frames.map(({ link }) => link)).size, 1)
  await stillGood(peer)
})

hostile('closing cuts even those who do not answer', async () => {
  const peer = await victim()
  await rawSocket(peer)
  const silent = await Stranger.at(peer)
  const frozen = await member(peer)
  for (const socket of peer.sockets) socket.pause()
  await peer.transport.close()
  await Promise.all([silent.closed(), frozen.closed()])
  await eventually('no socket is left', () => peer.sockets.size === 0)
})

hostile.run()
