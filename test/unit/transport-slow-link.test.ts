/** A link that is slow is not dead: one large frame may take longer than the time after which a silent link is cut. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, SocketLab } from '../support/transport-lab.ts'

const FRAME_BYTES = 512 * 1024
/** The frame takes over a second, with links cut after 400 ms of silence. */
const BYTES_PER_S = 400_000
const LIMITS = { linkTimeoutMs: 400, pingMs: 100 }

const test = suite('a slow link')
const lab = new SocketLab()
test.after(() => lab.close())

/** Carries so many bytes a second towards `port`, and everything at once the other way. */
async function slowProxy(port: number): Promise<{ url: string; close: () => void }> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        near.destroy()
        far.destroy()
      })
    }
    far.pipe(near)
    near.on('readable', () => {})
    const timer = setInterval(() => {
      const chunk = near.read(Math.min(BYTES_PER_S / 50, near.readableLength)) as Buffer | null
      if (chunk !== null) far.write(chunk)
    }, 20)
    near.on('close', () => clearInterval(timer))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

test('is kept while a large frame crawls through it', async () => {
  const a = (await lab.peer({ limits: LIMITS })).start()
  const b = (await lab.peer({ limits: LIMITS })).start()
  const proxy = await slowProxy(Number(new URL(b.url).port))
  try {
    a.transport.hint({ nodeKey: b.nodeKey, url: proxy.url, source: 'seeds' })
    await eventually('the link is up', () => a.linkTo(b) && b.linkTo(a))
    const startMs = Date.now()
    a.transport.send(b.identity, [{ type: 'founding', body: new Uint8Array(FRAME_BYTES) }])
    await eventually('the frame is there', () => b.frames.length > 0)
    assert.ok(Date.now() - startMs > 2 * LIMITS.linkTimeoutMs, 'it was slow enough to matter')
    assert.is(a.count('down') + b.count('down'), 0, 'the link was never cut')
  } finally {
    proxy.close()
  }
})

test.run()
